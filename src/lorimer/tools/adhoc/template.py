"""A tool that is a text with placeholders for its arguments."""

from __future__ import annotations

from lorimer.core.adhoc import TemplateTool
from lorimer.tools.adhoc.fill import filled, schema_of
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult


class Template(Tool):
    """Only formats text, so it has no effects and needs no permission."""

    effects = frozenset()
    concurrency_safe = True

    def __init__(self, described: TemplateTool) -> None:
        self.name = described.name
        self.description = described.description
        self.input_schema = schema_of(described)
        self._template = described.template

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        return ToolResult(filled(self._template, input))
