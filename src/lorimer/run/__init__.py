"""The run kernel: what a host needs to run agents unattended. See docs/kernel.md."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorimer.core.limits import Limits
    from lorimer.run.agent import RunnableAgent
    from lorimer.run.attachments import Attachments
    from lorimer.run.audit.log import AuditLog
    from lorimer.run.audit.port import Audit, AuditClose, AuditStart, AuditStep, AuditTool, RunAudit
    from lorimer.run.budget import AllBudgets, Budget, CallerBudgets, TotalBudget
    from lorimer.run.config import Config, EnvironmentConfig, Settings
    from lorimer.run.critic.port import (
        Critic,
        Decision,
        Escalator,
        ExtendOnce,
        IdleCritic,
        Seen,
        Supervised,
        Supervision,
    )
    from lorimer.run.delivery import Artifact, Delivery, Discard, Stdout, Target
    from lorimer.run.executor import Executor
    from lorimer.run.fanout import Outcome, fan_out
    from lorimer.run.handle import RunHandle
    from lorimer.run.identity import Identity, Listed
    from lorimer.run.inputs import FolderInputFiles, InMemoryInputFiles, InputFile, InputFiles
    from lorimer.run.invocation import Invocation
    from lorimer.run.lanes.lane import Lane, LaneStats
    from lorimer.run.lanes.named import Lanes
    from lorimer.run.palette import FixedPalette, Palette, Skill
    from lorimer.run.phases import Phase
    from lorimer.run.ports import Ports
    from lorimer.run.result import RunResult
    from lorimer.run.saved.agent import DeclaredInput, SavedAgent
    from lorimer.run.saved.builtins import read_builtins
    from lorimer.run.saved.library import AgentLibrary
    from lorimer.run.session_tools import SessionTools, ToolSession
    from lorimer.run.steps import RunStep

__all__ = [
    "AgentLibrary",
    "AllBudgets",
    "Artifact",
    "Attachments",
    "Audit",
    "AuditClose",
    "AuditLog",
    "AuditStart",
    "AuditStep",
    "AuditTool",
    "Budget",
    "CallerBudgets",
    "Config",
    "Critic",
    "Decision",
    "DeclaredInput",
    "Delivery",
    "Discard",
    "EnvironmentConfig",
    "Escalator",
    "Executor",
    "ExtendOnce",
    "FixedPalette",
    "FolderInputFiles",
    "Identity",
    "IdleCritic",
    "InMemoryInputFiles",
    "InputFile",
    "InputFiles",
    "Invocation",
    "Lane",
    "LaneStats",
    "Lanes",
    "Limits",
    "Listed",
    "Outcome",
    "Palette",
    "Phase",
    "Ports",
    "RunAudit",
    "RunHandle",
    "RunResult",
    "RunStep",
    "RunnableAgent",
    "SavedAgent",
    "Seen",
    "SessionTools",
    "Settings",
    "Skill",
    "Stdout",
    "Supervised",
    "Supervision",
    "Target",
    "ToolSession",
    "TotalBudget",
    "fan_out",
    "read_builtins",
]

_HOMES = {
    "core.limits": ("Limits",),
    "run.agent": ("RunnableAgent",),
    "run.attachments": ("Attachments",),
    "run.audit.port": ("Audit", "AuditClose", "AuditStart", "AuditStep", "AuditTool", "RunAudit"),
    "run.audit.log": ("AuditLog",),
    "run.budget": ("AllBudgets", "Budget", "CallerBudgets", "TotalBudget"),
    "run.config": ("Config", "EnvironmentConfig", "Settings"),
    "run.critic.port": (
        "Critic",
        "Decision",
        "Escalator",
        "ExtendOnce",
        "IdleCritic",
        "Seen",
        "Supervised",
        "Supervision",
    ),
    "run.delivery": ("Artifact", "Delivery", "Discard", "Stdout", "Target"),
    "run.executor": ("Executor",),
    "run.fanout": ("Outcome", "fan_out"),
    "run.handle": ("RunHandle",),
    "run.identity": ("Identity", "Listed"),
    "run.inputs": ("FolderInputFiles", "InMemoryInputFiles", "InputFile", "InputFiles"),
    "run.invocation": ("Invocation",),
    "run.lanes.lane": ("Lane", "LaneStats"),
    "run.lanes.named": ("Lanes",),
    "run.saved.library": ("AgentLibrary",),
    "run.palette": ("FixedPalette", "Palette", "Skill"),
    "run.phases": ("Phase",),
    "run.ports": ("Ports",),
    "run.result": ("RunResult",),
    "run.saved.agent": ("DeclaredInput", "SavedAgent"),
    "run.saved.builtins": ("read_builtins",),
    "run.session_tools": ("SessionTools", "ToolSession"),
    "run.steps": ("RunStep",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    # imported on first use: a host that only wants a lane needs no pipeline
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lorimer.run' has no attribute {name!r}")
    return vars(import_module(f"lorimer.{_HOME_OF[name]}"))[name]


def __dir__() -> list[str]:
    return sorted(__all__)
