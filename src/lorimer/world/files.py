"""Files beneath opened roots, and nothing else.

Where a path may lead is decided in `beneath`; *whether* it may be read or written, by the
permission rules in `lorimer.tools`, on the given path and on `RootedFiles.resolve`.

Calls block; arguments bound them. Nothing but the roots is kept open between calls.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self, TypeAlias

from lorimer.world.beneath import (
    LIST,
    MAX_DEPTH,
    PASS,
    AnyPath,
    Place,
    Root,
    open_or_make,
    parts_of,
    place_beneath,
)
from lorimer.world.beneath import OutsideRoots as OutsideRoots  # expected next to RootedFiles

Kind: TypeAlias = Literal["file", "dir", "link", "other"]

_CHUNK: Final = 1_048_576
_ACL: Final = "system.posix_acl_access"
# O_NONBLOCK: a FIFO in place of a file must not block us.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND: Final = (
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)
# A folder that may not be read, has vanished, or is no longer a folder.
_NOT_ENTERED: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
)


class NotRegularFile(OSError):
    """The path names a device, FIFO, socket or kernel file: never opened here."""

    def __init__(self, path: AnyPath) -> None:
        super().__init__(errno.EINVAL, "not a regular file", str(path))


@dataclass(frozen=True, slots=True)
class FileStat:
    """What is known about a file without reading it. Links along the path are followed."""

    kind: Kind
    size: int
    """Bytes."""
    mtime_ns: int
    """Nanoseconds since the epoch."""
    mode: int
    """Permission bits only."""
    links: int
    """Number of hard links; writing to one of several does not change the others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name found in a directory; `path` is relative to the start of the search, with `/`."""

    path: str
    kind: Kind


class RootedFiles:
    """A handle to one or more directories; a context manager, or call `close`.

    Paths are relative to the first root, or absolute and beneath any of them. The path of a root
    itself may contain links: whoever opens it trusts it. The same directory stays open if its name
    is later given to another one.

    All methods raise OutsideRoots for a path that leads out, NotRegularFile where a file is
    required and something else is found, and OSError as the system does otherwise; EINVAL for a
    path that is impossible on the system, ELOOP after 40 links. Safe to use from several threads.
    """

    def __init__(self, roots: Sequence[AnyPath]) -> None:
        if not roots:
            raise ValueError("at least one root is needed")
        opened: list[Root] = []
        with ExitStack() as undo:
            for root in roots:
                opened.append(Root.open(root))
                undo.callback(os.close, opened[-1].fd)
            undo.pop_all()
        self._roots = tuple(opened)
        self._kernel = _kernel_file_systems()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def roots(self) -> tuple[Path, ...]:
        """The permitted folders as given, made absolute."""
        return tuple(root.path for root in self._roots)

    def __del__(self) -> None:
        # code that shares these handles among many runs often has no good time to close them
        if "_closed" in vars(self):
            self.close()

    def close(self) -> None:
        """Close the roots. Calling it again is harmless; also done when the object is garbage
        collected."""
        if not self._closed:
            self._closed = True
            for root in self._roots:
                os.close(root.fd)

    def read_bytes(self, path: AnyPath, max_bytes: int) -> tuple[bytes, bool]:
        """The first `max_bytes` of a file, and whether there is more."""
        fd = self._open(path)
        try:
            chunks: list[bytes] = []
            left = max_bytes
            while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks), left <= 0 and bool(os.read(fd, 1))
        finally:
            os.close(fd)

    def open(self, path: AnyPath) -> BinaryIO:
        """Open a file for reading, unbuffered. The caller closes it."""
        return os.fdopen(self._open(path), "rb", buffering=0)

    def _open(self, path: AnyPath) -> int:
        with self._place(path) as place:
            self._status(place, path)  # checked first: merely opening a device may act
            fd = os.open(place.name, _READ, dir_fd=place.fd)
        try:
            self._require_file(os.fstat(fd), path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create(self, path: AnyPath, chunks: Iterable[bytes], *, mode: int = 0o666) -> None:
        """Create a file that must not exist, and missing folders; the system applies its umask to
        `mode`. Raises FileExistsError, also for a dangling link; if `chunks` raises, what was
        written stays."""
        with self._place(path, make=True, follow_last=False) as place:
            fd = os.open(place.name, _CREATE, mode & 0o777, dir_fd=place.fd)
        try:
            for chunk in chunks:
                _write_all(fd, chunk)
        finally:
            os.close(fd)

    def write_bytes(self, path: AnyPath, data: bytes) -> None:
        """Replace or create a file: atomically, also across a power failure.

        Missing folders are created. An existing file keeps its permission bits and ACL, its
        attributes `user.*` and, where the system allows it, its owner. A link is followed, so its
        target is replaced. If killed half-way, it can leave a file `.lorimer-*.tmp` behind.
        """
        with self._place(path, make=True) as place:
            old: os.stat_result | None = None
            with suppress(FileNotFoundError):
                old = self._status(place, path)
            temporary = f".lorimer-{secrets.token_hex(8)}.tmp"
            mode = 0o666 if old is None else 0o600  # 0o666: the system applies the umask
            fd = os.open(temporary, _CREATE, mode, dir_fd=place.fd)
            try:
                try:
                    _write_all(fd, data)
                    if old is not None:
                        _copy_attributes(fd, old)
                        _copy_extended(fd, place)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.rename(temporary, place.name, src_dir_fd=place.fd, dst_dir_fd=place.fd)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=place.fd)
                raise
            _sync_directory(place.fd)

    def append_bytes(self, path: AnyPath, data: bytes) -> None:
        """Append to a file; it and missing folders are created. Neither atomic nor safe across a
        power failure."""
        with self._place(path, make=True) as place:
            with suppress(FileNotFoundError):
                self._status(place, path)
            fd = os.open(place.name, _APPEND, 0o666, dir_fd=place.fd)
            try:
                self._require_file(os.fstat(fd), path)
                _write_all(fd, data)
            finally:
                os.close(fd)

    def mkdirs(self, path: AnyPath) -> None:
        """Create a folder and its parents; does nothing if it exists."""
        with self._place(path, make=True) as place:
            if place.name != ".":
                os.close(open_or_make(place.fd, place.name))

    def exists(self, path: AnyPath) -> bool:
        """Whether something is there. A dangling link does not count."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def stat(self, path: AnyPath) -> FileStat:
        """Kind, size and times."""
        with self._place(path) as place:
            found = os.stat(place.name, dir_fd=place.fd, follow_symlinks=False)
        return FileStat(
            kind=_kind(found.st_mode),
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            mode=stat.S_IMODE(found.st_mode),
            links=found.st_nlink,
        )

    def resolve(self, path: AnyPath) -> Path:
        """Where `path` really leads: absolute, without links. It need not exist yet.

        For display and for rules; opening the result later may lead elsewhere, so open `path`.
        """
        with self._place(path, absent=True) as place:
            return place.real

    def list_dir(self, path: AnyPath, max_entries: int) -> tuple[list[Entry], bool]:
        """The first `max_entries` names of a folder in sorted order, and whether there are more."""
        with self._place(path) as place:
            fd = os.open(place.name, LIST, dir_fd=place.fd)
        try:
            entries = _scan(fd, "", max_entries + 1)
        finally:
            os.close(fd)
        return entries[:max_entries], len(entries) > max_entries

    def walk(self, start: AnyPath, max_entries: int) -> Iterator[Entry]:
        """What lies beneath the folder `start`, parents first, in sorted order, at most
        `max_entries`.

        Linked folders are reported as links and not entered; neither are folders that may not be
        read, that vanish meanwhile, or that are more than 256 levels deep.
        """
        with self._place(start) as place:
            root, base = place.root, (*place.above, place.name)
            os.close(os.open(place.name, LIST, dir_fd=place.fd))  # an invalid start is an error
        pending = [Entry("", "dir")]
        left = max_entries
        while pending and left > 0:
            entry = pending.pop()
            if entry.path:
                yield entry
                left -= 1
            if entry.kind == "dir":
                self._require_open()
                found = _scan_beneath(root.fd, (*base, *parts_of(entry.path)), entry.path, left)
                pending.extend(reversed(found))
                # Each pending entry uses up one of those left: more than that are never reached.
                del pending[: max(0, len(pending) - left)]

    def unlink(self, path: AnyPath) -> None:
        """Remove a file, or a link itself. Folders raise IsADirectoryError."""
        with self._place(path, follow_last=False) as place:
            found = os.stat(place.name, dir_fd=place.fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            os.unlink(place.name, dir_fd=place.fd)

    def _status(self, place: Place, path: AnyPath) -> os.stat_result:
        found = os.stat(place.name, dir_fd=place.fd, follow_symlinks=False)
        self._require_file(found, path)
        return found

    def _require_file(self, found: os.stat_result, path: AnyPath) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode) or found.st_dev in self._kernel:
            raise NotRegularFile(path)

    def _place(
        self,
        path: AnyPath,
        *,
        make: bool = False,
        absent: bool = False,
        follow_last: bool = True,
    ) -> AbstractContextManager[Place]:
        self._require_open()
        return place_beneath(self._roots, path, make=make, absent=absent, follow_last=follow_last)

    def _require_open(self) -> None:
        """After closing, the descriptors of roots may belong to other files."""
        if self._closed:
            raise ValueError("these roots are closed")


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest[:_CHUNK]) :]


def _copy_attributes(fd: int, old: os.stat_result) -> None:
    """Owner first: changing it may clear bits. Set-id bits are dropped, as with any write."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)


def _copy_extended(fd: int, place: Place) -> None:
    """The ACL, where the folder may have given the new file one too: without it the group bits
    would grant more than they did. And user attributes."""
    if sys.platform != "linux":
        return
    try:
        source = os.open(place.name, _READ, dir_fd=place.fd)
    except OSError:  # a file that is write-only
        return
    try:
        names = _extended(source)
        for name in set(_extended(fd)) - set(names):
            if name == _ACL:
                mode = os.fstat(source).st_mode
                os.removexattr(fd, name)
                os.fchmod(fd, stat.S_IMODE(mode) & 0o777)
        for name in names:
            if name == _ACL:
                os.setxattr(fd, name, os.getxattr(source, name))
            elif name.startswith("user."):
                with suppress(OSError):  # lack of space for it must not prevent the write
                    os.setxattr(fd, name, os.getxattr(source, name))
    finally:
        os.close(source)


def _extended(fd: int) -> list[str]:
    """Names of extended attributes; none if the file system does not support them."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []


def _sync_directory(fd: int) -> None:
    """Make the new name durable across a power failure, as far as directory and file system
    permit."""
    try:
        handle = os.open(".", LIST, dir_fd=fd)  # one opened only to pass through cannot be synced
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _scan(fd: int, prefix: str, limit: int) -> list[Entry]:
    """The first `limit` entries of an open directory in sorted order; no more are kept in
    memory."""
    with os.scandir(fd) as found:
        named: Iterator[tuple[str, Kind]] = ((one.name, _entry_kind(one)) for one in found)
        first = nsmallest(limit, named)
    return [Entry(prefix + name, kind) for name, kind in first]


def _scan_beneath(fd: int, parts: tuple[str, ...], prefix: str, limit: int) -> list[Entry]:
    """Like `_scan`, for the directory reached from `fd` by `parts`, none of which is a link."""
    if len(parts) > MAX_DEPTH:
        return []
    handle = os.open(".", PASS, dir_fd=fd)
    try:
        for index, part in enumerate(parts, 1):
            flags = LIST if index == len(parts) else PASS
            deeper = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = deeper
        return _scan(handle, f"{prefix}/" if prefix else "", limit)
    except OSError as error:
        if error.errno in _NOT_ENTERED:
            return []
        raise
    finally:
        os.close(handle)


def _entry_kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _kind(mode: int) -> Kind:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "dir"
    return "file" if stat.S_ISREG(mode) else "other"


def _kernel_file_systems() -> frozenset[int]:
    """Devices of file systems whose files are interfaces of the kernel."""
    devices: set[int] = set()
    for path in ("/proc", "/sys"):
        with suppress(OSError):
            if os.path.ismount(path):
                devices.add(os.stat(path).st_dev)
    return frozenset(devices)
