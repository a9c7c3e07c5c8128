"""The dispatch guard: runs that runs begin, at the executor's one entry. Rows 79 and 80."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock
from lorimer.core.request import Request
from lorimer.run import Executor, FixedPalette, Ports, RunnableAgent, RunResult
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult, tool
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio

CODE = ExecutorErrorCode


class Call(Tool):
    """A host's tool that runs an agent."""

    name = "call"
    description = "Call an agent."
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})
    concurrency_safe = True

    def __init__(self, agents: dict[str, RunnableAgent]) -> None:
        self.agents = agents
        self.executor: Executor
        self.results: list[RunResult] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        result = await self.executor.run(self.agents[input["who"]], input.get("say", "go"))
        self.results.append(result)
        return result.as_tool_result()


def called(reply: Callable[[Request], Any], *names: str, **options: Any) -> tuple[Executor, Call]:
    """An executor, and its tool by which agents of these names are called."""
    agents = {name: RunnableAgent(name, prompt=name, tools=("call",)) for name in names}
    tool = Call(agents)
    tool.executor = executor_of(model_of(reply), tools=[tool], **options)
    return tool.executor, tool


def onwards(request: Request) -> Any:
    """`a` calls `b`, `b` calls `c`, and so on; `z` calls `a`. Then what it was told."""
    last = request.messages[-1].content[0]
    if len(request.messages) > 1:
        return str(last.content) if hasattr(last, "content") else "?"
    name = request.system
    return use(who="a" if name == "z" else chr(ord(name) + 1), tool="call")


async def test_row_80_an_agent_that_calls_itself_is_refused_and_told() -> None:
    executor, tool = called(lambda r: use("call", who="a") if len(r.messages) < 2 else "end", "a")
    result = await executor.run(tool.agents["a"], "go")
    assert (result.status, result.output) == ("ok", "end")
    (refused,) = tool.results
    assert (refused.status, refused.code) == ("error", CODE.EXEC_CHILD_ANCESTOR)
    assert refused.output.startswith("ERROR exec.child.ancestor: 'a' is at work on this already")
    assert result.run is not None
    told = result.run.steps[0]
    assert told.is_error and "exec.child.ancestor" in str(told.content)
    assert len(await executor.journal.runs()) == 1


async def test_what_a_tool_gives_back_of_a_run_is_its_answer_or_why_there_is_none() -> None:
    good = (await executor_of(["Paris."]).run(RunnableAgent("geo"), "go")).as_tool_result()
    assert (good.content, good.is_error, good.error) == ("Paris.", False, None)

    executor, _ = called(lambda _: [TextBlock("Let me see."), *use("call", who="a")], "a")
    short = RunnableAgent("geo", max_turns=1, tools=("call",))
    told = (await executor.run(short, "go")).as_tool_result()
    assert (told.is_error, told.error) == (True, CODE.EXEC_LOOP_MAX_TURNS)
    assert str(told.content).startswith("ERROR exec.loop.max_turns: the run ended as error: ")
    assert str(told.content).endswith("What it had said last:\nLet me see.")

    refused = (await executor_of([]).run(RunnableAgent(model="no:such"), "go")).as_tool_result()
    assert refused.is_error
    assert "the run ended as error: the model 'no:such'" in str(refused.content)


async def test_row_80_an_ancestor_further_up_is_refused_too() -> None:
    executor, tool = called(onwards, "y", "z", "a")
    first = RunnableAgent("a", prompt="y", tools=("call",))
    await executor.run(first, "go")
    assert [result.code for result in tool.results] == [CODE.EXEC_CHILD_ANCESTOR, None]


async def test_row_80_too_deep_is_refused() -> None:
    executor, tool = called(onwards, *"abcdefgh")
    result = await executor.run(tool.agents["a"], "go")
    assert result.status == "ok"
    assert tool.results[0].code is CODE.EXEC_CHILD_DEPTH
    assert len(await executor.journal.runs()) == 6
    assert "exec.child.depth" in result.output


async def test_row_80_too_many_under_one_root_are_refused() -> None:
    def reply(request: Request) -> Any:
        if request.system != "a" or len(request.messages) > 1:
            return "end"
        return [each for n in range(4) for each in use("call", id=f"c{n}", who="b", say=f"{n}")]

    executor, tool = called(reply, "a", "b", limits=Limits(max_descendants=3, allow_unpriced=True))
    for _ in range(2):  # each root counts its own
        result = await executor.run(tool.agents["a"], "go")
        assert result.status == "ok"
        codes = [each.code for each in tool.results]
        assert sorted(codes, key=str) == sorted(
            [None, None, None, CODE.EXEC_CHILD_DESCENDANTS], key=str
        )
        tool.results.clear()


async def test_row_79_runs_side_by_side_are_no_ones_descendants() -> None:
    executor, tool = called(lambda r: "end", "a")
    results = await asyncio.gather(*[executor.run(tool.agents["a"], "go") for _ in range(60)])
    assert {result.status for result in results} == {"ok"}


async def test_row_80_a_delegate_counts_like_a_run_that_a_tool_begins() -> None:
    def reply(request: Request) -> Any:
        if len(request.messages) > 1:
            return "end"
        return use("agent__b", prompt="go") if request.system == "a" else use("call", who="a")

    tool = Call({"a": RunnableAgent("a", prompt="a", agents=("b",))})
    b = RunnableAgent("b", prompt="b", tools=("call",))
    ports = Ports(palette=FixedPalette([b]))
    tool.executor = executor_of(model_of(reply), tools=[tool], ports=ports)
    await tool.executor.run(tool.agents["a"], "go")
    assert [result.code for result in tool.results] == [CODE.EXEC_CHILD_ANCESTOR]


async def test_row_80_a_delegate_is_not_called_by_what_it_calls() -> None:
    def reply(request: Request) -> Any:
        if len(request.messages) > 1:
            return "end"
        return use("agent__b", prompt="go") if request.system == "a" else use("call", who="b")

    b = RunnableAgent("b", prompt="b", tools=("call",))
    tool = Call({"b": b})
    ports = Ports(palette=FixedPalette([b]))
    tool.executor = executor_of(model_of(reply), tools=[tool], ports=ports)
    result = await tool.executor.run(RunnableAgent("a", prompt="a", agents=("b",)), "go")
    assert result.status == "ok"
    assert [result.code for result in tool.results] == [CODE.EXEC_CHILD_ANCESTOR]


async def test_row_80_a_run_that_a_tool_begins_may_not_delegate_to_who_is_above() -> None:
    model = model_of(
        lambda r: (
            _told(r) or use("call", who="b")
            if r.system == "a"
            else _told(r) or use("agent__a", prompt="go")
        )
    )
    tool = Call({"b": RunnableAgent("b", prompt="b", agents=("a",))})
    a = RunnableAgent("a", prompt="a", tools=("call",))
    tool.executor = executor_of(model, tools=[tool], ports=Ports(palette=FixedPalette([a])))
    result = await tool.executor.run(a, "go")
    assert "exec.child.ancestor" in result.output


def _told(request: Request) -> str:
    last = request.messages[-1].content[0]
    return str(last.content) if hasattr(last, "content") else ""


async def test_what_a_run_left_behind_is_no_part_of_it_when_it_has_ended() -> None:
    """Such as a client of the host's, opened by a tool's first call, that brings further work."""
    over, left = asyncio.Event(), list[asyncio.Task[RunResult]]()
    worker = RunnableAgent("a", tools=("connect",))

    @tool(effects=[])
    async def connect() -> str:
        """Open it."""

        async def later() -> RunResult:
            await over.wait()
            return await executor.run(worker, "more")

        if not left:
            left.append(asyncio.create_task(later()))
        return "open"

    replies = [use("connect"), "end", "more"]
    executor = executor_of(replies, tools=[connect])
    assert (await executor.run(worker, "go")).status == "ok"
    over.set()
    result = await left[0]
    assert (result.output, result.error) == ("more", "")
    assert result.run is not None and "parent" not in result.run.events[0].data["invocation"]


async def test_a_run_that_a_tool_begins_says_whose_it_is() -> None:
    executor, tool = called(onwards, "a", "b", limits=Limits(max_depth=1, allow_unpriced=True))
    result = await executor.run(tool.agents["a"], "go")
    (inner,) = [each for each in tool.results if each.run is not None]
    assert inner.run is not None
    assert inner.run.events[0].data["invocation"]["parent"] == result.run_id
