"""Budgets: what runs spend together stays below the ceiling, whatever happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest
from anyio import CancelScope

from lorimer.core.errors import (
    ConfigError,
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
)
from lorimer.core.journal import Balance, Journal
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.purse import Purse
from lorimer.core.request import Delta, Request, Response, TextDelta, Usage, UsageDelta
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.family import root_runs
from lorimer.journal.verify import verify
from lorimer.models import Models
from lorimer.models.pricing import Price
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.run import (
    AllBudgets,
    CallerBudgets,
    Executor,
    Invocation,
    Ports,
    RunnableAgent,
    RunResult,
    TotalBudget,
)
from lorimer.testing import ScriptedModel, simulate
from lorimer.testing.recorded import RULES, Evidence
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate_in
from lorimer.world import RealWorld

pytestmark = pytest.mark.anyio

CODE = ExecutorErrorCode
CENT = 9_994_240
"""Nano-dollars, as near to a cent as 8,192 tokens come: what each call costs, and what is set aside
for it, because the most that it may answer is what it does answer."""
WHOLE = Usage(0, 8192)
EXACT = Price(0, 1.22)


def model_of(replies: Any = "done", **options: Any) -> ScriptedModel:
    said = (lambda request: replies) if isinstance(replies, str) else replies
    return ScriptedModel(said, **{"usage": WHOLE, "price": EXACT, "record": False, **options})


def executor_of(world: World, model: ScriptedModel, budget: Any, **options: Any) -> Executor:
    return Executor(
        models=Models(providers={"scripted": model}),
        tier="scripted:x",
        world=world,
        ports=Ports(budget=budget),
        **options,
    )


async def by(executor: Executor, caller: str = "alice") -> RunResult:
    return await executor.run(RunnableAgent(), "hi", Invocation(caller_id=caller))


async def adds_up(journal: Journal, *purses: Purse) -> None:
    """Nothing stays set aside, and each purse is what its runs have of it."""
    for row in await journal.runs(limit=1000):
        assert row.status
        assert await verify(journal, row.run_id) == []
    for purse in purses:
        shares = (await journal.shares(purse.name)).values()
        balance = await journal.balance(purse.name)
        assert balance == Balance(0, sum(share.spent for share in shares))
        assert balance.spent <= purse.ceiling_nano


# --- what the journal holds them to ---------------------------------------------------------------


def test_a_hundred_runs_at_once_spend_what_there_is_and_the_rest_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        budget = TotalBudget("job:review", usd=0.05)
        model = model_of(latency_s=1.0)
        executor = executor_of(world, model, budget)
        results = await asyncio.gather(*[by(executor) for _ in range(100)])
        assert model.calls == 5
        told = [(result.status, result.cost_nano, result.code) for result in results]
        assert told.count(("ok", CENT, None)) == 5
        assert told.count(("budget_exceeded", 0, CODE.EXEC_BUDGET_EXCEEDED)) == 95
        assert await executor.journal.used(budget.purse) == Balance(0, 5 * CENT)
        await adds_up(executor.journal, budget.purse)

    simulate(main)


def test_a_run_that_is_refused_in_the_middle_keeps_what_it_has_and_can_be_replayed() -> None:
    async def main(world: SimulatedWorld) -> None:
        purse = Purse("job:1", 2 * CENT)
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:x"),
            models=Models(providers={"scripted": model_of([[look()], [look()], "never"])}),
            world=world,
        )
        result = await pipeline.run("go", budgets=[purse], raise_on_error=False)
        assert (result.status, result.code) == ("budget_exceeded", CODE.EXEC_BUDGET_EXCEEDED)
        assert [step.tool for step in result.steps] == ["look", "look"]
        assert "job:1" in result.error
        assert result.exception is not None
        assert "lorimer runs ls --all" in result.exception.hint
        kinds = [fact.type for fact in result.events]
        assert kinds[-2:] == ["iteration.end", "run.end"], "what waited for the intent is told"
        assert (await pipeline.replay(result.run_id)).divergence is None
        await adds_up(pipeline.journal, purse)

    simulate(main)


def look() -> ToolUse:
    return ToolUse("look", "look", {})


def family(model: ScriptedModel, journal: Journal, world: World) -> Pipeline:
    manifest = preset_manifest("agent", model="scripted:x")
    manifest.stages["loop"].strategies["guards"] = []
    manifest.agents = [SubAgent(name="helper", description="Helps.", prompt="You are helper.")]
    return Pipeline(
        EnvironmentManifest.from_dict(manifest.to_dict()),
        models=Models(providers={"scripted": model}),
        journal=journal,
        world=world,
        owner="me",
    )


def asks(request: Request) -> Any:
    """The main agent asks two helpers at once, then answers; a helper answers."""
    if "You are helper" in request.system or len(request.messages) > 1:
        return "done"
    work = {"subagent_type": "helper", "prompt": "help"}
    return [ToolUse(f"c{n}", "Agent", work) for n in range(2)]


def test_sub_agents_are_held_by_their_parents_budgets_and_paid_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        for ceiling, ends in ((4, "ok"), (3, "budget_exceeded"), (2, "budget_exceeded")):
            journal, purse = MemoryJournal(world), Purse("job:1", ceiling * CENT)
            model = model_of(asks, latency_s=1.0)
            pipeline = family(model, journal, world)
            result = await pipeline.run("go", budgets=[purse], raise_on_error=False)
            assert result.status == ends
            assert model.calls == ceiling
            assert await journal.used(purse) == Balance(0, ceiling * CENT)
            shares = await journal.shares("job:1")
            assert shares[result.run_id] == Balance(0, CENT * (1 + (ceiling == 4)))
            assert result.cost_nano == ceiling * CENT, "its own account is charged for them"
            await adds_up(journal, purse)

    simulate(main)


def test_what_helpers_of_a_cancelled_run_have_spent_is_paid_once() -> None:
    def helper_goes_on(request: Request) -> Any:
        """A helper makes a second call, which is under way when all is cancelled."""
        return [look()] if "You are helper" in request.system else asks(request)

    async def main(world: SimulatedWorld) -> None:
        journal, purse = MemoryJournal(world), Purse("job:1", 9 * CENT)
        pipeline = family(model_of(helper_goes_on, latency_s=10.0), journal, world)
        run = pipeline.run("go", budgets=[purse], raise_on_error=False)
        task = asyncio.create_task(run)
        await world.sleep(25)
        assert await journal.used(purse) == Balance(2 * CENT, 3 * CENT)
        pipeline.cancel()
        result = await task
        assert (result.status, result.cost_nano) == ("cancelled", 3 * CENT)
        assert await journal.used(purse) == Balance(0, 3 * CENT)
        assert (await journal.shares("job:1"))[result.run_id] == Balance(0, CENT)
        await adds_up(journal, purse)

    simulate(main)


def test_a_fork_is_held_by_the_budgets_of_the_run_that_it_goes_on_from() -> None:
    async def main(world: SimulatedWorld) -> None:
        purse = Purse("job:1", 2 * CENT)
        pipeline = Pipeline(
            preset_manifest("chat", model="scripted:x"),
            models=Models(providers={"scripted": model_of()}),
            world=world,
        )
        run = await pipeline.run("go", budgets=[purse])
        forked = await pipeline.fork(run.run_id, after=1, input="more")
        assert forked.events[0].data["budgets"] == [purse.to_json()]
        assert await pipeline.journal.used(purse) == Balance(0, 2 * CENT)
        other = await pipeline.fork(run.run_id, after=1, input="more", budgets=())
        assert "budgets" not in other.events[0].data

    simulate(main)


def test_a_fork_that_its_budget_refuses_calls_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def no() -> Sequence[Purse]:
            raise LimitError("not today", code=ExecutorErrorCode.EXEC_BUDGET_EXCEEDED)

        model = model_of()
        pipeline = Pipeline(
            preset_manifest("chat", model="scripted:x"),
            models=Models(providers={"scripted": model}),
            world=world,
        )
        run = await pipeline.run("go")
        with pytest.raises(LimitError, match="not today"):
            await pipeline.fork(run.run_id, after=1, input="more", budgets=no)
        assert model.calls == 1
        assert [row.status for row in await pipeline.journal.runs()] == ["budget_exceeded", "ok"]

    simulate(main)


def test_a_model_of_unknown_price_is_refused_unless_the_budget_allows_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = model_of(price=None)
        for allowed in (False, True):
            budget = CallerBudgets(usd=1.0, allow_unpriced=allowed)
            result = await by(executor_of(world, model, budget))
            assert result.status == ("ok" if allowed else "error")
            assert model.calls == allowed
        assert (await by(executor_of(world, model, None))).status == "ok"

    simulate(main)


@pytest.mark.parametrize("told", [Usage(0, -(10**6)), Usage(10**15, 10**15), Usage(0, 10**30)])
async def test_a_provider_that_counts_nonsense_costs_what_was_set_aside(
    tmp_path: Path, told: Usage
) -> None:
    world, budget = RealWorld(), TotalBudget("job:1", usd=0.05)
    async with SQLiteJournal(tmp_path / "journal.db") as journal:
        result = await by(executor_of(world, model_of(usage=told), budget, journal=journal))
        assert (result.status, result.cost_nano) == ("ok", CENT)
        assert await journal.used(budget.purse) == Balance(0, CENT)
        await adds_up(journal, budget.purse)


# --- who may begin --------------------------------------------------------------------------------


class Own(LorimerError):
    default_code = CODE.EXEC_HITL_REJECTED


class Asked:
    """A budget that answers as it is told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def admit(self, agent: Any, asked: Any, ledger: Any) -> Sequence[Purse]:
        if self.answer == "hangs":
            await asyncio.Event().wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_row_9_a_rejection_returns_the_budgets_own_error_and_makes_zero_model_calls() -> None:
    own = Own("not on a Sunday")

    async def main(world: SimulatedWorld) -> None:
        model = model_of()
        executor = executor_of(world, model, Asked(own))
        result = await by(executor)
        assert result.exception is own
        assert (result.status, result.cost_nano, model.calls) == ("rejected", 0, 0)
        [row] = await executor.journal.runs()
        assert (row.run_id, row.status, row.code) == (result.run_id, "rejected", own.code.value)
        await adds_up(executor.journal)

    simulate(main)


@pytest.mark.parametrize(
    ("answer", "status", "code", "why"),
    [
        (LimitError("no", code=CODE.EXEC_BUDGET_EXCEEDED), "budget_exceeded", "exceeded", "no"),
        (JournalError("disk full"), "rejected", "undecided", "disk full"),
        (RuntimeError("boom"), "rejected", "undecided", "RuntimeError: boom"),
        ("hangs", "rejected", "undecided", "no answer within 10 s"),
        ("lies", "rejected", "undecided", "each a Purse, not str"),
        (None, "rejected", "undecided", "each a Purse, not NoneType"),
        ([5], "rejected", "undecided", "must be a Purse, not int"),
        (asyncio.CancelledError(), "rejected", "undecided", "it was cancelled"),
        ([Purse("a:b", 1)] * 2, "rejected", "", "each once"),
    ],
    ids=["exceeded", "store", "crash", "hang", "lie", "forgets", "no purse", "cancelled", "twice"],
)
def test_a_budget_that_cannot_say_yes_has_said_no(
    answer: Any, status: str, code: str, why: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = model_of()
        executor = executor_of(world, model, Asked(answer))
        result = await by(executor)
        assert result.status == status
        assert why in result.error
        assert result.code is not None
        assert not code or result.code.value == f"exec.budget.{code}"
        [row] = await executor.journal.runs()
        assert (row.status, model.calls) == (status, 0)
        assert await verify(executor.journal, row.run_id) == []

    simulate(main)


@pytest.mark.parametrize(
    "given", [iter, set, lambda purses: purses[0]], ids=["iterator", "set", "one"]
)
def test_purses_hold_in_whatever_they_are_given(given: Callable[[list[Purse]], Any]) -> None:
    async def main(world: SimulatedWorld) -> None:
        purse = Purse("job:1", CENT)
        executor = executor_of(world, model_of(), Asked(given([purse])))
        first = await by(executor)
        assert first.status == "ok"
        assert await executor.journal.used(purse) == Balance(0, CENT)
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:x"),
            models=Models(providers={"scripted": model_of()}),
            journal=executor.journal,
            world=world,
        )
        late = await pipeline.run("go", budgets=given([purse]), raise_on_error=False)
        assert late.status == "budget_exceeded"
        with pytest.raises(ConfigError, match="must be a Purse, not str"):
            await pipeline.run("go", budgets=["job:1"])  # type: ignore[list-item]

    simulate(main)


def test_a_run_that_is_cancelled_while_its_budget_is_asked_is_cancelled() -> None:
    async def main(world: SimulatedWorld) -> None:
        task = asyncio.create_task(by(executor_of(world, model_of(), Asked("hangs"))))
        await world.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    simulate(main)


class Working:
    """A budget that works before it answers."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work

    async def admit(self, agent: Any, asked: Any, ledger: Any) -> Sequence[Purse]:
        await self.work()
        return []


def test_a_task_group_of_a_budget_that_fails_cancels_no_caller() -> None:
    """Before Python 3.13 it leaves its task counted as cancelled."""

    async def main(world: SimulatedWorld) -> None:
        async def fails() -> None:
            await world.sleep(1)
            raise ValueError("no quota")

        async def works() -> None:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
                    group.create_task(world.sleep(5))

        assert (await by(executor_of(world, model_of(), Working(works)))).status == "ok"
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    simulate(main)


def test_what_a_budget_makes_of_a_cancellation_does_not_hide_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def translates() -> None:
            try:
                await world.sleep(60)
            except asyncio.CancelledError:
                raise RuntimeError("interrupted") from None

        async def swallows() -> None:
            with suppress(asyncio.CancelledError):
                await world.sleep(60)

        for works in (translates, swallows):
            executor = executor_of(world, model_of(), Working(works))
            task = asyncio.create_task(by(executor))
            await world.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await executor.journal.runs() == []

    simulate(main)


def test_a_budget_that_does_not_stop_is_not_waited_for() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def goes_on() -> None:
            for _ in range(3):
                with suppress(asyncio.CancelledError):
                    await world.sleep(100)

        began = world.monotonic()
        result = await by(executor_of(world, model_of(), Working(goes_on)))
        assert "no answer within 10 s" in result.error
        assert world.monotonic() - began < 15
        await world.sleep(300)  # until it has ended by itself

    simulate(main)


def test_a_task_that_has_outlived_a_cancellation_runs_and_is_refused_as_any_other() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def outlives() -> list[str]:
            with suppress(asyncio.CancelledError):
                await world.sleep(100)
            budgets = Asked([Purse("job:1", CENT)]), Asked(asyncio.CancelledError())
            return [(await by(executor_of(world, model_of(), each))).status for each in budgets]

        task = asyncio.create_task(outlives())
        await world.sleep(1)
        task.cancel()
        assert await task == ["ok", "rejected"]
        assert task.cancelling() == 1

    simulate(main)


def test_a_refused_run_stays_refused_when_its_process_dies_before_its_end() -> None:
    async def no() -> Sequence[Purse]:
        raise Own("no")

    async def begin(pipeline: Pipeline) -> None:
        await pipeline.run("go", budgets=no, raise_on_error=False)

    async def go_on(pipeline: Pipeline) -> int:
        rows = await pipeline.journal.runs(unfinished=True)
        for row in rows:
            result = await pipeline.resume(row.run_id, raise_on_error=False)
            assert (result.status, result.error) == ("rejected", "no")
        return len(rows)

    model = model_of()
    assert killed(begin, go_on, model) > 1
    assert model.calls == 0


def test_row_86_a_caller_has_so_much_within_seven_days() -> None:
    async def main(world: SimulatedWorld) -> None:
        budget = CallerBudgets(usd=0.02, per_caller={"bob": 0.03, "eve": 0})
        executor = executor_of(world, model_of(), budget)

        async def statuses(caller: str, runs: int) -> list[str]:
            return [(await by(executor, caller)).status for _ in range(runs)]

        assert await statuses("alice", 1) == ["ok"]
        await world.sleep(timedelta(days=3).total_seconds())
        assert await statuses("alice", 2) == ["ok", "budget_exceeded"]
        assert await statuses("bob", 4) == ["ok", "ok", "ok", "budget_exceeded"]
        assert await statuses("eve", 1) == ["budget_exceeded"]
        assert "The run was not begun" in (await by(executor, "eve")).error, "nothing is left"
        assert await statuses("", 3) == ["ok", "ok", "budget_exceeded"], "nobody is somebody"
        await world.sleep(timedelta(days=4).total_seconds() - 1)
        assert await statuses("alice", 1) == ["budget_exceeded"]
        await world.sleep(timedelta(hours=1, seconds=1).total_seconds())
        assert await statuses("alice", 2) == ["ok", "budget_exceeded"]
        await world.sleep(timedelta(days=8).total_seconds())
        assert await statuses("alice", 3) == ["ok", "ok", "budget_exceeded"]

    simulate(main)


def test_each_of_several_budgets_has_to_have_enough() -> None:
    async def main(world: SimulatedWorld) -> None:
        total = TotalBudget("team:all", usd=0.03)
        executor = executor_of(world, model_of(), AllBudgets(CallerBudgets(usd=0.02), total))
        callers = ["alice", "alice", "alice", "bob", "bob"]
        told = [(await by(executor, caller)).status for caller in callers]
        assert told == ["ok", "ok", "budget_exceeded", "ok", "budget_exceeded"]
        await adds_up(executor.journal, total.purse)

    simulate(main)


class Blind(MemoryJournal):
    """Its ledger cannot be asked."""

    async def used(self, purse: Purse) -> Balance:
        raise JournalError("no answer")


def test_a_ledger_that_cannot_be_asked_refuses_unless_told_otherwise_and_holds_in_any_case() -> (
    None
):
    async def main(world: SimulatedWorld) -> None:
        for fail_open, statuses in ((False, ["rejected"] * 2), (True, ["ok", "budget_exceeded"])):
            budget = CallerBudgets(usd=0.01, fail_open=fail_open)
            executor = executor_of(world, model_of(), budget, journal=Blind(world))
            assert [(await by(executor)).status for _ in range(2)] == statuses

    simulate(main)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CallerBudgets(usd=float("nan")),
        lambda: CallerBudgets(usd=1, per_caller={"bob": float("inf")}),
        lambda: CallerBudgets(usd=1, window=timedelta(0)),
        lambda: TotalBudget("review", usd=1),
    ],
    ids=["nan", "infinity", "no window", "no name"],
)
def test_a_budget_that_cannot_be_is_refused_when_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


# --- what becomes of what is set aside ------------------------------------------------------------


class Hanging(ScriptedModel):
    """Has used some tokens, and then says nothing any more."""

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        self.calls += 1
        yield TextDelta("half ")
        yield UsageDelta(Usage(0, 4096))
        await world.sleep(1e6)


@pytest.mark.parametrize("ends", ["cancelled", "timeout"])
def test_row_15_a_run_that_is_stopped_is_charged_what_it_has_used_and_frees_the_rest(
    ends: str,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        budget = TotalBudget("job:1", usd=0.01)
        limits = Limits(timeout_s=30.0)
        model = Hanging(usage=WHOLE, price=EXACT)
        executor = executor_of(world, model, budget, limits=limits)
        handle = executor.start(RunnableAgent(), "hi")
        await world.sleep(1)
        assert await executor.journal.used(budget.purse) == Balance(CENT)
        if ends == "cancelled":
            handle.cancel()
        result = await handle
        assert result.status == ends
        assert await executor.journal.used(budget.purse) == Balance(0, CENT // 2)
        await adds_up(executor.journal, budget.purse)

    simulate(main)


class Slow(MemoryJournal):
    """Takes its time as a file does, so that a process can die before and after each commit."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._outside = world

    async def append(self, *given: Any, **more: Any) -> int:
        with CancelScope(shield=True):
            await self._outside.sleep(0)
        last = await super().append(*given, **more)
        with CancelScope(shield=True):
            await self._outside.sleep(0)
        return last


def killed(
    begin: Callable[[Pipeline], Awaitable[None]],
    then: Callable[[Pipeline], Awaitable[int]],
    model: ScriptedModel,
    each: int = 1,
) -> int:
    """Begin in a new process that is killed after `each`, twice that, ... steps, until it ends by
    itself, and then do the other in a new one. What all of these have given, added up."""
    total = 0
    for steps in count(each, each):
        world = SimulatedWorld(steps)
        journal = Slow(world)

        async def live(
            what: Callable[[Pipeline], Awaitable[Any]], journal: Journal, world: SimulatedWorld
        ) -> Any:
            return await what(family(model, journal, world))

        try:
            simulate_in(world, partial(live, begin, journal), crash_after_steps=steps)
        except SimulatedCrash:
            total += simulate_in(world, partial(live, then, journal))
        else:
            return total
    raise AssertionError("it never ends")


@pytest.mark.parametrize("resumed", [True, False], ids=["resumed", "given up"])
def test_what_a_killed_run_has_set_aside_is_held_until_it_is_resumed_or_given_up(
    resumed: bool,
) -> None:
    purse = Purse("job:1", 2 * CENT)
    world = SimulatedWorld()
    journal, model = MemoryJournal(world), model_of(latency_s=10.0)

    async def spend(world: SimulatedWorld) -> None:
        await family(model, journal, world).run("go", budgets=[purse])

    async def then(world: SimulatedWorld) -> None:
        await world.sleep(1e7)  # it is never freed by itself
        pipeline = family(model, journal, world)
        [row] = await journal.runs()
        assert await journal.shares("job:1") == {row.run_id: Balance(CENT)}
        await pipeline.run("go", budgets=[purse])
        late = await pipeline.run("go", budgets=[purse], raise_on_error=False)
        assert "set aside for other calls" in late.error
        assert late.exception is not None
        assert "fewer at once, or a smaller max_tokens" in late.exception.hint
        if resumed:
            assert (await pipeline.resume(row.run_id)).cost_nano == CENT
        else:
            await pipeline.abandon(row.run_id)
        assert await journal.used(purse) == Balance(0, CENT * (1 + resumed))
        await adds_up(journal, purse)

    with pytest.raises(SimulatedCrash):
        simulate_in(world, spend, crash_at_s=5.0)
    simulate_in(world, then)


def test_killed_anywhere_a_family_leaves_a_ledger_that_adds_up() -> None:
    """At every fifth step of two runs with two helpers each, on money for five calls; then they
    are resumed, or given up."""
    purse = Purse("job:1", 5 * CENT)

    async def spend(pipeline: Pipeline) -> None:
        other = family(model, pipeline.journal, pipeline.world)
        runs = [p.run("go", budgets=[purse], raise_on_error=False) for p in (pipeline, other)]
        await asyncio.gather(*runs)

    async def then(pipeline: Pipeline) -> int:
        journal = pipeline.journal
        held = await journal.balance("job:1")
        assert held.spent + held.reserved <= purse.ceiling_nano
        rows = [row for row in await root_runs(journal, 10) if not row.status]
        for number, row in enumerate(rows):
            if (number + int(pipeline.world.dice(0).random() * 3)) % 2:
                await pipeline.resume(row.run_id, raise_on_error=False)
            else:
                await pipeline.abandon(row.run_id)
        await adds_up(journal, purse)
        return bool(held.reserved)

    model = model_of(asks, latency_s=1.0)
    assert killed(spend, then, model, each=5) > 5, "killed with money set aside"


# --- and who checks it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE shares SET spent=spent+1",
        "UPDATE shares SET reserved=1",
        "DELETE FROM shares",
        "UPDATE ledger SET spent=spent-1 WHERE account='job:1'",
        "UPDATE ledger SET reserved=1 WHERE account='job:1'",
    ],
)
async def test_verify_finds_a_purse_that_is_not_what_its_runs_have(
    tmp_path: Path, sql: str
) -> None:
    path = tmp_path / "journal.db"
    async with SQLiteJournal(path) as journal:
        pipeline = family(model_of(asks), journal, RealWorld())
        result = await pipeline.run("go", budgets=[Purse("job:1", 9 * CENT)])
        await adds_up(journal, Purse("job:1", 9 * CENT))
        apsw.Connection(str(path)).execute(sql)
        found = await verify(journal, result.run_id)
        assert {finding.rule for finding in found} == {"ledger"}
        assert all("job:1" in finding.what for finding in found)


async def test_the_rule_of_honest_budgets_finds_what_is_charged_to_nobody() -> None:
    world = RealWorld()
    pipeline = family(model_of(asks), journal := MemoryJournal(world), world)
    result = await pipeline.run("go", budgets=[Purse("job:1", 9 * CENT)])
    for share, sound in ((2 * CENT, True), (4 * CENT, False), (0, False)):
        shares = {"job:1": Balance(0, share)} if share else {}
        balance = await journal.balance(result.run_id)
        run = Evidence(result.run_id, "", result.events, balance, shares=shares)
        assert (not list(RULES["honest budgets"](run))) == sound
    assert not list(RULES["honest budgets"](replace(run, shares=None))), "not looked at"


def test_a_window_that_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="its window .*timedelta"):
        Purse.usd("job:1", 1, window=7)  # type: ignore[arg-type]
