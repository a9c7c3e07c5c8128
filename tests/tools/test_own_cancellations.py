"""Tools that cancel themselves, as time limits, task groups and HTTP clients do: the run goes on. A
cancellation from outside still ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress

import anyio
import httpx2
import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.core.world import World
from lorimer.models import Models
from lorimer.testing import ScriptedModel, simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.running import MAX_REFUSALS

Work = Callable[[World], Awaitable[str]]


class Doing(Tool):
    name = "Doing"

    def __init__(self, work: Work, effects: AbstractSet[str]) -> None:
        self._work = work
        self.effects = frozenset(effects)

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(await self._work(context.world))


def agent(
    work: Work, world: World | None = None, effects: AbstractSet[str] = frozenset({"read"})
) -> Pipeline:
    model = ScriptedModel([[ToolUse("1", "Doing", {})], "done"])
    models = Models(providers={"scripted": model})
    return PipelinePresets.agent(
        model="scripted:m", models=models, tools=[Doing(work, effects)], world=world
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


async def by_timeout_slowly(world: World) -> str:
    """Is still closing what it had open when that is taken for a cancellation by somebody else."""
    try:
        async with asyncio.timeout(2):
            try:
                await world.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await world.sleep(8)
    except TimeoutError:
        return "late"
    return "slept"


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
    [by_timeout, by_timeout_slowly, by_scope, by_timeouts, by_group, by_anyio_group],
    ids=lambda it: it.__name__,
)
def test_what_a_tool_cancels_within_itself_is_its_own_affair(work: Work) -> None:
    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert (result.status, result.text) == ("ok", "done")
        assert set(str(result.steps[0].content).split()) == {"late"}

    simulate(main)


@pytest.mark.parametrize(("closes_s", "told"), [(60, "TimeoutError"), (1000, "its time limit")])
def test_what_a_tool_has_cancelled_itself_may_take_its_time(closes_s: float, told: str) -> None:
    async def work(world: World) -> str:
        async with asyncio.timeout(2):
            try:
                await world.sleep(60)
            finally:
                await world.sleep(closes_s)
        return "slept"

    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert (result.status, result.text) == ("ok", "done")
        assert told in str(result.steps[0].content)
        assert world.monotonic() == pytest.approx(min(2 + closes_s, 600))

    simulate(main)


@pytest.mark.parametrize("works_on_s", [0, 60])
def test_a_group_whose_code_has_ended_when_a_task_of_it_fails(works_on_s: float) -> None:
    """Before Python 3.13 such a group leaves its task counted as cancelled."""

    async def work(world: World) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing(world))
                group.create_task(slow(world))
        except* ValueError:
            pass
        await world.sleep(works_on_s)
        return "late"

    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert (result.status, result.steps[0].content) == ("ok", "late")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    simulate(main)


def test_a_caller_that_is_cancelled_after_such_a_group_ends_the_run() -> None:
    async def work(world: World) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing(world))
        except* ValueError:
            pass
        try:
            return await slow(world)
        except asyncio.CancelledError:
            return "swallowed"

    async def main(world: World) -> None:
        pipeline = agent(work, world)
        task = asyncio.get_running_loop().create_task(pipeline.run("go"))
        await world.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_what_a_tool_has_cancelled_during_a_shutdown_cancels_no_caller() -> None:
    async def work(world: World) -> str:
        other = asyncio.get_running_loop().create_task(slow(world))
        await world.sleep(1)
        other.cancel()
        return await other

    async def main(world: World) -> None:
        pipeline = agent(work, world, effects={"send"})
        task = asyncio.get_running_loop().create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(0.5)
        pipeline.shut_down()
        result = await task
        assert (result.status, result.steps[0].is_error) == ("suspended", True)

    simulate(main)


def test_a_run_whose_tool_makes_its_own_of_the_cancellation_returns() -> None:
    """`asyncio.gather` raises a new CancelledError if what it waited for last has ended."""

    async def ends(world: World) -> None:
        with suppress(asyncio.CancelledError):
            await world.sleep(60)

    async def work(world: World) -> str:
        return str(await asyncio.gather(ends(world), return_exceptions=True))

    async def main(world: World) -> None:
        pipeline = agent(work, world)
        task = asyncio.get_running_loop().create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        pipeline.cancel()
        assert (await task).status == "cancelled"

    simulate(main)


async def polling_by_timeout(world: World) -> None:
    try:
        async with asyncio.timeout(0.01):
            await world.sleep(60)
    except TimeoutError:
        pass


async def polling_by_scope(world: World) -> None:
    with anyio.move_on_after(0.01):
        await world.sleep(60)


async def polling_what_fails(world: World) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_exception, ValueError())
    try:
        await future
    except ValueError:
        pass


@pytest.mark.parametrize(
    "poll",
    [polling_by_timeout, polling_by_scope, polling_what_fails],
    ids=lambda it: it.__name__,
)
def test_a_tool_may_poll_for_long(poll: Callable[[World], Awaitable[None]]) -> None:
    async def work(world: World) -> str:
        for _ in range(MAX_REFUSALS + 10):
            await poll(world)
        return "late"

    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert result.steps[0].content == "late"

    simulate(main)


def test_a_scope_of_the_caller_ends_there_though_the_tool_swallows_it() -> None:
    async def work(world: World) -> str:
        try:
            return await slow(world)
        except asyncio.CancelledError:
            return "swallowed"

    async def main(world: World) -> None:
        pipeline = agent(work, world)
        with anyio.move_on_after(2) as scope:
            await pipeline.run("go")
        assert scope.cancelled_caught
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_a_task_that_was_cancelled_before_may_run_tools_that_cancel_themselves() -> None:
    async def work(world: World) -> str:
        other = asyncio.get_running_loop().create_task(slow(world))
        other.cancel()
        return await other

    async def main(world: World) -> None:
        async def caller() -> str:
            try:
                await world.sleep(100)
            except asyncio.CancelledError:
                return (await agent(work, world).run("last words")).text
            return ""

        task = asyncio.get_running_loop().create_task(caller())
        await world.sleep(1)
        task.cancel()
        assert await task == "done"

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


def test_a_tool_may_wait_for_what_others_wait_for_too() -> None:
    async def work(world: World) -> str:
        opened = asyncio.get_running_loop().create_future()

        async def user() -> str:
            return await opened

        waiting = asyncio.gather(user(), user())
        asyncio.get_running_loop().call_later(1, opened.set_result, "open")
        return f"{await opened} {await waiting}"

    async def main(world: World) -> None:
        result = await agent(work, world).run("go")
        assert result.steps[0].content == "open ['open', 'open']"

    simulate(main)


@pytest.mark.parametrize("in_a_task", [False, True])
def test_control_c_while_code_of_a_tool_is_running_ends_the_run(in_a_task: bool) -> None:
    async def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    async def work(world: World) -> str:
        with suppress(asyncio.CancelledError):
            if in_a_task:
                task = asyncio.get_running_loop().create_task(interrupted())
            else:
                await interrupted()
            await world.sleep(60)
        return str(in_a_task and task)

    # what is started in the background may ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(agent(work).run("go"))
    finally:
        signal.signal(signal.SIGINT, before)


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
