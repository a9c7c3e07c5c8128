"""Ask the person for whom the work is done."""

from __future__ import annotations

from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.core.tool import TextQuestion
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult

TIMEOUT_S: Final = 600.0

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "question": {
            "type": "string",
            "minLength": 1,
            "maxLength": 10_000,
            "description": "One question, with what the person must know to answer it",
        },
        "options": {
            "type": "array",
            "maxItems": 20,
            "items": {"type": "string", "minLength": 1, "maxLength": 1_000},
            "description": "Answers to choose from; the person may give another one",
        },
        "default": {"type": "string", "description": "What counts when nobody answers in time"},
        "timeout_seconds": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 86_400,
            "description": f"How long to wait (default {TIMEOUT_S:g})",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}


class AskUserQuestion(Tool):
    """Asks a person a question, on the terminal or through another process (`lorimer runs answer`).
    If nobody can be asked here, the run is suspended until there is an answer; in the mode
    `dontAsk` the default is used. A recorded answer is not asked for again."""

    name = "AskUserQuestion"
    description = (
        "Ask the person you work for, when their answer decides how to go on and you cannot find "
        "it out yourself. One question at a time; offer options where there are some."
    )
    input_schema = _SCHEMA
    effects = frozenset[str]()

    def question(self, input: ToolInput) -> TextQuestion:
        """The question, from the arguments."""
        return TextQuestion(
            input["question"],
            tuple(input.get("options", ())),
            input.get("default"),
            float(input.get("timeout_seconds", TIMEOUT_S)),
        )

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns the answer; an error result if there is none."""
        if context.answer is None:
            return ToolResult(
                "Nobody answered. Go on as you think best and say what you assumed, or end here.",
                is_error=True,
            )
        return ToolResult(context.answer)
