"""A resumed run answers from its journal first: honest to the last fact."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message, TextBlock, user_message
from lorimer.core.request import Usage
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models.pricing import Price
from lorimer.stages.s02_context import ContextStrategy
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from tests.core.support import Do, check_history, held, kinds, make, only, use
from tests.stages.support import choose

CODE = ExecutorErrorCode


def priced(world: World, journal: MemoryJournal, replies: Sequence[Any]) -> Pipeline:
    model = ScriptedModel(replies, usage=Usage(100, 10), price=Price(1, 1))
    return make(world, model, "chat", tools=[Do("look")], journal=journal)


REPLIES = [[use("look", f"c{n}")] for n in range(5)]


def test_a_run_cancelled_while_it_answers_from_its_journal_tells_all_that_it_cost() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await priced(world, MemoryJournal(world), [*REPLIES, "done"]).run("go")
        cut = len(whole.events) - 4  # five turns are recorded
        journal = await held(world, whole.events[:cut])
        recorded = sum(int(str(f.data.get("cost", 0))) for f in whole.events[:cut])
        pipeline = priced(world, journal, ["more"])
        pipeline.on("run.resumed", lambda event: pipeline.cancel())
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.status == "cancelled"
        assert result.cost_nano == recorded == 5 * 110_000
        assert result.usage == Usage(500, 50)
        assert result.iterations == 5
        assert result.events[-1].iteration == 4
        [row] = await journal.runs()
        assert (row.cost_nano, row.iterations, row.status) == (recorded, 5, "cancelled")
        again = await pipeline.run("and now")
        assert len(again.messages) == 1 + 2 * 5 + 2, "it knows what was recorded"
        check_history(again.messages)

    simulate(main)


def test_money_set_aside_by_a_lost_call_is_given_back_when_the_run_ends_without_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        limits = Limits(max_cost_usd=1)
        whole = await priced(world, MemoryJournal(world), ["done"]).run("go", limits=limits)
        assert int(str(whole.events[1].data["reserve"])) > 0
        journal = MemoryJournal(world)
        epoch = await journal.claim("s", "the dead", 0)
        for fact in whole.events[:2]:
            reserve = int(str(fact.data.get("reserve", 0)))
            entry = LedgerEntry(fact.run_id, reserved=reserve) if reserve else None
            copy = Event(fact.type, fact.data, fact.run_id, fact.iteration, fact.time)
            await journal.append("s", epoch, [copy], sync=True, ledger=entry)
        await journal.release("s", epoch)
        pipeline = priced(world, journal, [])
        pipeline.on("run.resumed", lambda event: pipeline.cancel())
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.status == "cancelled"
        balance = await journal.balance(whole.run_id)
        assert (balance.reserved, balance.spent) == (0, 0)

    simulate(main)


@pytest.mark.parametrize("safe", [False, True], ids=["alone", "at once"])
def test_a_call_that_is_not_recorded_is_not_begun_once_the_time_is_over(safe: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        def tools() -> list[Do]:
            return [Do("write", effects=["write"], idempotent=True, safe=safe)]

        calls = [use("write", f"c{n}", n=n) for n in range(3)]
        limits = Limits(timeout_s=60)
        first = make(world, [calls, "done"], "chat", tools=tools())
        whole = await first.run("go", limits=limits)
        cut = kinds(whole.events).index("tool.result") + 1
        kept = whole.events[:cut]
        kept[-1].time = kept[0].time + 60.5
        journal = await held(world, kept)
        [write] = given = tools()
        pipeline = make(world, ["never"], "chat", tools=given, journal=journal)
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert (result.status, write.calls) == ("timeout", [])
        check_history(result.messages)

    simulate(main)


def test_a_resumed_run_has_the_money_that_is_left() -> None:
    async def main(world: SimulatedWorld) -> None:
        def build(journal: MemoryJournal, replies: Sequence[Any]) -> Any:
            model = ScriptedModel(replies, usage=Usage(100, 10), price=Price(1, 1))

            def change(manifest: EnvironmentManifest) -> None:
                manifest.model.max_tokens = 50

            look = [Do("look")]
            return model, make(world, model, "chat", change=change, tools=look, journal=journal)

        _, first = build(MemoryJournal(world), [*REPLIES, "done"])
        limits = Limits(max_cost_usd=0.0015)  # each call costs 0.00011
        whole = await first.run("go", limits=limits)
        journal = MemoryJournal(world)
        epoch = await journal.claim("s", "the dead", 0)
        for fact in whole.events[:-4]:
            copy = Event(fact.type, fact.data, fact.run_id, fact.iteration, fact.time)
            spent = int(str(fact.data.get("cost", 0)))
            entry = LedgerEntry(fact.run_id, spent=spent) if spent else None
            await journal.append("s", epoch, [copy], sync=True, ledger=entry)
        await journal.release("s", epoch)
        model, again = build(journal, ([use("look", f"d{n}")] for n in range(99)))
        result = await again.resume(whole.run_id, raise_on_error=False)
        assert result.status == "budget_exceeded"
        assert 2 <= model.calls <= 8
        assert result.cost_nano == (5 + model.calls) * 110_000
        balance = await journal.balance(whole.run_id)
        assert (balance.reserved, balance.spent) == (0, result.cost_nano)

    simulate(main)


def test_a_run_resumed_with_no_time_left_answers_from_its_journal_and_calls_nothing() -> None:
    class Slow(SimulatedWorld):
        """Where looking at the clock takes time: 20 ms a look."""

        def monotonic(self) -> float:
            self.clock.advance(0.02)
            return super().monotonic()

    async def main(_: SimulatedWorld) -> None:
        world = Slow()
        limits = Limits(timeout_s=60)
        whole = await priced(world, MemoryJournal(world), [*REPLIES, "done"]).run(
            "go", limits=limits
        )
        kept = whole.events[: len(whole.events) - 4]
        last = kept[-1]
        late = Event(last.type, last.data, last.run_id, last.iteration, kept[0].time + 59.99)
        journal = await held(world, [*kept[:-1], late])
        pipeline = priced(world, journal, [])
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert (result.status, result.code) == ("timeout", CODE.EXEC_LIMIT_TIMEOUT)
        assert result.iterations >= 5
        assert result.cost_nano == 5 * 110_000
        assert len(result.messages) == 11
        check_history(result.messages)

    simulate(main)


def test_what_a_broken_off_call_had_cost_is_remembered_by_the_resumed_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        slow = ScriptedModel(
            [[TextBlock("a b c d")], "done"], usage=Usage(100, 10), price=Price(1, 1), delta_s=1
        )
        pipeline = make(world, slow, "chat", journal=journal)
        asyncio.get_running_loop().call_later(2.5, pipeline.cancel, Reason.SHUTDOWN)
        stopped = await pipeline.run("go", raise_on_error=False)
        assert (stopped.status, stopped.usage) == (
            "suspended",
            Usage(100, 1),
        )  # what it had said: an estimate
        result = await pipeline.resume(stopped.run_id)
        assert (result.text, result.usage) == ("done", Usage(200, 11))
        assert result.cost_nano == 211_000
        assert (await journal.balance(result.run_id)).spent == 211_000

    simulate(main)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_time_that_a_run_was_not_running_does_not_count(times: int) -> None:
    async def nap(input: ToolInput, context: ToolContext) -> str:
        await context.world.sleep(3)
        return "slept"

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel.obedient("nap")
        pipeline = make(world, model, "chat", tools=[Do("nap", nap)], journal=journal)
        limits = Limits(timeout_s=20, max_turns=100)
        run_id, ran, begun = "", 0.0, 0.0
        for life in range(times + 1):
            begun = world.monotonic()
            if life < times:
                asyncio.get_running_loop().call_later(4.5, pipeline.cancel, Reason.SHUTDOWN)
            result = await (
                pipeline.resume(run_id, raise_on_error=False)
                if run_id
                else pipeline.run("go", limits=limits, raise_on_error=False)
            )
            run_id = result.run_id
            ran += world.monotonic() - begun
            assert result.status == ("suspended" if life < times else "timeout")
            await world.sleep(100_000)
        assert ran == pytest.approx(20, abs=0.01)

    simulate(main)


@pytest.mark.parametrize("code", [CODE.EXEC_API_SERVER_ERROR, CODE.EXEC_CLI_TIMEOUT])
def test_a_retry_that_is_recorded_is_made_again_however_late_it_is(code: CODE) -> None:
    async def main(world: SimulatedWorld) -> None:
        busy = APIError("busy", code=code)
        limits = Limits(timeout_s=10)
        first = make(world, [busy, [use("look")], "x"], "chat", tools=[Do("look")])
        whole = await first.run("go", limits=limits)
        kept = [fact for fact in whole.events if fact.iteration == 0]
        for number, fact in enumerate(kept[1:], 1):  # as if it had been interrupted for long
            fact.time = kept[0].time + 9.5 + number * 0.01
        journal = await held(world, kept)
        pipeline = make(world, ["the end"], "chat", tools=[Do("look")], journal=journal)
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.text == "the end"
        assert kinds(result.events).count("model.intent") == 3

    simulate(main)


def test_facts_that_nobody_asks_for_any_more_do_no_harm_and_were_spent_all_the_same() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await priced(world, MemoryJournal(world), [*REPLIES[:1], "done"]).run("go")
        stray = Event("effect", {"key": "x:y", "hash": "z", "cost": 7}, whole.run_id, 0)
        kept = [fact for fact in whole.events if fact.iteration == 0 and fact.type != "run.end"]
        stray.time = kept[-1].time
        journal = await held(world, [*kept[:-1], stray])  # without its iteration.end
        pipeline = priced(world, journal, ["done"])
        heard: list[str] = []
        pipeline.on("api.*", lambda event: heard.append(event.type))
        result = await pipeline.resume(whole.run_id)
        assert result.text == "done"
        assert result.cost_nano == 2 * 110_000 + 7
        assert heard == ["api.request", "api.response"]

    simulate(main)


def test_a_reply_whose_call_is_not_recorded_suspends_the_run() -> None:
    """No process leaves such facts: a store that lost one does."""

    async def main(world: SimulatedWorld) -> None:
        whole = await priced(world, MemoryJournal(world), ["done"]).run("go")
        journal = await held(world, [whole.events[0], whole.events[2]])
        pipeline = priced(world, journal, ["never"])
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert (result.status, result.code) == ("suspended", CODE.EXEC_JOURNAL_DIVERGED)

    simulate(main)


def test_a_stage_may_record_what_it_will_not_change() -> None:
    class Notes(Stage[object, object]):
        name = "notes"
        order = 12

        async def execute(self, input: object, state: PipelineState) -> object:
            await state.run.record("decision", MappingProxyType({"why": "so"}), key="note")
            return input

    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["done"], "chat")
        first.register_stage(Notes())
        whole = await first.run("go")
        journal = await held(world, whole.events[:3])
        pipeline = make(world, ["never"], "chat", journal=journal)
        pipeline.register_stage(Notes())
        result = await pipeline.resume(whole.run_id)
        assert only(result.events, "decision") == {"why": "so"}

    simulate(main)


class Told(ContextStrategy):
    """Tells the model something that the manifest does not say."""

    name = "told"
    what = "something"

    async def load(self, state: PipelineState) -> Sequence[Message]:
        return [user_message(self.what), *state.messages]


class ToldElse(Told):
    what = "something else"


def test_a_run_that_would_ask_something_else_is_suspended_and_asks_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        def build(journal: MemoryJournal, kind: type[Told], replies: Sequence[Any]) -> Any:
            pipeline = make(
                world, model := ScriptedModel(replies), "chat", tools=[Do("look")], journal=journal
            )
            pipeline.swap_strategy("context", "strategy", kind)
            return pipeline, model

        pipeline, _ = build(MemoryJournal(world), Told, [[use("look")], "done"])
        whole = await pipeline.run("go")
        journal = await held(world, whole.events[:4])
        pipeline, model = build(journal, ToldElse, ["never"])
        with pytest.raises(JournalError, match="not the one that was recorded") as diverged:
            await pipeline.resume(whole.run_id)
        assert diverged.value.code is CODE.EXEC_JOURNAL_DIVERGED
        assert "put back the version" in diverged.value.hint
        assert diverged.value.result is not None
        assert diverged.value.result.status == "suspended"
        assert model.calls == 0
        facts = [fact async for fact in journal.read("session_1")]
        assert kinds(facts)[4:] == ["run.suspended"]
        with pytest.raises(PipelineError):
            await pipeline.run("go on")
        await pipeline.aclose()
        right, _ = build(journal, Told, ["done"])
        assert (await right.resume(whole.run_id)).text == "done"

    simulate(main)


def test_of_calls_begun_before_a_crash_only_an_idempotent_one_is_repeated() -> None:
    async def main(world: SimulatedWorld) -> None:
        for idempotent in (False, True):

            def tools(idempotent: bool = idempotent) -> list[Do]:
                return [Do("write", effects=["write"], idempotent=idempotent)]

            whole = await make(world, [[use("write")], "done"], "chat", tools=tools()).run("go")
            cut = kinds(whole.events).index("tool.result")
            journal = await held(world, whole.events[:cut])
            [tool] = given = tools()
            pipeline = make(world, ["done"], "chat", tools=given, journal=journal)
            result = await pipeline.resume(whole.run_id)
            assert len(tool.calls) == idempotent
            [step] = result.steps
            assert step.is_error is not idempotent
            assert ("not known" in str(step.content)) is not idempotent

    simulate(main)


def test_a_resumed_run_throws_the_same_dice() -> None:
    async def main(world: SimulatedWorld) -> None:
        def build(journal: MemoryJournal, replies: Sequence[Any]) -> Pipeline:
            change = choose("api", "retry", "exponential_backoff", jitter=1.0)
            return make(world, replies, "chat", change=change, journal=journal)

        busy = [APIError("busy", code=CODE.EXEC_API_NETWORK) for _ in range(3)]
        whole = await build(MemoryJournal(world), [*busy, "done"]).run("go")
        waits = [later.time - fact.time for fact, later in pairwise(whole.events)]
        for cut in (3, 5):  # after the first failure, after the second
            journal = await held(world, whole.events[:cut])
            again = build(journal, [*busy[cut // 2 :], "done"])
            result = await again.resume(whole.run_id)
            told = [later.time - fact.time for fact, later in pairwise(result.events)]
            assert told[cut:] == pytest.approx(waits[cut:])
            assert len(set(waits)) > 3

    simulate(main)
