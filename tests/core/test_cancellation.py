"""Whoever stops a run, and whenever: it has one end, its conversation goes on, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any

import anyio
import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.cancel import Reason
from lorimer.core.errors import (
    APIError,
    ConfigError,
    ExecutorErrorCode,
    JournalError,
    PipelineError,
    RunCancelled,
)
from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import Conversation, MemoryJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from lorimer.world import RealWorld
from tests.core.support import Do, SlowJournal, check_history, kinds, make, use
from tests.stages.support import choose

CODE = ExecutorErrorCode
OWNER = "this process"
EACH = 1 if os.environ.get("LORIMER_CAMPAIGN") else 3
"""Of so many steps or events one is tried."""
NEVER_BEGUN = "ignore:coroutine '.*' was never awaited:RuntimeWarning"


async def steps(input: ToolInput, context: ToolContext) -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "done"


async def _for_ever(input: ToolInput, context: ToolContext) -> str:
    await asyncio.sleep(30)
    return "done"


async def _lasting(input: ToolInput, context: ToolContext) -> str:
    try:
        await asyncio.sleep(30)
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(5)
    return "done"


async def stubborn(input: ToolInput, context: ToolContext) -> str:
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    return "done all the same"


class Surface(Stage[object, object]):
    name = "surface"
    order = 19

    async def execute(self, input: object, state: PipelineState) -> object:
        for _ in range(3):
            await asyncio.sleep(0)
        return input


def agent(world: World, journal: MemoryJournal, *, listener: bool = False) -> Pipeline:
    """Two turns of tools, at once and alone, then an answer; a step is a turn of the loop."""
    replies = [
        [TextBlock("first"), use("read", "a"), use("write", "b"), use("put", "c")],
        [use("alone", "d"), use("stubborn", "e")],
        "the answer",
    ]
    tools = [
        Do("read", steps, safe=True),
        Do("write", steps, effects=["write"], safe=True),
        Do("put", steps, effects=["write"], safe=True, idempotent=True),
        Do("alone", steps, effects=["write"]),
        Do("stubborn", stubborn, effects=["write"]),
    ]
    model = ScriptedModel([*replies, *["and on"] * 9])
    pipeline = make(world, model, "agent", tools=tools, journal=journal, owner=OWNER)
    pipeline.register_stage(Surface())
    if listener:

        @pipeline.on("*")
        async def _(event: Event) -> None:
            await asyncio.sleep(0)

    return pipeline


async def facts_of(journal: MemoryJournal) -> list[Event]:
    [row] = await journal.runs()
    return [fact async for fact in journal.read(row.stream)]


async def check_ended(
    pipeline: Pipeline, journal: MemoryJournal, status: set[str], *, go_on: bool = True
) -> None:
    """One end or none at all; nothing left; live history as journalled; the next run works."""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    rows = await journal.runs()
    if rows:
        facts = await facts_of(journal)
        assert kinds(facts).count("run.start") == 1
        assert kinds(facts).count("run.end") == 1
        assert facts[-1].type == "run.end"
        assert rows[0].status in status
        assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
        assert (await journal.balance(rows[0].run_id)).reserved == 0
    if go_on:
        result = await pipeline.run("go on")
        assert result.text in ("the answer", "first", "", "and on")
        check_history(result.messages)
        stored = await Conversation.open(journal, result.session_id, OWNER, pipeline.world)
        assert list(stored.history) == result.messages
    assert asyncio.all_tasks() == {asyncio.current_task()}


Stop = Callable[[Pipeline, "asyncio.Task[Any]"], object]


def sweep(
    stop: Stop,
    check: Callable[[Pipeline, MemoryJournal, bool, BaseException | None], Awaitable[None]],
    *,
    listener: bool = False,
    streamed: bool = False,
) -> int:
    """Stop a run after 0, 1, 2, ... turns of the loop, until it has ended before. Outside of
    campaigns, one that is heard or streamed after every third of them."""
    each = EACH if listener or streamed else 1

    async def drain(pipeline: Pipeline) -> Event | None:
        last = None
        async with aclosing(pipeline.run_stream("go")) as events:
            async for event in events:
                last = event
        return last

    for k in count(step=each):

        async def main(world: SimulatedWorld, k: int = k) -> bool:
            journal = SlowJournal(world)
            pipeline = agent(world, journal, listener=listener)
            call = drain(pipeline) if streamed else pipeline.run("go")
            task = asyncio.create_task(call)
            for _ in range(k):
                await asyncio.sleep(0)
            ended = task.done()
            stop(pipeline, task)
            raised: BaseException | None = None
            try:
                await task
            except (asyncio.CancelledError, RunCancelled) as error:
                raised = error
            await check(pipeline, journal, ended, raised)
            return ended

        if simulate(main):
            assert k > 40, f"the run took {k} steps only: the sweep says little"
            return k
    raise AssertionError


def cancel(pipeline: Pipeline, task: asyncio.Task[Any]) -> None:
    task.cancel()


@pytest.mark.parametrize("listener", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_the_caller_cancels_at_any_step(listener: bool, streamed: bool) -> None:
    async def check(
        pipeline: Pipeline, journal: MemoryJournal, ended: bool, raised: BaseException | None
    ) -> None:
        assert ended == (raised is None)
        await check_ended(pipeline, journal, {"ok"} if ended else {"cancelled", "ok"})

    sweep(cancel, check, listener=listener, streamed=streamed)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_the_caller_cancels_again_and_again(streamed: bool) -> None:
    def storm(pipeline: Pipeline, task: asyncio.Task[Any]) -> None:
        def again(left: int) -> None:
            if left and not task.done():
                task.cancel()
                asyncio.get_running_loop().call_soon(again, left - 1)

        again(40)

    async def check(
        pipeline: Pipeline, journal: MemoryJournal, ended: bool, raised: BaseException | None
    ) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        await check_ended(pipeline, journal, {"cancelled", "ok"})

    sweep(storm, check, listener=True, streamed=streamed)


@pytest.mark.filterwarnings(NEVER_BEGUN)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_all_tasks_of_the_loop_are_cancelled_at_any_step(streamed: bool) -> None:
    """As at the end of `asyncio.run`."""

    def everything(pipeline: Pipeline, task: asyncio.Task[Any]) -> None:
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            one.cancel()

    async def check(
        pipeline: Pipeline, journal: MemoryJournal, ended: bool, raised: BaseException | None
    ) -> None:
        await check_ended(pipeline, journal, {"cancelled", "ok"})

    sweep(everything, check, listener=True, streamed=streamed)
    gc.collect()  # what never began warns when it is collected: here, not in another test


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_the_host_cancels_the_pipeline_at_any_step(streamed: bool) -> None:
    """Not the caller's own doing, so the caller is told by a typed error."""

    async def check(
        pipeline: Pipeline, journal: MemoryJournal, ended: bool, raised: BaseException | None
    ) -> None:
        assert not isinstance(raised, asyncio.CancelledError)
        if raised is not None:
            assert isinstance(raised, RunCancelled)
            assert raised.code is CODE.EXEC_RUN_CANCELLED
            assert raised.result is not None
            assert raised.result.status == "cancelled"
        await check_ended(pipeline, journal, {"cancelled", "ok"})

    sweep(lambda pipeline, _: pipeline.cancel(), check, streamed=streamed)


def test_a_shutdown_at_any_step_suspends_and_the_run_can_be_resumed() -> None:
    async def check(
        pipeline: Pipeline, journal: MemoryJournal, ended: bool, raised: BaseException | None
    ) -> None:
        assert asyncio.all_tasks() == {asyncio.current_task()}
        [row] = await journal.runs() or [None]
        if row is None or row.status:
            await check_ended(pipeline, journal, {"ok"})
            return
        assert isinstance(raised, RunCancelled)
        assert raised.code is CODE.EXEC_RUN_SHUTDOWN
        assert raised.result is not None
        assert raised.result.status == "suspended"
        assert (await facts_of(journal))[-1].type == "run.suspended"
        with pytest.raises(PipelineError) as refused:
            await pipeline.run("not yet")
        assert refused.value.code is CODE.EXEC_RUN_BUSY
        assert row.run_id in refused.value.hint
        result = await pipeline.resume(row.run_id)
        assert result.text == "the answer"
        assert result.iterations == 3
        await check_ended(pipeline, journal, {"ok"})

    sweep(lambda pipeline, _: pipeline.cancel(Reason.SHUTDOWN), check)


@pytest.mark.parametrize("how", ["cancel", "shut_down"])
def test_another_thread_stops_a_run_at_once(how: str) -> None:
    pipeline = make(RealWorld(), [[use("wait")]], tools=[Do("wait", _for_ever)])
    began = threading.Event()
    pipeline.on("tool.call_start", lambda event: began.set())
    found: list[bool] = []

    def stop() -> None:
        assert began.wait(10)
        found.append(pipeline.cancel() if how == "cancel" else pipeline.shut_down(within_s=0))

    thread = threading.Thread(target=stop)
    thread.start()
    result = pipeline.run_sync("go", raise_on_error=False)
    thread.join()
    assert (found, result.status) == ([True], "cancelled" if how == "cancel" else "suspended")


def test_nothing_is_cancelled_where_nothing_runs() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["one", "two"], "chat")
        assert pipeline.cancel() is False
        assert (await pipeline.run("go")).text == "one"
        assert pipeline.cancel(Reason.SHUTDOWN) is False
        assert (await pipeline.run("go")).text == "two"

    simulate(main)


# --- streams ----------------------------------------------------------------------------------


def count_events() -> int:
    async def main(world: SimulatedWorld) -> int:
        pipeline = agent(world, SlowJournal(world))
        return len([event async for event in pipeline.run_stream("go")])

    return simulate(main)


WAYS = ("aclosing", "break", "raise", "cancel")


@pytest.mark.parametrize("how", WAYS)
def test_a_stream_left_after_any_event_ends_the_run(how: str) -> None:
    total = count_events()
    assert total > 60
    first = 1 + WAYS.index(how) % EACH
    for n in range(first, total + 1, EACH):

        async def main(world: SimulatedWorld, n: int = n) -> None:
            journal = SlowJournal(world)
            pipeline = agent(world, journal)

            async def read() -> None:
                seen = 0
                async for _ in pipeline.run_stream("go"):
                    seen += 1
                    if seen == n:
                        if how == "raise":
                            raise ZeroDivisionError
                        if how == "cancel":
                            task = asyncio.current_task()
                            assert task is not None
                            task.cancel()
                            await asyncio.sleep(1)
                        break

            async def read_closing() -> None:
                seen = 0
                async with aclosing(pipeline.run_stream("go")) as events:
                    async for _ in events:
                        seen += 1
                        if seen == n:
                            break

            if how == "aclosing":
                await read_closing()
                assert asyncio.all_tasks() == {asyncio.current_task()}
                assert (await journal.runs())[0].status
            else:
                reader = asyncio.create_task(read())
                await asyncio.wait([reader])
                with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
                    await reader
                for _ in range(200):  # the interpreter closes an abandoned generator in a task
                    await asyncio.sleep(0)
            await check_ended(pipeline, journal, {"cancelled", "ok"})

        simulate(main)


def test_a_run_begins_where_a_stream_was_left_the_moment_before() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = ["one", [use("lasts")], "two", [use("lasts", "x")], "3"]
        pipeline = make(world, replies, tools=[Do("lasts", _lasting)])
        assert (await pipeline.run("a")).text == "one"
        async for event in pipeline.run_stream("b"):
            if event.type == "tool.call_start":
                break
        result = await pipeline.run("c")
        assert (result.text, world.monotonic()) == ("two", 5)
        assert [run.status for run in await pipeline.journal.runs()] == ["ok", "cancelled", "ok"]

        going = asyncio.create_task(pipeline.run("d"))
        await asyncio.sleep(0)
        with pytest.raises(PipelineError, match="already in a run"):
            await pipeline.run("e")
        assert (await going).text == "3"

    simulate(main)


def test_a_closed_stream_says_so() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["never"], latency_s=100), "chat")
        heard: list[Event] = []
        pipeline.on("pipeline.error", heard.append)
        async with aclosing(pipeline.run_stream("go")) as events:
            async for event in events:
                if event.type == "model.intent":
                    break
        assert world.monotonic() == 0
        [event] = heard
        assert event.data["status"] == "cancelled"
        assert "reader of its stream" in str(event.data["error"])

    simulate(main)


# --- time-outs of the caller's ----------------------------------------------------------------


@pytest.mark.parametrize("scope", ["asyncio.timeout", "anyio.move_on_after", "asyncio.wait_for"])
@pytest.mark.parametrize("seconds", [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 9])
def test_a_time_out_of_the_callers_ends_the_run_and_is_his(scope: str, seconds: float) -> None:
    async def nap(input: ToolInput, context: ToolContext) -> str:
        await context.world.sleep(1)
        return "slept"

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel([[use("nap")], "done", *["more"] * 3], latency_s=1)
        pipeline = make(world, model, "chat", tools=[Do("nap", nap)], journal=journal)
        over = False
        try:
            if scope == "asyncio.timeout":
                async with asyncio.timeout(seconds):
                    await pipeline.run("go")
            elif scope == "asyncio.wait_for":
                await asyncio.wait_for(pipeline.run("go"), seconds)
            else:
                with anyio.move_on_after(seconds) as limit:
                    await pipeline.run("go")
                over = limit.cancelled_caught
        except TimeoutError:
            over = True
        assert over == (seconds <= 3)
        assert world.monotonic() == min(seconds, 3)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await world.sleep(0.1)  # the caller himself was not cancelled
        model.latency_s = 0
        await check_ended(pipeline, journal, {"cancelled"} if over else {"ok"}, go_on=False)
        result = await pipeline.run("again")
        check_history(result.messages)

    simulate(main)


def test_a_run_within_a_cancelled_scope_does_not_begin() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SlowJournal(world)
        pipeline = make(world, model := ScriptedModel(["hello"] * 3), "chat", journal=journal)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await pipeline.run("go")
        assert model.calls == 0
        assert (await pipeline.run("now")).text == "hello"

    simulate(main)


def test_cancel_races_the_time_limit_and_the_first_reason_counts() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["never"], latency_s=100)
        pipeline = make(world, model, "chat", journal=journal)
        loop = asyncio.get_running_loop()
        loop.call_at(5, pipeline.cancel)
        result = await pipeline.run("go", limits=Limits(timeout_s=5), raise_on_error=False)
        assert result.status in ("timeout", "cancelled")
        [row] = await journal.runs()
        assert row.status == result.status
        assert world.monotonic() == 5

    simulate(main)


class LateJournal(MemoryJournal):
    """What is cancelled while it waits is not written."""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        await asyncio.sleep(0)
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


def test_what_was_estimated_says_so_wherever_the_run_was_cut_off() -> None:
    """Nobody counted an answer that broke off; also where the run ends before it is recorded."""

    async def main(world: SimulatedWorld, k: int) -> tuple[bool, set[str]]:
        broken = APIError("cut", code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE)
        answers = [[TextBlock("a b c d"), broken], "done"]
        pipeline = make(world, ScriptedModel(answers), "chat", journal=LateJournal(world))
        found: list[Event] = []
        pipeline.on("*", found.append)
        task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        for _ in range(k):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        paid = [fact for fact in found if fact.type in ("model.reply", "effect")]
        broken_off = [fact for fact in paid if "usage" in fact.data and "stop" not in fact.data]
        for fact in broken_off:
            assert fact.data["extra"] == {"usage_estimated": True}, (k, fact)
        return ended, {fact.type for fact in broken_off}

    kinds_met: set[str] = set()
    for k in count():
        ended, met = simulate(lambda world, k=k: main(world, k))
        kinds_met |= met
        if ended:
            break
    assert kinds_met == {"model.reply", "effect"}


# --- the program ends -------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_a_program_that_ends_in_mid_run_writes_the_runs_end(streamed: bool) -> None:
    """For real: `asyncio.run` cancels what is still going on."""
    journals: list[MemoryJournal] = []
    errors: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        model = ScriptedModel(["never"], latency_s=1000)
        pipeline = PipelinePresets.chat(
            model="scripted:m", models=Models(providers={"scripted": model})
        )
        assert isinstance(pipeline.journal, MemoryJournal)
        journals.append(pipeline.journal)

        async def read() -> None:
            async for _ in pipeline.run_stream("go"):
                pass

        task = asyncio.create_task(read() if streamed else pipeline.run("go"))  # type: ignore[arg-type]
        while not model.calls:
            await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())

    async def look() -> list[Event]:
        return await facts_of(journals[0])

    facts = asyncio.run(look())
    assert kinds(facts) == ["run.start", "model.intent", "run.end"]
    assert facts[-1].data["status"] == "cancelled"
    assert errors == []


# --- somebody else takes the run over ---------------------------------------------------------


def test_a_run_that_another_process_took_over_writes_nothing_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        slow = make(world, ScriptedModel(["late"], latency_s=100), "chat", journal=journal)
        task = asyncio.create_task(slow.run("go", raise_on_error=False))
        await world.sleep(50)  # the claim of the first has run out
        [row] = await journal.runs()
        quick = make(world, ["mine"], "chat", journal=journal)
        taken = await quick.resume(row.run_id)
        assert taken.text == "mine"
        lost = await task
        assert (lost.status, lost.code) == ("suspended", CODE.EXEC_JOURNAL_CONFLICT)
        facts = await facts_of(journal)
        assert kinds(facts).count("run.end") == 1
        assert facts[-1].data["status"] == "ok"
        with pytest.raises(Exception, match=r"writer|written by"):
            await slow.run("again")

    simulate(main)


def test_calls_that_run_at_once_are_stopped_in_the_order_of_the_calls() -> None:
    """Else the same run would not have the same facts."""

    async def last_words(input: ToolInput, context: ToolContext) -> str:
        try:
            await context.world.sleep(100)
        except asyncio.CancelledError:
            return "what I have"
        return "all"

    async def main(world: SimulatedWorld) -> list[object]:
        calls = [use("slow", f"c{n}") for n in range(8)]
        tools = [Do("slow", last_words, effects=["write"], safe=True)]
        pipeline = make(world, [calls], "chat", tools=tools)
        asyncio.get_running_loop().call_later(1, pipeline.cancel)
        limits = Limits(max_parallel_tools=8)
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        return [fact.data["key"] for fact in result.events if fact.type == "tool.result"]

    for seed in range(5):
        assert simulate(main, seed) == [str(n) for n in range(8)]


@pytest.mark.parametrize("how", ["task", "pipeline"])
@pytest.mark.parametrize("executor", ["sequential", "partition"])
def test_nothing_begins_after_a_cancellation_that_a_tool_has_swallowed(
    how: str, executor: str
) -> None:
    async def swallow(input: ToolInput, context: ToolContext) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await context.world.sleep(100)
        return "what cancellation?"

    async def main(world: SimulatedWorld) -> None:
        write = Do("write", effects=["write"])
        model = ScriptedModel([[use("swallow"), use("write")], "never", "on"])
        pipeline = make(
            world,
            model,
            "chat",
            tools=[Do("swallow", swallow), write],
            change=choose("tool", "executor", executor),
        )
        task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        if how == "task":
            task.cancel()
        else:
            pipeline.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert world.monotonic() == 1
        assert (model.calls, write.calls) == (1, [])
        check_history((await pipeline.run("on")).messages)

    simulate(main)


# --- the claim that a run keeps -----------------------------------------------------------------


class SlowClaims(SlowJournal):
    """Outlives the process, they say, and takes a second to claim, and to prolong that."""

    durable = True

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        await asyncio.sleep(1)
        return await super().claim(stream, owner, ttl)

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        await asyncio.sleep(1)
        await super().renew(stream, epoch, ttl)


@pytest.mark.parametrize("again", [None, 0.2, 0.7], ids=["once", "again", "again later"])
@pytest.mark.parametrize("at", [10.5, 11.2, 12.0, 21.9, 22.4, 23.0])
@pytest.mark.parametrize("preset", ["chat", "minimal"])
def test_a_run_cancelled_while_it_prolongs_its_claim_leaves_nothing(
    preset: str, at: float, again: float | None
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SlowClaims(world)
        pipeline = make(world, ScriptedModel(["late"], latency_s=60), preset, journal=journal)
        task = asyncio.create_task(pipeline.run("go"))
        await world.sleep(at)
        task.cancel()
        if again is not None:
            await world.sleep(again)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await world.sleep(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in timers if not timer.cancelled()] == []
        [row] = await journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_a_live_run_keeps_its_claim_however_long_it_lasts() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SlowClaims(world)
        slow = make(world, ScriptedModel(["at last"], latency_s=500), "chat", journal=journal)
        patient = Limits(connect_timeout_s=900, idle_timeout_s=900, model_timeout_s=900)
        task = asyncio.create_task(slow.run("go", limits=patient))
        for _ in range(5):
            await world.sleep(80)
            [row] = await journal.runs()
            other = make(world, ["mine"], "chat", journal=journal)
            with pytest.raises(JournalError) as refused:
                await other.resume(row.run_id)
            assert refused.value.code is CODE.EXEC_JOURNAL_CONFLICT
        assert (await task).text == "at last"

    simulate(main)


def test_a_stream_whose_run_is_cancelled_before_it_begins_ends() -> None:
    async def main(world: World) -> None:
        pipeline = make(world, ["hi"], "chat")

        async def read() -> None:
            async for _ in pipeline.run_stream("go"):
                pass

        reads = asyncio.create_task(read())
        before = asyncio.all_tasks()
        while not (new := asyncio.all_tasks() - before):
            await asyncio.sleep(0)
        for task in new:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reads
        assert (await pipeline.run("go")).text == "hi"

    simulate(main)


# --- a run within a run -------------------------------------------------------------------------


def nested(world: World, journal: MemoryJournal, *, twice: bool) -> Pipeline:
    """A tool of the outer run runs an agent of its own, once or twice at a time."""

    async def delegate(input: ToolInput, context: ToolContext) -> str:
        inner = make(
            context.world,
            [[use("read", "r")], f"inner {input['n']}"],
            "minimal" if input["n"] else "chat",
            tools=[Do("read", steps)],
            journal=journal,
        )
        result = await inner.run("inner task")
        await inner.aclose()
        return result.text or "nothing"

    calls = [use("delegate", f"d{n}", n=n) for n in range(1 + twice)]
    tools = [Do("delegate", delegate, effects=["write"], safe=True)]
    return make(world, [calls, "the answer", "and on"], "chat", tools=tools, journal=journal)


@pytest.mark.parametrize("twice", [False, True], ids=["alone", "two at once"])
@pytest.mark.parametrize("how", ["task", "pipeline"])
def test_cancelling_a_run_ends_the_runs_within_it_first(twice: bool, how: str) -> None:
    for k in count(step=EACH):

        async def main(world: SimulatedWorld, k: int = k) -> bool:
            journal = SlowJournal(world)
            pipeline = nested(world, journal, twice=twice)
            task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
            for _ in range(k):
                await asyncio.sleep(0)
            ended = task.done()
            if how == "task":
                task.cancel()
            else:
                pipeline.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
            for row in await journal.runs():
                assert row.status in ("ok", "cancelled"), row
                facts = [f async for f in journal.read(row.stream) if f.run_id == row.run_id]
                assert kinds(facts).count("run.end") == 1
            result = await pipeline.run("go on", raise_on_error=False)
            check_history(result.messages)
            return ended

        if simulate(main):
            assert k > 20
            return


def test_the_outer_time_limit_holds_for_the_inner_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        async def delegate(input: ToolInput, context: ToolContext) -> str:
            inner = make(world, ScriptedModel(["late"], latency_s=100), "minimal", journal=journal)
            return (await inner.run("inner")).text

        tools = [Do("delegate", delegate)]
        pipeline = make(world, [[use("delegate")], "x"], "chat", tools=tools, journal=journal)
        result = await pipeline.run("go", limits=Limits(timeout_s=7), raise_on_error=False)
        assert result.status == "timeout"
        assert world.monotonic() == 7
        assert sorted(row.status for row in await journal.runs()) == ["cancelled", "timeout"]

    simulate(main)


@pytest.mark.parametrize("bound", [10.0, 2.0, 0.0])
def test_a_shutdown_lets_a_tool_end_that_changes_something(bound: float) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def act(*_: object) -> str:
            await world.sleep(5)
            return "written"

        journal = MemoryJournal(world)
        write, look = Do("write", act, effects=["write"]), Do("look")
        pipeline = make(
            world, [[use("write"), use("look")], "never"], tools=[write, look], journal=journal
        )
        task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        assert pipeline.shut_down(bound)
        assert pipeline.shut_down(bound)
        result = await task
        assert (result.status, result.code) == ("suspended", CODE.EXEC_RUN_SHUTDOWN)
        done = [fact.data["content"] for fact in result.events if fact.type == "tool.result"]
        assert done == (["written"] if bound == 10 else [])
        assert look.calls == []
        assert world.monotonic() == pytest.approx(1 + min(bound, 4))
        assert kinds(result.events)[-1] == "run.suspended"
        resumed = await make(world, ["done"], tools=[write, look], journal=journal).resume(
            result.run_id
        )
        assert resumed.text == "done"
        assert len(write.calls) == 1  # unsafe: not again, whatever became of it
        assert not pipeline.shut_down()

    simulate(main)


def test_a_shutdown_waits_no_longer_than_for_what_changes_something() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def act(*_: object) -> str:
            await world.sleep(5)
            return "written"

        async def read(*_: object) -> str:
            await world.sleep(100)
            return "read"

        write, look = Do("write", act, effects=["write"], safe=True), Do("look", read, safe=True)
        pipeline = make(world, [[use("write"), use("look")], "never"], tools=[write, look])
        task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        assert (len(write.calls), len(look.calls)) == (1, 1), "side by side"
        assert pipeline.shut_down(50)
        result = await task
        done = [fact.data["content"] for fact in result.events if fact.type == "tool.result"]
        assert (result.status, done) == ("suspended", ["written"])
        assert world.monotonic() == pytest.approx(5)

    simulate(main)


@pytest.mark.parametrize("where", ["model", "reading", "retry"])
def test_a_shutdown_cuts_off_what_can_be_done_again(where: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def read(*_: object) -> str:
            await world.sleep(100)
            return "read"

        overloaded = APIError("busy", code=CODE.EXEC_API_RATE_LIMITED, retry_after_s=50)
        first = {"model": "late", "reading": [use("look")], "retry": overloaded}[where]
        model = ScriptedModel([first, "done"], latency_s=100 if where == "model" else 0)
        pipeline = make(world, model, tools=[Do("look", read)])
        task = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        assert pipeline.shut_down(10)
        assert (await task).status == "suspended"
        assert world.monotonic() == pytest.approx(1)

    simulate(main)


def test_a_reason_that_is_none_stops_nothing_half() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["done"], latency_s=5))
        task = asyncio.create_task(pipeline.run("go"))
        await world.sleep(1)
        wrong: Any = "shutdown"
        with pytest.raises(ConfigError, match="reason must be a Reason, not str"):
            pipeline.cancel(wrong)
        assert (await task).text == "done"

    simulate(main)


def test_a_stream_in_a_tool_that_is_stopped_ends_before_the_tool_is_over() -> None:
    async def linger(input: ToolInput, context: ToolContext) -> str:
        try:
            await context.world.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await context.world.sleep(3)
        return "done"

    async def stream(input: ToolInput, context: ToolContext) -> str:
        async with aclosing(inner[0].run_stream("go")) as events:
            async for _ in events:
                pass
        return "done"

    inner: list[Pipeline] = []

    async def main(world: SimulatedWorld) -> None:
        inner.append(make(world, [[use("linger")], "late"], tools=[Do("linger", linger)]))
        outer = make(world, [[use("stream")], "late"], tools=[Do("stream", stream)])
        going = asyncio.ensure_future(outer.run("go", raise_on_error=False))
        await world.sleep(10)
        outer.cancel()
        assert (await going).status == "cancelled"
        assert [row.status for row in await inner[0].journal.runs()] == ["cancelled"]

    simulate(main)
