"""Tools under virtual time: an hour costs nothing, and threads are announced."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from lorimer.tools import ToolContext, builtin_tools, tool
from lorimer.world.files import RootedFiles
from tests.tools.support import Act, Bench, toolset


def test_a_time_out_passes_in_virtual_time() -> None:
    async def main(world: SimulatedWorld) -> tuple[object, float]:
        bench = await Bench.make(world=world)
        block = await bench.call(toolset(Act(lambda i, c: asyncio.sleep(3600))), "act")
        return block.content, world.monotonic()

    content, took = simulate(main)
    assert "exec.tool.timeout: act was stopped after 120 s" in str(content)
    assert took == 120


def test_a_tool_that_is_quick_enough_ends_in_time() -> None:
    async def main(world: SimulatedWorld) -> object:
        bench = await Bench.make(world=world)

        @tool(timeout_s=100)
        async def slow(context: ToolContext) -> str:
            await context.world.sleep(99)
            return f"{world.monotonic():g}"

        return (await bench.call(toolset(slow), "slow")).content

    assert simulate(main) == "99"


def test_threads_are_announced(tmp_path: Path) -> None:
    @tool
    def blocking() -> str:
        return "done"

    async def main(world: SimulatedWorld) -> list[object]:
        bench = await Bench.make(world=world)
        with RootedFiles([tmp_path]) as files:
            tools = toolset(blocking, *builtin_tools(["filesystem"]), files=files)
            first = await bench.call(tools, "blocking")
            file = {"file_path": "a.txt", "content": "needle"}
            await bench.call(tools, "Write", file, index=1)
            second = await bench.call(tools, "Grep", {"pattern": "needle"}, index=2)
        return [first.content, second.content, world.monotonic()]

    assert simulate(main) == ["done", "a.txt:1:needle", 0]
