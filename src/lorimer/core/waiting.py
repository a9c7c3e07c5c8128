"""Tells who cancels a call or a run: its own code (a time limit, a task group, a task that it
started), or somebody else.

asyncio does not say it: both call `Task.cancel`. But that calls `cancel` of the future that the
task waits for, in the context of whoever cancels; and what a call starts has the call's context.
Before Python 3.13 this matters: there `asyncio.TaskGroup` may leave its task counted as cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast


class Cancels(asyncio.Future[object]):
    """What cancels the current task while it executes a call, or a run. A future itself: it stands
    for the one that the task waits for at the moment."""

    __slots__ = (
        "_before",
        "_others",
        "_own",
        "_real",
        "_task",
        "_watching",
        "_within",
        "by_others",
        "first",
    )

    def __init__(self, within: Callable[[], bool], before: int | None = None) -> None:
        """`within`: whether the code that is running belongs to the call, or was started by it.
        `before`: how often the task had been cancelled before; now, if not given."""
        loop = asyncio.get_running_loop()
        super().__init__(loop=loop)
        self._within = within
        self._task = task = asyncio.current_task(loop)
        if before is None:
            before = 0 if task is None else task.cancelling()
        self._before = before
        self._watching = False
        self._own = 0
        """How often the call has cancelled its task, and had not undone that at its last wait."""
        self.first: asyncio.CancelledError | None = None
        """The first that was thrown into the call."""
        self._others = 0
        """The same for someone else. Scopes of anyio are counted in neither: they take back what
        they do."""
        self.by_others = False
        """Someone else has cancelled it, or may have."""

    def watched(self, waiting: object) -> object:
        """What the task is to wait for instead of `waiting`."""
        if self._own:
            self._own = min(self._own, self._outstanding())
        self._watching = False
        if not isinstance(waiting, asyncio.Future):
            return waiting
        real = cast("asyncio.Future[object]", waiting)
        if real.get_loop() is not self.get_loop():
            return real  # an error, which the task raises
        self._watching = True
        self._real = real
        # the protocol of futures: a task that waits for one takes this back, so that others may
        self._asyncio_future_blocking = real._asyncio_future_blocking  # pyright: ignore[reportPrivateUsage]
        real._asyncio_future_blocking = False  # pyright: ignore[reportPrivateUsage]
        return self

    def receive(self, error: asyncio.CancelledError) -> None:
        """`error` came out of the last wait."""
        if self.first is None:
            self.first = error
        if not self._watching:
            self._by_others(error.args[0] if error.args else None)

    def _note(self, msg: object) -> None:
        """The task is being cancelled."""
        # Ctrl-C does so in whatever is running, without a message; scopes of anyio have one
        if not self._within() or (msg is None and self._in_a_task()):
            self._by_others(msg)
        elif msg is None:
            self._own += 1

    def _by_others(self, msg: object) -> None:
        self.by_others = True
        self._others += msg is None

    def only_own(self) -> bool:
        """Whether the task is counted as cancelled for nothing but what the call itself has
        cancelled."""
        return not self._others and self._outstanding() <= self._own

    def _outstanding(self) -> int:
        return 0 if self._task is None else self._task.cancelling() - self._before

    def _in_a_task(self) -> bool:
        return self._task is None or asyncio.current_task(self._task.get_loop()) is not None

    def take_back(self) -> None:
        """The call has ended: what it has cancelled itself is over."""
        while self._task is not None and self._own and self._outstanding() > self._others:
            self._task.uncancel()
            self._own -= 1

    # --- what a task asks of a future ---------------------------------------------------------

    def __repr__(self) -> str:
        return repr(self._real)

    def cancel(self, msg: object = None) -> bool:
        self._note(msg)
        return self._real.cancel(msg)

    def done(self) -> bool:
        return self._real.done()

    def cancelled(self) -> bool:
        return self._real.cancelled()

    def add_done_callback(
        self, fn: Callable[[Any], object], /, *, context: Context | None = None
    ) -> None:
        self._real.add_done_callback(fn, context=context)
