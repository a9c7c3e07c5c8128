"""Runs that wait hold no task, and go on when something is sent to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from lorimer.attend import Attendant
from lorimer.core import mail
from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.journal import Damage, Post
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models import Models
from lorimer.pipeline import Pipeline
from lorimer.run import Executor, FixedPalette, Invocation, Lane, Ports, RunnableAgent, RunResult
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater, ToolRegistry
from tests.core.support import Do, make, use


def asking(world: World, journal: MemoryJournal) -> tuple[Pipeline, Do]:
    """A stateless agent that asks once for each run."""

    def reply(request: Request) -> Any:
        return "done" if len(request.messages) > 1 else [use("send")]

    tool, registry = Do("send", effects=["net"]), ToolRegistry()
    registry.register(tool, granted=False)

    def stateless(manifest: Any) -> None:
        manifest.stages["context"].config["stateless"] = True

    model = ScriptedModel(reply, record=False)
    return make(
        world, model, tools=registry, journal=journal, approver=AskLater(), change=stateless
    ), tool


@pytest.mark.parametrize("runs", [1, 300])
def test_each_run_goes_on_once_its_answer_is_there(runs: int) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        ids = [(await pipeline.run("go", raise_on_error=False)).run_id for _ in range(runs)]
        ended: dict[str, PipelineResult] = {}

        async def resume(run_id: str) -> PipelineResult:
            ended[run_id] = await pipeline.resume(run_id, raise_on_error=False)
            return ended[run_id]

        await mail.answer(journal, ids[0], True)  # while nobody attends
        async with Attendant(journal, resume, at_once=3) as attendant:
            await world.sleep(1)
            assert list(ended) == ids[:1]
            assert len(attendant) == runs - 1
            assert asyncio.all_tasks() == {asyncio.current_task()}
            for run_id in ids[1:]:
                await mail.answer(journal, run_id, True)
            await world.sleep(1)
            assert len(attendant) == 0
        assert {result.status for result in ended.values()} == {"ok"}
        assert len(ended) == len(tool.calls) == runs

    simulate(main)


def test_a_run_is_taken_in_by_its_id() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        async with Attendant(journal, pipeline.resume) as attendant:
            waits = (await pipeline.run("go", raise_on_error=False)).run_id
            await attendant.add(waits)
            await mail.answer(journal, waits, True)
            await world.sleep(1)
            assert (len(attendant), len(tool.calls)) == (0, 1)
            with pytest.raises(PipelineError, match="There is no run 'run_'"):
                await attendant.add("run_")  # the beginning of an id is none

    simulate(main)


def test_what_a_host_raises_is_logged_and_the_run_goes_on_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, _ = asking(world, journal)
        waits = (await pipeline.run("go", raise_on_error=False)).run_id
        tries: list[str] = []

        async def resume(run_id: str) -> PipelineResult:
            tries.append(run_id)
            if len(tries) == 1:
                raise OSError("no database")
            return await pipeline.resume(run_id, raise_on_error=False)

        async with Attendant(journal, resume) as attendant:
            await mail.answer(journal, waits, True)
            await world.sleep(1)
            assert (len(tries), len(attendant)) == (1, 1)
            assert f"run {waits} was not resumed" in caplog.text and "no database" in caplog.text
            await mail.send(journal, waits, "hello", id="m1")
            await world.sleep(1)
            assert (len(tries), len(attendant)) == (2, 0)

    simulate(main)


class InAFile(MemoryJournal):
    """To look into it takes a moment."""

    async def posts(self, stream: str) -> list[Post]:
        found = await super().posts(stream)
        await asyncio.sleep(0)
        return found


def test_whoever_resumes_a_run_has_the_attendant_by_then() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = InAFile(world)
        pipeline, _ = asking(world, journal)
        ids = [(await pipeline.run("go", raise_on_error=False)).run_id for _ in range(3)]
        waits = (await pipeline.run("go", raise_on_error=False)).run_id
        ended: list[str] = []

        async def resume(run_id: str) -> PipelineResult:
            row = await journal.find_run(waits)
            assert row is not None
            await attendant.add(row)
            ended.append(run_id)
            return await pipeline.resume(run_id, raise_on_error=False)

        for run_id in ids:
            await mail.answer(journal, run_id, True)
        async with Attendant(journal, resume) as attendant:
            await world.sleep(1)
            assert len(attendant) == 1
        assert sorted(ended) == sorted(ids)

    simulate(main)


def test_a_run_of_an_executor_that_refuses_to_go_on_with_it_goes_on_waiting() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, lane = MemoryJournal(world), Lane("runs", 1, max_queued=0, world=world)
        tool, registry = Do("send", effects=["net"]), ToolRegistry()
        registry.register(tool, granted=False)
        executor = Executor(
            models=Models(providers={"scripted": ScriptedModel([[use("send")], "done"])}),
            tier="scripted:x",
            world=world,
            journal=journal,
            tools=registry,
            approver=AskLater(),
            lane=lane,
        )
        agent = RunnableAgent(tools=("send",))
        waits = await executor.run(agent, "go")
        found: list[str] = []

        async def resume(run_id: str) -> RunResult:
            result = await executor.resume(agent, run_id)
            found.append(result.code.value if result.code is not None else result.output)
            return result

        async def busy() -> None:
            async with lane.slot():
                await world.sleep(2)

        async with Attendant(journal, resume) as attendant:
            other = asyncio.create_task(busy())
            await world.sleep(1)
            await mail.answer(journal, waits.run_id, True)
            await other
            assert len(attendant) == 1
            await mail.send(journal, waits.run_id, "And do it well.", id="m")
            await world.sleep(1)
        assert found == ["exec.limit.queue", "done"]

    simulate(main)


def test_a_run_that_another_run_woke_is_no_part_of_that() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        def reply(request: Request) -> Any:
            said = len(request.messages) > 1
            return "done" if said else [use(request.messages[0].text)]

        async def answer(input: Any, context: Any) -> str:
            await mail.answer(journal, "asks", True)
            await world.sleep(2)
            return "answered"

        send, tell, registry = Do("send", effects=["net"]), Do("tell", answer), ToolRegistry()
        registry.register(send, granted=False)
        registry.register(tell)
        executor = Executor(
            models=Models(providers={"scripted": ScriptedModel(reply, record=False)}),
            tier="scripted:x",
            world=world,
            journal=journal,
            tools=registry,
            approver=AskLater(),
            lane=Lane("runs", 2, world=world),
        )
        agent = RunnableAgent("clerk", tools=("send", "tell"))
        resumed: list[RunResult] = []

        async def resume(run_id: str) -> RunResult:
            resumed.append(await executor.resume(agent, run_id, Invocation(caller_id="ann")))
            return resumed[-1]

        await executor.run(agent, "send", Invocation(run_id="asks", caller_id="ann"))
        async with Attendant(journal, resume):
            result = await executor.run(agent, "tell")
        assert result.status == "ok"
        assert [(each.status, each.error) for each in resumed] == [("ok", "")]

    simulate(main)


def test_a_run_that_is_suspended_again_goes_on_waiting() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        result = await pipeline.run("go", raise_on_error=False)
        tries = 0

        async def resume(run_id: str) -> PipelineResult:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise JournalError("busy")
            return await pipeline.resume(run_id, raise_on_error=False)

        async with Attendant(journal, resume) as attendant:
            await mail.send(journal, result.run_id, "hello", id="m1")
            await world.sleep(1)
            assert (tries, len(attendant)) == (1, 1)
            await mail.send(journal, result.run_id, "hello again", id="m2")
            await world.sleep(1)
            assert (tries, len(attendant)) == (2, 1)  # a text is no answer
            await mail.answer(journal, result.run_id, True)
            await world.sleep(1)
            assert (tries, len(attendant)) == (3, 0)
        assert len(tool.calls) == 1

    simulate(main)


def test_leaving_ends_what_is_going_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, _ = asking(world, journal)
        result = await pipeline.run("go", raise_on_error=False)

        async def resume(run_id: str) -> PipelineResult:
            await world.sleep(1000)
            raise AssertionError

        async with Attendant(journal, resume):
            await mail.answer(journal, result.run_id, True)
            await world.sleep(1)
        assert world.monotonic() < 2
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main)


def test_leaving_suspends_what_is_going_on_where_that_is_how_to_stop_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        def reply(request: Request) -> Any:
            return "done" if len(request.messages) > 1 else [use("send")]

        tool, registry = Do("send", effects=["net"]), ToolRegistry()
        registry.register(tool, granted=False)
        executor = Executor(
            models=Models(
                providers={"scripted": ScriptedModel(reply, record=False, latency_s=3.0)}
            ),
            tier="scripted:x",
            world=world,
            journal=journal,
            tools=registry,
            approver=AskLater(),
        )
        agent = RunnableAgent(tools=("send",))
        ids = ("looks up first", "goes on", "has no place")
        for run_id in ids:
            await executor.run(agent, "go", Invocation(run_id=run_id))

        async def resume(run_id: str) -> RunResult:
            if run_id == ids[0]:
                await world.sleep(1.5)  # in the host's own tables
            return await executor.resume(agent, run_id)

        attendant = Attendant(journal, resume, at_once=2, shut_down=executor.shut_down)
        async with attendant:
            for run_id in ids:
                await mail.answer(journal, run_id, True)
            await world.sleep(1)
            left = world.monotonic()
        assert world.monotonic() - left < 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [row.status for row in await journal.runs()] == [""] * 3
        results = [await executor.resume(agent, run_id) for run_id in ids]
        assert [each.output for each in results] == ["done"] * 3
        assert len(tool.calls) == 3

    simulate(main)


def test_a_dead_owners_run_is_taken_over_as_soon_as_its_claim_has_run_out() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        result = await pipeline.run("go", raise_on_error=False)
        await journal.claim(result.session_id, "somebody who dies", 30)
        with pytest.raises(JournalError):
            await pipeline.resume(result.run_id)
        began = world.monotonic()
        with pytest.raises(JournalError):
            await pipeline.resume(result.run_id, wait_s=10)
        assert world.monotonic() - began == pytest.approx(10, abs=0.5)
        await mail.answer(journal, result.run_id, True)
        taken = await pipeline.resume(result.run_id, wait_s=60)
        assert taken.text == "done"
        assert 30 <= world.monotonic() - began < 31
        assert len(tool.calls) == 1

    simulate(main)


def test_a_run_that_somebody_else_is_at_work_on_or_has_ended_is_left_alone() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        first = await pipeline.run("go", raise_on_error=False)
        second = await pipeline.run("go", raise_on_error=False)
        async with Attendant(journal, pipeline.resume) as attendant:
            epoch = await journal.claim(first.session_id, "another", 1000)
            await mail.send(journal, first.run_id, "hello", id="m1")
            await mail.cancel(journal, second.run_id)
            await pipeline.abandon(second.run_id)
            await world.sleep(1)
            assert len(attendant) == 1
            await journal.release(first.session_id, epoch)
        assert tool.calls == []

    simulate(main)


def test_a_run_whose_owner_has_died_is_resumed_once_its_claim_has_run_out() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, tool = asking(world, journal)
        answered = await pipeline.run("go", raise_on_error=False)
        other = await pipeline.run("go", raise_on_error=False)
        tried: list[str] = []

        async def resume(run_id: str) -> PipelineResult:
            tried.append(run_id)
            return await pipeline.resume(run_id, raise_on_error=False)

        await journal.claim(answered.session_id, "somebody who dies", 30)
        await journal.claim(other.session_id, "somebody who lives", 1000)
        await mail.answer(journal, answered.run_id, True)
        async with Attendant(journal, resume) as attendant:
            await mail.send(journal, other.run_id, "hello", id="m1")
            await world.sleep(29)
            assert len(tool.calls) == 0
            await world.sleep(7)
            assert len(tool.calls) == 1
            assert len(attendant) == 1
            assert len(tried) < 20
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main)


def test_a_run_that_is_damaged_keeps_no_other_from_its_message() -> None:
    class Damaged(MemoryJournal):
        bad = ""

        async def read(self, stream: str, after: int = 0, *, follow: bool = False) -> Any:
            if stream == self.bad:
                raise JournalError("fact 1 is damaged")
            async for fact in super().read(stream, after, follow=follow):
                yield fact

        async def check(self, stream: str) -> list[Damage]:
            return [Damage(1, "damaged")] if stream == self.bad else []

    async def main(world: SimulatedWorld) -> None:
        journal = Damaged(world)
        pipeline, tool = asking(world, journal)
        runs = [await pipeline.run("go", raise_on_error=False) for _ in range(2)]
        await mail.answer(journal, runs[0].run_id, True)
        journal.bad = runs[1].session_id
        async with Attendant(journal, pipeline.resume):
            await world.sleep(1)
        assert len(tool.calls) == 1

    simulate(main)


def test_an_interrupted_call_is_put_before_a_person_who_answers_later() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        sent: list[str] = []

        async def act(*_: object) -> str:
            sent.append("begun")
            await world.sleep(1)
            return "sent"

        def pipeline(approver: object) -> Pipeline:
            tool = Do("send", act, effects=["net"])

            def reply(request: Request) -> Any:
                return "done" if len(request.messages) > 1 else [use("send")]

            model = ScriptedModel(reply, record=False)
            return make(world, model, tools=[tool], journal=journal, approver=approver)

        async def cut_off(agent: Pipeline, going: Awaitable[PipelineResult]) -> str:
            task = asyncio.ensure_future(going)
            await world.sleep(0.5)
            assert agent.shut_down(0)
            return (await task).run_id

        first = pipeline(None)
        run_id = await cut_off(first, first.run("go", raise_on_error=False))
        for times in (1, 2):
            waits = await pipeline(AskLater()).resume(run_id, raise_on_error=False)
            assert (waits.status, len(sent)) == ("suspended", times)  # each time it is asked anew
            row = await journal.find_run(run_id)
            assert row is not None
            [question] = await mail.questions(journal, row)
            assert "make it again?" in question.reason
            assert await mail.answer(journal, run_id, True)
            if times == 1:
                again = pipeline(None)
                await cut_off(again, again.resume(run_id, raise_on_error=False))
        ended = await pipeline(None).resume(run_id)
        assert (ended.text, len(sent)) == ("done", 3)

    simulate(main)


@pytest.mark.parametrize("elsewhere", [(), (1,), (3,)], ids=["here", "once not", "ends elsewhere"])
def test_a_run_goes_on_when_somebody_whom_it_gave_work_later_is_answered(
    elsewhere: Sequence[int],
) -> None:
    """It asks three times, each time in another run below it."""

    def reply(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        if request.system == "boss":
            return [use("agent__clerk", f"c{said}", prompt=f"go {said}")] if said < 3 else "end"
        return "done" if said else [use("send")]

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        tool, registry = Do("send", effects=["net"]), ToolRegistry()
        registry.register(tool, granted=False)
        clerk = RunnableAgent("clerk", prompt="clerk", tools=("send",))
        boss = RunnableAgent("boss", prompt="boss", agents=("clerk",))
        executor = Executor(
            models=Models(providers={"scripted": ScriptedModel(reply, record=False)}),
            tier="scripted:any",
            tools=registry,
            journal=journal,
            world=world,
            approver=AskLater(),
            ports=Ports(palette=FixedPalette([clerk])),
        )
        calls = 0

        async def resume(run_id: str) -> RunResult:
            nonlocal calls
            calls += 1
            result = await executor.resume(boss, run_id)
            if calls in elsewhere:  # as if that had been another process
                raise JournalError("taken", code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT)
            return result

        assert (await executor.run(boss, "go", Invocation(run_id="R"))).status == "suspended"
        async with Attendant(journal, resume) as attendant:
            for asked in range(3):
                assert (len(tool.calls), len(attendant)) == (asked, 1)
                await mail.answer(journal, "R", True)
                await world.sleep(10)
            assert (len(tool.calls), len(attendant)) == (3, 0)
        assert (await executor.result("R")).status == "ok"

    simulate(main)
