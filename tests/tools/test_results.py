"""Results are rendered, cut to size, and what is cut is kept in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.limits import Limits
from lorimer.core.messages import ImageBlock, TextBlock
from lorimer.core.redaction import Redactor
from lorimer.tools import ToolContext, ToolInput, ToolResult
from lorimer.tools.results import (
    MAX_IMAGE_CHARS,
    MAX_IMAGES_CHARS,
    MAX_PARTS,
    MAX_SPILL_CHARS,
    shorten,
)
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


def test_very_many_blocks_are_within_the_limits_too(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make(limits=Limits(max_result_chars=1000))
        with RootedFiles([tmp_path]) as files:
            texts = [*[TextBlock("a" * 100)] * 20_000, TextBlock("the end")]
            given = [*texts, *[PICTURE] * 20_000]
            block = await bench.call(toolset(giving(given), files=files), "act")
        assert isinstance(block.content, tuple)
        said = [part.text for part in block.content if isinstance(part, TextBlock)]
        assert len(block.content) <= MAX_PARTS + 2
        assert sum(map(len, said)) < 1000 + 3 * 200
        assert said[0] == "a" * 100
        assert said[-2].startswith("\n\n[... ")
        kept = list((tmp_path / ".lorimer/results").iterdir())
        assert len(kept) == 1
        assert kept[0].read_text().endswith("a\nthe end")
        assert said[-1].endswith(" more images, too many to show]")

    run(main)


def test_images_are_not_too_large_together() -> None:
    large = ImageBlock("image/png", "A" * MAX_IMAGE_CHARS)
    block = run(lambda: one_call(giving([*[large] * 6, TextBlock("x")])))
    assert block.content == (
        *[large] * (MAX_IMAGES_CHARS // MAX_IMAGE_CHARS),
        TextBlock("x"),
        TextBlock("[2 more images, too many to show]"),
    )


class Looks(Redactor):
    """Counts what it looks at."""

    __slots__ = ("looked",)

    def __init__(self, secrets: Mapping[str, str]) -> None:
        super().__init__(secrets)
        self.looked = 0

    def text(self, text: str, *, deep: bool = True) -> str:
        self.looked += len(text)
        return super().text(text, deep=deep)


def test_what_nobody_reads_of_a_huge_result_is_not_looked_through_for_secrets() -> None:
    redactor = Looks({"s3cret-value-of-40-characters-0123456789": "KEY"})
    text = "a" * (3 * MAX_SPILL_CHARS) + "the end"
    told = run(lambda: shorten(text, 1000, None, "key", redactor))
    assert redactor.looked < MAX_SPILL_CHARS + 2000
    assert len(told) <= 1000 and told.endswith("the end")
    assert f" of {len(text):,} characters left out" in told


@pytest.mark.parametrize("limit", [100, 300])
def test_no_half_of_a_secret_is_left_where_a_huge_result_is_cut(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.tools.results.MAX_SPILL_CHARS", 1000)
    secret = "s3cret-VALUE-9876543210"
    redactor = Redactor({secret: "K"})
    kept: list[str] = []

    async def spill(key: str, text: str) -> str:
        kept.append(text)
        return "file"

    async def main() -> None:
        for size in (1000, 1400, 1500, 3000):
            for at in range(size):
                text = f"{'.' * at}{secret}{'.' * (size - at)}"
                told = await shorten(text, limit, spill, "key", redactor)
                assert len(kept[-1]) <= 1000
                for part in (secret[:5], secret[-5:]):
                    assert part not in told and part not in kept[-1], (size, at)

    run(main)
