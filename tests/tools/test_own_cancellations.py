"""Tools that cancel themselves, as time limits, task groups and HTTP clients do: the run goes on. A
cancellation from outside still ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import httpx2
import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.core.world import World
from lorimer.models import Models
from lorimer.testing import ScriptedModel, simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult

Work = Callable[[World], Awaitable[str]]


class Doing(Tool):
    name = "Doing"
    effects = frozenset({"read"})

    def __init__(self, work: Work) -> None:
        self._work = work

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(await self._work(context.world))


def agent(work: Work, world: World | None = None) -> Pipeline:
    model = ScriptedModel([[ToolUse("1", "Doing", {})], "done"])
    models = Models(providers={"scripted": model})
    return PipelinePresets.agent(
        model="scripted:m", models=models, tools=[Doing(work)], world=world
    )


async def slow(world: World) -> str:
    """Closes something when it is stopped, which takes a second."""
    try:
        await world.sleep(60)
    finally:
        with anyio.CancelScope(shield=True):
            await world.sleep(1)
    return "slept"


async def failing(world: World) -> None:
    await world.sleep(1)
    raise ValueError("so it is")


async def by_timeout(world: World) -> str:
    try:
        async with asyncio.timeout(2):
            return await slow(world)
    except TimeoutError:
        return "late"


async def by_scope(world: World) -> str:
    with anyio.move_on_after(2):
        return await slow(world)
    return "late"


async def by_timeouts(world: World) -> str:
    return " ".join([await by_timeout(world) for _ in range(10)])


async def by_group(world: World) -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing(world))
            await slow(world)
    except* ValueError:
        pass
    return "late"


async def by_anyio_group(world: World) -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(slow, world)
        group.cancel_scope.cancel()
        await world.sleep(60)
    return "late"


@pytest.mark.parametrize(
    "work",
    [by_timeout, by_scope, by_timeouts, by_group, by_anyio_group],
    ids=lambda it: it.__name__,
)
def test_what_a_tool_cancels_within_itself_is_its_own_affair(work: Work) -> None:
    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert (result.status, result.text) == ("ok", "done")
        assert set(str(result.steps[0].content).split()) == {"late"}

    simulate(main)


@pytest.mark.parametrize("cancelled_at_s", [0.5, 2.5])
def test_a_caller_that_is_cancelled_meanwhile_ends_the_run(cancelled_at_s: float) -> None:
    async def stubborn(world: World) -> str:
        try:
            return await by_timeout(world)
        except asyncio.CancelledError:
            return await slow(world)

    async def main(world: World) -> None:
        pipeline = agent(stubborn, world)
        began = world.monotonic()
        task = asyncio.get_running_loop().create_task(pipeline.run("go"))
        await world.sleep(cancelled_at_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.monotonic() - began < 10
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_a_tool_may_use_a_network() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            async def get(world: World) -> str:
                async with world.http() as client, asyncio.timeout(10):
                    found: httpx2.Response = await client.get(f"http://127.0.0.1:{port}/")
                    return found.text

            result = await agent(get).run("go")
            assert (result.status, result.steps[0].content) == ("ok", "hello")

    asyncio.run(main())
