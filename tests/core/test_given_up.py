"""What is left of interrupted runs: unknown outcomes, claims, time, the runs themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lorimer import Limits, Pipeline, PipelineError, PipelinePresets
from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.journal import Journal
from lorimer.core.messages import ImageBlock, Message, ToolResultBlock, ToolUse
from lorimer.core.request import Request, Response, StopReason
from lorimer.core.stage import Strategy
from lorimer.journal.conversation import CLAIM_S
from lorimer.journal.memory import MemoryJournal
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.journal.verify import verify
from lorimer.models.registry import Models
from lorimer.testing import (
    ScriptedModel,
    SimulatedCrash,
    SimulatedWorld,
    simulate,
    simulate_in,
)
from lorimer.tools import Tool, ToolContext, ToolResult
from tests.core.support import Watched, check_history


class Send(Tool):
    """Sends at once, and then takes its time to say so."""

    name = "send"
    description = "sends"
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"send"})

    def __init__(self, seconds: float = 1000) -> None:
        self.seconds = seconds
        self.sent = 0

    async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
        self.sent += 1
        await context.world.sleep(self.seconds)
        return ToolResult("sent")


def _chat(
    world: SimulatedWorld,
    journal: Journal,
    model: ScriptedModel,
    tools: Sequence[Tool] = (),
    *,
    session: str = "",
    owner: str = "",
    claim_s: float = CLAIM_S,
) -> Pipeline:
    return PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": model}),
        tools=tools,
        journal=journal,
        world=world,
        session_id=session,
        owner=owner,
        claim_s=claim_s,
    )


def test_a_call_that_was_begun_when_the_run_ended_is_not_said_to_be_not_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, send = MemoryJournal(world), Send()
        calls = [ToolUse("a", "send", {}), ToolUse("b", "send", {})]
        model = ScriptedModel([calls, "I will look"])
        chat = _chat(world, journal, model, [send])
        result = await chat.run("go", limits=Limits(timeout_s=5), raise_on_error=False)
        assert (result.status, send.sent) == ("timeout", 1)
        result = await chat.run("and?")
        told = result.messages[2].content
        assert [isinstance(block, ToolResultBlock) for block in told] == [True, True]
        first, second = (str(block.content) for block in told if isinstance(block, ToolResultBlock))
        assert "exec.tool.outcome_unknown" in first
        assert "Not run" in second
        stored = _chat(world, journal, ScriptedModel(["later"]), session=result.session_id)
        await chat.aclose()
        later = await stored.run("later")
        assert later.messages[: len(result.messages)] == result.messages

    simulate(main)


def test_a_long_run_keeps_its_claim_against_a_bystander() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        send = Send(seconds=CLAIM_S * 5)
        model = ScriptedModel([[ToolUse("a", "send", {})], "done"])
        mine = _chat(world, journal, model, [send], session="s", owner="me")
        other = _chat(world, journal, ScriptedModel(["mine now"]), session="s", owner="other")
        run = asyncio.get_running_loop().create_task(mine.run("go"))
        for _ in range(4):
            await world.sleep(CLAIM_S)
            with pytest.raises(Exception, match="is being written by"):
                await other.run("let me in")
        result = await run
        assert (result.text, send.sent) == ("done", 1)
        await mine.aclose()
        await journal.close()

    simulate(main)


@pytest.mark.parametrize("crash_s", [0.5, 60])
def test_the_length_of_a_claim_is_chosen(crash_s: float) -> None:
    """Long enough for the calls of a live run, however long; soon over once its process is dead."""
    world = SimulatedWorld(seed=1)

    class Durable(MemoryJournal):
        durable = True  # so its claims are prolonged

    journal = Durable(world)

    def mine(world: SimulatedWorld, owner: str) -> Pipeline:
        def reply(request: Request) -> str | list[ToolUse]:
            return [ToolUse("a", "send", {})] if len(request.messages) == 1 else "done"

        tools = [Send(seconds=100)]
        return _chat(
            world, journal, ScriptedModel(reply), tools, session="s", owner=owner, claim_s=3
        )

    async def killed(world: SimulatedWorld) -> None:
        run = asyncio.get_running_loop().create_task(mine(world, "me").run("go"))
        for _ in range(10):
            await world.sleep(5)
            with pytest.raises(JournalError, match="is being written by 'me'"):
                await mine(world, "other").run("let me in")
        await run

    async def resumed(world: SimulatedWorld) -> None:
        (row,) = await journal.runs()
        with pytest.raises(JournalError, match="is being written by 'me'"):
            await mine(world, "other").resume(row.run_id)
        await world.sleep(3)
        assert (await mine(world, "other").resume(row.run_id)).status == "ok"

    with pytest.raises(SimulatedCrash):
        simulate_in(world, killed, crash_at_s=crash_s)
    simulate_in(world, resumed)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("at", ["model.intent", "tool.intent", "model.reply"])
def test_an_owner_that_wakes_up_begins_nothing_that_is_not_its_own_any_more(
    at: str, taken: bool
) -> None:
    """It was frozen right after a fact was written, for longer than its claim holds."""

    class Freezing(MemoryJournal):
        durable = True

        async def append(self, stream: str, epoch: int, facts: Sequence[Event], **how: Any) -> int:
            last = await super().append(stream, epoch, facts, **how)
            if facts[-1].type == at and not self.frozen:
                self.frozen = True
                world.clock.advance(10)
                if taken:
                    assert await self.claim(stream, "other", 3600) > epoch
            return last

        frozen = False

    async def main(world: SimulatedWorld) -> None:
        journal = Freezing(world)
        send = Send(seconds=0)
        model = ScriptedModel([[ToolUse("a", "send", {})], "done"])
        chat = _chat(world, journal, model, [send], owner="me", claim_s=3)
        result = await chat.run("go", raise_on_error=False)
        if taken:
            assert (result.status, str(result.code)) == ("suspended", "exec.journal.conflict")
            assert (model.calls, send.sent) == (at != "model.intent", 0)
        else:
            assert (result.status, model.calls, send.sent) == ("ok", 2, 1)

    world = SimulatedWorld()
    simulate_in(world, main)


@pytest.mark.parametrize("claim_s", [0, -1, float("inf"), float("nan"), "30"])
def test_a_claim_has_a_length(claim_s: float) -> None:
    with pytest.raises(ConfigError, match="claim_s must be more than 0 s, and finite"):
        PipelinePresets.chat(claim_s=claim_s)


def test_a_run_whose_claim_is_lost_stops() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        model = ScriptedModel([[ToolUse("a", "send", {})], "done"])
        mine = _chat(world, journal, model, [Send()], session="s", owner="me")
        run = asyncio.get_running_loop().create_task(mine.run("go", raise_on_error=False))
        await world.sleep(1)
        epoch = await journal.claim("s", "me", 0.0)  # as if it had run out unnoticed
        await world.sleep(0.1)
        assert await journal.claim("s", "other", 3600) > epoch
        began = world.monotonic()
        result = await run
        assert world.monotonic() - began < CLAIM_S
        assert (result.status, str(result.code)) == ("suspended", "exec.journal.conflict")
        await journal.close()

    simulate(main)


def test_the_time_between_interruptions_is_not_the_runs() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        script = [[ToolUse(str(n), "send", {})] for n in range(4)]
        tools = [Send(seconds=20)]
        run_id = ""
        for done in range(3):
            model = ScriptedModel([*script[done:], "done"])
            agent = _chat(world, journal, model, tools, session="s", owner="me")
            limits = {"timeout_s": 100}
            work = agent.resume(run_id) if run_id else agent.run("go", limits=limits)
            task = asyncio.get_running_loop().create_task(work)
            await world.sleep(25)
            agent.cancel(Reason.SHUTDOWN)
            with pytest.raises(Exception, match="shut down"):
                await task
            (row,) = await journal.runs()
            run_id = row.run_id
            await world.sleep(86_400)
        agent = _chat(
            world, journal, ScriptedModel([*script[3:], "done"]), tools, session="s", owner="me"
        )
        assert (await agent.resume(run_id)).status == "ok"

    simulate(main)


def test_a_run_that_nobody_can_resume_is_given_up_and_its_conversation_goes_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel([[ToolUse("a", "send", {})], "never"])
        before = _chat(world, journal, model, [Send()], session="s", owner="me")
        task = asyncio.get_running_loop().create_task(before.run("go"))
        await world.sleep(1)
        before.cancel(Reason.SHUTDOWN)
        with pytest.raises(Exception, match="shut down"):
            await task
        after = _chat(world, journal, ScriptedModel(["hello again"]), session="s", owner="me")
        with pytest.raises(PipelineError, match="unfinished run") as refused:
            await after.run("hello")
        (row,) = await journal.runs()
        assert f"abandon({row.run_id!r})" in refused.value.hint
        await after.abandon(row.run_id)
        assert (await journal.runs())[0].status == "cancelled"
        assert await verify(journal, row.run_id) == [], "it tells all that it used"
        result = await after.run("hello")
        assert result.text == "hello again"
        assert "outcome_unknown" in str(result.messages[2].content)
        with pytest.raises(PipelineError, match="has ended"):
            await after.abandon(row.run_id)

    simulate(main)


def test_the_end_of_a_run_that_is_given_up_is_synced_and_says_how_far_it_had_come() -> None:
    synced: list[bool] = []

    def note(stream: str, facts: Sequence[Event], sync: bool) -> None:
        synced.extend([sync for fact in facts if fact.type == "run.end"])

    async def main(world: SimulatedWorld) -> None:
        journal = Watched(note, world)
        model = ScriptedModel([[ToolUse(name, "send", {})] for name in "abc"])
        pipeline = _chat(world, journal, model, [Send(1)], session="s")
        task = asyncio.get_running_loop().create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(2.5)
        pipeline.cancel(Reason.SHUTDOWN)
        left = await task
        await pipeline.abandon(left.run_id)
        facts = [fact async for fact in journal.read("s")]
        assert facts[-1].type == "run.end"
        assert facts[-1].iteration == facts[-2].iteration > 1
        assert (await pipeline.result(left.run_id)).iterations == 3
        assert synced == [True]

    simulate(main)


def test_a_run_that_is_being_given_up_is_not_resumed_meanwhile() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, send = MemoryJournal(world), Send(1)
        dead = _chat(world, journal, ScriptedModel(["never"], latency_s=9), session="s", owner="x")
        left = asyncio.get_running_loop().create_task(dead.run("go"))
        await world.sleep(1)
        dead.cancel(Reason.SHUTDOWN)
        with pytest.raises(Exception, match="shut down"):
            await left
        await dead.aclose()
        await journal.claim("s", "somebody", 20)  # so both have to wait
        (row,) = await journal.runs()
        heir = _chat(world, journal, ScriptedModel(["late"]), [send], session="s", owner="me")
        giving_up = asyncio.get_running_loop().create_task(heir.abandon(row.run_id, wait_s=60))
        await world.sleep(1)
        for again in (heir.resume, heir.abandon):
            with pytest.raises(PipelineError) as busy:
                await again(row.run_id, wait_s=60)
            assert busy.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
        await giving_up
        assert (await journal.runs())[0].status == "cancelled"
        with pytest.raises(PipelineError, match="has ended"):
            await heir.resume(row.run_id)

    simulate(main)


def test_a_run_that_cannot_be_given_up_now_is_free_for_others_at_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        child = Event("child", {"key": "a", "run": "run_child", "agent": "digger"}, "run_top")
        above = {"run": "run_top", "iteration": 0, "agent": "digger"}
        for stream, facts in (
            ("top", [Event("run.start", {"input": "go"}, "run_top"), child]),
            ("run_child", [Event("run.start", {"parent": above}, "run_child")]),
        ):
            await journal.append(stream, await journal.claim(stream, "x", 5), facts, sync=True)
        await world.sleep(6)
        await journal.claim("run_child", "another", 60)
        mine = _chat(world, journal, ScriptedModel([]), owner="me")
        with pytest.raises(JournalError, match="is being written by 'another'"):
            await mine.abandon("run_top")
        with pytest.raises(JournalError, match="is being written by 'another'"):
            await _chat(world, journal, ScriptedModel([]), owner="you").abandon("run_top")
        await mine.abandon("run_top", wait_s=60)
        assert {row.status for row in await journal.runs()} == {"cancelled"}

    simulate(main)


def test_what_a_strategy_chose_is_made_fit_to_send() -> None:
    class LastThree(Strategy):
        name = "last_three"

        async def load(self, state: object) -> list[Message]:
            return state.messages[-3:]  # type: ignore[attr-defined]

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(
            [[ToolUse("a", "send", {})], [ToolUse("b", "send", {})], "done", "and again"]
        )
        chat = _chat(world, MemoryJournal(world), model, [Send(1)])
        chat.swap_strategy("context", "strategy", LastThree)
        await chat.run("go")
        await chat.run("on")
        for request in model.requests:
            check_history(list(request.messages))

    simulate(main)


def test_a_picture_weighs_what_it_comes_to_and_not_its_base64() -> None:
    history = History([Message("user", (ImageBlock("image/png", "A" * 1_000_000),))])
    assert history.size // 4 < 5_000
    history.append(
        Message("user", (ToolResultBlock("a", (ImageBlock("image/png", "A" * 10**6),)),))
    )
    assert history.size // 4 < 10_000


def test_steps_stand_in_the_order_of_their_calls() -> None:
    class Wait(Tool):
        name = "wait"
        description = "waits"
        input_schema = {"type": "object"}  # noqa: RUF012
        effects = frozenset({"read"})
        concurrency_safe = True

        async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
            await context.world.sleep(float(str(input["s"])))
            return ToolResult(str(input["s"]))

    async def main(world: SimulatedWorld) -> None:
        uses = tuple(ToolUse(str(s), "wait", {"s": s}) for s in (3, 2, 1))
        model = ScriptedModel([Response(uses, StopReason.TOOL_USE), "done"])
        result = await _chat(world, MemoryJournal(world), model, [Wait()]).run("go")
        assert [step.content for step in result.steps] == ["3", "2", "1"]

    simulate(main)
