"""Which stages are built in. A module is imported when its stage is active. What else a manifest
may name: `core/catalogue.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.catalogue import Catalogue

CATALOGUE: Final[Mapping[str, tuple[int, str]]] = {
    "input": (1, "lorimer.stages.s01_input:InputStage"),
    "context": (2, "lorimer.stages.s02_context:ContextStage"),
    "system": (3, "lorimer.stages.s03_system:SystemStage"),
    "guard": (4, "lorimer.stages.s04_guard:GuardStage"),
    "cache": (5, "lorimer.stages.s05_cache:CacheStage"),
    "api": (6, "lorimer.stages.s06_api:APIStage"),
    "token": (7, "lorimer.stages.s07_token:TokenStage"),
    "think": (8, "lorimer.stages.s08_think:ThinkStage"),
    "parse": (9, "lorimer.stages.s09_parse:ParseStage"),
    "tool": (10, "lorimer.stages.s10_tool:ToolStage"),
    "tool_review": (11, "lorimer.stages.s11_tool_review:ToolReviewStage"),
    "agent": (12, "lorimer.stages.s12_agent:AgentStage"),
    "task_registry": (13, "lorimer.stages.s13_task_registry:TaskRegistryStage"),
    "evaluate": (14, "lorimer.stages.s14_evaluate:EvaluateStage"),
    "hitl": (15, "lorimer.stages.s15_hitl:HITLStage"),
    "loop": (16, "lorimer.stages.s16_loop:LoopStage"),
    "emit": (17, "lorimer.stages.s17_emit:EmitStage"),
    "memory": (18, "lorimer.stages.s18_memory:MemoryStage"),
    "summarize": (19, "lorimer.stages.s19_summarize:SummarizeStage"),
    "persist": (20, "lorimer.stages.s20_persist:PersistStage"),
    "yield": (21, "lorimer.stages.s21_yield:YieldStage"),
}
"""Name in a manifest → number and `module:Class`."""

IMPLEMENTATIONS: Final[Mapping[tuple[str, str], str]] = {
    ("api", "phases"): "lorimer.stages.s06_phases:PhasesStage",
}
"""Alternative implementations of a stage, which a manifest may choose (`implementation`)."""


def catalogue() -> Catalogue:
    """A new catalogue of all built-in stages, for one pipeline to add to."""
    return Catalogue(CATALOGUE, IMPLEMENTATIONS)
