"""Code of a host's that cancels itself, or makes something else of a cancellation: a run is
cancelled if, and only if, somebody cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import anyio
import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.memory import MemoryItem
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.request import Delta, Request, Response, StopReason, Usage
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, simulate
from tests.core.support import Do, make, use

Work = Callable[[World], Awaitable[None]]


class Made(Protocol):
    """Makes a pipeline whose code works somewhere, and then calls a tool that does `act`."""

    def __call__(self, work: Work, world: World, act: Work | None = None) -> Pipeline: ...


class Working(Stage[object, object]):
    name = "working"
    order = 8

    def __init__(self, work: Work, world: World) -> None:
        super().__init__()
        self._work = work
        self._world = world

    async def execute(self, input: object, state: PipelineState) -> object:
        await self._work(self._world)
        return input


class Recalling:
    """A memory that works before it finds nothing."""

    def __init__(self, work: Work, world: World) -> None:
        self._work = work
        self._world = world

    async def put(self, items: Sequence[MemoryItem]) -> None: ...

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        await self._work(self._world)
        return []

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        return []

    async def remove(self, ids: Sequence[str]) -> None: ...


class Racing:
    """A model that works before it answers; a failure of that it calls a lost connection."""

    provider = "scripted"
    name = "m"

    def __init__(self, work: Work) -> None:
        self._work = work
        self._asked = 0

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        self._asked += 1
        if self._asked == 1:
            try:
                await self._work(world)
            except Exception as error:
                raise APIError("lost", code=ExecutorErrorCode.EXEC_API_NETWORK) from error
        if len(request.messages) == 1:
            yield Response((ToolUse("1", "look", {}),), StopReason.TOOL_USE, Usage(1, 1), "m")
        else:
            yield Response((TextBlock("done"),), StopReason.END_TURN, Usage(1, 1), "m")

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return 0


def look(world: World, act: Work | None) -> Do:
    return Do("look", (lambda _, __: act(world)) if act is not None else None)


def in_a_stage(work: Work, world: World, act: Work | None = None) -> Pipeline:
    pipeline = make(world, [[use("look")], "done"], tools=[look(world, act)])
    pipeline.register_stage(Working(work, world))
    return pipeline


def in_a_memory(work: Work, world: World, act: Work | None = None) -> Pipeline:
    models = Models(providers={"scripted": ScriptedModel([[ToolUse("1", "look", {})], "done"])})
    return PipelinePresets.agent(
        model="scripted:m",
        models=models,
        tools=[look(world, act)],
        world=world,
        bindings={"memory": Recalling(work, world)},
    )


def in_a_model(work: Work, world: World, act: Work | None = None) -> Pipeline:
    return make(world, Racing(work), tools=[look(world, act)])


PLACES = pytest.mark.parametrize(
    "made", [in_a_stage, in_a_memory, in_a_model], ids=lambda it: it.__name__
)


async def fails(world: World) -> None:
    await world.sleep(1)
    raise ValueError("so it is")


async def group_that_fails(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails(world))
        group.create_task(world.sleep(60))


async def group_that_failed(world: World) -> None:
    try:
        await group_that_fails(world)
    except* ValueError:
        pass


@PLACES
def test_a_task_group_of_a_hosts_own_that_fails_cancels_nobody(made: Made) -> None:
    """Before Python 3.13 it leaves its task counted as cancelled."""

    async def main(world: World) -> None:
        result = await made(group_that_failed, world).run("go")
        assert (result.status, result.text) == ("ok", "done")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    simulate(main)


@PLACES
@pytest.mark.parametrize("act", [group_that_failed, group_that_fails], ids=lambda it: it.__name__)
def test_nor_does_one_in_a_tool_after_another_elsewhere(made: Made, act: Work) -> None:
    async def main(world: World) -> None:
        result = await made(group_that_failed, world, act).run("go")
        assert (result.status, result.text, len(result.steps)) == ("ok", "done", 1)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    simulate(main)


@pytest.mark.parametrize(
    ("made", "status"),
    [(in_a_stage, "error"), (in_a_memory, "ok"), (in_a_model, "ok")],
    ids=["stage", "memory", "model"],
)
def test_what_such_a_group_raises_is_an_error_of_that_code(made: Made, status: str) -> None:
    async def main(world: World) -> None:
        result = await made(group_that_fails, world).run("go", raise_on_error=False)
        assert result.status == status, str(result.exception)
        if status == "error":
            assert "TaskGroup" in str(result.exception)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    simulate(main)


@PLACES
def test_a_time_limit_of_the_callers_holds_after_such_a_group(made: Made) -> None:
    async def work(world: World) -> None:
        await group_that_failed(world)
        await world.sleep(5)

    async def main(world: World) -> None:
        pipeline = made(work, world)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await pipeline.run("go")
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


@PLACES
def test_so_does_a_scope_of_the_callers(made: Made) -> None:
    async def work(world: World) -> None:
        await group_that_failed(world)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):  # cancels the task, and takes that back
                await world.sleep(60)
        await world.sleep(60)

    async def main(world: World) -> None:
        pipeline = made(work, world)
        with anyio.move_on_after(5) as scope:
            await pipeline.run("go", raise_on_error=False)
        assert scope.cancelled_caught
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


@PLACES
def test_a_shutdown_after_such_a_group_cancels_no_caller(made: Made) -> None:
    async def work(world: World) -> None:
        await group_that_failed(world)
        await world.sleep(5)

    async def main(world: World) -> None:
        pipeline = made(work, world)
        task = asyncio.get_running_loop().create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(3)
        pipeline.shut_down()
        assert (await task).status == "suspended"

    simulate(main)


async def translated(world: World) -> None:
    try:
        await world.sleep(60)
    except asyncio.CancelledError:
        raise ValueError("interrupted") from None


async def swallowed(world: World) -> None:
    try:
        await world.sleep(60)
    except asyncio.CancelledError:
        pass


async def group_that_fails_when_cancelled(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(translated(world))


@PLACES
@pytest.mark.parametrize(
    "work", [translated, swallowed, group_that_fails_when_cancelled], ids=lambda it: it.__name__
)
def test_a_cancellation_of_which_code_makes_something_else_still_ends_the_run(
    made: Made, work: Work
) -> None:
    async def main(world: World) -> None:
        pipeline = made(work, world)
        task = asyncio.get_running_loop().create_task(pipeline.run("go", raise_on_error=False))
        await world.sleep(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)


def test_a_caller_may_be_cancelled_by_a_handler_of_the_run() -> None:
    async def main(world: World) -> None:
        pipeline = in_a_stage(group_that_failed, world)
        task = asyncio.get_running_loop().create_task(pipeline.run("go"))
        pipeline.on("tool.call_start", lambda event: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = await pipeline.journal.runs()
        assert row.status == "cancelled"

    simulate(main)
