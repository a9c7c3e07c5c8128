"""Cancelling a run: by whom, what it reaches, what is not promised.

Whoever wants a run to stop (caller, a closed stream, the time limit, shutdown, a lost lease)
calls `cancel(reason)`. The first reason wins and gives the run its status, whatever exception it
causes on the way. It reaches every await of the run's task, again and again until the code there
gives way: code that swallows one CancelledError meets the next. When somebody cancels the *task*
that the run is in, that becomes a reason too, and goes on to them once the run has ended.

Not promised: stopping a thread, interrupting code that never waits, undoing an effect.

This is a cancel scope of its own because one of anyio costs as much as five stages when it is
the outermost of its task; what is inside (tools, task groups) uses anyio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from typing import cast

from anyio import CancelScope


class Reason(Enum):
    """Who stopped a run."""

    CALLER = "the caller cancelled it"
    CLOSED = "the reader of its stream went away"
    TIMEOUT = "its time was used up"
    SHUTDOWN = "the program is shutting down"
    FENCED = "another process took it over"


class Cancellation:
    """The way to stop one run. Belongs to the run's task; any task of its loop may cancel."""

    __slots__ = (
        "_before",
        "_handle",
        "_loop",
        "_sent",
        "_shields",
        "_task",
        "expired",
        "finished",
        "interrupted",
        "reason",
    )

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.interrupted: asyncio.CancelledError | None = None
        """What cancelled the run's task; to be raised again when the run has ended."""
        self.finished = False
        """The loop has ended well; only stages 17 to 21 are left, and their time is bounded."""
        self.expired = False
        """That time is over."""
        self._task: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.Handle | None = None
        self._before = 0
        self._sent = 0
        self._shields = 0

    @property
    def task(self) -> asyncio.Task[object] | None:
        """The run's task, while the run can be stopped."""
        return self._task

    def enter(self) -> None:
        """The run begins, in the calling task."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        if self.reason is not None:
            self._tell()

    def leave(self, error: asyncio.CancelledError | None) -> None:
        """Nothing more can be stopped. `error` is the cancellation that ended the run, if one
        did: somebody else's is kept for them."""
        task, self._task = self._task, None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if task is None:
            return
        for _ in range(self._sent):
            task.uncancel()
        theirs = task.cancelling() > self._before
        if error is not None and (theirs or (self.reason is None and not self.expired)):
            self.interrupt(error)

    def cancel(self, reason: Reason) -> None:
        """Stop the run. The first reason counts; calling again is harmless. Once the loop has
        ended well there is nothing left to stop."""
        if self.reason is None and not self.finished:
            self.reason = reason
            self._tell()

    def expire(self) -> None:
        """The time of stages 17 to 21 is over."""
        self.expired = True
        self._tell()

    def check(self) -> None:
        """Raises CancelledError when the run was cancelled, also where code swallowed it."""
        if self._theirs():
            self.interrupt(asyncio.CancelledError())
        if self.reason is not None:
            raise asyncio.CancelledError(self.reason.value)

    @property
    def stopping(self) -> bool:
        """Somebody wants the run, or the task it is in, to stop."""
        return self.reason is not None or self.expired or self._theirs()

    def met(self, error: asyncio.CancelledError) -> None:
        """Code of the run met a CancelledError: if somebody cancelled the run's own task, the
        whole run is cancelled, so that it is told again and again."""
        if self.reason is None and self._task is asyncio.current_task() and self._theirs():
            self.interrupt(error)
            self._tell()

    def interrupt(self, error: asyncio.CancelledError) -> None:
        """The run's task itself was cancelled: the run ends, and then `error` goes on to whoever
        did it."""
        if self.interrupted is None:
            self.interrupted = error
        if self.reason is None and not self.finished:
            self.reason = Reason.CALLER

    @contextmanager
    def undisturbed(self) -> Generator[None]:
        """For what has to be written although the run was stopped. Keep it short."""
        self._shields += 1
        try:
            with CancelScope(shield=True):
                yield
        finally:
            self._shields -= 1

    def _theirs(self) -> bool:
        task = self._task
        return task is not None and task.cancelling() - self._sent > self._before

    def _tell(self) -> None:
        """Cancel the task wherever it waits; and look again as soon as others have run."""
        task, loop = self._task, self._loop
        self._handle = None
        if task is None or loop is None:
            return
        # Only a task that waits: one about to run would carry the cancellation out of the run.
        if not self._shields and _waits(task):
            task.cancel()
            self._sent += 1
        self._handle = loop.call_soon(self._tell)


def _waits(task: asyncio.Task[object]) -> bool:
    # asyncio has no public word for it; anyio looks at the same attribute
    waiter = cast("asyncio.Future[object] | None", getattr(task, "_fut_waiter", None))
    return waiter is not None and not waiter.done()
