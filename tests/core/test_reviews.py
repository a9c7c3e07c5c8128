"""What reviewers are shown of a call, and what a run may own until when."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any

import pytest

from lorimer.core.owned import OwnedResources
from lorimer.core.review import Call, Finding, Review


class Level(IntEnum):
    HIGH = 3


class Sees:
    name = "sees"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def find(self, call: Call) -> Finding | None:
        self.calls.append(call)
        return None


def test_numbers_of_any_class_are_no_texts() -> None:
    reviewer = Sees()
    given: dict[str, Any] = {"level": Level.HIGH, "to": ["Ann", {"cc": "Bob"}]}
    assert Review([reviewer]).of("send", given) == []
    assert reviewer.calls[0].texts == ("Ann", "Bob")


class Lamp:
    async def end(self) -> None:
        pass


def test_a_run_that_is_ending_starts_nothing_more() -> None:
    async def main() -> None:
        owned = OwnedResources()
        lamp = owned.own(Lamp, Lamp)
        assert owned.own(Lamp, Lamp) is lamp
        assert await owned.end() is None
        with pytest.raises(RuntimeError, match="the run is ending"):
            owned.own(Lamp, Lamp)

    asyncio.run(main())
