"""Begin and end plan mode, in which nothing is changed until a person agrees to a plan.

`tools/policy/modes.py` decides what plan mode forbids, `tools/shown.py` whether it is on.
"""

from __future__ import annotations

from typing import Any, Final

from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.shown import ENTER_PLAN, EXIT_PLAN, shown

_REASON: Final = {"type": "string", "maxLength": 10_000, "description": "Why, in a sentence"}


class EnterPlanMode(Tool):
    """Starts plan mode: tools that may change something are refused, and no longer shown to the
    model, until a person agrees to a plan; also after a resume and in later runs of the
    conversation."""

    name = ENTER_PLAN
    description = (
        "Begin plan mode, before work that is large or hard to undo: you can look, but change "
        f"nothing. Work out a plan, then put it before a person with {EXIT_PLAN}."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {"reason": _REASON},
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    recalls = frozenset({ENTER_PLAN, EXIT_PLAN})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        already = "already " if shown(context.past).planning else ""
        return ToolResult(
            f"Plan mode is {already}on: look, and change nothing. {EXIT_PLAN} with your plan ends "
            "it, when a person agrees."
        )


class ExitPlanMode(Tool):
    """Shows a plan to a person. If they agree, plan mode ends, otherwise it continues. If nobody
    can be asked it is refused; no rule and no mode allows it."""

    name = EXIT_PLAN
    description = (
        "Put your plan before a person, to end plan mode: say what you will change, in which "
        "order, and how you will check it. If they agree, carry it out; if not, plan on."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "plan": {
                "type": "string",
                "minLength": 1,
                "maxLength": 50_000,
                "description": "The whole plan, in Markdown",
            },
            "reason": _REASON,
        },
        "required": ["plan"],
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    approval = "wants to end plan mode and carry out this plan"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Called only after a person has agreed."""
        return ToolResult("The plan was agreed to, and plan mode is off: carry it out.")
