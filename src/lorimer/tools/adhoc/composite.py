"""A tool that consists of calls of other tools."""

from __future__ import annotations

from typing import cast

from lorimer.core.adhoc import CompositeTool
from lorimer.core.errors import ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.tools.adhoc.fill import filled, filled_json, schema_of
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.registry import ToolRegistry


class Composite(Tool):
    """Does nothing by itself, so it has no effects. Each of its calls is permitted like any other,
    and recorded, so a resumed run makes none of them twice."""

    effects = frozenset()
    timeout_s = 86_400.0
    """A day: its calls and the run have their own limits, and a person may take long to answer."""

    def __init__(self, described: CompositeTool, registry: ToolRegistry) -> None:
        self.name = described.name
        self.description = described.description
        self.input_schema = schema_of(described)
        self._described = described
        called = [registry.get(step.tool) for step in described.steps]
        self.untrusted = any(tool is not None and tool.untrusted for tool in called)

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns the result of the last step, or what the manifest makes of all results. The first
        step that fails ends the call, with its error."""
        if context.call is None:
            raise ToolExecutionError("there is no run here in which to call other tools")
        values: dict[str, JSON] = dict(input)
        last = ToolResult()
        for number, step in enumerate(self._described.steps, 1):
            given = filled_json(cast("JSON", step.input), values)
            last = await context.call(step.tool, cast("ToolInput", given))
            if last.is_error:
                head = f"step {number} of {len(self._described.steps)}, {step.tool}, failed: "
                return ToolResult(f"{head}{_text(last)}", is_error=True, error=last.error)
            if step.save:
                values[step.save] = _text(last)
        told = self._described.result
        return ToolResult(filled(told, values)) if told else last


def _text(result: ToolResult) -> str:
    return result.content if isinstance(result.content, str) else "[text and images]"
