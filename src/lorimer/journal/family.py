"""Parent and child runs, read from the facts of both; see `core/children.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import ALL_RUNS, Journal, RunRow
from lorimer.core.jsonable import JSON, texts_of
from lorimer.core.record import record
from lorimer.journal.recording import facts_of, readable_facts


@record
class ChildRecord:
    """The fact `child`, with which a parent records a child before it begins."""

    run_id: str
    agent: str
    iteration: int
    key: str
    task: str = ""
    input: str = ""
    planning: bool = False
    heard: tuple[str, ...] = ()

    @classmethod
    def of(cls, fact: Event) -> ChildRecord:
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


def children_in(facts: Iterable[Event]) -> list[ChildRecord]:
    """The children recorded in a run's facts, oldest first."""
    return [ChildRecord.of(fact) for fact in facts if fact.type == "child"]


def charged(facts: Iterable[Event]) -> set[str]:
    """The children that a run has been charged for, and which have therefore ended."""
    found: set[str] = set()
    for fact in facts:
        if fact.type == "effect":
            found.update(texts_of(fact.data.get("runs")))
    return found


def uncharged(facts: Sequence[Event]) -> list[ChildRecord]:
    """The children that a run was not charged for yet; they may or may not have ended."""
    done = charged(facts)
    return [each for each in children_in(facts) if each.run_id not in done]


def parent_of(start: Event) -> Mapping[str, JSON] | None:
    """What the run.start of a child says about its parent; None: it is not a child."""
    parent = start.data.get("parent")
    return parent if isinstance(parent, Mapping) and "agent" in parent else None


async def parent_run(journal: Journal, row: RunRow) -> RunRow | None:
    """The parent of this run, if it has one that is stored and can be read."""
    start = await _start_of_child(journal, row)
    found = None if start is None else parent_of(start)
    return None if found is None else await journal.find_run(str(found.get("run")))


async def is_part_of(journal: Journal, row: RunRow, run_id: str) -> bool:
    """Whether a run that the facts of the run `run_id` name as its part is that: unless it says
    something else itself. Of one that is damaged, its parent's facts have to suffice."""
    if row.stream != row.run_id:
        return False
    start = await _start_of_child(journal, row)
    if start is None:
        return True
    found = parent_of(start)
    return found is not None and found.get("run") == run_id


async def _start_of_child(journal: Journal, row: RunRow) -> Event | None:
    """The run.start of a run that can be a child; None: it cannot, or is damaged."""
    if row.stream != row.run_id:  # a child's stream is its own
        return None
    try:
        async with aclosing(journal.read(row.stream, row.first - 1)) as facts:
            async for start in facts:
                return start
    except JournalError:
        if not await journal.check(row.stream):
            raise
    return None


async def root_of(
    journal: Journal, row: RunRow, parents: dict[str, RunRow | None] | None = None
) -> RunRow:
    """The run at the top of this run's tree, as far as it is stored; itself, if it has no parent.
    `parents` caches parents over many calls."""
    parents = {} if parents is None else parents
    known = {row.run_id}
    while True:
        if row.run_id not in parents:
            parents[row.run_id] = await parent_run(journal, row)
        above = parents[row.run_id]
        if above is None or above.run_id in known:
            return row
        known.add(above.run_id)
        row = above


async def root_runs(journal: Journal, limit: int) -> list[RunRow]:
    """The latest runs without a parent, newest first."""
    found: list[RunRow] = []
    for row in await journal.runs(limit=ALL_RUNS):
        if len(found) == limit:
            break
        if await parent_run(journal, row) is None:
            found.append(row)
    return found


async def uncharged_cost(journal: Journal, run_id: str) -> int:
    """Nano-dollars that a child and its descendants have spent or reserved so far."""
    total, known, waiting = 0, {run_id}, [run_id]
    while waiting:
        row = await journal.find_run(waiting.pop())
        if row is None:
            continue
        balance = await journal.balance(row.run_id)
        total += balance.spent + balance.reserved
        if not row.status:
            below = [each.run_id for each in uncharged(await facts_of(journal, row))]
            waiting += [each for each in dict.fromkeys(below) if each not in known]
            known.update(below)
    return total


async def count_descendants(journal: Journal, facts: Iterable[Event]) -> int:
    """How many descendants a run with these facts has."""
    return len([row async for row in descendants(journal, facts)])


async def descendants(
    journal: Journal, facts: Iterable[Event], *, damaged: bool = False
) -> AsyncIterator[tuple[int, ChildRecord, RunRow | None]]:
    """The descendants of a run with these facts: depth (from 1), record and row of each, parents
    first. The row is None if the run has not begun or is no longer stored. Each comes once, even if
    facts name it twice: they are untrusted. With `damaged`, those below a damaged run come as far
    as it can be read; without it, JournalError is raised."""
    known: set[str] = set()
    waiting = [(1, each) for each in reversed(children_in(facts))]
    while waiting:
        depth, each = waiting.pop()
        if each.run_id in known:
            continue
        known.add(each.run_id)
        row = await journal.find_run(each.run_id)
        yield depth, each, row
        if row is not None:
            read, damage = await readable_facts(journal, row)
            if damage is not None and not (damaged and await journal.check(row.stream)):
                raise damage
            waiting += [(depth + 1, inner) for inner in reversed(children_in(read))]
