"""The form of a tool's schema that models are shown, which every provider accepts.

OpenAI and Anthropic reject a whole request because of one tool with alternatives at the top level
of its schema, and OpenAI because of a list without item types. Calls are checked against the full
schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lorimer.core.jsonable import JSON, dumps, fields_of

_REFUSED: Final = ("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "enum", "const")
"""Keywords that are not allowed at the top level."""
_MAX_WORDS: Final = 2_000
_MAX_HOPS: Final = 10


def told_schema(schema: Mapping[str, JSON]) -> tuple[dict[str, JSON], str]:
    """The schema as a model is shown it, and a description in words of what cannot be part of
    it."""
    out = _with_items(schema)
    if "$ref" in out:  # a recursive type: what is next to the reference says nothing
        out = {**_resolved(out, out), **{k: out[k] for k in ("$defs", "definitions") if k in out}}
    taken = {name: out.pop(name) for name in _REFUSED if name in out}
    if not taken:
        return out, ""
    known = out.get("properties")
    properties: dict[str, JSON] = {**known} if isinstance(known, Mapping) else {}
    for branch in _branches(taken, out, 0):
        for name, part in fields_of(branch.get("properties")).items():
            properties.setdefault(name, part)
    out["properties"] = properties
    words = dumps(taken)
    if len(words) > _MAX_WORDS:
        return out, ""
    return out, f"The arguments have to fit this JSON Schema, too: {words}"


def _branches(
    schema: Mapping[str, JSON], root: Mapping[str, JSON], depth: int
) -> Iterator[Mapping[str, JSON]]:
    """The alternatives of a schema, and their alternatives."""
    if depth > _MAX_HOPS:
        return
    for keyword in ("allOf", "anyOf", "oneOf"):
        branches = schema.get(keyword)
        for branch in branches if isinstance(branches, list) else ():
            found = _resolved(branch, root)
            yield found
            yield from _branches(found, root, depth + 1)


def _resolved(schema: JSON, root: Mapping[str, JSON]) -> Mapping[str, JSON]:
    for _ in range(_MAX_HOPS):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found: JSON = root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        schema = found
    return {}


def _with_items(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy in which each list has an item type; one with a type for each position, any of
    them."""
    out: dict[str, JSON] = {}
    for name, value in schema.items():
        if name in ("enum", "const", "default", "examples"):  # values, not schemas
            out[name] = value
        elif name in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            out[name] = {each: _inner(part) for each, part in value.items()}
        else:
            out[name] = _inner(value)
    if out.get("type") == "array" and "items" not in out:
        places = out.get("prefixItems")
        kinds = {dumps(each): each for each in places} if isinstance(places, list) else {}
        choices = list(kinds.values())
        out["items"] = choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    return out


def _inner(value: JSON) -> JSON:
    if isinstance(value, Mapping):
        return _with_items(value)
    return [_inner(each) for each in value] if isinstance(value, list) else value
