"""From a host's agent to a manifest: which stages, which limits, which guards. Pure.

The stages are the one implementation of guards and compaction; this sets their limits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, cast

from pydantic import JsonValue

from lorimer.core.errors import ConfigError, nearest
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
from lorimer.run.phases import Phase
from lorimer.run.watching import ceiling
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
    delegates: Sequence[Delegate] = (),
    *,
    watched: bool = False,
) -> EnvironmentManifest:
    """`tier` is the model of agents that name none, `header` what all prompts of the host begin
    with, `host` has the names of the host's tools, `delegates` are all that it reaches. It may be
    `watched` by a critic. Without tools it has no loop: its run is one model call. Raises
    ConfigError where a delegate has the name of a tool of the host's."""
    if agent.phases:
        return _phased(agent, tier, limits, header, host, delegates, watched)
    own = limits_of(agent, limits)
    offered = tools_of(agent) if delegates else []
    work = agent.tools or offered
    names = _WORK if work else _ANSWER
    entries = sorted([_entry(name) for name in names], key=lambda entry: entry.order)
    stages = StageEntries(entries)
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["context"].config.update(stateless=True, compact_at=COMPACT_AT)
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
        limits=ceiling(own) if watched else own,
        tools=ToolsConfig(
            built_in=[name for name in agent.tools if name not in host],
            given=[*[name for name in agent.tools if name in host], *offered] if offered else None,
        ),
        agents=[_sub_agent(each, tier, limits, header, host) for each in delegates],
        stages=stages,
    )


def _sub_agent(
    delegate: Delegate, tier: str, limits: Limits, header: str, host: Collection[str]
) -> SubAgent:
    if delegate.tool in host:
        raise ConfigError(
            f"the host has a tool named {delegate.tool!r}, and so has the palette",
            hint="Rename the tool: skill__ and agent__ are for whom work is given to.",
        )
    agent = delegate.agent
    most = limits_of(agent, limits)
    if agent.phases:
        if tools_of(agent):
            raise ConfigError(
                f"{delegate.tool!r} has phases, and gives work to others: who is given work may "
                "have one or the other"
            )
        return SubAgent(
            name=delegate.tool,
            description=delegate.description[:MAX_DESCRIPTION],
            manifest=manifest_of(agent, tier, limits, header, host),
            tools=[name for name in agent.tools if name in host],
            inputs=cast("dict[str, JsonValue]", dict(delegate.inputs)),
            identity=agent.name,
        )
    return SubAgent(
        name=delegate.tool,
        description=delegate.description[:MAX_DESCRIPTION],
        prompt=_prompt(header, agent),
        tools=[*agent.tools, *tools_of(agent)],
        model=agent.model or tier,
        inputs=cast("dict[str, JsonValue]", dict(delegate.inputs)),
        identity=agent.name,
        limits={"max_turns": most.max_turns, "timeout_s": most.timeout_s},
    )


def _phased(
    agent: RunnableAgent,
    tier: str,
    limits: Limits,
    header: str,
    host: Collection[str],
    delegates: Sequence[Delegate],
    watched: bool,
) -> EnvironmentManifest:
    """Each phase is a sub-agent; the manifest itself asks no model."""
    workers: list[SubAgent] = []
    phases: list[JsonValue] = []
    others = [name for each in delegates for name in each.agent.tools]
    for number, phase in enumerate(agent.phases, 1):
        worker = _worker(agent, phase)
        whom = delegates if tools_of(worker) else ()
        made = manifest_of(worker, tier, limits, header, host, whom, watched=watched)
        made.stages["system"].strategies["builder"] = "given"
        named = f"{number}-{phase.name}"[:64]
        name = named if phase.name.isidentifier() and named.isascii() else str(number)
        theirs = {*worker.tools, *(others if whom else ())}
        workers.append(
            SubAgent(
                name=name,
                description=f"Phase {number} of {agent.name}."[:MAX_DESCRIPTION],
                manifest=made,
                tools=sorted(theirs & set(host)),
            )
        )
        phases.append(
            {
                "name": phase.name,
                "agent": name,
                "prompt": phase.prompt,
                "optional": phase.optional,
                "fallback": phase.fallback,
            }
        )
    stages = StageEntries([_entry(name) for name in ("input", "api", "parse", "yield")])
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["api"].implementation = "phases"
    stages["api"].config["phases"] = phases
    own = limits_of(agent, limits)
    return EnvironmentManifest(
        metadata=Metadata(name=agent.name),
        model=ModelConfig(model=agent.model or tier),
        limits=ceiling(own) if watched else own,
        agents=workers,
        stages=stages,
    )


def _worker(agent: RunnableAgent, phase: Phase) -> RunnableAgent:
    """The agent as it is in one of its phases."""
    known = [*agent.tools, *tools_of(agent)]
    tools = known if phase.tools is None else list(phase.tools)
    for name in tools:
        if name not in known:
            raise ConfigError(
                f"the phase {phase.name!r} of {agent.name!r} has the tool {name!r}, which the "
                f"agent does not have{nearest(name, known)}"
            )
    if phase.bare:
        tools = []
    return replace(
        agent,
        name=f"{agent.name}: {phase.name}",
        model=phase.model or agent.model,
        max_turns=phase.max_turns if phase.max_turns > 0 else agent.max_turns,
        tools=tuple([name for name in tools if name in agent.tools]),
        skills=tuple([name for name in agent.skills if f"skill__{name}" in tools]),
        agents=tuple([name for name in agent.agents if f"agent__{name}" in tools]),
        phases=(),
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
