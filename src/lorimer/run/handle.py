"""A run that executes in a task of its own: to wait for, and to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from lorimer.core.cancel import Reason
from lorimer.run.bounded import uncancelled
from lorimer.run.job import Job
from lorimer.run.result import RunResult


class RunHandle:
    """A live run. `await handle` returns its result."""

    __slots__ = ("_job", "task")

    def __init__(self, job: Job, task: asyncio.Task[RunResult]) -> None:
        self._job = job
        self.task = task

    @property
    def run_id(self) -> str:
        """The id of the run. The journal contains it once it has begun; while it waits in a lane,
        only this process knows it."""
        return self._job.run_id

    def cancel(self, reason: Reason = Reason.CALLER) -> None:
        """Stop it: its result has the status `cancelled`. The first reason counts."""
        self._job.cancel(reason)

    def __await__(self) -> Generator[object, None, RunResult]:
        return self.wait().__await__()

    async def wait(self) -> RunResult:
        """Return its result. If the waiting task is cancelled, so is the run; CancelledError is
        raised after that has ended, its last fact is written and its ports are notified."""
        try:
            await asyncio.wait([self.task])
        except asyncio.CancelledError:
            self.cancel()
            await uncancelled(asyncio.wait([self.task]))
            raise
        return self.task.result()
