"""Beginning, refusing, resuming and ending runs: what the façade and the engine promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from lorimer import ConfigError, Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.context import Safety
from lorimer.core.errors import (
    APIError,
    ExecutorErrorCode,
    JournalError,
    PipelineError,
    StageError,
    ToolExecutionError,
)
from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message, TextBlock, Usage, user_message
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.models.pricing import Price
from lorimer.stages import (
    s01_input,
    s02_context,
    s03_system,
    s04_guard,
    s05_cache,
    s06_api,
    s07_token,
    s08_think,
    s09_parse,
    s10_tool,
    s14_evaluate,
    s16_loop,
    s17_emit,
    s20_persist,
    s21_yield,
)
from lorimer.stages.s02_context import ContextStrategy
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from tests.core.support import Do, check_history, kinds, make, only, use
from tests.stages.support import choose

CODE = ExecutorErrorCode


async def hold(journal: MemoryJournal, facts: Sequence[Event], stream: str = "session_1") -> None:
    """Put facts into a journal as a process leaves them that has died."""
    epoch = await journal.claim(stream, "the dead", 0)
    copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in facts]
    await journal.append(stream, epoch, copies, sync=True)
    await journal.release(stream, epoch)


# --- one conversation, one run at a time --------------------------------------------------------


def test_a_conversation_takes_one_run_at_a_time_and_goes_on_after_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["one", "two"], latency_s=5), "chat")
        first = asyncio.create_task(pipeline.run("go"))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already in a run") as busy:
            await pipeline.run("me too")
        assert busy.value.code is CODE.EXEC_RUN_BUSY
        assert (await first).text == "one"
        assert (await pipeline.run("now")).text == "two"

    simulate(main)


def test_runs_of_a_pipeline_without_a_memory_do_not_disturb_each_other() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(lambda request: request.messages[0].text.upper(), latency_s=5)
        pipeline = make(world, model, "minimal")
        results = await asyncio.gather(*[pipeline.run(f"run {n}") for n in range(10)])
        assert [result.text for result in results] == [f"RUN {n}" for n in range(10)]
        assert world.monotonic() == 5
        assert len({result.session_id for result in results}) == 10
        assert len(await pipeline.journal.runs()) == 10

    simulate(main)


def test_a_refused_input_does_not_leave_the_conversation_busy() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["fine"], "chat")
        with pytest.raises(PipelineError):
            await pipeline.run(object())  # type: ignore[arg-type]
        assert (await pipeline.run("go")).text == "fine"

    simulate(main)


def test_a_conversation_that_somebody_else_writes_is_refused_until_he_is_done() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        mine = make(world, ["one", "two"], "chat", journal=journal, session_id="s", owner="me")
        theirs = make(world, ["three"], "chat", journal=journal, session_id="s", owner="you")
        await mine.run("go")
        with pytest.raises(JournalError) as refused:
            await theirs.run("go")
        assert refused.value.code is CODE.EXEC_JOURNAL_CONFLICT
        await mine.aclose()
        result = await theirs.run("on")
        assert [message.text for message in result.messages] == ["go", "one", "on", "three"]
        await theirs.aclose()
        again = await mine.run("and")
        assert [message.text for message in again.messages][-2:] == ["and", "two"]
        assert len(again.messages) == 6

    simulate(main)


def test_a_conversation_lost_to_another_is_read_anew_the_next_time() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        mine = make(world, ["one", "two"], "chat", journal=journal, session_id="s", owner="me")
        await mine.run("go")
        await world.sleep(60)  # the claim has run out
        theirs = make(world, ["theirs"], "chat", journal=journal, session_id="s", owner="you")
        await theirs.run("on")
        await theirs.aclose()
        with pytest.raises(JournalError):
            await mine.run("and")
        result = await mine.run("and")
        texts = [message.text for message in result.messages]
        assert texts == ["go", "one", "on", "theirs", "and", "two"]

    simulate(main)


def test_a_pipeline_keeps_its_conversation_when_it_is_closed_and_used_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, model := ScriptedModel(["one", "two"]), "chat")
        async with pipeline:
            first = await pipeline.run("go")
        second = await pipeline.run("on")
        assert first.session_id == second.session_id
        assert len(model.requests[1].messages) == 3

    simulate(main)


def test_every_pipeline_has_a_conversation_of_its_own_in_a_shared_journal() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["one", "two"])
        results = [
            await make(world, model, "chat", journal=journal).run(f"run {n}") for n in range(2)
        ]
        assert results[0].session_id != results[1].session_id
        assert all(result.session_id.startswith("session_") for result in results)
        assert [len(request.messages) for request in model.requests] == [1, 1]

    simulate(main)


def test_closing_after_the_journal_was_closed_is_harmless() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        pipeline = make(world, ["one"], "chat", journal=journal)
        await pipeline.run("go")
        await journal.close()
        await pipeline.aclose()
        await pipeline.aclose()

    simulate(main)


def test_run_sync_is_run_for_programs_without_a_loop() -> None:
    from lorimer.world.real import RealWorld

    pipeline = make(RealWorld(), ["one", APIError("no", code=CODE.EXEC_API_BAD_REQUEST)], "chat")
    assert pipeline.run_sync("go").text == "one"
    assert pipeline.run_sync("go", raise_on_error=False).code is CODE.EXEC_API_BAD_REQUEST
    with pytest.raises(APIError, match="used up"):
        pipeline.run_sync("go")

    async def inside() -> None:
        with pytest.raises(PipelineError, match="event loop is running"):
            pipeline.run_sync("go")

    asyncio.run(inside())


def test_one_tool_alone_may_be_given_and_shipped_ones_stand_beside_the_hosts(
    tmp_path: Path,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            manifest.tools.built_in = ["Read"]

        for changed, names in ((None, ["look"]), (change, ["look", "Read"])):
            model = ScriptedModel(["hi"])
            pipeline = make(
                world,
                model,
                "chat",
                change=changed,
                tools=Do("look"),  # type: ignore[arg-type]
                workspace=tmp_path,
            )
            await pipeline.run("go")
            assert [tool.name for tool in model.requests[0].tools] == names

    simulate(main)


def test_limits_of_a_run_may_be_given_as_a_mapping_over_those_of_the_manifest() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: Any) -> None:
            manifest.limits = Limits(max_turns=7, max_tool_calls=5)

        pipeline = make(world, ["one", "two"], "chat", change=change)
        result = await pipeline.run("go", limits={"max_turns": 3})
        assert only(result.events, "run.start")["limits"] == {"max_turns": 3, "max_tool_calls": 5}
        assert "limits" not in only((await pipeline.run("go")).events, "run.start")
        with pytest.raises(ConfigError):
            await pipeline.run("go", limits={"max_turnz": 3})

    simulate(main)


# --- resuming: what is refused ------------------------------------------------------------------


def interrupted(world: World, journal: MemoryJournal, **options: Any) -> Pipeline:
    replies = [[use("look")], "the end"]
    return make(world, replies, "chat", tools=[Do("look")], journal=journal, **options)


def test_runs_that_cannot_be_resumed_are_refused_with_a_reason() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = interrupted(world, journal)
        with pytest.raises(PipelineError, match="There is no run 'run_x'") as unknown:
            await pipeline.resume("run_x")
        assert unknown.value.code is CODE.EXEC_RUN_UNKNOWN
        done = await pipeline.run("go")
        with pytest.raises(PipelineError, match=r"has ended \(ok\)") as ended:
            await pipeline.resume(done.run_id)
        assert ended.value.code is CODE.EXEC_RUN_ENDED

    simulate(main)


def test_a_run_is_not_resumed_by_another_manifest() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        other = make(world, ["x"], "agent", tools=[Do("look")], journal=journal)
        with pytest.raises(ConfigError, match="another manifest") as refused:
            await other.resume(whole.run_id)
        assert refused.value.code is CODE.EXEC_JOURNAL_DIVERGED
        again = make(world, ["the end"], "chat", tools=[Do("look")], journal=journal)
        assert (await again.resume(whole.run_id)).text == "the end", "the claim was given back"

    simulate(main)


@pytest.mark.parametrize("preset", ["chat", "minimal"])
def test_one_run_is_not_resumed_twice_at_once(preset: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["the end"] * 3, latency_s=5)
        whole = await make(world, model, preset, journal=MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:2])
        pipeline = make(world, model, preset, journal=journal)
        first = asyncio.create_task(pipeline.resume(whole.run_id))
        second = asyncio.create_task(pipeline.resume(whole.run_id))
        await asyncio.wait([first, second])
        assert (await first).text == "the end"
        error = second.exception()
        assert isinstance(error, PipelineError)
        assert error.code is CODE.EXEC_RUN_BUSY
        facts = [fact async for fact in journal.read("session_1")]
        assert kinds(facts).count("run.end") == 1

    simulate(main)


def test_a_run_is_not_resumed_while_its_conversation_is_in_another() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        pipeline = make(world, ScriptedModel(["x", "y"], latency_s=5), "chat", journal=journal)
        running = asyncio.create_task(pipeline.run("other"))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already running"):
            await pipeline.resume(whole.run_id)
        await running

    simulate(main)


def test_a_conversation_is_busy_while_a_run_of_it_is_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        model = ScriptedModel(["the end", "more"], latency_s=5)
        pipeline = make(world, model, "chat", tools=[Do("look")], journal=journal)
        resuming = asyncio.create_task(pipeline.resume(whole.run_id))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already in a run"):
            await pipeline.run("me too")
        assert (await resuming).text == "the end"
        assert (await pipeline.run("now")).text == "more"

    simulate(main)


def test_a_resume_that_was_refused_can_be_tried_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        epoch = await journal.claim("session_1", "somebody else", 60)
        pipeline = make(world, ["the end", "more"], "chat", tools=[Do("look")], journal=journal)
        with pytest.raises(JournalError):
            await pipeline.resume(whole.run_id)
        await journal.release("session_1", epoch)
        assert (await pipeline.resume(whole.run_id)).text == "the end"
        assert (await pipeline.run("now")).text == "more"

    simulate(main)


def test_the_manifest_of_a_run_is_kept_under_the_hash_that_its_start_names() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = interrupted(world, journal)
        result = await pipeline.run("go")
        body = await journal.get(str(result.events[0].data["manifest"]))
        assert body is not None
        manifest = EnvironmentManifest.from_dict(json.loads(body))
        assert manifest == pipeline.manifest
        assert manifest.digest == pipeline.plan.digest

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
            journal = MemoryJournal(world)
            await hold(journal, whole.events[:cut])
            again = build(journal, [*busy[cut // 2 :], "done"])
            result = await again.resume(whole.run_id)
            told = [later.time - fact.time for fact, later in pairwise(result.events)]
            assert told[cut:] == pytest.approx(waits[cut:])
            assert len(set(waits)) > 3

    simulate(main)


def test_a_resumed_run_can_be_named_by_the_beginning_of_its_id() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        pipeline = make(world, ["the end"], "chat", tools=[Do("look")], journal=journal)
        assert (await pipeline.resume(whole.run_id[:8])).run_id == whole.run_id

    simulate(main)


def test_a_run_that_was_given_up_cannot_be_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        later = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, [*whole.events[:3], *later.events])
        pipeline = interrupted(world, journal)
        with pytest.raises(PipelineError, match="given up") as refused:
            await pipeline.resume(whole.run_id)
        assert refused.value.code is CODE.EXEC_RUN_ENDED

    simulate(main)


def test_a_reply_that_a_newer_version_recorded_suspends_the_run_and_loses_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        reply = whole.events[2]
        future = {**reply.data, "content": [{"type": "hologram", "data": "x"}]}
        kept = [*whole.events[:2], Event(reply.type, future, reply.run_id, 0, reply.time)]
        await hold(journal, kept)
        pipeline = interrupted(world, journal)
        with pytest.raises(JournalError, match="'hologram'") as refused:
            await pipeline.resume(whole.run_id)
        assert refused.value.code is CODE.EXEC_JOURNAL_VERSION
        assert refused.value.result is not None
        assert refused.value.result.status == "suspended"
        assert [fact async for fact in journal.read("session_1")][3:] == []

    simulate(main)


def test_after_a_resume_the_pipeline_is_in_that_conversation() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        await hold(journal, whole.events[:3])
        pipeline = make(
            world,
            model := ScriptedModel(["the end", "more"]),
            "chat",
            tools=[Do("look")],
            journal=journal,
        )
        await pipeline.resume(whole.run_id)
        await pipeline.run("and")
        assert [m.text for m in model.requests[-1].messages] == ["go", "", "", "the end", "and"]

    simulate(main)


# --- resuming: honest to the last fact ----------------------------------------------------------


def priced(world: World, journal: MemoryJournal, replies: Sequence[Any]) -> Pipeline:
    model = ScriptedModel(replies, usage=Usage(100, 10), price=Price(1, 1))
    return make(world, model, "chat", tools=[Do("look")], journal=journal)


REPLIES = [[use("look", f"c{n}")] for n in range(5)]


def test_a_run_cancelled_while_it_answers_from_its_journal_tells_all_that_it_cost() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await priced(world, MemoryJournal(world), [*REPLIES, "done"]).run("go")
        cut = len(whole.events) - 4  # five turns are recorded
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:cut])
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
        journal = MemoryJournal(world)
        await hold(journal, kept)
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
        journal = MemoryJournal(world)
        limits = Limits(timeout_s=60)
        whole = await priced(world, MemoryJournal(world), [*REPLIES, "done"]).run(
            "go", limits=limits
        )
        kept = whole.events[: len(whole.events) - 4]
        last = kept[-1]
        late = Event(last.type, last.data, last.run_id, last.iteration, kept[0].time + 59.99)
        await hold(journal, [*kept[:-1], late])
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
        assert (stopped.status, stopped.usage) == ("suspended", Usage(100, 0))
        result = await pipeline.resume(stopped.run_id)
        assert (result.text, result.usage) == ("done", Usage(200, 10))
        assert result.cost_nano == 210_000
        assert (await journal.balance(result.run_id)).spent == 210_000

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


def test_a_retry_that_is_recorded_is_made_again_however_late_it_is() -> None:
    async def main(world: SimulatedWorld) -> None:
        busy = APIError("busy", code=CODE.EXEC_API_SERVER_ERROR)
        limits = Limits(timeout_s=10)
        first = make(world, [busy, [use("look")], "x"], "chat", tools=[Do("look")])
        whole = await first.run("go", limits=limits)
        kept = [fact for fact in whole.events if fact.iteration == 0]
        for number, fact in enumerate(kept[1:], 1):  # as if it had been interrupted for long
            fact.time = kept[0].time + 9.5 + number * 0.01
        journal = MemoryJournal(world)
        await hold(journal, kept)
        pipeline = make(world, ["the end"], "chat", tools=[Do("look")], journal=journal)
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.text == "the end"
        assert kinds(result.events).count("model.intent") == 3

    simulate(main)


def test_facts_that_nobody_asks_for_any_more_do_no_harm_and_were_spent_all_the_same() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await priced(world, MemoryJournal(world), [*REPLIES[:1], "done"]).run("go")
        journal = MemoryJournal(world)
        stray = Event("effect", {"key": "x:y", "hash": "z", "cost": 7}, whole.run_id, 0)
        kept = [fact for fact in whole.events if fact.iteration == 0 and fact.type != "run.end"]
        stray.time = kept[-1].time
        await hold(journal, [*kept[:-1], stray])  # without its iteration.end
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
        journal = MemoryJournal(world)
        await hold(journal, [whole.events[0], whole.events[2]])
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
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:3])
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
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:4])
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
            journal = MemoryJournal(world)
            await hold(journal, whole.events[:cut])
            [tool] = given = tools()
            pipeline = make(world, ["done"], "chat", tools=given, journal=journal)
            result = await pipeline.resume(whole.run_id)
            assert len(tool.calls) == idempotent
            [step] = result.steps
            assert step.is_error is not idempotent
            assert ("not known" in str(step.content)) is not idempotent

    simulate(main)


# --- effects of the host's ----------------------------------------------------------------------


class Weather(Stage[object, object]):
    """Asks the outside, as a stage of the host's does: through `effect`."""

    name = "weather"
    order = 3

    def __init__(self, safety: Safety = Safety.READ_ONLY, *, fails: bool = False) -> None:
        self.safety = safety
        self.fails = fails
        self.asked = 0
        self.got: list[JSON] = []

    async def execute(self, input: object, state: PipelineState) -> object:
        async def ask() -> dict[str, JSON]:
            self.asked += 1
            if self.fails:
                raise ToolExecutionError("no sky", code=CODE.EXEC_TOOL_TRANSPORT)
            return {"celsius": 20 + self.asked}

        answer = await state.run.effect("weather", "here", ask, request=b"here", safety=self.safety)
        self.got.append(answer["celsius"])
        await state.run.room()  # nobody reads a stream: no wait
        return input


@pytest.mark.parametrize("safety", Safety)
def test_a_recorded_effect_is_not_made_again(safety: Safety) -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, [[use("look")], "done"], "chat", tools=[Do("look")])
        first.register_stage(Weather(safety))
        whole = await first.run("go")
        effects = [fact for fact in whole.events if fact.type.startswith("effect")]
        assert (
            kinds(effects) == ["effect"]
            if safety is Safety.READ_ONLY
            else [
                "effect.intent",
                "effect",
            ]
        )
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:4])
        pipeline = make(world, [[use("look")], "done"], "chat", tools=[Do("look")], journal=journal)
        stage = Weather(safety)
        pipeline.register_stage(stage)
        await pipeline.resume(whole.run_id)
        assert (stage.asked, stage.got) == (0, [21])

    simulate(main)


def test_a_failed_effect_fails_the_same_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["never"], "chat")
        first.register_stage(Weather(fails=True))
        whole = await first.run("go", raise_on_error=False)
        assert whole.code is CODE.EXEC_TOOL_TRANSPORT
        assert only(whole.events, "effect")["error"] == {
            "code": "exec.tool.transport",
            "message": "no sky",
        }
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:-1])
        pipeline = make(world, ["never"], "chat", journal=journal)
        stage = Weather()
        pipeline.register_stage(stage)
        again = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert (again.code, again.error, stage.asked) == (whole.code, whole.error, 0)

    simulate(main)


def test_an_unsafe_effect_of_a_stage_that_was_begun_before_a_crash_ends_the_run_unknown() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["done"], "chat")
        first.register_stage(Weather(Safety.UNSAFE))
        whole = await first.run("go")
        journal = MemoryJournal(world)
        await hold(journal, whole.events[:2])
        pipeline = make(world, ["done"], "chat", journal=journal)
        stage = Weather(Safety.UNSAFE)
        pipeline.register_stage(stage)
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.code is CODE.EXEC_TOOL_OUTCOME_UNKNOWN
        assert stage.asked == 0

    simulate(main)


# --- stages of the host's that do odd things ----------------------------------------------------


def run_with(stage: Stage[object, object], replies: Sequence[Any] = ("hi",)) -> PipelineResult:
    async def main(world: SimulatedWorld) -> PipelineResult:
        pipeline = make(world, list(replies), "chat", tools=[Do("look")])
        pipeline.register_stage(stage)
        result = await pipeline.run("go", raise_on_error=False)
        assert kinds(result.events)[-1] == "run.end"
        return result

    return simulate(main)


@pytest.mark.parametrize("place", [12, 16], ids=["before stage 16", "after it"])
def test_a_decision_that_is_none_ends_the_run_in_a_coded_error(place: int) -> None:
    class Odd(Stage[object, object]):
        name = "odd"
        order = place

        async def execute(self, input: object, state: PipelineState) -> object:
            state.decision = "enough"  # type: ignore[assignment]
            return input

    result = run_with(Odd())
    assert (result.status, result.code) == ("error", CODE.EXEC_STAGE_FAILED)
    assert isinstance(result.exception, StageError)
    assert isinstance(result.exception.__cause__, AttributeError)


def test_a_cancellation_that_nobody_asked_for_is_an_error_of_the_stage() -> None:
    class Lost(Stage[object, object]):
        name = "lost"
        order = 12

        async def execute(self, input: object, state: PipelineState) -> object:
            other = asyncio.ensure_future(asyncio.sleep(10))
            other.cancel()
            await other
            return input

    result = run_with(Lost())
    assert (result.status, result.code) == ("error", CODE.EXEC_STAGE_FAILED)
    assert "CancelledError" in result.error
    assert result.text == "hi"


def test_a_message_between_a_call_and_its_result_is_refused() -> None:
    class Between(Stage[object, object]):
        name = "between"
        order = 8

        async def execute(self, input: object, state: PipelineState) -> object:
            state.messages.append(user_message("by the way"))
            return input

    result = run_with(Between(), [[use("look")], "never"])
    assert result.code is CODE.EXEC_STAGE_FAILED
    assert "before the next model call" in result.error
    check_history(result.messages)


def test_a_stage_may_look_at_what_was_used_so_far() -> None:
    seen: list[tuple[int, float, Usage]] = []

    class Look(Stage[object, object]):
        name = "peek"
        order = 17

        async def execute(self, input: object, state: PipelineState) -> object:
            seen.append((state.cost_nano, state.cost_usd, state.usage))
            return input

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["hi"], usage=Usage(100, 10), price=Price(1, 1))
        pipeline = make(world, model, "agent")
        pipeline.register_stage(Look())
        await pipeline.run("go")

    simulate(main)
    assert seen == [(110_000, 0.00011, Usage(100, 10))]


def test_a_hosts_own_stage_6_need_not_ask_a_model() -> None:
    class Oracle(Stage[object, object]):
        name = "api"
        order = 6

        async def execute(self, input: object, state: PipelineState) -> object:
            state.text = "forty-two"
            return input

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["never"])
        pipeline = make(world, model, "agent")
        pipeline.register_stage(Oracle())
        result = await pipeline.run("go")
        assert (result.text, result.status, model.calls) == ("forty-two", "ok", 0)
        assert result.messages == []
        assert only(result.events, "iteration.end")["reason"] == "no_response"

    simulate(main)


def test_a_stage_may_leave_bypassing_to_its_base() -> None:
    ran: list[str] = []

    class Mine(Stage[object, object]):
        name = "mine"
        order = 12

        def should_bypass(self, state: PipelineState) -> bool:
            return super().should_bypass(state)

        async def execute(self, input: object, state: PipelineState) -> object:
            ran.append(self.name)
            return input

    assert run_with(Mine()).status == "ok"
    assert ran == ["mine"]


def test_a_stage_without_execute_is_told_by_name() -> None:
    class Empty(Stage[object, object]):
        name = "empty"
        order = 12

    assert "Empty has no execute method" in run_with(Empty()).error


STRATEGIES: list[tuple[str, str, type[Any], Any]] = [
    ("input", "validator", s01_input.Validator, "hi"),
    ("input", "normalizer", s01_input.Normalizer, "hi"),
    ("context", "strategy", s02_context.ContextStrategy, "hi"),
    ("system", "builder", s03_system.PromptBuilder, "hi"),
    ("guard", "guards", s04_guard.Guard, "hi"),
    ("cache", "strategy", s05_cache.CacheStrategy, "hi"),
    ("api", "retry", s06_api.Retry, APIError("x", code=CODE.EXEC_API_NETWORK)),
    ("token", "calculator", s07_token.Calculator, "hi"),
    ("token", "tracker", s07_token.Tracker, "hi"),
    ("think", "processor", s08_think.ThinkProcessor, "thought"),
    ("parse", "parser", s09_parse.Parser, "hi"),
    ("tool", "executor", s10_tool.ToolExecutor, [use("look", "a"), use("look", "b")]),
    ("evaluate", "strategy", s14_evaluate.Evaluation, "hi"),
    ("loop", "controller", s16_loop.LoopController, "hi"),
    ("emit", "emitters", s17_emit.Emitter, "hi"),
    ("persist", "cadence", s20_persist.Cadence, "hi"),
    ("yield", "formatter", s21_yield.Formatter, "hi"),
]


@pytest.mark.parametrize(("stage", "slot", "base", "reply"), STRATEGIES)
def test_a_strategy_without_its_method_is_told_by_name(
    stage: str, slot: str, base: type[Any], reply: Any
) -> None:
    from lorimer.core.messages import ThinkingBlock
    from lorimer.stages import catalogue

    class Mine(base):  # type: ignore[misc]
        name = "mine"

    async def main(world: SimulatedWorld) -> None:
        known = catalogue()
        known.add_strategy(stage, slot, "mine", Mine)
        chain = slot in ("guards", "emitters")
        replies = [[ThinkingBlock("hm"), TextBlock("hi")]] if reply == "thought" else [reply]
        change = choose(stage, slot, ["mine"] if chain else "mine")
        if slot == "emitters":
            change = choose(stage, slot, ["mine"], mine={"target": "t"})
        pipeline = make(
            world,
            ScriptedModel(replies, price=Price(1, 1)),
            change=change,
            tools=[Do("look")],
            catalogue=known,
            bindings={"t": print},
            journal=SQLiteJournal(":memory:", world=world, threads=False),
        )
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_STAGE_FAILED
        assert "Mine has no " in result.error
        assert only(result.events, "run.end")["code"] == "exec.stage.failed"

    simulate(main)


# --- stores that fail ---------------------------------------------------------------------------


class Failing(MemoryJournal):
    """Refuses to write facts of one kind, until it is mended."""

    kind = ""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        if any(fact.type == self.kind for fact in facts):
            raise JournalError("the disk is full")
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


@pytest.mark.parametrize(
    "kind", ["run.start", "model.intent", "model.reply", "tool.intent", "tool.result", "run.end"]
)
def test_a_store_that_fails_ends_the_run_and_it_can_be_resumed_when_it_is_mended(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Failing(world)
        journal.kind = kind
        write = Do("write", effects=["write"])
        lost = [[use("write")]] * (kind == "model.reply")
        model = ScriptedModel([*lost, [use("write")], "done", "more"])
        pipeline = make(world, model, "chat", tools=[write], journal=journal)
        with pytest.raises(JournalError, match="the disk is full") as failed:
            await pipeline.run("go")
        assert failed.value.code is CODE.EXEC_JOURNAL_FAILED
        assert failed.value.result is not None
        assert failed.value.result.status == "error"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        journal.kind = ""
        rows = await journal.runs()
        assert len(rows) == (kind != "run.start")
        if rows:
            assert rows[0].status == ""
            result = await pipeline.resume(rows[0].run_id)
            assert result.status == "ok"
            facts = [fact async for fact in journal.read(rows[0].stream)]
            assert kinds(facts).count("run.end") == 1
            assert result.events == facts
            assert len(write.calls) == 1
        result = await pipeline.run("and")
        check_history(result.messages)

    simulate(main)


def test_a_store_that_fails_under_calls_made_at_once_is_the_runs_error() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def slow(input: ToolInput, context: ToolContext) -> str:
            await context.world.sleep(input["s"])
            return "done"

        journal = Failing(world)
        journal.kind = "tool.result"
        calls = [use("look", "a", s=1), use("look", "b", s=1), use("look", "c", s=9)]
        tools = [Do("look", slow, safe=True)]
        pipeline = make(world, [calls, "done"], "chat", tools=tools, journal=journal)
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_JOURNAL_FAILED
        assert world.monotonic() == 1
        journal.kind = ""
        [row] = await journal.runs()
        assert (await pipeline.resume(row.run_id)).text == "done"

    simulate(main)


def test_a_run_fenced_off_gets_no_last_word() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["never"], latency_s=5), "chat")
        asyncio.get_running_loop().call_later(1, pipeline.cancel, Reason.FENCED)
        with pytest.raises(JournalError, match="taken this run over") as fenced:
            await pipeline.run("go")
        assert fenced.value.code is CODE.EXEC_JOURNAL_CONFLICT
        assert fenced.value.result is not None
        assert fenced.value.result.status == "suspended"
        assert kinds(fenced.value.result.events) == ["run.start", "model.intent"]

    simulate(main)


class Unwritten(MemoryJournal):
    """Waits before it writes; what is cancelled meanwhile was not written."""

    at = ""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        if any(fact.type == self.at for fact in facts):
            self.at = ""
            await asyncio.sleep(10)
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


@pytest.mark.parametrize("at", ["run.start", "model.intent", "model.reply", "tool.result"])
def test_a_fact_that_was_not_written_did_not_happen(at: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = at
        model = ScriptedModel([[use("look")], "done", "more", "more"])
        pipeline = make(world, model, "chat", tools=[Do("look")], journal=journal)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await pipeline.run("go")
        rows = await journal.runs()
        assert [row.status for row in rows] == ([] if at == "run.start" else ["cancelled"])
        for row in rows:
            facts = [fact async for fact in journal.read(row.stream)]
            assert at not in kinds(facts)
            assert kinds(facts).count("run.end") == 1
        result = await pipeline.run("on")
        check_history(result.messages)

    simulate(main)


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel([[TextBlock("\udc80"), use("look", x="\ud800")], "done \ud800"])
        tools = [Do("look", lambda *_: "seen \udfff")]
        pipeline = make(world, model, "chat", journal=journal, tools=tools)
        result = await pipeline.run("half \ud83d")
        assert result.status == "ok"
        assert result.text == "done \ud800"
        check_history(result.messages)
        await journal.close()

    simulate(main)
