"""Logs to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lorimer.core.request import Usage
from lorimer.run.audit.log import AuditLog, AuditStore
from lorimer.run.audit.port import AuditClose, AuditStart, AuditStep, AuditTool
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.testing import SimulatedWorld

STORES: dict[str, Callable[[Path], AuditStore]] = {
    "memory": lambda folder: MemoryAudit(),
    "sqlite": lambda folder: SQLiteAudit(folder / "kernel.db"),
}
CLOSE = AuditClose("ok", "done", 1, 2.5, Usage(10, 5, reasoning_tokens=3), 700)


def log_of(store: AuditStore, world: SimulatedWorld, key: bytes | None = None) -> AuditLog:
    return AuditLog(store, key=key, world=world, threads=False)


async def whole_run(log: AuditLog, start: AuditStart, end: AuditClose = CLOSE) -> None:
    """A run of one iteration and one tool call: five records."""
    run = await log.start(start)
    run.tool(AuditTool("c1", "search", {"query": "ships"}, "none found"))
    run.step(AuditStep(1, "scripted/x", Usage(10, 5), 700))
    run.log("compaction_fired", {"before": 9, "after": 3})
    await run.close(end)
