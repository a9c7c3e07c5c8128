"""The event stream parser: the same events however the bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.jsonable import clean
from lorimer.models.wires.sse import Event, LineTooLong, SSEParser, parse_json


def parse(*chunks: bytes, limit: int = 1 << 20) -> list[Event]:
    parser = SSEParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data:a\n\ndata:  b\n\n", [("", "a"), ("", " b")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"data: a\ndata: b\ndata\n\n", [("", "a\nb\n")]),
        (b"data\n\n", [("", "")]),
        (b"data:\n\n", [("", "")]),
        (b"event: x\n\ndata: a\n\n", [("", "a")]),
        (b": ping\n\n:\nid: 7\nretry: 5\nwhat: ever\ndata: a\n\n", [("", "a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("", "a"), ("", "b"), ("", "c")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [("", "a")]),
        ("data: zwölf 🦄\n\n".encode(), [("", "zwölf 🦄")]),
        (b"data: \xff\n\n", [("", "\ufffd")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_the_rules(body: bytes, events: list[Event]) -> None:
    assert parse(body) == events
    assert parse(*[body[at : at + 1] for at in range(len(body))]) == events


LINES = st.sampled_from(
    [
        "data: {}",
        "data:zwölf 🦄",
        "data",
        "data:",
        "event: x",
        "event:",
        ": comment",
        "id: 1",
        "\ufeffdata: x",
        "",
        "",
        "nonsense",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"])), max_size=20),
    st.booleans(),
    st.data(),
)
def test_any_chunking_gives_the_same_events(
    lines: list[tuple[str, str]], bom: bool, data: st.DataObject
) -> None:
    body = ("\ufeff" if bom else "") + "".join([line + end for line, end in lines])
    raw = body.encode()
    whole = parse(raw)
    for _ in range(5):
        cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)))
        edges = [0, *cuts, len(raw)]
        chunks = [raw[a:b] for a, b in pairwise(edges)]
        assert parse(*chunks) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_what_is_written_is_read(texts: list[str]) -> None:
    body = "".join([f"data: {json.dumps(text)}\n\n" for text in texts]).encode()
    assert [parse_json(data) for _, data in parse(body)] == texts


def test_lines_and_events_have_a_limit() -> None:
    for chunks in (
        [b"data: " + b"x" * 100 + b"\n"],
        [b"data: ", b"x" * 50, b"x" * 50],
        [b": " + b"x" * 100 + b"\n\n"],
        [b"data: " + b"x" * 30 + b"\n"] * 3,
    ):
        with pytest.raises(LineTooLong):
            parse(*chunks, limit=80)
    assert len(parse(*[b"data: " + b"x" * 60 + b"\n\n"] * 9, limit=80)) == 9


def test_a_long_line_in_small_chunks_is_not_copied_again_and_again() -> None:
    parser = SSEParser()
    parser.feed(b"data: ")
    for _ in range(100_000):
        assert parser.feed(b"0123456789") == []
    assert parser.feed(b"\n\n") == [("", "0123456789" * 100_000)]


@pytest.mark.parametrize(
    "text",
    [
        *["NaN", "[Infinity]", '{"a": -Infinity}', "1e400", "[-1e999]"],
        *["{", "", "[" * 100_000, "01", "'a'", "9" * 5000],
    ],
)
def test_strict_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # any kind of it
        parse_json(text)


def test_surrogates() -> None:
    assert clean("plain zwölf 🦄") == "plain zwölf 🦄"
    assert clean("a\ud83e\udd84b") == "a🦄b"
    assert clean("\ud83e") == "\ufffd"
    assert clean("\udd84x") == "\ufffdx"


def test_what_is_no_event_is_kept_for_who_asks() -> None:
    error = b'{\n "error": {\n  "code": 503\n }\n}'
    whole = b"data: {}\n\n: comment\nid: 7\nretry: 5\nevent: x\n" + error
    for size in (1, 7, len(whole)):
        for end in (b"", b"\n"):
            parser = SSEParser()
            events = [
                event
                for at in range(0, len(whole + end), size)
                for event in parser.feed((whole + end)[at : at + size])
            ]
            assert events == [("", "{}")]
            assert parser.stray() == error.decode()
    parser = SSEParser()
    parser.feed(b"data: half an event")
    assert parser.stray() == "data: half an event"


def test_what_is_no_event_is_not_kept_for_ever() -> None:
    parser = SSEParser()
    for _ in range(100):
        parser.feed(b"x" * 1000 + b"\n")
    assert len(parser.stray()) < 70_000
