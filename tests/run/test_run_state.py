"""What a tool may know of its own run. Row 29."""

from __future__ import annotations

import pytest

from lorimer.core.limits import Limits
from lorimer.core.run_state import RunState
from lorimer.core.world import World
from lorimer.run import RunnableAgent
from lorimer.testing import simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from tests.run.support import executor_of, use

LIMITS = Limits(max_turns=4, timeout_s=90.0, max_cost_usd=2.0, max_tool_calls=7)


class Look(Tool):
    name = "look"
    effects = frozenset({"read"})

    def __init__(self) -> None:
        self.seen: list[RunState] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        await context.world.sleep(10)
        state = context.run_state()
        assert state is not None
        self.seen.append(state)
        return ToolResult("")


def test_row_29_a_tool_reads_the_progress_of_its_run_and_its_ceilings() -> None:
    look = Look()

    async def main(world: World) -> str:
        executor = executor_of(
            [use("look"), use("look", n=1), "end"], tools=[look], world=world, limits=LIMITS
        )
        return (await executor.run(RunnableAgent(tools=("look",)), "go")).run_id

    run_id = simulate(main)
    first, second = look.seen
    assert (first.run_id, second.run_id) == (run_id, run_id)
    assert [(s.turns, s.max_turns) for s in look.seen] == [(1, 4), (2, 4)]
    assert [(s.tool_calls, s.max_tool_calls) for s in look.seen] == [(1, 7), (2, 7)]
    assert [s.usage.input_tokens for s in look.seen] == [100, 200]
    assert [s.cost_usd for s in look.seen] == [pytest.approx(0.00011), pytest.approx(0.00022)]
    assert {(s.max_cost_usd, s.timeout_s) for s in look.seen} == {(2.0, 90.0)}
    assert [s.elapsed_s for s in look.seen] == [
        pytest.approx(10, abs=0.1),
        pytest.approx(20, abs=0.1),
    ]


def test_row_29_a_model_asks_how_far_its_run_has_come() -> None:
    async def main(world: World) -> str:
        executor = executor_of([use("run_status"), "end"], world=world, limits=LIMITS)
        run = (await executor.run(RunnableAgent(tools=("run_status",)), "go")).run
        assert run is not None
        return str(run.steps[0].content)

    assert simulate(main).splitlines() == [
        "turns: 1 of 4",
        "tool calls: 1 of 7",
        "tokens: 100 in, 10 out",
        "cost: $0.0001 of $2.00",
        "time: 0.0 s of 90 s",
    ]
