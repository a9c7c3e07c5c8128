"""Any value a tool gives back becomes plain data: nothing raises, nothing grows without end."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, computed_field

from lorimer.core.jsonable import clean, dumps
from lorimer.tools.encode import MAX_CHARS, MAX_ITEMS, describe, plain, text_of


class Hostile:
    """Raises whatever one does to it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class HostileMapping(dict[str, object]):
    def items(self) -> Any:
        raise KeyboardInterrupt


class Plain:
    pass


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: object


class Account(BaseModel):
    name: str
    key: str = Field(exclude=True)

    @computed_field
    @property
    def size(self) -> int:
        return len(self.name)

    @computed_field
    @property
    def broken(self) -> int:
        raise ValueError


class Numbers(RootModel[list[int]]):
    """A list, as a model."""


class Model(BaseModel):
    name: str
    inner: list[int]


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**5000, max_value=10**5001)
    | st.floats()
    | st.text(alphabet=st.characters())
    | st.sampled_from(["\ud800", "a\udfffb", "\x00", "\u202e"])
    | st.binary(max_size=50)
    | st.dates()
    | st.decimals()
    | st.builds(Plain)
    | st.builds(Hostile, st.sampled_from([ValueError("x"), SystemExit(1), StopIteration()]))
    | st.sampled_from([Colour.RED, Plain, len, ..., 1j, range(3)])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text() | st.none() | st.booleans(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
        | st.builds(Point, st.integers(), inner)
        | st.builds(lambda items: deque(items), st.lists(inner, max_size=3))
    ),
    max_leaves=20,
)


@given(anything)
def test_every_value_becomes_json_that_utf8_can_hold(value: object) -> None:
    text = dumps(plain(value))
    text.encode()
    json.loads(text)
    assert plain(value) == plain(value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-99, 99)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    )
)
def test_plain_data_stays_as_it_is(value: object) -> None:
    assert plain(value) == value


def test_cycles_end_in_a_mark() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    assert plain(loop) == [1, "<itself>"]
    table: dict[str, object] = {}
    table["me"] = table
    assert plain(table) == {"me": "<itself>"}


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]]


def test_a_hundred_thousand_levels_end_in_a_mark() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    text = text_of(deep)
    assert "nested too deep" in text
    while deep:  # else freeing it would recurse as deep
        deep = deep.pop()  # type: ignore[assignment]


def test_numbers_that_json_lacks_become_words() -> None:
    assert plain([float("nan"), float("inf"), -float("inf")]) == ["NaN", "Infinity", "-Infinity"]
    assert plain(1 << 5000) == "<integer of 5001 bits>"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("text", "text"),
        (None, ""),
        (3, "3"),
        (True, "true"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ({1: 2, None: 3}, '{"1":2,"null":3}'),
        ({"b", "a"}, '["a","b"]'),
        (OrderedDict(z=1, a=2), '{"z":1,"a":2}'),
        (Point(1, Colour.RED), '{"x":1,"y":"red"}'),
        (Model(name="n", inner=[1]), '{"name":"n","inner":[1]}'),
        (Account(name="n", key="k-123"), '{"name":"n","size":1}'),
        (Numbers([1, 2]), "[1,2]"),
        ({(1, "a"): 2, (3, "b"): 4}, '{"[1,\\"a\\"]":2,"[3,\\"b\\"]":4}'),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "<2 bytes of binary data>"),
        (date(2026, 1, 2), "2026-01-02"),
        (
            [datetime(2026, 1, 2, 3, 4, tzinfo=UTC), time(3, 4)],
            '["2026-01-02T03:04:00+00:00","03:04:00"]',
        ),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("/a"), "/a"),
        (ValueError("no"), "ValueError: no"),
        (Plain(), "<Plain>"),
        (Hostile(ValueError()), "<Hostile that cannot be shown>"),
        (HostileMapping(a=1), "<HostileMapping that cannot be shown>"),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_what_the_model_reads(value: object, told: str) -> None:
    assert text_of(value) == told


def test_memory_addresses_are_left_out() -> None:
    assert " at 0x" not in text_of([test_what_the_model_reads, Plain.__init__, iter([])])


def test_size_is_bounded() -> None:
    assert len(text_of(list(range(10 * MAX_ITEMS)))) < 10 * MAX_ITEMS
    assert len(text_of(["x" * 1_000_000] * 100)) < MAX_CHARS + 1000


def test_an_endless_mapping_ends() -> None:
    class Endless(dict[str, int]):
        def items(self) -> Any:
            number = 0
            while True:
                number += 1
                yield f"k{number}", number

    assert len(text_of(Endless(a=1))) < 100 * MAX_ITEMS


def test_exceptions_are_described_with_those_inside() -> None:
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("in", [KeyError("b")])])
    assert describe(group) == (
        "ExceptionGroup: several (ValueError: a; ExceptionGroup: in (KeyError: 'b'))"
    )
    assert describe(SystemExit()) == "SystemExit"
    assert len(describe(ValueError("x" * 10_000))) < 2100

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert describe(Mute()) == "Mute"


@given(st.text(alphabet=st.characters()))
def test_clean_text_is_utf8(text: str) -> None:
    assert len(clean(text)) == len(text)
    clean(text).encode()
