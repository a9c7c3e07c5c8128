"""Records are values: equal, hashed and shown by their fields."""

from __future__ import annotations

from dataclasses import field, replace

import pytest
from pydantic import ValidationError

from lorimer.core.record import record
from lorimer.core.stage import Settings, configured


@record
class Point:
    x: int
    y: int = 0
    note: str = field(default="", compare=False, repr=False)


@record
class Same:
    x: int
    y: int = 0


@record
class Nothing:
    pass


def test_equal_fields_make_equal_records() -> None:
    assert Point(1, 2) == Point(1, 2, "other")
    assert Point(1, 2) != Point(2, 1)
    assert Point(1) != Same(1)
    assert Nothing() == Nothing()
    assert len({Point(1), Point(1, note="a"), Point(2), Nothing(), Nothing()}) == 3


def test_a_record_shows_its_fields() -> None:
    assert repr(Point(1, 2, "a")) == "Point(x=1, y=2)"
    assert repr(Nothing()) == "Nothing()"
    assert replace(Point(1), y=3) == Point(1, 3)
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_a_record_keeps_what_it_writes_itself() -> None:
    @record
    class Folded:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Folded) and self.name.lower() == other.name.lower()

        def __hash__(self) -> int:
            return hash(self.name.lower())

        def __repr__(self) -> str:
            return "folded"

    assert len({Folded("A"), Folded("a")}) == 1
    assert repr(Folded("A")) == "folded"


class Given(Settings):
    most: int = 3


class Wanted(Settings):
    most: int


def test_settings_that_are_not_given_have_their_defaults_and_others_are_checked() -> None:
    assert configured(Given, {}).model_dump() == {"most": 3}
    assert configured(Given, {"most": 5}).model_dump() == {"most": 5}
    for kind, given in ((Given, {"most": "many"}), (Given, {"least": 1}), (Wanted, {})):
        with pytest.raises(ValidationError):
            configured(kind, given)
