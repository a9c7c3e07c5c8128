"""`verify`: what a journal shows when somebody, or something, has changed it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Balance, Damage, Journal, RunRow
from lorimer.core.messages import user_message
from lorimer.core.purse import Purse
from lorimer.core.request import Usage
from lorimer.journal import Fold, MemoryJournal, SQLiteJournal
from lorimer.journal.chain import mark
from lorimer.journal.contract import Contract, Finding, RunFacts
from lorimer.journal.recording import recorded
from lorimer.journal.verify import PurseCheck, verify
from lorimer.models import Models
from lorimer.models.pricing import Price
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, make, use
from tests.journal.stored.make import write
from tests.journal.support import NOW

T = TypeVar("T")
MANIFEST = b'{"limits":{"max_turns":1}}'


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "journal.db"
    write(path)
    return path


@pytest.fixture
def path(kept: Path, tmp_path: Path) -> Path:
    """A journal that nobody has touched, to be changed."""
    return Path(shutil.copy(kept, tmp_path / "journal.db"))


def on(path: Path, ask: Callable[[Journal], Awaitable[T]]) -> T:
    async def main() -> T:
        async with SQLiteJournal(path) as journal:
            return await ask(journal)

    return asyncio.run(main())


def changed(path: Path, *statements: str) -> list[Finding]:
    """What is found in the conversation once these were executed."""
    db = apsw.Connection(str(path))
    for sql in statements:
        db.execute(sql)
    assert statements == () or db.total_changes(), "nothing was changed"
    db.close()
    return on(path, lambda journal: verify(journal, "session_stored"))


def told(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(finding.seq, finding.rule) for finding in findings]


def runs_of(path: Path) -> dict[str, str]:
    """Ids by title."""
    rows = on(path, lambda journal: journal.runs())
    return {row.title: row.run_id for row in rows}


def test_nothing_is_wrong_with_what_lorimer_wrote(path: Path) -> None:
    assert changed(path) == []
    for run_id in runs_of(path).values():
        assert on(path, lambda journal, name=run_id[:12]: verify(journal, name)) == []


def test_what_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(PipelineError, match="no run and no conversation 'run_zzz'"):
        on(path, lambda journal: verify(journal, "run_zzz"))


ROW = "WHERE at & 0xffffffff = {} AND at >> 32 = 1"


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("UPDATE facts SET body=replace(body,'sent','lost') " + ROW.format(11), [(11, "rows")]),
        ("UPDATE facts SET mark=x'00' " + ROW.format(11), [(11, "rows"), (12, "rows")]),
        # times only: the facts alone could not show it
        ("UPDATE facts SET body=replace(body,'[0,0,','[9,0,') " + ROW.format(15), [(15, "rows")]),
    ],
    ids=["what a tool said", "a mark", "stage times"],
)
def test_a_changed_row_is_found(path: Path, sql: str, where: list[tuple[int, str]]) -> None:
    assert told(changed(path, sql)) == where


def test_a_row_that_is_gone_is_found_and_the_rest_judged(path: Path) -> None:
    found = changed(path, "DELETE FROM facts " + ROW.format(11))
    assert told(found) == [(11, "rows")]
    assert found[0].what == "facts 11 to 11 are missing"


def test_two_rows_that_changed_places_are_found(path: Path) -> None:
    swap = [
        f"UPDATE facts SET at={a} WHERE at={b}"
        for a, b in ((7, 1 << 32 | 4), (1 << 32 | 4, 1 << 32 | 6), (1 << 32 | 6, 7))
    ]
    assert {(4, "rows"), (6, "rows")} <= set(told(changed(path, *swap)))


def test_the_end_of_a_stream_that_is_gone_is_found(path: Path) -> None:
    """The chain cannot tell: the list of runs and the ledger can."""
    whole = runs_of(path)
    found = changed(path, "DELETE FROM facts WHERE at >> 32 = 1 AND at & 0xffffffff >= 15")
    assert {finding.rule for finding in found} == {"list"}
    assert {finding.run_id for finding in found} == {
        whole["Tell Ann — ünïcode too."],
        whole["Hi"],
        whole["Tell nobody."],
    }


def test_only_the_named_run_is_told_of(path: Path) -> None:
    whole = runs_of(path)
    assert changed(path, "UPDATE facts SET body=replace(body,'sent','lost') " + ROW.format(11))
    assert on(path, lambda journal: verify(journal, whole["Hi"])) == []
    [finding] = on(path, lambda journal: verify(journal, whole["Tell Ann — ünïcode too."]))
    assert finding.seq == 11


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("UPDATE runs SET cost=1 WHERE title='Hi'", "list"),
        ("UPDATE runs SET status='error' WHERE title='Hi'", "list"),
        ("DELETE FROM runs WHERE title='Hi'", "list"),
        ("UPDATE ledger SET spent=spent-1 WHERE spent=2430000", "ledger"),
        ("UPDATE ledger SET reserved=5 WHERE spent=2430000", "ledger"),
        ("UPDATE documents SET body=x'7b7d'", "manifest"),
        ("UPDATE documents SET body=x'00'", "manifest"),
        ("UPDATE documents SET body=x'5b5d'", "manifest"),
        ("DELETE FROM documents", "manifest"),
        ("INSERT INTO snapshots VALUES(1,16,x'00')", "snapshot"),
    ],
)
def test_what_is_kept_beside_the_facts_is_compared_with_them(
    path: Path, sql: str, rule: str
) -> None:
    assert {finding.rule for finding in changed(path, sql)} == {rule}


def test_a_snapshot_that_says_something_else_is_found(path: Path) -> None:
    async def put(journal: Journal) -> None:
        other = Fold()
        other.seq = 16
        other.messages = [user_message("never said")]
        await journal.put_snapshot("session_stored", 16, other.dump())

    async def put_right(journal: Journal) -> None:
        right = Fold()
        async for fact in journal.read("session_stored"):
            right.apply(fact)
            if fact.seq == 16:
                break
        await journal.put_snapshot("session_stored", 16, right.dump())

    on(path, put_right)
    assert changed(path) == []
    on(path, put)
    [finding] = changed(path)
    assert (finding.rule, finding.what) == (
        "snapshot",
        "the snapshot differs from its facts",
    )


def test_a_row_that_is_no_json_is_told_once_and_what_is_behind_it_too(path: Path) -> None:
    found = changed(
        path,
        "UPDATE facts SET body='[[' " + ROW.format(5),
        "UPDATE facts SET body=replace(body,'sent','lost') " + ROW.format(11),
    )
    assert told(found) == [(5, "rows"), (5, "rows"), (11, "rows")]


def test_two_rows_with_the_same_fact_are_found(path: Path) -> None:
    found = changed(path, "INSERT INTO facts SELECT at-1, body, mark FROM facts " + ROW.format(14))
    assert [each.what for each in found if each.seq == 13] == [
        "two rows hold this fact",
        "its row is not as it was written, or the row before it",
    ]


class Unread(MemoryJournal):
    """A store that loses its disk in the middle."""

    left = 10**6

    async def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(super().read(stream, after, follow=follow)) as facts:
            async for fact in facts:
                self.left -= 1
                if self.left < 0:
                    raise JournalError("the disk is gone")
                yield fact


def test_a_store_that_cannot_be_read_further_is_said_and_all_before_it_judged() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unread(world)
        agent = make(world, [[use("look")], "done"], "chat", tools=[Do("look")], journal=journal)
        result = await agent.run("go")
        journal.left = 4
        [finding] = await verify(journal, result.session_id)
        assert (finding.seq, finding.rule) == (5, "rows")
        assert "the disk is gone" in finding.what

    simulate(main)


# --- the contract: facts that nobody should write ---------------------------------------------

CALLS = [{"type": "tool_use", "id": "c", "name": "send", "input": {}}]
H = "0" * 24


def facts(*steps: tuple[object, ...]) -> list[Event]:
    """Facts of a run: kind, data, and maybe iteration and run."""
    made: list[Event] = []
    for seq, (kind, data, *rest) in enumerate(steps, 1):
        iteration, run = [*rest, *(0, "run_a")[len(rest) :]]
        made.append(Event(kind, data, run, iteration, NOW + seq, seq=seq))  # type: ignore[arg-type]
    return made


START = ("run.start", {"run_id": "run_a", "input": "hi", "manifest": "m", "seed": 1})
ASKED = ("model.intent", {"key": "0", "hash": H})
CALLED = ("model.reply", {"key": "0", "content": CALLS, "cost": 3, "usage": {"output_tokens": 2}})
BEGUN = ("tool.intent", {"key": "0", "hash": H, "effects": "send"})
DONE = ("tool.result", {"key": "0", "content": "ok"})
OVER = ("iteration.end", {"times": []})
SUMS = {"status": "ok", "cost": 3, "usage": {"output_tokens": 2}, "iterations": 1}
END = ("run.end", SUMS)


def broken(*steps: tuple[object, ...]) -> list[tuple[int, str]]:
    contract = Contract()
    for fact in facts(*steps):
        contract.take(fact)
    return told(contract.found)


def test_a_good_run_breaks_nothing() -> None:
    assert broken(START, ASKED, CALLED, BEGUN, DONE, OVER, END) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ((START, ASKED, CALLED, BEGUN, DONE, END, END), [(7, "C1")]),
        ((START, ASKED, CALLED, BEGUN, DONE, OVER, OVER, END), [(7, "C3")]),
        ((START, ASKED, CALLED, BEGUN, DONE, END, ("effect", {"key": "x:y"})), [(7, "C1")]),
        ((START, ASKED, (*START[:1], {**START[1], "run_id": "run_b"}, 0, "run_b")), [(3, "C1")]),
        ((START, ("effect", {"key": "x:y"}, 0, "run_b")), [(2, "order")]),
        ((START, ("forked", {"parent": {}, "messages": []}, 0, "")), [(2, "order"), (2, "C5")]),
        ((START, ASKED, CALLED, DONE, OVER, END), [(4, "C2")]),
        ((START, CALLED, BEGUN, DONE, OVER, END), [(2, "C2")]),
        ((START, ASKED, CALLED, BEGUN, DONE, DONE, OVER, END), [(6, "C3")]),
        ((START, ASKED, CALLED, BEGUN, BEGUN, DONE, OVER, END), [(5, "C3")]),
        (
            (START, ASKED, CALLED, (DONE[0], {**DONE[1], "key": "1", "hash": H}), END),
            [(4, "C3"), (4, "C5")],
        ),
        ((START, ASKED, CALLED, OVER, BEGUN, DONE, END), [(5, "order"), (6, "order")]),
        (
            (
                START,
                ASKED,
                (CALLED[0], {**CALLED[1], "usage": {"output_tokens": 2, "note": "x"}}),
                BEGUN,
                DONE,
                OVER,
                END,
            ),
            [],
        ),
        ((START, ASKED, (*CALLED, 2), END), [(3, "order"), (3, "C2"), (4, "order")]),
        ((START, ASKED, CALLED, BEGUN, DONE, (END[0], {**SUMS, "cost": 4})), [(6, "C10")]),
        ((START, ASKED, CALLED, BEGUN, DONE, (END[0], {**SUMS, "usage": {}})), [(6, "C10")]),
        ((START, ASKED, CALLED, BEGUN, DONE, (END[0], {**SUMS, "iterations": 2})), [(6, "C10")]),
        ((START, ASKED, CALLED, BEGUN, DONE, (END[0], {**SUMS, "iterations": 0})), [(6, "C10")]),
        ((START, ASKED, (CALLED[0], {**CALLED[1], "content": "c"}), BEGUN), [(4, "C3"), (4, "C5")]),
    ],
)
def test_a_broken_promise_is_found(
    steps: tuple[tuple[object, ...], ...], found: list[tuple[int, str]]
) -> None:
    assert broken(*steps) == found


def test_a_fact_that_is_missing_is_found_in_the_facts_alone() -> None:
    contract = Contract()
    for fact in facts(START, ASKED, CALLED, BEGUN, DONE, OVER, END):
        if fact.seq != 6:
            contract.take(fact)
    assert (7, "rows", "it comes after fact 5") in [
        (each.seq, each.rule, each.what) for each in contract.found
    ]


def test_a_run_that_is_not_where_the_list_says_is_not_read(path: Path) -> None:
    run_id = runs_of(path)["Hi"]
    assert {each.rule for each in changed(path, "UPDATE runs SET first=first-1 WHERE title='Hi'")}
    with pytest.raises(JournalError, match="are not where the list of runs says"):
        on(path, lambda journal: recorded(journal, run_id))


def test_more_turns_and_money_than_allowed_are_found() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        agent = make(world, [[use("look")], "done"], "chat", tools=[Do("look")], journal=journal)
        result = await agent.run("go")
        assert await verify(journal, result.run_id) == []
        start = result.events[0]
        start.data = {**start.data, "limits": {"max_turns": 1}}
        [finding] = await verify(journal, result.run_id)
        assert (finding.rule, finding.what) == ("C6", "2 turns, and the limit is 1")
        start.data = {**start.data, "limits": {"max_turns": "many"}}
        [finding] = await verify(journal, result.run_id)
        assert finding.rule == "manifest"
        assert "its limits cannot be read" in finding.what

    simulate(main)


def test_a_limit_that_was_raised_holds_as_it_was_raised() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        prices = {"price": Price(1.0, 1.0), "usage": Usage(100, 10)}
        model = ScriptedModel([[use("look")], [use("look")], "done"], **prices)
        agent = make(world, model, "chat", tools=[Do("look")], journal=journal)
        result = await agent.run("go")
        start, asked = result.events[:2]
        start.data = {**start.data, "limits": {"max_turns": 1}}
        assert await verify(journal, result.run_id) != []
        asked.type, asked.data = "effect", {"key": "raised:0", "max_turns": 3}
        assert "C6" not in [each.rule for each in await verify(journal, result.run_id)]
        start.data = {**start.data, "limits": {"max_cost_usd": 0.000001}}
        found = [each.what for each in await verify(journal, result.run_id) if each.rule == "C6"]
        assert found == ["330000 nano-dollars spent, and the limit is 1000"]

    simulate(main)


class Counting(MemoryJournal):
    """How often the shares of a purse were read."""

    reads = 0

    async def shares(self, name: str) -> Mapping[str, Balance]:
        self.reads += 1
        return await super().shares(name)


def test_the_shares_of_a_purse_are_read_once_however_many_runs_have_some() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Counting(world)
        purse = Purse.usd("job:1", 1)
        prices = {"price": Price(1.0, 1.0), "usage": Usage(100, 10)}
        model = ScriptedModel(lambda request: "done", **prices)
        models = Models(providers={"scripted": model})
        agent = PipelinePresets.minimal(
            model="scripted:x", models=models, journal=journal, world=world
        )
        ids = [(await agent.run("go", budgets=[purse])).run_id for _ in range(20)]
        purses = PurseCheck(journal)
        for run_id in ids:
            assert await verify(journal, run_id, purses) == []
        assert journal.reads == 1
        later = (await agent.run("go", budgets=[purse])).run_id  # ended since they were read
        assert await verify(journal, later, purses) == []
        assert journal.reads == 2
        journal._purses._shares["job:1"][ids[0]] = (0, 5)
        found = await verify(journal, ids[0])
        assert [(each.rule, each.what.split(",")[0]) for each in found] == [
            ("ledger", "budget job:1 holds 2310000 spent and 0 set aside"),
            ("ledger", "budget job:1 says 5 spent and 0 set aside for it"),
        ]

    simulate(main)


def test_a_purse_of_a_run_that_goes_on_is_not_judged_and_one_that_is_none_is_said() -> None:
    async def main(world: SimulatedWorld) -> None:
        prices = {"price": Price(1.0, 1.0), "usage": Usage(100, 10)}
        model = ScriptedModel(["done"], **prices)
        agent = make(world, model, "chat", journal=MemoryJournal(world))
        whole = await agent.run("go", budgets=[Purse.usd("job:1", 1)])
        going = RunFacts.of(whole.events[:2])  # the ledger has more than its facts, as it may
        assert await PurseCheck(agent.journal).of(going) == []
        start = whole.events[0]
        start.data = {**start.data, "budgets": [{"name": 3}]}
        found = await PurseCheck(agent.journal).of(RunFacts.of(whole.events))
        assert told(found) == [(1, "ledger")]

    simulate(main)


class Busy(MemoryJournal):
    """Somebody does something in it while it is verified: between its list of runs and its
    facts."""

    def __init__(self, world: SimulatedWorld) -> None:
        super().__init__(world)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.altered = ""

    async def runs(self, **chosen: Any) -> list[RunRow]:
        rows = await super().runs(**chosen)
        return [replace(row, title="x") if row.run_id == self.altered else row for row in rows]

    async def check(self, stream: str) -> list[Damage]:
        found, act, self.meanwhile = await super().check(stream), self.meanwhile, None
        if act is not None:
            await act()
        return found


def test_what_happens_in_a_conversation_while_it_is_verified_is_not_a_finding() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Busy(world)
        model = ScriptedModel(lambda request: "done", price=Price(1.0, 1.0), latency_s=5)
        agent = make(world, model, "chat", journal=journal)
        first = await agent.run("one")
        going = asyncio.get_running_loop().create_task(agent.run("two"))
        await world.sleep(1)

        async def ends() -> None:
            await going

        journal.meanwhile = ends
        assert await verify(journal, first.session_id) == []
        assert going.done()
        journal.meanwhile = lambda: agent.run("three")
        assert await verify(journal, first.session_id) == []
        journal.altered = first.run_id
        journal.meanwhile = lambda: agent.run("four")
        found = await verify(journal, first.session_id)
        assert [finding.rule for finding in found] == ["list"]
        await agent.aclose()
        journal.meanwhile = lambda: journal.drop(first.session_id, before=world.time() + 1)
        with pytest.raises(PipelineError, match="There is no run and no conversation"):
            await verify(journal, first.session_id)

    simulate(main)


def test_the_same_row_has_another_mark_in_another_place_and_after_another() -> None:
    one = mark(b"", 1 << 32 | 1, b"row")
    assert len(one) == 12
    assert one == mark(b"", 1 << 32 | 1, b"row")
    others = [
        mark(b"", 2 << 32 | 1, b"row"),
        mark(b"", 1 << 32 | 2, b"row"),
        mark(one, 1 << 32 | 1, b"row"),
        mark(b"", 1 << 32 | 1, b"raw"),
    ]
    assert len({one, *others}) == 5
