"""Agents that work in phases."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lorimer.core import mail
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import ImageBlock, Message, ToolResultBlock, ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.explain import explain
from lorimer.journal.family import children_in
from lorimer.journal.outcome import outcome
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify
from lorimer.run import (
    Decision,
    EnvironmentConfig,
    Executor,
    FixedPalette,
    InMemoryInputFiles,
    InputFile,
    Invocation,
    Phase,
    Ports,
    RunnableAgent,
    RunResult,
    RunStep,
    Seen,
    SessionTools,
    Skill,
    ToolSession,
)
from lorimer.stages.catalogue import catalogue
from lorimer.stages.s06_phases import filled, names_in
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate_in
from lorimer.tools import tool
from lorimer.world.real import RealWorld
from tests.run.support import executor_of, model_of, use
from tests.run.test_critic import Says, Work, once

pytestmark = pytest.mark.anyio
CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))

TWO = RunnableAgent(
    "writer",
    tools=("work",),
    phases=(Phase("find", "Find out: {query}"), Phase("write", "Write of: {find}")),
)


def system_is(**replies: Any) -> Callable[[Request], Any]:
    """Replies by the first word of what a phase is told, one after the other."""
    left = {
        name: list(given) if isinstance(given, list) else [given] for name, given in replies.items()
    }

    def reply(request: Request) -> Any:
        word = request.system.split()[0].rstrip(":").lower()
        said = left[word].pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    return reply


def failing() -> APIError:
    return APIError("broken", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST)


def with_phases(*phases: Phase, **options: Any) -> RunnableAgent:
    return RunnableAgent("writer", tools=("work",), phases=phases, **options)


async def test_row_45_phases_run_in_order_with_prompts_of_query_and_earlier_outputs() -> None:
    model = model_of(["facts", "text"])
    executor = executor_of(model, system_header="House rules.")
    image = ImageBlock("image/png", "aGk=")
    agent = replace(TWO, tools=(), prompt="You are brief.")
    result = await executor.run(agent, "cats", Invocation(images=(image,)))
    assert (result.status, result.output) == ("ok", "text")
    assert [request.system for request in model.requests] == [
        "House rules.\n\nYou are brief.\n\nFind out: cats",
        "House rules.\n\nYou are brief.\n\nWrite of: facts",
    ]
    for request in model.requests:
        assert [b.type for b in request.messages[0].content] == ["image", "text"]
    assert [m.text for m in result.messages] == ["cats", "facts", "cats", "text"]
    assert (result.usage.input_tokens, result.usage.output_tokens) == (200, 20)
    assert result.cost_nano == 220_000


async def test_row_45_two_phases_of_one_name_both_run_and_the_later_output_counts() -> None:
    model = model_of(["first", "second", "third"])
    phases = (Phase("draft", "A"), Phase("draft", "B {draft}"), Phase("end", "C {draft}"))
    agent = replace(with_phases(*phases), tools=())
    result = await executor_of(model).run(agent, "go")
    assert result.output == "third"
    assert [request.system for request in model.requests] == ["A", "B first", "C second"]


async def test_row_45_what_stands_in_values_is_left_as_it_is() -> None:
    model = model_of(["{query} {{query}} {query.__class__} $query", "end"])
    await executor_of(model).run(replace(TWO, tools=()), "secret")
    assert model.requests[1].system == ("Write of: {query} {{query}} {query.__class__} $query")


def test_names_in_braces_and_nothing_else_is_filled_in() -> None:
    prompt = '{a} {{a}} {a.b} {a[0]} {a!r} {a:x} {0} {} {"a": {"b": 1}} ${a} {é} }{a}{'
    assert names_in(prompt) == ["a", "a", "a"]
    assert filled(prompt, {"a": "X"}) == (
        'X {a} {a.b} {a[0]} {a!r} {a:x} {0} {} {"a": {"b": 1}} $X {é} }X{'
    )


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ((Phase("find", "{qury}"),), "did you mean 'query'"),
        ((Phase("a", "{b}"), Phase("b")), "{b} is not an earlier phase"),
        ((Phase("query"),), "'query' is reserved for the run's input"),
        ((Phase("no name"),), "phases[0].name"),
        ((Phase(""),), "phases[0].name"),
        ((Phase("a", tools=("wrok",)),), "did you mean 'work'"),
    ],
    ids=["typo", "later", "query", "no word", "empty", "tool"],
)
async def test_what_is_wrong_with_phases_is_told_before_anything_runs(
    phases: Sequence[Phase], told: str
) -> None:
    model = model_of(["x"])
    executor = executor_of(model, tools=[_Done()])
    result = await executor.run(with_phases(*phases), "go")
    assert result.status == "error"
    assert told in result.error
    assert not model.requests


class _Done(Work):
    def __init__(self) -> None:
        pass

    async def execute(self, input: Any, context: Any) -> Any:
        from lorimer.tools import ToolResult

        return ToolResult("found it")


async def test_phases_have_models_turns_and_tools_of_their_own() -> None:
    agent = with_phases(
        Phase("all", "All"),
        Phase("none", "None", tools=()),
        Phase("bare", "Bare", bare=True, model="scripted:other"),
        Phase("lost", "Lost", model="nowhere:x", max_turns=1),
    )
    model = model_of(["a", "b", "c", "d"])
    executor = executor_of(model, tools=[_Done()])
    result = await executor.run(agent, "go")
    assert (result.status, result.output) == ("ok", "d")
    assert [[tool.name for tool in r.tools] for r in model.requests] == [["work"], [], [], ["work"]]
    (warning,) = result.warnings
    assert "nowhere:x" in warning
    assert "'lost'" in warning
    manifest = executor.manifest(replace(agent, phases=agent.phases[:3]))
    made = [each.manifest for each in manifest.agents if each.manifest]
    assert [each.model.model for each in made] == ["scripted:x", "scripted:x", "scripted:other"]
    assert ["tool" in each.stages for each in made] == [True, False, False]


async def test_steps_of_all_phases_are_told_live_and_in_the_result() -> None:
    seen: list[RunStep] = []
    reply = system_is(find=[use(id="c1"), "facts"], write=[use(id="c2"), use(id="c3", n=1), "end"])
    executor = executor_of(reply, tools=[_Done()])
    result = await executor.run(TWO, "go", Invocation(on_step=seen.append))
    assert [step.id for step in result.steps] == ["c1", "c2", "c3"]
    assert [(step.id, step.state) for step in seen] == [
        (call, state) for call in ("c1", "c2", "c3") for state in ("running", "complete")
    ]


async def test_row_46_an_optional_phase_that_fails_is_replaced_by_its_fallback() -> None:
    agent = with_phases(
        Phase("find", "Find", optional=True, fallback="nothing found"),
        Phase("write", "Write of: {find}"),
    )
    model = model_of(system_is(find=failing(), write="end"))
    result = await executor_of(model, tools=[_Done()]).run(agent, "go")
    assert (result.status, result.output) == ("ok", "end")
    assert model.requests[-1].system == "Write of: nothing found"


async def test_row_46_a_phase_out_of_turns_is_salvaged() -> None:
    agent = with_phases(Phase("find", "Find", max_turns=2), Phase("write", "Write of: {find}"))
    model = model_of(
        system_is(find=[use(id="c1"), use(id="c2", n=1)], write="end"),
    )
    result = await executor_of(model, tools=[_Done()]).run(agent, "go")
    assert (result.status, result.output) == ("ok", "end")
    assert model.requests[-1].system == "Write of: found it\n\nfound it"
    assert result.run is not None
    phases = [e.data for e in result.run.events if str(e.data.get("key")).startswith("phase:")]
    assert [each.get("instead") for each in phases] == ["salvaged", None]


async def test_row_46_any_other_failure_ends_the_run_with_what_was_done_and_spent() -> None:
    agent = with_phases(Phase("find", "Find"), Phase("write", "Write"), Phase("check", "Check"))
    model = model_of(system_is(find=[use(id="c1"), "facts"], write=failing(), check="never"))
    result = await executor_of(model, tools=[_Done()]).run(agent, "go")
    assert (result.status, result.code) == ("error", ExecutorErrorCode.EXEC_API_BAD_REQUEST)
    assert "'write'" in result.error
    assert [step.id for step in result.steps] == ["c1"]
    assert (result.usage.input_tokens, result.cost_nano) == (200, 220_000)
    assert len(model.requests) == 3


@pytest.mark.parametrize("optional", [True, False], ids=["optional", "salvaged"])
@pytest.mark.parametrize("status", ["cancelled", "timeout", "killed", "budget_exceeded"])
def test_row_47_cancellation_deadline_kill_and_money_are_never_swallowed(
    status: str, optional: bool
) -> None:
    async def main(world: World) -> tuple[RunResult, list[str]]:
        # it is in its last turn, and then it would be salvaged
        find = Phase("find", "Find", optional=optional, fallback="f", max_turns=1)
        agent = with_phases(find, Phase("write", "Write"), timeout_s=60, critic=status == "killed")
        dear = model_of(system_is(find=[use(s=50)], write="end"))
        limits = Limits(max_turns=12, timeout_s=60, max_cost_usd=0.0 if "bud" in status else 5.0)
        seconds = 100.0 if status == "timeout" else 50.0
        dear = model_of(system_is(find=[use(s=seconds)], write="end"))
        critic = Says(once(Decision(kill="enough"), 10))
        executor = executor_of(
            dear, tools=[Work(world)], world=world, limits=limits, ports=Ports(critic=critic)
        )
        handle = executor.start(agent, "go")
        await world.sleep(20)
        if status == "cancelled":
            handle.cancel()
        result = await handle
        rows = await executor.journal.runs()
        return result, [row.status for row in rows]

    result, rows = simulate(main)
    assert result.status == status
    assert rows == [status, status]  # the run and its phase; the second never began


def test_row_47_a_phase_that_is_cancelled_from_elsewhere_ends_the_run() -> None:
    async def main(world: World) -> RunResult:
        agent = with_phases(Phase("find", "Find", optional=True), Phase("write", "Write"))
        executor = executor_of(
            system_is(find=[use(s=50)], write="end"), tools=[Work(world)], world=world
        )
        handle = executor.start(agent, "go")
        await world.sleep(20)
        (child,) = [row for row in await executor.journal.runs() if row.run_id != handle.run_id]
        await mail.cancel(executor.journal, child.run_id)
        return await handle

    assert simulate(main).status == "cancelled"


def test_whoever_waits_for_a_run_sees_the_phases_that_began_meanwhile() -> None:
    async def main(world: World) -> None:
        write = [use(id="c2", s=10), use(id="c3"), "text"]
        model = model_of(system_is(find=[use(id="c1", s=10), "facts"], write=write))
        one = executor_of(model, tools=[Work(world)], world=world, journal=MemoryJournal(world))
        other = executor_of(model, tools=[Work(world)], world=world, journal=one.journal)
        agent = with_phases(Phase("find", "Find"), Phase("write", "Write"))
        going = one.start(agent, "go", Invocation(run_id="R"))
        await world.sleep(5)
        seen: list[RunStep] = []
        asked = Invocation(on_step=seen.append)
        waits = asyncio.create_task(other.resume(agent, "R", asked, wait_s=60))
        await world.sleep(10)
        one.shut_down()
        assert (await going).status == "suspended"
        assert (await waits).output == "text"
        assert [step.id for step in seen] == ["c2", "c2", "c3", "c3"]

    simulate(main)


def test_row_50_a_resumed_run_skips_phases_that_are_done_and_goes_on_with_the_interrupted() -> None:
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)
    agent = with_phases(Phase("find", "Find"), Phase("write", "Write {find}"), Phase("end", "End"))
    ids: list[str] = []

    def executor(model: Any) -> Executor:
        return executor_of(model, tools=[Work(world)], world=world, journal=journal)

    async def first(world: World) -> None:
        reply = system_is(find=[use(id="c1"), "facts"], write=[use(id="c2"), use(id="c3", s=50)])
        handle = executor(reply).start(agent, "go")
        ids.append(handle.run_id)
        await handle

    with pytest.raises(SimulatedCrash):
        simulate_in(world, first, crash_at_s=20)

    async def second(world: World) -> tuple[RunResult, Any, list[Any]]:
        await world.sleep(60)
        model = model_of(system_is(write=["text"], end=["done"]))
        seen: list[RunStep] = []
        going = executor(model)
        result = await going.resume(agent, ids[0], Invocation(on_step=seen.append))
        assert [step.id for step in seen] == ["c3", "c3"]
        assert [len(request.messages) for request in model.requests] == [5, 1]
        pipeline, _ = going._pipelines.of(agent, None, (), ())
        return result, await pipeline.replay(ids[0]), await verify(journal, ids[0])

    result, replayed, faults = simulate_in(world, second)
    assert (result.status, result.output) == ("ok", "done")
    assert [step.id for step in result.steps] == ["c1", "c2", "c3"]
    assert result.run is not None
    assert len(children_in(result.run.events)) == 3
    assert (result.usage.input_tokens, result.cost_nano) == (600, 660_000)
    assert (replayed.divergence, replayed.result.output, faults) == (None, "done", [])


async def test_what_phases_have_said_is_in_the_result_that_is_read_from_the_journal() -> None:
    reply = system_is(find=[use(id="c1"), "facts"], write="text")
    executor = executor_of(model_of(reply), tools=[Work(RealWorld())])
    result = await executor.run(TWO, "cats", Invocation(run_id="R"))
    for found in (await executor.result("R"), await executor.finish(TWO, "R")):
        assert (found.output, found.steps) == ("text", result.steps)
        assert found.messages == result.messages
    assert outcome(await recorded(executor.journal, "R")).text == "text"


def test_phases_that_are_done_are_paid_for_as_soon_as_a_run_is_resumed() -> None:
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)
    ids: list[str] = []

    def executor(model: Any) -> Executor:
        return executor_of(model, tools=[Work(world)], world=world, journal=journal)

    agent = with_phases(Phase("find", "Find"), Phase("write", "Write"), Phase("end", "End"))

    async def first(world: World) -> None:
        handle = executor(system_is(find="x" * 10, write=[use(id="c1", s=50)])).start(agent, "go")
        ids.append(handle.run_id)
        await handle

    with pytest.raises(SimulatedCrash):
        simulate_in(world, first, crash_at_s=20)

    async def second(world: World) -> tuple[RunResult, int]:
        await world.sleep(60)
        going = executor(system_is(write="y", end="z"))
        seen: list[int] = []
        handle = asyncio.create_task(going.resume(agent, ids[0]))
        await world.sleep(1)
        (live,) = [p for p, _ in going._pipelines._made.values()]
        seen.append(next(c for c in live._launcher.live if c.id == ids[0]).spend.nano)
        await handle
        return handle.result(), seen[0]

    result, early = simulate_in(world, second)
    assert early == 110_000  # the first phase is paid for while the second goes on
    assert result.status == "ok"


async def test_phases_give_work_to_others_where_they_may() -> None:
    agent = with_phases(
        Phase("alone", "Alone", tools=("work",)), Phase("boss", "Boss"), agents=("helper",)
    )
    helper = RunnableAgent("helper", prompt="Helper")
    reply = system_is(
        alone="a", boss=[use("agent__helper", prompt="help"), "done"], helper="helped"
    )
    model = model_of(reply)
    executor = executor_of(
        model, tools=[_Done()], ports=Ports(palette=FixedPalette(agents=[helper]))
    )
    result = await executor.run(agent, "go")
    assert (result.status, result.output) == ("ok", "done")
    assert [[t.name for t in r.tools] for r in model.requests][:2] == [
        ["work"],
        ["work", "agent__helper"],
    ]
    last = model.requests[-1].messages[-1].content[0]
    assert isinstance(last, ToolResultBlock)
    assert last.content == "helped"


async def test_a_phase_has_the_skills_and_agents_that_it_names_and_their_tools() -> None:
    agent = with_phases(
        Phase("one", "One", tools=("skill__dig",)),
        Phase("two", "Two", tools=("agent__helper",)),
        agents=("helper",),
        skills=("dig", "fill"),
    )
    palette = FixedPalette(
        agents=[RunnableAgent("helper", prompt="Helper")],
        skills=[
            Skill(RunnableAgent("dig", prompt="Dig", tools=("work",))),
            Skill(RunnableAgent("fill", prompt="Fill")),
        ],
    )
    reply = system_is(
        one=[use("skill__dig"), "a"],
        two="b",
        dig=[use("work"), "a hole"],
    )
    model = model_of(reply)
    executor = executor_of(model, tools=[_Done()], ports=Ports(palette=palette))
    result = await executor.run(agent, "go")
    assert (result.status, result.output) == ("ok", "b")
    shown = {request.system: [tool.name for tool in request.tools] for request in model.requests}
    assert shown == {"One": ["skill__dig"], "Dig": ["work"], "Two": ["agent__helper"]}


async def test_an_agent_with_phases_is_given_work_like_any_other() -> None:
    boss = RunnableAgent("boss", prompt="Boss", agents=("writer",))
    reply = system_is(
        boss=[use("agent__writer", prompt="cats"), "done"], find="facts", write="text"
    )
    model = model_of(reply)
    ports = Ports(palette=FixedPalette(agents=[replace(TWO, tools=())]))
    result = await executor_of(model, ports=ports).run(boss, "go")
    assert result.output == "done"
    assert [request.system for request in model.requests][1:3] == [
        "Find out: cats",
        "Write of: facts",
    ]
    last = model.requests[-1].messages[-1].content[0]
    assert isinstance(last, ToolResultBlock)
    assert last.content == "text"


def test_the_critic_of_a_run_nudges_and_extends_whichever_phase_goes_on() -> None:
    async def main(world: World) -> tuple[RunResult, list[Request]]:
        agent = with_phases(Phase("find", "Find"), Phase("write", "Write"))
        agent = replace(agent, timeout_s=60, critic=True)
        model = model_of(system_is(find="facts", write=[use(id="c1", s=300), "end"]))
        critic = Says(once(Decision(nudge="Hurry.", extend_s=200), 100), limit_s=200)
        executor = executor_of(model, tools=[Work(world)], world=world, ports=Ports(critic=critic))
        return await executor.run(agent, "go"), model.requests

    result, requests = simulate(main)
    assert (result.status, result.output) == ("ok", "end")
    assert "Hurry." in requests[-1].messages[-1].text


def test_what_a_person_sends_after_the_last_phase_is_for_that_one() -> None:
    async def main(world: World) -> tuple[RunResult, list[Request]]:
        agent = with_phases(Phase("find", "Find"), Phase("write", "Write {find}"))
        model = model_of(system_is(find="facts", write=[use(id="c1", s=50), "end", "longer end"]))
        executor = executor_of(model, tools=[Work(world)], world=world)
        handle = executor.start(agent, "go")
        await world.sleep(20)
        await mail.send(executor.journal, handle.run_id, "Make it longer.", id="1")
        return await handle, model.requests

    result, requests = simulate(main)
    assert (result.status, result.output) == ("ok", "longer end")
    assert requests[-1].messages[0].text == "go\n\nMake it longer."
    assert requests[-1].system == "Write facts"


async def test_why_phases_went_as_they_did_is_explained() -> None:
    agent = with_phases(Phase("find", "Find", optional=True, fallback="f"), Phase("write", "Write"))
    model = model_of(system_is(find=failing(), write="end"))
    executor = executor_of(model, tools=[_Done()])
    result = await executor.run(agent, "go")
    told = explain(await recorded(executor.journal, result.run_id), catalogue())
    assert [(each.what.split()[0], str(each.origin)) for each in told if each.kind == "child"] == [
        ("begun", "stages[6].config.phases[0]"),
        ("its", "stages[6].config.phases[0].fallback"),
        ("begun", "stages[6].config.phases[1]"),
    ]


@pytest.mark.parametrize("steps", range(1, 200, 1 if CAMPAIGN else 24))
def test_row_50_wherever_a_run_in_phases_dies_nothing_that_is_recorded_is_done_again(
    steps: int,
) -> None:
    world = SimulatedWorld(steps)
    journal = MemoryJournal(world)
    asked: list[str] = []
    agent = with_phases(
        Phase("find", "Find", max_turns=2),  # runs out of turns
        Phase("write", "Write {find}", optional=True),
        Phase("end", "End {write}"),
        timeout_s=60,
        critic=True,
    )

    def reply(request: Request) -> Any:
        word, turn = request.system.split()[0], sum(m.role == "assistant" for m in request.messages)
        asked.append(f"{word}{turn}")
        if word == "Find":
            return use(id=f"f{turn}", s=5, n=turn)
        return use(id="w", s=70) if (word, turn) == ("Write", 0) else word

    def executor() -> Executor:
        critic = Says(once(Decision(extend_s=30, nudge="Hurry."), 30), limit_s=100)
        return executor_of(
            reply, tools=[Work(world)], world=world, journal=journal, ports=Ports(critic=critic)
        )

    async def first(world: World) -> RunResult:
        return await executor().run(agent, "go", Invocation(run_id="run_mine"))

    async def second(world: World) -> RunResult:
        await world.sleep(90)
        return await executor().resume(agent, "run_mine")

    try:
        result = simulate_in(world, first, crash_after_steps=steps)
    except SimulatedCrash:
        result = simulate_in(world, second)
    if result.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN:
        return  # it died before it was accepted
    if result.code is not ExecutorErrorCode.EXEC_RUN_ENDED:
        assert (result.status, result.output) == ("ok", "End")
    assert len(asked) - len(set(asked)) <= 1  # the call that was under way
    assert asyncio.run(verify(journal, "run_mine")) == []


async def test_a_phase_reads_the_files_of_its_run_and_is_shown_the_pictures_of_its_tools() -> None:
    picture = ImageBlock("image/png", "iVBORw0KGgo=")

    def tools_for(session: ToolSession) -> SessionTools:
        @tool(effects=[])
        async def show() -> str:
            """Show."""
            session.attach_images(picture)
            return "shown"

        made = SessionTools()
        made.tools = [show]
        return made

    seen: list[list[Message]] = []

    def reply(request: Request) -> Any:
        seen.append(list(request.messages))
        said = sum(message.role == "assistant" for message in request.messages)
        return [[ToolUse("r", "read_input", {"id": "file_1"})], use("show"), "end"][said]

    ports = Ports(input_files=InMemoryInputFiles())
    executor = executor_of(model_of(reply), ports=ports)
    agent = RunnableAgent("writer", phases=(Phase("find", "Find."), Phase("write", "Write.")))
    asked = Invocation(input_files=(InputFile("a.txt", b"what it says"),), session_tools=tools_for)
    result = await executor.run(agent, "go", asked)
    assert (result.status, [step.state for step in result.steps]) == ("ok", ["complete"] * 4)
    for messages in (seen[2], seen[5]):
        assert "what it says" in str(messages)
        assert picture in messages[-1].content


def test_phases_may_use_what_the_settings_of_the_host_give_their_run() -> None:
    def raised_to(turns: int, seconds: int) -> EnvironmentConfig:
        given = {"LORIMER_RUN_MAX_TURNS": str(turns), "LORIMER_RUN_TIMEOUT_S": str(seconds)}
        return EnvironmentConfig(environment=given)

    async def main(world: World) -> list[RunResult]:
        ended: list[RunResult] = []
        journal = MemoryJournal(world)
        phases = Phase("find", "Find"), Phase("write", "Write", max_turns=2)
        for settings in (raised_to(20, 500), raised_to(3, 500), raised_to(20, 50)):
            busy = [use(id=f"c{n}", s=10, n=n) for n in range(15)]
            model = model_of(system_is(find=[*busy, "facts"], write=[use(id="d"), use(id="e")]))
            executor = executor_of(
                model,
                tools=[Work(world)],
                world=world,
                journal=journal,
                ports=Ports(config=settings),
            )
            ended.append(await executor.run(with_phases(*phases), "go"))
        # it is the same agent, whatever the settings are
        assert len({str(each.run.events[0].data["manifest"]) for each in ended if each.run}) == 1
        return ended

    longer, shorter, hurried = simulate(main)
    assert (longer.status, len(longer.steps)) == ("ok", 17)
    assert (shorter.status, len(shorter.steps)) == ("ok", 5)
    assert (hurried.status, len(hurried.steps)) == ("timeout", 5)


def test_the_critic_of_a_run_sees_the_phase_at_work_and_gives_it_turns() -> None:
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)
    agent = with_phases(Phase("find", "Find", max_turns=2), Phase("write", "Write", max_turns=2))
    agent = replace(agent, timeout_s=600, critic=True)
    critic = Says(once(Decision(raise_turns=3), 45), limit_s=600)
    work = [use(id=f"c{n}", s=30, n=n) for n in range(4)]
    ids: list[str] = []

    def executor(*replies: Any) -> Executor:
        model = model_of(system_is(find="facts", write=list(replies)))
        ports = Ports(critic=critic)
        return executor_of(model, tools=[Work(world)], world=world, journal=journal, ports=ports)

    async def first(world: World) -> None:
        handle = executor(*work).start(agent, "go")
        ids.append(handle.run_id)
        await handle

    with pytest.raises(SimulatedCrash):
        simulate_in(world, first, crash_at_s=100)
    last = critic.seen[-1]
    assert (last.turns, last.max_turns, last.usage.input_tokens, last.cost_nano) == (
        *(4, 5),  # of its own, not of the run's
        *(500, 550_000),  # with the phase before it
    )
    assert len(last.messages) == 8

    async def second(world: World) -> tuple[RunResult, Any]:
        await world.sleep(60)
        result = await executor("end").resume(agent, ids[0])
        return result, await verify(journal, ids[0])

    result, faults = simulate_in(world, second)
    assert (result.status, result.output, len(result.steps), faults) == ("ok", "end", 4, [])


def test_turns_that_a_critic_gives_to_a_phase_are_not_for_the_next_one() -> None:
    async def main(world: World) -> None:
        async def late(seen: Seen) -> Decision | None:
            if len(critic.seen) > 1:
                return None
            await world.sleep(28)
            return Decision(raise_turns=3)

        critic = Says(late, limit_s=600)
        find = [use(id="c1", s=20), "facts"]
        write = [use(id=f"w{n}", s=30, n=n) for n in range(3)]
        executor = executor_of(
            model_of(system_is(find=find, write=write)),
            tools=[Work(world)],
            world=world,
            ports=Ports(critic=critic),
        )
        agent = with_phases(
            Phase("find", "Find", max_turns=2), Phase("write", "Write", max_turns=2)
        )
        agent = replace(agent, timeout_s=600, critic=True)
        await executor.run(agent, "go")
        assert {seen.max_turns for seen in critic.seen} == {2}

    simulate(main)


@pytest.mark.parametrize("limit", ["max_depth", "max_descendants"])
async def test_row_46_an_optional_phase_that_may_not_begin_is_replaced_by_its_fallback(
    limit: str,
) -> None:
    limits = replace(Limits(allow_unpriced=True), **{limit: 0})
    optional = RunnableAgent(
        phases=(Phase("find", "Find", optional=True, fallback="nothing found"),)
    )
    executor = executor_of(model_of([]), limits=limits)
    result = await executor.run(optional, "go")
    assert (result.status, result.output, result.cost_nano) == ("ok", "nothing found", 0)
    assert await verify(executor.journal, result.run_id) == []
    pipeline, _ = executor._pipelines.of(optional, None, (), ())
    assert (await pipeline.replay(result.run_id)).divergence is None
    needed = await executor.run(RunnableAgent(phases=(Phase("find", "Find"),)), "go")
    codes = {"max_depth": "exec.child.depth", "max_descendants": "exec.child.descendants"}
    assert needed.code is not None
    assert (needed.status, needed.code.value) == ("error", codes[limit])
