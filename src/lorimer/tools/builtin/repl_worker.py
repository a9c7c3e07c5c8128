"""The interpreter of REPL, a separate program: `python -I -B repl_worker.py`.

stdin: for each piece of code a JSON line `[code, mark]`. What the code prints goes to stdout and
stderr unchanged, followed by a line with the mark and `ok` or `error`. It imports nothing of ours,
to start fast. The sandbox confines the code, not this file."""

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
    """Run the pieces of code in order, in one namespace."""
    requests = os.fdopen(os.dup(0), "rb")  # not inherited by programs that the code starts
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in order with the output of its subprocesses
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.path.insert(0, os.getcwd())
    own, module = sys.modules["__main__"], ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.modules["_repl_worker"] = own  # else this module would be garbage-collected
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
    """Run one piece; print the value of an expression at its end, as the interactive prompt
    does."""
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
