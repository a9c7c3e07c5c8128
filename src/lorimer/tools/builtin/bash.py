"""Run a shell command."""

from __future__ import annotations

from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.background import BackgroundCommands
from lorimer.tools.builtin.programs import patience, result_of, run_command
from lorimer.tools.overflow import Overflow

DEFAULT_MS: Final = 120_000
MAX_MS: Final = 600_000

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "minLength": 1, "description": "What bash runs"},
        "timeout": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_MS,
            "description": f"Milliseconds it may take (default {DEFAULT_MS}, at most {MAX_MS})",
        },
        "description": {"type": "string", "description": "What it does, in a few words"},
        "run_in_background": {
            "type": "boolean",
            "description": "Return at once and let it go on, at most until this run ends: for "
            "servers and watchers. `timeout` is not looked at",
        },
    },
    "required": ["command"],
    "additionalProperties": False,
}


class Bash(Tool):
    """Runs one command line in a fresh bash, without start-up files and without input; a simple
    command is started without a shell.

    It starts in the working directory with a clean environment. At its end, on timeout, and when
    the run is cancelled, everything that it started is ended too. It runs in the host's sandbox;
    the level in force is in the result's metadata. Its effects are whatever the command does, so it
    declares all of them.

    The result has the first and the last half MiB of the output; longer output also goes to a file,
    up to 64 MiB. In the background (`run_in_background`), a command continues between calls until
    the run ends, which no command survives; there can be eight at once. `Monitor` looks after it,
    and a file has its output. A command that runs out of memory fails with
    `exec.tool.out_of_memory`.
    """

    name = "Bash"
    description = (
        "Run a command with bash. Each call starts afresh in the working directory; nothing can "
        "be typed in, and what `&` leaves behind ends with the call. The result is its output "
        "(stdout and stderr) and its exit code. With run_in_background it goes on until the end "
        "of this run; see Monitor."
    )
    input_schema = _SCHEMA
    subject = "command"
    commands = frozenset({"command"})
    confined = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. Any exit code but 0 is an error result, and so is a timeout."""
        if context.working_dir is None:
            return ToolResult("there is no working directory to run it in", is_error=True)
        command: str = input["command"]
        try:
            if input.get("run_in_background", False):
                return await _in_background(command, context)
            timeout_s = patience(context, input.get("timeout", DEFAULT_MS) / 1000)
            log = Overflow(context, context.idempotency_key)
            done = await run_command(command, context, timeout_s, log)
        except OSError as error:
            return ToolResult(f"bash could not be started: {error}", is_error=True)
        return result_of(done, timeout_s, context.sandbox, await log.finish())


async def _in_background(command: str, context: ToolContext) -> ToolResult:
    run = context.run
    if run is None:
        return ToolResult("there is no run here that it could belong to", is_error=True)
    name = BackgroundCommands.name(context)
    started = await BackgroundCommands.of(run).start(
        name, command, context, run.bounds.limits.timeout_s
    )
    isolation = started.log.isolation
    metadata = {"isolation": isolation.to_json()} if isolation is not None else {}
    return ToolResult(
        f"It runs in the background as {name}. Monitor tells its output and its end, and stops it.",
        metadata=metadata,
    )
