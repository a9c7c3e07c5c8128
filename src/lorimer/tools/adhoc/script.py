"""A tool that is a piece of Python code."""

from __future__ import annotations

import json
import sys

from lorimer.core.adhoc import ScriptTool
from lorimer.core.world import ProcessLimits
from lorimer.tools.adhoc import script_worker
from lorimer.tools.adhoc.fill import schema_of
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.programs import MAX_OUTPUT_BYTES, patience, result_of
from lorimer.tools.overflow import Overflow


class Script(Tool):
    """Runs each call in a new process, never in this one, in the working directory and the host's
    sandbox. It has all effects: it may do whatever the sandbox does not prevent."""

    confined = True

    def __init__(self, described: ScriptTool) -> None:
        self.name = described.name
        self.description = described.description
        self.input_schema = schema_of(described)
        self._script = described.script
        self._timeout_s = described.timeout_s

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns what it printed, and what its `execute` returned. An exception is an error
        result."""
        if context.working_dir is None:
            return ToolResult("there is no working directory to run it in", is_error=True)
        timeout_s = patience(context, self._timeout_s)
        log = Overflow(context, context.idempotency_key)
        try:
            done = await context.world.spawn(
                [sys.executable, "-I", "-B", script_worker.__file__],
                cwd=context.working_dir,
                stdin=json.dumps([self._script, input]).encode(),
                limits=ProcessLimits(timeout_s, MAX_OUTPUT_BYTES, context.sandbox),
                sink=log,
            )
        except OSError as error:
            return ToolResult(f"Python could not be started: {error}", is_error=True)
        return result_of(done, timeout_s, context.sandbox, await log.finish())
