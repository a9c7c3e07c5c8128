"""The one path of every call: whatever happens becomes a result for the model, and a fact."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_validator

from lorimer import PipelinePresets
from lorimer.core.bus import Bus
from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError, ToolExecutionError
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.messages import ToolUse
from lorimer.models import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult, tool
from lorimer.world.real import RealWorld
from tests.tools.support import Act, Bench, going_on, one_call, run, toolset


def raising(error: BaseException) -> Act:
    def act(input: ToolInput, context: ToolContext) -> ToolResult:
        raise error

    return Act(act)


@tool
def greet(name: str) -> str:
    """Say hello."""
    return f"Hello {name}"


def test_a_call_and_its_facts() -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(toolset(greet), "greet", {"name": "Ada"})
        assert (block.tool_use_id, block.content, block.is_error) == ("call_0", "Hello Ada", False)
        (_, intent), (_, result) = bench.facts
        assert bench.kinds == ["tool.intent", "tool.result"]
        assert intent == {"key": "0", "hash": intent["hash"], "effects": "all"}
        assert len(intent["hash"]) == 24
        assert result == {"key": "0", "content": "Hello Ada"}

    run(main)


def test_calls_of_one_reply_are_told_apart_by_their_index() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(greet)
        await bench.call(tools, "greet", {"name": "A"})
        await bench.call(tools, "greet", {"name": "B"}, index=1)
        assert [data["key"] for _, data in bench.facts] == ["0", "0", "1", "1"]
        assert bench.facts[0][1]["hash"] != bench.facts[2][1]["hash"]

    run(main)


def test_a_reading_tool_has_no_intent() -> None:
    async def main() -> None:
        bench = await Bench.make()
        look = Act(lambda i, c: ToolResult("seen"), effects=frozenset({"read"}))
        await bench.call(toolset(look), "act")
        assert bench.kinds == ["tool.result"]
        assert bench.facts[0][1]["hash"]

    run(main)


@pytest.mark.parametrize(
    ("name", "input", "raw", "told"),
    [
        (
            "gret",
            {"name": "x"},
            "",
            "ERROR exec.tool.unknown: no tool is called 'gret'; did you mean 'greet'?",
        ),
        ("x" * 5000, {}, "", "ERROR exec.tool.unknown: no tool is called 'xxx"),
        ("greet", {}, "{na", "ERROR exec.tool.invalid_input: the arguments are not JSON: '{na'"),
        ("greet", {}, "", "ERROR exec.tool.invalid_input: input.name: Field required"),
        ("greet", {"name": [["x"]]}, "", "ERROR exec.tool.invalid_input: input.name: "),
        ("greet", {"name": float("nan")}, "", "ERROR exec.tool.invalid_input: input.name: "),
    ],
)
def test_calls_that_cannot_be_made_are_told_and_recorded(
    name: str, input: dict[str, Any], raw: str, told: str
) -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(toolset(greet), name, input, raw=raw)
        assert block.is_error
        assert str(block.content).startswith(told)
        assert len(str(block.content)) < 1000
        assert bench.kinds == ["tool.result"]
        assert bench.facts[0][1]["error"] == told.split()[1].rstrip(":")

    run(main)


def test_arguments_nested_beyond_reason_are_refused() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    block = run(lambda: one_call(Act(lambda i, c: ToolResult("ran")), {"x": deep}))
    assert "nested deeper than" in str(block.content)
    while isinstance(deep, list):
        deep = deep.pop()


def test_a_tool_may_change_its_input() -> None:
    def spoil(input: ToolInput, context: ToolContext) -> ToolResult:
        input["x"]["list"].append(3)
        input.clear()
        return ToolResult("done")

    original = {"x": {"list": [1, 2]}}
    run(lambda: one_call(Act(spoil), original))
    assert original == {"x": {"list": [1, 2]}}


def test_what_the_context_holds(tmp_path: Path) -> None:
    seen: list[ToolContext] = []

    def look(input: ToolInput, context: ToolContext) -> ToolResult:
        seen.append(context)
        return ToolResult("ok")

    async def main() -> None:
        bench = await Bench.make()
        await bench.call(toolset(Act(look), working_dir=tmp_path), "act", index=2)

    run(main)
    (context,) = seen
    assert (context.run_id, context.session_id) == ("r_test", "s_test")
    assert (context.tool_use_id, context.idempotency_key) == ("call_2", "r_test-0-2")
    assert (context.working_dir, context.files) == (tmp_path, None)
    assert isinstance(context.world, RealWorld)


# --- tools that fail -----------------------------------------------------------------------------


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (StopIteration(1), "RuntimeError: coroutine raised StopIteration"),
        (StopAsyncIteration(), "StopAsyncIteration"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (TimeoutError("mine"), "TimeoutError: mine"),
        (Odd("odd"), "Odd: odd"),
        (ExceptionGroup("two", [ValueError("a")]), "ExceptionGroup: two (ValueError: a)"),
        (BaseExceptionGroup("deep", [SystemExit(1)]), "BaseExceptionGroup: deep (SystemExit: 1)"),
        (RecursionError("deep"), "RecursionError: deep"),
        (MemoryError(), "MemoryError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError: "),
    ],
)
def test_whatever_a_tool_raises_is_a_crash_told_to_the_model(
    error: BaseException, told: str
) -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(toolset(raising(error)), "act")
        assert block.is_error
        assert str(block.content).startswith(f"ERROR exec.tool.crashed: {told}")
        assert bench.facts[-1][1]["error"] == "exec.tool.crashed"
        await asyncio.sleep(0)  # the task is not cancelled, the run can go on
        assert not (await bench.call(toolset(greet), "greet", {"name": "A"}, index=1)).is_error

    run(main)


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), StopIteration(), Odd()]
)
def test_what_is_raised_in_a_thread_too(error: BaseException) -> None:
    @tool
    def bad() -> None:
        raise error

    block = run(lambda: one_call(bad))
    assert str(block.content).startswith("ERROR exec.tool.crashed: ")


def test_a_coded_error_keeps_its_code_and_message() -> None:
    async def main() -> None:
        own = ToolExecutionError("the host is down", code=ExecutorErrorCode.EXEC_TOOL_TRANSPORT)
        other = APIError("slow", code=ExecutorErrorCode.EXEC_API_TIMEOUT, hint="Wait.")
        bench = await Bench.make()
        first = await bench.call(toolset(raising(own)), "act")
        second = await bench.call(toolset(raising(other)), "act", index=1)
        assert first.content == "ERROR exec.tool.transport: the host is down"
        assert second.content == "ERROR exec.api.timeout: slow Wait."
        assert bench.facts[-1][1]["error"] == "exec.api.timeout"

    run(main)


def test_a_result_may_say_that_it_is_an_error() -> None:
    async def main() -> None:
        bench = await Bench.make()
        block = await bench.call(
            toolset(Act(lambda i, c: ToolResult("no such file", is_error=True))), "act"
        )
        assert (block.content, block.is_error) == ("no such file", True)
        assert bench.facts[-1][1] == {"key": "0", "content": "no such file", "is_error": True}

    run(main)


@pytest.mark.parametrize("error", [KeyError("k"), SystemExit(1)])
def test_a_validator_of_the_tool_may_raise_anything(error: BaseException) -> None:
    class Picky(BaseModel):
        @field_validator("*")
        @classmethod
        def check(cls, value: str) -> str:
            raise error

        name: str

    def picky(who: Any) -> str:
        return str(who)

    picky.__annotations__["who"] = Picky
    block = run(lambda: one_call(tool(picky), {"who": {"name": "x"}}))
    told = "ERROR exec.tool.invalid_input: checking the arguments failed: "
    assert str(block.content).startswith(told + type(error).__name__)


def test_a_result_may_be_full_of_nonsense() -> None:
    def act(input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(object(), "yes", {1: object()}, object())  # type: ignore[arg-type]  # pyright: ignore

    async def main() -> None:
        bus = Bus()
        seen: list[Event] = []
        bus.on("tool.call_complete", seen.append)
        bench = await Bench.make(bus=bus)
        block = await bench.call(toolset(Act(act)), "act")
        assert (block.content, block.is_error) == ("<object>", False)
        assert seen[0].data["metadata"] == {"1": "<object>"}
        assert seen[0].data["display"] == "<object>"

    run(main)


def test_a_bare_value_is_a_result_too() -> None:
    block = run(lambda: one_call(Act(lambda i, c: {"a": 1})))
    assert block.content == '{"a":1}'


# --- time ----------------------------------------------------------------------------------------


def test_a_tool_that_hangs_is_stopped() -> None:
    block = run(lambda: one_call(Act(lambda i, c: asyncio.sleep(60), timeout_s=0.05)))
    assert str(block.content).startswith("ERROR exec.tool.timeout: act was stopped after 0.05 s")


def test_the_limit_of_the_run_holds_for_tools_without_their_own() -> None:
    block = run(
        lambda: one_call(Act(lambda i, c: asyncio.sleep(60)), limits=Limits(tool_timeout_s=0.05))
    )
    assert "exec.tool.timeout" in str(block.content)


async def swallow_once() -> ToolResult:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(60)
    return ToolResult("late")


async def swallow_and_answer() -> ToolResult:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
    return ToolResult("late")


async def swallow_and_raise() -> ToolResult:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError("late") from None
    return ToolResult("never")


async def swallow_in_a_loop() -> ToolResult:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


async def swallow_everything() -> ToolResult:
    while True:
        try:
            await asyncio.sleep(60)
        except:  # noqa: E722
            continue


async def wait_in_a_group() -> ToolResult:
    async with anyio.create_task_group() as group:
        group.start_soon(asyncio.sleep, 60)
    return ToolResult("late")


SWALLOWERS = [
    swallow_once,
    swallow_and_answer,
    swallow_and_raise,
    swallow_in_a_loop,
    swallow_everything,
    wait_in_a_group,
]


# one of them will not even be closed, which the interpreter says when it is collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("body", SWALLOWERS)
def test_a_tool_that_swallows_its_cancellation_is_stopped(body: Callable[[], Any]) -> None:
    async def main() -> None:
        bench = await Bench.make()
        began = bench.context.world.monotonic()
        block = await bench.call(toolset(Act(lambda i, c: body(), timeout_s=0.05)), "act")
        assert bench.context.world.monotonic() - began < 2
        assert "exec.tool.timeout" in str(block.content)
        gc.collect()
        await asyncio.sleep(0.01)
        assert not (await bench.call(toolset(greet), "greet", {"name": "A"}, index=1)).is_error

    run(main)


# one of them will not even be closed, which the interpreter says when it is collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("body", SWALLOWERS)
def test_cancelling_the_run_ends_any_tool(body: Callable[[], Any]) -> None:
    async def main() -> None:
        bench = await Bench.make()
        context = bench.context
        asyncio.get_running_loop().call_later(0.05, context.cancel, Reason.CALLER)
        with going_on(context), pytest.raises(asyncio.CancelledError):  # noqa: PT012
            await bench.call(toolset(Act(lambda i, c: body())), "act")
            await bench.call(toolset(greet), "greet", {"name": "A"}, index=1)
        assert bench.kinds[:1] == ["tool.intent"]
        assert "tool.intent" not in bench.kinds[1:]
        gc.collect()

    run(main)


def test_the_end_of_the_run_leaves_an_intent_without_a_result() -> None:
    async def main() -> None:
        bench = await Bench.make()
        asyncio.get_running_loop().call_later(0.05, bench.context.cancel, Reason.CALLER)
        with going_on(bench.context):
            await bench.call(toolset(Act(lambda i, c: asyncio.sleep(60))), "act")
        assert bench.kinds == ["tool.intent"]

    run(main)


def test_cancellation_from_outside_the_run_goes_on() -> None:
    async def main() -> None:
        bench = await Bench.make()
        task = asyncio.create_task(bench.call(toolset(Act(lambda i, c: asyncio.sleep(60))), "act"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main)


def test_a_call_whose_task_is_dropped_ends_quietly() -> None:
    async def main() -> None:
        bench = await Bench.make()
        call = bench.call(toolset(Act(lambda i, c: asyncio.sleep(60))), "act")
        call.send(None)
        call.close()
        assert bench.kinds == ["tool.intent"]

    run(main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_so_does_one_whose_tool_will_not_be_closed() -> None:
    async def main() -> None:
        bench = await Bench.make()
        call = bench.call(toolset(Act(lambda i, c: swallow_everything())), "act")
        call.send(None)
        call.close()
        assert bench.kinds == ["tool.intent"]

    run(main)
    gc.collect()


def test_a_blocking_tool_is_left_to_itself() -> None:
    release = threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> str:
        release.wait(10)
        return "late"

    async def main() -> None:
        bench = await Bench.make()
        began = bench.context.world.monotonic()
        block = await bench.call(toolset(hang), "hang")
        assert bench.context.world.monotonic() - began < 2
        assert "exec.tool.timeout" in str(block.content)
        release.set()
        await asyncio.sleep(0.02)

    run(main)


def test_threads_that_never_end_use_up_their_places_and_nothing_else() -> None:
    release = threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> None:
        release.wait(10)

    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(hang)
        before = threading.active_count()
        calls = [bench.call(tools, "hang", index=i) for i in range(40)]
        blocks = await asyncio.gather(*calls)
        assert all("exec.tool.timeout" in str(block.content) for block in blocks)
        assert threading.active_count() - before <= 32
        release.set()
        assert not (await bench.call(tools, "hang", index=99)).is_error
        for _ in range(100):
            if threading.active_count() == before:
                break
            await asyncio.sleep(0.02)
        assert threading.active_count() == before

    run(main)


# --- signals -------------------------------------------------------------------------------------


def test_signals_of_a_call() -> None:
    async def main() -> None:
        bus = Bus()
        seen: list[Event] = []
        bus.on("tool.call_start", seen.append)
        bus.on("tool.call_complete", seen.append)
        bus.on("tool.progress", seen.append)
        bench = await Bench.make(bus=bus)

        def act(input: ToolInput, context: ToolContext) -> ToolResult:
            context.progress("half way \ud800")
            return ToolResult("x" * 1000, metadata={"lines": 3}, display="did it")

        await bench.call(toolset(Act(act)), "act", {"x": 1})
        await bench.call(toolset(Act(act)), "act2", index=1)
        head = {"tool_use_id": "call_0", "name": "act"}
        assert seen[0].data == {**head, "input": {"x": 1}}
        assert seen[1].data == {**head, "text": "half way \ufffd"}
        done = dict(seen[2].data)
        assert done.pop("duration_ms") >= 0  # type: ignore[operator]  # pyright: ignore
        assert done == {
            **head,
            "is_error": False,
            "error": None,
            "result": "x" * 500,
            "metadata": {"lines": 3},
            "display": "did it",
        }
        assert bench.facts[1][1] == {"key": "0", "content": "x" * 1000}
        assert seen[4].data["error"] == "exec.tool.unknown"
        assert seen[4].data["is_error"] is True

    run(main)


def test_progress_after_the_end_is_dropped() -> None:
    async def main() -> None:
        bus = Bus()
        seen: list[Event] = []
        bus.on("tool.progress", seen.append)
        bench = await Bench.make(bus=bus)
        kept: list[ToolContext] = []

        def act(input: ToolInput, context: ToolContext) -> ToolResult:
            kept.append(context)
            return ToolResult("x")

        await bench.call(toolset(Act(act)), "act")
        kept[0].progress("too late")
        assert seen == []

    run(main)


def test_a_tool_may_have_time_outs_of_its_own() -> None:
    async def waits(input: ToolInput, context: ToolContext) -> ToolResult:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(0)
            return ToolResult("it gave up by itself")
        return ToolResult("not reached")

    async def main() -> None:
        bench = await Bench.make()
        with going_on(bench.context):
            block = await bench.call(toolset(Act(waits)), "act")
        assert block.content == "it gave up by itself"
        assert bench.context.reason is None

    run(main)


@pytest.mark.parametrize("frozen_at", [1, 2])
def test_an_owner_that_was_frozen_looks_again_directly_before_the_call(frozen_at: int) -> None:
    """It may have been frozen between its intent and the call, or on the way to the tool."""
    acted: list[ToolInput] = []
    looks = 0

    async def holds() -> None:
        nonlocal looks
        looks += 1
        if looks == frozen_at:
            raise JournalError("it is no longer the writer")

    def act(input: ToolInput, context: ToolContext) -> ToolResult:
        acted.append(input)
        return ToolResult("done")

    async def main() -> None:
        bench = await Bench.make()
        bench.context.check_claim = holds
        with pytest.raises(JournalError):
            await bench.call(toolset(Act(act)), "act")
        assert (acted, bench.kinds) == ([], ["tool.intent"])
        block = await bench.call(toolset(Act(act)), "act", index=1)
        assert (len(acted), block.content) == (1, "done")

    run(main)


def test_lists_and_objects_written_as_texts_are_read() -> None:
    """What models do time and again: `{"lines": "[{...}]"}`."""

    class Line(BaseModel):
        text: str

    @tool(effects=["read"])
    async def typed(lines: list[Line], options: dict[str, int] | None = None, raw: str = "") -> str:
        """Count."""
        return f"{[line.text for line in lines]} {options} {raw}"

    class Plain(Tool):
        name = "plain"
        input_schema = {  # noqa: RUF012
            "type": "object",
            "properties": {"lines": {"type": "array"}, "raw": {"type": "string"}},
        }
        effects = frozenset[str]()

        async def execute(self, input: dict[str, Any], context: ToolContext) -> ToolResult:
            return ToolResult(input)

    told = run(lambda: one_call(typed, {"lines": '[{"text": "a"}]', "options": '{"b": 1}'}))
    assert told.content == "['a'] {'b': 1} "
    told = run(lambda: one_call(typed, {"lines": "[]", "raw": "[1]"}))  # a text stays one
    assert told.content == "[] None [1]"
    told = run(lambda: one_call(Plain(), {"lines": ' ["\\ud83e"]', "raw": "{}"}))
    assert told.content == '{"lines":["\ufffd"],"raw":"{}"}'
    for broken in ("[1", '[{"text": 1}]', "[NaN]", "[" * 5000, "x"):
        told = run(lambda broken=broken: one_call(typed, {"lines": broken}))  # type: ignore[misc]
        assert "exec.tool.invalid_input: input.lines" in str(told.content), broken


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ('{"text": "a long', "the answer ended within the arguments"),
        ('{"text": "a", ', "the answer ended within the arguments"),
        ("{", "the answer ended within the arguments"),
        ('{"text": "a"}', "the answer ended within the arguments"),
        ('{"text": ' + "[" * 200 + "]" * 200 + "}", "the arguments are nested deeper than"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "the arguments are nested deeper than"),
        ("{'text': 1}", "the arguments are not JSON"),
        ("[1]", "the arguments are not JSON"),
        ("[" * 100_000, "the arguments are nested deeper than"),
    ],
)
def test_a_model_is_told_that_its_call_was_cut_off(raw: str, told: str) -> None:
    model = ScriptedModel([[ToolUse("c1", "note", {}, raw)], "Done."])
    models = Models(providers={"scripted": model})

    @tool(effects=["write"])
    def note(text: str) -> str:
        """Write."""
        raise AssertionError

    agent = PipelinePresets.agent(model="scripted:m", models=models, tools=[note])
    (step,) = agent.run_sync("go").steps
    assert step.is_error
    assert str(step.content).startswith(f"ERROR exec.tool.invalid_input: {told}")
