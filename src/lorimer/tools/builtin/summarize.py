"""Summarize a text or a file with a small model."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel

from lorimer.core.errors import ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.tools.base import ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.meta import MAX_TEXT, TEXT, TIER, MetaTool, cut
from lorimer.tools.encode import text_of

WORDS: Final = 150
MAX_PAGES: Final = 50
"""Most pages of a file that are read."""

_MORE: Final = re.compile(r"\n\[(?:bytes|lines) [^\]\n]{1,80}; go on with\s+offset=(\d+)\]\Z")
_SOURCES: Final = {"file_id": ("read_input", "id", ""), "file_path": ("Read", "file_path", "\n")}
"""The agent's tools that can read a file; the argument that names it, and the separator of two
pages."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "text": TEXT,
        "file_id": {
            "type": "string",
            "minLength": 1,
            "description": "In place of a text: the id of a file that was given with the message",
        },
        "file_path": {
            "type": "string",
            "minLength": 1,
            "description": "In place of a text: a file that Read can read",
        },
        "max_words": {
            "type": "integer",
            "minimum": 10,
            "maximum": 1_000,
            "description": f"How long the summary may be (default {WORDS})",
        },
        "focus": {
            "type": "string",
            "maxLength": 500,
            "description": "What it is to be about (default: what matters)",
        },
        "tier": TIER,
    },
    "additionalProperties": False,
}


class _Summary(BaseModel):
    summary: str


class Summarize(MetaTool):
    """Summarizes a text or a file with a small model: a file given with the run, by its id, or one
    that Read can read. Files are read by the agent's own tools, so if it has none, or they are not
    permitted, there is no summary either. Only the first 200,000 characters are summarized. Uses
    the tier `fast`, unless the host allows others."""

    name = "summarize"
    description = (
        "Summarize a text or a file without reading it yourself: a small model does. Give exactly "
        "one of text, file_id and file_path."
    )
    input_schema = _SCHEMA

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        given = [name for name in ("text", *_SOURCES) if name in input]
        if len(given) != 1:
            return ToolResult(
                "input: give exactly one of text, file_id and file_path.", is_error=True
            )
        refused = self.refusal(input, context)
        if refused is not None:
            return refused
        source = given[0]
        whole = input[source]
        if source != "text":
            read = await _read(source, whole, context)
            if isinstance(read, ToolResult):
                return read
            whole = read
        text, shortened = cut(whole)
        focus = f" It is to be about: {input['focus']}" if input.get("focus") else ""
        words: int = input.get("max_words", WORDS)
        task = f"Summarize the text in at most {words} words, in the language it is in.{focus}"
        found = await self.ask(_Summary, task, text, input, context)
        return ToolResult(
            {"summary": found.summary} | ({"text_was_cut": True} if shortened else {})
        )


async def _read(source: str, name: str, context: ToolContext) -> str | ToolResult:
    """A file, page by page, as far as it is passed to a model; or what went wrong."""
    tool, argument, between = _SOURCES[source]
    if context.call is None:
        raise ToolExecutionError("no other tools can be called here")
    pages: list[str] = []
    size, offset = 0, 0
    for _ in range(MAX_PAGES):
        asked: ToolInput = {argument: name} | ({"offset": offset} if offset else {})
        page = await context.call(tool, asked)
        if page.is_error:
            return page
        text = text_of(page.content)
        more = _MORE.search(text)
        pages.append(text[: more.start()] if more else text)
        size += len(pages[-1])
        if more is None or int(more[1]) <= offset or size > MAX_TEXT:
            break
        offset = int(more[1])
    return between.join(pages)
