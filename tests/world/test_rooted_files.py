"""Files beneath roots: what works, and that nothing leads out."""

import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorimer.world.beneath import OutsideRoots
from lorimer.world.files import Entry, NotRegularFile, RootedFiles

SECRET = b"secret"
SWAPS = 10_000 if os.environ.get("LORIMER_CAMPAIGN") else 1_000
EACH = SWAPS // 100
"""Reads, writes and refusals meanwhile, at least."""


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A folder with a secret, which holds the root `in`."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "file").write_bytes(b"inside")
    (tmp_path / "in" / "sub" / "deep").write_bytes(b"deeper")
    return tmp_path


@pytest.fixture
def root(outer: Path) -> Path:
    return outer / "in"


@pytest.fixture
def files(root: Path) -> Iterator[RootedFiles]:
    with RootedFiles([root]) as opened:
        yield opened


# --- reading and writing


def test_paths_are_relative_to_the_first_root_or_absolute(files: RootedFiles, root: Path) -> None:
    assert files.read_bytes("file", 100) == (b"inside", False)
    assert files.read_bytes("./sub//deep", 100) == (b"deeper", False)
    assert files.read_bytes("sub/../file", 100) == (b"inside", False)
    assert files.read_bytes(root / "sub" / "deep", 100) == (b"deeper", False)
    assert files.roots == (root,)


def test_reading_is_bounded(files: RootedFiles) -> None:
    assert files.read_bytes("file", 3) == (b"ins", True)
    assert files.read_bytes("file", 6) == (b"inside", False)
    assert files.read_bytes("file", 0) == (b"", True)


def test_several_roots(outer: Path) -> None:
    (outer / "other").mkdir()
    with RootedFiles([outer / "in", outer / "other", outer / "in" / "sub"]) as files:
        files.write_bytes(outer / "other" / "new", b"x")
        assert (outer / "other" / "new").read_bytes() == b"x"
        assert files.read_bytes(outer / "in" / "sub" / "deep", 9)[0] == b"deeper"
        with pytest.raises(OutsideRoots):  # the innermost root counts
            files.read_bytes(outer / "in" / "sub" / ".." / "file", 9)
        with pytest.raises(OutsideRoots):
            files.read_bytes(outer / "secret", 9)


def test_a_root_may_be_reached_through_a_link(outer: Path) -> None:
    (outer / "alias").symlink_to("in")
    with RootedFiles([outer / "alias"]) as files:
        assert files.read_bytes(outer / "alias" / "file", 9)[0] == b"inside"
        assert files.read_bytes(outer / "in" / "file", 9)[0] == b"inside"
        assert files.resolve("file") == (outer / "in" / "file").resolve()


def test_there_has_to_be_a_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root"):
        RootedFiles([])
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(FileNotFoundError):
        RootedFiles([tmp_path, tmp_path / "missing"])
    assert len(os.listdir("/dev/fd")) == before


def test_closed_roots_do_not_reach_strangers_files(root: Path) -> None:
    files = RootedFiles([root])
    walking = files.walk(".", 10)
    next(walking)
    files.close()
    files.close()
    with pytest.raises(ValueError, match="closed"):
        files.read_bytes("file", 9)
    with pytest.raises(ValueError, match="closed"):
        list(walking)


def test_writing_makes_folders_and_replaces_whole_files(files: RootedFiles, root: Path) -> None:
    files.write_bytes("a/b/c", b"one")
    held = (root / "a/b/c").open("rb")
    files.write_bytes("a/b/c", b"two")
    assert (root / "a/b/c").read_bytes() == b"two"
    assert held.read() == b"one", "the old file was changed in place"
    held.close()
    assert os.listdir(root / "a/b") == ["c"]


def test_writing_keeps_permission_bits(files: RootedFiles, root: Path) -> None:
    (root / "file").chmod(0o750)
    files.write_bytes("file", b"new")
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o750
    before = os.umask(0o027)
    try:
        files.write_bytes("fresh", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "fresh").stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    files: RootedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device.*'file'"):
        files.write_bytes("file", b"new")
    assert (root / "file").read_bytes() == b"inside"
    assert sorted(os.listdir(root)) == ["file", "sub"]


def test_mkdirs_exists_stat_unlink(files: RootedFiles, root: Path) -> None:
    files.mkdirs("x/y/z")
    files.mkdirs("x/y/z")
    files.mkdirs(".")
    assert (root / "x/y/z").is_dir()
    assert files.exists("x/y/z")
    assert not files.exists("x/y/nothing")
    assert not files.exists("file/below")
    assert files.stat("x").kind == "dir"
    os.link(root / "file", root / "twin")
    found = files.stat("file")
    assert (found.kind, found.size, found.links) == ("file", 6, 2)
    assert found.mtime_ns == (root / "file").stat().st_mtime_ns
    files.unlink("twin")
    assert not (root / "twin").exists()
    with pytest.raises(IsADirectoryError):
        files.unlink("x")
    with pytest.raises(IsADirectoryError):
        files.unlink(".")
    with pytest.raises(FileNotFoundError):
        files.unlink("nothing")


@pytest.mark.parametrize("path", ["sub", ".", "sub/..", "sub/."])
def test_a_folder_is_not_a_file(files: RootedFiles, path: str) -> None:
    with pytest.raises(IsADirectoryError):
        files.read_bytes(path, 9)
    with pytest.raises(IsADirectoryError):
        files.write_bytes(path, b"")


def test_errors_name_the_path_that_was_asked_for(files: RootedFiles, root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="sub/missing/x"):
        files.read_bytes("sub/missing/x", 9)
    with pytest.raises(NotADirectoryError, match="file/x"):
        files.write_bytes("file/x", b"")
    with pytest.raises(OutsideRoots, match=f"{root}.*'../secret'"):
        files.read_bytes("../secret", 9)


def test_listing_is_sorted_and_bounded(files: RootedFiles, root: Path) -> None:
    (root / "link").symlink_to("file")
    os.mkfifo(root / "pipe")
    whole = [
        Entry("file", "file"),
        Entry("link", "link"),
        Entry("pipe", "other"),
        Entry("sub", "dir"),
    ]
    assert files.list_dir(".", 4) == (whole, False)
    assert files.list_dir("", 3) == (whole[:3], True)
    with pytest.raises(NotADirectoryError):
        files.list_dir("file", 9)


def test_walking_goes_parents_first_and_into_no_link(files: RootedFiles, root: Path) -> None:
    (root / "sub" / "loop").symlink_to("..")
    (root / "sub" / "more").mkdir()
    (root / "sub" / "more" / "leaf").touch()
    (root / "zzz").touch()
    paths = ["file", "sub", "sub/deep", "sub/loop", "sub/more", "sub/more/leaf", "zzz"]
    assert [entry.path for entry in files.walk(".", 100)] == paths
    assert [entry.path for entry in files.walk("sub", 100)] == ["deep", "loop", "more", "more/leaf"]
    for most in range(len(paths)):
        assert [entry.path for entry in files.walk("", most)] == paths[:most]
    with pytest.raises(NotADirectoryError):
        list(files.walk("file", 9))
    with pytest.raises(OutsideRoots):
        list(files.walk("..", 9))


def test_walking_passes_over_what_vanishes(files: RootedFiles, root: Path) -> None:
    (root / "sub" / "deep").unlink()
    walking = files.walk(".", 100)
    assert next(walking).path == "file"
    assert next(walking).path == "sub"
    (root / "sub").rmdir()
    (root / "sub").symlink_to("/")
    assert list(walking) == []


def test_bottomless_folders_end_somewhere(files: RootedFiles, root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert 250 < len(list(files.walk(".", 1000))) < 300
    with pytest.raises(OSError, match="too long"):
        files.stat("d/" * 299)


@pytest.mark.parametrize("path", ["a\0b", "a/\ud800", "x" * 5000, "a/" + "y" * 300])
def test_impossible_names_are_oserrors(files: RootedFiles, path: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 # which one is the system's business
        files.write_bytes(path, b"")


# --- links


def test_links_that_stay_inside_are_followed(files: RootedFiles, root: Path) -> None:
    (root / "near").symlink_to("sub/deep")
    (root / "sub" / "up").symlink_to("../file")
    (root / "folder").symlink_to(root / "sub")
    (root / "chain").symlink_to("folder/up")
    (root / "sub" / "far").symlink_to(root / "sub" / "deep")
    assert files.read_bytes("near", 9)[0] == b"deeper"
    assert files.read_bytes("folder/deep", 9)[0] == b"deeper"
    assert files.read_bytes("chain", 9)[0] == b"inside"
    assert files.read_bytes("sub/far", 9)[0] == b"deeper"
    assert files.resolve("chain") == root / "file"
    assert files.resolve("folder/new/thing") == root / "sub/new/thing"
    files.write_bytes("chain", b"through")
    assert (root / "chain").is_symlink()
    assert (root / "file").read_bytes() == b"through"
    files.write_bytes("folder/x/y", b"made")
    assert (root / "sub/x/y").read_bytes() == b"made"


def test_dots_after_a_link_go_where_the_link_went(files: RootedFiles, root: Path) -> None:
    (root / "sub" / "inner").mkdir()
    (root / "jump").symlink_to("sub/inner")
    assert files.read_bytes("jump/../deep", 9)[0] == b"deeper"


def test_a_link_is_removed_not_what_it_points_to(files: RootedFiles, outer: Path) -> None:
    (outer / "in" / "out").symlink_to("../secret")
    files.unlink("out")
    assert not (outer / "in" / "out").is_symlink()
    assert (outer / "secret").read_bytes() == SECRET


def test_a_link_to_nothing_inside_is_where_a_write_goes(files: RootedFiles, root: Path) -> None:
    (root / "dangling").symlink_to("sub/new")
    assert not files.exists("dangling")
    files.write_bytes("dangling", b"x")
    assert (root / "sub/new").read_bytes() == b"x"


def test_circles_of_links_end(files: RootedFiles, root: Path) -> None:
    (root / "here").symlink_to("there")
    (root / "there").symlink_to("here")
    with pytest.raises(OSError, match="symbolic links"):
        files.read_bytes("here", 9)


EVERY_CALL: list[Callable[[RootedFiles, str], object]] = [
    lambda files, path: files.read_bytes(path, 9),
    lambda files, path: files.write_bytes(path, b"hacked"),
    lambda files, path: files.mkdirs(path),
    lambda files, path: files.exists(path),
    lambda files, path: files.stat(path),
    lambda files, path: files.resolve(path),
    lambda files, path: files.list_dir(path, 9),
    lambda files, path: list(files.walk(path, 9)),
    lambda files, path: files.unlink(f"{path}/x"),
]


@pytest.mark.parametrize(
    "path",
    (
        ".. ../secret ../in/file sub/../../secret / /etc/passwd {outer}/secret {root}/../secret "
        "//{root}/../secret {root}x/secret abs rel absdir/secret reldir/secret chain sub/out "
        "sub/reldir/../secret"
    ).split(),
)
def test_nothing_leads_out(path: str, files: RootedFiles, outer: Path) -> None:
    root = outer / "in"
    (outer / "inx").mkdir()
    (outer / "inx" / "secret").write_bytes(SECRET)
    (root / "abs").symlink_to(outer / "secret")
    (root / "rel").symlink_to("../secret")
    (root / "absdir").symlink_to(outer)
    (root / "reldir").symlink_to("..")
    (root / "sub" / "reldir").symlink_to("../..")
    (root / "sub" / "out").symlink_to("../reldir/secret")
    (root / "chain").symlink_to("sub/out")
    before = sorted(str(found) for found in outer.rglob("*"))
    for call in EVERY_CALL:
        with pytest.raises(OutsideRoots):
            call(files, path.format(root=root, outer=outer))
    assert sorted(str(found) for found in outer.rglob("*")) == before
    assert (outer / "secret").read_bytes() == SECRET


def test_files_that_are_none_are_refused_without_opening_them(
    files: RootedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the address of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for name in ("pipe", "socket"):
        with pytest.raises(NotRegularFile, match=name):
            files.read_bytes(name, 9)
        with pytest.raises(NotRegularFile, match=name):
            files.write_bytes(name, b"")
        assert files.stat(name).kind == "other"


def test_devices_and_kernel_files_are_refused() -> None:
    with RootedFiles(["/"]) as files:
        with pytest.raises(NotRegularFile):
            files.read_bytes("/dev/zero", 9)
        with pytest.raises(NotRegularFile):
            files.write_bytes("/dev/null", b"x")
        if sys.platform == "linux":
            with pytest.raises(NotRegularFile):
                files.read_bytes("/proc/self/environ", 9)


def test_no_descriptor_is_left_open(files: RootedFiles, root: Path) -> None:
    (root / "out").symlink_to("/etc")
    before = len(os.listdir("/dev/fd"))
    for path in ("sub/deep", "sub/../file", "out/passwd", "missing/x", "sub/deep/x", ".."):
        for call in EVERY_CALL:
            try:
                call(files, path)
            except OSError:
                pass
    next(files.walk(".", 5))
    assert len(os.listdir("/dev/fd")) == before


# --- attacks


def test_swapping_components_for_links_leads_nowhere(outer: Path) -> None:
    """A racer flips a folder, a link and a file for links to their forbidden twins and back."""
    root = outer / "in"
    for folder in (root / "swapped", root / "sub", outer / "trap"):
        folder.mkdir(exist_ok=True)
        (folder / "target").write_bytes(SECRET if folder.name == "trap" else b"inside")
    (root / "swapped-link").symlink_to("../trap")
    (root / "flipped").symlink_to("sub")
    flips = 0
    stop = threading.Event()

    def put_link(name: str, target: str) -> None:
        (root / "next").symlink_to(target)
        os.rename(root / "next", root / name)

    def flip() -> None:
        nonlocal flips
        while not stop.is_set():
            os.rename(root / "swapped", root / "aside")
            os.rename(root / "swapped-link", root / "swapped")
            put_link("flipped", "../trap")
            put_link("file", "../trap/target")
            os.rename(root / "swapped", root / "swapped-link")
            os.rename(root / "aside", root / "swapped")
            put_link("flipped", "sub")
            (root / "next").write_bytes(b"inside")
            os.rename(root / "next", root / "file")
            flips += 6

    racer = threading.Thread(target=flip)
    racer.start()
    read = written = refused = 0
    try:
        with RootedFiles([root]) as files:
            while racer.is_alive() and (flips < SWAPS or min(read, written, refused) < EACH):
                for path in ("swapped/target", "flipped/target", "file"):
                    try:
                        assert files.read_bytes(path, 100)[0] in (b"inside", b"written")
                        read += 1
                        if path != "swapped/target":  # making that folder would stop the racer
                            files.write_bytes(path, b"written")
                            written += 1
                    except OSError:
                        refused += 1
    finally:
        stop.set()
        racer.join()
    assert flips >= SWAPS
    assert (outer / "trap" / "target").read_bytes() == SECRET
    assert os.listdir(outer / "trap") == ["target"]


def test_a_link_put_there_at_the_last_moment_is_not_followed(
    files: RootedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def look_and_swap(
        path: str | int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        found = look(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if path == "file":
            (root / "file").unlink()
            (root / "file").symlink_to("../secret")
        return found

    monkeypatch.setattr(os, "stat", look_and_swap)
    with pytest.raises(OSError, match="symbolic links"):
        files.read_bytes("file", 9)
    monkeypatch.undo()
    (root / "file").unlink()
    (root / "file").write_bytes(b"inside")
    monkeypatch.setattr(os, "stat", look_and_swap)
    files.write_bytes("file", b"written")
    assert not (root / "file").is_symlink()
    assert (root / "../secret").read_bytes() == SECRET


def test_no_string_is_a_way_out(outer: Path) -> None:
    root = outer / "in"
    (root / "abs").symlink_to(outer)
    (root / "rel").symlink_to("..")
    (root / "round").symlink_to(f"{outer}/in/sub")
    (root / "sub" / "up").symlink_to("../..")
    words = [
        "..",
        ".",
        "",
        "sub",
        "file",
        "deep",
        "abs",
        "rel",
        "round",
        "up",
        "secret",
        "in",
        "new",
    ]
    part = st.sampled_from(words) | st.text(max_size=4)
    start = st.sampled_from(["", "/", "//", f"{root}/", f"{outer}/", f"{root}/../", "~/", "\\"])

    def joined(first: str, rest: list[str]) -> str:
        return first + "/".join(rest)

    paths = st.builds(joined, start, st.lists(part, max_size=7))

    def everything_outside() -> list[str]:
        return sorted(str(found) for found in outer.rglob("*") if not found.is_relative_to(root))

    before = everything_outside()

    with RootedFiles([root]) as files:

        @settings(max_examples=300, deadline=None)
        @given(paths)
        @example("rel/secret")
        @example(f"{root}/sub/up/secret")
        def never_out(path: str) -> None:
            try:
                real = files.resolve(path)
                assert real.is_relative_to(root)
                assert files.read_bytes(path, 100)[0] != SECRET
                files.write_bytes(path, b"changed")
                assert real.read_bytes() == b"changed"
            except OSError:
                pass
            try:
                files.unlink(f"{path}/new")
                files.mkdirs(f"{path}/new")
            except OSError:
                pass
            assert everything_outside() == before
            assert (outer / "secret").read_bytes() == SECRET

        never_out()
