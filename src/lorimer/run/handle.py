"""A run that goes on in a task of its own: to wait for, and to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from lorimer.core.cancel import Reason
from lorimer.live import Run
from lorimer.run.lanes.lane import Lane
from lorimer.run.result import RunResult


class RunHandle:
    """A run that goes on. `await handle` gives its result."""

    __slots__ = ("_lane", "run", "run_id", "stopped", "task")

    def __init__(self, run_id: str, lane: Lane | None) -> None:
        self.run_id = run_id
        self._lane = lane
        self.task: asyncio.Task[RunResult]
        self.run: Run | None = None
        """None: it is being prepared, or is over."""
        self.stopped: Reason | None = None

    def cancel(self, reason: Reason = Reason.CALLER) -> None:
        """Stop it: its result says `cancelled`. The first reason counts."""
        self.stopped = self.stopped or reason
        if self.run is not None:
            self.run.context.cancel(self.stopped)
        elif self._lane is not None:
            self._lane.cancel(self.run_id)

    def shut_down(self, within_s: float) -> None:
        """Suspend it; see `Executor.shut_down`."""
        self.stopped = self.stopped or Reason.SHUTDOWN
        if self.run is not None:
            self.run.context.drain(within_s)
        elif self._lane is not None:
            self._lane.cancel(self.run_id)

    def __await__(self) -> Generator[object, None, RunResult]:
        return self.wait().__await__()

    async def wait(self) -> RunResult:
        """Its result. When the waiting task is cancelled so is the run; CancelledError is raised
        when that has ended, its last fact written and its ports told."""
        interrupted: asyncio.CancelledError | None = None
        while not self.task.done():
            try:
                await asyncio.wait([self.task])
            except asyncio.CancelledError as error:
                interrupted = error
                self.cancel()
        if interrupted is not None:
            raise interrupted
        return self.task.result()
