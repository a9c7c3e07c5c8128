"""Unpack an untrusted archive (zip, tar, tar.gz, tar.bz2, tar.xz).

Only a plain relative name and the bytes of each entry are used, and both go through `RootedFiles`:
no entry can refer to a place outside, and existing files are never overwritten. Links are left out.
The libraries only parse: they extract nothing, and read no more than a few MiB at once.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from lorimer.world.beneath import AnyPath
from lorimer.world.files import RootedFiles
from lorimer.world.spellings import folded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 1024**3
"""Unpacked size of all files together."""
MAX_RATIO: Final = 200
"""Unpacked bytes per packed byte, once there are more than FREE_BYTES."""
FREE_BYTES: Final = 16 * 1024**2
MAX_DEPTH: Final = 32
"""Depth of folders in a name."""
MAX_NAME: Final = 1024
_MAX_PART: Final = 255
_MAX_READ: Final = 2 * 1024**2
"""The most that a library may read at once: a table of contents, or a header."""
_CHUNK: Final = 65_536
_MAX_HEADER: Final = 8192
"""Bytes of a tar's extended headers for one entry, in addition to its 512-byte header."""
_MAX_XZ_MEMORY: Final = 80 * 1024**2
"""Bytes; `xz -9` takes 65 MiB."""
_MORE_HEADER: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_STOPPED: Final = "stopped: it took too long"

_BAD: Final = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
_BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,  # an unknown compression method
    RuntimeError,  # zipfile raises it for encrypted entries
    OverflowError,
    RecursionError,
    KeyError,
    IndexError,
)


class BadArchive(Exception):
    """The file is not an archive, is damaged, or contains what no honest archive needs."""


@dataclass(slots=True)
class Unpacked:
    """The result of unpacking."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    links: int = 0
    """Number of links, which were left out."""


@dataclass(slots=True)
class _Entry:
    name: str
    kind: str
    """`file`, `folder`, `link`; anything else is rejected."""
    size: int
    executable: bool
    open: Callable[[], BinaryIO]


def unpack(
    files: RootedFiles,
    archive: AnyPath,
    into: AnyPath,
    *,
    forbidden: Collection[str] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> Unpacked:
    """Unpack `archive` into the folder `into`, which must be empty or missing.

    `forbidden` are names, in lower case, that no entry may have as a path component. Blocks; gives
    up soon after `stopped()` is true. All names and declared sizes are checked before anything is
    written. Raises BadArchive, FileExistsError, and what `RootedFiles` raises.
    """
    if files.exists(into) and files.list_dir(into, 1)[0]:
        raise FileExistsError(errno.EEXIST, "it is there already, and not empty", str(into))
    with files.open(archive) as raw:
        packed = _size(raw)
        _survey(_entries(raw, stopped), packed, forbidden, stopped)
        files.mkdirs(into)
        base, done = PurePosixPath(str(into)), Unpacked()
        meter = _Meter(packed, stopped)
        try:
            _write(files, base, _entries(raw, stopped), forbidden, meter, done)
        except BadArchive as error:
            raise BadArchive(f"{error} ({done.files:,} of its files were written)") from error
        return done


def _write(
    files: RootedFiles,
    base: PurePosixPath,
    entries: Iterator[_Entry],
    forbidden: Collection[str],
    meter: _Meter,
    done: Unpacked,
) -> None:
    for entry in entries:
        parts = checked(entry.name, forbidden)
        if entry.kind == "link":
            done.links += 1
        elif entry.kind == "folder":
            files.mkdirs(base.joinpath(*parts))
            done.folders += 1
        else:
            mode = 0o777 if entry.executable else 0o666
            files.create(base.joinpath(*parts), meter.of(entry), mode=mode)
            done.files += 1
            done.bytes = meter.total


def checked(name: str, forbidden: Collection[str] = ()) -> tuple[str, ...]:
    """The components of an entry's name; none for the archive's root folder. Raises BadArchive for
    a name that is not plain: absolute, with `..`, control characters, backslashes or a drive
    letter, too long or too deep."""
    told = name[:200]
    if len(name) > MAX_NAME or _BAD.search(name) or name.startswith("/"):
        raise BadArchive(f"the name {told!r} is not a plain relative path")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadArchive(f"the name {told!r} is not text") from None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchive(f"the name {told!r} leads out of its folder")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > _MAX_PART for part in parts):
        raise BadArchive(f"the name {told!r} is too deep or too long")
    for part in parts:
        if folded(part) in forbidden:
            raise BadArchive(f"{told!r}: nothing that is unpacked may be called {part!r}")
    return tuple(parts)


def _survey(
    entries: Iterator[_Entry],
    packed: int,
    forbidden: Collection[str],
    stopped: Callable[[], bool],
) -> None:
    kinds: dict[tuple[str, ...], str] = {}
    total = 0
    for count, entry in enumerate(entries, 1):
        if stopped():
            raise BadArchive(_STOPPED)
        if count > MAX_ENTRIES:
            raise BadArchive(f"it has more than {MAX_ENTRIES:,} entries")
        parts = checked(entry.name, forbidden)
        if entry.kind not in ("file", "folder", "link"):
            raise BadArchive(f"{entry.name[:200]!r} is {entry.kind}")
        if entry.kind == "link":
            continue
        if entry.kind == "file" and (not parts or parts in kinds):
            raise BadArchive(f"the name {entry.name[:200]!r} is there twice")
        for depth in range(1, len(parts)):
            if kinds.setdefault(parts[:depth], "folder") == "file":
                raise BadArchive(f"{entry.name[:200]!r} lies in a file")
        if kinds.setdefault(parts, entry.kind) != entry.kind:
            raise BadArchive(f"the name {entry.name[:200]!r} is there twice")
        total += max(entry.size, 0)
        _within(total, packed)


def _within(total: int, packed: int) -> None:
    if total > MAX_BYTES:
        raise BadArchive(f"it holds more than {MAX_BYTES:,} bytes")
    if total > max(FREE_BYTES, packed * MAX_RATIO):
        raise BadArchive(f"it holds more than {MAX_RATIO} times as much as its {packed:,} bytes")


@dataclass(slots=True)
class _Meter:
    """Counts the actual output: the declared size of an entry may be wrong."""

    packed: int
    stopped: Callable[[], bool]
    total: int = 0

    def of(self, entry: _Entry) -> Iterator[bytes]:
        with _telling(), entry.open() as content:
            while chunk := content.read(_CHUNK):
                if self.stopped():
                    raise BadArchive(_STOPPED)
                self.total += len(chunk)
                _within(self.total, self.packed)
                yield chunk


def _entries(raw: BinaryIO, stopped: Callable[[], bool]) -> Iterator[_Entry]:
    """The entries, read from the beginning on each call."""
    raw.seek(0)
    start = raw.read(6)
    raw.seek(0)
    with _telling():
        if start.startswith(b"PK"):
            yield from _of_zip(raw)
        else:
            yield from _of_tar(raw, start, stopped)


@contextmanager
def _telling() -> Generator[None]:
    """Converts the libraries' exceptions for damaged input to BadArchive."""
    try:
        yield
    except _BROKEN as error:
        raise BadArchive(f"it cannot be read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the system; those of gzip and bz2 have none
            raise
        raise BadArchive(f"it cannot be read: {error}") from error


# --- zip -----------------------------------------------------------------------------------


def _of_zip(raw: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(cast("BinaryIO", _Careful(raw))) as found:
        for info in found.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 1:
                raise BadArchive(f"{info.filename[:200]!r} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks the other methods in one go, however large the output of a few
                # bytes is
                raise BadArchive(f"{info.filename[:200]!r} is packed in a way that is not unpacked")
            kind = "folder" if info.is_dir() else _kind_of(mode)

            def content(info: zipfile.ZipInfo = info) -> BinaryIO:
                return cast("BinaryIO", found.open(info))

            # `orig_filename`: the other one is cut at a NUL
            yield _Entry(info.orig_filename, kind, info.file_size, bool(mode & 0o100), content)


def _kind_of(mode: int) -> str:
    kind = stat.S_IFMT(mode)
    if kind in (0, stat.S_IFREG):
        return "file"
    if kind == stat.S_IFLNK:
        return "link"
    return "folder" if kind == stat.S_IFDIR else "a device or a pipe"


class _Careful(io.RawIOBase):
    """A file that cannot be read in large pieces."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset < 0 and whence == io.SEEK_SET:
            raise BadArchive("a place that it names is before its beginning")
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            at = self._raw.tell()
            if size > _MAX_READ or _size(self._raw) - at > _MAX_READ:
                raise BadArchive("its table of contents is too large")
            self._raw.seek(at)
        parts: list[bytes] = []
        while size != 0 and (part := self._raw.read(size)):
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)


def _size(raw: BinaryIO) -> int:
    return raw.seek(0, io.SEEK_END)


# --- tar -----------------------------------------------------------------------------------


class _Header(tarfile.TarInfo):
    """Rejects long headers before they are read: tarfile searches them for fields with regular
    expressions that take quadratic time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _MORE_HEADER and found.size > _MAX_HEADER:
            raise BadArchive("one of its headers is too large")
        return found


def _of_tar(raw: BinaryIO, start: bytes, stopped: Callable[[], bool]) -> Iterator[_Entry]:
    watched = cast("BinaryIO", io.BufferedReader(_Watched(raw, stopped)))
    stream = watched
    if start.startswith(b"\x1f\x8b"):
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=watched, mode="rb"))
    elif start.startswith(b"BZh"):
        stream = cast("BinaryIO", bz2.BZ2File(watched))
    elif start.startswith(b"\xfd7zXZ\x00"):
        stream = cast("BinaryIO", _Xz(watched))
    forward = cast("BinaryIO", _Forward(stream, _size(raw), stopped))
    raw.seek(0)
    with tarfile.TarFile(fileobj=forward, mode="r", errorlevel=2, tarinfo=_Header) as found:
        for info in found:
            if info.issparse():
                raise BadArchive(f"{info.name[:200]!r} is a file with holes")
            kind = "file" if info.isreg() else "folder" if info.isdir() else "a device or a pipe"
            if info.issym() or info.islnk():
                kind = "link"

            def content(info: tarfile.TarInfo = info) -> BinaryIO:
                opened = found.extractfile(info)
                assert opened is not None
                return cast("BinaryIO", opened)

            yield _Entry(info.name, kind, info.size, bool(info.mode & 0o100), content)


class _Watched(io.RawIOBase):
    """The packed file. Reading ends soon after `stopped()` is true: what is packed may be much and
    unpack to nothing."""

    def __init__(self, raw: BinaryIO, stopped: Callable[[], bool]) -> None:
        self._raw = raw
        self._stopped = stopped

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._stopped():
            raise BadArchive(_STOPPED)
        return cast("io.RawIOBase", self._raw).readinto(buffer) or 0


class _Xz(io.RawIOBase):
    """The unpacked contents of an xz file, read sequentially. An archive says how much memory
    unpacking it takes, up to 4 GiB; `lzma.LZMAFile` does not limit that."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._rest = b""
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, size: int = -1) -> bytes:
        while True:
            if self._stream is None:  # there may be several, with zeros after each
                packed = self._rest or self._raw.read(_CHUNK)
                if not packed:
                    return b""
                self._rest = packed.lstrip(b"\0")
                if not self._rest:
                    continue
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_XZ_MEMORY)
            packed, self._rest = self._rest, b""
            if not packed and self._stream.needs_input and not (packed := self._raw.read(_CHUNK)):
                raise EOFError("it is cut off")
            data = self._stream.decompress(packed, size)
            if self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, None
            if data:
                return data


class _Forward(io.RawIOBase):
    """The unpacked tar, read sequentially and bounded."""

    def __init__(self, stream: BinaryIO, packed: int, stopped: Callable[[], bool]) -> None:
        self._stream = stream
        self._packed = packed
        self._stopped = stopped
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset < self._at:
            raise BadArchive("its entries do not follow one another")
        while self._at < offset and self.read(min(offset - self._at, _CHUNK)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise BadArchive("one of its headers is too large")
        if self._stopped():
            raise BadArchive(_STOPPED)
        parts: list[bytes] = []
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._at += len(data)
        if self._at > MAX_BYTES + MAX_ENTRIES * 2048:
            raise BadArchive(f"it holds more than {MAX_BYTES:,} bytes")
        _within(self._at - FREE_BYTES, self._packed)
        return data
