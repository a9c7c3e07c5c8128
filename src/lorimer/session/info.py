"""Sessions in a journal: their figures, finding and removing them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.journal import ALL_RUNS, Journal, RunRow
from lorimer.core.record import record
from lorimer.core.world import World
from lorimer.journal.conversation import Sums, read
from lorimer.journal.family import descendants, root_of
from lorimer.session.freshness import Freshness, FreshnessPolicy

_EVER: Final = 1e12
"""Wall clock, seconds: later than every run."""


@record
class SessionInfo:
    """One session. Failed and cancelled runs count too: they cost money."""

    session_id: str
    freshness: Freshness = Freshness.FRESH
    message_count: int = 0
    """Messages that its next run begins with, including answers and results of tools."""
    runs: int = 0
    iterations: int = 0
    """Model turns of all its runs."""
    total_cost_usd: float = 0.0
    """Cost of all its runs."""
    began: float = 0.0
    """Wall clock, seconds; 0: it has not begun."""
    last_used: float = 0.0
    title: str = ""
    """The beginning of its first message, if known."""
    unfinished: str = ""
    """The id of a run in it that can be resumed."""
    damaged: bool = False
    """Its content cannot be read; its messages are not counted."""


def info_of(
    session_id: str,
    sums: Sums,
    messages: int,
    policy: FreshnessPolicy,
    now: float,
    *,
    title: str = "",
    unfinished: str = "",
) -> SessionInfo:
    """The info of a session with these sums."""
    return SessionInfo(
        session_id,
        policy.of(messages=messages, began=sums.began, last_used=sums.last_used, now=now),
        messages,
        sums.runs,
        sums.iterations,
        sums.cost_nano / 1e9,
        sums.began,
        sums.last_used,
        title,
        unfinished,
    )


async def stored_sessions(
    journal: Journal,
    world: World,
    *,
    limit: int = 50,
    freshness: FreshnessPolicy = FreshnessPolicy(),  # noqa: B008 - it is immutable
) -> list[SessionInfo]:
    """The sessions in a journal, whichever process created them, last used first; at most `limit`.
    Runs of pipelines without memory are not in sessions. Reads their content: some 10 us per fact
    since its session's last snapshot. Raises JournalError."""
    by_session: dict[str, list[RunRow]] = {}
    for row in await journal.runs(limit=ALL_RUNS):
        if row.stream != row.run_id:
            by_session.setdefault(row.stream, []).append(row)
    shown = list(by_session.items())[:limit]
    return [await _info(journal, stream, rows, world, freshness) for stream, rows in shown]


async def stored_session(
    journal: Journal, session_id: str, world: World, freshness: FreshnessPolicy
) -> SessionInfo:
    """The session with that id, or the only one whose id begins with it. Raises PipelineError
    `exec.run.unknown` when there is none, or several."""
    rows = await journal.runs(limit=ALL_RUNS, stream=session_id) if session_id else []
    if not rows:
        every = await journal.runs(limit=ALL_RUNS)
        found = {row.stream for row in every if row.stream.startswith(session_id)}
        found -= {row.run_id for row in every}
        if not session_id or len(found) != 1:
            raise PipelineError(
                f"There is no session {session_id!r} in this journal."
                if not found or not session_id
                else f"Several sessions begin with {session_id!r}.",
                code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
                hint="See: lorimer sessions ls.",
            )
        (session_id,) = found
        rows = [row for row in every if row.stream == session_id]
    return await _info(journal, session_id, rows, world, freshness)


async def remove(journal: Journal, session_id: str) -> None:
    """Remove everything that a journal has of a session that was used, and of its sub-agents' runs.
    Raises PipelineError `exec.run.busy`, and changes nothing, while a run in it has not ended or
    another process has it; JournalError."""
    below: list[str] = []
    with suppress(JournalError):  # runs behind damage then belong to nothing: `prune` removes them
        async for fact in journal.read(session_id):
            async for _, _, row in descendants(journal, [fact]):
                # facts are untrusted: they may name another session's run
                if row is not None and (await root_of(journal, row)).stream == session_id:
                    below.append(row.stream)
    if not await journal.drop(session_id, before=_EVER):
        raise PipelineError(
            f"Session {session_id} is in use: a run in it has not ended, or a process has it.",
            code=ExecutorErrorCode.EXEC_RUN_BUSY,
            hint="Wait for it, or end its run: lorimer runs cancel RUN, pipeline.abandon(run_id).",
        )
    for stream in below:
        await journal.drop(stream, before=_EVER)


async def _info(
    journal: Journal, stream: str, rows: list[RunRow], world: World, policy: FreshnessPolicy
) -> SessionInfo:
    """`rows` are its runs, newest first."""
    messages, damaged, sums = 0, False, Sums()
    try:
        folded, pending, _ = await read(journal, stream)
        messages, sums = len(folded.messages), Sums.of(folded.runs)
        for fact in pending:
            sums.last_used = max(sums.last_used, fact.time)
    except JournalError:
        damaged = bool(await journal.check(stream))
        if not damaged:
            raise
        for row in reversed(rows):
            sums.add(row.started, row.ended or row.started, row.iterations, row.cost_nano)
    info = info_of(
        stream,
        sums,
        messages,
        policy,
        world.time(),
        title=rows[-1].title,
        unfinished=rows[0].run_id if not rows[0].status else "",
    )
    return replace(info, damaged=damaged)
