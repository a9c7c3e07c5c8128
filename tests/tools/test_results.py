"""Results are rendered, cut to size, and what is cut is kept in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.limits import Limits
from lorimer.core.messages import ImageBlock, TextBlock
from lorimer.tools import ToolContext, ToolInput, ToolResult
from lorimer.tools.results import MAX_IMAGE_CHARS, shorten
from lorimer.world.files import RootedFiles
from tests.tools.support import Act, Bench, one_call, run, toolset

PICTURE = ImageBlock("image/png", "AA==")


def giving(content: object, **attributes: object) -> Act:
    def act(input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(content)

    return Act(act, **attributes)


def test_text_and_plain_data() -> None:
    assert run(lambda: one_call(giving("text"))).content == "text"
    assert run(lambda: one_call(giving(None))).content == ""
    assert run(lambda: one_call(giving([1, {"a": None}]))).content == '[1,{"a":null}]'
    assert run(lambda: one_call(giving([]))).content == "[]"
    assert run(lambda: one_call(giving("a\ud800\0"))).content == "a\ufffd\ufffd"


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        (TextBlock("a"), (TextBlock("a"),)),
        ([TextBlock("a"), PICTURE], (TextBlock("a"), PICTURE)),
        ([{"type": "text", "text": "a"}], (TextBlock("a"),)),
        ((PICTURE.to_json(),), (PICTURE,)),
        ([{"type": "image", "url": "https://x/y.png"}], (ImageBlock(url="https://x/y.png"),)),
    ],
)
def test_blocks_stay_blocks_also_when_resumed(content: object, blocks: object) -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(giving(content))
        block = await bench.call(tools, "act")
        assert block.content == blocks
        assert await (await bench.again()).call(tools, "act") == block

    run(main)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "a", "more": 1}],
        [{"type": "text"}],
        [TextBlock("a"), 3],
        [{"type": "row", "id": 1}],
    ],
)
def test_lists_of_anything_else_are_data(content: object) -> None:
    assert isinstance(run(lambda: one_call(giving(content))).content, str)


def test_a_long_result_keeps_head_and_tail() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    block = run(lambda: one_call(giving(text), limits=Limits(max_result_chars=1000)))
    content = str(block.content)
    assert len(content) <= 1000
    assert content.startswith("line 0\nline 1\n")
    assert content.endswith("\nline 9998\nline 9999")
    left_out = text.count("") - 1 - sum(len(part) for part in content.split("\n\n[... ")[0:1])
    assert f" of {len(text):,} characters left out. ...]" in content
    assert left_out > 0


@given(st.text(min_size=300, max_size=3000), st.integers(1, 1500))
def test_the_marker_counts_right(text: str, limit: int) -> None:
    short = run(lambda: shorten(text, limit, None, "k"))
    if len(text) <= limit:
        assert len(short) == len(text)
        return
    assert len(short) <= max(limit, 80)
    if limit > 200:
        missing = int(short.split("[... ")[-1].split(" of ")[0].replace(",", ""))
        marker = len(short) - (len(text) - missing)
        assert 0 < marker < 80


def test_the_smaller_of_tool_and_run_limit_holds() -> None:
    limits = Limits(max_result_chars=1000)
    small = run(lambda: one_call(giving("x" * 5000, max_result_chars=300), limits=limits))
    large = run(lambda: one_call(giving("x" * 5000, max_result_chars=3000), limits=limits))
    assert len(str(small.content)) == 300
    assert len(str(large.content)) == 1000


def test_the_whole_result_goes_to_a_file(tmp_path: Path) -> None:
    text = "\n".join(f"line {number} é" for number in range(10_000))

    async def main() -> None:
        bench = await Bench.make(limits=Limits(max_result_chars=1000))
        with RootedFiles([tmp_path]) as files:
            block = await bench.call(toolset(giving(text), files=files), "act")
        path = ".lorimer/results/r_test-0-0.txt"
        assert f"All of it is in {path}: Read it" in str(block.content)
        assert (tmp_path / path).read_text() == text
        assert bench.facts[-1][1]["content"] == block.content

    run(main)


def test_the_host_may_say_where_results_go() -> None:
    kept: dict[str, str] = {}

    async def spill(key: str, text: str) -> str:
        kept[key] = text
        return f"store:{key}"

    async def main() -> None:
        bench = await Bench.make(limits=Limits(max_result_chars=500))
        block = await bench.call(toolset(giving("x" * 2000), spill=spill), "act", index=3)
        assert "All of it is in store:r_test-0-3: Read it" in str(block.content)
        assert kept == {"r_test-0-3": "x" * 2000}

    run(main)


def test_a_spill_that_fails_costs_nothing_but_the_file(tmp_path: Path) -> None:
    async def broken(key: str, text: str) -> str:
        raise OSError("disk full")

    async def main() -> None:
        bench = await Bench.make(limits=Limits(max_result_chars=500))
        block = await bench.call(toolset(giving("x" * 2000), spill=broken), "act")
        assert not block.is_error
        assert "characters left out. ...]" in str(block.content)
        (tmp_path / ".lorimer").write_text("in the way")
        with RootedFiles([tmp_path]) as files:
            block = await bench.call(toolset(giving("x" * 2000), files=files), "act", index=1)
        assert "characters left out. ...]" in str(block.content)

    run(main)


def test_blocks_share_the_limit() -> None:
    content = [TextBlock("a" * 900), ImageBlock("image/png", "AA=="), TextBlock("b" * 900)]
    block = run(lambda: one_call(giving(content), limits=Limits(max_result_chars=1000)))
    assert isinstance(block.content, tuple)
    first, image, second = block.content
    assert first == content[0]
    assert image == content[1]
    assert isinstance(second, TextBlock)
    assert "left out" in second.text


def test_an_image_too_large_is_only_told_of() -> None:
    content = [ImageBlock("image/png", "A" * (MAX_IMAGE_CHARS + 4))]
    block = run(lambda: one_call(giving(content)))
    assert block.content == (TextBlock("[an image of 4,500,003 bytes, too large to show]"),)
