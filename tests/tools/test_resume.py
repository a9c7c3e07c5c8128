"""What a resumed run does with calls that the journal knows: told again, or not run again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lorimer.core.bus import Bus
from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from tests.tools.support import Bench, run, toolset


class Count(Tool):
    name = "count"
    input_schema = {"type": "object", "properties": {"by": {"type": "integer"}}}  # noqa: RUF012

    def __init__(self, *, effects: frozenset[str], idempotent: bool = False) -> None:
        self.effects = effects
        self.idempotent = idempotent
        self.keys: list[str] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.keys.append(context.idempotency_key)
        return ToolResult(f"ran {len(self.keys)} times")


def unsafe() -> Count:
    return Count(effects=frozenset({"send"}))


def reading() -> Count:
    return Count(effects=frozenset({"read"}))


def idempotent() -> Count:
    return Count(effects=frozenset({"send"}), idempotent=True)


@pytest.mark.parametrize("make", [unsafe, reading, idempotent])
def test_a_recorded_result_is_told_again_and_nothing_runs(make: Callable[[], Count]) -> None:
    async def main() -> None:
        tool = make()
        bench = await Bench.make()
        first = await bench.call(toolset(tool), "count", {"by": 1})
        resumed = await bench.again()
        again = await resumed.call(toolset(tool), "count", {"by": 1})
        assert again == first
        assert len(tool.keys) == 1
        assert resumed.kinds == bench.kinds
        assert not resumed.context.replaying

    run(main)


def test_an_unsafe_call_of_unknown_outcome_is_not_run_again_and_the_model_is_told() -> None:
    async def main() -> None:
        tool = unsafe()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count", {"by": 1})
        resumed = await bench.again(1)
        assert resumed.kinds == ["tool.intent"]
        block = await resumed.call(toolset(tool), "count", {"by": 1})
        assert block.is_error
        assert str(block.content).startswith("ERROR exec.tool.outcome_unknown: ")
        assert str(block.content).endswith("Check whether it took effect before you repeat it.")
        assert len(tool.keys) == 1
        assert resumed.kinds == ["tool.intent", "tool.result"]
        assert resumed.facts[1][1]["error"] == "exec.tool.outcome_unknown"

        twice = await resumed.again()
        assert await twice.call(toolset(tool), "count", {"by": 1}) == block
        assert twice.kinds == resumed.kinds
        assert len(tool.keys) == 1

    run(main)


def test_an_unsafe_call_stays_of_unknown_outcome_when_it_may_not_run_any_more() -> None:
    async def main() -> None:
        tool = unsafe()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count")
        resumed = await bench.again(1)
        block = await resumed.call(toolset(tool, granted=False), "count")
        assert "exec.tool.outcome_unknown" in str(block.content)
        gone = await bench.again(1)
        block = await gone.call(toolset(), "count")
        assert "exec.tool.outcome_unknown" in str(block.content)

    run(main)


def test_an_idempotent_call_is_run_again_with_the_same_key() -> None:
    async def main() -> None:
        tool = idempotent()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count")
        resumed = await bench.again(1)
        block = await resumed.call(toolset(tool), "count")
        assert block.content == "ran 2 times"
        assert tool.keys == ["r_test-0-0", "r_test-0-0"]
        assert resumed.kinds == ["tool.intent", "tool.result"]

    run(main)


def test_a_reading_call_without_a_result_is_run_again() -> None:
    async def main() -> None:
        tool = reading()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count")
        resumed = await bench.again(0)
        assert (await resumed.call(toolset(tool), "count")).content == "ran 2 times"

    run(main)


def test_another_call_in_the_same_place_stops_the_run() -> None:
    async def main() -> None:
        tool = unsafe()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count", {"by": 1})
        for upto in (1, 2):
            resumed = await bench.again(upto)
            with pytest.raises(JournalError, match="is not the one that was recorded"):
                await resumed.call(toolset(tool), "count", {"by": 2})
        assert len(tool.keys) == 1

    run(main)


def test_errors_are_told_again_although_the_tools_have_changed() -> None:
    async def main() -> None:
        bench = await Bench.make()
        told = await bench.call(toolset(), "count")
        assert "exec.tool.unknown" in str(told.content)
        tool = unsafe()
        resumed = await bench.again()
        assert await resumed.call(toolset(tool), "count") == told
        assert tool.keys == []

    run(main)


def test_a_tool_that_is_gone_is_still_told_of() -> None:
    async def main() -> None:
        tool = unsafe()
        bench = await Bench.make()
        told = await bench.call(toolset(tool), "count")
        resumed = await bench.again()
        assert await resumed.call(toolset(), "count") == told

    run(main)


def test_replay_sends_no_signals() -> None:
    async def main() -> None:
        tool = unsafe()
        bench = await Bench.make()
        await bench.call(toolset(tool), "count")
        seen: list[Event] = []
        bus = Bus()
        bus.on("tool.call_start", seen.append)
        bus.on("tool.call_complete", seen.append)
        resumed = await Bench.make(bus=bus, facts=bench.context.facts)
        await resumed.call(toolset(tool), "count")
        assert seen == []

    run(main)
