"""Calls back when an awaitable first waits: work that never waits needs no timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def on_first_wait(work: Awaitable[T], begin: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await `work`. The first time that it has to wait `begin` is called, just before: so a
    deadline that is set there counts from the first wait, and never exists for work that has none.
    """
    steps = work.__await__()
    try:
        waiting = next(steps)
    except StopIteration as stop:
        return stop.value
    begin()
    while True:
        try:
            yield waiting
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - goes into the work
            try:
                waiting = steps.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            return (yield from steps)
