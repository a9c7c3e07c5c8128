"""Walk a path beneath an opened root, one component at a time.

Each component is opened relative to the descriptor of its parent and never through a symlink; links
are read and followed by us, as long as they stay beneath the root. So what was checked is what is
used: swapping a component for a link during the walk has no effect. `..` goes back along the path
that was walked, not to what the system considers the parent.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias

AnyPath: TypeAlias = str | os.PathLike[str]

MAX_DEPTH: Final = 256
"""Directories held open at once while a path is walked."""
_MAX_LINKS: Final = 40
_THROUGH: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LIST: Final = _THROUGH | os.O_RDONLY
"""Flags to open a directory in order to list it."""
# With O_PATH only passing through the directory requires permission, not reading it.
PASS: Final = _THROUGH | (os.O_PATH if sys.platform == "linux" else os.O_RDONLY)
"""Flags to open a directory that is only passed through."""


class OutsideRoots(PermissionError):
    """The path, or a link along it, leads out of all permitted folders."""

    def __init__(self, path: AnyPath, roots: Sequence[Path]) -> None:
        folders = ", ".join(str(root) for root in roots)
        super().__init__(errno.EACCES, f"outside the permitted folders ({folders})", str(path))


@dataclass(frozen=True, slots=True)
class Root:
    """An open directory beneath which paths are walked."""

    path: Path
    """As given, made absolute: the caller's notation."""
    real: Path
    """With links resolved: the system's notation."""
    fd: int

    @classmethod
    def open(cls, path: AnyPath) -> Self:
        """Raises OSError. The caller has to close its `fd`."""
        given = Path(os.path.abspath(path))
        fd = os.open(given, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(given, Path(os.path.realpath(given)), fd)


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open directory; `.` for the directory itself."""

    root: Root
    above: tuple[str, ...]
    fd: int
    name: str

    @property
    def real(self) -> Path:
        """Its location: absolute, without links."""
        return self.root.real.joinpath(*self.above, self.name)


@contextmanager
def place_beneath(
    roots: Sequence[Root],
    path: AnyPath,
    *,
    make: bool = False,
    absent: bool = False,
    follow_last: bool = True,
) -> Generator[Place]:
    """Walk to the directory that contains the last component of `path`; it is open within the
    block.

    `make` creates missing directories along the path, `absent` allows the path to be missing from
    some point on, and without `follow_last` a link at the end refers to the link itself. Raises
    OutsideRoots and OSError; every OSError that leaves the block names `path`.
    """
    asked = os.fspath(path)
    _require_possible(asked)
    root, parts = _locate(roots, asked)
    try:
        with _Walk(root, asked, [one.path for one in roots]) as walk:
            yield walk.to_parent(deque(parts), make=make, absent=absent, follow_last=follow_last)
    except OSError as error:  # the system saw one component; report the full path
        error.filename, error.filename2 = asked, None
        raise


class _Walk:
    """The open directories between a root and the current position; closes them."""

    def __init__(self, root: Root, asked: str, permitted: Sequence[Path]) -> None:
        self._root = root
        self._asked = asked
        self._permitted = permitted
        self._names: list[str] = []
        self._fds: list[int] = []
        self._links = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._back_to_root()

    def to_parent(self, todo: deque[str], *, make: bool, absent: bool, follow_last: bool) -> Place:
        while todo:
            name = todo.popleft()
            if name == "..":
                self._up()
                continue
            last = not todo
            if not last or follow_last:
                target = self._link(name)
                if target is not None:
                    self._follow(target, todo)
                    continue
            if last:
                return self._here(name)
            try:
                self._down(name, make=make)
            except FileNotFoundError:
                if not absent:
                    raise
                return self._void(name, todo)
        return self._here(".")

    @property
    def _fd(self) -> int:
        return self._fds[-1] if self._fds else self._root.fd

    def _here(self, name: str) -> Place:
        return Place(self._root, tuple(self._names), self._fd, name)

    def _void(self, name: str, todo: deque[str]) -> Place:
        """A place that does not exist. `..` in a missing part could only be guessed."""
        if ".." in todo:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._asked)
        *above, last = name, *todo
        return Place(self._root, (*self._names, *above), self._fd, last)

    def _up(self) -> None:
        if not self._fds:
            raise OutsideRoots(self._asked, self._permitted)
        os.close(self._fds.pop())
        self._names.pop()

    def _back_to_root(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
        self._names.clear()

    def _down(self, name: str, *, make: bool) -> None:
        if len(self._fds) >= MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), self._asked)
        fd = open_or_make(self._fd, name) if make else os.open(name, PASS, dir_fd=self._fd)
        self._fds.append(fd)
        self._names.append(name)

    def _link(self, name: str) -> str | None:
        """The target of the link `name`, or None if it is not a link."""
        try:
            return os.readlink(name, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def _follow(self, target: str, todo: deque[str]) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._asked)
        parts = parts_of(target)
        if target.startswith("/"):
            rest = _rest_beneath(self._root, parts)
            if rest is None:
                raise OutsideRoots(self._asked, self._permitted)
            self._back_to_root()
            parts = rest
        todo.extendleft(reversed(parts))


def parts_of(path: str) -> tuple[str, ...]:
    """The components of a path, without redundant ones."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _locate(roots: Sequence[Root], path: str) -> tuple[Root, tuple[str, ...]]:
    """The root that contains a given path, the innermost of several, and the rest of the path."""
    parts = parts_of(path)
    if not path.startswith("/"):
        return roots[0], parts
    found = [(root, rest) for root in roots if (rest := _rest_beneath(root, parts)) is not None]
    if not found:
        raise OutsideRoots(path, [root.path for root in roots])
    return min(found, key=lambda one: len(one[1]))


def _rest_beneath(root: Root, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """`parts` of an absolute path relative to `root`, in either notation of the root."""
    for spelling in (root.path, root.real):
        prefix = parts_of(str(spelling))
        if parts[: len(prefix)] == prefix:
            return parts[len(prefix) :]
    return None


def _require_possible(path: str) -> None:
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, "the name cannot be encoded", path) from error
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "the name holds a NUL", path)


def open_or_make(fd: int, name: str) -> int:
    """The directory `name`, created if missing."""
    try:
        return os.open(name, PASS, dir_fd=fd)
    except FileNotFoundError:
        with suppress(FileExistsError):  # somebody else created it first
            os.mkdir(name, dir_fd=fd)
        return os.open(name, PASS, dir_fd=fd)
