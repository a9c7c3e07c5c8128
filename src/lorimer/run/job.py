"""What an executor was asked for, and why it may refuse."""

from __future__ import annotations

from collections.abc import Mapping

from lorimer.core.errors import ExecutorErrorCode, LorimerError, PipelineError
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.run.agent import RunnableAgent
from lorimer.run.handle import RunHandle
from lorimer.run.invocation import Invocation


@record
class Job:
    """One call of an executor."""

    handle: RunHandle
    agent: RunnableAgent
    input: str
    asked: Invocation
    again: bool
    """It was begun before, and interrupted."""
    over: bool
    """It has ended; only its ports are to be told."""

    @property
    def told(self) -> Mapping[str, JSON]:
        """What the run.start says of it; see `core.events.Invoked`."""
        asked = self.asked
        told: dict[str, JSON] = {"agent": self.agent.name} if self.agent.name else {}
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
    """It goes on here, under the same id."""
    return PipelineError(
        f"Run {run_id} goes on at this moment.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Wait for it, or leave run_id out.",
    )
