"""Grep: finds what is there, says what it left out, and ends whatever the pattern is."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from lorimer.tools import Rule
from lorimer.tools.builtin.glob import Glob
from lorimer.tools.builtin.grep import Grep
from lorimer.tools.policy.modes import Action
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset
from tests.tools.test_file_tools import error, ok


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "a.txt").write_text("alpha\nbeta\ngamma\nAlpha 42\n")
    (tmp_path / "src/b.py").write_text("def alpha():\r\n    return 42\r\n")
    (tmp_path / "src/c.bin").write_bytes(b"alpha\0")
    (tmp_path / ".git/config").write_text("alpha\n")
    return tmp_path


@pytest.mark.parametrize("pattern", ["alpha", "alph[a]"])
def test_words_and_regexes_give_the_same(tree: Path, pattern: str) -> None:
    assert ok(tree, "Grep", pattern=pattern) == "a.txt:1:alpha\nsrc/b.py:1:def alpha():"
    assert ok(tree, "Grep", pattern=pattern, case_insensitive=True) == (
        "a.txt:1:alpha\na.txt:4:Alpha 42\nsrc/b.py:1:def alpha():"
    )
    assert ok(tree, "Grep", pattern=pattern, output_mode="files") == "a.txt\nsrc/b.py"
    assert ok(tree, "Grep", pattern=pattern, output_mode="count", case_insensitive=True) == (
        "a.txt:2\nsrc/b.py:1"
    )
    assert ok(tree, "Grep", pattern=pattern, glob="*.py") == "src/b.py:1:def alpha():"
    assert ok(tree, "Grep", pattern=pattern, glob="src/*.txt") == "No matches."
    assert ok(tree, "Grep", pattern=pattern, path="src") == "src/b.py:1:def alpha():"
    assert ok(tree, "Grep", pattern=pattern, path="a.txt") == "a.txt:1:alpha"
    assert ok(tree, "Grep", pattern=pattern, path=".git") == ".git/config:1:alpha"


@pytest.mark.parametrize("pattern", ["beta", "bet[a]"])
def test_lines_around(tree: Path, pattern: str) -> None:
    (tree / "z.txt").write_text("beta\n" + "filler\n" * 5 + "beta\nend\n")
    assert ok(tree, "Grep", pattern=pattern, context=1) == "\n".join(
        [
            "a.txt-1-alpha",
            "a.txt:2:beta",
            "a.txt-3-gamma",
            "--",
            "z.txt:1:beta",
            "z.txt-2-filler",
            "--",
            "z.txt-6-filler",
            "z.txt:7:beta",
            "z.txt-8-end",
        ]
    )


def test_regexes_are_pythons(tree: Path) -> None:
    assert ok(tree, "Grep", pattern=r"^\s+return \d+$") == "src/b.py:2:    return 42"
    told = error(tree, "Grep", pattern="(alpha")
    assert told.startswith("ERROR exec.tool.invalid_input: input.pattern: not a regular expression")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("none", "none: No such file or directory"),
        ("..", "ERROR exec.tool.access_denied: ..: outside the permitted folders"),
    ],
)
def test_places_that_cannot_be_searched(tree: Path, path: str, told: str) -> None:
    assert error(tree, "Grep", pattern="x", path=path).startswith(told)


def test_more_than_200_files_are_all_searched(tmp_path: Path) -> None:
    for number in range(450):
        (tmp_path / f"{number:03}.txt").write_text("needle\n" if number == 449 else "hay\n")
    assert ok(tmp_path, "Grep", pattern="needle") == "449.txt:1:needle"
    assert ok(tmp_path, "Grep", pattern="ne{3}dle") == "No matches."
    assert ok(tmp_path, "Grep", pattern="ne+dle") == "449.txt:1:needle"


@pytest.mark.parametrize("pattern", ["needle", "n[e]edle"])
def test_many_matches_are_cut_and_it_says_so(tmp_path: Path, pattern: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("needle\n" * 200)
    lines = ok(tmp_path, "Grep", pattern=pattern).split("\n")
    assert len(lines) == 301
    assert lines[0] == "0.txt:1:needle"
    assert lines[299] == "1.txt:100:needle"
    assert lines[-1].startswith("[cut after 300 of ")


def test_many_files_are_cut_and_it_says_so(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number:03}.txt").write_text("needle\n")
    lines = ok(tmp_path, "Grep", pattern="needle", output_mode="files").split("\n")
    assert len(lines) == 501
    assert lines[-1] == "[cut after 500 files; narrow the search]"


def test_large_files_are_left_out_unless_named(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_bytes(b"needle\n" + b"x" * (3 << 20))
    told = ok(tmp_path, "Grep", pattern="needle")
    assert told == "No matches.\n[1 files of more than 2,097,152 bytes were left out]"
    assert ok(tmp_path, "Grep", pattern="needle", path="big.txt") == "big.txt:1:needle"
    (tmp_path / "huge.txt").write_bytes(b"needle\n" + b"x" * (5 << 20))
    told = ok(tmp_path, "Grep", pattern="needle", path="huge.txt")
    assert told == "huge.txt:1:needle\n[only the first 4,194,304 bytes were searched]"


def test_long_lines_are_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 100_000)
    assert ok(tmp_path, "Grep", pattern="xxx") == "a.txt:1:" + "x" * 500


def test_links_are_not_searched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("needle")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "out").symlink_to(tmp_path)
    assert ok(root, "Grep", pattern="needle") == "No matches."
    assert "exec.tool.access_denied" in error(root, "Grep", pattern="needle", path="link.txt")


def test_a_catastrophic_regex_is_ended_and_the_loop_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 60 + "!\n")

    async def main() -> None:
        bench = await Bench.make()
        clock = bench.context.world.monotonic
        longest, running = 0.0, True

        async def heartbeat() -> None:
            nonlocal longest
            while running:
                before = clock()
                await asyncio.sleep(0.01)
                longest = max(longest, clock() - before)

        with RootedFiles([tmp_path]) as files:
            tools = toolset(Grep(regex_s=0.5), files=files)
            beating = asyncio.create_task(heartbeat())
            began = clock()
            block = await bench.call(tools, "Grep", {"pattern": "^(a+)+$"})
            took = clock() - began
            running = False
            await beating
        assert block.is_error
        assert str(block.content).startswith("[stopped: matching took more than 0.5 s")
        assert took < 3
        assert longest < 0.5

    run(main)


def test_what_was_found_before_a_regex_got_stuck_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaa\n" + "x" * (1 << 20))
    (tmp_path / "aa.txt").write_text("x" * (1 << 20))  # more than one batch
    (tmp_path / "b.txt").write_text("a" * 60 + "!\n")

    async def main() -> None:
        bench = await Bench.make()
        with RootedFiles([tmp_path]) as files:
            tools = toolset(Grep(regex_s=1.5), files=files)
            block = await bench.call(tools, "Grep", {"pattern": "^(a+)+$"})
        told = str(block.content).split("\n")
        assert told[0] == "a.txt:1:aaa"
        assert told[1].startswith("[stopped: matching took more than 1.5 s")

    run(main)


@pytest.mark.parametrize("context", [0, 2])
def test_lines_that_are_not_shown_are_not_kept(tmp_path: Path, context: int) -> None:
    (tmp_path / "many").write_text("x\n" * 200_000)
    tracemalloc.start()
    try:
        found = ok(tmp_path, "Grep", pattern="x", context=context)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert found.startswith("many:1:x\nmany:2:x\n")
    assert found.endswith("[cut after 300 of 200,000+ matching lines; narrow the search]")


@pytest.mark.parametrize("action", [Action.DENY, Action.ASK])
def test_what_a_rule_denies_is_not_found_from_a_folder_above(
    tmp_path: Path, action: Action
) -> None:
    for name in ("a.txt", "sub/b.txt", "sub/secret/c.txt", "other/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("alpha")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    specs = ("path=./sub/secret/**", "path=./other/d.txt")
    rules = [
        Rule.parse(f"{tool}({spec})", pattern=True, action=action)
        for tool in ("Grep", "Glob")
        for spec in specs
    ]

    async def main() -> None:
        bench, calls = await Bench.make(), 0
        tools = toolset(Grep(), Glob(), files=RootedFiles([tmp_path]), rules=rules)

        async def call(tool: str, **input: str) -> str:
            nonlocal calls
            calls += 1
            return str((await bench.call(tools, tool, input, index=calls)).content)

        left_out = "of the files, which were left out]"
        for pattern in ("alpha", "alph[a]"):
            found = await call("Grep", pattern=pattern)
            assert found == f"a.txt:1:alpha\nsub/b.txt:1:alpha\n[rules deny searching 2 {left_out}"
            found = await call("Grep", pattern=pattern, path="link")
            assert found == f"link/b.txt:1:alpha\n[rules deny searching 1 {left_out}"
        assert "access_denied" in await call("Grep", pattern="alpha", path="sub/secret")
        assert set((await call("Glob", pattern="**/*")).split("\n")) == {"a.txt", "sub/b.txt"}
        for pattern in ("sub/secret/*", f"{tmp_path}/sub/secret/*"):
            assert await call("Glob", pattern=pattern) == f"No file matches {pattern}."

    run(main)
