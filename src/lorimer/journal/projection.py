"""What all stores have in common: the list of runs that they keep in addition to the facts (one row
per run, from its run.start and run.end), its rules, and the errors of refused calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry, RunRow
from lorimer.core.jsonable import JSON, dumps, items_of

RUN_KINDS: Final = frozenset({"run.start", "run.end"})
TAKING: Final = frozenset({"effect", "mutated", "run.end"})
"""Facts that may take posts."""

MAX_POSTS: Final = 1000
"""Most messages that may wait in one inbox."""
MAX_POST_CHARS: Final = 1_000_000
"""Most bytes of one message as JSON."""
MAX_POST_ID: Final = 200

TITLE_CHARS: Final = 100
"""Most characters of a title that is taken from the input."""

MONEY_MAX: Final = 2**53
"""Limit of one movement of the ledger in nano-dollars: 9 million dollars."""


def started_row(stream: str, seq: int, fact: Event) -> RunRow:
    """The row of the run that begins with `fact`, a run.start."""
    title = _text(fact.data.get("title")) or _headline(fact.data.get("input"))
    return RunRow(fact.run_id, stream, fact.time, title, first=seq)


def ended_row(row: RunRow, fact: Event) -> RunRow:
    """The row after `fact`, its run.end."""
    data = fact.data
    return replace(
        row,
        status=_text(data.get("status")),
        ended=fact.time,
        iterations=_whole(data.get("iterations")),
        cost_nano=_whole(data.get("cost")),
        code=_text(data.get("code")),
    )


def refuse_start(run_id: str) -> JournalError:
    """The error for a run.start without an id, or whose id is taken: run ids are unique in a
    journal."""
    return JournalError(
        f"there is a run {run_id!r} already" if run_id else "a run.start fact has no run id",
        code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
    )


def refuse_second(run_id: str) -> JournalError:
    """The error for a run.start in a stream whose last run, `run_id`, is open."""
    return JournalError(
        f"run {run_id!r} has not ended: no other can begin in its stream",
        code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
        hint="Two writers have the same owner name: give each its own, or one conversation to one.",
    )


def refuse_end(run_id: str) -> JournalError:
    """The error for a run.end that is not the only end of the stream's last run."""
    return JournalError(
        f"run {run_id!r} cannot be ended: it is not the last run of this stream, or has ended",
        code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
    )


def refuse_epoch(stream: str) -> JournalError:
    """The error for an append without a claim, or whose claim was replaced by another owner's."""
    return JournalError(
        f"this process is no longer the writer of {stream!r}",
        code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
        hint="Another has taken it over. Try again later: what was written meanwhile is read then.",
    )


def refuse_claim(stream: str, owner: str, until: float, now: float) -> JournalError:
    """The error for a claim while another owner's is in force, until then (wall clock, seconds)."""
    left = until - now
    try:
        when = f"{datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC"
    except (ValueError, OverflowError):
        when = "an impossible time"
    return JournalError(
        f"{stream!r} is being written by {owner!r}, whose claim holds until {when}, "
        f"{left:.0f} s from now",
        code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
        hint="Wait until it is done. If it died, its claim ends by itself then (in a program, "
        f"wait_s={ceil(left)} waits for that).",
    )


def refuse_closed() -> JournalError:
    """The error for a call after `close`."""
    return JournalError("the journal is closed")


def refuse_snapshot(stream: str) -> JournalError:
    """The error for a snapshot of a stream that was never claimed."""
    return JournalError(f"there is no stream {stream!r} to store a snapshot of")


def refuse_post(stream: str) -> JournalError:
    """The error for a post to a stream that was never claimed."""
    return JournalError(
        f"there is no stream {stream!r} to post to", code=ExecutorErrorCode.EXEC_RUN_UNKNOWN
    )


def refuse_full(stream: str) -> JournalError:
    """The error for a post to an inbox in which MAX_POSTS messages wait."""
    return JournalError(
        f"the inbox of {stream!r} is full: {MAX_POSTS} messages wait in it",
        hint="Resume the run that they are for, or give it up.",
    )


def post_body(id: str, message: Mapping[str, JSON]) -> str:
    """A message in its stored form. Raises JournalError for what is not plain JSON, or too
    large."""
    if not 0 < len(id) <= MAX_POST_ID or not id.isprintable():
        raise JournalError(f"the id of a message is 1 to {MAX_POST_ID} printable characters")
    try:
        body = dumps(message)
        body.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"a message must be plain JSON ({error})", cause=error) from error
    if len(body) > MAX_POST_CHARS:
        raise JournalError(f"a message is too long: {len(body)} of {MAX_POST_CHARS} characters")
    return body


def taken_by(fact: Event) -> Sequence[str]:
    """The ids of the posts that a fact takes."""
    if fact.type not in TAKING:
        return ()
    return [each for each in items_of(fact.data.get("posts")) if isinstance(each, str)]


def check_append(facts: int, ledger: LedgerEntry | None) -> None:
    """Raises JournalError for an append without facts or with an impossible amount."""
    if not facts:
        raise JournalError("an append needs at least one fact")
    if ledger is not None and not (
        -MONEY_MAX < ledger.reserved < MONEY_MAX
        and -MONEY_MAX < ledger.spent < MONEY_MAX
        and (not ledger.below or 0 < ledger.below <= ledger.spent)
    ):
        raise JournalError(f"an amount of {ledger} is out of range")


def pick(prefix: str, found: list[RunRow]) -> RunRow | None:
    """The only run in `found` whose id begins with `prefix`. Raises JournalError when there are
    several."""
    exact = [row for row in found if row.run_id == prefix]
    if len(found) > 1 and not exact:
        names = ", ".join([row.run_id for row in found[:3]])
        raise JournalError(
            f"several runs begin with {prefix!r}: {names}{' and more' if len(found) > 3 else ''}",
            code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
            hint="Give more of the id.",
        )
    return (exact or found or [None])[0]


def _text(value: JSON) -> str:
    # only shown to people: half a surrogate pair, which no store accepts, becomes "?"
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _headline(input: JSON) -> str:
    """The beginning of a run's input, on one line."""
    text = input.get("text") if isinstance(input, Mapping) else input
    if not isinstance(text, str):
        return ""
    line = " ".join(_text(text[: 4 * TITLE_CHARS]).split())
    return line if len(line) <= TITLE_CHARS else f"{line[: TITLE_CHARS - 1]}…"


def _whole(value: JSON) -> int:
    return value if isinstance(value, int) and abs(value) < 2**62 else 0
