"""Connect, idle and total time-outs round a model's stream: ours, not the SDK's or the client's.

No scope is held across a yield: one lazy timer looks at a stamp that each piece renews, and
cancels the task only while it waits for the model. As `asyncio.timeout` does, it takes its own
cancellation back, and an outer one at the same moment wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from math import inf
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import NO_USAGE, Delta, Response, Usage, UsageDelta

FIRST_PIECE: Final = 2.5
"""The first content may take this many times the idle limit."""


async def timed(
    stream: AsyncIterator[Delta | Response], limits: Limits, *, streamed: bool = True
) -> AsyncGenerator[Delta | Response, None]:
    """`stream`, or APIError `exec.api.timeout` naming the clock that ran out.

    connect: `connect_timeout_s` to the first item of any kind; models yield a UsageDelta, be it
        empty, as soon as the provider has answered. idle: `idle_timeout_s` without content, and
        x 2.5 to the first; an item that only reports usage is no content, and the time the
        consumer takes is not counted. total: `model_timeout_s` for the whole call.
    `streamed` False: the answer comes in one piece, so only the total counts.

    On the running loop's clock. Closing it early closes `stream`.
    """
    watch = _Watch(limits, streamed)
    usage = NO_USAGE
    try:
        while True:
            watch.begin()
            try:
                item = await anext(stream, None)
            except asyncio.CancelledError:
                if await watch.was_ours():
                    raise watch.error(usage) from None
                raise
            finally:
                watch.waiting = False
            if item is None:
                return
            if isinstance(item, UsageDelta):
                usage = item.usage
                watch.connected()
            else:
                watch.content()
            yield item
    finally:
        watch.close()
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


class _Watch:
    """One timer for three clocks."""

    __slots__ = (
        "_before",
        "_clock",
        "_connect",
        "_idle",
        "_left",
        "_limits",
        "_loop",
        "_since",
        "_task",
        "_timer",
        "_total",
        "waiting",
    )

    def __init__(self, limits: Limits, streamed: bool) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._total = self._since + limits.model_timeout_s
        self._connect = self._since + limits.connect_timeout_s if streamed else inf
        self._idle = self._left = limits.idle_timeout_s * FIRST_PIECE if streamed else inf
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._clock = ""
        self.waiting = False

    def begin(self) -> None:
        """The task goes to wait for the model: the idle clock runs on from here."""
        self._since = self._loop.time()
        task = self._task = asyncio.current_task()
        self._before = 0 if task is None else task.cancelling()
        self.waiting = True
        if self._timer is None:
            self._arm()

    def connected(self) -> None:
        """A sign of life: only the connect clock stops."""
        self._connect = inf
        self._left -= self._loop.time() - self._since

    def content(self) -> None:
        """A piece of the answer."""
        self._connect = inf
        self._idle = self._left = self._limits.idle_timeout_s

    def _deadline(self) -> float:
        return min(self._total, self._connect, self._since + self._left)

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._deadline(), self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self.waiting or self._task is None:
            return  # armed again when the consumer comes back
        now = self._loop.time()
        if now < self._deadline():
            self._arm()
            return
        if now >= self._connect:
            self._clock = f"{self._limits.connect_timeout_s:g} s without an answer (connect)"
        elif now >= self._total:
            self._clock = f"{self._limits.model_timeout_s:g} s for the whole call (total)"
        else:
            self._clock = f"{self._idle:g} s without content (idle)"
        self._task.cancel()

    async def was_ours(self) -> bool:
        """Whether the cancellation that arrived is this timer's alone; takes it back."""
        if not self._clock or self._task is None:
            return False
        if self._task.uncancel() <= self._before:
            return True
        # Somebody else cancels too, and wins. If that is an anyio scope, it must see its own
        # cancellation, not ours, or it would not know that it has to stop here.
        if anyio.current_effective_deadline() == -inf:
            await checkpoint()
        return False

    def error(self, usage: Usage) -> APIError:
        """What the caller is told."""
        return APIError(
            f"the model took too long: {self._clock}",
            code=ExecutorErrorCode.EXEC_API_TIMEOUT,
            hint="Raise limits.connect_timeout_s, idle_timeout_s or model_timeout_s.",
            usage=usage if usage is not NO_USAGE else None,
        )

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
