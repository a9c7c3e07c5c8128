"""Connect, idle and total timeouts for a model's stream: ours, not those of the SDK or the client.

No cancel scope is held across a yield: the run's single timer checks a timestamp that each piece
renews, and cancels the task only while it waits for the model. As with `asyncio.timeout`, it takes
its own cancellation back, and a simultaneous outer one wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from lorimer.core.alarm import Alarm
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.first_wait import on_first_wait
from lorimer.core.limits import Limits
from lorimer.core.request import NO_USAGE, Delta, Response, UsageDelta

FIRST_PIECE: Final = 2.5
"""The first content may take this many times the idle limit."""


class Clocks:
    """Three clocks for one call, on the timer of its run.

    connect: `connect_timeout_s` until the first item of any kind; models yield a UsageDelta,
        possibly empty, as soon as the provider has answered. idle: `idle_timeout_s` without
        content, and x 2.5 until the first; an item that only reports usage is not content, and the
        consumer's own time does not count. total: `model_timeout_s` for the whole call. `streamed`
        False: the answer comes in one piece, so only the total applies.

    They start when the call first waits.
    """

    __slots__ = (
        "_alarm",
        "_before",
        "_clock",
        "_connect",
        "_idle",
        "_left",
        "_limits",
        "_running",
        "_since",
        "_task",
        "_total",
        "_usage",
        "_waiting",
    )

    def __init__(self, alarm: Alarm, limits: Limits, *, streamed: bool = True) -> None:
        """For a call made by the current task."""
        self._alarm = alarm
        self._limits = limits
        self._running = False
        self._connect = limits.connect_timeout_s if streamed else inf
        """A duration in seconds and, once the clock runs, a point in time."""
        self._idle = self._left = limits.idle_timeout_s * FIRST_PIECE if streamed else inf
        self._clock = ""
        self._usage = NO_USAGE

    def _run(self) -> None:
        self._running = self._waiting = True
        self._since = now = self._alarm.loop.time()
        self._total = self._limits.model_timeout_s + now
        self._connect += now
        self._task: asyncio.Task[object] | None = asyncio.current_task(self._alarm.loop)
        self._before = 0 if self._task is None else self._task.cancelling()
        self._alarm.watch(self)

    async def next(self, stream: AsyncIterator[Delta | Response]) -> Delta | Response | None:
        """The next item of `stream`; None at its end.

        Raises APIError `exec.api.timeout` naming the clock that ran out, with the usage reported so
        far. To be called from the task that created this object.
        """
        piece = stream.__anext__()
        if self._running:
            self._since = self._alarm.loop.time()
            self._waiting = True
        else:
            piece = on_first_wait(piece, self._run)
        try:
            item = await piece
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError:
            if await self._was_ours():
                raise self._error() from None
            raise
        finally:
            self._waiting = False
        if isinstance(item, Response):
            return item
        self._connect = inf
        if isinstance(item, UsageDelta):
            self._usage = item.usage
            if self._running:
                self._left -= self._alarm.loop.time() - self._since
        elif self._left != self._limits.idle_timeout_s:
            self._idle = self._left = self._limits.idle_timeout_s
            if self._running:
                self._alarm.moved_nearer(self)
        return item

    def deadline(self) -> float:
        """The deadline of the clock that runs out first; none once one has."""
        if self._clock:
            return inf
        return min(self._total, self._connect, self._since + self._left)

    def ring(self, now: float) -> None:
        """A clock has run out: cancel the waiting task; `next` then reports which one."""
        if not self._waiting:  # the consumer has the item: its time does not count
            self._since = now
            self._total = max(self._total, now + 1)
            return
        if now >= self._connect:
            self._clock = f"{self._limits.connect_timeout_s:g} s without an answer (connect)"
        elif now >= self._total:
            self._clock = f"{self._limits.model_timeout_s:g} s for the whole call (total)"
        else:
            self._clock = f"{self._idle:g} s without content (idle)"
        if self._task is not None:
            self._task.cancel()

    async def _was_ours(self) -> bool:
        """Whether the cancellation that arrived is only this timer's; takes it back."""
        if not self._clock or self._task is None:
            return False
        ours = self._task.uncancel() <= self._before
        # A simultaneous outer cancellation wins. An anyio scope does not count itself while ours is
        # under way, and must see its own cancellation to know that it has to stop here.
        if anyio.current_effective_deadline() == -inf:
            await checkpoint()
        return ours

    def _error(self) -> APIError:
        return APIError(
            f"the model took too long: {self._clock}",
            code=ExecutorErrorCode.EXEC_API_TIMEOUT,
            hint="Raise limits.connect_timeout_s, idle_timeout_s or model_timeout_s.",
            usage=self._usage if self._usage is not NO_USAGE else None,
        )

    def close(self) -> None:
        """The call is over."""
        if self._running:
            self._alarm.forget(self)
