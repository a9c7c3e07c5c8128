"""What is kept of a long output."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.world.bounded import BoundedOutput


def poured(limit: int, *chunks: bytes) -> BoundedOutput:
    output = BoundedOutput(limit)
    for chunk in chunks:
        output.write(chunk)
    return output


def test_short_output_is_kept_whole() -> None:
    output = poured(10, b"0123", b"456789")
    assert output.content() == b"0123456789"
    assert output.complete
    assert output.total == 10


def test_long_output_keeps_beginning_and_end_and_says_what_is_missing() -> None:
    output = poured(100, b"begin" + b"x" * 1000, b"y" * 1000 + b"the end")
    content = output.content()
    assert content.startswith(b"begin")
    assert content.endswith(b"the end")
    assert len(content) <= 100
    assert not output.complete
    missing = re.search(rb"\n\.\.\. (\d+) bytes left out \.\.\.\n", content)
    assert missing
    assert int(missing[1]) + len(content) - len(missing[0]) == output.total


def test_a_limit_too_small_for_the_marker_does_without() -> None:
    assert poured(3, b"abcdefgh").content() == b"agh"
    assert poured(0, b"abc").content() == b""


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        BoundedOutput(-1)


@given(st.integers(0, 150), st.lists(st.binary(max_size=120), max_size=12))
def test_any_chunking_keeps_what_one_write_would(limit: int, chunks: list[bytes]) -> None:
    output = poured(limit, *chunks)
    whole = b"".join(chunks)
    assert output.total == len(whole)
    assert output.content() == poured(limit, whole).content()
    assert len(output.content()) <= limit
    if len(whole) <= limit:
        assert output.content() == whole
    elif limit > 60:
        head, tail = re.split(
            rb"\n\.\.\. \d+ bytes left out \.\.\.\n", output.content(), maxsplit=1
        )
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert abs(len(head) - len(tail)) <= 1
