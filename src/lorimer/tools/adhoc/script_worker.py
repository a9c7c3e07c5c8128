"""Runs the code of one call of a script tool, in a process of its own: `python -I -B`.

stdin: a JSON list of the code and its input. stdout: what the code prints, then what its `execute`
returned, a string as it is, anything else as JSON. The sandbox confines the code, not this file.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import linecache
import os
import sys
import traceback


def main() -> None:
    """Run the code. The exit code is 1 if it raised."""
    code, given = json.load(sys.stdin)
    sys.path.insert(0, os.getcwd())
    names: dict[str, object] = {"__name__": "script"}
    linecache.cache["<script>"] = (len(code), None, code.splitlines(keepends=True), "<script>")
    try:
        exec(compile(code, "<script>", "exec"), names)  # noqa: S102 - in the sandbox, in its own process
        execute = names.get("execute")
        if not callable(execute):
            sys.exit("the script defines no function execute(input)")
        result = execute(given)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        if result is not None:
            sys.stdout.write(result if isinstance(result, str) else json.dumps(result, default=str))
    except Exception as error:  # noqa: BLE001 - told, without our own frames
        told = traceback.TracebackException.from_exception(error)
        told.stack = traceback.StackSummary.from_list(
            [frame for frame in told.stack if frame.filename != __file__]
        )
        sys.exit("".join(told.format()).rstrip())


if __name__ == "__main__":
    main()
