"""What a step can depend on besides names: random states, the folder, the environment, files,
settings of libraries.

Each is a name of its own in the graph (`rng:random`, `rng:numpy`, `os:cwd`, `os:env`,
`settings:pandas`, `settings:numpy`, `settings:matplotlib`, `file:<path>`).
States are set to what is right for a step's place before it runs and compared after it. Files are
seen by an audit hook; their content is not kept: who needs another content than the present one
runs the step that wrote it.
"""

from __future__ import annotations

import os
import random
import stat
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, cast

from lorimer.esg.settings import MATPLOTLIB, NUMPY, PANDAS, settings
from lorimer.esg.steps import ABSENT

FILE: Final = "file:"
CWD: Final = "os:cwd"
ENV: Final = "os:env"
SPEAKS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "rng:random": ("seed", "setstate"),
    "rng:numpy": ("seed", "set_state"),
    CWD: ("chdir", "getcwd"),
    ENV: ("environ", "getenv"),
    PANDAS: ("option",),
    NUMPY: ("printoptions",),
    MATPLOTLIB: ("rc", "style"),
}
"""Words by which code that depends on a state, or sets it to what it is already, gives itself
away: a step that says one counts as reading the state. Other changes are seen by themselves."""
_WHOLE: Final = 8 * 2**20
"""Bytes up to which a file is read to compare it; of larger ones size and time are taken."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, slots=True)
class State:
    """A state of the process that can be read and set."""

    get: Callable[[], object]
    set: Callable[[object], None]
    initial: Callable[[], object] | None = None
    """What it is when its library is loaded, where that can be told afterwards."""


def states() -> dict[str, State]:
    """Those that there are now: numpy's is there once somebody has imported it."""
    found = {
        "rng:random": State(random.getstate, cast("Callable[[object], None]", random.setstate)),
        CWD: State(os.getcwd, lambda value: os.chdir(str(value))),
        ENV: State(lambda: dict(os.environb), _set_environment),
    }
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        found["rng:numpy"] = State(
            lambda: cast("object", numpy.get_state(legacy=True)), numpy.set_state
        )
    for name, each in settings().items():
        found[name] = State(each.get, each.set, each.initial)
    return found


def same(one: object, other: object) -> bool:
    """Whether two states are equal."""
    try:
        return bool(one == other)
    except ValueError:  # arrays in it
        return mark(one) == mark(other)


def mark(value: object) -> str:
    """The fingerprint of such a state."""
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    digest = blake2b(digest_size=12)
    for part in parts:
        data = cast("bytes", part.tobytes()) if hasattr(part, "tobytes") else repr(part).encode()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        digest.update(data)
    return digest.hexdigest()


@dataclass(slots=True)
class FileLog:
    """Files that were opened while a step ran."""

    read: dict[str, str] = field(default_factory=dict[str, str])
    """`file:<path>` -> fingerprint when it was opened."""
    before: dict[str, str] = field(default_factory=dict[str, str])
    """The same for every file that was opened, also to be written from its start."""
    written: set[str] = field(default_factory=set[str])
    relative: bool = False
    """A path was relative, so the folder mattered."""

    def opened(self, path: str, writes: bool, truncates: bool) -> None:
        name = FILE + os.path.abspath(path)
        self.relative |= not os.path.isabs(path)
        self._look(name)
        if not truncates and name not in self.written:
            self.read.setdefault(name, self.before[name])
        if writes:
            self.written.add(name)

    def removed(self, path: str) -> None:
        name = FILE + os.path.abspath(path)
        self._look(name)
        if name not in self.written:
            self.read.setdefault(name, self.before[name])
        self.written.add(name)

    def _look(self, name: str) -> None:
        if name not in self.before:
            self.before[name] = fingerprint(name)


def fingerprint(name: str) -> str:
    """What the file is like now; ABSENT if there is none."""
    path = name.removeprefix(FILE)
    try:
        info = os.stat(path)
        if info.st_size > _WHOLE or not stat.S_ISREG(info.st_mode):  # a pipe would wait
            return f"{info.st_size}:{info.st_mtime_ns}"
        return blake2b(Path(path).read_bytes(), digest_size=12).hexdigest()
    except OSError:
        return ABSENT


class Watch:
    """Routes what the audit hook sees to the log of the step that runs. One for the process."""

    def __init__(self) -> None:
        self.log: FileLog | None = None
        self._library = tuple(
            os.path.abspath(path) + os.sep
            for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)
        )

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        log = self.log
        if log is None:
            return
        if event == "open":
            path, mode, flags = (*arguments, None, None, None)[:3]
            text = str(mode or "")
            writes = any(sign in text for sign in "wax+") or (
                mode is None and bool(int(cast("int", flags or 0)) & _WRITES)
            )
            self._told(path, lambda name: log.opened(name, writes, text[:1] in ("w", "x")))
        elif event in ("os.remove", "os.truncate"):
            self._told(arguments[0], log.removed)
        elif event == "os.rename":
            self._told(arguments[0], log.removed)
            self._told(arguments[1], lambda name: log.opened(name, True, True))

    def _told(self, path: object, note: Callable[[str], None]) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor
        name = os.fsdecode(cast("str | bytes", os.fspath(path)))
        if name.startswith(("/dev/", "/proc/", "/sys/", *self._library)):
            return
        log, self.log = self.log, None  # looking at it opens it
        try:
            note(name)
        finally:
            self.log = log


@cache
def watch() -> Watch:
    """The one audit hook of this process: a hook cannot be taken away again."""
    found = Watch()
    sys.addaudithook(found)
    return found


def _set_environment(value: object) -> None:
    wanted = cast("Mapping[bytes, bytes]", value)
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    os.environb.update(wanted)
