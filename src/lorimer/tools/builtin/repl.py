"""Run Python in a persistent interpreter."""

from __future__ import annotations

from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.interpreter import Interpreter
from lorimer.tools.builtin.programs import (
    ended,
    joined,
    kept_of,
    patience,
    wanted_memory,
)

DEFAULT_S: Final = 30
MAX_S: Final = 600

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "expression": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200_000,
            "description": "Python code; the value of an expression at its end is shown",
        },
        "timeout_seconds": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_S,
            "description": f"Seconds it may take (default {DEFAULT_S}, at most {MAX_S})",
        },
    },
    "required": ["expression"],
    "additionalProperties": False,
}

_NEW: Final = "[a new interpreter: nothing is defined in it yet]"
_ANEW: Final = "[a new interpreter: what was defined before is gone]"
_LOST: Final = "[the interpreter has ended, and what was defined in it is gone]"


class REPL(Tool):
    """Runs Python code in one interpreter per run: later calls see what earlier ones defined.

    The interpreter is a separate program in the host's sandbox, with the packages installed beside
    Lorimer; it starts in the working directory at the first call. On timeout, when a call is
    cancelled, and at the end of the run it is killed with everything it started. All definitions
    are then lost, as after an interruption of the run: each result from a new interpreter says so.
    The result has the first and the last half MiB of the output; longer output also goes to a file,
    up to 64 MiB.
    """

    name = "REPL"
    description = (
        "Run Python code. Variables, functions and imports stay for later calls of this run; "
        "a time-out ends the interpreter and loses them. Shows what is printed and the value of "
        "an expression at the end."
    )
    input_schema = _SCHEMA
    subject = "expression"
    confined = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An exception, a timeout and the end of the interpreter are error
        results."""
        run = context.run
        if run is None or context.working_dir is None:
            return ToolResult("there is no run, or no folder, to start it in", is_error=True)
        timeout_s = patience(context, input.get("timeout_seconds", DEFAULT_S))
        interpreter = run.owned.own(Interpreter, Interpreter)
        try:
            cell = await interpreter.run(input["expression"], timeout_s, context)
        except OSError as error:
            return ToolResult(f"Python could not be started: {error}", is_error=True)
        text = cell.output.decode("utf-8", "replace")
        lines: list[str] = []
        metadata: dict[str, JSON] = {}
        code: ExecutorErrorCode | None = None
        if cell.isolation is not None:
            metadata["isolation"] = cell.isolation.to_json()
        if cell.total > len(cell.output):
            lines.append(kept_of(cell.total, len(cell.output), cell.where))
        if cell.new:
            lines.append(_ANEW if cell.earlier or run.replayed else _NEW)
        if not cell.fine and wanted_memory(cell.done, text):
            code = ExecutorErrorCode.EXEC_TOOL_OUT_OF_MEMORY
            lines.append(f"[{code.value}: it wanted more memory than there is]")
        if cell.timed_out:
            lines.append(f"[stopped after {timeout_s:g} s, its time-out]")
        elif cell.done is not None:
            lines.append(ended(cell.done, timeout_s))
        if cell.timed_out or cell.done is not None:
            lines.append(_LOST)
        return ToolResult(
            joined(text, *lines).removesuffix("\n") or "[no output]",
            is_error=not cell.fine,
            metadata=metadata,
            error=code,
            spilled=bool(cell.where),
        )
