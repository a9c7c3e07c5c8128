"""What a host asks for that cannot be, that another has, or that it lets go of half-way: the runs
and ports of others are left as they are, and nothing stays open."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError, ExecutorErrorCode, LorimerError
from lorimer.core.messages import ImageBlock, ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.models import Models
from lorimer.run import (
    Attachments,
    AuditLog,
    Executor,
    InMemoryInputFiles,
    InputFile,
    Invocation,
    Lane,
    Listed,
    Ports,
    RunnableAgent,
    RunStep,
)
from lorimer.run.delivery import Artifact, Discard, Target
from lorimer.run.inputs import FolderInputFiles
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.testing import simulate
from lorimer.tools import Tool, ToolContext, tool
from lorimer.world.files import RootedFiles
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "given",
    [
        {"run_id": 5},
        {"caller_id": None},
        {"inputs": ["x"]},
        {"inputs": {"a": object()}},
        {"images": ["x"]},
        {"input_files": ["x"]},
        {"extra_tools": ["x"]},
        {"session_tools": "x"},
        {"delivery": "general"},
        {"priority": "high"},
        {"priority": float("nan")},
        {"on_step": "x"},
        {"on_text": "x"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_an_invocation_with_a_field_of_another_type_is_refused_when_it_is_made(
    given: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Invocation(**given)


@pytest.mark.parametrize(
    "given",
    [{"name": 5}, {"prompt": None}, {"max_turns": "5"}, {"tools": [5]}, {"phases": ["x"]}],
    ids=lambda given: next(iter(given)),
)
def test_so_is_an_agent(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        RunnableAgent(**given)


@pytest.mark.parametrize(
    "given",
    [{"ports": {}}, {"lane": "x"}, {"tier": 5}, {"journal": "runs.db"}, {"manifest": {}}],
    ids=lambda given: next(iter(given)),
)
def test_so_is_an_executor(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Executor(models=Models(), **given)


async def test_what_is_no_agent_is_told_to_whoever_asks_to_run_it() -> None:
    executor: Any = executor_of([])
    with pytest.raises(ConfigError, match="must be a RunnableAgent, not str"):
        await executor.run("guide", "hi")
    with pytest.raises(ConfigError, match="input must be text, not int"):
        await executor.run(RunnableAgent(), 5)


def test_one_picture_or_file_alone_is_one() -> None:
    asked: Any = {"images": ImageBlock("image/png", ""), "input_files": [InputFile("a", b"b")]}
    made = Invocation(**asked)
    assert (len(made.images), len(made.input_files)) == (1, 1)


async def test_options_that_can_be_read_only_once_hold_for_every_agent() -> None:
    """Else the second agent told the secrets that the first struck out."""
    secrets = iter(["hunter22-hunter22"])
    executor = executor_of(lambda _: "hunter22-hunter22", secrets=secrets)
    for name in ("first", "second"):
        result = await executor.run(RunnableAgent(name), "x")
        assert result.run is not None
        assert "hunter22" not in str(result.run.events), name


async def test_a_run_may_be_named_so_that_names_of_others_begin_with_it() -> None:
    executor = executor_of(lambda _: "hi")
    for run_id in ("order-10", "order-11", "order-1"):
        result = await executor.run(RunnableAgent(), "x", Invocation(run_id=run_id))
        assert (result.status, result.run_id) == ("ok", run_id)
    again = await executor.run(RunnableAgent(), "x", Invocation(run_id="order-1"))
    assert again.code is ExecutorErrorCode.EXEC_RUN_BUSY
    resumed = await executor.resume(RunnableAgent(), "order-")
    assert resumed.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN


def parking(parked: Attachments) -> Tool:
    @tool(effects=[])
    async def park(context: ToolContext) -> str:
        """Park."""
        parked.add(context.run_id, Artifact("f.txt", "text/plain", b"x"))
        await asyncio.sleep(1)
        return "parked"

    return park


@pytest.mark.parametrize("how", ["run", "resume"])
def test_who_asks_for_a_run_that_goes_on_or_is_over_changes_nothing_of_it(how: str) -> None:
    async def main(world: World) -> None:
        parked, files = Attachments(), InMemoryInputFiles()
        log = AuditLog(MemoryAudit(), world=world, threads=False)

        def reply(request: Request) -> Any:
            said = sum(message.role == "assistant" for message in request.messages)
            return [use("park"), [ToolUse("r", "read_input", {"id": "file_1"})], "end"][said]

        executor = executor_of(
            model_of(reply),
            tools=[parking(parked)],
            world=world,
            ports=Ports(attachments=parked, input_files=files, audit=log),
        )
        agent = RunnableAgent("a", tools=("park",))
        asked = Invocation(run_id="R", input_files=(InputFile("a.txt", b"what it says"),))

        async def again() -> ExecutorErrorCode | None:
            if how == "run":
                return (await executor.run(agent, "x", asked)).code
            return (await executor.resume(agent, "R", asked)).code

        first = executor.start(agent, "x", asked)
        await world.sleep(0.5)
        assert await again() is ExecutorErrorCode.EXEC_RUN_BUSY
        result = await first
        assert [each.name for each in result.artifacts] == ["f.txt"]
        assert "what it says" in str(result.messages)
        assert await again() in (
            ExecutorErrorCode.EXEC_RUN_BUSY,
            ExecutorErrorCode.EXEC_RUN_ENDED,
        )
        kinds = [each.kind for each in await log.records("R")]
        assert (kinds.count("start"), kinds.count("close")) == (1, 1)
        assert len(parked) == 0

    simulate(main)


def test_an_audit_that_was_told_of_the_beginning_is_told_of_the_end_whoever_cancels() -> None:
    async def main(world: World) -> None:
        class Slow(AuditLog):
            async def start(self, start: Any) -> Any:
                found = await super().start(start)
                await world.sleep(1)
                return found

        log = Slow(MemoryAudit(), world=world, threads=False)
        executor = executor_of(lambda _: "hi", world=world, ports=Ports(audit=log))
        task = asyncio.create_task(executor.run(RunnableAgent(), "x"))
        await world.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (told,) = await log.runs()
        assert told.close is not None
        assert told.close.status == "cancelled"

    simulate(main)


def test_files_that_were_being_kept_when_somebody_cancelled_are_dropped() -> None:
    async def main(world: World) -> None:
        class Slow(InMemoryInputFiles):
            async def stage(self, run_id: str, id: str, file: InputFile) -> None:
                await super().stage(run_id, id, file)
                await world.sleep(1)

        files = Slow()
        executor = executor_of(lambda _: "hi", world=world, ports=Ports(input_files=files))
        asked = Invocation(run_id="R", input_files=(InputFile("a", b"x"),))
        task = asyncio.create_task(executor.run(RunnableAgent(), "x", asked))
        await world.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await files.read("R", "file_1", 0, 1) is None

    simulate(main)


def test_a_callback_that_is_behind_is_stopped_when_the_caller_is_cancelled_meanwhile() -> None:
    async def main(world: World) -> None:
        told: list[str] = []

        async def slow(step: RunStep) -> None:
            try:
                await world.sleep(1.5)
            finally:
                told.append(step.state)

        executor = executor_of([use("park"), "end"], tools=[parking(Attachments())], world=world)
        asked = Invocation(on_step=slow)
        task = asyncio.create_task(executor.run(RunnableAgent("a", tools=("park",)), "x", asked))
        await world.sleep(1.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["running"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(main)


async def test_a_callback_that_raises_what_cancels_keeps_nobody_else_from_being_told() -> None:
    def bad(step: RunStep) -> None:
        raise asyncio.CancelledError

    log = AuditLog(MemoryAudit(), threads=False)
    parked = Attachments()
    executor = executor_of(
        [use("park"), "end"],
        tools=[parking(parked)],
        ports=Ports(audit=log, attachments=parked),
    )
    result = await executor.run(RunnableAgent("a", tools=("park",)), "x", Invocation(on_step=bad))
    assert result.status == "ok"
    assert [each.kind for each in await log.records()] == ["start", "step", "tool", "step", "close"]


def test_who_waits_in_a_lane_is_disturbed_by_no_other_of_its_caller() -> None:
    async def main(world: World) -> None:
        lane = Lane("runs", 1, world=world)
        executor = executor_of(model_of(lambda _: "hi", latency_s=1.0), world=world, lane=lane)
        runs = [executor.start(RunnableAgent(), "x") for _ in range(3)]
        with pytest.raises(ConfigError):
            executor.start(RunnableAgent(), "x", Invocation(priority="high"))  # type: ignore[arg-type]
        assert [(await run).status for run in runs] == ["ok"] * 3

    simulate(main)


def test_what_another_process_keeps_for_a_run_is_not_dropped_by_who_may_not_resume_it(
    tmp_path: Any,
) -> None:
    async def main(world: World) -> None:
        files = FolderInputFiles(RootedFiles([tmp_path]), world=world)
        model = model_of(lambda _: "hi", latency_s=5.0)
        one = executor_of(model, world=world, ports=Ports(input_files=files))
        other = executor_of(model, world=world, journal=one.journal, ports=Ports(input_files=files))
        asked = Invocation(run_id="R", input_files=(InputFile("a", b"x"),))
        going = one.start(RunnableAgent(), "x", asked)
        await world.sleep(1)
        refused = await other.resume(RunnableAgent(), "R", asked)
        assert refused.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        assert await files.read("R", "file_1", 0, 1) == b"x"
        assert (await going).status == "ok"
        assert await files.read("R", "file_1", 0, 1) is None

    simulate(main)


async def test_agents_without_a_name_are_no_one_agent() -> None:
    box: list[Executor] = []

    @tool(effects=[])
    async def nest(prompt: str) -> str:
        """Run an agent."""
        return (await box[0].run(RunnableAgent(prompt=prompt, tools=("nest",)), "x")).output

    def reply(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        last = request.messages[-1].content
        return str(last) if said else use("nest", prompt="inner")

    box.append(executor_of(model_of(reply), tools=[nest]))
    result = await box[0].run(RunnableAgent(prompt="outer", tools=("nest",)), "x")
    assert result.status == "ok"
    assert "exec.child.ancestor" in result.output  # the inner one in itself
    assert len(await box[0].journal.runs()) == 2


async def test_what_never_began_because_the_lane_is_closed_is_not_suspended() -> None:
    lane = Lane("runs", 1)
    lane.close()
    result = await executor_of([], lane=lane).run(RunnableAgent(), "x")
    assert (result.status, result.code) == ("cancelled", ExecutorErrorCode.EXEC_RUN_SHUTDOWN)


def test_row_32_a_suspended_run_is_not_over_and_posts_nothing_until_it_is_resumed() -> None:
    async def main(world: World) -> None:
        posted: list[str] = []

        class Posts(Discard):
            async def deliver(self, target: Target, output: str, artifacts: Any) -> str:
                posted.append(output)
                return ""

            async def deliver_error(self, target: Target, error: LorimerError) -> None:
                posted.append(error.code.value)

        executor = executor_of(
            model_of(lambda _: "hi", latency_s=1.0), world=world, ports=Ports(delivery=Posts())
        )
        asked = Invocation(run_id="R", delivery=Target("channel", "1"))
        handle = executor.start(RunnableAgent(), "x", asked)
        await world.sleep(0.5)
        handle.cancel(Reason.SHUTDOWN)
        assert (await handle).status == "suspended"
        assert posted == []
        assert (await executor.resume(RunnableAgent(), "R", asked)).status == "ok"
        assert posted == ["hi"]
        again = await executor.resume(RunnableAgent(), "R", asked)
        assert again.code is ExecutorErrorCode.EXEC_RUN_ENDED
        twice = await executor.run(RunnableAgent(), "x", asked)
        assert twice.code is ExecutorErrorCode.EXEC_RUN_BUSY
        assert posted == ["hi"]

    simulate(main)


def test_two_processes_that_begin_a_run_of_one_id_at_once_leave_the_first_its_files(
    tmp_path: Any,
) -> None:
    async def main(world: World) -> None:
        files = FolderInputFiles(RootedFiles([tmp_path]), world=world)

        class Slow(Listed):
            async def groups(self, caller_id: str) -> list[str]:
                await world.sleep(1)
                return []

        model = model_of(lambda _: "hi", latency_s=5.0)
        ports = Ports(input_files=files)
        one = executor_of(model, world=world, ports=ports)
        slow = replace(ports, identity=Slow())
        other = executor_of(model, world=world, journal=one.journal, ports=slow)
        asked = Invocation(run_id="R", caller_id="a", input_files=(InputFile("a", b"x"),))
        late = other.start(RunnableAgent(), "x", asked)
        await world.sleep(0.5)
        going = one.start(RunnableAgent(), "x", asked)
        assert (await late).status == "error"
        assert await files.read("R", "file_1", 0, 1) == b"x"
        assert (await going).status == "ok"

    simulate(main)
