"""Which runs may begin, and which may be resumed: the checks, and their errors."""

from __future__ import annotations

import asyncio

from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow, find
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.plan import Plan
from lorimer.journal.family import parent_of


def require_asyncio() -> None:
    """Raises PipelineError where another library's event loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        raise PipelineError(
            "Runs need an event loop of asyncio's, and none is running here.",
            code=ExecutorErrorCode.EXEC_RUN_BUSY,
            hint="Use asyncio.run(...), or anyio.run(...) without another backend; where another "
            "loop has to go on, call run_sync in a thread.",
        ) from error


async def require_new(journal: Journal, run_id: str) -> None:
    """Raises PipelineError when there is a run of this id, and JournalError."""
    try:
        row = await journal.find_run(run_id)
    except JournalError as error:
        if error.code is not ExecutorErrorCode.EXEC_RUN_UNKNOWN:
            raise
        return  # several begin with it: none of them is it
    if row is not None and row.run_id == run_id:
        raise PipelineError(
            f"There is a run {run_id} already.",
            code=ExecutorErrorCode.EXEC_RUN_BUSY,
            hint="Leave run_id out, or resume that run.",
        )


async def require_unfinished(journal: Journal, run_id: str) -> RunRow:
    """The unfinished run of that id, or of the one id that begins so. Raises PipelineError when
    there is no such run, or it has ended, and JournalError."""
    row = await find(journal, run_id)
    if row.status:
        raise PipelineError(
            f"Run {row.run_id} has ended ({row.status}); there is nothing to resume.",
            code=ExecutorErrorCode.EXEC_RUN_ENDED,
        )
    return row


def require_same_manifest(start: Event, plan: Plan) -> None:
    """Raises ConfigError where another manifest than the plan's began the run."""
    if start.data.get("manifest") != plan.digest:
        raise ConfigError(
            f"Run {start.run_id} was begun with another manifest than this pipeline's.",
            code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
            hint="Resume it with the agent that began it, as it was then; on the command line "
            f"lorimer runs resume {start.run_id} does.",
        )


def require_no_parent(start: Event) -> None:
    """Raises PipelineError for a run that is part of another: it goes on with that."""
    parent = parent_of(start)
    if parent is not None:
        raise PipelineError(
            f"Run {start.run_id} is part of run {parent.get('run')}, and goes on with it.",
            code=ExecutorErrorCode.EXEC_CHILD_PART,
            hint=f"lorimer runs resume {parent.get('run')}",
        )


def require_plain(input: JSON) -> None:
    """Raises PipelineError for an input that cannot be recorded."""
    if isinstance(input, str):
        return
    try:
        canonical(input)
    except (TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"The input cannot be recorded: {error}.",
            code=ExecutorErrorCode.EXEC_INPUT_INVALID,
            hint="Give text, or a mapping of plain data.",
        ) from None


def conversation_busy() -> PipelineError:
    """The error of a second run in a conversation."""
    return PipelineError(
        "This conversation is already in a run.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Wait for it, or use a pipeline or session of its own for a second one.",
    )
