"""The children of a run, as the facts of both tell of them; see `core/children.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.journal.recording import facts_of

_EVERY: Final = 10_000_000


@record
class Born:
    """A child, as its parent's fact `child` tells of it."""

    run_id: str
    agent: str
    iteration: int
    key: str
    task: str = ""
    input: str = ""
    planning: bool = False
    heard: tuple[str, ...] = ()

    @classmethod
    def of(cls, fact: Event) -> Born:
        data = fact.data
        heard = data.get("heard")
        return cls(
            str(data.get("run")),
            str(data.get("agent")),
            fact.iteration,
            str(data.get("key")),
            str(data.get("task", "")),
            str(data.get("input", "")),
            data.get("mode") == "plan",
            tuple(map(str, heard)) if isinstance(heard, list | tuple) else (),
        )

    def to_json(self) -> dict[str, JSON]:
        """The data of the fact."""
        data: dict[str, JSON] = {"key": self.key, "run": self.run_id, "agent": self.agent}
        if self.task:
            data |= {"task": self.task, "input": self.input}
        if self.planning:
            data["mode"] = "plan"
        if self.heard:
            data["heard"] = list(self.heard)
        return data


def born(facts: Iterable[Event]) -> list[Born]:
    """The children that a run's facts tell of, oldest first."""
    return [Born.of(fact) for fact in facts if fact.type == "child"]


def paid(facts: Iterable[Event]) -> set[str]:
    """The children that a run has been charged for: they have ended."""
    found: set[str] = set()
    for fact in facts:
        if fact.type == "effect":
            runs = fact.data.get("runs")
            found.update(map(str, runs) if isinstance(runs, list | tuple) else ())
    return found


def open_ones(facts: Sequence[Event]) -> list[Born]:
    """The children that a run was not charged for yet: they may have ended or not."""
    done = paid(facts)
    return [each for each in born(facts) if each.run_id not in done]


def parent_of(start: Event) -> Mapping[str, JSON] | None:
    """What the run.start of a child says of its parent; None: it is no child."""
    parent = start.data.get("parent")
    return parent if isinstance(parent, Mapping) and "agent" in parent else None


async def parent(journal: Journal, row: RunRow) -> RunRow | None:
    """The run that this one is part of, if there is one, it is kept, and what tells of it is not
    damaged."""
    if row.stream != row.run_id:  # a child's stream is its own
        return None
    try:
        async with aclosing(journal.read(row.stream, row.first - 1)) as facts:
            async for start in facts:
                found = parent_of(start)
                return None if found is None else await journal.find_run(str(found.get("run")))
    except JournalError:
        if not await journal.check(row.stream):
            raise
    return None


async def top(
    journal: Journal, row: RunRow, parents: dict[str, RunRow | None] | None = None
) -> RunRow:
    """The run that this one is in the end part of, as far as it is kept; itself: of none.
    `parents`: the same one for whoever asks for many, so that what they share is read once."""
    parents = {} if parents is None else parents
    known = {row.run_id}
    while True:
        if row.run_id not in parents:
            parents[row.run_id] = await parent(journal, row)
        above = parents[row.run_id]
        if above is None or above.run_id in known:
            return row
        known.add(above.run_id)
        row = above


async def roots(journal: Journal, limit: int) -> list[RunRow]:
    """The latest runs that are nobody's children, newest first."""
    found: list[RunRow] = []
    for row in await journal.runs(limit=_EVERY):
        if len(found) == limit:
            break
        if await parent(journal, row) is None:
            found.append(row)
    return found


async def owed(journal: Journal, run_id: str) -> int:
    """Nano-dollars that a child, and all below it, have spent or set aside until now."""
    total, known, waiting = 0, {run_id}, [run_id]
    while waiting:
        row = await journal.find_run(waiting.pop())
        if row is None:
            continue
        balance = await journal.balance(row.run_id)
        total += balance.spent + balance.reserved
        if not row.status:
            below = [each.run_id for each in open_ones(await facts_of(journal, row))]
            waiting += [each for each in dict.fromkeys(below) if each not in known]
            known.update(below)
    return total


async def descendants(journal: Journal, facts: Iterable[Event]) -> int:
    """How many runs there are below one with these facts."""
    return len([row async for row in lineage(journal, facts)])


async def lineage(
    journal: Journal, facts: Iterable[Event]
) -> AsyncIterator[tuple[int, Born, RunRow | None]]:
    """The runs below one with these facts, each before those below it, with how deep it is; its
    row is None when it has not begun, or is not kept any more. Each once, whatever facts say that
    others wrote."""
    known: set[str] = set()
    waiting = [(1, each) for each in reversed(born(facts))]
    while waiting:
        depth, each = waiting.pop()
        if each.run_id in known:
            continue
        known.add(each.run_id)
        row = await journal.find_run(each.run_id)
        yield depth, each, row
        if row is not None:
            below = born(await facts_of(journal, row))
            waiting += [(depth + 1, inner) for inner in reversed(below)]
