"""Calls a function when an awaitable first waits: work that never waits needs no timer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any, Final, TypeVar

from lorimer.core.waiting import Cancels

T = TypeVar("T")

OVER: Final = object()
"""Signals that the awaitable of `keeping` is done, in place of its next wait."""


async def keeping(work: Awaitable[T], kept: list[T]) -> None:
    """Await `work` and keep its result, for callers that drive this step by step. A coroutine that
    returns ends with an exception, which takes longer than work that never waits; with `next(steps,
    OVER)` this one ends without."""
    kept.append(await work)


@coroutine
def on_first_wait(
    work: Awaitable[T], begin: Callable[[], Cancels | None]
) -> Generator[Any, Any, T]:
    """Await `work`, and call `begin` just before it waits for the first time: so a deadline set
    there counts from the first wait, and never exists for work that does not wait. What `begin`
    returns, if anything, is told what cancels the work from then on."""
    kept: list[T] = []
    steps = keeping(work, kept).__await__()
    waiting = next(steps, OVER)
    if waiting is OVER:
        return kept[0]
    cancels = begin()
    while waiting is not OVER:
        try:
            yield waiting if cancels is None else cancels.watched(waiting)
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - goes into the work
            if cancels is not None and isinstance(error, asyncio.CancelledError):
                cancels.receive(error)
            waiting = _thrown(steps, error)
        else:
            if cancels is None:
                yield from steps
                break
            waiting = next(steps, OVER)
    return kept[0]


def _thrown(steps: Generator[Any, Any, None], error: BaseException) -> object:
    """What the work waits for next; OVER: it has ended."""
    try:
        return steps.throw(error)
    except StopIteration:
        return OVER
