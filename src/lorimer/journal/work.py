"""The parts of a transaction, and how those who wait for them are told."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lorimer.journal.database import Database

T = TypeVar("T")


class Work(ABC):
    """One caller's part of a transaction, and how it went."""

    __slots__ = ("committed", "done", "error", "future", "loop", "stream", "sync")

    def __init__(self, sync: bool, stream: str | None) -> None:
        self.sync = sync
        self.stream = stream
        """None: the thread is to do it."""
        self.committed = False
        """It is visible."""
        self.error: Exception | None = None
        self.done = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Committed or refused."""
        return self.committed or self.error is not None

    @abstractmethod
    def perform(self, db: Database) -> None:
        """Do it. Must raise JournalError before its first write or not at all: then only this
        part is refused, not its group."""


class Job(Work, Generic[T]):
    """A part that gives a result."""

    __slots__ = ("_run", "result")

    result: T

    def __init__(self, run: Callable[[Database], T], sync: bool, stream: str | None) -> None:
        Work.__init__(self, sync, stream)
        self._run = run

    def perform(self, db: Database) -> None:
        self.result = self._run(db)


def deliver(jobs: Sequence[Work]) -> None:
    """Tell those that wait for these parts how they went. From any thread."""
    loops = {job.loop: job.loop for job in jobs if job.loop is not None}
    for loop in loops:
        mine = [job for job in jobs if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_finish, mine)
        except RuntimeError:
            continue  # the loop is closed: nobody waits for the outcome


def _finish(jobs: Sequence[Work]) -> None:
    for job in jobs:
        job.done = True
        if job.future is not None and not job.future.done():
            job.future.set_result(None)
