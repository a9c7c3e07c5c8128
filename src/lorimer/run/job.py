"""A job: one call of an executor, how it is stopped, and the errors with which it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, LorimerError, PipelineError
from lorimer.core.jsonable import JSON
from lorimer.launch.live import Run
from lorimer.run.agent import RunnableAgent
from lorimer.run.invocation import Invocation
from lorimer.run.lanes.lane import Lane


class Job:
    """One call of an executor."""

    __slots__ = (
        *("_lane", "again", "agent", "asked", "input", "over", "run", "run_id", "stopped"),
        *("after_s", "wait_s"),
    )

    def __init__(
        self,
        run_id: str,
        lane: Lane | None,
        agent: RunnableAgent,
        input: str,
        asked: Invocation,
        *,
        again: bool,
        over: bool,
    ) -> None:
        self.run_id = run_id
        self._lane = lane
        self.run: Run | None = None
        """None: it is being prepared, or is over."""
        self.stopped: Reason | None = None
        self.agent = agent
        self.input = input
        self.asked = asked
        self.again = again
        """It was begun before, and interrupted."""
        self.over = over
        """It has ended; only its ports are to be notified."""
        self.wait_s = 0.0
        """Seconds that it waits for another owner's claim to expire."""
        self.after_s = 0.0
        """How many seconds ago it has to have ended for another process to notify its ports."""

    def cancel(self, reason: Reason = Reason.CALLER) -> None:
        """Stop it: its result says `cancelled`. The first reason counts."""
        self.stopped = self.stopped or reason
        if self.run is not None:
            self.run.context.cancel(self.stopped)
        elif self._lane is not None:
            self._lane.cancel(self.run_id, shutdown=self.stopped is Reason.SHUTDOWN)

    def shut_down(self, within_s: float) -> None:
        """Suspend it; see `Executor.shut_down`."""
        self.stopped = self.stopped or Reason.SHUTDOWN
        if self.run is not None:
            self.run.context.drain(within_s)
        elif self._lane is not None:
            self._lane.cancel(self.run_id, shutdown=True)

    @property
    def recorded_invocation(self) -> Mapping[str, JSON]:
        """What its run.start records about it; see `core.events.Invoked`."""
        asked, agent = self.asked, self.agent
        told: dict[str, JSON] = {"agent": agent.name} if agent.name else {}
        if agent.subject not in ("", agent.name):
            told["subject"] = agent.subject
        if agent.version:
            told["version"] = agent.version
        if asked.caller_id:
            told["caller"] = asked.caller_id
        if asked.channel_id:
            told["channel"] = asked.channel_id
        if asked.parent_run_id:
            told["parent"] = asked.parent_run_id
        if asked.inputs:
            told["inputs"] = dict(asked.inputs)
        return told


def unknown(run_id: str, whole: str) -> LorimerError:
    """Only the beginning of an id was given."""
    return PipelineError(
        f"There is no run {run_id!r} in this store.",
        code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
        hint=f"Give the whole id: {whole}",
    )


def busy(run_id: str) -> LorimerError:
    """It is live here, under the same id."""
    return PipelineError(
        f"Run {run_id} is live here.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Wait for it, or leave run_id out.",
    )


def claimed(run_id: str, owner: str) -> LorimerError:
    """It is not in the journal, but another process holds its stream."""
    return PipelineError(
        f"Run {run_id} has not begun, but {owner} has claimed it, and may be about to begin it.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Try again when that claim has expired.",
    )


def just_ended(run_id: str, after_s: float) -> LorimerError:
    """It ended so recently that whoever ran it may be notifying its ports."""
    return PipelineError(
        f"Run {run_id} ended less than {after_s:g} s ago: the process that ran it may be about to "
        "report it.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Try again later, or with a smaller after_s.",
    )
