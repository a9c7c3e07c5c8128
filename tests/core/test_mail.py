"""What others tell a run: texts, answers, an end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lorimer import PipelineError
from lorimer.core import mail
from lorimer.core.errors import ExecutorErrorCode, JournalError, MutationError
from lorimer.core.events import Event
from lorimer.core.journal import Post
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.pipeline import Pipeline
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater, ToolRegistry
from tests.core.support import Do, check_history, held, kinds, make, only, use

CODE = ExecutorErrorCode


def said(request: Request) -> list[str]:
    """The user's texts, in order."""
    return [message.text for message in request.messages if message.role == "user"]


async def posted(journal: MemoryJournal, result: PipelineResult) -> list[str]:
    return [post.id for post in await journal.posts(result.session_id)]


def run_of(pipeline: Pipeline) -> list[str]:
    """Where the id of the run that begins next will be."""
    ids: list[str] = []
    pipeline.on("run.start", lambda event: ids.append(event.run_id))
    return ids


def test_a_text_reaches_the_model_before_its_next_call_and_only_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel([[use("look")], [use("look", "b")], "done"])

        async def look(*_: object) -> str:
            if len(tool.calls) == 1:
                [run_id] = ids
                assert await mail.send(journal, run_id, "hurry", id="m1")
                assert not await mail.send(journal, run_id, "hurry", id="m1")
            await world.sleep(1)
            return "seen"

        tool = Do("look", look)
        pipeline = make(world, model, tools=[tool], journal=journal)
        ids = run_of(pipeline)
        result = await pipeline.run("go")
        assert [said(request)[-1] for request in model.requests] == ["go", "hurry", ""]
        check_history(result.messages)
        taken = only(result.events, "effect")
        assert taken["texts"] == ["hurry"]
        assert await posted(journal, result) == []

    simulate(main)


def test_a_text_that_comes_with_the_answer_is_answered_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["first", "second"], latency_s=1)
        pipeline = make(world, model, journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.5)
        await mail.send(journal, ids[0], "and this", id="m1")
        result = await going
        assert result.text == "second"
        assert said(model.requests[1]) == ["go", "and this"]
        ends = [fact.data for fact in result.events if fact.type == "iteration.end"]
        assert [(end.get("decision"), end.get("reason")) for end in ends] == [
            (None, "message"),
            ("complete", "end_turn"),
        ]

    simulate(main)


def test_a_text_without_a_turn_left_waits_for_the_next_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["first", [use("look")], "third"], latency_s=1)
        pipeline = make(world, model, tools=[Do("look")], journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go", limits={"max_turns": 1}))
        await world.sleep(0.5)
        await mail.send(journal, ids[0], "and this", id="m1")
        result = await going
        assert (result.status, result.text) == ("ok", "first")
        assert await posted(journal, result) == ["m1"]

    simulate(main)


def test_a_resumed_run_tells_the_model_the_same_at_the_same_place() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = MemoryJournal(world)

        def reply(request: Request) -> Any:
            if len(request.messages) == 1:
                return [use("look")]
            return "done" if said(request)[-1] == "two" else "almost"

        model = ScriptedModel(reply, latency_s=1)
        pipeline = make(world, model, tools=[Do("look")], journal=first)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.5)
        await mail.send(first, ids[0], "one", id="m1")
        await world.sleep(1)
        await mail.send(first, ids[0], "two", id="m2")
        whole = await going
        asked = [said(request) for request in model.requests]
        assert asked == [["go"], ["go", "", "one"], ["go", "", "one", "two"]]
        for cut in range(1, len(whole.events)):
            journal = await held(world, whole.events[:cut], whole.session_id)
            left = [f for f in whole.events[cut:] if f.type == "effect"]
            for number, fact in enumerate(left, 3 - len(left)):
                text = str(fact.data["texts"][0])  # type: ignore[index]
                message = {"kind": "text", "run": whole.run_id, "text": text}
                await journal.post(whole.session_id, f"m{number}", message)
            again = ScriptedModel(reply, latency_s=1)
            resumed = make(world, again, tools=[Do("look")], journal=journal)
            result = await resumed.resume(whole.run_id)
            assert result.text == "done", cut
            texts = [message.text for message in result.messages if message.role == "user"]
            assert {"one", "two"} <= set(texts), cut
            assert len(texts) == 4, cut
            assert await posted(journal, result) == []

    simulate(main)


def test_a_run_is_cancelled_from_elsewhere() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = make(world, ScriptedModel(["late"], latency_s=60), journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        assert await mail.cancel(journal, ids[0])
        assert not await mail.cancel(journal, ids[0])
        result = await going
        assert result.status == "cancelled"
        assert await posted(journal, result) == []
        assert world.monotonic() < 2

    simulate(main)


def test_a_cancel_of_another_run_is_none_of_ours() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = make(world, ScriptedModel(["a", "b"], latency_s=1), "chat", journal=journal)
        first = await pipeline.run("one")
        going = asyncio.ensure_future(pipeline.run("two"))
        await world.sleep(0.5)
        await journal.post(first.session_id, "x", {"kind": "cancel", "run": first.run_id})
        await journal.post(first.session_id, "y", {"kind": "something newer"})
        assert (await going).text == "b"

    simulate(main)


@pytest.mark.parametrize("state", ["unknown", "ended"])
def test_nothing_is_sent_to_a_run_that_cannot_read_it(state: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        result = await make(world, ["done"], journal=journal).run("go")
        run_id = result.run_id if state == "ended" else "run_nobody"
        for call in (
            mail.send(journal, run_id, "hello", id="m"),
            mail.answer(journal, run_id, True),
            mail.cancel(journal, run_id),
        ):
            with pytest.raises(PipelineError) as caught:
                await call
            wanted = CODE.EXEC_RUN_ENDED if state == "ended" else CODE.EXEC_RUN_UNKNOWN
            assert caught.value.code is wanted
        assert await posted(journal, result) == []

    simulate(main)


@pytest.mark.parametrize("text", ["", " \n", "x" * 100_001])
def test_an_empty_or_endless_text_is_refused(text: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(PipelineError) as caught:
            await mail.send(MemoryJournal(world), "run", text, id="m")
        assert caught.value.code is CODE.EXEC_INPUT_INVALID

    simulate(main)


# --- questions -------------------------------------------------------------------------------


class Hangs:
    """An approver at whose terminal nobody sits."""

    cancelled = 0

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return True


def asking(
    world: World, journal: MemoryJournal, approver: object, replies: list[Any]
) -> tuple[Pipeline, Do]:
    tool = Do("send", effects=["net"])
    registry = ToolRegistry()
    registry.register(tool, granted=False)
    model = ScriptedModel(replies)
    return make(world, model, tools=registry, journal=journal, approver=approver), tool  # type: ignore[arg-type]


REPLIES = [[use("send", to="ann")], "done"]


@pytest.mark.parametrize("approved", [True, False])
def test_a_question_is_answered_from_elsewhere(approved: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, approver = MemoryJournal(world), Hangs()
        pipeline, tool = asking(world, journal, approver, REPLIES)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(1)
        row = await journal.find_run(ids[0])
        assert row is not None
        [question] = await mail.questions(journal, row)
        assert await mail.questions(journal, row.run_id) == [question]
        with pytest.raises(PipelineError, match="There is no run 'run_'"):
            await mail.questions(journal, "run_")  # the beginning of an id is none
        assert (question.tool, question.input) == ("send", '{"to":"ann"}')
        with pytest.raises(PipelineError, match="not '9:9'"):
            await mail.answer(journal, ids[0], True, question="9:9")
        assert await mail.answer(journal, ids[0], approved)
        result = await going
        assert len(tool.calls) == approved
        assert approver.cancelled == 1
        assert result.text == "done"
        assert only(result.events, "effect")["from"] == "elsewhere"

    simulate(main)


def test_a_change_of_nothing_is_refused() -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(MutationError, match="there is nothing to change"):
            await mail.change(MemoryJournal(world), "run", [], id="m")

    simulate(main)


class Unread(MemoryJournal):
    """Its inbox cannot be read for a while."""

    broken = False

    async def posts(self, stream: str) -> list[Post]:
        if self.broken:
            raise JournalError("the disk sleeps")
        return await super().posts(stream)


def test_an_inbox_that_cannot_be_read_for_a_while_is_read_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unread(world)
        model = ScriptedModel([[use("look")], [use("look")], "done"], latency_s=2)
        pipeline = make(world, model, tools=[Do("look")], journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.4)
        journal.broken = True
        await mail.send(journal, ids[0], "hello", id="m")
        await world.sleep(2)
        journal.broken = False
        result = await going
        assert f"the inbox of {result.session_id} cannot be read: the disk sleeps" in caplog.text
        assert caplog.text.count("cannot be read") == 2, "not more often than once a second"
        assert said(model.requests[2])[-1] == "hello"
        assert await posted(journal, result) == []

    simulate(main)


def test_a_run_ends_whose_inbox_cannot_be_read_any_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unread(world)
        pipeline = make(world, ScriptedModel(["done"], latency_s=1), journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.4)
        journal.broken = True
        await mail.cancel(journal, ids[0])
        assert (await going).text == "done"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main)


def test_a_run_that_was_cancelled_while_it_waited_asks_nothing_any_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, _ = asking(world, journal, AskLater(), REPLIES)
        waits = await pipeline.run("go", raise_on_error=False)
        await mail.cancel(journal, waits.run_id)
        ended = await pipeline.resume(waits.run_id, raise_on_error=False)
        assert ended.status == "cancelled"
        row = await journal.find_run(waits.run_id)
        assert row is not None
        assert await mail.questions(journal, row) == []

    simulate(main)


def test_a_run_that_cannot_ask_waits_for_the_answer_without_a_task() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal, AskLater(), REPLIES)
        result = await pipeline.run("go", raise_on_error=False)
        assert result.status == "suspended"
        assert result.code is CODE.EXEC_RUN_WAITING
        assert kinds(result.events)[-2:] == ["effect.intent", "run.suspended"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

        again, _ = asking(world, journal, AskLater(), REPLIES[1:])
        still = await again.resume(result.run_id, raise_on_error=False)
        assert still.status == "suspended"  # nobody has answered yet
        assert tool.calls == []

        assert await mail.answer(journal, result.run_id, True)
        later, tool = asking(world, journal, None, REPLIES[1:])
        ended = await later.resume(result.run_id)
        assert ended.text == "done"
        assert tool.calls == [{"to": "ann"}]
        assert await posted(journal, ended) == []
        assert kinds(ended.events).count("effect.intent") == 1

    simulate(main)


def test_the_first_answer_counts() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, _ = asking(world, journal, AskLater(), REPLIES)
        result = await pipeline.run("go", raise_on_error=False)
        assert await mail.answer(journal, result.run_id, False)
        with pytest.raises(PipelineError, match="asks nothing"):
            await mail.answer(journal, result.run_id, True)
        later, tool = asking(world, journal, None, REPLIES[1:])
        assert (await later.resume(result.run_id)).text == "done"
        assert tool.calls == []

    simulate(main)


def test_an_answer_to_a_question_that_was_settled_here_is_cleared_away() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        class Quick:
            async def approve(self, tool: str, summary: str, reason: str) -> bool:
                message = {"kind": "answer", "run": ids[0], "question": "0:0", "approved": False}
                asyncio.get_running_loop().call_soon(
                    asyncio.ensure_future, journal.post(f"{stream[0]}", "late", message)
                )
                return True

        pipeline, tool = asking(world, journal, Quick(), [*REPLIES[:1], [use("send", "b")], "done"])
        ids, stream = run_of(pipeline), [""]

        def begun(event: Event) -> None:
            stream[0] = pipeline.session_id

        pipeline.on("model.intent", begun)
        result = await pipeline.run("go")
        assert len(tool.calls) == 2
        assert await posted(journal, result) in ([], ["late"])

    simulate(main)


class SlowPosts(MemoryJournal):
    """Takes long to read an inbox."""

    durable = True  # so a run in it prolongs its claim

    async def posts(self, stream: str) -> list[Post]:
        await asyncio.sleep(10)
        return await super().posts(stream)


def test_who_is_cancelled_while_a_look_ends_leaves_nothing_behind() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SlowPosts(world)
        model = ScriptedModel(["done", "done", "more"], latency_s=1)
        pipeline = make(world, model, "chat", journal=journal)
        task = asyncio.create_task(pipeline.run("go"))
        await asyncio.sleep(0.5)
        [row] = await journal.runs()
        await mail.send(journal, row.run_id, "too late", id="m")
        await asyncio.sleep(3)  # the run has ended, its look goes on
        assert [row.status for row in await journal.runs()] == ["ok"]
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(100)
        assert await journal.claim(row.stream, "another", 30)  # nobody prolongs the old claim

    simulate(main)


def test_a_message_of_a_kind_that_nobody_knows_is_passed_over() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([[use("look")], "done"], latency_s=2)
        journal = MemoryJournal(world)
        pipeline = make(world, model, tools=[Do("look")], journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.4)
        [row] = await journal.runs()
        await journal.post(row.stream, "odd", {"kind": "odd", "run": ids[0]})
        await mail.send(journal, ids[0], "hello", id="m")
        assert (await going).status == "ok"
        assert "hello" in said(model.requests[1])

    simulate(main)


def test_an_inbox_that_fails_for_two_at_once_is_read_again_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unread(world)
        model = ScriptedModel([[use("look")], "done"], latency_s=5)
        pipeline = make(world, model, tools=[Do("look")], journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.4)
        journal.broken = True
        for text in ("m1", "m2"):
            await mail.send(journal, ids[0], text, id=text)
            await world.sleep(0.1)
        journal.broken = False
        await going
        assert caplog.text.count("cannot be read") == 2
        assert {"m1", "m2"} <= {*said(model.requests[1])}

    simulate(main)


def test_what_comes_while_the_last_look_goes_on_is_not_looked_for() -> None:
    class Slow(MemoryJournal):
        looks = 0

        async def posts(self, stream: str) -> list[Post]:
            self.looks += 1
            await world_of[0].sleep(30)
            return await super().posts(stream)

    world_of: list[SimulatedWorld] = []

    async def main(world: SimulatedWorld) -> None:
        world_of.append(world)
        journal = Slow(world)
        pipeline = make(world, ScriptedModel(["done"], latency_s=2), journal=journal)
        ids = run_of(pipeline)
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.4)
        for text in ("m1", "m2"):
            await mail.send(journal, ids[0], text, id=text)
        assert (await going).status == "ok"
        await world.sleep(60)
        assert journal.looks == 1

    simulate(main)


def test_a_later_run_asks_nothing_for_the_one_before_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        tools = ToolRegistry()
        tools.register(Do("send", effects=["send"]), granted=False)
        first = make(
            world,
            [[use("send")], "done", [use("send")]],
            "chat",
            tools=tools,
            journal=journal,
            session_id="s",
            approver=AskLater(),
        )
        one = await first.run("go", raise_on_error=False)
        before = await journal.find_run(one.run_id)
        assert before is not None
        assert len(await mail.questions(journal, before)) == 1
        await mail.answer(journal, one.run_id, True)
        assert (await first.resume(one.run_id)).status == "ok"
        two = await first.run("again", raise_on_error=False)
        assert two.status == "suspended"
        assert await mail.questions(journal, before) == []

    simulate(main)
