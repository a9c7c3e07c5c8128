"""One recorded run: what replay, fork, diff and export read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import field
from typing import Final, cast

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.journal import Journal, RunRow, find
from lorimer.core.jsonable import JSON, items_of
from lorimer.core.messages import Message
from lorimer.core.receipt import Receipt
from lorimer.core.record import record
from lorimer.core.request import MOST
from lorimer.core.wellformed import repaired
from lorimer.journal.conversation import latest
from lorimer.journal.fold import Fold

_ORIGIN: Final = ("parent", "title", "budgets", "refused", "invocation")
_STOPS: Final = frozenset({"effect.intent", "effect", "run.suspended", "iteration.end"})
"""Kinds of facts with which the time of a run may stop or continue, or that say how long it was."""
_JUMP_S: Final = 60.0
"""If two facts are further apart, the clock may have been set, or the machine was asleep."""


@record
class Recording:
    """A run, ended or not, with everything needed to replay it without its journal."""

    run_id: str
    session_id: str
    """The stream that it is in."""
    history: Sequence[Message]
    """The conversation before it."""
    facts: Sequence[Event]
    """All facts of the run, in order; the first is its run.start."""
    manifest: Mapping[str, JSON] | None
    """The manifest it was begun with; None: it is not in the store."""
    receipt: Receipt | None = None
    """The receipt of the last compaction before it."""
    durable: bool | None = field(default=None, compare=False)
    """Whether its journal outlives the process; None: unknown."""

    def before(self) -> History:
        """The conversation before it, for a run to continue."""
        history = History(self.history)
        history.adopt_receipt(self.receipt)
        return history

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return str(self.facts[0].data.get("manifest", ""))

    @property
    def end(self) -> Event | None:
        """Its run.end; None: it is unfinished."""
        return self.facts[-1] if self.facts[-1].type == "run.end" else None


async def facts_of(journal: Journal, row: RunRow) -> list[Event]:
    """The facts of one run, in order. Raises JournalError for damaged ones."""
    facts, damage = await readable_facts(journal, row)
    if damage is not None:
        raise damage
    return facts


async def readable_facts(journal: Journal, row: RunRow) -> tuple[list[Event], JournalError | None]:
    """The facts of one run, in order, up to the first damaged one; and the error of that one, if
    there is one."""
    facts: list[Event] = []
    try:
        async with aclosing(journal.read(row.stream, row.first - 1)) as stream:
            async for fact in stream:
                if fact.type == "run.start" and facts:
                    break
                facts.append(fact)
    except JournalError as error:
        return facts, error
    return facts, None


async def recorded(journal: Journal, run_id: str) -> Recording:
    """Read a run. `run_id` may be the unique beginning of an id. Claims nothing, so the run may
    continue meanwhile. Raises as `find`, and JournalError for damaged facts."""
    row = await find(journal, run_id)
    facts = await facts_of(journal, row)
    if not facts or facts[0].type != "run.start" or facts[0].run_id != row.run_id:
        raise JournalError(
            f"the facts of run {row.run_id} are not where the list of runs says",
            hint=f"lorimer runs verify {row.run_id} tells what is damaged.",
        )
    manifest = await manifest_of(journal, facts[0])
    before = await _before(journal, row)
    history = repaired(before.messages)
    receipt, durable = before.receipt, journal.durable
    return Recording(row.run_id, row.stream, history, facts, manifest, receipt, durable)


def origin_of(start: Event) -> dict[str, JSON]:
    """What a run.start says about the run's origin, who pays for it, why it was refused, and what
    an executor recorded: usually nothing."""
    return {name: start.data[name] for name in _ORIGIN if name in start.data}


async def manifest_of(journal: Journal, start: Event) -> Mapping[str, JSON] | None:
    """The manifest that the run of this run.start was begun with; None if it is not in the
    store."""
    digest = start.data.get("manifest")
    body = await journal.get(digest) if isinstance(digest, str) else None
    try:
        data = cast("JSON", json.loads(body)) if body is not None else None
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, Mapping) else None


async def _before(journal: Journal, row: RunRow) -> Fold:
    if row.first <= 1:
        return Fold()
    folded = await latest(journal, row.stream)
    if folded.seq >= row.first:
        folded = Fold()
    async with aclosing(journal.read(row.stream, folded.seq)) as stream:
        async for fact in stream:
            if (fact.seq or 0) >= row.first:
                break
            folded.apply(fact)
    folded.close()
    return folded


def used_s(facts: Sequence[Event]) -> float:
    """Seconds for which a run has been running: without the times when it was interrupted (the
    first fact after each says how much it was until then, and so does the one that suspends it),
    and without those when a person was asked; in a child, the facts at that time say so (`ran_s`).
    What no fact says is the difference between the times of facts; if that is long in an iteration
    without such times, what its stages took counts, which no wall clock was read for."""
    used, last = 0.0, facts[0].time if facts else 0.0
    begun, whole, jumped = 0.0, True, False
    asked = set[str]()
    for fact in facts:
        data, time, kind = fact.data, fact.time, fact.type
        until_then = None
        if "used_s" in data or "ran_s" in data:  # rare
            until_then = data.get("used_s", data.get("ran_s"))
        if isinstance(until_then, int | float) and 0 <= until_then < MOST:
            used, whole = float(until_then), False
        elif not asked:
            used += max(time - last, 0.0)
            jumped = jumped or abs(time - last) > _JUMP_S
        last = time
        if kind not in _STOPS:  # nearly all
            continue
        if kind == "iteration.end":
            if jumped and whole and (times := data.get("times")):
                used = begun + _stages_s(times)
            begun, whole, jumped = used, not asked, False
        elif kind == "run.suspended":
            last = math.inf  # no process had it after this
        elif kind == "effect":
            asked.discard(str(data.get("key")))
        elif "question" in data:
            asked.add(str(data.get("key")))
            whole = False
    return used


def _stages_s(times: JSON) -> float:
    """Seconds that the stages of an iteration took; see `iteration.end`."""
    return (
        sum([took for took in items_of(times) if isinstance(took, int) and 0 <= took < MOST]) / 1e6
    )
