"""The interpreter of REPL, a program of its own: `python -I -B repl_worker.py`.

stdin: for each piece of code a JSON line `[code, mark]`. What the code prints goes to stdout and
stderr as it is; then a line of the mark and `ok` or `error` follows. It imports nothing of ours,
so that it starts fast. What it runs is held by the sandbox, never by this file.
"""

from __future__ import annotations

import ast
import io
import json
import linecache
import os
import sys
import traceback
from types import ModuleType


def main() -> None:
    """Run what comes, one after the other, in one namespace."""
    requests = os.fdopen(os.dup(0), "rb")  # not inherited: what the code starts cannot read it
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in one order with what it starts
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.path.insert(0, os.getcwd())
    own, module = sys.modules["__main__"], ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.modules["_repl_worker"] = own  # or it would be taken apart
    for number, line in enumerate(requests, 1):
        code, mark = json.loads(line)
        fine = run(code, f"<input {number}>", vars(module))
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # the code closed or replaced it
                fine = False
        os.write(1, f"\n{mark} {'ok' if fine else 'error'}\n".encode())


def run(code: str, name: str, names: dict[str, object]) -> bool:
    """Run one piece; the value of an expression at its end is shown, as at a prompt."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), names)  # noqa: S102 - in the sandbox, in its own process
        if isinstance(last, ast.Expr):
            shown = ast.Interactive([last])
            exec(compile(shown, name, "single"), names)  # noqa: S102 - as above
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - also KeyboardInterrupt: it goes on
        own = traceback.TracebackException.from_exception(error)
        own.stack = traceback.StackSummary.from_list(
            [frame for frame in own.stack if frame.filename != __file__]
        )
        sys.stderr.write("".join(own.format()))
        return False
    return True


if __name__ == "__main__":
    main()
