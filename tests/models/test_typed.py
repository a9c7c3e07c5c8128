"""Types as schemas that every wire takes, and answers as those types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from lorimer.core.errors import ConfigError
from lorimer.models.typed import Form, Unfit
from lorimer.models.wires.strict import claude_takes


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    """One part."""

    name: Annotated[str, Field(min_length=1, description="what it is called")]
    made: date
    colour: Colour = Colour.RED


class Whole(BaseModel):
    parts: list[Part]
    first: Part | None = Field(None, description="the first of them")
    kind: Literal["a"] = "a"
    title: str = "a field of that name"


@dataclass
class Point:
    x: int
    y: float = 0.5


class Options(TypedDict, total=False):
    deep: bool


class Node(BaseModel):
    children: list[Node]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


@pytest.mark.parametrize(
    "wanted", [Whole, Point, Options, int, bool, str, list[Part], list[str], Colour, int | None]
)
def test_a_provider_can_hold_a_model_to_it(wanted: Any) -> None:
    form = Form(wanted)
    assert form.closed, form.schema
    assert claude_takes(form.schema), form.schema
    assert "$ref" not in json.dumps(form.schema)


@pytest.mark.parametrize("wanted", [dict[str, int], list[Any], tuple[int, str]])
def test_what_no_provider_can_be_held_to_is_known(wanted: Any) -> None:
    assert not Form(wanted).closed


def test_what_only_some_wires_take_is_said_in_words() -> None:
    schema: Any = Form(Whole).schema
    part = schema["properties"]["parts"]["items"]
    assert part["required"] == ["name", "made", "colour"]
    assert part["additionalProperties"] is False
    assert part["description"] == "One part."
    assert part["properties"]["name"] == {
        "type": "string",
        "description": "what it is called; minLength: 1",
    }
    assert part["properties"]["made"]["description"] == "format: date"
    assert part["properties"]["colour"]["enum"] == ["red", "blue"]
    assert schema["properties"]["kind"]["enum"] == ["a"]
    assert "title" in schema["properties"]
    first = schema["properties"]["first"]
    assert [choice["type"] for choice in first["anyOf"]] == ["object", "null"]
    assert first["description"].startswith("the first of them")


def test_a_union_by_a_field() -> None:
    pet = TypeAdapter[Cat | Dog](Annotated[Cat | Dog, Field(discriminator="kind")])
    form = Form(pet)
    assert form.closed
    assert form.read('{"value": {"kind": "dog", "name": "Rex"}}') == Dog(kind="dog", name="Rex")


def test_a_type_that_refers_to_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="Node refers to itself"):
        Form(Node)


def test_a_type_without_a_schema_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be asked for"):
        Form(type("Odd", (), {}))


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1, "y": 2}',
        '  {"x": 1, "y": 2}\n',
        '```json\n{"x": 1, "y": 2}\n```',
        'Here you are:\n```\n{"x": 1, "y": 2}\n```\nAnything else?',
        'Sure! {"x": 1, "y": 2} as you wished',
        '```json\n{"x": 1, "y": 2}',
        '<think>Perhaps {"x": 3, "y": 4}?</think>\n{"x": 1, "y": 2}',
        'Perhaps {"x": 3, "y": 4}?\n</think>\n```json\n{"x": 1, "y": 2}\n```',
    ],
)
def test_what_stands_round_an_answer_is_passed_over(text: str) -> None:
    assert Form(Point).read(text) == Point(1, 2)


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (list[Point], 'Here: [{"x": 1, "y": 2}, {"x": 3, "y": 4}].', [Point(1, 2), Point(3, 4)]),
        (int, "42", 42),
        (Point | None, "null", None),
        (Point | None, '{"x": 1, "y": 2}', Point(1, 2)),
    ],
)
def test_a_value_may_come_without_its_object(wanted: Any, text: str, value: object) -> None:
    """What is not an object is asked for as `{"value": ...}`; many models give it as it is."""
    assert Form(wanted).read(text) == value


def test_marks_of_thoughts_within_a_value_are_its_own() -> None:
    value = "a <think> and a </think>"
    assert Form(str).read(json.dumps({"value": value})) == value


def test_thoughts_are_no_part_of_an_answer() -> None:
    form = Form(Point)
    assert form.partial('<think>{"x": 3') is None
    assert form.partial('<think>{"x": 3}</think> {"x": 1, "y"') == {"x": 1}


def test_fences_within_a_value_are_its_own() -> None:
    value = "```json\n{}\n```"
    assert Form(str).read(json.dumps({"value": value})) == value


@pytest.mark.parametrize(
    ("wanted", "text", "why"),
    [
        (Point, "", "it is empty"),
        (Point, "I will not", "it is not JSON"),
        (Point, '{"x": "a", "y": 1}', "x: Input should be a valid integer"),
        (Point, "{}", "x: Field required"),
        (list[int], '["a"]', 'with the field "value"'),
        (list[int], '{"values": [1]}', 'with the field "value"'),
        (list[int], '{"value": ["a"]}', "value.0: Input should be a valid integer"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(wanted: Any, text: str, why: str) -> None:
    with pytest.raises(Unfit) as caught:
        Form(wanted).read(text)
    assert why in str(caught.value)


def test_many_faults_are_told_in_part() -> None:
    with pytest.raises(Unfit) as caught:
        Form(list[int]).read(json.dumps({"value": ["x" * 10_000] * 1000}))
    assert len(str(caught.value)) < 8_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.data())
def test_an_answer_cut_anywhere_gives_a_part_or_nothing(value: object, data: st.DataObject) -> None:
    form = Form(TypeAdapter[object](Any))
    text = json.dumps({"value": value})
    assert form.partial(text) == value
    assert form.read(text) == value
    form.partial(text[: data.draw(st.integers(0, len(text)))])


@given(st.text())
def test_no_text_breaks_reading(text: str) -> None:
    form = Form(Point)
    form.partial(text)
    try:
        form.read(text)
    except Unfit:
        pass
