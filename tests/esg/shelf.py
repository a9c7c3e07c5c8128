"""A module of the user's with a state: random programs use it as `m`."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

total = 0
items: list[object] = []


def count() -> int:
    global total
    total += 1
    return total


def note(item: object) -> int:
    items.append(item)
    return len(items)


def default(item: object, seen: list[object] = []) -> list[object]:  # noqa: B006 - on purpose
    seen.append(item)
    return [*seen]


def _make() -> Callable[[], int]:
    n = 0

    def up() -> int:
        nonlocal n
        n += 1
        return n

    return up


up = _make()


class Thing:
    every: ClassVar[list[object]] = []

    def __init__(self, item: object) -> None:
        self.item = item
        self.every.append(item)

    def bump(self) -> int:
        return count()
