"""What every journal promises of the accounts that runs share (`lorimer.core.purse.Purse`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, LimitError
from lorimer.core.events import Event
from lorimer.core.journal import Balance, Journal, LedgerEntry
from lorimer.core.purse import Purse, purses_json, purses_of
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.purses import exceeded
from tests.journal.support import NOW, Clock, Store, end, facts_of, note, start

EXCEEDED = ExecutorErrorCode.EXEC_BUDGET_EXCEEDED
WEEK = timedelta(days=7).total_seconds()
HOUR = WEEK / 168


@pytest.fixture(params=["memory", "sqlite", "sqlite-inline"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path / "journal.db")


async def move(
    journal: Journal, epoch: int, run: str, *purses: Purse, sync: bool = False, **amounts: int
) -> None:
    entry = LedgerEntry(run, purses=purses, **amounts)
    await journal.append(run, epoch, [note("x", run)], sync=sync, ledger=entry)


def test_what_does_not_fit_is_refused_whole_and_the_stream_goes_on(store: Store) -> None:
    async def test(journal: Journal) -> None:
        job, alice = Purse("job:1", 100), Purse("caller:alice", 60)
        epoch = await journal.claim("a", "me", 30)
        await move(journal, epoch, "a", job, alice, reserved=60)
        for sync in (False, True):
            fact = note("refused", "a")
            entry = LedgerEntry("a", 1, purses=(job, alice))  # the first has room, not both
            with pytest.raises(LimitError) as caught:
                await journal.append("a", epoch, [fact], sync=sync, ledger=entry)
            assert caught.value.code is EXCEEDED
            assert "caller:alice" in str(caught.value) and "set aside" in str(caught.value)
            assert fact.seq is None
        assert await journal.balance("a") == await journal.used(job) == Balance(60)
        await move(journal, epoch, "a", job, alice, reserved=-60, spent=40)
        await move(journal, epoch, "a", job, alice, reserved=20)
        with pytest.raises(LimitError, match=r"caller:alice, \$0\.0000 are spent"):
            await move(journal, epoch, "a", alice, reserved=1)
        assert len(await facts_of(journal, "a")) == 3
        assert await journal.balance("a") == await journal.used(alice) == Balance(20, 40)
        assert await journal.balance("caller:alice") == Balance(20, 40)

    store.run(test)


def test_many_at_once_never_come_to_more_than_the_ceiling(store: Store) -> None:
    purse = Purse("job:1", 50)

    async def one(journal: Journal, run: str) -> bool:
        epoch = await journal.claim(run, "me", 30)
        try:
            await move(journal, epoch, run, purse, reserved=10, sync=run.endswith("7"))
        except LimitError:
            return False
        await move(journal, epoch, run, purse, reserved=-10, spent=9, sync=run.endswith("1"))
        return True

    async def test(journal: Journal) -> None:
        done = await asyncio.gather(*[one(journal, f"run_{n}") for n in range(40)])
        shares = await journal.shares("job:1")
        assert sum(done) == len(shares) == 5
        assert {*shares.values()} == {Balance(0, 9)}
        assert await journal.used(purse) == Balance(0, 45)

    store.run(test)


def test_what_was_spent_ages_out_of_the_window_and_what_is_set_aside_does_not(store: Store) -> None:
    async def test(journal: Journal) -> None:
        week, ever = Purse("caller:a", 100, WEEK), Purse("caller:a", 1000)
        epoch = await journal.claim("a", "me", 3e7)
        await move(journal, epoch, "a", week, reserved=30)
        await move(journal, epoch, "a", week, reserved=60)
        await move(journal, epoch, "a", week, reserved=-60, spent=50)
        store.clock.now += WEEK
        assert await journal.used(week) == Balance(30, 50), "never too early"
        with pytest.raises(LimitError, match="7 days"):
            await move(journal, epoch, "a", week, reserved=21)
        store.clock.now += HOUR
        assert await journal.used(week) == Balance(30, 0), "and too late by an hour at most"
        assert await journal.used(ever) == Balance(30, 50)
        await move(journal, epoch, "a", week, reserved=70)

    store.run(test)


def test_what_runs_below_have_spent_is_not_charged_twice(store: Store) -> None:
    async def test(journal: Journal) -> None:
        purse = Purse("job:1", 100)
        for run in ("child", "parent"):
            epoch = await journal.claim(run, "me", 30)
            await move(journal, epoch, run, purse, spent=7, below=5 * (run == "parent"))
        assert await journal.balance("parent") == Balance(0, 7)
        assert await journal.shares("job:1") == {"child": Balance(0, 7), "parent": Balance(0, 2)}
        assert await journal.used(purse) == Balance(0, 9)
        with pytest.raises(JournalError, match="out of range"):
            await move(journal, epoch, "parent", purse, spent=1, below=2)

    store.run(test)


def test_an_append_without_the_claim_moves_nothing(store: Store) -> None:
    async def test(journal: Journal) -> None:
        purse = Purse("job:1", 100)
        with pytest.raises(JournalError):
            await move(journal, 1, "a", purse, reserved=5)
        assert await journal.used(purse) == Balance()
        assert await journal.shares("job:1") == {}

    store.run(test)


def test_what_is_dropped_or_swept_still_counts(store: Store) -> None:
    async def test(journal: Journal) -> None:
        purse = Purse("caller:a", 100, WEEK)
        for run in ("old", "new"):
            epoch = await journal.claim(run, "me", 30)
            await journal.append(run, epoch, [start(run)], sync=True)
            await move(journal, epoch, run, purse, spent=30)
            await journal.append(run, epoch, [end(run)], sync=True)
            await journal.release(run, epoch)
        assert await journal.drop("old", before=NOW + 99)
        await journal.compact("new", before=NOW + 99)
        await journal.sweep()
        assert await journal.used(purse) == Balance(0, 60)
        assert await journal.shares("caller:a") == {"": Balance(0, 30), "new": Balance(0, 30)}
        assert await journal.drop("new", before=NOW + 99)
        assert await journal.shares("caller:a") == {"": Balance(0, 60)}
        assert await journal.balance("caller:a") == Balance(0, 60)
        store.clock.now += 366 * 86_400 + WEEK
        await journal.sweep()
        assert await journal.used(purse) == Balance()
        assert await journal.balance("caller:a") == Balance(0, 60), "what was spent in all stays"
        store.clock.now = NOW
        assert await journal.used(purse) == Balance(), "when it was spent is not kept for ever"

    store.run(test)


def test_another_process_sees_what_is_set_aside(tmp_path: Path) -> None:
    async def main() -> None:
        purse, path = Purse("job:1", 10), tmp_path / "journal.db"
        async with SQLiteJournal(path) as one, SQLiteJournal(path) as other:
            epoch = await one.claim("a", "me", 30)
            await move(one, epoch, "a", purse, reserved=6)
            epoch = await other.claim("b", "me", 30)
            with pytest.raises(LimitError):
                await move(other, epoch, "b", purse, reserved=5)
            await move(other, epoch, "b", purse, reserved=4)
            assert await one.used(purse) == Balance(10)

    asyncio.run(main())


# --- what a purse is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Purse("alice", 1),
        lambda: Purse("", 1),
        lambda: Purse("caller:" + "a" * 200, 1),
        lambda: Purse("caller:\n", 1),
        lambda: Purse("a:b", -1),
        lambda: Purse("a:b", 2**53 + 1),
        lambda: Purse("a:b", True),
        lambda: Purse("a:b", 0.5),  # type: ignore[arg-type]
        lambda: Purse("a:b", 1, 0.0),
        lambda: Purse("a:b", 1, nan),
        lambda: Purse("a:b", 1, inf),
        lambda: Purse("a:b", 1, 367 * 86_400.0),
        lambda: Purse.usd("a:b", nan),
        lambda: Purse.usd("a:b", inf),
        lambda: Purse.usd("a:b", Decimal("NaN")),
        lambda: Purse.usd("a:b", Decimal("sNaN")),
        lambda: Purse.usd("a:b", -0.01),
        lambda: Purse.usd("a:b", 1e10),
        lambda: Purse.usd("a:b", True),
        lambda: purses_json([Purse("a:b", 1), Purse("a:b", 2)]),
        lambda: purses_json([Purse(f"a:{n}", 1) for n in range(9)]),
    ],
    ids=range(21),
)
def test_what_is_no_purse_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_dollars_become_whole_nano_dollars() -> None:
    assert Purse.usd("a:b", 0.05).ceiling_nano == 50_000_000
    assert Purse.usd("a:b", Decimal("0.000000001")).ceiling_nano == 1
    assert Purse.usd("a:b", 0).ceiling_nano == 0


def test_a_purse_comes_back_from_a_fact_as_it_was() -> None:
    purses = (Purse("a:b", 5), Purse("c:d", 6, 3600.0, allow_unpriced=True))
    assert purses_of({"budgets": purses_json(purses)}) == purses
    assert purses_of({}) == ()
    most = tuple([Purse(f"a:{n}", n) for n in range(8)])
    assert purses_of({"budgets": purses_json(most)}) == most


@pytest.mark.parametrize(
    "budgets",
    [
        "a:b",
        [1],
        [{"name": "a:b"}],
        [{"name": "ab", "ceiling": 1}],
        [{"name": "a:b", "ceiling": 1, "window_s": "1"}],
        [{"name": "a:b", "ceiling": 1, "window_s": True}],
        [{"name": "a:b", "ceiling": 1}] * 2,
        {},
        "",
        5,
    ],
    ids=range(10),
)
def test_a_fact_whose_budgets_cannot_be_read_lets_nothing_go_on(budgets: object) -> None:
    with pytest.raises(JournalError, match="budgets of the run"):
        purses_of({"budgets": budgets})  # type: ignore[dict-item]


# --- against a model that is obviously right -----------------------------------------------------


class Naive:
    """Every movement, in a list."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, str, int, int, float]] = []

    def reserved(self, purse: str) -> int:
        return sum(r for name, _, r, _, _ in self.moves if name == purse)

    def between(self, purse: Purse, now: float) -> tuple[int, int]:
        """What counts at least and at most."""
        spent = [(s, at) for name, _, _, s, at in self.moves if name == purse.name]
        if purse.window_s is None:
            return (total := sum(s for s, _ in spent)), total
        window = purse.window_s
        least = sum(s for s, at in spent if at + window > now)
        return least, sum(s for s, at in spent if at + window * (1 + 1 / 168) + 1e-6 >= now)


PURSES = (Purse("w:1", 100, 1000.0), Purse("w:2", 70, 168.0), Purse("fixed:1", 150))


def called(run: str) -> Event:
    return note("x", run)


class Ledgers(RuleBasedStateMachine):
    """The same done to both stores and to the naive ledger: they agree on what is refused."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.stores: list[Journal] = [
            MemoryJournal(self.clock),
            SQLiteJournal(":memory:", world=self.clock, threads=False),
        ]
        self.loop = asyncio.new_event_loop()
        self.naive = Naive()
        self.open: dict[str, list[tuple[tuple[Purse, ...], int]]] = {}
        self.runs = 0
        self.dice = Random(0)

    def both(
        self, run: str, entry: LedgerEntry | None = None, fact: Callable[[str], Event] = called
    ) -> bool:
        """Whether the stores took it."""
        taken: set[bool] = set()
        for journal in self.stores:
            try:
                self.loop.run_until_complete(
                    journal.append(run, 1, [fact(run)], sync=False, ledger=entry)
                )
            except LimitError:
                taken.add(False)
            else:
                taken.add(True)
        assert len(taken) == 1, "the stores do not agree"
        return taken.pop()

    @rule()
    def another_run(self) -> None:
        run, self.runs = f"run_{self.runs}", self.runs + 1
        for journal in self.stores:
            self.loop.run_until_complete(journal.claim(run, "me", 1e9))
        self.both(run, fact=start)
        self.open[run] = []

    @rule(nano=st.integers(1, 60), of=st.sets(st.sampled_from(range(3)), min_size=1))
    def reserve(self, nano: int, of: set[int]) -> None:
        if not self.open:
            return
        run = self.dice.choice(sorted(self.open))
        purses, now = tuple(PURSES[n] for n in sorted(of)), self.clock.now
        taken = self.both(run, LedgerEntry(run, nano, purses=purses))
        rooms = [
            [p.ceiling_nano - self.naive.reserved(p.name) - s for s in self.naive.between(p, now)]
            for p in purses
        ]
        if taken:
            assert all(room[0] >= nano for room in rooms), "over the ceiling"
            self.open[run].append((purses, nano))
            self.naive.moves += [(p.name, run, nano, 0, now) for p in purses]
        else:
            assert any(room[1] < nano for room in rooms), "there was room"

    @rule(part=st.floats(0, 1))
    def settle(self, part: float) -> None:
        run = next((run for run, calls in self.open.items() if calls), "")
        if run:
            purses, nano = self.open[run].pop()
            spent = round(nano * part)
            assert self.both(run, LedgerEntry(run, -nano, spent, purses))
            self.naive.moves += [(p.name, run, -nano, spent, self.clock.now) for p in purses]

    @rule(seconds=st.sampled_from([0.3, 1.0, 50.0, 169.0, 1006.0]))
    def later(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def drop(self) -> None:
        """A run without calls under way ends, and is removed."""
        run = next((run for run, calls in self.open.items() if not calls), "")
        if not run:
            return
        del self.open[run]
        self.both(run, fact=end)
        for journal in self.stores:
            self.loop.run_until_complete(journal.release(run, 1))
            assert self.loop.run_until_complete(journal.drop(run, before=NOW + 1e9))
            self.loop.run_until_complete(journal.sweep())

    @invariant()
    def they_add_up(self) -> None:
        if not hasattr(self, "stores"):
            return
        for purse in PURSES:
            least, most = self.naive.between(purse, self.clock.now)
            found: list[Balance] = []
            for journal in self.stores:
                used = self.loop.run_until_complete(journal.used(purse))
                assert used.reserved == self.naive.reserved(purse.name)
                assert least <= used.spent <= most
                shares = self.loop.run_until_complete(journal.shares(purse.name)).values()
                balance = self.loop.run_until_complete(journal.balance(purse.name))
                assert balance.reserved == sum(share.reserved for share in shares)
                assert balance.spent == sum(share.spent for share in shares)
                found.append(used)
            assert found[0] == found[1]

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for journal in self.stores:
                self.loop.run_until_complete(journal.close())
            self.loop.close()


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=15, stateful_step_count=30)


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (timedelta(days=7), "within 7 days"),
        (timedelta(days=1), "within 1 day"),
        (timedelta(hours=36), "within 1.5 days"),
        (timedelta(hours=1), "within 1 hour"),
        (timedelta(seconds=90), "within 1.5 minutes"),
    ],
)
def test_the_window_of_a_budget_is_told_in_words(window: timedelta, told: str) -> None:
    purse = Purse.usd("caller:ann", 1, window=window)
    assert f"{told}, $" in str(exceeded("Stopped", purse, Balance()))
