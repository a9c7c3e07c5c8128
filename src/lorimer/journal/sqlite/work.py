"""The parts of a transaction, and how the tasks that wait for them get the outcome."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from lorimer.journal.sqlite.database import Database

T = TypeVar("T")


class Work(ABC):
    """One caller's part of a transaction, and its outcome. Used by the thread of an event loop and,
    until its outcome is delivered, by the one that commits for others."""

    __slots__ = ("done", "error", "future", "over", "stream", "sync")

    stream: str | None
    """None: to be done by the thread."""

    def __init__(self, stream: str | None, sync: bool) -> None:
        self.stream = stream
        self.sync = sync
        self.over = False
        """Committed, and so visible, or refused."""
        self.error: Exception | None = None
        """Why it was not committed, or not synced."""
        self.done = False
        """The outcome was delivered to the waiting task."""
        self.future: asyncio.Future[None] | None = None

    @abstractmethod
    def perform(self, db: Database) -> None:
        """Do the work. Must raise JournalError before its first write or not at all: then only this
        part is refused, not its group."""

    def fail(self, error: Exception) -> None:
        """It was not committed."""
        self.error = error
        self.over = True

    def tell(self) -> None:
        """Deliver the outcome: it is committed, and synced if requested, or `error` says why not.
        Called once, in the event loop's thread."""
        self.done = True
        if self.error is None:
            self.succeeded()
        future = self.future
        if future is not None and not future.done():
            future.set_result(None)

    def succeeded(self) -> None:  # noqa: B027 - mostly nothing
        """Called after success, before the waiting task continues."""


class Job(Work, Generic[T]):
    """A part with a result."""

    __slots__ = ("_run", "result")

    result: T

    def __init__(self, run: Callable[[Database], T], stream: str | None, sync: bool) -> None:
        super().__init__(stream, sync)
        self._run = run

    def perform(self, db: Database) -> None:
        self.result = self._run(db)


class LoopWaiters:
    """The tasks of one event loop that wait for a commit or an fsync. Used by its thread only."""

    __slots__ = ("batch", "left", "loop", "streams")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.streams: dict[str | None, int] = {}
        """For each stream, how many tasks wait for their part, or are about to continue: later ones
        continue later. Empty: nobody waits."""
        self.left: list[Work] = []
        """Parts that the thread still has to commit for it."""
        self.batch: Batch | None = None
        """What is committed after this iteration of the loop."""

    def join(self, stream: str | None) -> None:
        """Add a waiting task."""
        self.streams[stream] = self.streams.get(stream, 0) + 1

    def go_on(self, stream: str | None) -> None:
        """A waiting task continues."""
        left = self.streams[stream] - 1
        if left:
            self.streams[stream] = left
        else:
            del self.streams[stream]


class Batch:
    """What one event loop hands to the thread at once: parts to commit, and committed parts that
    wait for an fsync, or for their turn to be delivered."""

    __slots__ = ("_loop", "_outside", "jobs")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.jobs: list[Work] = []
        self._loop = loop
        self._outside: AbstractContextManager[None] | None = None

    def leave(self, outside: AbstractContextManager[None]) -> None:
        """Hand it over to the thread, which works `outside` of the loop until it is done."""
        if self.jobs:  # nobody waits for a checkpoint alone
            outside.__enter__()
            self._outside = outside

    def tell(self, unsynced: Exception | None) -> None:
        """Deliver the outcomes to the waiting tasks. From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._finish, unsynced)
        except RuntimeError:
            return  # the loop is closed: nobody is waiting

    def _finish(self, unsynced: Exception | None) -> None:
        if self._outside is not None:
            self._outside.__exit__(None, None, None)
        finish(self.jobs, unsynced)


def finish(jobs: Sequence[Work], unsynced: Exception | None) -> None:
    """Mark these parts as over; `unsynced` is why they are not synced, if so."""
    for job in jobs:
        if unsynced is not None and job.sync and job.error is None:
            job.error = unsynced
        job.tell()
