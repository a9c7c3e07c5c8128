"""Which JSON Schemas a vendor can enforce strictly, and instructions for models that are not held
to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.request import Request

_KEYWORDS: Final = frozenset(
    "$defs $ref additionalProperties anyOf const definitions description enum exclusiveMaximum"
    " exclusiveMinimum format items maxItems maximum minItems minimum multipleOf pattern properties"
    " required title type".split()
)
_CLAUDES: Final = frozenset(
    "additionalProperties anyOf const default description enum format items minItems properties"
    " required title type".split()
)
_FORMATS: Final = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid".split())


def in_words(schema: JSON, *, tools: bool = False) -> str:
    """An instruction to answer in this form; with `tools`, after using them."""
    return ("Use tools first, where you need them. " if tools else "") + (
        "Answer with one JSON object and nothing else: no words round it, no code fence. It has to "
        f"fit this JSON Schema:\n{dumps(schema)}"
    )


def told_in_words(request: Request) -> Request:
    """The request with its output schema described in the system prompt."""
    if request.output is None:
        return request
    words = in_words(request.output.schema, tools=bool(request.tools))
    system = f"{request.system}\n\n{words}" if request.system else words
    return replace(request, system=system, output=None)


def claude_takes(schema: JSON) -> bool:
    """Whether Anthropic accepts it as `output_config.format`: a request with any other schema is
    rejected. Every object forbids additional properties, and there are no bounds. Source: the
    vendor's guide to structured outputs, "JSON Schema limitations". References, some of which it
    supports, do not count here."""
    if not isinstance(schema, Mapping) or not schema.keys() <= _CLAUDES:
        return False
    kind = schema.get("type")
    if "object" in (kind if isinstance(kind, list) else [kind]) and (
        schema.get("additionalProperties") is not False
    ):
        return False
    if schema.get("minItems", 0) not in (0, 1) or schema.get("format", "date") not in _FORMATS:
        return False
    values = schema.get("enum", [])
    if not isinstance(values, list) or any(isinstance(each, list | Mapping) for each in values):
        return False
    return all(map(claude_takes, _inner(schema)))


def closed(schema: JSON) -> bool:
    """Whether OpenAI accepts it as `strict`: a request with any other schema is rejected. Every
    object lists all its properties as required and forbids others, and every schema has a type.
    Source: the vendor's guide to structured outputs, "Supported schemas"."""
    return (
        isinstance(schema, Mapping)
        and schema.get("type") == "object"
        and "anyOf" not in schema
        and _fits(schema)
    )


def _fits(schema: JSON) -> bool:
    if not isinstance(schema, Mapping) or not schema.keys() <= _KEYWORDS:
        return False
    if "$ref" in schema:
        return len(schema) == 1
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" in kinds and not _lists_all(schema):
        return False
    if "array" in kinds and "items" not in schema:
        return False
    if kind is None and "anyOf" not in schema:
        return False
    if "format" in schema and schema["format"] not in _FORMATS:
        return False
    return all(map(_fits, _inner(schema)))


def _inner(schema: Mapping[str, JSON]) -> list[JSON]:
    """The schemas within a schema, and None for parts that should be one."""
    inner = [schema["items"]] if "items" in schema else []
    choices = schema.get("anyOf", [])
    inner += choices if isinstance(choices, list) else [None]
    for name in ("properties", "$defs", "definitions"):
        group = schema.get(name, {})
        inner += group.values() if isinstance(group, Mapping) else [None]
    return inner


def _lists_all(schema: Mapping[str, JSON]) -> bool:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return (
        schema.get("additionalProperties") is False
        and isinstance(properties, Mapping)
        and isinstance(required, list | tuple)
        and {*properties} == {str(name) for name in required}
    )
