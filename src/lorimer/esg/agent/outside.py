"""Effects of a step besides files: programs that it starts, addresses that it connects to. An audit
hook sees them, so what C code does by itself is not seen.

What a library does while it is imported (matplotlib looks for fonts with a program) does not count
as the step's, like the files that it reads: it happens once per process, whether or not the step
runs again.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Final, cast

from lorimer.esg.resources.watching import watch

_MOST: Final = 20
"""Entries kept per step."""
_PROGRAMS: Final = frozenset({"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.exec"})
_BYTECODE: Final = "__pycache__"
"""A folder that an import makes, also of a file of the step's own."""
_IMPORTS: Final = "<frozen importlib._bootstrap>"
_SPEAKS: Final = frozenset({"socket.connect", "socket.sendto", "socket.bind"})


class Outside:
    """Passes what the hook sees to the running step. One per process."""

    def __init__(self) -> None:
        self.seen: dict[str, None] | None = None
        """The effects, as text, in order; None: no step is running. Restoring or inspecting files
        is not done by the step: see `Watch.log`."""

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.seen is None or len(self.seen) >= _MOST:
            return
        words = _words(event, arguments)
        if words and watch().log is not None and not _importing(inspect.currentframe()):
            self.seen[words] = None


def _words(event: str, arguments: tuple[object, ...]) -> str:
    """The effect as text; "": none."""
    if event in _PROGRAMS:
        return f"started {_name(arguments[0])}"
    if event == "os.system":
        return "started a shell command"
    if event in ("os.fork", "os.forkpty"):
        return "started a process"
    if event == "os.kill":
        return "sent a signal"
    if event in _SPEAKS and isinstance(arguments[1], tuple):
        address = cast("tuple[object, ...]", arguments[1])
        return f"spoke to {':'.join(map(str, address[:2]))}"
    if event in ("os.mkdir", "os.rmdir"):
        name = _name(arguments[0])
        return "" if name == _BYTECODE else f"{event[3:]} {name}"
    return ""


def _importing(frame: FrameType | None) -> bool:
    """Whether a library's module is being run by an import."""
    while frame is not None:
        code, frame = frame.f_code, frame.f_back
        if code.co_name == "<module>" and frame is not None:
            imported = frame.f_code.co_filename == _IMPORTS
            if imported and watch().of_a_library(code.co_filename):
                return True
    return False


def _name(program: object) -> str:
    if isinstance(program, str | bytes | os.PathLike):
        path = os.fsdecode(cast("str | bytes", os.fspath(program)))
        return path.rsplit("/", 1)[-1][:80]
    return "a program"


@cache
def outside() -> Callable[[dict[str, None] | None], None]:
    """Sets where the one hook of this process records effects; None ends that."""
    found = Outside()
    sys.addaudithook(found)

    def route(seen: dict[str, None] | None) -> None:
        found.seen = seen

    return route
