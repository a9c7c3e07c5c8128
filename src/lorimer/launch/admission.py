"""Checks whether runs may begin or resume, and the errors if they may not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.fact_data import uses_of
from lorimer.core.journal import Journal, RunRow, find
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.plan import Plan
from lorimer.journal.family import parent_of

_BEGUN: Final = frozenset({"tool.intent", "effect.intent", "child"})


def require_asyncio() -> None:
    """Raises PipelineError if another library's event loop is running."""
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
    """Raises PipelineError if a run with this id exists; JournalError."""
    try:
        row = await journal.find_run(run_id)
    except JournalError as error:
        if error.code is not ExecutorErrorCode.EXEC_RUN_UNKNOWN:
            raise
        return  # several ids begin with it, but none equals it
    if row is not None and row.run_id == run_id:
        raise PipelineError(
            f"There is a run {run_id} already.",
            code=ExecutorErrorCode.EXEC_RUN_BUSY,
            hint="Leave run_id out, or resume that run.",
        )


async def require_unfinished(journal: Journal, run_id: str) -> RunRow:
    """The unfinished run with that id, or the only one whose id begins with it. Raises
    PipelineError when there is no such run or it has ended; JournalError."""
    row = await find(journal, run_id)
    if row.status:
        raise PipelineError(
            f"Run {row.run_id} has ended ({row.status}); there is nothing to resume.",
            code=ExecutorErrorCode.EXEC_RUN_ENDED,
        )
    return row


def require_same_manifest(start: Event, plan: Plan) -> None:
    """Raises ConfigError if the run was begun with another manifest than the plan's."""
    if start.data.get("manifest") != plan.digest:
        raise ConfigError(
            f"Run {start.run_id} was begun with another manifest than this pipeline's.",
            code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
            hint="Resume it with the agent that began it, as it was then; on the command line "
            f"lorimer runs resume {start.run_id} does.",
        )


def require_known_calls(facts: Sequence[Event]) -> None:
    """Raises JournalError for the facts of an unfinished run if one of them does not say which call
    was begun: a call that is not recognised would be made again."""
    replied, calls = -1, 0
    for fact in facts:
        kind = fact.type
        if kind == "model.reply":
            data = fact.data  # only where needed: it may have to be decoded
            if "error" not in data:
                replied, calls = fact.iteration, len(uses_of(data))
            continue
        if kind not in _BEGUN:
            continue
        data = fact.data
        key, known = data.get("key"), calls if fact.iteration == replied else 0
        if (
            not isinstance(key, str)
            or (kind == "child" and not isinstance(data.get("run"), str))
            or (kind == "tool.intent" and not _is_below(key, known))
        ):
            raise JournalError(
                f"Run {fact.run_id} cannot go on: its fact {fact.seq} ({kind}) does not say which "
                "call was begun.",
                hint=f"What is damaged: lorimer runs verify {fact.run_id}. lorimer runs cancel "
                f"{fact.run_id} ends it.",
            )


def _is_below(key: str, calls: int) -> bool:
    return key.isdecimal() and key.isascii() and len(key) < 10 and int(key) < calls


def require_no_parent(start: Event) -> None:
    """Raises PipelineError for a child run: it is resumed with its parent."""
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
            hint="Give text, or a mapping of plain data: model_dump_json() of a BaseModel, "
            "to_json() of an ImageBlock.",
        ) from None


def conversation_busy() -> PipelineError:
    """The error for a second run in a conversation."""
    return PipelineError(
        "This conversation is already in a run.",
        code=ExecutorErrorCode.EXEC_RUN_BUSY,
        hint="Wait for it, close its run_stream (`aclose`) if that was left half way, or use a "
        "pipeline or session of its own for a second one.",
    )
