"""The host's ports, as an executor uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, LorimerError, PipelineError, StoreFailed
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.run import (
    AuditLog,
    CallerBudgets,
    Executor,
    FixedPalette,
    Invocation,
    Lane,
    Limits,
    Phase,
    Ports,
    RunHandle,
    RunnableAgent,
    RunResult,
    SessionTools,
    ToolSession,
)
from lorimer.run.attachments import Attachments
from lorimer.run.audit.port import AuditClose, AuditStart
from lorimer.run.config import EnvironmentConfig
from lorimer.run.delivery import Artifact, Target
from lorimer.run.identity import ADMIN, Listed
from lorimer.run.inputs import InMemoryInputFiles, InputFile
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate_in
from lorimer.tools import AskLater, Tool, ToolContext, ToolRegistry, ToolResult, tool
from lorimer.world.real import RealWorld
from tests.quick import calls
from tests.run.support import WORKER, executor_of, model_of, use

pytestmark = pytest.mark.anyio

WORKER_ALONE = RunnableAgent("alone")


class Work(Tool):
    name = "work"
    description = "Work."
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})
    callers = frozenset[str]()

    def __init__(self, act: Any = None) -> None:
        self.act = act

    async def execute(self, input: Any, context: ToolContext) -> ToolResult:
        return ToolResult(await self.act(context) if self.act is not None else "done")


class Posted:
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        self.told.append((target.id, (output, [each.name for each in artifacts])))
        return "m1"

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        self.told.append((target.id, error.code.value))


@pytest.mark.parametrize("in_a_task", [False, True])
def test_a_run_in_a_tool_that_is_stopped_is_reported_before_the_tool_is_over(
    in_a_task: bool,
) -> None:
    class Slow(Posted):
        world: World

        async def deliver_error(self, target: Target, error: LorimerError) -> None:
            await self.world.sleep(3)
            await super().deliver_error(target, error)

    class Nest(Tool):
        name = "work"

        async def execute(self, input: Any, context: ToolContext) -> ToolResult:
            asked = Invocation(run_id="INNER", delivery=Target("chat", "7"))
            try:
                if in_a_task:
                    await executor.start(WORKER_ALONE, "go", asked)
                else:
                    await executor.run(WORKER_ALONE, "go", asked)
            finally:
                told.append(len(posted.told))
            return ToolResult("done")

    posted, told = Slow(), list[int]()
    log = AuditLog(MemoryAudit(), threads=False)

    def reply(request: Request) -> Any:
        return use() if request.tools else "end"

    async def main(world: SimulatedWorld) -> None:
        nonlocal executor
        posted.world = world
        limits = Limits(timeout_s=12.0)
        executor = executor_of(
            model_of(reply, latency_s=10.0),
            world=world,
            tools=[Nest()],
            limits=limits,
            ports=Ports(delivery=posted, audit=log),
        )
        result = await executor.run(WORKER, "go")
        assert (result.status, told) == ("timeout", [1])
        assert posted.told == [("7", "exec.run.cancelled")]
        assert await log.runs(unfinished=True) == []
        await executor.aclose()

    executor = executor_of(["end"])
    simulate(main)


def test_closing_waits_for_no_run_that_was_given_up_by_who_drove_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        executor = executor_of(model_of(["end"], latency_s=10.0), world=world)
        driven = executor.run(WORKER_ALONE, "go")
        driven.send(None)
        driven.close()
        await executor.aclose()

    simulate(main)


async def test_row_30_an_audit_is_told_of_start_steps_tools_and_end() -> None:
    log = AuditLog(MemoryAudit())
    executor = executor_of([use(n=1), "end"], tools=[Work()], ports=Ports(audit=log))
    agent = RunnableAgent("worker", tools=("work",), subject="agents/1")
    asked = Invocation(caller_id="ann", channel_id="c", parent_run_id="p", inputs={"n": 1})
    result = await executor.run(agent, "go", asked)
    (told,) = await log.runs(caller_id="ann")
    assert (told.start.subject, told.start.name) == ("agents/1", "worker")
    assert (told.start.channel_id, told.start.parent_run_id) == ("c", "p")
    assert told.start.inputs == {"n": 1}
    assert told.close is not None
    assert (told.close.status, told.close.output, told.close.tool_calls) == ("ok", "end", 1)
    assert told.close.usage == result.usage
    assert told.close.cost_nano == result.cost_nano > 0
    kinds = [record.kind for record in await log.records(run_id=result.run_id)]
    assert kinds == ["start", "step", "tool", "step", "close"]


async def test_row_31_a_tool_that_is_not_there_closes_the_audit_as_error() -> None:
    log = AuditLog(MemoryAudit())
    executor = executor_of(["x"], ports=Ports(audit=log))
    await executor.run(RunnableAgent(tools=("nope",)), "go", Invocation(caller_id="ann"))
    (told,) = await log.runs(caller_id="ann")
    assert told.close is not None
    assert told.close.status == "error"
    assert "nope" in told.close.error


def test_row_15_after_cancelling_the_audit_is_closed() -> None:
    async def main(world: World) -> str:
        async def hang(context: ToolContext) -> str:
            await world.sleep(50)
            return ""

        log = AuditLog(MemoryAudit(), world=world, threads=False)
        executor = executor_of(
            [use(), "x"], tools=[Work(hang)], world=world, ports=Ports(audit=log)
        )
        task = asyncio.create_task(executor.run(WORKER, "go", Invocation(caller_id="ann")))
        await world.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (told,) = await log.runs(caller_id="ann")
        return told.close.status if told.close is not None else ""

    assert simulate(main) == "cancelled"


class Opened:
    """An audit that takes its time to begin."""

    def __init__(self, world: World, start_s: float) -> None:
        self.world = world
        self.start_s = start_s
        self.told: list[str] = []

    async def start(self, start: AuditStart) -> Opened:
        await self.world.sleep(self.start_s)
        self.told.append("start")
        return self

    def step(self, step: object) -> None:
        self.told.append("step")

    def tool(self, call: object) -> None:
        self.told.append("tool")

    def log(self, event: str, data: object) -> None:
        self.told.append("log")

    async def close(self, end: AuditClose) -> None:
        self.told.append(end.status)


@pytest.mark.parametrize(
    ("start_s", "told"),
    [(15.0, ["start", "ok"]), (500.0, [])],
    ids=["during the run", "never"],
)
def test_an_audit_that_opens_late_is_told_the_end(start_s: float, told: list[str]) -> None:
    async def main(world: World) -> None:
        audit = Opened(world, start_s)
        model = model_of(["yes"], latency_s=20.0)
        result = await executor_of(model, world=world, ports=Ports(audit=audit)).run(
            WORKER_ALONE, "go"
        )
        assert (result.status, audit.told) == ("ok", told)
        assert result.warnings == ["audit.start took longer than 10 s"]

    simulate(main)


async def test_a_run_whose_start_could_not_be_written_does_not_stay_open() -> None:
    class Failing(MemoryAudit):
        fails = True

        def append(self, bodies: Any, sealer: Any) -> None:
            if self.fails:
                raise StoreFailed("no room")
            super().append(bodies, sealer)

    store = Failing()
    log = AuditLog(store, threads=False)
    result = await executor_of(["yes"], ports=Ports(audit=log)).run(WORKER_ALONE, "go")
    assert result.status == "ok"
    assert "no room" in result.warnings[0]
    store.fails = False
    (found,) = await log.runs()
    assert found.close is not None
    assert found.close.status == "unknown"
    assert (await log.verify()).ok


async def test_an_audit_that_fails_in_the_middle_is_logged_once_and_told_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[AuditClose] = []

    class Fails:
        async def start(self, start: AuditStart) -> Fails:
            return self

        def step(self, step: object) -> None:
            raise OSError("no disk")

        def tool(self, call: object) -> None:
            raise OSError("no disk")

        def log(self, event: str, data: object) -> None:
            raise OSError("no disk")

        async def close(self, end: AuditClose) -> None:
            closed.append(end)

    executor = executor_of([use(n=1), use(n=2), "end"], tools=[Work()], ports=Ports(audit=Fails()))
    with caplog.at_level("WARNING"):
        result = await executor.run(WORKER, "go")
    assert result.output == "end"
    assert [r.getMessage() for r in caplog.records] == [f"the audit of run {result.run_id} failed"]
    assert [end.status for end in closed] == ["ok"]


@pytest.mark.parametrize("code", ["exec.run.busy", "exec.run.ended", "exec.journal.conflict"])
async def test_a_run_that_failed_with_the_code_of_a_refusal_has_its_audit_closed(code: str) -> None:
    log, posted = AuditLog(MemoryAudit()), Posted()
    error = PipelineError("of another run", code=ExecutorErrorCode(code))
    executor = executor_of([error], ports=Ports(audit=log, delivery=posted))
    asked = Invocation(delivery=Target("chat", "7"))
    result = await executor.run(WORKER_ALONE, "go", asked)
    assert (result.code, result.run is not None) == (code, True)
    (found,) = await log.runs()
    assert found.close is not None
    assert (found.close.status, found.close.code) == (result.status, code)
    assert posted.told == ([] if result.status == "suspended" else [("7", code)])


async def test_row_32_a_target_gets_the_answer_or_the_error() -> None:
    posted = Posted()
    executor = executor_of(["yes", RuntimeError("no"), "quiet"], ports=Ports(delivery=posted))
    target = Invocation(delivery=Target("chat", "7"))
    await executor.run(RunnableAgent(), "hi", target)
    await executor.run(RunnableAgent(), "hi", target)
    await executor.run(RunnableAgent(model="nowhere:x"), "hi", target)
    await executor.run(RunnableAgent(), "hi")
    (answer, failed, early) = posted.told
    assert answer == ("7", ("yes", []))
    assert failed[0] == early[0] == "7"
    assert isinstance(failed[1], str)
    assert str(early[1]).startswith("exec.")


async def test_row_33_identity_gives_callers_their_roles() -> None:
    tool = Work()
    tool.callers = frozenset({ADMIN})
    ports = Ports(identity=Listed(admins=["ann"]))
    seen: list[int] = []

    def reply(request: Request) -> str:
        seen.append(len(request.tools))
        return "ok"

    executor = executor_of(reply, tools=[tool], ports=ports)
    for caller in ("ann", "bob", ""):
        await executor.run(WORKER, "go", Invocation(caller_id=caller))
    assert seen == [1, 0, 0]


async def test_row_54_files_are_told_by_id_and_read_by_the_model() -> None:
    files = InMemoryInputFiles()
    read = [ToolUse("r", "read_input", {"id": "file_1"})]
    seen: list[str] = []

    def reply(request: Request) -> Any:
        seen.append(request.messages[-1].text)
        return read if len(seen) == 1 else "end"

    executor = executor_of(reply, ports=Ports(input_files=files))
    given = (InputFile("a.txt", b"inside"), InputFile("empty.txt", b""))
    result = await executor.run(RunnableAgent(), "look", Invocation(input_files=given))
    assert result.status == "ok"
    assert "file_1: a.txt" in seen[0]
    assert "inside" not in seen[0]
    assert result.run is not None
    assert "inside" in str(result.run.steps[0].content)
    assert result.warnings == ["left out: empty.txt: it is empty"]
    assert await files.read(result.run_id, "file_1", 0, 10) is None  # dropped


async def test_what_was_lent_to_a_run_is_not_remembered_after_it() -> None:
    executor = executor_of(["a", "b"], ports=Ports(input_files=InMemoryInputFiles()))
    for number in range(2):
        files = (InputFile(f"{number}.txt", b"inside"),)
        await executor.run(RunnableAgent(), "read", Invocation(input_files=files))
    reader = executor._host.reader
    assert reader is not None
    assert reader._lent == {}


async def test_row_81_files_that_tools_park_go_with_the_answer_once() -> None:
    parked = Attachments()

    async def act(context: ToolContext) -> str:
        parked.add(context.root_run_id, Artifact("plot.png", "image/png", b"x"))
        return "parked"

    posted = Posted()
    ports = Ports(attachments=parked, delivery=posted)
    executor = executor_of([use(), "end"], tools=[Work(act)], ports=ports)
    result = await executor.run(WORKER, "go", Invocation(delivery=Target("chat", "7")))
    assert [each.name for each in result.artifacts] == ["plot.png"]
    assert posted.told == [("7", ("end", ["plot.png"]))]
    assert len(parked) == 0


def test_waiting_in_the_lane_takes_nothing_of_a_runs_time_and_can_be_cancelled() -> None:
    async def main(world: World) -> tuple[RunResult, RunResult, RunResult]:
        async def slow(context: ToolContext) -> str:
            await world.sleep(50)
            return ""

        def reply(request: Request) -> Any:
            return "end" if len(request.messages) > 1 else use()

        lane = Lane("runs", 1, world=world)
        executor = executor_of(reply, tools=[Work(slow)], world=world, lane=lane)
        handles = [executor.start(WORKER, "go") for _ in range(3)]
        await world.sleep(1)
        handles[2].cancel()
        return await handles[0], await handles[1], await handles[2]

    first, second, third = simulate(main)
    assert (first.status, second.status, third.status) == ("ok", "ok", "cancelled")
    assert third.run is None


async def test_a_run_that_was_interrupted_is_resumed_by_the_executor() -> None:
    handles: list[RunHandle] = []

    async def act(context: ToolContext) -> str:
        if handles:
            handles.pop().cancel(Reason.SHUTDOWN)
            await asyncio.sleep(10)
        return "done"

    model = model_of([use(), "end"])
    executor = executor_of(model, tools=[Work(act)])
    handle = executor.start(WORKER, "go")
    handles.append(handle)
    assert (await handle).status == "suspended"
    result = await executor.resume(WORKER, handle.run_id)
    assert (result.status, result.output, len(model.requests)) == ("ok", "end", 2)
    again = await executor.resume(WORKER, handle.run_id)
    assert again.status == "error"


def test_row_51_a_shutdown_suspends_what_goes_on_and_cancels_what_waits() -> None:
    async def main(world: World) -> None:
        slow = True

        async def act(context: ToolContext) -> str:
            if slow:
                await world.sleep(5)
            return "done"

        work = Work(act)
        work.effects = frozenset({"write"})
        lane = Lane("runs", 1, world=world)
        executor = executor_of(
            lambda request: "end" if len(request.messages) > 1 else use(),
            tools=[work],
            world=world,
            lane=lane,
        )
        first, second = executor.start(WORKER, "go"), executor.start(WORKER, "go")
        await world.sleep(1)
        assert executor.shut_down(within_s=10)
        results = await first, await second
        assert [result.status for result in results] == ["suspended", "cancelled"]
        assert results[1].code is ExecutorErrorCode.EXEC_RUN_SHUTDOWN  # to be asked for again
        assert world.monotonic() < 6  # the call under way had its time
        assert not executor.shut_down()
        slow = False
        assert (await executor.resume(WORKER, first.run_id)).output == "end"

    simulate(main)


def test_what_has_not_begun_at_a_shutdown_is_to_be_asked_for_again_and_its_target_is_told() -> None:
    async def main(world: World) -> None:
        posted = Posted()
        log = AuditLog(MemoryAudit(), world=world, threads=False)
        executor = executor_of(
            model_of("hi", latency_s=5.0),
            world=world,
            lane=Lane("runs", 1, world=world),
            ports=Ports(delivery=posted, audit=log),
        )
        going = executor.start(WORKER_ALONE, "go", Invocation(delivery=Target("chat", "going")))
        await world.sleep(1)
        waits = executor.start(WORKER_ALONE, "go", Invocation(delivery=Target("chat", "waits")))
        await world.sleep(1)
        asked = executor.start(WORKER_ALONE, "go", Invocation(delivery=Target("chat", "asked")))
        assert executor.shut_down(0)
        assert (await going).status == "suspended"
        for handle in (waits, asked):
            result = await handle
            assert (result.status, result.code) == (
                "cancelled",
                ExecutorErrorCode.EXEC_RUN_SHUTDOWN,
            )
            assert result.exception is not None and "again" in result.exception.hint
            unknown = await executor.resume(WORKER_ALONE, handle.run_id)
            assert unknown.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN  # nothing to go on with
        assert sorted(posted.told) == [
            ("asked", "exec.run.shutdown"),
            ("waits", "exec.run.shutdown"),
        ]
        assert await log.run(going.run_id) is not None
        assert [row.run_id for row in await executor.journal.runs()] == [going.run_id]

    simulate(main)


def test_a_shutdown_takes_so_much_for_each_that_waits_however_many_do() -> None:
    def taken(many: int) -> int:
        async def main(world: World) -> int:
            lane = Lane("runs", 1, world=world)
            executor = executor_of(model_of("hi", latency_s=5.0), world=world, lane=lane)
            handles = [executor.start(WORKER_ALONE, "go") for _ in range(many)]
            await world.sleep(1)
            with calls() as taken:
                executor.shut_down()
            assert [(await handle).status for handle in handles].count("cancelled") == many - 1
            return taken[0]

        return simulate(main)

    assert taken(500) < 15 * taken(50)


def test_a_closed_executor_refuses_whatever_is_asked_of_it() -> None:
    async def main(world: World) -> None:
        model = model_of("hi", latency_s=5.0)
        executor = executor_of(model, world=world)
        left = executor.start(WORKER_ALONE, "go")
        await world.sleep(1)
        late = asyncio.create_task(executor.run(WORKER_ALONE, "go"))  # asked for, and not begun
        began = world.monotonic()
        await executor.aclose()
        results = [
            await late,
            await executor.run(WORKER_ALONE, "go"),
            await executor.start(WORKER_ALONE, "go"),
            await executor.resume(WORKER_ALONE, left.run_id),
            await executor.finish(WORKER_ALONE, left.run_id),
        ]
        assert world.monotonic() == began
        assert {result.code for result in results} == {ExecutorErrorCode.EXEC_RUN_SHUTDOWN}
        assert [result.status for result in results] == ["cancelled"] * 3 + ["suspended"] * 2
        assert results[1].error == "The executor is closed."
        assert len(model.requests) == 1
        assert [row.run_id for row in await executor.journal.runs()] == [left.run_id]
        await executor.aclose()

    simulate(main)


def test_whoever_closes_an_executor_waits_though_somebody_else_closes_it_too() -> None:
    async def main(world: World) -> None:
        executor = executor_of(model_of("hi", latency_s=5.0), world=world)
        handles = [executor.start(WORKER_ALONE, "go") for _ in range(2)]
        await world.sleep(1)
        await asyncio.gather(*[executor.aclose() for _ in range(3)])
        assert all(handle.task.done() for handle in handles)

    simulate(main)


def test_closing_does_not_wait_for_a_run_whose_task_was_cancelled_before_it_began() -> None:
    async def main(world: World) -> None:
        executor = executor_of(["hi"], world=world)
        handle = executor.start(WORKER_ALONE, "go", Invocation(run_id="R"))
        handle.task.cancel()
        await executor.aclose()
        assert handle.task.cancelled()

    simulate(main)


def test_a_run_that_waits_to_be_resumed_when_the_program_stops_is_still_suspended() -> None:
    async def main(world: World) -> None:
        model = model_of(lambda _: "hi", latency_s=2.0)
        executor = executor_of(model, world=world, lane=Lane("runs", 1, world=world))
        first = executor.start(WORKER_ALONE, "go")
        await world.sleep(1)
        first.cancel(Reason.SHUTDOWN)
        await first
        other = executor.start(WORKER_ALONE, "go")
        await world.sleep(1)
        resumed = asyncio.create_task(executor.resume(WORKER_ALONE, first.run_id))
        await world.sleep(0.5)
        await executor.aclose()
        result = await resumed
        assert (result.status, result.code) == ("suspended", ExecutorErrorCode.EXEC_RUN_SHUTDOWN)
        assert (await other).status == "suspended"

    simulate(main)


@pytest.mark.parametrize("agreed", [True, False])
async def test_a_call_that_a_person_decides_later_is_told_with_its_arguments(agreed: bool) -> None:
    tool, log, steps = Work(), AuditLog(MemoryAudit()), list[tuple[str, str]]()
    tool.effects, registry = frozenset({"send"}), ToolRegistry()
    registry.register(tool, granted=False)
    executor = executor_of(
        [use(n=5), "end"], tools=registry, approver=AskLater(), ports=Ports(audit=log)
    )
    asked = Invocation(on_step=lambda step: steps.append((step.state, step.summary)))
    waits = await executor.run(WORKER, "go", asked)
    assert (waits.code, steps) == (ExecutorErrorCode.EXEC_RUN_WAITING, [("running", "work n=5")])
    steps.clear()
    await mail.answer(executor.journal, waits.run_id, agreed)
    asked = replace(asked, run_id=waits.run_id)
    assert (await executor.resume(WORKER, waits.run_id, asked)).output == "end"
    (told,) = await log.records(waits.run_id, kind="tool")
    assert (told.data["name"], told.data["arguments"]) == ("work", {"n": 5})
    assert told.data["is_error"] is not agreed
    end = "complete" if agreed else "error"
    assert steps == [("running", "work n=5"), (end, "work n=5")]


OFF = {"kind": "set_stage_active", "stage": "cache", "active": False}


async def test_what_is_meant_for_a_run_reaches_no_other_whose_id_begins_so() -> None:
    """Such as one that still waits in a lane, and is in no journal."""
    tool, registry = Work(), ToolRegistry()
    tool.effects = frozenset({"send"})
    registry.register(tool, granted=False)
    executor = executor_of([use(n=5), "end"], tools=registry, approver=AskLater())
    await executor.run(WORKER, "go", Invocation(run_id="job_10"))
    journal = executor.journal
    for sent in (
        mail.answer(journal, "job_1", True),
        mail.send(journal, "job_1", "Hurry.", id="m"),
        mail.cancel(journal, "job_1"),
        mail.change(journal, "job_1", [OFF], id="c"),
        executor.abandon("job_1"),
    ):
        with pytest.raises(LorimerError) as raised:
            await sent
        assert raised.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
    row = await journal.find_run("job_10")
    assert row is not None and not row.status
    assert await journal.posts(row.stream) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_of_a_process_that_died_is_resumed_once_its_claim_has_run_out(stopped: bool) -> None:
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)

    def reply(request: Request) -> Any:
        return "end" if len(request.messages) > 1 else use()

    def executor() -> Executor:
        return executor_of(model_of(reply), tools=[Work()], world=world, journal=journal)

    async def first(world: World) -> None:
        async def act(context: ToolContext) -> str:
            await world.sleep(60)
            return "late"

        dies = executor_of(model_of(reply), tools=[Work(act)], world=world, journal=journal)
        await dies.run(WORKER, "go", Invocation(run_id="R"))

    with pytest.raises(SimulatedCrash):
        simulate_in(world, first, crash_at_s=20)

    async def second(world: World) -> None:
        after, began = executor(), world.monotonic()
        refused = await after.resume(WORKER, "R")
        assert refused.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        waits = asyncio.create_task(after.resume(WORKER, "R", wait_s=60))
        await world.sleep(1)
        if stopped:  # it does not wait on
            await after.aclose()
            assert (await waits).status == "suspended"
            assert world.monotonic() - began < 3
        else:
            result = await waits
            assert (result.status, result.output) == ("ok", "end")
            assert 5 < world.monotonic() - began < 35

    simulate_in(world, second)


def test_who_wants_to_resume_a_run_that_another_has_says_nothing_of_its_end() -> None:
    async def main(world: World) -> None:
        log = AuditLog(MemoryAudit(), world=world, threads=False)
        ports = Ports(audit=log)
        model = model_of(lambda _: "hi", latency_s=5.0)
        one = executor_of(model, world=world, ports=ports)
        other = executor_of(model, world=world, journal=one.journal, ports=ports)
        going = one.start(WORKER_ALONE, "go", Invocation(run_id="R"))
        await world.sleep(1)
        waits = asyncio.create_task(other.resume(WORKER_ALONE, "R", wait_s=60))
        await world.sleep(1)
        assert (await going).status == "ok"
        assert (await waits).code is ExecutorErrorCode.EXEC_RUN_ENDED
        (told,) = await log.runs()
        assert told.close is not None
        assert (told.close.status, told.close.output) == ("ok", "hi")
        kinds = [each.kind for each in await log.records("R")]
        assert (kinds.count("start"), kinds.count("close")) == (2, 1)

    simulate(main)


@pytest.mark.parametrize("phases", [(), (Phase("only", "Work."),)], ids=["", "in phases"])
def test_the_audit_is_not_left_open_by_who_was_about_to_resume_a_run_when_it_ended(
    phases: tuple[Phase, ...],
) -> None:
    agent = replace(WORKER, phases=phases)

    def reply(request: Request) -> Any:
        return "hi" if len(request.messages) > 1 else use()

    class Slow:
        """A directory that takes its time."""

        async def is_admin(self, caller_id: str) -> bool:
            await world.sleep(8)
            return False

        async def groups(self, caller_id: str) -> list[str]:
            return []

    async def main(world: World) -> None:
        log, posted = AuditLog(MemoryAudit(), world=world, threads=False), Posted()
        model = model_of(reply, latency_s=3.0)
        ports = Ports(audit=log, delivery=posted)
        one = executor_of(model, tools=[Work()], world=world, ports=ports)
        other = executor_of(
            model,
            tools=[Work()],
            world=world,
            journal=one.journal,
            ports=replace(ports, identity=Slow()),
        )
        asked = Invocation(run_id="R", caller_id="ann", delivery=Target("chat", "7"))
        going = one.start(agent, "go", asked)
        await world.sleep(1)
        late = asyncio.create_task(other.resume(agent, "R", asked))
        assert (await going).status == "ok"
        assert (await late).code is ExecutorErrorCode.EXEC_RUN_ENDED
        assert await log.runs(unfinished=True) == []
        (told,) = await log.runs()
        assert told.close is not None
        assert (told.close.status, told.close.output, told.close.tool_calls) == ("ok", "hi", 1)
        assert len(posted.told) == 1

    world = SimulatedWorld(1)
    simulate_in(world, main)


def test_a_run_whose_agent_is_not_there_any_more_is_given_up_and_its_ports_are_told() -> None:
    async def main(world: World) -> None:
        model = model_of(lambda _: "hi", latency_s=2.0)
        budget, log, posted = CallerBudgets(usd=1), AuditLog(MemoryAudit(), threads=False), Posted()
        ports = Ports(budget=budget, audit=log, delivery=posted)
        executor = executor_of(model, world=world, ports=ports)
        asked = Invocation(run_id="R", caller_id="ann", delivery=Target("chat", "7"))
        handle = executor.start(WORKER_ALONE, "go", asked)
        await world.sleep(1)
        with pytest.raises(PipelineError) as raised:
            await executor.abandon("R")
        assert raised.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
        handle.cancel(Reason.SHUTDOWN)
        assert (await handle).status == "suspended"
        changed = replace(WORKER_ALONE, prompt="Another.")
        diverged = await executor.resume(changed, "R", asked)
        assert diverged.code is ExecutorErrorCode.EXEC_JOURNAL_DIVERGED
        await executor.abandon("R")
        assert (await executor.finish(changed, "R", asked)).status == "cancelled"
        assert posted.told == [("7", "exec.run.cancelled")]
        (told,) = await log.runs()
        assert told.close is not None
        assert told.close.status == "cancelled"
        assert (await executor.journal.used(budget.purse("ann"))).reserved == 0
        with pytest.raises(PipelineError) as raised:
            await executor.abandon("R")
        assert raised.value.code is ExecutorErrorCode.EXEC_RUN_ENDED

    simulate(main)


async def test_ports_do_not_hear_of_a_run_that_goes_on_with_the_one_it_is_part_of() -> None:
    """Of the unfinished runs of a journal a host tries to resume every one."""
    handles: list[RunHandle] = []

    def reply(request: Request) -> Any:
        said = len(request.messages) > 1
        if not said and not any(tool.name == "work" for tool in request.tools):
            return [ToolUse("c", "agent__worker", {"prompt": "go"})]
        return "end" if said else use()

    async def act(context: ToolContext) -> str:
        if handles:
            handles.pop().cancel(Reason.SHUTDOWN)
        return "done"

    log, posted = AuditLog(MemoryAudit()), Posted()
    palette = FixedPalette(agents=[WORKER])
    ports = Ports(audit=log, delivery=posted, palette=palette)
    executor = executor_of(reply, tools=[Work(act)], ports=ports)
    boss = RunnableAgent("boss", agents=("worker",))
    asked = Invocation(run_id="R", delivery=Target("chat", "7"))
    handles.append(handle := executor.start(boss, "go", asked))
    assert (await handle).status == "suspended"
    rows = await executor.journal.runs(unfinished=True)
    assert len(rows) == 2
    results = {row.run_id: await executor.resume(boss, row.run_id, asked) for row in rows}
    assert results.pop("R").output == "end"
    (child,) = results.values()
    assert child.code is ExecutorErrorCode.EXEC_CHILD_PART
    begun = [each.run_id for each in await log.records(kind="start")]
    assert begun == ["R", child.run_id, "R", child.run_id]  # as part of it, before and after
    assert await log.records(kind="log") == []
    assert len(posted.told) == 1


async def test_the_result_of_a_run_is_there_for_any_process_and_tells_nobody() -> None:
    model = model_of([use(), "end"])
    posted = Posted()
    first = executor_of(model, tools=[Work()], ports=Ports(delivery=posted))
    asked = Invocation(run_id="run_1", delivery=Target("chat", "7"))
    result = await first.run(WORKER, "go", asked)
    other = executor_of([], journal=first.journal, ports=Ports(delivery=posted))
    found = await other.result("run_1")
    assert (found.status, found.output, found.steps) == ("ok", "end", result.steps)
    assert (found.usage, found.cost_nano) == (result.usage, result.cost_nano)
    assert found.messages == result.messages
    assert len(posted.told) == 1
    with pytest.raises(PipelineError) as raised:
        await other.result("run_")
    assert raised.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN


async def test_ports_are_told_of_a_run_whose_process_died_after_its_end() -> None:
    def reply(request: Request) -> Any:
        return "end" if len(request.messages) > 1 else use()

    journal = MemoryJournal()
    asked = Invocation(run_id="run_1", caller_id="ann", delivery=Target("chat", "7"))
    before = executor_of(reply, tools=[Work()], journal=journal)  # it never told anybody
    first = await before.run(WORKER, "go", asked)
    log, posted, model = AuditLog(MemoryAudit()), Posted(), model_of(reply)
    ports = Ports(audit=log, delivery=posted)
    after = executor_of(model, tools=[Work()], journal=journal, ports=ports)
    result = await after.finish(WORKER, "run_1", asked)
    assert (result.status, result.output, result.steps) == ("ok", "end", first.steps)
    assert (result.usage, result.cost_nano) == (first.usage, first.cost_nano)
    assert posted.told == [("7", ("end", []))]
    (told,) = await log.runs(caller_id="ann")
    assert told.close is not None
    assert (told.close.status, told.close.output, told.close.tool_calls) == ("ok", "end", 1)
    assert model.requests == []
    unknown = await after.finish(WORKER, "run_2")
    assert unknown.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
    assert len(posted.told) == 1


def test_a_run_that_ended_just_now_is_left_to_whoever_ran_it() -> None:
    async def main(world: World) -> None:
        class Slow(Posted):
            async def deliver(
                self, target: Target, output: str, artifacts: Sequence[Artifact]
            ) -> str:
                await world.sleep(5)
                return await super().deliver(target, output, artifacts)

        log, posted = AuditLog(MemoryAudit(), world=world, threads=False), Slow()
        ports = Ports(audit=log, delivery=posted)
        one = executor_of(["end"], world=world, ports=ports)
        other = executor_of([], world=world, journal=one.journal, ports=ports)
        asked = Invocation(run_id="R", delivery=Target("chat", "7"))
        going = one.start(WORKER_ALONE, "go", asked)
        await world.sleep(1)
        left = await other.finish(WORKER_ALONE, "R", asked, after_s=60)
        assert left.code is ExecutorErrorCode.EXEC_RUN_BUSY
        assert (await going).status == "ok"
        assert [each.kind for each in await log.records("R")].count("close") == 1
        assert len(posted.told) == 1
        await world.sleep(60)
        assert (await other.finish(WORKER_ALONE, "R", asked, after_s=60)).status == "ok"
        assert len(posted.told) == 2

    simulate(main)


def test_a_run_ended_when_it_was_given_up_not_when_it_was_interrupted() -> None:
    async def main(world: World) -> None:
        executor = executor_of(model_of("late", latency_s=5.0), world=world)
        going = executor.start(WORKER_ALONE, "go")
        await world.sleep(1)
        going.cancel(Reason.SHUTDOWN)
        await going
        await world.sleep(300)
        await executor.abandon(going.run_id)
        await world.sleep(30)
        early = await executor.finish(WORKER_ALONE, going.run_id, after_s=60)
        assert early.code is ExecutorErrorCode.EXEC_RUN_BUSY
        await world.sleep(31)
        told = await executor.finish(WORKER_ALONE, going.run_id, after_s=60)
        assert (told.status, told.run is not None) == ("cancelled", True)

    simulate(main)


def test_ports_are_told_of_an_end_though_the_lane_is_full() -> None:
    async def main(world: World) -> None:
        posted = Posted()
        model = model_of(lambda _: "hi", latency_s=50.0)
        lane = Lane("runs", 1, world=world)
        executor = executor_of(model, world=world, lane=lane, ports=Ports(delivery=posted))
        quick = executor_of(["end"], world=world, journal=executor.journal)
        await quick.run(WORKER_ALONE, "go", Invocation(run_id="R"))
        going = executor.start(WORKER_ALONE, "go")
        await world.sleep(1)
        asked = Invocation(delivery=Target("chat", "7"))
        assert (await executor.finish(WORKER_ALONE, "R", asked)).output == "end"
        assert (len(posted.told), lane.stats().running, world.monotonic() < 5) == (1, 1, True)
        assert (await going).output == "hi"

    simulate(main)


async def test_files_that_were_parked_before_a_suspension_go_with_the_answer() -> None:
    parked, posted, handles = Attachments(), Posted(), list[RunHandle]()

    async def act(context: ToolContext) -> str:
        parked.add(context.root_run_id, Artifact("plot.png", "image/png", b"x"))
        handles.pop().cancel(Reason.SHUTDOWN)
        return "parked"

    ports = Ports(attachments=parked, delivery=posted)
    executor = executor_of([use(), "end"], tools=[Work(act)], ports=ports)
    asked = Invocation(run_id="R", delivery=Target("chat", "7"))
    handles.append(handle := executor.start(WORKER, "go", asked))
    waits = await handle
    assert (waits.status, waits.artifacts, len(parked)) == ("suspended", [], 0)
    unknown = replace(WORKER, tools=("wrok",))
    assert (await executor.resume(unknown, "R", asked)).status == "error"
    result = await executor.resume(WORKER, "R", asked)
    assert [each.name for each in result.artifacts] == ["plot.png"]
    assert posted.told == [("7", ("end", ["plot.png"]))]


def test_suspended_runs_hold_so_many_bytes_of_files_and_no_more() -> None:
    parked = Attachments()
    for number in range(5):
        parked.open(f"R{number}")
        parked.add(f"R{number}", Artifact("a", "text/plain", bytes(45_000_000)))
        parked.rest(f"R{number}")
    for number in range(5):
        parked.open(f"R{number}")
    assert [len(parked.drain(f"R{number}")) for number in range(5)] == [0, 1, 1, 1, 1]


async def test_a_setting_gives_runs_a_ceiling_of_money_that_the_executor_has_none_for() -> None:
    limits = Limits(max_cost_usd=None)
    settings = {"LORIMER_RUN_MAX_COST_USD": "0.0001"}
    ports = Ports(config=EnvironmentConfig(environment=settings))
    executor = executor_of(lambda _: "hi", ports=ports, limits=limits)
    refused = await executor.run(WORKER_ALONE, "go")
    assert refused.code is ExecutorErrorCode.EXEC_LIMIT_COST
    settings.clear()
    assert (await executor.run(WORKER_ALONE, "go")).output == "hi"


def test_row_33_settings_of_the_host_hold_for_the_runs_that_begin_next() -> None:
    async def main(world: World) -> None:
        settings = {"LORIMER_RUN_MAX_TURNS": "2", "LORIMER_LANES_RUNS_MAX_CONCURRENT": "2"}
        lane = Lane("runs", 1, world=world)
        model = model_of(
            lambda request: use(n=len(request.messages), id=f"c{len(request.messages)}")
        )
        ports = Ports(config=EnvironmentConfig(environment=settings))
        executor = executor_of(model, tools=[Work()], world=world, lane=lane, ports=ports)
        first = await executor.run(WORKER, "go")
        assert (first.code, len(first.steps)) == (ExecutorErrorCode.EXEC_LOOP_MAX_TURNS, 2)
        assert lane.max_concurrent == 2
        settings["LORIMER_RUN_MAX_TURNS"] = "3"
        assert len((await executor.run(WORKER, "go")).steps) == 3
        own = RunnableAgent("own", tools=("work",), max_turns=1)  # an agent's own come first
        assert len((await executor.run(own, "go")).steps) == 1
        settings["LORIMER_RUN_MAX_TURNS"] = "many"
        assert len((await executor.run(WORKER, "go")).steps) == 12  # told in the log, once
        for said in ("many", "3", ""):  # the lane's own holds where they say none
            settings["LORIMER_LANES_RUNS_MAX_CONCURRENT"] = said
            await executor.run(own, "go")
            assert lane.max_concurrent == (3 if said == "3" else 1)
        lane.set_max_concurrent(4)  # nor is what the host does then undone
        await executor.run(own, "go")
        assert lane.max_concurrent == 4

    simulate(main)


def test_the_audit_has_the_time_that_a_run_ran_not_that_in_the_lane_or_of_a_person() -> None:
    async def main(world: World) -> dict[str, float]:
        class Thinks:
            async def approve(self, tool: str, summary: str, reason: str) -> bool:
                await world.sleep(1000)
                return True

        tools = ToolRegistry()
        tools.register(Work(), granted=False)
        log = AuditLog(MemoryAudit(), world=world, threads=False)

        def reply(request: Request) -> Any:
            asks = request.messages[0].text == "ask" and len(request.messages) == 1
            return use(id="c1") if asks else "end"

        executor = executor_of(
            model_of(reply, latency_s=7.0),
            tools=tools,
            world=world,
            lane=Lane("runs", 1, world=world),
            ports=Ports(audit=log),
            approver=Thinks(),
        )
        going = [
            executor.start(WORKER, text, Invocation(run_id=text)) for text in ("one", "two", "ask")
        ]
        assert [(await each).status for each in going] == ["ok", "ok", "ok"]
        runs = await log.runs()
        return {each.start.run_id: each.close.runtime_s for each in runs if each.close}

    assert simulate(main) == {
        "one": pytest.approx(7.0),
        "two": pytest.approx(7.0),
        "ask": pytest.approx(14.0),
    }


async def test_a_clock_that_was_set_back_keeps_no_end_from_being_reported() -> None:
    class Set(RealWorld):
        back_s = 0.0

        def time(self) -> float:
            return super().time() - self.back_s

    world = Set()
    posted = Posted()
    executor = executor_of(["end"], world=world, ports=Ports(delivery=posted))
    asked = Invocation(run_id="R", delivery=Target("chat", "7"))
    await executor.run(WORKER_ALONE, "go", replace(asked, delivery=None))
    world.back_s = 3600.0
    told = await executor.finish(WORKER_ALONE, "R", asked)
    assert (told.status, told.output, len(posted.told)) == ("ok", "end", 1)
    left = await executor.finish(WORKER_ALONE, "R", asked, after_s=60)
    assert left.code is ExecutorErrorCode.EXEC_RUN_BUSY
    assert left.error.startswith("Run R ended less than 60 s ago")


@pytest.mark.parametrize("down_first", [True, False])
def test_a_run_is_resumed_though_its_files_could_be_stored_only_once(down_first: bool) -> None:
    class Down(InMemoryInputFiles):
        async def stage(self, run_id: str, id: str, file: InputFile) -> None:
            raise OSError("down")

    async def main(world: World) -> None:
        ports = [Down(), InMemoryInputFiles()]
        journal = MemoryJournal(world)
        model = model_of(["late", "end"], latency_s=5.0)
        before, after = [
            executor_of(model, world=world, journal=journal, ports=Ports(input_files=each))
            for each in (ports if down_first else reversed(ports))
        ]
        asked = Invocation(run_id="R", input_files=(InputFile("a.txt", b"text"),))
        going = before.start(WORKER_ALONE, "go", asked)
        await world.sleep(1)
        before.shut_down()
        assert (await going).status == "suspended"
        result = await after.resume(WORKER_ALONE, "R", asked)
        assert (result.status, result.error) == ("ok", "")
        down = going.task.result() if down_first else result
        assert down.warnings == ["left out: a.txt: it could not be kept"]

    simulate(main)


@pytest.mark.parametrize("why", ["no tools", "no palette", "cancelled"])
def test_a_run_that_could_not_be_resumed_has_not_ended_in_the_audit(why: str) -> None:
    async def main(world: World) -> None:
        async def tools(session: ToolSession) -> SessionTools:
            await world.sleep(1)
            raise OSError("no browser")

        log = AuditLog(MemoryAudit(), world=world, threads=False)
        ports = Ports(audit=log, palette=FixedPalette([WORKER]))
        model = model_of(["late", "end"], latency_s=5.0)
        executor = executor_of(model, world=world, ports=ports, tools=[Work()])
        boss = RunnableAgent("boss", agents=("worker",))
        going = executor.start(boss, "go", Invocation(run_id="R"))
        await world.sleep(3)
        executor.shut_down()
        assert (await going).status == "suspended"
        palette = FixedPalette() if why == "no palette" else None
        asked = Invocation(session_tools=None if palette else tools, palette=palette)
        resuming = asyncio.create_task(executor.resume(boss, "R", asked))
        await world.sleep(0.5)
        if why == "cancelled":
            resuming.cancel()
        await asyncio.wait([resuming])
        (run,) = await log.runs(unfinished=True)
        assert (run.start.run_id, run.close) == ("R", None)
        assert (await executor.resume(boss, "R")).output == "end"
        (run,) = await log.runs()
        assert run.close is not None
        assert (run.close.status, run.close.output) == ("ok", "end")

    simulate(main)


async def test_files_of_a_run_that_somebody_starts_who_was_given_work_go_with_the_root() -> None:
    parked = Attachments()

    @tool(effects=[])
    def draw(name: str, context: ToolContext) -> str:
        """Draw."""
        parked.add(context.root_run_id, Artifact(name, "text/plain", b"x"))
        return "drawn"

    @tool(effects=[])
    async def ask(name: str) -> ToolResult:
        """Ask an artist."""
        artist = RunnableAgent("artist", prompt=f"artist {name}", tools=("draw",))
        result = await executor.run(artist, "draw")
        assert result.artifacts == []
        return result.as_tool_result()

    def reply(request: Request) -> Any:
        if len(request.messages) > 1:
            return "end"
        who, _, name = request.system.partition(" ")
        return {
            "boss": [
                ToolUse("c1", "ask", {"name": "a"}),
                ToolUse("c2", "agent__clerk", {"prompt": "go"}),
            ],
            "clerk": [ToolUse("c3", "ask", {"name": "b"})],
            "artist": [ToolUse("c4", "draw", {"name": name})],
        }[who]

    clerk = RunnableAgent("clerk", prompt="clerk", tools=("ask",))
    ports = Ports(attachments=parked, palette=FixedPalette([clerk]))
    executor = executor_of(reply, tools=[draw, ask], ports=ports)
    boss = RunnableAgent("boss", prompt="boss", tools=("ask",), agents=("clerk",))
    result = await executor.run(boss, "go")
    assert (result.status, result.error, result.warnings) == ("ok", "", [])
    assert sorted(each.name for each in result.artifacts) == ["a", "b"]
    assert len(parked) == 0
