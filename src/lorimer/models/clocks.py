"""Connect, idle and total time-outs round a model's stream: ours, not the SDK's or the client's.

No scope is held across a yield: one lazy timer looks at a stamp that each piece renews, and
cancels the task only while it waits for the model. As `asyncio.timeout` does, it takes its own
cancellation back, and an outer one at the same moment wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import NO_USAGE, Delta, Response, UsageDelta

FIRST_PIECE: Final = 2.5
"""The first content may take this many times the idle limit."""


class Clocks:
    """Three clocks round one call, on one timer of the running loop.

    connect: `connect_timeout_s` to the first item of any kind; models yield a UsageDelta, be it
        empty, as soon as the provider has answered. idle: `idle_timeout_s` without content, and
        x 2.5 to the first; an item that only reports usage is no content, and the time the
        consumer takes is not counted. total: `model_timeout_s` for the whole call.
    `streamed` False: the answer comes in one piece, so only the total counts.
    """

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
        "_usage",
        "_waiting",
    )

    def __init__(self, limits: Limits, *, streamed: bool = True) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._total = self._since + limits.model_timeout_s
        self._connect = self._since + limits.connect_timeout_s if streamed else inf
        self._idle = self._left = limits.idle_timeout_s * FIRST_PIECE if streamed else inf
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()
        self._clock = ""
        self._waiting = False
        self._usage = NO_USAGE

    async def next(self, stream: AsyncIterator[Delta | Response]) -> Delta | Response | None:
        """The next item of `stream`; None: it has ended.

        Raises APIError `exec.api.timeout` naming the clock that ran out, with the usage that was
        reported until then. Called by the task that made this.
        """
        self._since = self._loop.time()
        self._waiting = True
        if self._timer is None:
            self._arm()
        try:
            item = await anext(stream, None)
        except asyncio.CancelledError:
            if await self._was_ours():
                raise self._error() from None
            raise
        finally:
            self._waiting = False
        self._connect = inf
        if isinstance(item, UsageDelta):
            self._usage = item.usage
            self._left -= self._loop.time() - self._since
        else:
            self._idle = self._left = self._limits.idle_timeout_s
        return item

    def _deadline(self) -> float:
        return min(self._total, self._connect, self._since + self._left)

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._deadline(), self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self._waiting or self._task is None:
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

    async def _was_ours(self) -> bool:
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

    def _error(self) -> APIError:
        return APIError(
            f"the model took too long: {self._clock}",
            code=ExecutorErrorCode.EXEC_API_TIMEOUT,
            hint="Raise limits.connect_timeout_s, idle_timeout_s or model_timeout_s.",
            usage=self._usage if self._usage is not NO_USAGE else None,
        )

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
