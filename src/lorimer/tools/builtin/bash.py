"""Run a shell command."""

from __future__ import annotations

import errno
import re
from typing import Any, Final

from lorimer.core.jsonable import JSON
from lorimer.core.world import Isolation, ProcessLimits, Sandbox
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.shell.words import by_bash, start_of

DEFAULT_MS: Final = 120_000
MAX_MS: Final = 600_000
MAX_OUTPUT_BYTES: Final = 1_048_576
"""Kept in memory: the first and the last half of it."""

_REFUSED: Final = re.compile(
    "permission denied|read-only file system|operation not permitted|network is unreachable"
    "|could not resolve|name resolution|name or service not known|failed to connect"
    "|connection refused",
    re.IGNORECASE,
)
_NOT_STARTED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC})
"""No such program, or a script that says no interpreter: bash tells it, or knows better."""

_SCHEMA: Final[dict[str, Any]] = {
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
    },
    "required": ["command"],
    "additionalProperties": False,
}


class Bash(Tool):
    """One command line in a fresh bash, without start-up files and without input; a simple command
    is started without a shell.

    It starts in the working directory with a clean environment; at the end, at its time-out and
    when the run is cancelled, everything that it started is ended too. It is sandboxed as the
    host says; the level in force is in the result's metadata. Its effects are whatever the command
    does, so all of them are declared.
    """

    name = "Bash"
    description = (
        "Run a command with bash. Each call starts afresh in the working directory; nothing can "
        "be typed in, and what runs in the background ends with the call. The result is its "
        "output (stdout and stderr) and its exit code."
    )
    input_schema = _SCHEMA
    subject = "command"
    commands = frozenset({"command"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. Any exit code but 0 is an error result, and so is a time-out."""
        if context.working_dir is None:
            return ToolResult("there is no working directory to run it in", is_error=True)
        # a little less than the host allows, so that the process is ended by who counts for it
        most = context.timeout_s - min(2.0, context.timeout_s / 10)
        timeout_s = min(input.get("timeout", DEFAULT_MS) / 1000, most)
        limits = ProcessLimits(timeout_s, MAX_OUTPUT_BYTES, context.sandbox)
        argv = start_of(input["command"])
        try:
            try:
                done = await context.world.spawn(argv, cwd=context.working_dir, limits=limits)
            except OSError as error:
                if error.errno not in _NOT_STARTED:
                    raise
                argv = by_bash(argv)
                done = await context.world.spawn(argv, cwd=context.working_dir, limits=limits)
        except OSError as error:
            return ToolResult(f"bash could not be started: {error}", is_error=True)
        output = done.output.decode("utf-8", "replace")
        if done.timed_out:
            end = f"[stopped after {timeout_s:g} s, its time-out]"
        elif done.returncode < 0:
            end = f"[ended by signal {-done.returncode}]"
        else:
            end = f"[exit code {done.returncode}]"
        if done.total_bytes > len(done.output):
            end = f"[{done.total_bytes:,} bytes of output, {len(done.output):,} kept]\n{end}"
        failed = done.timed_out or done.returncode != 0
        metadata: dict[str, JSON] = {"exit_code": done.returncode, "timed_out": done.timed_out}
        if done.isolation is not None:
            metadata["isolation"] = done.isolation.to_json()
            if failed and (why := _limited(output, done.isolation, context.sandbox)):
                end = f"[{why}]\n{end}"
        if done.refused:
            metadata["refused"] = list(done.refused)
            end = f"[network: {'; '.join(done.refused)}]\n{end}"
        gap = "" if not output or output.endswith("\n") else "\n"
        return ToolResult(
            f"{output}{gap}{end}",
            is_error=failed,
            metadata=metadata,
        )


def _limited(output: str, isolation: Isolation, sandbox: Sandbox | None) -> str:
    """What the model has to know where the sandbox looks like the cause of a failure."""
    if isolation.in_force == "L0" or sandbox is None or not _REFUSED.search(output):
        return ""
    hosts = ", ".join(sandbox.hosts)
    network = f"there is a proxy ($HTTPS_PROXY) to {hosts}" if hosts else "there is no network"
    return f"sandbox: only the working directory and $TMPDIR are writable, and {network}"
