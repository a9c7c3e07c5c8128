"""From a host's agent to a manifest: its stages, limits and guards. Pure functions.

The stages implement guards and compaction; this only sets their limits.
"""

from __future__ import annotations

import json
import re
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
from lorimer.presets import answer_in_form
from lorimer.run.agent import RunnableAgent
from lorimer.run.palette import Delegate, tools_of
from lorimer.run.phases import Phase
from lorimer.stages.catalogue import CATALOGUE

DEFAULTS: Final = Limits(max_turns=12, timeout_s=60.0, max_cost_usd=5.0, allow_unpriced=True)
"""Limits of an executor that is given none."""
COMPACT_AT: Final = 0.7
"""The share of the model's window at which a conversation is compacted."""
SAME_CALLS: Final = 3
"""Turns with the same calls and results after which a run is stopped."""
MAX_DESCRIPTION: Final = 2000
"""Most characters of the list of agents that a model can delegate to; the rest is cut off."""
ERRORS: Final = 3
"""Turns in which every call failed after which a run is stopped."""

_ANSWER: Final = (
    *("input", "context", "system", "guard", "cache", "api", "token", "think", "parse", "yield"),
)
_WORK: Final = (*_ANSWER, "tool", "loop")
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,50}")


def manifest_of(
    agent: RunnableAgent,
    tier: str,
    limits: Limits,
    header: str,
    host: Collection[str],
    reached: Sequence[SubAgent] = (),
    phase_limits: Limits | None = None,
) -> EnvironmentManifest:
    """`tier` is the model of agents that name none, `limits` are the agent's own, `header` is the
    beginning of all prompts of the host, `host` has the names of the host's tools, `reached` are
    all agents that it can delegate to, directly or not, `phase_limits` are those of its phases, if
    not the agent's. An agent without tools has no loop: its run is one model call. One with phases
    calls no model itself. Raises ConfigError for a phase with a tool that the agent does not
    have."""
    if agent.phases:
        return _phased(agent, tier, limits, header, host, reached, phase_limits or limits)
    offered = tools_of(agent) if reached else []
    work = agent.tools or offered
    names = _WORK if work else _ANSWER
    entries = sorted([_entry(name) for name in names], key=lambda entry: entry.order)
    stages = StageEntries(entries)
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["context"].config.update(stateless=True, compact_at=COMPACT_AT)
    stages["api"].config["after_release"] = "restart"  # listeners are notified of that
    stages["yield"].strategies["formatter"] = "substantive"
    stages["system"].config["prompt"] = _prompt(header, agent)
    if work:
        stages["loop"].strategies["guards"] = ["identical", "error_streak"]
        stages["loop"].strategy_configs["guards"] = {
            "identical": {"warn_after": SAME_CALLS - 1, "stop_after": SAME_CALLS},
            "error_streak": {"warn_after": ERRORS - 1, "stop_after": ERRORS},
        }
    made = EnvironmentManifest(
        metadata=Metadata(name=agent.name),
        model=_model(agent, tier),
        limits=limits,
        tools=ToolsConfig(
            built_in=[name for name in agent.tools if name not in host],
            given=[*[name for name in agent.tools if name in host], *offered] if offered else None,
        ),
        agents=list(reached),
        stages=stages,
    )
    if agent.form:
        answer_in_form(made, json.loads(agent.form))
    return made


def sub_agent_of(
    delegate: Delegate,
    home: RunnableAgent,
    tier: str,
    limits: Limits,
    header: str,
    host: Collection[str],
) -> SubAgent:
    """A sub-agent of the agent `home`. `limits` are the executor's, the rest is as in
    `manifest_of`. Raises ConfigError if a tool of the host's has the same name."""
    if delegate.tool in host:
        raise ConfigError(
            f"the host has a tool named {delegate.tool!r}, and so has the palette",
            hint="Rename the tool: the prefixes skill__ and agent__ are reserved for delegation.",
        )
    agent = delegate.agent
    most = limits_of(agent, limits)
    if agent.phases or agent.form:
        if tools_of(agent):
            has = "phases" if agent.phases else "an output_schema"
            raise ConfigError(
                f"{delegate.tool!r} has {has} and gives work to others: an agent that is given "
                "work may have one or the other"
            )
        return SubAgent(
            name=delegate.tool,
            description=delegate.description[:MAX_DESCRIPTION],
            manifest=manifest_of(agent, tier, most, header, host),
            tools=[name for name in agent.tools if name in host],
            inputs=json.loads(delegate.inputs),
            identity=agent.own_name,
        )
    tokens = _model(agent, tier).max_tokens
    return SubAgent(
        name=delegate.tool,
        description=delegate.description[:MAX_DESCRIPTION],
        prompt=_prompt(header, agent),
        tools=[*agent.tools, *tools_of(agent)],
        model=agent.model or tier,
        max_tokens=tokens if tokens != _model(home, tier).max_tokens else None,
        inputs=json.loads(delegate.inputs),
        identity=agent.own_name,
        limits={"max_turns": most.max_turns, "timeout_s": most.timeout_s},
    )


def _phased(
    agent: RunnableAgent,
    tier: str,
    limits: Limits,
    header: str,
    host: Collection[str],
    reached: Sequence[SubAgent],
    theirs: Limits,
) -> EnvironmentManifest:
    """Each phase is a sub-agent, which stage 6 runs in place of a model call."""
    workers: list[SubAgent] = []
    phases: list[dict[str, str | bool]] = []
    others = [name for each in reached for name in each.tools or ()]
    for number, phase in enumerate(agent.phases, 1):
        last = number == len(agent.phases)
        worker = _worker(agent if last else replace(agent, output_schema=None), phase)
        whom = reached if tools_of(worker) else ()
        most = replace(theirs, max_turns=worker.max_turns or theirs.max_turns)
        made = manifest_of(worker, tier, most, header, host, whom)
        made.stages["system"].strategies["builder"] = "given"
        # an invalid name is reported by the stage
        name = f"{number}-{phase.name}" if _NAME.fullmatch(phase.name) else str(number)
        named = {*worker.tools, *(others if whom else ())}
        workers.append(
            SubAgent(
                name=name,
                description=f"Phase {number} of {agent.name}."[:MAX_DESCRIPTION],
                manifest=made,
                tools=sorted(named & set(host)),
            )
        )
        said: dict[str, str | bool] = {"prompt": phase.prompt, "fallback": phase.fallback}
        phases.append({"name": phase.name, "agent": name, "optional": phase.optional, **said})
    stages = StageEntries([_entry(name) for name in ("input", "api", "parse", "yield")])
    stages["input"].strategies["normalizer"] = "multimodal"
    stages["api"].implementation = "phases"
    stages["api"].config["phases"] = cast("JsonValue", phases)
    made = EnvironmentManifest(
        metadata=Metadata(name=agent.name),
        model=_model(agent, tier),
        limits=limits,
        agents=workers,
        stages=stages,
    )
    if agent.form:  # the last phase has tried; what replaces its answer may be of another form
        answer_in_form(made, json.loads(agent.form), max_retries=0)
    return made


def _worker(agent: RunnableAgent, phase: Phase) -> RunnableAgent:
    """The agent as it is in one of its phases."""
    known = [*agent.tools, *tools_of(agent)]
    tools = known if phase.tools is None else phase.tools
    for name in tools:
        if name not in known:
            raise ConfigError(
                f"the phase {phase.name!r} of {agent.name!r} has the tool {name!r}, which the "
                f"agent does not have{nearest(name, known)}"
            )
    has = () if phase.bare else tools
    return replace(
        agent,
        name=f"{agent.name}: {phase.name}",
        model=phase.model or agent.model,
        max_turns=max(phase.max_turns, 0),
        tools=tuple([name for name in has if name in agent.tools]),
        skills=tuple([name for name in agent.skills if f"skill__{name}" in has]),
        agents=tuple([name for name in agent.agents if f"agent__{name}" in has]),
        phases=(),
    )


def _prompt(header: str, agent: RunnableAgent) -> str:
    return "\n\n".join([part for part in (header, agent.prompt) if part])


def limits_of(agent: RunnableAgent, limits: Limits) -> Limits:
    """The executor's limits, overridden by the agent's."""
    said: dict[str, float] = {}
    if agent.max_turns > 0:
        said["max_turns"] = agent.max_turns
    if agent.timeout_s > 0:
        said["timeout_s"] = agent.timeout_s
    return replace(limits, **said) if said else limits


def _model(agent: RunnableAgent, tier: str) -> ModelConfig:
    asked = ModelConfig(model=agent.model or tier)
    if agent.max_tokens > 0:
        asked.max_tokens = agent.max_tokens
    return asked


def _entry(name: str) -> StageEntry:
    return StageEntry(order=CATALOGUE[name][0], name=name)
