"""From a host's agent to a manifest: which stages, which limits, which guards. Pure.

The stages are the one implementation of guards and compaction; this sets their limits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    Metadata,
    ModelConfig,
    StageEntries,
    StageEntry,
    ToolsConfig,
)
from lorimer.run.agent import RunnableAgent
from lorimer.stages.catalogue import CATALOGUE

DEFAULTS: Final = Limits(max_turns=12, timeout_s=60.0, max_cost_usd=5.0, allow_unpriced=True)
"""Of an executor that is given no limits."""
COMPACT_AT: Final = 0.7
"""The share of the model's window at which a conversation is compacted."""
SAME_CALLS: Final = 3
"""Turns with the same calls and results after which a run is stopped."""
ERRORS: Final = 3
"""Turns in which every call failed after which a run is stopped."""

_ANSWER: Final = (
    *("input", "context", "system", "guard", "cache", "api", "token", "think", "parse", "yield"),
)
_WORK: Final = (*_ANSWER, "tool", "loop")


def manifest_of(
    agent: RunnableAgent, model: str, limits: Limits, header: str, shipped: tuple[str, ...]
) -> EnvironmentManifest:
    """`model` is what its tier stands for, `limits` are the agent's own, `header` is what all
    prompts of the host begin with, `shipped` are those of its tools that are not the host's. An
    agent without tools has no loop: its run is one model call."""
    names = _WORK if agent.tools else _ANSWER
    entries = sorted([_entry(name) for name in names], key=lambda entry: entry.order)
    stages = StageEntries(entries)
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["context"].config.update(stateless=True, compact_at=COMPACT_AT)
    stages["system"].config["prompt"] = "\n\n".join(
        [part for part in (header, agent.prompt) if part]
    )
    if agent.tools:
        stages["loop"].strategies["guards"] = ["identical", "error_streak"]
        stages["loop"].strategy_configs["guards"] = {
            "identical": {"warn_after": SAME_CALLS - 1, "stop_after": SAME_CALLS},
            "error_streak": {"warn_after": ERRORS - 1, "stop_after": ERRORS},
        }
    return EnvironmentManifest(
        metadata=Metadata(name=agent.name),
        model=ModelConfig(model=model),
        limits=limits,
        tools=ToolsConfig(built_in=list(shipped)),
        stages=stages,
    )


def limits_of(agent: RunnableAgent, limits: Limits) -> Limits:
    """The executor's, with what the agent says instead."""
    said: dict[str, float] = {}
    if agent.max_turns > 0:
        said["max_turns"] = agent.max_turns
    if agent.timeout_s > 0:
        said["timeout_s"] = agent.timeout_s
    return replace(limits, **said) if said else limits


def _entry(name: str) -> StageEntry:
    return StageEntry(order=CATALOGUE[name][0], name=name)
