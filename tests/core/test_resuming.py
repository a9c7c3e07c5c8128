"""Which interrupted runs are taken up again, and which are refused, with the reason."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from lorimer import ConfigError, Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.recording import used_s
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.testing.simulation import simulate_in
from tests.core.support import Do, held, kinds, make, use

CODE = ExecutorErrorCode


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
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
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
        model = ScriptedModel(["the end"] * 3, latency_s=5)
        whole = await make(world, model, preset, journal=MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:2])
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
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
        pipeline = make(world, ScriptedModel(["x", "y"], latency_s=5), "chat", journal=journal)
        running = asyncio.create_task(pipeline.run("other"))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already in a run"):
            await pipeline.resume(whole.run_id)
        await running

    simulate(main)


def test_a_conversation_is_busy_while_a_run_of_it_is_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
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
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
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


def test_a_resumed_run_can_be_named_by_the_beginning_of_its_id() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
        pipeline = make(world, ["the end"], "chat", tools=[Do("look")], journal=journal)
        assert (await pipeline.resume(whole.run_id[:8])).run_id == whole.run_id

    simulate(main)


def test_a_run_that_was_given_up_cannot_be_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        later = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, [*whole.events[:3], *later.events])
        pipeline = interrupted(world, journal)
        with pytest.raises(PipelineError, match="given up") as refused:
            await pipeline.resume(whole.run_id)
        assert refused.value.code is CODE.EXEC_RUN_ENDED

    simulate(main)


class Overtaken(MemoryJournal):
    """Somebody else does something right before a claim."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().claim(stream, owner, ttl)


def test_a_run_that_somebody_else_has_just_ended_is_said_to_have_ended() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Overtaken(world)
        cut = make(world, ScriptedModel(["never"], latency_s=5), "chat", journal=journal)
        asyncio.get_running_loop().call_later(1, cut.cancel, Reason.SHUTDOWN)
        run_id = (await cut.run("go", raise_on_error=False)).run_id
        await cut.aclose()

        async def quicker() -> None:
            async with make(world, ["mine"], "chat", journal=journal) as other:
                await other.resume(run_id)

        journal.meanwhile = quicker
        with pytest.raises(PipelineError, match=r"has ended \(ok\)") as late:
            await make(world, ["late"], "chat", journal=journal).resume(run_id)
        assert late.value.code is CODE.EXEC_RUN_ENDED

    simulate(main)


def test_a_reply_that_a_newer_version_recorded_suspends_the_run_and_loses_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        reply = whole.events[2]
        future = {**reply.data, "content": [{"type": "hologram", "data": "x"}]}
        kept = [*whole.events[:2], Event(reply.type, future, reply.run_id, 0, reply.time)]
        journal = await held(world, kept)
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
        whole = await interrupted(world, MemoryJournal(world)).run("go")
        journal = await held(world, whole.events[:3])
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


def _instructions(turns: int) -> int:
    """How many instructions of Python the resume of a run of so many turns takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        frame.f_trace_opcodes = "/lorimer/" in frame.f_code.co_filename
        return trace if frame.f_trace_opcodes else None

    async def main(world: SimulatedWorld) -> None:
        replies = [*[[use("look", f"call_{turn}")] for turn in range(turns)], "the end"]
        whole = await make(world, replies, tools=[Do("look")]).run("go")
        look = Do("look")
        journal = await held(world, whole.events[:-1], whole.session_id)
        again = make(world, replies, tools=[look], journal=journal)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = await again.resume(whole.run_id)
        finally:
            sys.settrace(before)
        assert (result.text, look.calls) == ("the end", [])

    simulate(main)
    return count


def test_a_turn_that_is_answered_again_costs_the_same_however_long_the_run_is() -> None:
    few, more, many = [_instructions(turns) for turns in (5, 25, 45)]
    assert many - more < 1.02 * (more - few)


def test_what_a_stage_has_waited_for_is_not_waited_for_again() -> None:
    class Slow(Stage[object, object]):
        name = "slow"
        order = 12

        async def execute(self, input: object, state: PipelineState) -> object:
            await state.run.sleep(60)
            return input

    async def main(world: SimulatedWorld) -> None:
        replies = [[use("look")], [use("look", "b")], "so"]
        whole = await _slow(world, MemoryJournal(world), replies, Slow()).run("go")
        assert world.monotonic() == 180
        cut = [fact.type for fact in whole.events].index("iteration.end") + 1
        journal = await held(world, whole.events[:cut])
        result = await _slow(world, journal, replies[1:], Slow()).resume(whole.run_id)
        assert result.text == "so"
        assert world.monotonic() == 300

    simulate(main)


def _slow(
    world: SimulatedWorld, journal: MemoryJournal, replies: list[Any], stage: Stage[Any, Any]
) -> Pipeline:
    pipeline = make(world, replies, tools=[Do("look")], journal=journal)
    pipeline.register_stage(stage)
    return pipeline


class Adjusted(SimulatedWorld):
    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


@pytest.mark.parametrize("ahead_s", [86_400, -86_400])
def test_a_clock_that_was_set_uses_up_no_time_of_a_run_that_is_killed_later(ahead_s: int) -> None:
    async def main(world: SimulatedWorld) -> None:
        assert isinstance(world, Adjusted)

        async def look(*_: object) -> str:
            await world.sleep(5)
            world.ahead_s = ahead_s
            await world.sleep(2)
            return "seen"

        tools, limits = [Do("look", look)], {"timeout_s": 60}
        replies = [[use("look")], [use("look", "b")], "done"]
        whole = await make(world, replies, tools=tools).run("go", limits=limits)
        cut = [fact.type for fact in whole.events].index("iteration.end") + 2
        world.ahead_s = 0.0
        journal = await held(world, whole.events[:cut])
        done = await make(world, replies[1:], tools=tools, journal=journal).resume(whole.run_id)
        assert (done.text, round(used_s(whole.events[:cut]))) == ("done", 7)

    simulate_in(Adjusted(0), main)


def test_a_clock_that_was_set_forward_uses_up_no_time_of_a_suspended_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        assert isinstance(world, Adjusted)
        journal = MemoryJournal(world)
        model = ScriptedModel(["never"], latency_s=5)
        limits = {"timeout_s": 60}

        def adjust() -> None:
            world.ahead_s = 86_400

        async with make(world, model, "chat", journal=journal) as cut:
            loop = asyncio.get_running_loop()
            loop.call_later(1, adjust)
            loop.call_later(2, cut.cancel, Reason.SHUTDOWN)
            run_id = (await cut.run("go", limits=limits, raise_on_error=False)).run_id
        async with make(world, ["done"], "chat", journal=journal) as later:
            done = await later.resume(run_id)
        assert (done.text, round(used_s(done.events))) == ("done", 2)

    simulate_in(Adjusted(0), main)
