"""The row form: part of the file format, so some rows are spelled out here for ever."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import FACT_KINDS, Event
from lorimer.journal.codec import Place, decode, encode, micros
from lorimer.journal.packing import SHAPES
from tests.journal.support import iteration, start

AT = Place("run_a", micros(1_763_680_000.123456))


def test_the_codes_of_facts_never_change() -> None:
    assert FACT_KINDS[:15] == (
        "run.start",
        "model.intent",
        "model.reply",
        "tool.intent",
        "tool.result",
        "effect",
        "decision",
        "mutated",
        "child",
        "compacted",
        "iteration.end",
        "run.suspended",
        "run.end",
        "effect.intent",
        "forked",
    )
    fields = [slot.lstrip("_") for slot in Event.__slots__]  # data may be packed, behind its name
    assert fields == ["data", "iteration", "run_id", "seq", "stage", "time", "type"]


def test_the_rows_of_an_iteration_never_change() -> None:
    rows = [[start()], *iteration(7)]
    place, texts = Place(), []
    for row in rows:
        text, place = encode(row, place)
        texts.append(text)
    assert texts == [
        '[[0,1763680000123456,0,{"input":"hi","manifest":"m1","seed":7},"","run_a"]]',
        "[[10,35117399,6,[[12,-1,31,5,7,23017,9,14,30,12345,8,-1,-1,16,-1,11]]],"
        '[1,31,7,[0,"k3J9x_Qw2LmZ8sVa"]]]',
        '[[2,35767399,7,[0,[["toolu_01A09q90qw90lq91000007","write_file",'
        '{"path":"src/module_7.py","text":"x = 1\\n"}]],1,[1234,56,12000],8123400]]]',
        '[[3,35777399,7,[0,"k3J9x_Qw2LmZ8sVa","write"]]]',
        '[[4,35817399,7,[0,"wrote 1 line to src/module_7.py"]]]',
    ]
    assert place == AT


def test_rows_of_every_released_form_can_be_read() -> None:
    row = (
        '[[4,5,2,{"key":"0","content":"full names"},"tool","run_b"],'
        '[2,-5,3,[11,["text",["c","n",{}],{"type":"image","url":"u"}],0,[1,-1,3],null,"id"]],'
        '[10,1,3,[[1,-1]]],[6,0,3,{"rule":"r"}]]'
    )
    facts, place = decode(row, AT, 9, "s")
    assert place == AT
    assert [(f.seq, f.type, f.iteration, f.stage, f.run_id) for f in facts] == [
        (9, "tool.result", 2, "tool", "run_b"),
        (10, "model.reply", 3, "", "run_a"),
        (11, "iteration.end", 3, "", "run_a"),
        (12, "decision", 3, "", "run_a"),
    ]
    assert [micros(f.time) - AT.base for f in facts] == [5, 0, 1, 1]
    assert facts[0].data == {"key": "0", "content": "full names"}
    assert facts[1].data == {
        "key": "11",
        "content": [
            {"type": "text", "text": "text"},
            {"type": "tool_use", "id": "c", "name": "n", "input": {}},
            {"type": "image", "url": "u"},
        ],
        "stop": "end_turn",
        "usage": {"input_tokens": 1, "cache_read_input_tokens": 3},
        "id": "id",
    }
    assert facts[2].data == {"times": [1, None]}


ODD = [
    ("tool.result", {"key": 5}),
    ("tool.result", {"key": "000"}),
    ("tool.result", {"key": "0", "content": None}),
    ("tool.result", {"key": "0", "more": 1}),
    ("tool.result", {"hash": "h"}),
    ("model.reply", {"stop": 7}),
    ("model.reply", {"stop": "else"}),
    ("model.reply", {"usage": 7}),
    ("model.reply", {"usage": {"input_tokens": -1}}),
    ("model.reply", {"usage": {"new_tokens": 1}}),
    ("model.reply", {"usage": {}}),
    ("model.reply", {"usage": {"reasoning_tokens": 0}}),
    ("model.reply", {"content": 7}),
    ("model.reply", {"content": ["text"]}),
    ("model.reply", {"content": [{"type": "text", "text": 7}]}),
    ("model.reply", {"content": [{"type": "text", "text": "x", "more": 1}]}),
    ("model.reply", {"content": [{"type": "tool_use", "id": 1, "name": 2, "input": 3}]}),
    ("model.reply", {"content": [{"type": "tool_use", "id": 1, "name": 2, "raw": 3}]}),
    ("model.reply", {"content": [{}]}),
    ("iteration.end", {"times": 7}),
    ("iteration.end", {"times": [-1]}),
    ("iteration.end", {"times": [True, 1.5]}),
    ("iteration.end", {"times": [None, 0]}),
    ("iteration.end", {}),
]


@pytest.mark.parametrize(("kind", "data"), ODD, ids=str)
def test_what_does_not_fit_the_short_form_is_kept_in_full(
    kind: str, data: dict[str, object]
) -> None:
    fact = Event(kind, data, seq=1)  # type: ignore[arg-type]
    text, _ = encode([fact], Place())
    (back,), _ = decode(text, Place(), 1, "s")
    assert back == fact
    assert json.dumps(back.data, sort_keys=True) == json.dumps(data, sort_keys=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
blocks = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": st.text(),
            "name": st.text(),
            "input": st.dictionaries(st.text(), json_values, max_size=2),
        },
        optional={"raw": st.text()},
    ),
    json_values,
)
usual = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["0", "1", "00", "99", "100", "-1", "a"]) | json_values,
        "content": st.text() | st.lists(blocks, max_size=3) | json_values,
        "times": st.lists(st.none() | st.integers(), max_size=5) | json_values,
        "stop": st.sampled_from(["end_turn", "tool_use", "else"]) | json_values,
        "usage": st.dictionaries(
            st.sampled_from(["input_tokens", "output_tokens", "reasoning_tokens", "new_tokens"]),
            st.integers(-2, 2**60),
        )
        | json_values,
        **dict.fromkeys(("hash", "reserve", "messages", "is_error", "decision"), json_values),
    },
)
data = usual | st.dictionaries(st.text(), json_values, max_size=4)
times = st.floats(0, 4e9).map(lambda time: round(time, 6))


@st.composite
def facts(draw: st.DrawFn) -> Event:
    return Event(
        draw(st.sampled_from(FACT_KINDS)),
        draw(data),
        run_id=draw(st.sampled_from(["run_a", "run_b", ""])),
        iteration=draw(st.integers(0, 10**6)),
        stage=draw(st.sampled_from(["", "", "api"]) | st.text()),
        time=draw(times),
    )


@settings(deadline=None)
@given(st.lists(st.lists(facts(), min_size=1, max_size=4), max_size=4))
def test_every_fact_comes_back_as_it_was(rows: list[list[Event]]) -> None:
    writing = reading = Place()
    seq = 1
    for row in rows:
        text, writing = encode(row, writing)
        assert isinstance(json.loads(text), list)
        back, reading = decode(text, reading, seq, "s")
        for fact in row:
            fact.seq = seq
            seq += 1
        assert back == row
        assert [fact.stage for fact in back] == [fact.stage for fact in row]
        assert reading == writing


@settings(deadline=None)
@given(times)
def test_a_time_of_whole_microseconds_is_exact(time: float) -> None:
    assert micros(time) / 1e6 == time


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(time: float) -> None:
    with pytest.raises(JournalError, match="impossible time"):
        encode([Event("effect", {}, time=time)], Place())


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), object(), {1, 2}, b"bytes"],
    ids=["nan", "-inf", "object", "set", "bytes"],
)
def test_what_is_not_json_is_refused(value: object) -> None:
    for kind, key in (("effect", "any"), ("model.reply", "content"), ("tool.result", "key")):
        with pytest.raises(JournalError, match="not plain JSON"):
            encode([Event(kind, {key: value})], Place())  # type: ignore[dict-item]


def test_what_is_nested_too_deep_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(JournalError):
        encode([Event("effect", {"a": deep})], Place())  # type: ignore[dict-item]
    with pytest.raises(JournalError, match="damaged"):
        decode("[" * 100_000, Place(), 1, "s")


def test_a_signal_is_refused() -> None:
    with pytest.raises(JournalError, match=r"'text\.delta' is not a kind of fact"):
        encode([Event("text.delta", {})], Place())


def test_half_a_surrogate_pair_is_kept() -> None:
    fact = Event("effect", {"a": "x\ud800", "ü": "\udfff"}, seq=1)
    text, _ = encode([fact], Place())
    assert text.isascii()
    assert decode(text, Place(), 1, "s")[0] == [fact]


ALLOWED = {ExecutorErrorCode.EXEC_JOURNAL_FAILED, ExecutorErrorCode.EXEC_JOURNAL_VERSION}
codes = st.integers(-2, 20) | json_values
rows = st.lists(
    st.lists(json_values, max_size=7)
    | st.tuples(
        codes,
        st.integers() | json_values,
        st.integers() | json_values,
        data | st.lists(json_values | st.lists(blocks, max_size=2), max_size=6),
    ),
    max_size=3,
)


NOT_ROWS = [
    "7",
    "[]",
    "[7]",
    "[[5,1,0]]",
    "[[5,1,0,{},1,2,3]]",
    '[["5",1,0,{}]]',
    "[[5,true,0,{}]]",
    "[[5,1,null,{}]]",
    "[[5,1,0,{},7]]",
    '[[5,1,0,{},"",7]]',
    "[[5,1,0,7]]",
    "[[5,9007199254740993,0,{}]]",
    "[[1,1,0,[true]]]",
    "[[1,1,0,[100]]]",
    "[[2,1,0,[0,{}]]]",
    '[[2,1,0,[0,[["id","name"]]]]]',
    "[[2,1,0,[0,[7]]]]",
    '[[2,1,0,[0,"",{}]]]',
    '[[2,1,0,[0,"",-1]]]',
    '[[2,1,0,[0,"",0,{}]]]',
    "[[10,1,0,[7]]]",
    '[[5,1,0,{"a":Infinity}]]',
]


@pytest.mark.parametrize("body", NOT_ROWS)
def test_a_row_that_nobody_writes_is_damaged(body: str) -> None:
    error = refusal(body)
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED
    assert "damaged" in str(error)


NEWER = ["[[99,1,0,{}]]", "[[-1,1,0,{}]]", "[[1,1,0,[0,1,2,3,4,5]]]", "[[5,1,0,[1]]]"]
NEWER += ['[[2,1,0,[0,"",3]]]', '[[2,1,0,[0,"",0,[1,1,1,1,1,1]]]]']


@pytest.mark.parametrize("body", NEWER)
def test_a_row_of_a_newer_version_says_so(body: str) -> None:
    error = refusal(body)
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_JOURNAL_VERSION
    assert error.hint == "Update lorimer to read it."


def refusal(body: object) -> JournalError | None:
    try:
        read, _ = decode(body, AT, 5, "the stream")
    except JournalError as error:
        return error
    assert all(isinstance(fact, Event) for fact in read)
    return None


@settings(deadline=None)
@given(rows | json_values)
def test_a_row_from_anywhere_is_read_or_refused(row: object) -> None:
    error = refusal(json.dumps(row))
    if error is not None:
        assert error.code in ALLOWED
        assert "fact 5 of stream 'the stream'" in str(error)


@settings(deadline=None)
@given(st.text() | st.none() | st.binary() | st.integers())
def test_a_row_that_is_not_json_is_refused(body: object) -> None:
    error = refusal(body)
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED


def test_shapes_hold_no_field_twice() -> None:
    for kind, shape in SHAPES.items():
        assert kind in FACT_KINDS
        assert len(set(shape)) == len(shape)
