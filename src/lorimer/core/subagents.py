"""What a sub-agent of a manifest runs as: a manifest of its own, and limits. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.limits import Bounds, Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    Metadata,
    PermissionsConfig,
    StageEntries,
    StageEntry,
    SubAgent,
    ToolBinding,
)

AGENT: Final = "Agent"
"""The tool that delegates to a sub-agent."""
TASKS: Final = "task_registry"
"""The stage that is required for background work."""

_FOR_AGENTS: Final = frozenset(
    {AGENT, "TaskCreate", "TaskGet", "TaskList", "TaskUpdate", "TaskStop", "TaskOutput"}
)
"""Tools that exist if there are sub-agents."""

_NOT_ITS: Final = frozenset({"agent", "evaluate", "hitl", "emit", "memory", "summarize", "persist"})
"""Stages concerned with the answer to the caller, which a sub-agent does not give; nor does the
answer's form apply to it."""


def has_tasks(manifest: EnvironmentManifest) -> bool:
    """Whether its model may start background work."""
    return any(each.inputs is None for each in manifest.agents) and any(
        entry.active and entry.name == TASKS for entry in manifest.stages
    )


def manifest_of(
    home: EnvironmentManifest, agent: SubAgent, host: Collection[str]
) -> tuple[EnvironmentManifest, frozenset[str]]:
    """The manifest of a sub-agent of `home`, and which of the host's tools (`host`) it has. Raises
    ConfigError for invalid limits."""
    if agent.manifest is not None:
        own = agent.manifest
        named = frozenset([*(agent.tools or ()), *(own.tools.given or ())]) & frozenset(host)
        return _with(own, home, agent, own.limits), named
    made = home.model_copy(deep=True)
    wanted = agent.tools
    made.agents = []
    made.tools.given = None
    if wanted is not None:
        described = [each for each in home.tools.ad_hoc if each.name in wanted]
        made.tools.ad_hoc = [each.model_copy(deep=True) for each in described]
        made.tools.external = [name for name in home.tools.external if name in wanted]
        known = {*host, *[each.name for each in described], *made.tools.external, AGENT}
        known |= {each.name for each in home.agents if each.inputs is not None}
        made.tools.built_in = [name for name in wanted if name not in known]
        made.tools.deferred = [name for name in home.tools.deferred if name in wanted]
        made.agents = [each for each in home.agents if _given(each, agent, wanted)]
    made.model.output_schema = None
    made.stages = StageEntries(list(_stages(made, agent.prompt)))
    for entry in made.stages:
        if entry.tool_binding is not None:
            entry.tool_binding = _bound(entry.tool_binding, made, wanted)
    if agent.model:
        made.model.model = agent.model
    if agent.max_tokens is not None:
        made.model.max_tokens = agent.max_tokens
    wanted = home.tools.given if wanted is None else wanted
    named = frozenset(host) if wanted is None else frozenset(host) & frozenset(wanted)
    return _with(made, home, agent, home.limits), named


def _given(other: SubAgent, agent: SubAgent, wanted: Collection[str]) -> bool:
    """Whether a sub-agent with these tools may delegate to another."""
    if other.inputs is not None:
        return other.name in wanted
    return AGENT in wanted and other.name != agent.name


def _bound(
    binding: ToolBinding, made: EnvironmentManifest, wanted: Collection[str] | None
) -> ToolBinding:
    """Its parent's tool binding, restricted to tools that the sub-agent has."""

    def has(name: str) -> bool:
        if name in _FOR_AGENTS:
            return bool(made.agents)
        return wanted is None or name in wanted

    allowed = binding.allowed
    return ToolBinding(
        allowed=None if allowed is None else [name for name in allowed if has(name)],
        blocked=[name for name in binding.blocked if has(name)],
    )


def _stages(made: EnvironmentManifest, prompt: str) -> Iterator[StageEntry]:
    for entry in made.stages:
        if entry.name in _NOT_ITS or (entry.name == TASKS and not made.agents):
            continue
        if entry.name == "system":
            entry.config["prompt"] = prompt
        if entry.name == "parse":
            entry.strategies.pop("parser", None)
            entry.strategy_configs.pop("parser", None)
        yield entry


def _with(
    made: EnvironmentManifest, home: EnvironmentManifest, agent: SubAgent, limits: Limits
) -> EnvironmentManifest:
    return made.model_copy(
        update={
            "metadata": Metadata(name=agent.name, description=agent.description),
            "limits": Limits.from_json({**limits.to_json(), **agent.limits}),
            "permissions": PermissionsConfig(
                deny=_together(home.permissions.deny, made.permissions.deny),
                ask=_together(home.permissions.ask, made.permissions.ask),
            ),
        }
    )


def _together(one: list[str], other: list[str]) -> list[str]:
    return list(dict.fromkeys([*one, *other]))


def faults(manifest: EnvironmentManifest) -> list[str]:
    """Faults of its sub-agents that only show when they are taken together, as `path: reason`."""
    found: list[str] = []
    seen: set[str] = set()
    for at, agent in enumerate(manifest.agents):
        where = f"agents[{at}]"
        if agent.name in seen:
            found.append(f"{where}.name: {agent.name!r} is there twice")
        seen.add(agent.name)
        if agent.manifest is not None:
            given = {"prompt": agent.prompt, "model": agent.model, "max_tokens": agent.max_tokens}
            found += [
                f"{where}.{name}: a sub-agent with a manifest has it in there"
                for name, said in given.items()
                if said
            ]
        try:
            Limits.from_json(agent.limits)
        except ConfigError as error:
            found += [f"{where}.{problem}" for problem in error.problems]
    return found


def place_of(agent: SubAgent, at: int) -> str:
    """Path of a sub-agent in the document."""
    return f"agents[{at}]." + ("manifest." if agent.manifest is not None else "")


def limits_within(wanted: Limits, above: Bounds, now: float) -> Limits:
    """Limits of a child run: never more than its own, and than what is left of the parent's."""
    mine: dict[str, float | None] = asdict(wanted)
    theirs: dict[str, float | None] = asdict(above.limits)
    theirs["timeout_s"] = max(above.left_s(now), 0.001)
    theirs["max_tool_calls"] = above.limits.max_tool_calls - above.tool_calls
    return Limits.from_json({name: _less(value, theirs[name]) for name, value in mine.items()})


def _less(one: float | None, other: float | None) -> float | None:
    """The stricter of two limits; for booleans: both."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
