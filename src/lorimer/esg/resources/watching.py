"""An audit hook that sees which files are opened, changed, removed or mapped while a step runs, and
whether it forks.

Files that C code opens itself are not seen, except databases of `sqlite3`.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import site
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol, cast

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM: Final = ("/dev/", "/proc/", "/sys/", "/usr/share/")
_LIBRARIES: Final = ("/site-packages/", "/dist-packages/", "/.cache/matplotlib/", "/__pycache__/")
"""Libraries and their own caches."""
_IMPORT: Final = ("<frozen importlib", os.path.dirname(importlib.util.__file__) + os.sep)
"""The code that looks for modules."""
_STARTS: Final = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"})


class Log(Protocol):
    """Is notified of what a step does to files."""

    def opened(self, path: str, writes: bool, truncates: bool) -> None:
        """The step opens a file."""
        ...

    def put(self, path: str, writes: bool, truncates: bool) -> None:
        """The step puts something under a name, or opens what is there, even if it is a link."""
        ...

    def removed(self, path: str, *, listed: bool = False) -> None:
        """The step removes or truncates a file. `listed`: found by listing its folder."""
        ...

    def started(self, *, program: bool) -> None:
        """The step starts a program, or forks."""
        ...

    def listed(self, folder: str) -> None:
        """The step lists a folder."""
        ...

    def mapped(self, descriptor: int) -> None:
        """The step maps an open file into memory."""
        ...


class Watch:
    """Passes what the hook sees to the log of the running step. One per process."""

    def __init__(self) -> None:
        self.log: Log | None = None
        self.forking: Callable[[], None] | None = None
        """Called before the step forks: what the child reads cannot be seen here."""
        places = (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)
        packages = (*site.getsitepackages(), site.getusersitepackages())
        self._library = tuple(os.path.abspath(each) + os.sep for each in (*places, *packages))

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        log = self.log
        if log is None:
            return
        if event == "open":
            path, mode, flags = (*arguments, None, None, None)[:3]
            if isinstance(path, str) and path.endswith(".pyc"):
                path = _source(path)
            text = str(mode or "")
            writes = any(sign in text for sign in "wax+") or (
                mode is None and bool(int(cast("int", flags or 0)) & _WRITES)
            )
            self._told(path, lambda name: log.opened(name, writes, text[:1] == "w"))
        elif event == "os.truncate":
            self._told(arguments[0], log.removed)
        elif event == "os.remove":
            path = _beneath(*arguments)
            self._told(path, lambda name: log.removed(name, listed=path is not arguments[0]))
        elif event == "os.rename":
            self._told(_beneath(arguments[0], arguments[2]), log.removed)
            to = _beneath(arguments[1], arguments[3])
            self._told(to, lambda name: log.put(name, True, True))
        elif event in ("os.link", "os.symlink"):
            to = _beneath(arguments[1], arguments[-1])
            self._told(to, lambda name: log.put(name, True, False))
        elif event == "sqlite3.connect":
            self._told(_database(arguments[0]), lambda name: log.opened(name, True, False))
        elif event in ("os.fork", "os.forkpty"):
            if self.forking is not None:
                self.forking()
            self._apart(lambda: log.started(program=False))
        elif event in _STARTS:
            self._apart(lambda: log.started(program=True))
        elif event in ("os.listdir", "os.scandir") and not _by_import(inspect.currentframe()):
            self._told(arguments[0] or ".", log.listed)
        elif event == "mmap.__new__":
            descriptor = cast("int", arguments[0])
            self._apart(lambda: log.mapped(descriptor))

    def _told(self, path: object, note: Callable[[str], None]) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor
        name = os.fsdecode(cast("str | bytes", os.fspath(path)))
        if not name.startswith(_SYSTEM) and not self.of_a_library(name):
            self._apart(lambda: note(name))

    def of_a_library(self, path: str) -> bool:
        """Whether it is a file of Python or of a library, or a library's cache."""
        return path.startswith(self._library) or any(each in path for each in _LIBRARIES)

    def _apart(self, note: Callable[[], None]) -> None:
        log, self.log = self.log, None  # looking at it opens it
        try:
            note()
        finally:
            self.log = log


def _by_import(frame: types.FrameType | None) -> bool:
    """Whether Python itself lists a folder, to find a module. `frame`: that of the hook."""
    caller = None if frame is None else frame.f_back
    return caller is not None and caller.f_code.co_filename.startswith(_IMPORT)


def _beneath(path: object, folder: object) -> object:
    """A path; if it is relative to an open folder, given by its descriptor, made absolute."""
    if not isinstance(folder, int) or folder < 0 or not isinstance(path, str | bytes):
        return path
    try:
        where = os.readlink(f"/proc/self/fd/{folder}")
    except OSError:
        return path
    return os.path.join(where, os.fsdecode(path))


def _source(path: str) -> str:
    """The source file of compiled code: loading that counts as reading this."""
    try:
        return importlib.util.source_from_cache(path)
    except (ValueError, NotImplementedError):
        return path


def _database(name: object) -> object:
    """The file of a database; None if it is in memory."""
    if isinstance(name, str) and name.startswith("file:"):
        name = name.removeprefix("file:").partition("?")[0]
    return None if name in ("", ":memory:") else name


@cache
def watch() -> Watch:
    """The only audit hook of this process: hooks cannot be removed."""
    found = Watch()
    sys.addaudithook(found)
    return found
