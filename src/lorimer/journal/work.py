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

    sync: bool
    stream: str | None
    """None: the thread is to do it."""
    committed = False
    """It is visible."""
    error: Exception | None = None
    done = False
    """Whoever waits for it was told."""
    future: asyncio.Future[None] | None = None

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

    result: T

    def __init__(self, run: Callable[[Database], T], sync: bool, stream: str | None) -> None:
        self._run = run
        self.sync = sync
        self.stream = stream

    def perform(self, db: Database) -> None:
        self.result = self._run(db)


class Batch:
    """What the thread gets at once from one event loop: parts that are to be committed, and parts
    that are committed and wait for an fsync, or for their turn to be told."""

    __slots__ = ("jobs", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.jobs: list[Work] = []

    def tell(self, unsynced: Exception | None) -> None:
        """Tell those that wait how it went. From any thread."""
        try:
            self.loop.call_soon_threadsafe(finish, self.jobs, unsynced)
        except RuntimeError:
            return  # the loop is closed: nobody waits for the outcome


def finish(jobs: Sequence[Work], unsynced: Exception | None) -> None:
    """These parts are over, and synced, unless there is that error."""
    for job in jobs:
        if unsynced is not None and job.sync and job.committed:
            job.error = unsynced
        job.done = True
        if job.future is not None and not job.future.done():
            job.future.set_result(None)
