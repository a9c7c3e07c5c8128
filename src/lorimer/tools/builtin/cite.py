"""Cite what was read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.core.messages import TextBlock, ToolResultBlock
from lorimer.core.tool import PastCall
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult

NAME: Final = "cite"
_READERS: Final = frozenset({"WebFetch"})

_ARRIVED: Final = re.compile(r"\[(\S+), status \d+")

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "minLength": 1, "description": "Of a page that you fetched"},
        "title": {"type": "string", "maxLength": 500, "description": "What the page is called"},
        "quote": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2_000,
            "description": "Words of the page, exactly as you read them",
        },
    },
    "required": ["url"],
    "additionalProperties": False,
}


class Cite(Tool):
    """Numbers a source. Refuses a page that no WebFetch of this conversation has read
    (`url_not_in_run_history`), and a quote that is not in what WebFetch returned
    (`quote_not_in_source`). The same page keeps its number."""

    name = NAME
    description = (
        "Cite a page that you have fetched: gives the number to put behind what you took from it. "
        "A quote has to be in what you read."
    )
    input_schema = _SCHEMA
    effects = frozenset[str]()
    recalls = frozenset({NAME}) | _READERS

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        url = _page(input["url"])
        read = [
            text
            for call in context.past
            if call.use.name in _READERS
            for text in [_plain(call.result)]
            if url in (_page(call.use.input.get("url")), _arrived(text))
        ]
        if not read:
            return ToolResult(
                f"url_not_in_run_history: {input['url']!r} was not read in this conversation; "
                "fetch it before you cite it.",
                is_error=True,
            )
        quote: str = input.get("quote", "")
        sought = _squeezed(quote)
        if quote and not any(sought in _squeezed(text) for text in read):
            return ToolResult(
                f"quote_not_in_source: these words are not in what was read of {input['url']!r}.",
                is_error=True,
            )
        cited = _cited(context.past)
        number = cited.index(url) + 1 if url in cited else len(cited) + 1
        title: str = input.get("title", "")
        words = f': "{quote}"' if quote else ""
        return ToolResult(f"[{number}] {f'{title}, ' if title else ''}{url}{words}")


def _cited(calls: Iterable[PastCall]) -> list[str]:
    """The pages that were cited, each once, in order."""
    pages = [_page(call.use.input.get("url")) for call in calls if call.use.name == NAME]
    return list(dict.fromkeys(pages))


def _page(url: object) -> str:
    """A URL without its fragment."""
    return url.partition("#")[0] if isinstance(url, str) else ""


def _arrived(text: str) -> str:
    """The URL at which a fetch ended, from the first line of WebFetch's result."""
    found = _ARRIVED.match(text)
    return _page(found[1]) if found is not None else ""


def _plain(result: ToolResultBlock) -> str:
    content = result.content
    if isinstance(content, str):
        return content
    return " ".join([part.text for part in content if isinstance(part, TextBlock)])


def _squeezed(text: str) -> str:
    """The text with white space normalized."""
    return " ".join(text.split())
