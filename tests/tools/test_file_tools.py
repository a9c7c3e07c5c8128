"""Read, Write, Edit and Glob: beneath the roots, and clear about what they did."""

from __future__ import annotations

import os
import random
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.limits import Limits
from lorimer.core.messages import ImageBlock
from lorimer.tools import builtin_tools
from lorimer.tools.builtin.patterns import expand_braces, name_or_path_matcher, path_matcher
from lorimer.tools.builtin.read import MAX_BYTES
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


def call(root: Path, name: str, *, limits: Limits = Limits(), **arguments: Any) -> Any:
    """One call of a built-in tool with `root` open; (content, is_error)."""

    async def main() -> Any:
        bench = await Bench.make(limits=limits)
        with RootedFiles([root]) as files:
            tools = toolset(*builtin_tools(["*"]), files=files)
            block = await bench.call(tools, name, arguments)
        return block.content, block.is_error

    return run(main)


def ok(root: Path, name: str, **arguments: Any) -> str:
    content, is_error = call(root, name, **arguments)
    assert not is_error, content
    return content


def error(root: Path, name: str, **arguments: Any) -> str:
    content, is_error = call(root, name, **arguments)
    assert is_error, content
    return content


# --- Read ----------------------------------------------------------------------------------------


def test_read_numbers_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo \xc3\xa9\n\xff\n")
    told = "     1\tone\n     2\ttwo é\n     3\t\ufffd"
    assert ok(tmp_path, "Read", file_path="a.txt") == told
    assert ok(tmp_path, "Read", file_path=str(tmp_path / "a.txt")) == told


def test_read_in_pages(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 5001)))
    page = ok(tmp_path, "Read", file_path="a.txt").split("\n")
    assert page[0] == "     1\tline 1"
    assert page[1999] == "  2000\tline 2000"
    assert page[2000] == "[lines 1-2000 of 5,000; go on with offset=2001]"
    page = ok(tmp_path, "Read", file_path="a.txt", offset=4999, limit=10).split("\n")
    assert page == ["  4999\tline 4999", "  5000\tline 5000"]
    assert "offset 6000 is past its end" in error(tmp_path, "Read", file_path="a.txt", offset=6000)


def test_read_stays_within_the_limit_of_results(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(("x" * 100 + "\n") * 1000)
    content, _ = call(tmp_path, "Read", file_path="a.txt", limits=Limits(max_result_chars=2000))
    assert len(content) < 2000
    assert content.endswith("[lines 1-15 of 1,000; go on with offset=16]")
    assert not (tmp_path / ".lorimer").exists()


def test_read_cuts_long_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("é" * 100_000 + "\nend")
    first, second = ok(tmp_path, "Read", file_path="a.txt").split("\n")
    assert first == "     1\t" + "é" * 2000 + "… [line cut]"
    assert second == "     2\tend"


def test_read_of_a_huge_file_says_how_far_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456\n" * (2 << 20))
    assert "of 524,288+; go on" in ok(tmp_path, "Read", file_path="a.txt", limit=1)
    last = ok(tmp_path, "Read", file_path="a.txt", offset=524_288)
    assert last.endswith("[only the first 4,194,304 bytes of this file can be read; Grep finds]")


def test_read_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bin").write_bytes(b"a\0" * 1000)
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 no NUL at all")
    (tmp_path / "c.png").write_bytes(PNG + bytes(5 << 20))
    assert ok(tmp_path, "Read", file_path="empty") == "empty is empty."
    assert ok(tmp_path, "Read", file_path="bin") == "bin is a binary file of 2,000 bytes."
    (image,) = call(tmp_path, "Read", file_path="a.png")[0]
    assert isinstance(image, ImageBlock)
    assert image.media_type == "image/png"
    assert image.data.startswith("iVBORw0KGgo")
    (image,) = call(tmp_path, "Read", file_path="b.jpg")[0]
    assert image.media_type == "image/jpeg"
    assert "at most 4,194,304 can be shown" in ok(tmp_path, "Read", file_path="c.png")


@pytest.mark.parametrize("size", [8, 98_303, 98_304, 98_305, 196_609, MAX_BYTES])
def test_a_picture_of_any_size_is_whole(tmp_path: Path, size: int) -> None:
    data = (PNG + random.Random(size).randbytes(size))[:size]
    (tmp_path / "a.png").write_bytes(data)
    (image,) = call(tmp_path, "Read", file_path="a.png")[0]
    assert isinstance(image, ImageBlock)
    assert b64decode(image.data) == data


def test_a_picture_that_is_a_byte_too_large_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG + bytes(MAX_BYTES + 1 - len(PNG)))
    told = ok(tmp_path, "Read", file_path="a.png")
    assert told == "a.png is an image of 4,194,305 bytes; at most 4,194,304 can be shown."


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("none", "none: No such file or directory"),
        (".", ".: Is a directory"),
        ("fifo", "fifo: not a regular file"),
        ("a\0b", "a\ufffdb: the name holds a NUL"),
        ("../x", "ERROR exec.tool.access_denied: ../x: outside the permitted folders"),
        ("/etc/passwd", "ERROR exec.tool.access_denied: /etc/passwd: outside the permitted"),
        ("link", "ERROR exec.tool.access_denied: link: outside the permitted folders"),
        ("", "ERROR exec.tool.invalid_input: input.file_path"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, path: str, told: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert error(tmp_path, "Read", file_path=path).startswith(told)


def test_without_files_nothing_is_read() -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(toolset(*builtin_tools(["Read"])), "Read", {"file_path": "a"})
        assert block.content == "ERROR exec.tool.access_denied: no files are open to tools here."

    run(main)


# --- Write ---------------------------------------------------------------------------------------


def test_write_creates_and_replaces(tmp_path: Path) -> None:
    told = ok(tmp_path, "Write", file_path="new/a.txt", content="héllo")
    assert told == "Created new/a.txt (6 bytes)."
    told = ok(tmp_path, "Write", file_path="new/a.txt", content="x\ud800")
    assert told == "Replaced the 6 bytes of new/a.txt by 4 bytes."
    assert (tmp_path / "new/a.txt").read_text() == "x\ufffd"
    assert os.listdir(tmp_path / "new") == ["a.txt"]


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "out/x"])
def test_write_stays_beneath_the_roots(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    assert "exec.tool.access_denied" in error(root, "Write", file_path=path, content="")
    assert sorted(os.listdir(tmp_path)) == ["root"]


def test_an_interrupted_write_is_simply_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make()
        with RootedFiles([tmp_path]) as files:
            tools = toolset(*builtin_tools(["Write"]), files=files)
            arguments = {"file_path": "a", "content": "x"}
            await bench.call(tools, "Write", arguments)
            resumed = await bench.again(1)
            block = await resumed.call(tools, "Write", arguments)
        assert block.content == "Replaced the 1 bytes of a by 1 bytes."

    run(main)


# --- Edit ----------------------------------------------------------------------------------------


def test_edit_replaces_what_is_there_once(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("a = 1\nb = 2\nc = 2\n")
    told = ok(tmp_path, "Edit", file_path="a.py", old_string="b = 2", new_string="b = 3")
    assert told == "Replaced 1 occurrence in a.py, line 2."
    assert file.read_text() == "a = 1\nb = 3\nc = 2\n"


def test_edit_of_what_is_there_more_than_once(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x\n\nx x\n")
    arguments = {"file_path": "a.py", "old_string": "x", "new_string": "yy"}
    told = error(tmp_path, "Edit", **arguments)
    assert told == (
        "a.py: old_string occurs 3 times (lines 1, 3, 3). Make it unique or set replace_all."
    )
    told = ok(tmp_path, "Edit", **arguments, replace_all=True)
    assert told == "Replaced 3 occurrences in a.py, the first in line 1."
    assert file.read_text() == "yy\n\nyy yy\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("absent", "x", "a.py: old_string does not occur. Read the file again"),
        ("if x:\n  go()", "x", "a.py: old_string does not occur. Line 1 has it with other white"),
        ("same", "same", "old_string and new_string are the same"),
        ("", "x", "ERROR exec.tool.invalid_input: input.old_string"),
    ],
)
def test_what_cannot_be_edited(tmp_path: Path, old: str, new: str, told: str) -> None:
    (tmp_path / "a.py").write_text("if  x:\n\tgo()\nsame")
    assert error(tmp_path, "Edit", file_path="a.py", old_string=old, new_string=new).startswith(
        told
    )
    assert (tmp_path / "a.py").read_text() == "if  x:\n\tgo()\nsame"


def test_edit_keeps_crlf(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a\r\nb\r\nc\r\n")
    ok(tmp_path, "Edit", file_path="a.txt", old_string="a\nb\n", new_string="x\ny\nz\n")
    assert file.read_bytes() == b"x\r\ny\r\nz\r\nc\r\n"
    ok(tmp_path, "Edit", file_path="a.txt", old_string="z", new_string="1\n2")
    assert file.read_bytes() == b"x\r\ny\r\n1\r\n2\r\nc\r\n"
    file.write_bytes(b"a\r\nb\n")  # mixed: as it is given
    ok(tmp_path, "Edit", file_path="a.txt", old_string="b", new_string="1\n2")
    assert file.read_bytes() == b"a\r\n1\n2\n"


def test_edit_needs_text_of_moderate_size(tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    (tmp_path / "big").write_bytes(b"x" * (3 << 20))
    arguments = {"old_string": "x", "new_string": "y"}
    assert "not UTF-8 text" in error(tmp_path, "Edit", file_path="bin", **arguments)
    assert "too large to edit" in error(tmp_path, "Edit", file_path="big", **arguments)
    assert "No such file" in error(tmp_path, "Edit", file_path="none", **arguments)


# --- Glob ----------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(
        ["b.py", "src/a.py", "src/deep/c.py", "src/d.ts", ".git/e.py", ".hidden/f.py", "g[1].py"]
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000 + number, 1000 + number))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pattern": "**/*.py"}, "g[1].py .hidden/f.py src/deep/c.py src/a.py b.py"),
        ({"pattern": "*.py"}, "g[1].py b.py"),
        ({"pattern": "src/*.{py,ts}"}, "src/d.ts src/a.py"),
        ({"pattern": "src/**"}, "src/d.ts src/deep/c.py src/a.py"),
        ({"pattern": "**/c.py"}, "src/deep/c.py"),
        ({"pattern": "**/deep/**/*"}, "src/deep/c.py"),
        ({"pattern": "*.py", "path": "src"}, "src/a.py"),
        ({"pattern": "./src/?.ts"}, "src/d.ts"),
        ({"pattern": "g[[]1].py"}, "g[1].py"),
    ],
)
def test_glob(tree: Path, arguments: dict[str, str], found: str) -> None:
    assert ok(tree, "Glob", **arguments) == found.replace(" ", "\n")


def test_glob_takes_absolute_patterns(tree: Path) -> None:
    assert ok(tree, "Glob", pattern=f"{tree}/src/*.py") == f"{tree}/src/a.py"
    assert ok(tree, "Glob", pattern="*.ts", path=f"{tree}/src") == f"{tree}/src/d.ts"
    assert "exec.tool.access_denied" in error(tree, "Glob", pattern="/etc/*")
    assert "exec.tool.access_denied" in error(tree, "Glob", pattern="*", path="..")


def test_glob_without_a_match(tree: Path) -> None:
    assert ok(tree, "Glob", pattern="*.rs") == "No file matches *.rs."
    assert error(tree, "Glob", pattern="*", path="none") == "none: No such file or directory"


def test_glob_says_when_it_is_cut(tmp_path: Path) -> None:
    for number in range(510):
        (tmp_path / f"{number}.txt").touch()
    lines = ok(tmp_path, "Glob", pattern="*").split("\n")
    assert len(lines) == 501
    assert lines[-1] == "[10 more files match; narrow the pattern]"


def test_glob_does_not_follow_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.py").touch()
    (root / "out").symlink_to(tmp_path)
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    assert ok(root, "Glob", pattern="**/*.py") == "No file matches **/*.py."


names = st.text(alphabet="ab.", min_size=1, max_size=4).filter(lambda name: name.strip("."))


@given(st.lists(names, min_size=1, max_size=6))
def test_a_path_matches_itself_and_the_double_star(parts: list[str]) -> None:
    path = "/".join(parts)
    assert path_matcher(path)(path)
    assert path_matcher("**")(path)
    assert path_matcher("**/" + parts[-1])(path)
    assert path_matcher(parts[0] + "/**")(path)
    assert name_or_path_matcher(parts[-1])(path)
    assert path_matcher("*")(path) is (len(parts) == 1)


def test_patterns_are_linear() -> None:
    assert not path_matcher("/".join(["**", "a*a*a*a*a*a*b"] * 20))("/".join(["a" * 40] * 200))
    many = path_matcher("**/" * 5_000 + "b")
    assert not any(many("a/" * 20 + str(each)) for each in range(1_000))


@pytest.mark.parametrize(
    ("tool", "input"),
    [("Glob", {"pattern": "[" * 501}), ("Grep", {"pattern": "a", "glob": "[" * 501})],
)
def test_a_pattern_has_a_length(tool: str, input: dict[str, str], tmp_path: Path) -> None:
    content, is_error = call(tmp_path, tool, **input)
    assert is_error
    assert "500 characters" in content


def test_braces() -> None:
    assert expand_braces("a{b,c{d,e}}.x") == ["ab.x", "acd.x", "ace.x"]
    assert expand_braces("{}") == [""]
    with pytest.raises(ValueError, match="more than 64"):
        expand_braces("{a,b}" * 10)


def test_a_pattern_of_too_many_alternatives_is_invalid(tree: Path) -> None:
    assert "exec.tool.invalid_input" in error(tree, "Glob", pattern="{a,b}" * 10)
    assert "exec.tool.invalid_input" in error(tree, "Grep", pattern="x", glob="{a,b}" * 10)


def test_an_edit_does_not_make_a_file_out_of_all_memory(tmp_path: Path) -> None:
    text = "a" * 1_000_000
    (tmp_path / "a.py").write_text(text)
    told = error(
        tmp_path, "Edit", file_path="a.py", old_string="a", new_string="b" * 1_000_000,
        replace_all=True,
    )  # fmt: skip
    assert told.startswith("a.py would get longer than 16,777,216 characters")
    assert (tmp_path / "a.py").read_text() == text
