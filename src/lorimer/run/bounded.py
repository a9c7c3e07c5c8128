"""Bounded calls of the host's code (ports, callbacks): it may raise, hang or swallow cancellation,
and the run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Generic, TypeVar

from lorimer.core.cancel import Cancellation
from lorimer.core.redaction import logger

T = TypeVar("T")

LAST_S: Final = 1.0
"""Seconds to stop for code that was cancelled. Code that has not stopped by then is abandoned."""

_log: Final = logger("lorimer.run")


class Call(Generic[T]):
    """A call of such code, in a task of its own, so that its cancellation is not the caller's.
    Whoever creates it has to `stop` it."""

    __slots__ = ("_stopped", "_task", "_what")

    def __init__(self, what: str, call: Callable[[], Awaitable[T]]) -> None:
        async def work() -> T:
            return await call()

        self._what = what
        self._stopped = False
        self._task = asyncio.get_running_loop().create_task(work())

    async def wait(self, within_s: float) -> None:
        """Wait until it is over, but no longer than that. Raises CancelledError when the caller is
        cancelled."""
        await asyncio.wait([self._task], timeout=within_s)

    @property
    def over(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self._task.done()

    async def stop(self) -> None:
        """End it, if it is not over."""
        if not self._task.done():
            self._stopped = True
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LAST_S)

    def result(self, within_s: float, warnings: list[str]) -> T | None:
        """Its result; None, and a warning that is also logged, if it failed or took longer than
        `within_s`."""
        if not self._task.done():
            why = f"took longer than {within_s:g} s, and does not stop"
        elif self._task.cancelled() and not self._stopped:
            why = "failed: it was cancelled"  # by itself, or by what it waited for
        elif self._task.cancelled():
            why = f"took longer than {within_s:g} s"
        else:
            error = self._task.exception()
            if error is None:
                return self._task.result()
            why = _described(error)
        _warn(f"{self._what} {why}", warnings)
        return None


async def bounded(
    what: str, call: Callable[[], Awaitable[T]], within_s: float, warnings: list[str]
) -> T | None:
    """The result of `call`; None, and a warning that is also logged, if it raises, returns nothing
    awaitable, or takes longer than `within_s` seconds. Raises CancelledError when the caller is
    cancelled."""
    made = Call(what, call)
    try:
        await made.wait(within_s)
    finally:
        await made.stop()
    return made.result(within_s, warnings)


async def uncancelled(work: Coroutine[object, object, object]) -> asyncio.CancelledError | None:
    """Run `work` to its end in a task of its own, even if the caller is cancelled meanwhile: that
    CancelledError is returned, for the caller to raise. Raises what `work` raises. There is no time
    limit."""
    task = asyncio.get_running_loop().create_task(work)
    interrupted: asyncio.CancelledError | None = None
    with Cancellation.shielded():  # else a tool that waits here is closed as one that does not stop
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                interrupted = error
    task.result()
    return interrupted


def guarded(what: str, call: Callable[[], T], warnings: list[str]) -> T | None:
    """Like `bounded`, for code that must not block. A CancelledError is an error of that code:
    nobody is cancelled during a synchronous call."""
    try:
        return call()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - code of the host's
        _warn(f"{what} {_described(error)}", warnings)
        return None


def _warn(told: str, warnings: list[str]) -> None:
    _log.warning("%s", told)
    warnings.append(told)


def _described(error: BaseException) -> str:
    return f"failed: {type(error).__name__}: {error}"
