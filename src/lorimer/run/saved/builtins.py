"""Agents that come with a host, written in YAML, JSON or TOML, which can extend one another.

    agents:
      reader: {description: Reads, prompt: You read., tools: [Read], max_turns: 5}
      reviewer: {extends: reader, prompt: You review., tools: [Read, Grep]}

An agent inherits everything from the one it extends, and overrides it with its own fields: objects
are merged key by key, at any depth; everything else, including lists, is replaced; null removes a
field. Names and `extends` are not inherited.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.arguments import is_a, wrong
from lorimer.core.documents import parse
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.run.saved.agent import SavedAgent

_NOT_THEIRS: Final = (
    "name",
    "owner",
    "visibility",
    "shared_with",
    "version",
    "saved_by",
    "saved_at",
)
"""Fields that a built-in agent does not have: everybody can use it."""


def read_builtins(documents: Mapping[str, str]) -> dict[str, SavedAgent]:
    """The agents of all these documents, by name. Pure: the caller reads the files.

    documents: name (its suffix gives the format: `.yaml`, `.json`, `.toml`) to text. An agent may
    extend one of another document. Raises ConfigError naming every fault: an invalid document, a
    duplicate name, an unknown parent, agents that extend each other in a cycle, wrong fields.
    """
    if not is_a(documents, Mapping):
        example = 'read_builtins({"agents.yaml": Path("agents.yaml").read_text()})'
        raise wrong("documents", documents, "a mapping of names to texts", example)
    said: dict[str, Mapping[str, JSON]] = {}
    where: dict[str, str] = {}
    problems: list[str] = []
    for document, text in documents.items():
        for name, fields in _agents_in(document, text).items():
            if name in where:
                problems.append(f"{document}: agents.{name}: {where[name]} has one too")
            elif not isinstance(fields, Mapping):
                problems.append(f"{document}: agents.{name}: must be fields with values")
            else:
                said[name], where[name] = fields, document
    found: dict[str, SavedAgent] = {}
    made: dict[str, dict[str, JSON]] = {}
    for name, fields in said.items():
        at = f"{where[name]}: agents.{name}"
        problems += [
            f"{at}.{field}: a built-in agent has no such field"
            for field in _NOT_THEIRS
            if field in fields
        ]
        try:
            whole = _extended(name, said, made)
            own = {key: value for key, value in whole.items() if key not in _NOT_THEIRS}
            agent = SavedAgent.from_json({**own, "name": name, "visibility": "public"}, at)
            found[name] = agent
        except ConfigError as error:
            problems += error.problems or (f"{at}: {error.message}",)
    if problems:
        told = tuple(dict.fromkeys(problems))
        raise ConfigError("; ".join(told), problems=told)
    return found


def _agents_in(document: str, text: str) -> Mapping[str, JSON]:
    kind = f".{document.rpartition('.')[2]}"
    match parse(text, kind, document):
        case {"agents": Mapping() as agents, **rest} if not rest:
            return agents
        case _:
            raise ConfigError(f"{document}: must contain `agents`, by name, and nothing else")


def _extended(
    name: str, said: Mapping[str, Mapping[str, JSON]], made: dict[str, dict[str, JSON]]
) -> dict[str, JSON]:
    """All fields of an agent, with `extends` resolved. `made`: those of the agents resolved so far,
    and of all that they extend."""
    line: list[str] = []
    below: dict[str, JSON] | None = None
    at = name
    while below is None and at not in made:
        if at in line:
            raise ConfigError(f"extends itself: {' -> '.join([*line[line.index(at) :], at])}")
        line.append(at)
        parent = said[at].get("extends")
        if parent is None:
            below = {}
        elif isinstance(parent, str) and parent in said:
            at = parent
        else:
            known = [each for each in said if each != at]
            raise ConfigError(
                f"{at} extends {parent!r}, which does not exist{nearest(str(parent), known)}"
            )
    below = made[at] if below is None else below
    for each in reversed(line):
        own = {key: value for key, value in said[each].items() if key != "extends"}
        below = made[each] = merged(below, own)
    return below


def merged(below: Mapping[str, JSON], above: Mapping[str, JSON]) -> dict[str, JSON]:
    """`below` overridden by `above`, by the rule of this module. Neither is changed."""
    made = dict(below)
    for key, value in above.items():
        there = made.get(key)
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Mapping):
            made[key] = merged(there if isinstance(there, Mapping) else {}, value)
        else:
            made[key] = value
    return made
