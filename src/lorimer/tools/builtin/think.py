"""Room to think in words that stay in the conversation."""

from __future__ import annotations

from typing import Any

from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult


class Think(Tool):
    """Takes a thought and does nothing with it: the call itself is the note."""

    name = "think"
    description = (
        "Think in writing, between calls: weigh what you found against what you were asked. "
        "Nothing is looked up or changed."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "thought": {
                "type": "string",
                "minLength": 1,
                "maxLength": 50_000,
                "description": "In as many words as you need",
            }
        },
        "required": ["thought"],
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        return ToolResult("Noted.")
