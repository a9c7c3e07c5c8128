"""Files given with a run: staged, told by id, read by id; pictures shown."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.messages import ImageBlock
from lorimer.run.inputs import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_IMAGE_BYTES,
    MAX_NAME,
    FolderInputFiles,
    InMemoryInputFiles,
    InputFile,
    InputFiles,
    ReadInput,
    Staging,
    clean_name,
    drop,
    stage,
)
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, toolset

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


@pytest.fixture(params=["memory", "folder"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> InputFiles:
    if request.param == "memory":
        return InMemoryInputFiles()
    return FolderInputFiles(RootedFiles([tmp_path]))


class Failing(InMemoryInputFiles):
    async def stage(self, run_id: str, id: str, file: InputFile) -> None:
        if file.name == "bad.txt":
            raise OSError("disk full")
        await super().stage(run_id, id, file)


def test_row_54_files_are_told_by_id_and_never_inlined(port: InputFiles) -> None:
    files = [InputFile("a.csv", b"secret,rows\n", "text/csv"), InputFile("b", b"\0\1")]
    staging = asyncio.run(stage(port, "r1", files))
    assert staging.summary_block is not None
    assert staging.summary_block.text == (
        "Files given with this message; read_input reads one by its id:\n"
        "- file_1: a.csv (text/csv, 12 bytes)\n"
        "- file_2: b (application/octet-stream, 2 bytes)"
    )


def test_row_54_empty_large_and_failing_files_are_left_out_with_a_note() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return MAX_FILE_BYTES + 1

    files = [
        InputFile("empty.txt", b""),
        InputFile("bad.txt", b"x"),
        InputFile("large.txt", Large(b"x")),
        InputFile("good.txt", b"x"),
    ]
    staging = asyncio.run(stage(Failing(), "r1", files))
    assert [(file.id, file.name) for file in staging.files] == [("file_2", "good.txt")]
    assert staging.notes == (
        "empty.txt: it is empty",
        "bad.txt: it could not be kept",
        "large.txt: its 50,000,001 bytes are more than 50,000,000",
    )
    assert staging.summary_block is not None
    assert "[left out: bad.txt: it could not be kept]" in staging.summary_block.text


def test_row_54_names_are_made_unlike_and_clean(port: InputFiles) -> None:
    names = ["../etc/a.txt", "a.txt", "A.TXT", "a-2.txt", "C:\\x\\b\n[left out]", "..", "x" * 300]
    staging = asyncio.run(stage(port, "r1", [InputFile(name, b"1") for name in names]))
    assert [file.name for file in staging.files] == [
        "a.txt",
        "a-2.txt",
        "A-3.TXT",
        "a-2-2.txt",
        "b_left out_",
        "file",
        "x" * MAX_NAME,
    ]


@given(st.text())
def test_row_54_no_name_can_be_a_path_or_a_line(name: str) -> None:
    clean = clean_name(name)
    assert 0 < len(clean) <= MAX_NAME
    assert not re.search(r"[\\/\n\r\0\[\]]", clean)
    assert clean.strip(".")
    clean.encode()


def test_row_54_without_a_port_the_model_is_told_that_it_cannot_read_them() -> None:
    staging = asyncio.run(stage(None, "r1", [InputFile("a.txt", b"x"), InputFile("i", PNG)]))
    assert staging.notes == ("a.txt: files cannot be read here",)
    assert len(staging.images) == 1
    assert Staging().summary_block is None


def test_row_54_there_is_a_cap_on_how_many_there_are() -> None:
    files = [InputFile(f"{n}", b"x") for n in range(MAX_FILES + 3)]
    staging = asyncio.run(stage(InMemoryInputFiles(), "r1", files))
    assert len(staging.files) == MAX_FILES
    assert staging.notes == (f"3 more files, at most {MAX_FILES} are taken",)


def test_row_53_pictures_among_the_files_are_shown_by_what_they_are() -> None:
    files = [InputFile("a.jpg", PNG, "image/jpeg"), InputFile("b.png", b"text", "image/png")]
    staging = asyncio.run(stage(InMemoryInputFiles(), "r1", files))
    assert staging.images == (ImageBlock("image/png", base64.b64encode(PNG).decode()),)
    assert [file.name for file in staging.files] == ["b.png"]


def test_a_page_ends_where_a_line_or_a_character_does(port: InputFiles) -> None:
    text = "".join([f"{n}: äöü€😀\n" for n in range(300)]) + "é" * 5_000

    async def main() -> None:
        staging = await stage(port, "r_test", [InputFile("a.txt", text.encode())])
        tool = ReadInput(port)
        tool.lend("r_test", staging.files)
        tool.max_result_chars = 1_001  # pages of 801 bytes: no multiple of any character's
        bench, tools = await Bench.make(), toolset(tool)
        got, offset, pages = "", 0, 0
        while offset is not None:
            block = await bench.call(
                tools, "read_input", {"id": "file_1", "offset": offset}, index=pages
            )
            assert not block.is_error, block.content
            assert isinstance(block.content, str)
            more = re.search(
                r"\n\[bytes [\d,-]+ of [\d,]+; go on with offset=(\d+)\]$", block.content
            )
            got += block.content[: more.start() if more else None]
            offset = int(more[1]) if more else None
            pages += 1
        assert got == text
        assert pages > 10

    asyncio.run(main())


def test_what_is_not_there_is_told_with_what_is(port: InputFiles) -> None:
    async def main() -> None:
        staging = await stage(port, "r_test", [InputFile("a", b"\0\0"), InputFile("b", b"text")])
        tool = ReadInput(port)
        tool.lend("r_test", staging.files)
        bench, tools = await Bench.make(), toolset(tool)
        asked = [
            {"id": "../../a"},
            {"id": "file_1"},
            {"id": "file_2", "offset": 4},
            {"id": "file_2", "offset": -1},
        ]
        told = [
            str((await bench.call(tools, "read_input", each, index=n)).content)
            for n, each in enumerate(asked)
        ]
        assert told[:3] == [
            "There is no file '../../a', but: file_1, file_2.",
            "a (application/octet-stream, 2 bytes) holds no text.",
            "b has 4 bytes.",
        ]
        assert "exec.tool.invalid_input" in told[3]
        tool.end("r_test")
        after = await bench.call(tools, "read_input", {"id": "file_2"}, index=9)
        assert (after.content, after.is_error) == ("There is no file 'file_2', but: none.", True)

    asyncio.run(main())


def test_runs_do_not_see_each_others_files_and_leave_none(port: InputFiles, tmp_path: Path) -> None:
    async def main() -> None:
        await stage(port, "r1", [InputFile("a", b"one"), InputFile("b", b"two")])
        await stage(port, "r2/../r1", [InputFile("a", b"three")])
        await stage(port, "r1", [InputFile("a", b"ONE"), InputFile("b", b"TWO")])  # resumed
        assert await port.read("r1", "file_1", 0, 10) == b"ONE"
        assert await port.read("r1", "file_3", 0, 10) is None
        assert await port.read("r2/../r1", "file_1", 1, 2) == b"hr"
        await drop(port, "r1")
        await drop(port, "r1")
        assert await port.read("r1", "file_1", 0, 10) is None
        assert await port.read("r2/../r1", "file_1", 0, 10) == b"three"
        await drop(port, "r2/../r1")
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    asyncio.run(main())


def test_memory_is_given_back() -> None:
    port = InMemoryInputFiles(max_bytes=10)

    async def main() -> None:
        first = await stage(port, "r1", [InputFile("a", b"123456"), InputFile("b", b"12345")])
        assert first.notes == ("b: it could not be kept",)
        again = await stage(port, "r1", [InputFile("a", b"1234567890")])
        assert not again.notes
        await drop(port, "r1")
        assert not (await stage(port, "r2", [InputFile("a", b"1234567890")])).notes

    asyncio.run(main())


def test_row_54_a_picture_that_is_too_large_to_show_is_a_file_like_any_other() -> None:
    shown, kept = PNG.ljust(MAX_IMAGE_BYTES, b"0"), PNG.ljust(MAX_IMAGE_BYTES + 1, b"0")
    files = [InputFile("a.png", shown), InputFile("b.png", kept)]
    staging = asyncio.run(stage(InMemoryInputFiles(), "r1", files))
    assert len(staging.images) == 1
    assert [(file.name, file.mime, file.size) for file in staging.files] == [
        ("b.png", "image/png", MAX_IMAGE_BYTES + 1)
    ]
    assert staging.notes == ()


def test_a_port_that_cannot_drop_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(InMemoryInputFiles):
        async def drop(self, run_id: str) -> None:
            raise OSError("no")

    asyncio.run(drop(Stuck(), "r1"))
    asyncio.run(drop(None, "r1"))
    assert "are not dropped" in caplog.text


def test_a_file_has_the_id_that_it_had_before_its_run_was_interrupted(
    port: InputFiles, tmp_path: Path
) -> None:
    class Full(Failing):
        """Full when the run begins, and no more when it is resumed."""

        async def read(self, run_id: str, id: str, offset: int, limit: int) -> bytes | None:
            return await port.read(run_id, id, offset, limit)

        async def stage(self, run_id: str, id: str, file: InputFile) -> None:
            await super().stage(run_id, id, file)
            await port.stage(run_id, id, file)

    async def main() -> None:
        files = [InputFile("bad.txt", b"first"), InputFile("good.txt", b"second")]
        before = await stage(Full(), "r1", files)
        (good,) = before.files
        assert await port.read("r1", good.id, 0, 10) == b"second"
        await stage(port, "r1", files)
        assert await port.read("r1", good.id, 0, 10) == b"second"
        await stage(Full(), "r2", files)
        for run_id in ("r1", "r2"):
            await drop(port, run_id)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    asyncio.run(main())
