"""Archives of strangers: nothing leads out, nothing is written over, nothing grows without end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lorimer.world import archives
from lorimer.world.archives import BadArchive, checked, unpack
from lorimer.world.files import RootedFiles
from tests.quick import quick

HOSTILE = [
    "/etc/passwd",
    "//etc/passwd",
    "../x",
    "a/../../x",
    "a/..",
    "..",
    "./../x",
    "a/b/../../../x",
    "..\\x",
    "a\\..\\..\\x",
    "C:/x",
    "c:x",
    "C:\\windows\\x",
    "\\\\host\\share",
    "a\x00b",
    "a\nb",
    "a\x1b[31mb",
    "a" * 256,
    "a/" * 33 + "x",
    "é" * 128,
    "x/" * 512 + "y",
]
PLAIN = [
    "a",
    "./a",
    "a/b",
    "a//b",
    "a/./b",
    "...",
    "..a",
    "a..",
    "~",
    "-rf",
    "$HOME",
    "é",
    "a b",
    "%2e%2e/x",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def files(root: Path) -> Generator[RootedFiles]:
    with RootedFiles([root]) as opened:
        yield opened


def a_zip(*entries: tuple[str, bytes, int]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo("x" * len(name))
            info.filename = name  # as it is: the constructor mends some
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with warnings.catch_warnings(action="ignore"):  # of a name that is there twice
                archive.writestr(info, data)
    return made.getvalue()


def a_tar(*entries: tuple[str, bytes, bytes], compress: str = "") -> bytes:
    """(name, content or target of a link, type)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=f"w:{compress}", format=tarfile.PAX_FORMAT) as archive:
        for name, data, kind in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data.decode()
                archive.addfile(info)
    return made.getvalue()


def file_of(name: str, kind: str) -> bytes:
    if kind == "zip":
        return a_zip((name, b"x", 0o100644))
    return a_tar((name, b"x", tarfile.REGTYPE), compress=kind.partition(".")[2])


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.name != "a")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_what_is_in_it_is_unpacked(root: Path, files: RootedFiles, kind: str) -> None:
    if kind == "zip":
        data = a_zip(
            ("d/", b"", 0o40755), ("d/run", b"#!", 0o100755), ("d/e/text", b"t" * 9, 0o100600)
        )
    else:
        data = a_tar(
            ("d", b"", tarfile.DIRTYPE),
            ("d/run", b"#!", tarfile.REGTYPE),
            ("d/e/text", b"t" * 9, tarfile.REGTYPE),
            compress=kind.partition(".")[2],
        )
    (root / "a").write_bytes(data)
    done = unpack(files, "a", "new/place")
    assert (done.files, done.folders, done.bytes, done.links) == (2, 1, 11, 0)
    assert (root / "new/place/d/e/text").read_text() == "ttttttttt"
    assert stat.S_IMODE((root / "new/place/d/e/text").stat().st_mode) & 0o111 == 0
    if kind == "zip":
        assert os.access(root / "new/place/d/run", os.X_OK)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, id=f"{number}-{kind}")
        for number, name in enumerate(HOSTILE)
        for kind in ("zip", "tar", "tar.gz")
        if kind == "zip" or "\0" not in name  # where a tar's name ends
    ],
)
def test_names_that_are_not_plain_are_refused_and_nothing_is_written(
    root: Path, files: RootedFiles, name: str, kind: str
) -> None:
    (root / "a").write_bytes(file_of(name, kind))
    before = everything(root.parent)
    with pytest.raises(BadArchive):
        unpack(files, "a", "new")
    assert everything(root.parent) == before
    assert (root.parent / "outside").read_text() == "untouched"


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", PLAIN)
def test_odd_but_plain_names_stay_within(
    root: Path, files: RootedFiles, kind: str, name: str
) -> None:
    (root / "a").write_bytes(file_of(name, kind))
    assert unpack(files, "a", "new").files == 1
    assert all(path.startswith("root") or path == "outside" for path in everything(root.parent))
    found = [path for path in (root / "new").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in found] == [b"x"]


def test_an_xz_archive_says_in_vain_how_much_memory_it_takes(
    root: Path, files: RootedFiles
) -> None:
    plain = a_tar(("x", b"x" * 100, tarfile.REGTYPE))
    for dictionary, fine in ((64 << 20, True), (1 << 30, False)):  # the first: of `xz -9`
        (root / "a").write_bytes(with_dictionary(lzma.compress(plain), dictionary))
        if fine:
            assert unpack(files, "a", f"new{dictionary}").files == 1
            continue
        with pytest.raises(BadArchive, match="Memory usage limit"):
            unpack(files, "a", f"new{dictionary}")


def with_dictionary(packed: bytes, size: int) -> bytes:
    """An xz file whose block says another size of the dictionary, a power of two."""
    header = bytearray(packed[12 : 12 + (packed[12] + 1) * 4])
    at = header.index(b"\x21\x01") + 2
    header[at] = (size.bit_length() - 13) * 2
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    return packed[:12] + bytes(header) + packed[12 + len(header) :]


def test_an_xz_archive_in_several_streams(root: Path, files: RootedFiles) -> None:
    plain = a_tar(("x", b"x" * 100_000, tarfile.REGTYPE), ("y", b"yy", tarfile.REGTYPE))
    parts = [lzma.compress(plain[at : at + 50_000]) for at in range(0, len(plain), 50_000)]
    (root / "a").write_bytes(bytes(70_000 * 4).join(parts) + bytes(8))
    assert unpack(files, "a", "new").bytes == 100_002
    (root / "a").write_bytes(parts[0] + parts[1][:-40])
    with pytest.raises(BadArchive, match="cut off"):
        unpack(files, "a", "other")


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"") * 50_000,
        bz2.compress(b"") * 50_000,
        lzma.compress(b"") * 50_000,
        b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 1_000_000,
    ],
    ids=["gz", "bz2", "xz", "a long name"],
)
def test_much_that_unpacks_to_nothing_is_not_read_after_the_time_is_over(
    root: Path, files: RootedFiles, packed: bytes
) -> None:
    (root / "a").write_bytes(packed)
    looked = iter(range(10))
    with pytest.raises(BadArchive, match="took too long"):
        unpack(files, "a", "new", stopped=lambda: next(looked) > 3)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "x", "."])
def test_links_are_left_out(root: Path, files: RootedFiles, target: str) -> None:
    link = target.encode()
    (root / "a").write_bytes(
        a_tar(
            ("soft", link, tarfile.SYMTYPE),
            ("hard", link, tarfile.LNKTYPE),
            ("x", b"1", tarfile.REGTYPE),
        )
    )
    assert unpack(files, "a", "new").links == 2
    assert os.listdir(root / "new") == ["x"]
    (root / "a").write_bytes(a_zip(("soft", link, 0o120777), ("x", b"1", 0)))
    assert unpack(files, "a", "more").links == 1
    assert os.listdir(root / "more") == ["x"]


def test_a_link_and_then_a_file_beneath_it(root: Path, files: RootedFiles) -> None:
    (root / "a").write_bytes(
        a_tar(("d", b"../..", tarfile.SYMTYPE), ("d/outside", b"changed", tarfile.REGTYPE))
    )
    assert unpack(files, "a", "new").links == 1
    assert (root / "new/d/outside").read_text() == "changed"
    assert (root.parent / "outside").read_text() == "untouched"


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=["chr", "blk", "fifo"]
)
def test_devices_are_refused(root: Path, files: RootedFiles, kind: bytes) -> None:
    (root / "a").write_bytes(a_tar(("x", b"1", tarfile.REGTYPE), ("d", b"", kind)))
    with pytest.raises(BadArchive, match="a device or a pipe"):
        unpack(files, "a", "new")
    (root / "a").write_bytes(a_zip(("d", b"", 0o20666)))
    with pytest.raises(BadArchive, match="a device or a pipe"):
        unpack(files, "a", "new")
    assert not (root / "new").exists()


@pytest.mark.parametrize(
    "name",
    [".git/hooks/pre-commit", "a/.GIT/config", ".ssh", "x/.bashrc", ".git./x", ".g\u200cit/x"],
)
def test_forbidden_names(root: Path, files: RootedFiles, name: str) -> None:
    (root / "a").write_bytes(file_of(name, "zip"))
    with pytest.raises(BadArchive, match="nothing that is unpacked may be called"):
        unpack(files, "a", "new", forbidden={".git", ".ssh", ".bashrc"})


@pytest.mark.parametrize(
    "names", [("x", "x"), ("x", "./x"), ("x", "x/y"), ("x/y", "x"), ("d/", "d")], ids="/".join
)
def test_what_is_there_twice(root: Path, files: RootedFiles, names: tuple[str, str]) -> None:
    (root / "a").write_bytes(a_zip(*[(name, b"", 0) for name in names]))
    with pytest.raises(BadArchive):
        unpack(files, "a", "new")


def test_nothing_is_written_over(root: Path, files: RootedFiles) -> None:
    (root / "a").write_bytes(file_of("x", "zip"))
    (root / "old").mkdir()
    (root / "old/y").touch()
    with pytest.raises(FileExistsError):
        unpack(files, "a", "old")
    with pytest.raises(NotADirectoryError):
        unpack(files, "a", "a")
    with pytest.raises(PermissionError):
        unpack(files, "a", "../new")
    assert everything(root) == ["old", "old/y"]


# --- what grows


def zip_bomb() -> bytes:
    return a_zip(("x", bytes(40 * 1024**2), 0))


def lying_zip_bomb() -> bytes:
    """Says that it holds one byte."""
    data = bytearray(zip_bomb())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1)
    return bytes(data)


def tar_bomb() -> bytes:
    return a_tar(("x", bytes(40 * 1024**2), tarfile.REGTYPE), compress="gz")


def many_entries() -> bytes:
    return a_tar(*[(str(n), b"", tarfile.REGTYPE) for n in range(10_001)])


def many_in_a_zip() -> bytes:
    return a_zip(*[(str(n), b"", 0) for n in range(10_001)])


def huge_header() -> bytes:
    """A name of 4 MiB, as GNU tar writes one."""
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 4 * 1024**2
    return gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + b"x" * (4 * 1024**2 + 1024))


def negative_size() -> bytes:
    info = tarfile.TarInfo("x")
    info.size = 0
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 8 + struct.pack(">i", -1024)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(2048)


def sparse() -> bytes:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def encrypted() -> bytes:
    data = bytearray(a_zip(("x", b"secret", 0)))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def pressed_zip(kind: int) -> bytes:
    """Says that it holds one byte, pressed in a way in which a thousand may be gigabytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        archive.writestr("x", bytes(2**20))
    data = bytearray(made.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1)
    return bytes(data)


def digits() -> bytes:
    """A header in which tarfile looks for a number, anew from each digit."""
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 2**20
    return head.tobuf(tarfile.USTAR_FORMAT) + b"1" * 2**20 + tarfile.TarInfo("y").tobuf()


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_zipfile_unpacks_at_once_is_not(root: Path, files: RootedFiles, kind: int) -> None:
    (root / "a").write_bytes(pressed_zip(kind))
    with pytest.raises(BadArchive, match="packed in a way that is not unpacked"):
        unpack(files, "a", "new")
    assert everything(root) == []


def test_a_header_made_to_be_slow_is_not_read(root: Path, files: RootedFiles) -> None:
    (root / "a").write_bytes(digits())
    with quick(), pytest.raises(BadArchive, match="headers is too large"):
        unpack(files, "a", "new")


@pytest.mark.parametrize(
    "make",
    [
        zip_bomb,
        lying_zip_bomb,
        tar_bomb,
        many_entries,
        many_in_a_zip,
        huge_header,
        negative_size,
        sparse,
        encrypted,
    ],
    ids=lambda make: make.__name__,
)
def test_bombs_and_lies(root: Path, files: RootedFiles, make: Callable[[], bytes]) -> None:
    (root / "a").write_bytes(make())
    with pytest.raises(BadArchive):
        unpack(files, "a", "new")
    written = sum(path.stat().st_size for path in root.rglob("new/*"))
    assert written <= archives.FREE_BYTES + 65_536


def test_the_sum_is_bounded(
    root: Path, files: RootedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    (root / "a").write_bytes(a_tar(*[(str(n), b"x" * 300, tarfile.REGTYPE) for n in range(4)]))
    with pytest.raises(BadArchive, match="holds more than 1,000 bytes"):
        unpack(files, "a", "new")


def test_it_can_be_stopped(root: Path, files: RootedFiles) -> None:
    (root / "a").write_bytes(file_of("x", "tar"))
    with pytest.raises(BadArchive, match="stopped"):
        unpack(files, "a", "new", stopped=lambda: True)


@given(
    st.sampled_from(["zip", "tar", "tar.gz", "tar.xz"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000),
)
@example("tar", [], 0)
@example("zip", [(101, 37)], 0)  # its directory is before its beginning
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_is_told_and_leads_nowhere(
    tmp_path_factory: pytest.TempPathFactory, kind: str, flips: list[tuple[int, int]], cut: int
) -> None:
    base = tmp_path_factory.mktemp("damaged")
    root = base / "root"
    root.mkdir()
    data = bytearray(file_of("d/x", kind))
    for at, value in flips:
        data[at % len(data)] = value
    if cut:
        del data[cut % len(data) :]
    (root / "a").write_bytes(data)
    with RootedFiles([root]) as files:
        try:
            unpack(files, "a", "new")
        except BadArchive:
            pass
    assert os.listdir(base) == ["root"]
    assert set(os.listdir(root)) <= {"a", "new"}


@given(st.text(max_size=40))
def test_what_passes_is_plain(name: str) -> None:
    try:
        parts = checked(name)
    except BadArchive:
        return
    assert not any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts)
    assert os.path.normpath(os.path.join("/r", *parts)).startswith("/r")
