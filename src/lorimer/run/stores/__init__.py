"""Stores of the kernel: in memory, and in a SQLite file, which all of them may share."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorimer.run.stores.memory_agents import MemoryAgents
    from lorimer.run.stores.memory_audit import MemoryAudit
    from lorimer.run.stores.sqlite_agents import SQLiteAgents
    from lorimer.run.stores.sqlite_audit import SQLiteAudit

__all__ = ["MemoryAgents", "MemoryAudit", "SQLiteAgents", "SQLiteAudit"]

_HOMES = {
    "MemoryAgents": "memory_agents",
    "MemoryAudit": "memory_audit",
    "SQLiteAgents": "sqlite_agents",
    "SQLiteAudit": "sqlite_audit",
}


def __getattr__(name: str) -> object:
    # imported on first use: without stores there is no need for SQLite
    if name not in _HOMES:
        raise AttributeError(f"module 'lorimer.run.stores' has no attribute {name!r}")
    return vars(import_module(f"lorimer.run.stores.{_HOMES[name]}"))[name]


def __dir__() -> list[str]:
    return sorted(__all__)
