"""From a host's agent to a manifest: which stages, which limits, which guards. Pure.

The stages are the one implementation of guards and compaction; this sets their limits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    Metadata,
    ModelConfig,
    StageEntries,
    StageEntry,
    SubAgent,
    ToolsConfig,
)
from lorimer.run.agent import RunnableAgent
from lorimer.run.palette import Delegate, tools_of
from lorimer.stages.catalogue import CATALOGUE

DEFAULTS: Final = Limits(max_turns=12, timeout_s=60.0, max_cost_usd=5.0, allow_unpriced=True)
"""Of an executor that is given no limits."""
COMPACT_AT: Final = 0.7
"""The share of the model's window at which a conversation is compacted."""
SAME_CALLS: Final = 3
"""Turns with the same calls and results after which a run is stopped."""
MAX_DESCRIPTION: Final = 2000
"""Characters of what a model is told of whom it may give work to; the rest is cut off."""
ERRORS: Final = 3
"""Turns in which every call failed after which a run is stopped."""

_ANSWER: Final = (
    *("input", "context", "system", "guard", "cache", "api", "token", "think", "parse", "yield"),
)
_WORK: Final = (*_ANSWER, "tool", "loop")


def manifest_of(
    agent: RunnableAgent,
    tier: str,
    limits: Limits,
    header: str,
    host: Collection[str],
    reached: Sequence[SubAgent] = (),
) -> EnvironmentManifest:
    """`tier` is the model of agents that name none, `limits` are the agent's own, `header` is what
    all prompts of the host begin with, `host` has the names of the host's tools, `reached` are all
    to whom it gives work, and they to others. An agent without tools has no loop: its run is one
    model call."""
    offered = tools_of(agent) if reached else []
    work = agent.tools or offered
    names = _WORK if work else _ANSWER
    entries = sorted([_entry(name) for name in names], key=lambda entry: entry.order)
    stages = StageEntries(entries)
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["context"].config.update(stateless=True, compact_at=COMPACT_AT)
    stages["yield"].strategies["formatter"] = "substantive"
    stages["system"].config["prompt"] = _prompt(header, agent)
    if work:
        stages["loop"].strategies["guards"] = ["identical", "error_streak"]
        stages["loop"].strategy_configs["guards"] = {
            "identical": {"warn_after": SAME_CALLS - 1, "stop_after": SAME_CALLS},
            "error_streak": {"warn_after": ERRORS - 1, "stop_after": ERRORS},
        }
    return EnvironmentManifest(
        metadata=Metadata(name=agent.name),
        model=ModelConfig(model=agent.model or tier),
        limits=limits,
        tools=ToolsConfig(
            built_in=[name for name in agent.tools if name not in host],
            given=[*[name for name in agent.tools if name in host], *offered] if offered else None,
        ),
        agents=list(reached),
        stages=stages,
    )


def sub_agent_of(
    delegate: Delegate, tier: str, limits: Limits, header: str, host: Collection[str]
) -> SubAgent:
    """Whom work is given to. `limits` are the executor's, the rest is as in `manifest_of`. Raises
    ConfigError where a tool of the host's has its name."""
    if delegate.tool in host:
        raise ConfigError(
            f"the host has a tool named {delegate.tool!r}, and so has the palette",
            hint="Rename the tool: skill__ and agent__ are for whom work is given to.",
        )
    agent = delegate.agent
    most = limits_of(agent, limits)
    return SubAgent(
        name=delegate.tool,
        description=delegate.description[:MAX_DESCRIPTION],
        prompt=_prompt(header, agent),
        tools=[*agent.tools, *tools_of(agent)],
        model=agent.model or tier,
        inputs=json.loads(delegate.inputs),
        identity=agent.name,
        limits={"max_turns": most.max_turns, "timeout_s": most.timeout_s},
    )


def _prompt(header: str, agent: RunnableAgent) -> str:
    return "\n\n".join([part for part in (header, agent.prompt) if part])


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
