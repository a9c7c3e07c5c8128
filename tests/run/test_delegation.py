"""Agents that give work to others: skills and agents of a palette, as tools. Rows 43 and 44."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.journal import Journal, find
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal.recording import facts_of
from lorimer.run import (
    FixedPalette,
    Invocation,
    Ports,
    RunnableAgent,
    RunResult,
    Skill,
)
from lorimer.run.palette import reachable
from lorimer.testing import simulate
from lorimer.tools import tool
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.rules import Rule
from tests.run.support import executor_of, model_of, use

pytestmark = pytest.mark.anyio

CITY: Mapping[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
BOSS = RunnableAgent("boss", prompt="boss", agents=("worker",))
WORKER = RunnableAgent("worker", prompt="worker", description="It works.")


def says(**replies: Sequence[Any]) -> Any:
    """Who is asked (the system prompt) to the replies of each of its runs."""

    def reply(request: Request) -> Any:
        said = replies[request.system]
        return said[sum(m.role == "assistant" for m in request.messages)]

    return reply


def executor(
    replies: Any, *agents: RunnableAgent, skills: Sequence[Skill] = (), **more: Any
) -> Any:
    ports = Ports(palette=FixedPalette(agents, skills))
    model = replies if not callable(replies) else model_of(replies)
    return executor_of(model, ports=ports, **more)


def told(result: RunResult, at: int = -1) -> tuple[str, bool]:
    """What a tool call of a run was answered."""
    assert result.run is not None
    step = result.run.steps[at]
    return str(step.content), step.is_error


async def children(journal: Journal, result: RunResult) -> list[Sequence[Event]]:
    assert result.run is not None
    runs = [str(fact.data["run"]) for fact in result.run.events if fact.type == "child"]
    return [await facts_of(journal, await find(journal, run)) for run in runs]


async def test_row_43_without_a_palette_there_is_nobody_to_give_work_to() -> None:
    for options in ({}, {"ports": Ports()}):
        model = model_of(["alone"])
        result = await executor_of(model, **options).run(BOSS, "go")
        assert (result.output, model.requests[0].tools) == ("alone", ())


async def test_row_43_an_agent_that_names_nobody_has_no_such_tools() -> None:
    model = model_of(["alone"])
    result = await executor(model, WORKER).run(RunnableAgent("one"), "go")
    assert (result.output, model.requests[0].tools) == ("alone", ())


async def test_row_44_an_agent_is_a_tool_that_takes_a_prompt() -> None:
    model = model_of(says(boss=[use("agent__worker", prompt="dig"), "well dug"], worker=["a hole"]))
    runs = executor(model, WORKER)
    asked = Invocation(caller_id="ann", channel_id="c1")
    result = await runs.run(BOSS, "go", asked)
    assert (result.status, result.output, told(result)) == ("ok", "well dug", ("a hole", False))
    (spec,) = model.requests[0].tools
    assert (spec.name, list(spec.input_schema["properties"])) == ("agent__worker", ["prompt"])
    assert "It works." in spec.description
    assert model.requests[1].messages[0].text == "dig"
    assert model.requests[1].tools == ()
    ((start, *_),) = await children(runs.journal, result)
    assert start.data["invocation"] == {
        "agent": "worker",
        "caller": "ann",
        "channel": "c1",
        "parent": result.run_id,
    }
    assert result.usage.input_tokens == 300
    assert [step.kind for step in result.steps] == ["agent__worker"]


async def test_row_44_a_skill_is_a_tool_with_the_inputs_that_it_declares() -> None:
    skill = Skill(RunnableAgent("forecast", prompt="forecast"), CITY, "Weather.")
    replies = [use("skill__forecast", days=2), use("skill__forecast", city="Oslo", days=2), "ok"]
    model = model_of(says(planner=replies, forecast=["snow"]))
    planner = RunnableAgent("planner", prompt="planner", skills=("forecast",))
    result = await executor(model, skills=[skill]).run(planner, "go")
    assert dict(model.requests[0].tools[0].input_schema) == CITY
    wrong, is_error = told(result, 0)
    assert is_error and "city" in wrong
    assert told(result, 1) == ("snow", False)
    asked = next(request for request in model.requests if request.system == "forecast")
    assert asked.messages[0].text == 'Inputs:\n{"city":"Oslo","days":2}'


async def test_row_44_a_skill_that_declares_none_is_called_without_inputs() -> None:
    skill = Skill(RunnableAgent("clock", prompt="clock"))
    replies = [use("skill__clock", city="Oslo"), use("skill__clock"), "ok"]
    model = model_of(says(planner=replies, clock=["noon"]))
    planner = RunnableAgent("planner", prompt="planner", skills=("clock",))
    result = await executor(model, skills=[skill]).run(planner, "go")
    wrong, is_error = told(result, 0)
    assert is_error
    assert "city" in wrong
    assert told(result, 1) == ("noon", False)


async def test_row_44_a_child_that_ends_badly_is_told_with_what_it_had_said() -> None:
    replies = says(
        boss=[use("agent__worker", prompt="dig"), "sorry"],
        worker=[[*use("look")], RuntimeError("broken")],
    )

    @tool(effects=["read"])
    async def look() -> str:
        """Look."""
        return "seen"

    def reply(request: Request) -> Any:
        answer = replies(request)
        return [TextBlock("Half of it."), *answer] if isinstance(answer, list) else answer

    worker = RunnableAgent("worker", prompt="worker", tools=("look",))
    result = await executor(reply, worker, tools=[look]).run(BOSS, "go")
    text, is_error = told(result)
    assert (result.status, is_error) == ("ok", True)
    assert "agent__worker ended as error" in text
    assert "broken" in text
    assert text.endswith("What it had said last:\nHalf of it.")


async def test_names_that_are_empty_or_there_twice_are_dropped() -> None:
    model = model_of(["done"])
    boss = RunnableAgent("boss", agents=("", "worker", "worker"), skills=("",))
    await executor(model, WORKER).run(boss, "go")
    assert [spec.name for spec in model.requests[0].tools] == ["agent__worker"]


@pytest.mark.parametrize("name", ["nobody", "no name"])
async def test_a_name_that_the_palette_does_not_have_is_an_error(name: str) -> None:
    result = await executor(["x"], WORKER).run(RunnableAgent("boss", agents=(name,)), "go")
    assert (result.status, result.code) == (
        "error",
        ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST,
    )
    assert repr(name) in result.error


async def test_a_host_tool_with_the_name_of_a_delegate_is_an_error() -> None:
    @tool(name="agent__worker")
    async def impostor() -> str:
        """Not the worker."""
        return ""

    for boss in (BOSS, RunnableAgent("boss", agents=("worker",), tools=("agent__worker",))):
        result = await executor(["x"], WORKER, tools=[impostor]).run(boss, "go")
        assert result.status == "error"
        assert "agent__worker" in result.error


async def test_each_has_its_own_tools_and_no_others() -> None:
    @tool(effects=["read"])
    async def dig() -> str:
        """Dig."""
        return "dug"

    @tool(effects=["read"])
    async def plan() -> str:
        """Plan."""
        return "planned"

    worker = RunnableAgent("worker", prompt="worker", tools=("dig",), agents=("digger",))
    digger = RunnableAgent("digger", prompt="digger", tools=("dig",))
    boss = RunnableAgent("boss", prompt="boss", tools=("plan",), agents=("worker",))
    model = model_of(
        says(
            boss=[
                [*use("dig"), *use("agent__digger", prompt="no")],
                *[use("agent__worker", prompt="go")],
                "ok",
            ],
            worker=[use("agent__digger", prompt="deep"), "ok"],
            digger=[use("dig"), "deep"],
        )
    )
    result = await executor(model, worker, digger, tools=[dig, plan]).run(boss, "go")
    assert result.status == "ok"
    assert [told(result, at)[1] for at in range(3)] == [True, True, False]
    shown = {request.system: [spec.name for spec in request.tools] for request in model.requests}
    assert shown == {
        "boss": ["plan", "agent__worker"],
        "worker": ["dig", "agent__digger"],
        "digger": ["dig"],
    }


async def test_delegation_passes_the_rules_like_every_tool() -> None:
    replies = says(boss=[use("agent__worker", prompt="dig"), "refused"], worker=["a hole"])
    denied = [Rule.parse("agent__worker", action=Action.DENY)]
    asked = [Rule.parse("agent__worker", action=Action.ASK)]
    for rules, why in ((denied, "exec.tool.unknown"), (asked, "exec.tool.access_denied")):
        result = await executor(replies, WORKER, rules=rules, approver=No()).run(BOSS, "go")
        text, is_error = told(result)
        assert is_error and why in text
        assert children_of(result) == 0


class No:
    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return False


def children_of(result: RunResult) -> int:
    assert result.run is not None
    return sum(fact.type == "child" for fact in result.run.events)


async def test_rules_of_the_host_hold_in_children_too() -> None:
    done: list[str] = []

    @tool(effects=["write"])
    async def write() -> str:
        """Write."""
        done.append("written")
        return "ok"

    worker = RunnableAgent("worker", prompt="worker", tools=("write",))
    replies = says(
        boss=[use("agent__worker", prompt="write"), "end"], worker=[use("write"), "tried"]
    )
    rules = [Rule.parse("write", action=Action.DENY)]
    result = await executor(replies, worker, tools=[write], rules=rules).run(BOSS, "go")
    assert (told(result)[0], done) == ("tried", [])


async def test_a_child_shares_its_parents_money() -> None:
    # each reply costs 110,000 nano-dollars; the boss has spent one when the worker begins
    replies = says(boss=[use("agent__worker", prompt="dig"), "end"], worker=["a hole"])
    limits = Limits(max_cost_usd=0.00015, max_turns=5)
    result = await executor(replies, WORKER, limits=limits).run(BOSS, "go")
    assert result.status == "budget_exceeded"
    assert result.total_cost_usd <= 0.00015


def test_a_child_ends_with_its_parent() -> None:
    async def main(world: World) -> tuple[RunResult, list[str]]:
        @tool(effects=["read"])
        async def hang() -> str:
            """Wait."""
            await world.sleep(1000)
            return ""

        replies = says(boss=[use("agent__worker", prompt="w"), "end"], worker=[use("hang"), "end"])
        worker = RunnableAgent("worker", prompt="worker", tools=("hang",), timeout_s=500.0)
        runs = executor(replies, worker, tools=[hang], world=world)
        handle = runs.start(RunnableAgent("boss", prompt="boss", agents=("worker",)), "go")
        await world.sleep(5)
        handle.cancel()
        result = await handle
        return result, [row.status for row in await runs.journal.runs()]

    result, statuses = simulate(main)
    assert (result.status, statuses) == ("cancelled", ["cancelled", "cancelled"])


@pytest.mark.parametrize("way", ["itself", "ancestor", "another name"])
async def test_whoever_is_at_work_on_it_is_offered_and_refused(way: str) -> None:
    if way == "itself":
        palette = [RunnableAgent("boss", prompt="boss", agents=("boss",))]
        replies = says(boss=[use("agent__boss", prompt="again"), "alone"])
    else:
        back = "boss" if way == "ancestor" else "chief"
        boss = RunnableAgent("boss", prompt="boss", agents=("worker",))
        palette = [boss, RunnableAgent("worker", prompt="worker", agents=(back,))]
        replies = says(
            boss=[use("agent__worker", prompt="dig"), "end"],
            worker=[use(f"agent__{back}", prompt="you"), "alone"],
        )

    class Aliased(FixedPalette):
        async def agent(self, name: str) -> RunnableAgent | None:
            return await super().agent("boss" if name == "chief" else name)

    model = model_of(replies)
    runs = executor_of(model, ports=Ports(palette=Aliased(palette)))
    result = await runs.run(palette[0], "go")
    assert result.status == "ok"
    refused = model.requests[-1] if way == "itself" else model.requests[2]
    block = refused.messages[-1].content[0]
    assert "exec.child.ancestor" in str(block.content)
    assert "at work on this already" in str(block.content)
    assert children_of(result) == (way != "itself")


async def test_two_delegates_may_work_at_once() -> None:
    both = [
        *use("agent__worker", id="a", prompt="one"),
        *use("agent__worker", id="b", prompt="two"),
    ]
    model = model_of(says(boss=[both, "end"], worker=["done"]))
    result = await executor(model, WORKER).run(BOSS, "go")
    assert (result.status, children_of(result)) == ("ok", 2)


@pytest.mark.parametrize("fault", ["raises", "hangs", "lies"])
def test_a_palette_that_misbehaves_ends_the_run_with_an_error(fault: str) -> None:
    async def main(world: World) -> RunResult:
        class Bad(FixedPalette):
            async def agent(self, name: str) -> Any:
                if fault == "raises":
                    raise RuntimeError("no store")
                if fault == "hangs":
                    await world.sleep(10_000)
                return "a worker"

        result = await executor_of(["x"], ports=Ports(palette=Bad()), world=world).run(BOSS, "go")
        assert world.monotonic() < 20
        return result

    result = simulate(main)
    assert result.status == "error"
    assert "palette" in result.error


async def test_what_a_delegate_does_not_say_is_the_executors() -> None:
    worker = RunnableAgent(
        "worker", prompt="worker", max_turns=2, timeout_s=7.0, model="scripted:w"
    )
    runs = executor_of([], ports=Ports(palette=FixedPalette([worker])), system_header="H")
    manifest = runs.manifest(BOSS, await reachable(BOSS, runs.ports.palette, 1.0))
    (agent,) = manifest.agents
    assert (agent.prompt, agent.model, agent.tools) == ("H\n\nworker", "scripted:w", [])
    assert agent.limits == {"max_turns": 2, "timeout_s": 7.0}


async def test_agents_that_nobody_named_are_told_apart_by_the_palette() -> None:
    class Unnamed(FixedPalette):
        async def agent(self, name: str) -> RunnableAgent | None:
            return {
                "worker": RunnableAgent(prompt="worker", agents=("helper",)),
                "helper": RunnableAgent(prompt="helper", agents=("worker",)),
            }.get(name)

    replies = says(
        boss=[use("agent__worker", prompt="go"), "done"],
        worker=[use("agent__helper", prompt="go"), "worked"],
        helper=[use("agent__worker", prompt="go"), "helped"],
    )
    executor = executor_of(model_of(replies), ports=Ports(palette=Unnamed()))
    result = await executor.run(BOSS, "go")
    rows = [row for row in await executor.journal.runs() if row.run_id != result.run_id]
    told = [
        str(fact.data.get("content"))
        for row in rows
        for fact in await facts_of(executor.journal, row)
        if fact.type == "tool.result"
    ]
    assert (result.status, len(rows)) == ("ok", 2)
    assert sorted("exec.child.ancestor" in each for each in told) == [False, True], told


@pytest.mark.parametrize(("own", "home"), [(700, 0), (700, 90), (0, 90), (0, 0), (90, 90)])
async def test_the_answers_of_a_delegate_are_as_long_as_it_says_itself(own: int, home: int) -> None:
    boss, worker = replace(BOSS, max_tokens=home), replace(WORKER, max_tokens=own)
    model = model_of(says(boss=[use("agent__worker", prompt="go"), "end"], worker=["done"] * 2))
    runs = executor(model, worker)
    assert (await runs.run(boss, "go")).status == "ok"
    asked = {request.system: request.max_tokens for request in model.requests}
    await runs.run(worker, "go")
    assert asked["worker"] == model.requests[-1].max_tokens == (own or 8192)
    assert asked["boss"] == (home or 8192)
