"""Runs within runs: what a child shares with its parent, what becomes of it, what it costs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from anyio import CancelScope

from lorimer import ConfigError
from lorimer.attend import Attendant
from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import find
from lorimer.core.jsonable import JSON
from lorimer.core.mail import answer
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.recording import facts_of, used_s
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import AskLater, Tool, ToolRegistry
from tests.core.support import Do, use
from tests.session.families import (
    EACH_NANO,
    about,
    agent,
    model_of,
    pipeline_of,
    script,
    sound,
    statuses,
    task,
    told,
    work,
)

CODE = ExecutorErrorCode


def ungranted(*tools: Tool) -> ToolRegistry:
    """Tools that rules decide about."""
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool, granted=False)
    return registry


def children(result: PipelineResult) -> list[str]:
    return [str(fact.data["run"]) for fact in result.events if fact.type == "child"]


# --- what a child is --------------------------------------------------------------------------


def test_a_child_has_its_own_run_and_its_parent_pays() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = model_of({"main": [[work("digger", "dig")], "so"], "digger": ["gold"]})
        pipeline = pipeline_of(world, model, agent("digger"))
        result = await pipeline.run("go", limits={"max_cost_usd": 1.0})
        [child] = children(result)
        assert told(result) == ["gold"] and result.text == "so"
        assert result.cost_nano == 3 * EACH_NANO
        start = (await facts_of(pipeline.journal, await find(pipeline.journal, child)))[0]
        parent = {"run": result.run_id, "iteration": 0, "agent": "digger"}
        assert start.data["parent"] == parent and start.data["input"] == "dig"
        assert (await pipeline.result(child)).text == "gold"
        await sound(pipeline.journal, result.run_id)
        replayed = await pipeline.replay(result.run_id)
        assert replayed.divergence is None and replayed.result.text == "so"

    simulate(main)


def test_the_model_chooses_among_declared_sub_agents_only() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = model_of({"main": [[work("nobody")], "so"]})
        pipeline = pipeline_of(world, model, agent("digger"), agent("cook"))
        result = await pipeline.run("go")
        [spec] = [tool for tool in model.requests[0].tools if tool.name == "Agent"]
        assert spec.input_schema["properties"]["subagent_type"]["enum"] == ["digger", "cook"]
        assert "- cook: It is cook." in spec.description
        assert "exec.tool.invalid_input" in told(result)[0] and children(result) == []

    simulate(main)


def test_calls_in_one_reply_work_side_by_side() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {"main": [[work("digger", "a"), work("digger", "b")], "so"], "digger": ["."]}
        pipeline = pipeline_of(world, model_of(replies, latency_s=2.0), agent("digger"))
        await pipeline.run("go")
        assert world.monotonic() == 6.0, "two turns, and two children at once"

    simulate(main)


def test_a_child_that_fails_is_told_with_what_it_had_said() -> None:
    async def main(world: SimulatedWorld) -> None:
        look = [TextBlock("I begin."), use("look")]
        replies = {"main": [[work("digger")], "so"], "digger": [look, "never"]}
        pipeline = pipeline_of(
            world, model_of(replies), agent("digger", limits={"max_turns": 1}), tools=[Do("look")]
        )
        result = await pipeline.run("go")
        assert result.text == "so", "its parent goes on"
        [said] = told(result)
        assert said.startswith("ERROR exec.loop.max_turns: digger ended as error")
        assert result.steps[0].is_error and "I begin." in said
        await sound(pipeline.journal, result.run_id)

    simulate(main)


def test_a_sub_agent_may_be_a_whole_manifest_with_sub_agents_of_its_own() -> None:
    async def main(world: SimulatedWorld) -> None:
        inner = pipeline_of(world, model_of({}), agent("cook")).manifest.model_copy(deep=True)
        inner.stages["system"].config["prompt"] = "You are chef."
        chef = agent("chef").model_copy(update={"prompt": "", "manifest": inner})
        replies = {"main": [[work("chef")], "so"], "chef": [[work("cook")], "served"]}
        model = model_of({**replies, "cook": ["soup"]})
        pipeline = pipeline_of(world, model, chef)
        result = await pipeline.run("go")
        assert told(result) == ["served"]
        assert await statuses(pipeline.journal, result.run_id) == ["ok", "ok"]
        assert result.cost_nano == 5 * EACH_NANO, "the cook's run is paid for by the chef's"
        await sound(pipeline.journal, result.run_id)

    simulate(main)


# --- tools and rules --------------------------------------------------------------------------


def test_a_sub_agent_has_the_tools_that_it_is_declared_with() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {"main": [[work("all"), work("one"), work("none")], "so"]}
        names = ("all", "one", "none")
        model = model_of({**replies, **{key: ["."] for key in names}})
        pipeline = pipeline_of(
            world,
            model,
            agent("all"),
            agent("one", tools=["look"]),
            agent("none", tools=[]),
            tools=[Do("look"), Do("put")],
        )
        await pipeline.run("go")
        had = {r.system[8:-1]: [tool.name for tool in r.tools] for r in model.requests}
        assert had["all"] == ["look", "put"], "not Agent, unless it is said"
        assert (had["one"], had["none"]) == (["look"], [])

    simulate(main)


def test_rules_hold_for_children_too_and_a_rule_may_be_about_a_sub_agent() -> None:
    async def main(world: SimulatedWorld) -> None:
        put = Do("put", effects=["write"])

        def deny(manifest: EnvironmentManifest) -> None:
            manifest.permissions.deny = ["put", "Agent(cook)"]

        replies = {
            "main": [[work("digger"), work("cook")], "so"],
            "digger": [[use("put")], "it was refused"],
        }
        pipeline = pipeline_of(
            world, model_of(replies), agent("digger"), agent("cook"), tools=[put], change=deny
        )
        result = await pipeline.run("go")
        assert put.calls == []
        assert told(result)[0] == "it was refused"
        assert "exec.tool.access_denied" in told(result)[1] and len(children(result)) == 1

    simulate(main)


def test_what_strangers_said_to_the_parent_counts_in_the_child() -> None:
    """With their words in the prompt, a call that could carry them out takes a person."""

    async def main(world: SimulatedWorld) -> None:
        page, run = Do("page"), Do("run", effects=["exec"])
        page.untrusted = True
        replies = {
            "main": [[work("digger")], [use("page")], [work("digger", "again")], "so"],
            "digger": [[use("run")], "tried"],
        }
        pipeline = pipeline_of(
            world, model_of(replies), agent("digger"), tools=ungranted(page, run), rules=["run"]
        )
        result = await pipeline.run("go")
        first, second = children(result)
        said = [told(await pipeline.result(child))[0] for child in (first, second)]
        assert said[0] == "run done"
        assert "exec.tool.access_denied" in said[1]

    simulate(main)


def test_a_child_of_a_run_in_plan_mode_only_looks() -> None:
    async def main(world: SimulatedWorld) -> None:
        put = Do("put", effects=["write"])

        def plan(manifest: EnvironmentManifest) -> None:
            manifest.tools.built_in = ["EnterPlanMode"]

        replies = {
            "main": [[work("digger")], [use("EnterPlanMode")], [work("digger", "again")], "so"],
            "digger": [[use("put")], "tried"],
        }
        pipeline = pipeline_of(
            world, model_of(replies), agent("digger", tools=["put"]), tools=[put], change=plan
        )
        await pipeline.run("go")
        assert len(put.calls) == 1, "before it was on"

    simulate(main)


# --- bounds -----------------------------------------------------------------------------------


def deep(count: int) -> list[Any]:
    """Agents of which each may give work to the others."""
    return [agent(f"a{n}", tools=["Agent"]) for n in range(count)]


def test_runs_within_runs_have_a_depth() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = {f"a{n}": [[work(f"a{n + 1}")], f"from {n}"] for n in range(6)}
        model = model_of({"main": [[work("a0")], "so"], **chain})
        pipeline = pipeline_of(world, model, *deep(7))
        result = await pipeline.run("go")
        assert len(await statuses(pipeline.journal, result.run_id)) == 5
        refused = [
            str(fact.data["content"])
            for row in await pipeline.journal.runs()
            for fact in await facts_of(pipeline.journal, row)
            if fact.data.get("error") == "exec.child.depth"
        ]
        assert len(refused) == 1 and "at most 5 deep" in refused[0]
        await sound(pipeline.journal, result.run_id)

    simulate(main)


def test_no_run_gives_work_to_one_that_it_works_for() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [[work("a0")], "so"],
            "a0": [[work("a1")], "."],
            "a1": [[work("a0")], "."],
        }
        pipeline = pipeline_of(world, model_of(replies), *deep(2))
        result = await pipeline.run("go")
        assert len(await statuses(pipeline.journal, result.run_id)) == 2
        rows = await pipeline.journal.runs()
        facts = [f for row in rows for f in await facts_of(pipeline.journal, row)]
        assert [
            f.data["error"] for f in facts if f.type == "tool.result" and "error" in f.data
        ] == ["exec.child.ancestor"]

    simulate(main)


def test_there_are_so_many_children_in_all_also_after_a_resume() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = model_of(
            {
                "main": [[work("a0", "x"), work("a0", "y")], [work("a1", "z")], "so"],
                "a0": [[work("a1")], "."],
                "a1": ["."],
            },
            latency_s=1.0,
        )
        limits = {"max_descendants": 4}
        pipeline = pipeline_of(world, model, *deep(2), journal=journal)
        running = asyncio.create_task(
            pipeline.run("go", limits=limits, raise_on_error=False)  # type: ignore[arg-type]
        )
        await world.sleep(3.5)
        pipeline.cancel(Reason.SHUTDOWN)
        left = await running
        assert left.status == "suspended"
        again = pipeline_of(world, model, *deep(2), journal=journal)
        result = await again.resume(left.run_id)
        assert "exec.child.descendants" in told(result)[-1]
        assert await statuses(journal, result.run_id) == ["ok"] * 4
        await sound(journal, result.run_id)

    simulate(main)


def test_parallel_children_never_spend_more_than_is_left() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [[work("digger", str(n)) for n in range(12)], "so"],
            "digger": [[use("look")], [use("look")], "."],
        }
        ceiling = 40 * EACH_NANO / 1e9
        pipeline = pipeline_of(
            world,
            model_of(replies, latency_s=1.0),
            agent("digger"),
            tools=[Do("look")],
            change=lambda m: setattr(m.model, "max_tokens", 10),
        )
        result = await pipeline.run("go", limits={"max_cost_usd": ceiling}, raise_on_error=False)
        ends = await statuses(pipeline.journal, result.run_id)
        assert result.total_cost_usd <= ceiling
        assert "budget_exceeded" in ends and "ok" in ends
        await sound(pipeline.journal, result.run_id)

    simulate(main)


def test_limits_of_a_sub_agent_are_never_more_than_its_parents() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {"main": [[work("digger")], "so"], "digger": ["."]}
        wide = {"max_cost_usd": 100.0, "timeout_s": 9000.0, "max_turns": 3}
        pipeline = pipeline_of(
            world, model_of(replies, latency_s=10.0), agent("digger", limits=wide)
        )
        result = await pipeline.run("go", limits={"max_cost_usd": 1.0, "timeout_s": 60.0})
        row = await find(pipeline.journal, children(result)[0])
        limits = (await facts_of(pipeline.journal, row))[0].data["limits"]
        assert isinstance(limits, dict)
        assert (limits["max_cost_usd"], limits["timeout_s"], limits["max_turns"]) == (1.0, 50.0, 3)

    simulate(main)


# --- cancelling -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "ends"), [("cancel", "cancelled"), ("task", "cancelled"), ("time", "timeout")]
)
def test_what_stops_a_run_stops_all_below_it(how: str, ends: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [[task("a1", "bg")], [work("a0")], "so"],
            "a0": [[work("a1")], "."],
            "a1": [[use("look")], "."],
        }

        async def long(input: object, context: Any) -> str:
            await context.world.sleep(1000)
            return "."

        agents = [agent("a0", tools=["Agent"]), agent("a1", tools=["look"])]
        pipeline = pipeline_of(world, model_of(replies), *agents, tools=[Do("look", long)])
        limits = {"timeout_s": 10.0}
        running = asyncio.create_task(
            pipeline.run("go", limits=limits, raise_on_error=False)  # type: ignore[arg-type]
        )
        await world.sleep(5)
        if how == "cancel":
            pipeline.cancel()
        if how == "task":
            running.cancel()
        await asyncio.wait([running])
        assert world.monotonic() <= 10.1
        [row] = [row for row in await pipeline.journal.runs() if row.title == "go"]
        assert row.status == ends
        assert await statuses(pipeline.journal, row.run_id) == [ends] * 3
        await sound(pipeline.journal, row.run_id)
        assert len(asyncio.all_tasks()) == 1

    simulate(main)


def test_a_suspended_run_suspends_its_children_and_they_go_on_with_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        replies = {"main": [[task("a1"), work("a0")], "so", "and so"], "a0": [[work("a1")], "x"]}
        model = model_of({**replies, "a1": [[use("look")], "y"]}, latency_s=1.0)
        agents = [agent("a0", tools=["Agent"]), agent("a1", tools=["look"])]
        look = Do("look")
        first = pipeline_of(world, model, *agents, journal=journal, tools=[look])
        running = asyncio.create_task(first.run("go", raise_on_error=False))
        await world.sleep(2.5)
        first.shut_down(5.0)
        left = await running
        assert left.status == "suspended" and left.code is CODE.EXEC_RUN_SHUTDOWN
        assert set(await statuses(journal, left.run_id)) == {""}
        calls = model.calls
        second = pipeline_of(world, model, *agents, journal=journal, tools=[look])
        for child in children(left):
            with pytest.raises(PipelineError, match=f"part of run {left.run_id}") as refused:
                await second.resume(child)
            assert refused.value.code is CODE.EXEC_CHILD_PART
        result = await second.resume(left.run_id)
        assert (result.status, told(result)[1]) == ("ok", "x")
        assert await statuses(journal, result.run_id) == ["ok"] * 3
        assert model.calls > calls and len(look.calls) == 2
        await sound(journal, result.run_id)

    simulate(main)


def test_a_run_that_is_given_up_takes_its_children_with_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        replies = {"main": [[work("a0")], "so"], "a0": [[work("a1")], "."], "a1": ["."]}
        pipeline = pipeline_of(world, model_of(replies, latency_s=1.0), *deep(2), journal=journal)
        running = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(2.5)
        pipeline.cancel(Reason.SHUTDOWN)
        left = await running
        await pipeline.abandon(left.run_id)
        assert await statuses(journal, left.run_id) == ["cancelled"] * 2
        ended = await pipeline.result(left.run_id)
        assert (ended.status, ended.cost_nano) == ("cancelled", 2 * EACH_NANO)
        await sound(journal, left.run_id)

    simulate(main)


def test_a_run_can_be_given_up_though_what_its_child_did_is_damaged(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"

    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(store, world=world, threads=False)
        replies = {"main": [[work("digger")], "so"], "digger": [[use("note")], "dug"]}
        pipeline = pipeline_of(
            world,
            model_of(replies, latency_s=1.0),
            agent("digger", tools=["note"]),
            journal=journal,
            tools=[Do("note")],
        )
        running = asyncio.create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(2.5)
        pipeline.cancel(Reason.SHUTDOWN)
        left = await running
        [child, _] = await journal.runs()
        db = apsw.Connection(str(store))
        place = "SELECT id << 32 | 3 FROM streams WHERE name=?"
        db.execute(f"UPDATE facts SET body='[[' WHERE at=({place})", (child.stream,))
        db.close()
        with pytest.raises(JournalError, match="is damaged"):
            await pipeline.resume(left.run_id)
        await pipeline.abandon(left.run_id)
        assert [row.status for row in await journal.runs()] == ["cancelled"] * 2
        ended = await pipeline.result(left.run_id)
        assert ended.cost_nano == 2 * EACH_NANO, "what the ledger knows of the child too"
        for row in await journal.runs():
            assert (await journal.balance(row.run_id)).reserved == 0
        await journal.close()

    simulate(main)


# --- in the background ------------------------------------------------------------------------


def test_a_task_goes_on_beside_the_model_which_is_told_how_it_ended() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = model_of(
            {
                "main": [
                    [task("digger", "dig")],
                    [ToolUse("l", "TaskList", {})],
                    [about("TaskOutput", wait_seconds=60)],
                    [about("TaskGet"), about("TaskOutput", offset=2, limit=3)],
                    "so",
                ],
                "digger": [[TextBlock("I begin."), use("look")], "gold"],
            }
        )

        async def slowly(input: object, context: Any) -> str:
            await context.world.sleep(20)
            return "."

        pipeline = pipeline_of(world, model, agent("digger"), tools=[Do("look", slowly)])
        result = await pipeline.run("go")
        begun, listed, output, stands, page = told(result)
        assert begun == "Task t1 has begun: digger is at work."
        assert listed == "t1 (digger): running"
        assert output == "I begin.\n\ngold\n[t1 (digger): ok; characters 0 to 14 of 14]"
        assert stands == "t1 (digger): ok\nIts task: dig"
        assert page.startswith("beg\n") and "go on from offset 5" in page
        said = [m.text for m in model.requests[-1].messages if m.text.startswith("[Task")]
        assert said == ["[Task t1 of digger has ended: ok]\ngold"], "once"
        assert result.cost_nano == 7 * EACH_NANO
        await sound(pipeline.journal, result.run_id)
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_what_a_task_says_can_be_read_while_it_says_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [[task("digger")], [about("TaskOutput", wait_seconds=5)], "so", "so"],
            "digger": ["one two three four five six seven"],
        }
        model = model_of(replies, delta_s=1.0)
        pipeline = pipeline_of(world, model, agent("digger"))
        result = await pipeline.run("go")
        output = told(result)[1]
        assert output.startswith("one two") and "seven" not in output and "running" in output

    simulate(main)


def test_a_task_is_told_something_and_stopped() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [
                [task("digger", "a"), task("digger", "b")],
                [about("TaskUpdate", message="to the left")],
                [about("TaskStop", "t2"), about("TaskUpdate", "t2", message="hello?")],
                "so",
                "so it is",
            ],
            "digger": [[use("look")], lambda r: f"heard {r.messages[-1].text}", "."],
        }

        async def slowly(input: object, context: Any) -> str:
            await context.world.sleep(20)
            return "."

        model = model_of(replies, latency_s=0.5)
        pipeline = pipeline_of(world, model, agent("digger"), tools=[Do("look", slowly)])
        result = await pipeline.run("go")
        assert told(result)[2:4] == ["Sent to t1.", "t2 (digger): cancelled"]
        assert told(result)[4] == "t2 has ended: nobody would read it."
        said = [m.text for m in model.requests[-1].messages if m.text.startswith("[Task")]
        assert said[-1] == "[Task t1 of digger has ended: ok]\nheard to the left"
        await sound(pipeline.journal, result.run_id)

    simulate(main)


def test_a_task_is_told_something_in_the_reply_that_begins_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        update = about("TaskUpdate", message="to the left")
        model = model_of(
            {
                "main": [[task("digger"), update], "so", "so it is"],
                "digger": ["I dig.", lambda r: f"heard {r.messages[-1].text}"],
            },
            latency_s=0.5,
        )
        pipeline = pipeline_of(world, model, agent("digger"))
        result = await pipeline.run("go")
        assert told(result) == ["Task t1 has begun: digger is at work.", "Sent to t1."]
        said = [m.text for m in model.requests[-1].messages if m.text.startswith("[Task")]
        assert said == ["[Task t1 of digger has ended: ok]\nheard to the left"]
        await sound(pipeline.journal, result.run_id)
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_a_task_is_told_something_once_however_often_the_call_is_made() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def twice(input: object, context: Any) -> str:
            children = context.run.children
            (only,) = await children.tasks()
            return str([await children.tell(only, "to the left", "k") for _ in range(2)])

        model = model_of(
            {
                "main": [[task("digger")], [use("twice")], "so", "so it is"],
                "digger": [[use("look")], lambda r: f"heard {r.messages[-1].text}", "."],
            },
            latency_s=0.5,
        )
        pipeline = pipeline_of(
            world, model, agent("digger"), tools=[Do("twice", twice), Do("look")]
        )
        result = await pipeline.run("go")
        assert told(result)[1] == "[True, True]"
        asked = [request for request in model.requests if "to the left" in str(request.messages)]
        assert str(asked[0].messages).count("to the left") == 1

    simulate(main)


# --- people -----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [work, task])
def test_a_child_that_asks_a_person_suspends_its_parent_until_there_is_an_answer(
    begin: Any,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        put = Do("put", effects=["write"])
        model = model_of(
            {"main": [[begin("digger")], "so", "and so"], "digger": [[use("put")], "done"]}
        )

        def ask(manifest: EnvironmentManifest) -> None:
            manifest.permissions.ask = ["put"]

        def made() -> Any:
            return pipeline_of(
                world,
                model,
                agent("digger"),
                journal=journal,
                tools=[put],
                change=ask,
                approver=AskLater(),
            )

        left = await made().run("go", raise_on_error=False)
        assert (left.status, left.code) == ("suspended", CODE.EXEC_RUN_WAITING)
        again = await made().resume(left.run_id, raise_on_error=False)
        assert again.code is CODE.EXEC_RUN_WAITING, "nobody has answered"
        result = await made().resume(left.run_id, True)
        assert result.status == "ok" and len(put.calls) == 1
        await sound(journal, result.run_id)

    simulate(main)


def test_who_is_cancelled_while_children_end_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def slow(*_: object) -> str:
            try:
                await world.sleep(100)
            finally:
                with CancelScope(shield=True):
                    await world.sleep(5)
            return "late"

        async def hang(*_: object) -> str:
            await world.sleep(100)
            return "late"

        replies = {"main": [[task("digger")], [use("hang")]], "digger": [[use("look")]]}
        tools = [Do("look", slow), Do("hang", hang)]
        digger = agent("digger", tools=["look"])
        pipeline = pipeline_of(world, model_of(replies), digger, tools=tools)
        raised = asyncio.create_task(
            pipeline.run("go", limits={"timeout_s": 10.0}, raise_on_error=False)
        )
        await world.sleep(12)
        raised.cancel()
        with pytest.raises(asyncio.CancelledError):
            await raised
        assert world.monotonic() >= 15
        assert [row.status for row in await pipeline.journal.runs()] == ["timeout"] * 2

    simulate(main)


def test_of_several_questions_one_is_answered_by_its_name_and_none_without() -> None:
    async def main(world: SimulatedWorld) -> None:
        class Nobody:
            async def approve(self, tool: str, summary: str, reason: str) -> bool:
                await world.sleep(1e6)
                return False

        def ask(manifest: EnvironmentManifest) -> None:
            manifest.permissions.ask = ["put"]

        put, journal = Do("put", effects=["write"]), MemoryJournal(world)
        pipeline = pipeline_of(
            world,
            model_of(
                {
                    "main": [[task("digger", "a"), task("digger", "b")], "so", "and so", "over"],
                    "digger": [[use("put")], "done"],
                }
            ),
            agent("digger"),
            journal=journal,
            tools=[put],
            change=ask,
            approver=Nobody(),
        )
        going = asyncio.create_task(pipeline.run("go"))
        await world.sleep(10)
        [row] = [row for row in await journal.runs() if row.title == "go"]
        names = [each.name for each in await mail.questions(journal, row)]
        assert len(names) == 2
        with pytest.raises(PipelineError, match=names[1]):
            await answer(journal, row.run_id, True)
        assert put.calls == []
        for name, agrees in zip(names, (True, False), strict=True):
            assert await answer(journal, row.run_id, agrees, question=name)
            await world.sleep(1)
            assert len(put.calls) == 1
        assert (await going).status == "ok"
        await sound(journal, row.run_id)

    simulate(main)


def test_no_time_of_a_parent_is_used_while_a_person_is_asked_in_a_child() -> None:
    async def main(world: SimulatedWorld) -> None:
        class Slow:
            async def approve(self, tool: str, summary: str, reason: str) -> bool:
                await world.sleep(300.0)
                return True

        async def look(_: object, __: object) -> str:
            await world.sleep(100.0)
            return "seen"

        def ask(manifest: EnvironmentManifest) -> None:
            manifest.permissions.ask = ["put"]

        journal = MemoryJournal(world)
        replies = {
            # at its side the parent records facts while the person is asked
            "main": [
                [task("digger")],
                [use("look")],
                [use("look")],
                [work("digger", "b")],
                "so",
                "and so",
            ],
            "digger": [[use("put")], "done"],
        }
        pipeline = pipeline_of(
            world,
            model_of(replies),
            agent("digger"),
            journal=journal,
            tools=[Do("put", effects=["write"]), Do("look", look)],
            change=ask,
            approver=Slow(),
        )
        result = await pipeline.run("go", limits={"timeout_s": 200.0})
        assert result.status == "ok" and world.monotonic() >= 400
        facts = await facts_of(journal, await find(journal, result.run_id))
        told = [(fact.type, used_s(facts[: at + 1])) for at, fact in enumerate(facts)]
        assert max(used for _, used in told) < 10, told
        resumed = [one for one in await pipeline.explain(result.run_id) if one.kind == "resume"]
        assert resumed == []
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)


# --- declarations -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agents", "problem"),
    [
        ([{"name": "a", "description": "x"}] * 2, "agents[1].name: 'a' is there twice"),
        (
            [{"name": "a", "description": "x", "limits": {"max_turn": 3}}],
            "agents[0].limits.max_turn: there is no such field",
        ),
        (
            [{"name": "a", "description": "x", "manifest": {"stages": []}}],
            "agents[0].manifest.stages: 'input' is missing",
        ),
        (
            [{"name": "a", "description": "x", "prompt": "y", "manifest": {}}],
            "agents[0].prompt: a sub-agent with a manifest has it in there",
        ),
    ],
    ids=["twice", "limits", "manifest", "both"],
)
def test_faults_of_sub_agents_are_found_before_anything_runs(
    agents: list[dict[str, Any]], problem: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        data = pipeline_of(world, model_of({})).manifest.to_dict()
        from lorimer.assembly import check_manifest
        from lorimer.pipeline import Pipeline

        broken = {**data, "agents": agents}
        assert any(found.startswith(problem) for found in check_manifest(broken))
        with pytest.raises(ConfigError) as refused:
            Pipeline(EnvironmentManifest.from_dict(broken), world=world)
        assert any(found.startswith(problem) for found in refused.value.problems)

    simulate(main)


def test_a_tool_that_nobody_has_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(ConfigError) as refused:
            pipeline_of(world, model_of({}), agent("a", tools=["Nonesuch"]))
        told = "agents[0].tools.built_in: there is no built-in tool 'Nonesuch'"
        assert refused.value.problems[0].startswith(told)

    simulate(main)


def test_orchestrators_need_whom_they_name() -> None:
    def evaluator(manifest: EnvironmentManifest) -> None:
        manifest.stages["agent"].strategies["orchestrator"] = "evaluator"
        manifest.stages["agent"].strategy_configs["orchestrator"] = {"agent": "cok"}

    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(ConfigError, match="needs sub-agents"):
            pipeline_of(world, model_of({}), change=evaluator)
        with pytest.raises(ConfigError, match="there is no sub-agent 'cok'; did you mean 'cook'"):
            pipeline_of(world, model_of({}), agent("cook"), change=evaluator)

    simulate(main)


def test_the_script_of_these_tests_answers_by_who_asks() -> None:
    reply = script({"main": ["a"], "cook": ["b"]})
    model = model_of({"main": ["x"]})
    assert callable(reply) and model.name == "scripted"


def test_an_answer_to_a_child_has_its_parent_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        put = Do("put", effects=["write"])
        model = model_of({"main": [[work("digger")], "so"], "digger": [[use("put")], "done"]})

        def ask(manifest: EnvironmentManifest) -> None:
            manifest.permissions.ask = ["put"]
            manifest.stages["context"].config["stateless"] = True

        def made() -> Any:
            return pipeline_of(
                world,
                model,
                agent("digger"),
                journal=journal,
                tools=[put],
                change=ask,
                approver=AskLater(),
            )

        left = await made().run("go", raise_on_error=False)
        [child] = children(left)
        resumed: list[str] = []

        async def resume(run_id: str) -> PipelineResult:
            resumed.append(run_id)
            return await made().resume(run_id, raise_on_error=False)

        async with Attendant(journal, resume) as attendant:
            assert len(attendant) == 1, "the child waits with its parent"
            await answer(journal, child, True)
            await world.sleep(60)
        assert resumed == [left.run_id]
        assert (await made().result(left.run_id)).text == "so" and len(put.calls) == 1

    simulate(main)


def test_a_budget_that_suffices_is_enough() -> None:
    """What a child cost is counted once, also while others are at work."""

    async def main(world: SimulatedWorld) -> None:
        replies = {"main": [[work("digger", str(n))] for n in range(4)] + ["so"], "digger": ["."]}
        each = 3_000_000
        pipeline = pipeline_of(
            world,
            model_of(replies, usage=Usage(2000, 1000)),
            agent("digger"),
            change=lambda m: setattr(m.model, "max_tokens", 10),
        )
        result = await pipeline.run("go", limits={"max_cost_usd": (9 * each + 9_000_000) / 1e9})
        assert result.cost_nano == 9 * each

    simulate(main)


def test_a_message_changes_a_run_of_a_sub_agent_but_not_what_it_may_do() -> None:
    replies = {
        "main": [[work("digger")], "done"],
        "digger": [[use("look")], [use("look", "2")], "dug"],
    }

    async def main(world: SimulatedWorld) -> None:
        model = model_of(replies)

        async def look(input: object, context: Any) -> str:
            ask = partial(mail.change, pipeline.journal, context.run_id)
            await ask([{"kind": "update_model_config", "settings": {"temperature": 1}}], id="m1")
            await ask([{"kind": "remove_stage", "stage": "cache"}], id="m2")
            await ask([{"kind": "update_tools", "tools": {"built_in": ["Bash"]}}], id="m3")
            free: dict[str, JSON] = {"kind": "update_pipeline_config", "permissions": {"deny": []}}
            await ask([free], id="m4")
            await world.sleep(0.1)
            return "seen"

        def change(manifest: EnvironmentManifest) -> None:
            manifest.permissions.deny = ["Bash"]

        tools = [Do("look", look)]
        pipeline = pipeline_of(world, model, agent("digger"), tools=tools, change=change)
        pipeline.lock("cache")
        result = await pipeline.run("go")
        [row] = [row for row in await pipeline.journal.runs() if row.title == "work"]
        facts = await facts_of(pipeline.journal, row)
        first = next(fact for fact in facts if fact.type == "mutated")
        assert first.iteration == 1
        assert isinstance(first.data["changes"], list)
        assert [each["kind"] for each in first.data["changes"]] == ["update_model_config"]
        assert isinstance(first.data["refused"], list)
        assert [(each["post"], each["code"]) for each in first.data["refused"]] == [
            ("m2", "exec.mutation.locked"),
            ("m3", "exec.mutation.invalid"),
            ("m4", "exec.mutation.invalid"),
        ]
        assert sum(request.temperature == 1 for request in model.requests) == 2
        await sound(pipeline.journal, result.run_id)
        # killed in the middle of the second turn, it goes on as it was changed
        journal = MemoryJournal(world)
        cut = facts.index(first) + 2
        born = [fact.type for fact in result.events].index("child") + 1
        for stream, kept in ((result.session_id, result.events[:born]), (row.stream, facts[:cut])):
            epoch = await journal.claim(stream, "the dead", 0)
            copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in kept]
            await journal.append(stream, epoch, copies, sync=True)
            await journal.release(stream, epoch)
        model.requests.clear()
        again = pipeline_of(
            world, model, agent("digger"), tools=tools, change=change, journal=journal
        )
        pipeline = again
        assert (await again.resume(result.run_id)).text == "done"
        asked = [r.temperature for r in model.requests if "digger" in r.system]
        assert asked == [1, 1]

    simulate(main)
