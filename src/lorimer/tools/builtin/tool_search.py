"""Find deferred tools, which are not shown until then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.request import ToolSpec
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.shown import SEARCH, loading

MAX_FOUND: Final = 20
_DEFAULT: Final = 5
_SELECT: Final = "select:"
_MAX_LINE: Final = 300
_MAX_ABOUT: Final = 10_000
"""Most characters of a description, or of a schema, that are searched."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1_000,
            "description": "Words that describe what you need, or 'select:NAME,NAME'",
        },
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_FOUND,
            "description": f"How many tools at most (default {_DEFAULT})",
        },
    },
    "required": ["query"],
    "additionalProperties": False,
}


class ToolSearch(Tool):
    """Finds deferred tools by words in their names, descriptions and arguments, or by
    `select:NAME,NAME`. They can be called from the next reply on, also after a resume and in later
    runs of the conversation. Not shown unless a tool is deferred."""

    name = SEARCH
    description = "Find tools that you have but do not see, and load them for your next reply."
    input_schema = _SCHEMA
    effects = frozenset[str]()

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. If nothing is found, an error result names the existing tools."""
        found = search(input["query"], context.deferred)[: input.get("limit", _DEFAULT)]
        if not found:
            names = ", ".join([spec.name for spec in context.deferred]) or "none"
            why = f"No tool fits {input['query']!r}. There are: {names}."
            return ToolResult(why, is_error=True)
        lines = [f"- {spec.name}: {_line(spec.description)}" for spec in found]
        return ToolResult("\n".join([loading([spec.name for spec in found]), *lines]))


def search(query: str, specs: Sequence[ToolSpec]) -> list[ToolSpec]:
    """The matching tools, best first: a word in the name counts most, then in the description, then
    among the arguments."""
    if query.startswith(_SELECT):
        wanted = {name.strip() for name in query.removeprefix(_SELECT).split(",")}
        return [spec for spec in specs if spec.name in wanted]
    words = set(_words(query))
    ranked: list[tuple[int, int]] = []
    for at, spec in enumerate(specs):
        name, about = set(_words(spec.name)), set(_words(spec.description[:_MAX_ABOUT]))
        arguments = set(_words(dumps(spec.input_schema)[:_MAX_ABOUT]))
        score = sum(
            4 * (word in name) + 2 * (word in about) + (word in arguments) for word in words
        )
        if spec.name.lower() in query.lower():
            score += 8
        if score:
            ranked.append((-score, at))
    return [specs[at] for _, at in sorted(ranked)]


def _line(text: str) -> str:
    return " ".join(text[:_MAX_ABOUT].split())[:_MAX_LINE]


def _words(text: str) -> list[str]:
    """The words of a text, in lower case, with camelCase split and a plural's s removed."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [word.rstrip("s") for word in re.findall(r"[a-z0-9]{2,}", apart.lower())]
