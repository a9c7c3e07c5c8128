"""Code of the host around a run: it may raise, hang or swallow its cancelling, and the run goes
on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, TypeVar

from lorimer.core.redaction import logger

T = TypeVar("T")

LAST_S: Final = 1.0
"""Seconds that code has which was told to stop. What has not stopped by then is left to itself."""

_log: Final = logger("lorimer.run")


async def bounded(
    what: str, call: Callable[[], Awaitable[T]], within_s: float, warnings: list[str]
) -> T | None:
    """What it gives; None, and a warning that is logged too, where it raises, gives nothing to wait
    for, or takes longer than `within_s` seconds. In a task of its own, so that what happens to that
    one is not the caller's. Raises CancelledError when the caller is cancelled."""

    async def work() -> T:
        return await call()

    task = asyncio.get_running_loop().create_task(work())
    try:
        await asyncio.wait([task], timeout=within_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=LAST_S)
    if not task.done():
        why = f"took longer than {within_s:g} s, and does not stop"
    elif task.cancelled():
        why = f"took longer than {within_s:g} s"
    else:
        error = task.exception()
        if error is None:
            return task.result()
        why = _told(error)
    _log.warning("%s %s", what, why)
    warnings.append(f"{what} {why}")
    return None


async def unbroken(work: Coroutine[object, object, None]) -> asyncio.CancelledError | None:
    """Have it done in a task of its own, and to its end although the caller is cancelled meanwhile:
    what did that is given back, to be raised. Raises what `work` raises. Nothing bounds it."""
    task = asyncio.get_running_loop().create_task(work)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interrupted = error
    task.result()
    return interrupted


def guarded(what: str, call: Callable[[], T], warnings: list[str]) -> T | None:
    """As `bounded`, of what must not wait."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - code of the host's
        why = _told(error)
        _log.warning("%s %s", what, why)
        warnings.append(f"{what} {why}")
        return None


def _told(error: BaseException) -> str:
    return f"failed: {type(error).__name__}: {error}"
