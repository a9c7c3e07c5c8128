"""Tools and stages that swallow their cancellation do not keep a run alive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import Tool, ToolContext, ToolResult
from lorimer.tools.running import UNDONE_S


class Stubborn(Tool):
    """Goes on for an hour, whoever asks it to stop."""

    name = "stubborn"
    description = "never gives way"
    input_schema = {"type": "object"}  # noqa: RUF012

    async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
        for _ in range(60):
            try:
                await context.world.sleep(60)
            except asyncio.CancelledError:
                continue
        return ToolResult("finished after all")


def _pipeline(world: SimulatedWorld) -> Pipeline:
    model = ScriptedModel([[ToolUse("a", "stubborn", {})], "never"])
    return PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": model}),
        tools=[Stubborn()],
        world=world,
    )


def test_cancelling_the_caller_ends_a_run_whose_tool_swallows_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = _pipeline(world)
        began = world.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await pipeline.run("go")
        # the tool had the time to take back a cancellation of its own
        assert world.monotonic() - began < 6 + UNDONE_S
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_a_caller_that_is_being_cancelled_may_still_run() -> None:
    async def main(world: SimulatedWorld) -> str:
        model = ScriptedModel(["goodbye"])
        pipeline = PipelinePresets.minimal(
            model="scripted:m", models=Models(providers={"scripted": model}), world=world
        )

        async def caller() -> str:
            try:
                await world.sleep(100)
            except asyncio.CancelledError:
                return (await pipeline.run("last words")).text
            return ""

        task = asyncio.get_running_loop().create_task(caller())
        await world.sleep(1)
        task.cancel()
        return await task

    assert simulate(main) == "goodbye"
