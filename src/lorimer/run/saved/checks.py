"""Checks made when an agent is saved or shared: its tools exist and its author may use them, its
model exists, and nothing in it is unsafe for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorimer.core.errors import ConfigError, LorimerError, nearest
from lorimer.models.spec import chain
from lorimer.run.palette import tools_of
from lorimer.run.saved.agent import SavedAgent
from lorimer.tools.base import Tool
from lorimer.tools.builtin import CATALOGUE, builtin_tools
from lorimer.tools.policy.people import Person, check_author, check_share
from lorimer.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from lorimer.models import Models


def check(agent: SavedAgent, author: Person, tools: ToolRegistry, models: Models | None) -> None:
    """Raises ConfigError listing every fault: a tool that does not exist, one that requires a role
    which the author does not have, one that is not safe to share in an agent that others may run,
    one in a phase that the agent does not have, and a model that is neither a tier or alias of
    `models` nor the name of a model.

    tools: the host's; built-in ones are known too. models: None: the model is not checked.
    """
    problems: list[str] = []
    found: list[Tool] = []
    for name in agent.tools:
        tool = tools.get(name)
        if tool is not None:
            found.append(tool)
        elif name in CATALOGUE:
            found += builtin_tools([name])
        else:
            near = nearest(name, [*tools.names, *CATALOGUE])
            problems.append(f"there is no tool named {name!r}{near}")
    try:
        check_author(found, author)
        if agent.visibility != "private":
            check_share(found)
    except ConfigError as error:
        problems.append(error.message)
    own = [*agent.tools, *tools_of(agent.to_runnable())]
    for phase in agent.phases:
        missing = [name for name in phase.tools or () if name not in own]
        problems += [
            f"the phase {phase.name!r} has the tool {name!r}, which the agent does not have"
            f"{nearest(name, own)}"
            for name in missing
        ]
    if models is not None:
        named = [agent.model, *[phase.model for phase in agent.phases]]
        problems += filter(None, [_fault_of(model, models) for model in named if model])
    if problems:
        told = tuple([f"{agent.id}: {problem}" for problem in problems])
        raise ConfigError("; ".join(told), problems=told)


def _fault_of(model: str, models: Models) -> str:
    try:
        for element in chain(model):
            # an unknown bare word would be taken for a vendor's model: a misspelt tier
            if models.expand(element) == [element] and models.parse(element).is_guess(element):
                near = nearest(element, models.tiers.names)
                return f"there is no tier or alias {element!r}{near}"
        models.expand(model)
    except LorimerError as error:
        return f"the model {model!r}: {error.message}"
    return ""
