"""Cancelling a run: who can, what it reaches, what is not guaranteed.

Whoever wants a run to stop (the caller, a closed stream, the time limit, its supervisor, shutdown,
a lost lease, a question that nobody here can answer) calls `cancel(reason)`. The first reason wins
and decides the status of the run, whatever exception the cancellation causes on the way. It reaches
every await of the run, and keeps doing so until the run's code gives way: code that swallows one
CancelledError meets the next. Only shielded code is left alone. If somebody cancels the *task* that
executes the run, that becomes a reason too, and is passed on once the run has ended.

Not guaranteed: stopping a thread, interrupting code that never awaits, undoing an effect.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from enum import Enum
from functools import cache
from typing import Final

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from lorimer.core.waiting import Cancels


class Reason(Enum):
    """Who stopped a run."""

    CALLER = "the caller cancelled it"
    CLOSED = "the reader of its stream went away"
    TIMEOUT = "its time was used up"
    KILLED = "its supervisor killed it"
    SHUTDOWN = "the program is shutting down"
    FENCED = "another process took it over"
    WAITING = "a person has to answer first"


_PASSED_ON: Final = {
    Reason.CLOSED: Reason.CALLER,
    Reason.FENCED: Reason.SHUTDOWN,
    Reason.WAITING: Reason.SHUTDOWN,
}


def inherited(reason: Reason | None) -> Reason:
    """The reason for which a child run is stopped when its parent is stopped for `reason`; None:
    the parent has ended."""
    return Reason.CALLER if reason is None else _PASSED_ON.get(reason, reason)


@cache
def _scope_class() -> type[CancelScope]:
    """The scope class of the event loop's library. `CancelScope()` looks that up each time, which
    takes longer than everything else it does."""
    return type(CancelScope())


_CALLS: Final[ContextVar[tuple[Cancellation, ...]]] = ContextVar("lorimer_calls", default=())
"""The cancellations of the runs in whose calls the current task is, outermost first."""

_WATCHES: Final = sys.version_info < (3, 13)
"""Before that, `asyncio.TaskGroup` may leave its task counted as cancelled."""
_RUNS: Final[ContextVar[tuple[Cancellation, ...]]] = ContextVar("lorimer_runs", default=())
"""The cancellations of the runs that the current task executes, or was started by, outermost first.
"""


class Stopped(asyncio.CancelledError):
    """The run itself noticed that it was cancelled; its task was not."""


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Cancellation:
    """Stops one run. Belongs to the run's task; any task of its loop may cancel."""

    __slots__ = (
        "_above",
        "_before",
        "_cancels",
        "_changing",
        "_drained",
        "_task",
        "expired",
        "children",
        "finished",
        "for_the_program",
        "interrupted",
        "reason",
        "scope",
        "kill_reason",
    )

    def __init__(self) -> None:
        self.scope = _scope_class()()
        """Around everything the run does except recording its end."""
        self.reason: Reason | None = None
        self.kill_reason = ""
        """The supervisor's reason for killing the run, as text."""
        self.interrupted: asyncio.CancelledError | None = None
        """What cancelled the run's task; raised again after the run has ended."""
        self.for_the_program: BaseException | None = None
        """What code of the host's raised within the run that is no failure of the run, such as
        KeyboardInterrupt; raised again after the run has ended."""
        self.finished = False
        """The loop has ended normally; only stages 17 to 21 are left, and their time is bounded."""
        self.expired = False
        """The time for stages 17 to 21 is over."""
        self.children: tuple[Cancellation, ...] = ()
        """Cancellations of the child runs: they are stopped together with this run."""
        self._changing = 0
        """Number of calls in progress that change something."""
        self._drained: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._above: tuple[Cancellation, ...] = ()
        """What `_RUNS` was before."""
        self._cancels: Cancels | None = None
        """What cancels the run's task while it executes the run's code; None: that is not known."""

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start of the run, in the calling task of `loop`."""
        self._task = asyncio.current_task(loop)
        self._before = self._task.cancelling() if self._task is not None else 0

    def begin(self) -> None:
        """What the current task does from now on is done by this run, until `end`."""
        if _WATCHES:
            self._above = above = _RUNS.get()
            _RUNS.set((*above, self))

    def watch(self) -> Cancels | None:
        """The run waits for the first time. What is returned has to be told what cancels its task;
        None: it need not be known."""
        if not _WATCHES:
            return None
        self._cancels = Cancels(self._is_running, self._before)
        return self._cancels

    def _is_running(self) -> bool:
        return self in _RUNS.get()

    def end(self) -> None:
        """The run's code has ended. If that made something else of a cancellation of its task, this
        counts all the same."""
        if _WATCHES:
            _RUNS.set(self._above)
        if self._cancels is not None:
            self._cancels.take_back()
            self._cancels = None
        task = self._task
        if task is not None and task.cancelling() > self._before:
            self.interrupt(asyncio.CancelledError())

    def in_its_loop(self, stop: Callable[[], None]) -> None:
        """Call one of the methods that stop the run from any thread: at once on the run's loop,
        else soon. Does nothing if that loop is closed."""
        loop = self._task.get_loop() if self._task is not None else None
        if loop is None or loop is _running():
            stop()
            return
        try:
            loop.call_soon_threadsafe(stop)
        except RuntimeError:
            return

    def cancel(self, reason: Reason) -> None:
        """Stop the run. The first reason counts; calling again is harmless. Does nothing once the
        loop has ended normally."""
        if self.reason is None and not self.finished:
            self.reason = reason
            for heir in self.children:
                heir.cancel(inherited(reason))
            self.scope.cancel(reason.value)

    def kill(self, why: str) -> None:
        """Stop the run on behalf of its supervisor."""
        if self.reason is None and not self.finished:
            self.kill_reason = why
        self.cancel(Reason.KILLED)

    def drain(self, reason: Reason, within_s: float) -> None:
        """Stop the run at its next call to the outside (`check`). Calls in progress that change
        something have `within_s` seconds to finish, so that their results are recorded; everything
        else is cut off now."""
        if self.reason is None and not self.finished:
            self.reason = reason
        for heir in self.children:
            heir.drain(inherited(reason), within_s)
        if not self._changing or within_s <= 0:
            self._force()
        elif self._drained is None:
            loop = asyncio.get_running_loop()
            self._drained = loop.call_later(within_s, self._force)

    def begin_change(self) -> None:
        """A call that changes something begins: a shutdown gives it time to finish."""
        self._changing += 1

    def end_change(self) -> None:
        """Such a call has ended, in whatever way."""
        self._changing -= 1
        if self._drained is not None and not self._changing:
            self._force()

    def _force(self) -> None:
        # a drained run has nothing in progress any more, or no time left
        if self.reason is not None:
            self.scope.cancel(self.reason.value)

    async def raise_again(self) -> None:
        """Called when the run has ended: raise what was not meant for it, or what has cancelled its
        task, if there is any."""
        if self.for_the_program is not None:
            raise self.for_the_program
        if self.interrupted is not None:
            await checkpoint_if_cancelled()  # a scope of the caller's takes no error but its own
            raise self.interrupted

    def close(self) -> None:
        """The run is about to write its last fact."""
        if self._drained is not None:
            self._drained.cancel()

    def expire(self) -> None:
        """The time of stages 17 to 21 is over."""
        self.expired = True
        self.scope.cancel()

    def check(self) -> None:
        """Raises Stopped if the run was cancelled, even when the run's code swallowed that."""
        task = self._task
        counted = task is not None and task.cancelling() > self._before
        if counted and self.task_cancelled():
            self.interrupt(asyncio.CancelledError())
        if self.reason is not None:
            raise Stopped(self.reason.value)

    @property
    def stopping(self) -> bool:
        """Whether anyone wants the run, or its task, to stop."""
        return self.reason is not None or self.expired or self.task_cancelled()

    @property
    def stopping_beside(self) -> bool:
        """The same, of a run of the calling loop that does not wait for the caller: it is neither
        in the caller's task, nor is the caller in a call of it or of a child of it."""
        task = self._task
        if task is None or task.get_loop() is not _running() or task is asyncio.current_task():
            return False
        return self.stopping and not any(map(self._waits_for, _CALLS.get()))

    def _waits_for(self, call: Cancellation) -> bool:
        return call is self or any(child._waits_for(call) for child in self.children)

    def enter_call(self) -> tuple[Cancellation, ...]:
        """What the current task does from now on is a call of this run, also in the tasks that it
        starts. Returns what `leave_call` needs to end that."""
        calls = _CALLS.get()
        _CALLS.set((*calls, self))
        return calls

    @staticmethod
    def leave_call(calls: tuple[Cancellation, ...]) -> None:
        """The call has ended."""
        _CALLS.set(calls)

    def has_called(self) -> bool:
        """Whether the caller is in a call of this run, or in what such a call has started."""
        return self in _CALLS.get()

    def note_cancelled(self, error: asyncio.CancelledError) -> None:
        """The run's code received a CancelledError. If the run's own task was cancelled, the whole
        run is, so that every later await is cancelled too."""
        if self.reason is None and self._task is asyncio.current_task() and self.task_cancelled():
            self.interrupt(error)
            self.scope.cancel()

    def interrupt(self, error: asyncio.CancelledError) -> None:
        """The run's task itself was cancelled: the run ends, then `error` is raised to whoever did
        it."""
        if self.interrupted is None:
            self.interrupted = error
        if self.reason is None and not self.finished:
            self.reason = Reason.CALLER

    def part_scope(self) -> CancelScope:
        """A cancel scope for a part of the run."""
        return _scope_class()()

    @staticmethod
    def shielded() -> AbstractContextManager[object, bool | None]:
        """Shields what must be written even though the run was stopped. Keep it short."""
        return CancelScope(shield=True)

    def cancelled_here(self) -> bool:
        """Whether the current task, the run's own or another, is cancelled, and nothing has undone
        that."""
        task = asyncio.current_task()
        if task is not self._task:
            return task is not None and task.cancelling() > 0
        return task is not None and task.cancelling() > self._before and not self._by_itself()

    def _by_itself(self) -> bool:
        # a task group of the run's own may leave its task counted as cancelled
        return self._cancels is not None and self._cancels.only_own()

    def task_cancelled(self) -> bool:
        """Whether somebody else has cancelled the run's task, and nothing has undone that."""
        # once our own scope is cancelled, the task's count no longer says anything about others
        task = self._task
        return (
            task is not None
            and not self.scope.cancel_called
            and task.cancelling() > self._before
            and not self._by_itself()
        )
