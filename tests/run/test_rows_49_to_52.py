"""What executus asks of checkpoints holds on the journal: there is no second store, and nothing is
deleted when a run ends."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.journal import MemoryJournal
from lorimer.run import Executor, RunnableAgent
from lorimer.testing import SimulatedCrash, SimulatedWorld, simulate, simulate_in
from lorimer.tools import Tool, ToolContext, ToolResult
from tests.run.support import WORKER, executor_of, model_of, use

TURNS = 4
"""With a tool call of a second each; then the answer."""


class Work(Tool):
    name = "work"
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})

    async def execute(self, input: dict[str, Any], context: ToolContext) -> ToolResult:
        await context.world.sleep(1)
        return ToolResult("done")


def script(request: Any) -> Any:
    turn = len(request.messages) // 2
    return use(n=turn) if turn < TURNS else "end"


def executor(world: SimulatedWorld, journal: MemoryJournal, replies: Any = script) -> Executor:
    return executor_of(model_of(replies), tools=[Work()], world=world, journal=journal)


@pytest.mark.parametrize("killed_s", [number + 0.5 for number in range(TURNS)])
def test_row_49_a_killed_run_goes_on_from_its_history_with_no_new_input(killed_s: float) -> None:
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)

    async def begin(world: SimulatedWorld) -> None:
        await executor(world, journal).run(WORKER, "go")

    async def go_on(world: SimulatedWorld) -> None:
        (row,) = await journal.runs(unfinished=True)
        before = [fact async for fact in journal.read(row.stream)]
        await world.sleep(120)  # the claim of the dead process runs out
        model = model_of(script)
        again = executor_of(model, tools=[Work()], world=world, journal=journal)
        result = await again.resume(WORKER, row.run_id)
        assert (result.status, result.output) == ("ok", "end")
        assert len(model.requests) == TURNS - int(killed_s)  # what was answered is not asked again
        said = [each for each in result.messages if each.role == "user"]
        assert len(said) == TURNS + 1  # the input once, and the results
        assert said[0].text == "go"
        after = [fact async for fact in journal.read(row.stream)]
        assert after[: len(before)] == before and len(after) > len(before)

    with pytest.raises(SimulatedCrash):
        simulate_in(world, begin, crash_at_s=killed_s)
    simulate_in(world, go_on)


def test_row_51_success_leaves_nothing_to_resume_and_all_to_read() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        host = executor(world, journal)
        result = await host.run(WORKER, "go")
        assert result.status == "ok"
        assert await journal.runs(unfinished=True) == []
        assert result.run is not None
        facts = [fact async for fact in journal.read(result.run.session_id)]
        assert [fact.type for fact in facts] == [fact.type for fact in result.run.events]
        again = await host.resume(WORKER, result.run_id)
        assert (again.status, again.code) == ("error", ExecutorErrorCode.EXEC_RUN_ENDED)

    simulate(main)


def test_row_51_shutdown_leaves_a_run_listed_until_it_is_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        host = executor(world, journal)
        handle = host.start(WORKER, "go")
        await world.sleep(1.5)
        handle.cancel(Reason.SHUTDOWN)
        assert (await handle).status == "suspended"
        assert [row.run_id for row in await journal.runs(unfinished=True)] == [handle.run_id]
        result = await host.resume(WORKER, handle.run_id)
        assert (result.status, result.output) == ("ok", "end")
        assert await journal.runs(unfinished=True) == []

    simulate(main)


@pytest.mark.parametrize("kind", ["a tool", "a tier", "a model", "a host"])
def test_row_52_runs_that_fail_early_are_not_left_to_be_resumed(kind: str) -> None:
    """Else whoever resumes what is unfinished would try a broken run for ever."""

    def fails(request: Any) -> Any:
        raise APIError("no", code=ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY)

    def raises(request: Any) -> Any:
        raise RuntimeError("boom")

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        replies = {"a model": fails, "a host": raises}.get(kind, script)
        host = executor(world, journal, replies)
        agent = {
            "a tool": RunnableAgent("a", tools=("wrok",)),
            "a tier": RunnableAgent("a", model="fast,,x"),
        }.get(kind, WORKER)
        result = await host.run(agent, "go")
        assert result.status == "error" and result.exception is not None
        assert await journal.runs(unfinished=True) == []
        for row in await journal.runs():
            types = [fact.type async for fact in journal.read(row.stream)]
            assert types.count("run.end") == 1 and types[-1] == "run.end"

    simulate(main)
