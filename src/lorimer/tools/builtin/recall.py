"""Read earlier messages, including those that the model is no longer shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from lorimer.core.messages import Message
from lorimer.core.outline import shortened, told_text
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult

MAX_FOUND: Final = 20
"""Most messages in a search result; the newest."""
_MAX_CHARS: Final = 20_000
_SNIPPET_CHARS: Final = 400


class Recall(Tool):
    """Reads earlier messages of the conversation: whole, by their numbers, or in short, those that
    contain given words. Compaction removes nothing from the conversation itself, so everything is
    there, except thinking and media."""

    name = "recall"
    description = (
        "Read earlier messages of this conversation again, also those that are not shown to you "
        "any more: by number (from first to last), or by words that occur in them."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "first": {"type": "integer", "minimum": 1, "description": "Number of a message"},
            "last": {"type": "integer", "minimum": 1, "description": "Default: first"},
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Words that must all occur; gives numbers and beginnings",
            },
        },
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        messages = context.run.messages if context.run is not None else ()
        if ("query" in input) == ("first" in input):
            return ToolResult("Give either first (and last), or query.", is_error=True)
        if "query" in input:
            return ToolResult(_found(messages, input["query"]))
        first: int = input["first"]
        last: int = input.get("last", first)
        if first > len(messages) or last < first:
            return ToolResult(
                f"There are the messages 1 to {len(messages)}; last is not below first.",
                is_error=True,
            )
        limit = min(_MAX_CHARS, context.max_result_chars - 200)
        return ToolResult(_read(messages, first, min(last, len(messages)), limit))


def _read(messages: Sequence[Message], first: int, last: int, limit: int) -> str:
    parts: list[str] = []
    for number in range(first, last + 1):
        part = _headed(number, messages[number - 1], limit)
        limit -= len(part)
        if limit < 0 and parts:
            return "\n\n".join([*parts, f"(Go on with first={number}, last={last}.)"])
        parts.append(part)
    return "\n\n".join(parts)


def _found(messages: Sequence[Message], query: str) -> str:
    words = query.casefold().split()
    found = list(_having(messages, words))[-MAX_FOUND:]
    if not found:
        return f"None of the {len(messages)} messages has all these words."
    return "\n\n".join([_headed(number, messages[number - 1], _SNIPPET_CHARS) for number in found])


def _having(messages: Sequence[Message], words: Sequence[str]) -> Iterator[int]:
    for number, message in enumerate(messages, 1):
        text = told_text(message).casefold()
        if all(word in text for word in words):
            yield number


def _headed(number: int, message: Message, chars: int) -> str:
    return f"Message {number}, {message.role}:\n{shortened(told_text(message), max(1, chars))}"
