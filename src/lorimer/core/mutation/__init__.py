"""Changes of a manifest, as data: each is a function from a manifest to a manifest.

A change of a pipeline is passed to its live runs, which apply it before their next model call and
record it as the fact `mutated`; so it is JSON, and refers to everything by name. Who may change
what, and what was changed: `mutable.py`. When a live run applies it: `pending_changes.py`.
"""

from lorimer.core.mutation.applying import (
    SECTIONS,
    apply,
    apply_json,
    difference,
    plain,
    read,
    restoring,
    sections,
)
from lorimer.core.mutation.change import Change, Declared
from lorimer.core.mutation.kinds import (
    AddToChain,
    AnyChange,
    BindTool,
    RegisterStage,
    RemoveFromChain,
    RemoveStage,
    ReorderChain,
    ReplaceStage,
    RestoreSnapshot,
    SetImplementation,
    SetStageActive,
    SetStageModel,
    SetToolScope,
    SwapStrategy,
    UnbindTool,
    UpdateModel,
    UpdatePipeline,
    UpdateStageConfig,
    UpdateStrategyConfig,
    UpdateTools,
)

__all__ = [
    "AddToChain",
    "AnyChange",
    "BindTool",
    "Change",
    "Declared",
    "RegisterStage",
    "RemoveFromChain",
    "RemoveStage",
    "ReorderChain",
    "ReplaceStage",
    "RestoreSnapshot",
    "SECTIONS",
    "SetImplementation",
    "SetStageActive",
    "SetStageModel",
    "SetToolScope",
    "SwapStrategy",
    "UnbindTool",
    "UpdateModel",
    "UpdatePipeline",
    "UpdateStageConfig",
    "UpdateStrategyConfig",
    "UpdateTools",
    "apply",
    "apply_json",
    "difference",
    "plain",
    "read",
    "restoring",
    "sections",
]
