"""Delegation: the port that finds skills and agents by name, and which of them an agent can reach.
How they become a manifest: `lowering.py`; how such runs live: `session/children.py`; which are
refused: `core/ancestry.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final, Protocol

from lorimer.core.arguments import check_texts, each_of, is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.record import record
from lorimer.run.agent import RunnableAgent
from lorimer.run.bounded import bounded

MAX_DELEGATES: Final = 50
"""Skills and agents that one agent can reach, directly and through others."""
MAX_PROMPT_CHARS: Final = 100_000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,57}")


def _no_inputs() -> Mapping[str, JSON]:
    return {"type": "object", "properties": {}, "additionalProperties": False}


@record
class Skill:
    """An agent that is called with arguments, like a function."""

    agent: RunnableAgent
    """The agent. In a `FixedPalette` its name is the skill's."""
    inputs: Mapping[str, JSON] = field(default_factory=_no_inputs)
    """JSON Schema of its arguments, an object. The agent receives them as JSON."""
    description: str = ""
    """When to use it: the basis of the model's choice. "": the agent's."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type."""
        if not is_a(self.agent, RunnableAgent):
            raise wrong("Skill.agent", self.agent, "a RunnableAgent", 'RunnableAgent("forecast")')
        if not is_a(self.inputs, Mapping):
            raise wrong("Skill.inputs", self.inputs, "a JSON Schema", '{"type": "object"}')
        check_texts("Skill", description=self.description)


class Palette(Protocol):
    """Finds what agents may delegate to. Called before each run, for every name that is reached.
    May be called for many runs at once."""

    async def skill(self, name: str) -> Skill | None:
        """None: there is no such skill."""
        ...

    async def agent(self, name: str) -> RunnableAgent | None:
        """None: there is no such agent."""
        ...


class FixedPalette:
    """A fixed list, by the names of the agents."""

    def __init__(self, agents: Iterable[RunnableAgent] = (), skills: Iterable[Skill] = ()) -> None:
        """Raises ConfigError for entries that are neither."""
        agents, skills = tuple(agents), tuple(skills)
        each_of("agents", agents, RunnableAgent, '[RunnableAgent("helper")]')
        each_of("skills", skills, Skill, '[Skill(RunnableAgent("forecast"))]')
        self._agents = {agent.name: agent for agent in agents}
        self._skills = {skill.agent.name: skill for skill in skills}

    async def skill(self, name: str) -> Skill | None:
        """See the port."""
        return self._skills.get(name)

    async def agent(self, name: str) -> RunnableAgent | None:
        """See the port."""
        return self._agents.get(name)


@record
class Delegate:
    """A delegation target, as a tool for the model."""

    tool: str
    """`skill__<name>` or `agent__<name>`."""
    agent: RunnableAgent
    description: str
    inputs: str
    """JSON Schema of an object, as JSON text, so that equal ones compare equal."""


def tools_of(agent: RunnableAgent) -> list[str]:
    """Names of the tools by which it may delegate, without empty names and duplicates."""
    named = [f"skill__{name}" for name in agent.skills if name]
    named += [f"agent__{name}" for name in agent.agents if name]
    return list(dict.fromkeys(named))


async def reachable(
    agent: RunnableAgent, palette: Palette | None, within_s: float
) -> tuple[Delegate, ...]:
    """Everything that it can delegate to, directly or not. Nothing without a palette. Raises
    ConfigError for a name that the palette does not have, or that is not valid for a tool, and if
    the palette fails or takes longer than `within_s` seconds."""
    if palette is None or not tools_of(agent):
        return ()

    async def ask() -> tuple[Delegate, ...] | ConfigError:
        try:
            return await _reached(agent, palette)
        except ConfigError as error:
            return error

    warnings: list[str] = []
    found = await bounded("palette", ask, within_s, warnings)
    if isinstance(found, tuple):
        return found
    if found is not None:
        raise found
    raise ConfigError(f"the agents to which {agent.name!r} delegates are unknown: {warnings[0]}")


async def _reached(agent: RunnableAgent, palette: Palette) -> tuple[Delegate, ...]:
    found: dict[str, Delegate] = {}
    waiting = [agent]
    for each in waiting:  # grows during the loop
        for tool in tools_of(each):
            if tool in found:
                continue
            if len(found) == MAX_DELEGATES:
                raise ConfigError(
                    f"the agent {agent.name!r} reaches more than {MAX_DELEGATES} skills and agents"
                )
            found[tool] = await _delegate(tool, each, palette)
            waiting.append(found[tool].agent)
    return tuple(found.values())


async def _delegate(tool: str, of: RunnableAgent, palette: Palette) -> Delegate:
    kind, _, name = tool.partition("__")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the agent {of.name!r} names the {kind} {name!r}: it has to be 1 to 57 of A-Z a-z 0-9 "
            "_ -"
        )
    if kind == "skill":
        skill = await palette.skill(name)
        if isinstance(skill, Skill):
            about = skill.description or skill.agent.description or f"The skill {name}."
            return Delegate(tool, skill.agent, about, _plain(skill.inputs, name))
        given: object = skill
    else:
        agent = await palette.agent(name)
        if isinstance(agent, RunnableAgent):
            about = agent.description or f"The agent {name}."
            return Delegate(tool, agent, f"Give work to it. {about}", dumps(_PROMPT))
        given = agent
    if given is None:
        raise ConfigError(f"the palette has no {kind} {name!r}, which {of.name!r} names")
    raise ConfigError(f"the palette gave {given!r} for the {kind} {name!r}")


def _plain(inputs: Mapping[str, JSON], name: str) -> str:
    try:
        return dumps(inputs)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the inputs of the skill {name!r} are not a JSON Schema: {error}"
        ) from None


_PROMPT: Final[Mapping[str, JSON]] = {
    "type": "object",
    "properties": {
        "prompt": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PROMPT_CHARS,
            "description": "The whole task, and what to answer with: it knows nothing else",
        }
    },
    "required": ["prompt"],
    "additionalProperties": False,
}
