"""What an executor promises of each run: rows of the kernel's specification, by number."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode, PipelineError
from lorimer.core.limits import Limits
from lorimer.core.messages import ImageBlock, TextBlock
from lorimer.core.request import Request
from lorimer.core.tool import Approver
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.recording import used_s
from lorimer.models import Models
from lorimer.run import (
    AuditLog,
    Executor,
    Invocation,
    Phase,
    Ports,
    RunnableAgent,
    RunResult,
    RunStep,
)
from lorimer.run.steps import MAX_SUMMARY
from lorimer.run.stores import MemoryAudit
from lorimer.testing import simulate
from lorimer.tools import AskLater, Tool, ToolContext, ToolResult
from tests.run.support import WORKER, executor_of, model_of, use

pytestmark = pytest.mark.anyio


class Work(Tool):
    name = "work"
    description = "Work."
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})

    def __init__(self, act: Any = None) -> None:
        self.act = act
        self.calls = 0

    async def execute(self, input: Any, context: ToolContext) -> ToolResult:
        self.calls += 1
        return ToolResult(await self.act(context) if self.act is not None else "done")


async def test_row_3_an_executor_without_ports_completes_a_bounded_run_in_memory() -> None:
    result = await executor_of(["hello"]).run(RunnableAgent(), "hi")
    assert (result.status, result.output, result.success) == ("ok", "hello", True)


def test_row_6_an_executor_without_models_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match="needs models"):
        Executor()


async def test_row_7_defaults_hold_where_an_agent_says_nothing_or_nonsense() -> None:
    executor = executor_of(["x"])
    for agent in (RunnableAgent(), RunnableAgent(max_turns=-1, timeout_s=0.0)):
        run = (await executor.run(agent, "hi")).run
        assert run is not None
        assert "limits" not in run.events[0].data  # the manifest's
    manifest = executor_of([]).manifest(WORKER)
    assert manifest.limits == Limits(
        max_turns=12, timeout_s=60.0, max_cost_usd=5.0, allow_unpriced=True
    )
    assert manifest.stages["loop"].strategy_configs["guards"]["identical"]["stop_after"] == 3
    assert manifest.stages["loop"].strategy_configs["guards"]["error_streak"]["stop_after"] == 3
    assert manifest.stages["context"].config["compact_at"] == 0.7
    assert Executor(models=Models()).manifest(RunnableAgent()).model.model == "fast"


async def test_row_8_what_an_agent_says_comes_before_the_defaults() -> None:
    manifest = executor_of([]).manifest(
        RunnableAgent(model="scripted:y", max_turns=3, timeout_s=5.0)
    )
    assert (manifest.model.model, manifest.limits.max_turns) == ("scripted:y", 3)
    assert manifest.limits.timeout_s == 5.0


async def test_row_10_a_model_that_cannot_be_used_is_an_error_that_names_it() -> None:
    result = await executor_of(["x"]).run(RunnableAgent(model="nowhere:x"), "hi")
    assert result.status == "error"
    assert "nowhere:x" in result.error
    assert result.run is None


@pytest.mark.parametrize(
    ("header", "prompt", "system"),
    [("H", "P", "H\n\nP"), ("H", "", "H"), ("", "P", "P"), ("", "", "")],
    ids=["both", "header", "prompt", "none"],
)
async def test_row_12_the_system_prompt_is_header_blank_line_prompt(
    header: str, prompt: str, system: str
) -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return "ok"

    await executor_of(reply, system_header=header).run(RunnableAgent(prompt=prompt), "hi")
    assert seen[0].system == system


@pytest.mark.parametrize("text", ["${HOME}", "$${HOME}", "$$${HOME}", "$HOME ${home}"])
async def test_what_looks_like_a_variable_in_a_prompt_is_text(text: str) -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return "ok"

    executor = executor_of(reply, system_header=text, variables={"NAME": "Ann"})
    result = await executor.run(RunnableAgent(prompt=f"{text} for ${{NAME}}"), "hi")
    assert (result.status, seen[0].system) == ("ok", f"{text}\n\n{text} for Ann")


def test_row_13_a_run_ends_at_its_own_time_limit() -> None:
    async def main(world: World) -> tuple[RunResult, float]:
        async def hang(context: ToolContext) -> str:
            await world.sleep(1000)
            return ""

        executor = executor_of([use(), "x"], tools=[Work(hang)], world=world)
        began = world.monotonic()
        result = await executor.run(WORKER, "go")
        return result, world.monotonic() - began

    result, took = simulate(main)
    assert (result.status, result.code) == ("timeout", ExecutorErrorCode.EXEC_LIMIT_TIMEOUT)
    assert 60 <= took < 61


class Slow:
    """Agrees to everything, after so many seconds."""

    def __init__(self, world: World, after_s: float) -> None:
        self.world = world
        self.after_s = after_s

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        await self.world.sleep(self.after_s)
        return True


def test_row_13_while_a_person_is_asked_no_time_is_used() -> None:
    async def main(world: World) -> tuple[RunResult, float, float]:
        async def hang(context: ToolContext) -> str:
            await world.sleep(1000)
            return ""

        work = Work(hang)
        work.effects = frozenset({"write"})
        work.approval = "it writes"
        person = Slow(world, 300.0)
        executor = executor_of([use(), "x"], tools=[work], world=world, approver=person)
        result = await executor.run(WORKER, "go")
        assert result.run is not None
        return result, world.monotonic(), used_s(result.run.events)

    result, took, used = simulate(main)
    assert result.status == "timeout"
    assert 360 <= took < 361
    assert 60 <= used < 61


def test_row_13_nor_is_it_while_a_person_is_asked_after_a_resume() -> None:
    async def main(world: World) -> list[str]:
        journal = MemoryJournal(world)

        def executor(approver: Approver, works_s: float = 0.0) -> Executor:
            async def act(context: ToolContext) -> str:
                await world.sleep(works_s)
                return ""

            work = Work(act)
            work.effects = frozenset({"write"})
            work.approval = "it writes"
            return executor_of(
                [use(), "x"], tools=[work], world=world, journal=journal, approver=approver
            )

        waits = await executor(AskLater()).run(WORKER, "go")
        asked = executor(Slow(world, 300.0), works_s=50.0)
        going = asyncio.create_task(asked.resume(WORKER, waits.run_id))
        await world.sleep(310)
        asked.shut_down(0)
        left = await going
        assert left.run is not None and used_s(left.run.events) < 15
        ended = await executor(Slow(world, 0.0)).resume(WORKER, waits.run_id)
        return [waits.status, left.status, ended.status]

    assert simulate(main) == ["suspended", "suspended", "ok"]


def test_row_14_cancelling_the_caller_ends_the_run_at_once_and_is_raised() -> None:
    async def main(world: World) -> tuple[float, str]:
        async def hang(context: ToolContext) -> str:
            await world.sleep(50)
            return ""

        executor = executor_of([use(), "x"], tools=[Work(hang)], world=world)
        task = asyncio.create_task(executor.run(WORKER, "go"))
        await world.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = await executor.journal.runs()
        return world.monotonic(), row.status

    took, status = simulate(main)
    assert (took < 2, status) == (True, "cancelled")


def test_a_handle_cancels_without_raising() -> None:
    async def main(world: World) -> RunResult:
        async def hang(context: ToolContext) -> str:
            await world.sleep(50)
            return ""

        executor = executor_of([use(), "x"], tools=[Work(hang)], world=world)
        handle = executor.start(WORKER, "go")
        await world.sleep(1)
        handle.cancel()
        return await handle

    result = simulate(main)
    assert (result.status, [step.state for step in result.steps]) == ("cancelled", ["error"])


def test_cancelling_whoever_waits_for_a_handle_ends_the_run_and_is_raised() -> None:
    async def main(world: World) -> None:
        async def hang(context: ToolContext) -> str:
            await world.sleep(50)
            return ""

        executor = executor_of([use(), "x"], tools=[Work(hang)], world=world)
        handle = executor.start(WORKER, "go")
        waits = asyncio.create_task(handle.wait())
        await world.sleep(1)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert handle.task.done()
        assert (await handle).status == "cancelled"
        assert [row.status for row in await executor.journal.runs()] == ["cancelled"]

    simulate(main)


async def test_a_store_that_raises_anything_at_all_ends_in_a_result() -> None:
    class Odd(MemoryJournal):
        async def claim(self, stream: str, owner: str, ttl: float) -> int:
            raise OSError("no such disk")

    result = await executor_of(["x"], journal=Odd()).run(RunnableAgent(), "go")
    assert (result.status, result.error) == ("error", "The run failed: OSError: no such disk")
    assert result.code is ExecutorErrorCode.EXEC_STAGE_FAILED


def test_a_handle_that_is_cancelled_before_its_run_begins_makes_no_call() -> None:
    async def main(world: World) -> tuple[RunResult, int]:
        model = model_of(["x"])
        handle = executor_of(model, world=world).start(RunnableAgent(), "go")
        handle.cancel()
        return await handle, len(model.requests)

    result, calls = simulate(main)
    assert (result.status, calls) == ("cancelled", 0)


async def test_row_16_a_failed_run_carries_what_it_did() -> None:
    executor = executor_of([use(), RuntimeError("broken")], tools=[Work()])
    result = await executor.run(WORKER, "go")
    assert result.status == "error"
    assert [step.kind for step in result.steps] == ["work"]
    assert result.usage.input_tokens >= 100
    assert result.cost_nano > 0
    assert result.messages


async def test_row_18_runs_at_once_share_nothing() -> None:
    def reply(request: Request) -> Any:
        name = request.messages[0].text
        return "end " + name if len(request.messages) > 1 else use(id=f"c_{name}", who=name)

    executor = executor_of(reply, tools=[Work()])
    seen: dict[str, list[RunStep]] = {str(n): [] for n in range(20)}
    results = await asyncio.gather(
        *[executor.run(WORKER, n, Invocation(on_step=seen[n].append)) for n in seen]
    )
    for name, result in zip(seen, results, strict=True):
        assert result.output == f"end {name}"
        assert [step.summary for step in result.steps] == [f"work who={name}"]
        assert [step.state for step in seen[name]] == ["running", "complete"]
    assert len({result.run_id for result in results}) == 20


async def test_row_21_tool_errors_in_a_row_end_the_run() -> None:
    async def fail(context: ToolContext) -> str:
        raise ValueError("no")

    model = model_of(lambda request: use(id=f"c{len(request.messages)}", n=len(request.messages)))
    result = await executor_of(model, tools=[Work(fail)]).run(WORKER, "go")
    assert result.code is ExecutorErrorCode.EXEC_LOOP_ERROR_STREAK
    assert len(result.steps) == 3


async def test_row_22_the_same_call_again_and_again_ends_the_run() -> None:
    model = model_of(lambda request: use(id=f"c{len(request.messages)}"))
    result = await executor_of(model, tools=[Work()]).run(WORKER, "go")
    assert result.code is ExecutorErrorCode.EXEC_LOOP_IDENTICAL
    assert len(result.steps) == 3


async def test_row_23_the_ceiling_of_steps_is_an_error_with_the_transcript() -> None:
    model = model_of(lambda request: use(id=f"c{len(request.messages)}", n=len(request.messages)))
    agent = RunnableAgent(tools=("work",), max_turns=4)
    result = await executor_of(model, tools=[Work()]).run(agent, "go")
    assert result.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS
    assert len(result.messages) == 9


async def test_row_24_an_unknown_tool_and_one_that_raises_are_results_for_the_model() -> None:
    async def fail(context: ToolContext) -> str:
        raise ValueError("no")

    replies = [use("wrok"), use(n=1), "gave up"]
    result = await executor_of(replies, tools=[Work(fail)]).run(WORKER, "go")
    assert (result.status, result.output) == ("ok", "gave up")
    assert [step.state for step in result.steps] == ["error", "error"]


async def test_row_26_steps_are_there_without_a_callback_and_live_with_one() -> None:
    for asynchronous in (False, True):
        seen: list[RunStep] = []

        async def later(step: RunStep, seen: list[RunStep] = seen) -> None:
            await asyncio.sleep(0)
            seen.append(step)

        invocation = Invocation(on_step=later if asynchronous else seen.append)
        executor = executor_of([use(), use(n=1), "end"], tools=[Work()])
        result = await executor.run(WORKER, "go", invocation)
        assert [step.id for step in result.steps] == ["work_0", "work_1"]
        ids = [(step.id, step.state) for step in seen]
        assert ids == [
            (call, state) for call in ("work_0", "work_1") for state in ("running", "complete")
        ]


async def test_what_the_model_says_is_told_piece_by_piece_each_run_its_own() -> None:
    said: dict[str, list[str | None]] = {"a": [], "b": []}

    def reply(request: Request) -> Any:
        return f"to {request.messages[0].text} again"

    executor = executor_of(reply)

    def asked(name: str) -> Invocation:
        return Invocation(on_text=said[name].append)

    quiet = executor.run(RunnableAgent(), "c")
    results = await asyncio.gather(
        *[executor.run(RunnableAgent(), name, asked(name)) for name in said], quiet
    )
    assert {result.status for result in results} == {"ok"}
    for name, pieces in said.items():
        assert len(pieces) > 1
        assert "".join([piece or "" for piece in pieces]) == f"to {name} again"

    def gone(piece: str | None) -> None:
        raise OSError("the client has gone")

    result = await executor.run(RunnableAgent(), "a", Invocation(on_text=gone))
    assert result.output == "to a again"


def test_an_answer_that_begins_anew_is_told_so() -> None:
    lost = APIError("lost", code=ExecutorErrorCode.EXEC_API_NETWORK)
    told: list[str | None] = []
    phases = (Phase("one", bare=True), Phase("two", bare=True))
    replies = ["first", [TextBlock("sec"), lost], "second"]

    async def main(world: World) -> RunResult:
        asked = Invocation(on_text=told.append)
        executor = executor_of(replies, world=world)
        return await executor.run(RunnableAgent("a", phases=phases), "x", asked)

    result = simulate(main)
    assert (result.status, result.output) == ("ok", "second")
    assert told == ["first", "sec", None, "second"]


async def test_an_observer_that_raises_changes_nothing() -> None:
    def broken(step: RunStep) -> None:
        raise RuntimeError("broken observer")

    executor = executor_of([use(), "end"], tools=[Work()])
    result = await executor.run(WORKER, "go", Invocation(on_step=broken))
    assert result.status == "ok"


def test_an_observer_that_hangs_is_left() -> None:
    async def main(world: World) -> tuple[RunResult, float]:
        async def hang(step: RunStep) -> None:
            await world.sleep(1000)

        executor = executor_of([use(), "end"], tools=[Work()], world=world)
        result = await executor.run(WORKER, "go", Invocation(on_step=hang))
        return result, world.monotonic()

    result, took = simulate(main)
    assert (result.status, took < 5) == ("ok", True)


@pytest.mark.parametrize("raises", [False, True])
def test_a_slow_observer_is_told_of_every_step_before_the_run_is_over(raises: bool) -> None:
    async def main(world: World) -> list[str]:
        told: list[str] = []

        async def slow(step: RunStep) -> None:
            await world.sleep(0.3)
            told.append(step.state)
            if raises:
                raise asyncio.CancelledError

        executor = executor_of([use(), "end"], tools=[Work()], world=world)
        await executor.run(WORKER, "go", Invocation(on_step=slow))
        return told

    assert simulate(main) == ["running", "complete"]


async def test_row_28_a_summary_is_short_and_hides_secrets() -> None:
    given = {"api_key": "sk-123", "deep": {"password": "hunter2"}, "text": "x" * 500, "e": "\x1b["}
    executor = executor_of([use(**given), "end"], tools=[Work()])
    (step,) = (await executor.run(WORKER, "go")).steps
    assert len(step.summary) <= MAX_SUMMARY
    assert not any(word in step.summary for word in ("sk-123", "hunter2", "\x1b"))


async def test_row_48_an_agent_without_tools_is_one_call() -> None:
    model = model_of(["done", "never"])
    executor = executor_of(model)
    result = await executor.run(RunnableAgent(), "hi")
    assert (result.output, len(model.requests), model.requests[0].tools) == ("done", 1, ())
    assert "loop" not in executor.manifest(RunnableAgent()).stages


async def test_row_53_images_reach_the_first_request_and_no_empty_text_goes_with_them() -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return "seen"

    image = ImageBlock("image/png", "aGk=")
    result = await executor_of(reply).run(RunnableAgent(), "", Invocation(images=(image,)))
    assert result.status == "ok"
    assert [type(block) for block in seen[0].messages[0].content] == [ImageBlock]


async def test_row_56_an_unknown_tool_of_an_agent_ends_its_run_with_an_error() -> None:
    result = await executor_of(["x"], tools=[Work()]).run(RunnableAgent(tools=("wrok",)), "go")
    assert result.status == "error"
    assert "wrok" in result.error


async def test_the_id_of_a_run_is_the_callers_and_only_once() -> None:
    executor = executor_of(["one", "two"])
    first = await executor.run(RunnableAgent(), "hi", Invocation(run_id="run_mine"))
    again = await executor.run(RunnableAgent(), "hi", Invocation(run_id="run_mine"))
    assert (first.run_id, first.status) == ("run_mine", "ok")
    assert again.code is ExecutorErrorCode.EXEC_RUN_BUSY


async def test_a_run_that_could_not_begin_leaves_its_id_to_others() -> None:
    journal = MemoryJournal()
    executor = executor_of(["never"], journal=journal, secrets=["h4nter2-h4nter2"])
    asked = Invocation(run_id="R")
    result = await executor.run(RunnableAgent(prompt="It is h4nter2-h4nter2."), "go", asked)
    assert "the manifest holds a secret" in result.error
    assert await journal.holder("R") is None
    other = executor_of(["x"], journal=journal)
    assert (await other.run(RunnableAgent(), "go", asked)).output == "x"


async def test_named_values_are_told_to_the_model_behind_the_task() -> None:
    model = model_of(["a", "b"])
    executor = executor_of(model)
    await executor.run(RunnableAgent(), "Go.", Invocation(inputs={"city": "Oslo", "days": [1, 2]}))
    await executor.run(RunnableAgent(), "", Invocation(inputs={"n": 1}))
    assert [request.messages[0].text for request in model.requests] == [
        'Go.\n\nInputs:\n{"city":"Oslo","days":[1,2]}',
        'Inputs:\n{"n":1}',
    ]


async def test_a_run_records_for_whom_it_is() -> None:
    told = Invocation(caller_id="ann", channel_id="c1", parent_run_id="p1", inputs={"n": 1})
    run = (await executor_of(["x"]).run(RunnableAgent("who"), "hi", told)).run
    assert run is not None
    assert run.events[0].data["invocation"] == {
        "agent": "who",
        "caller": "ann",
        "channel": "c1",
        "parent": "p1",
        "inputs": {"n": 1},
    }


async def test_a_run_costs_the_same_however_many_there_were() -> None:
    def count(frame: Any, event: str, arg: object) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            counted[0] += 1
        return count

    executor, costs = executor_of(lambda request: "hello"), list[int]()
    before = sys.gettrace()  # that of a measurement of coverage
    for number in range(300):
        counted = [0]
        if number in (10, 20, 299):  # Python 3.12 counts nothing the first time
            sys.settrace(count)
        try:
            await executor.run(RunnableAgent(), "hi")
        finally:
            sys.settrace(before)
        costs.append(counted[0])
    assert 1_000 < costs[299] < costs[20] * 1.02


def test_a_program_without_a_loop_runs_in_line() -> None:
    result = executor_of(["hello"]).run_sync(RunnableAgent(), "hi", Invocation(caller_id="ann"))
    assert (result.status, result.output) == ("ok", "hello")


async def test_within_a_loop_running_in_line_is_refused_with_what_to_do() -> None:
    with pytest.raises(PipelineError, match="run_sync was called where") as raised:
        executor_of(["hello"]).run_sync(RunnableAgent(), "hi")
    assert raised.value.hint == "Use: result = await executor.run(...)"


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "file"])
def test_closing_suspends_what_is_under_way_and_waits_for_it(durable: bool, tmp_path: Path) -> None:
    async def main(world: World) -> None:
        journal = SQLiteJournal(tmp_path / "j.db", world=world, threads=False) if durable else None
        log = AuditLog(MemoryAudit(), world=world, threads=False)
        options = {"journal": journal} if journal is not None else {}
        model = model_of(["late", "later"], latency_s=1_000.0)
        async with executor_of(model, world=world, ports=Ports(audit=log), **options) as executor:
            handle = executor.start(RunnableAgent(timeout_s=5_000), "hi", Invocation())
            called = asyncio.create_task(executor.run(RunnableAgent("other"), "hi"))
            await world.sleep(1)
        assert handle.task.done()
        assert {(await handle).status, (await called).status} == {"suspended"}
        assert {run.close.status for run in await log.runs() if run.close} == {"suspended"}
        if journal is not None:
            assert {row.status for row in await journal.runs(unfinished=True)} == {""}
            assert len(await journal.runs(unfinished=True)) == 2
            await journal.close()

    simulate(main)


def test_an_executor_that_is_closed_by_its_own_run_does_not_wait_for_it() -> None:
    async def main(world: World) -> None:
        async def close(context: ToolContext) -> str:
            await executor.aclose()
            return "closed"

        executor = executor_of([use(), "x"], tools=[Work(close)], world=world)
        result = await executor.run(WORKER, "go")
        assert result.status == "suspended"

    simulate(main)
