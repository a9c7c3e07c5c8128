"""Watch a command in the background."""

from __future__ import annotations

import asyncio
from typing import Final

from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, nearest
from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.background import BackgroundCommand, BackgroundCommands
from lorimer.tools.builtin.programs import (
    ended,
    joined,
    kept_of,
    patience,
    refused_of,
    why_failed,
)
from lorimer.tools.results import spill_place

DEFAULT_S: Final = 5
MAX_S: Final = 600

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "description": "What Bash called the command"},
        "duration_seconds": {
            "type": "number",
            "minimum": 0,
            "maximum": MAX_S,
            "description": f"How long to wait for its end (default {DEFAULT_S}, at most {MAX_S})",
        },
        "stop": {"type": "boolean", "description": "End it now, with all that it started"},
    },
    "required": ["id"],
    "additionalProperties": False,
}


class Monitor(Tool):
    """Shows what a background command wrote since the last look, and whether it is still running.

    It does nothing beyond what the command was permitted: all it can change is to stop it, as the
    end of the run does too. So it counts as reading. A command from before an interruption no
    longer exists: the result says what is known of it, and that its outcome is unknown.
    """

    name = "Monitor"
    description = (
        "Look after a command that Bash runs in the background: waits for its end, at most "
        "duration_seconds, and tells what it wrote since you last looked. With `stop` it is ended."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read"})
    polling = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An unknown id, and a failed command, are error results."""
        run = context.run
        if run is None:
            return ToolResult("there is no run here with commands in the background", is_error=True)
        commands = BackgroundCommands.of(run)
        command = commands.get(input["id"])
        if command is None:
            return await _unknown(input["id"], commands, context, run)
        if input.get("stop", False):
            await command.stop()
        else:
            wait_s = patience(context, input.get("duration_seconds", DEFAULT_S))
            await asyncio.wait([command.task], timeout=wait_s)
        return _told(command, context)


def _told(command: BackgroundCommand, context: ToolContext) -> ToolResult:
    output, total = command.news()
    text = output.decode("utf-8", "replace")
    lines: list[str] = []
    where = command.log.where
    if total > len(output):
        lines.append(kept_of(total, len(output), where))
    done = command.done
    failed = done is not None and (done.timed_out or done.returncode != 0)
    error: ExecutorErrorCode | None = None
    metadata: dict[str, JSON] = {}
    if command.log.isolation is not None:
        metadata["isolation"] = command.log.isolation.to_json()
    if not command.task.done():
        lines.append("[it runs]")
    elif done is None:
        why = f": {command.failure}" if command.failure is not None else ""
        lines.append(f"[stopped{why}]")
    else:
        metadata |= {"exit_code": done.returncode, "timed_out": done.timed_out}
        if failed:
            error = why_failed(done, done.output.decode("utf-8", "replace"), context.sandbox, lines)
        lines += refused_of(done, metadata)
        lines.append(ended(done, command.timeout_s))
    return ToolResult(
        joined(text, *lines),
        is_error=failed or command.failure is not None,
        metadata=metadata,
        error=error,
        spilled=bool(where),
    )


async def _unknown(
    id: str, commands: BackgroundCommands, context: ToolContext, run: RunContext
) -> ToolResult:
    key = BackgroundCommands.lost(id, run)
    if not key:
        found = f"no command in the background is called {id[:100]!r}{nearest(id, commands.ids)}"
        return ToolResult(f"{found.rstrip('.')}. Each ends with its run.", is_error=True)
    where = ""
    files, place = context.files, spill_place(context, key)
    if files is not None and place is not None:
        kept = await context.in_thread(lambda: files.exists(place[0]))
        where = f" What it wrote until then is in {place[1]}." if kept else ""
    code = ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN
    return ToolResult(
        f"ERROR {code.value}: {id} was started before an interruption. Nobody watches it any more, "
        f"and how it ended is not known.{where}",
        is_error=True,
        error=code,
    )
