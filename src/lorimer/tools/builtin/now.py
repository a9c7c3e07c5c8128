"""Tell the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult


class Now(Tool):
    """Date and time, to the second, by the clock of the run's world: UTC, or a zone's."""

    name = "now"
    description = "The date and time at this moment, with the day of the week."
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "timezone": {
                "type": "string",
                "maxLength": 100,
                "description": "Such as Europe/Berlin (default UTC)",
            }
        },
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. A zone that this machine does not know is an error result."""
        name = input.get("timezone", "UTC")
        try:
            zone = UTC if name == "UTC" else await context.in_thread(lambda: ZoneInfo(name))
        except (ValueError, OSError, KeyError):  # a path, a folder, no such zone
            return ToolResult(
                f"input.timezone: there is no time zone {name!r}; use one such as Europe/Berlin.",
                is_error=True,
            )
        found = datetime.fromtimestamp(int(context.world.time()), zone)
        return ToolResult(f"{found.isoformat()} ({found:%A}, {name})")
