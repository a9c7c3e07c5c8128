"""What a step does to the outside besides files: programs that it starts, addresses that it speaks
to. Seen by an audit hook of Python's, so what C code does by itself is not seen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Final, cast

_MOST: Final = 20
"""Entries kept of one step."""
_PROGRAMS: Final = frozenset({"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.exec"})
_SPEAKS: Final = frozenset({"socket.connect", "socket.sendto", "socket.bind"})


class Outside:
    """Routes what the hook sees to the step that runs. One for the process."""

    def __init__(self) -> None:
        self.seen: dict[str, None] | None = None
        """In words, in order; None: no step runs."""

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.seen is None or len(self.seen) >= _MOST:
            return
        if event in _PROGRAMS:
            self.seen[f"started {_name(arguments[0])}"] = None
        elif event == "os.system":
            self.seen["started a shell command"] = None
        elif event in ("os.fork", "os.forkpty"):
            self.seen["started a process"] = None
        elif event == "os.kill":
            self.seen["sent a signal"] = None
        elif event in _SPEAKS and isinstance(arguments[1], tuple):
            address = cast("tuple[object, ...]", arguments[1])
            self.seen[f"spoke to {':'.join(map(str, address[:2]))}"] = None
        elif event in ("os.mkdir", "os.rmdir"):
            self.seen[f"{event[3:]} {_name(arguments[0])}"] = None


def _name(program: object) -> str:
    if isinstance(program, str | bytes | os.PathLike):
        path = os.fsdecode(cast("str | bytes", os.fspath(program)))
        return path.rsplit("/", 1)[-1][:80]
    return "a program"


@cache
def outside() -> Callable[[dict[str, None] | None], None]:
    """Tells the one hook of this process where to write; None ends it."""
    found = Outside()
    sys.addaudithook(found)

    def route(seen: dict[str, None] | None) -> None:
        found.seen = seen

    return route
