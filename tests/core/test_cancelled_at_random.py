"""Runs whose code cancels itself in many ways at many places, and that somebody cancels, or not, at
a random moment: the caller sees a cancellation if, and only if, there was one.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

import anyio

from lorimer import Pipeline, PipelinePresets
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.request import Delta, Request, Response, StopReason, Usage
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.models.registry import Models
from lorimer.testing import simulate
from tests.core.support import Do
from tests.seeds import chosen, fresh

_TRIALS: Final = 10_000 if os.environ.get("LORIMER_CAMPAIGN") else 150
_LONGEST: Final = 12.0
"""Seconds after which most runs have ended by themselves."""


async def _fails(world: World) -> None:
    await world.sleep(1)
    raise ValueError("so it is")


async def _group_that_fails(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails(world))
        group.create_task(world.sleep(60))


async def _group(world: World) -> None:
    with suppress(ExceptionGroup):
        await _group_that_fails(world)


async def _waiting_group(world: World) -> None:
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_fails(world))
            await world.sleep(60)


async def _group_within_a_time_limit(world: World) -> None:
    with suppress(ExceptionGroup):
        async with asyncio.timeout(5):
            await _group_that_fails(world)


async def _group_of_anyio(world: World) -> None:
    with suppress(ExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(_fails, world)
            await world.sleep(60)


async def _time_limit(world: World) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await world.sleep(60)


async def _wait_for(world: World) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(world.sleep(60), 1)


async def _scope(world: World) -> None:
    with anyio.move_on_after(1):
        await world.sleep(60)


async def _gathered(world: World) -> None:
    await asyncio.gather(_fails(world), world.sleep(2), return_exceptions=True)


async def _sleeps(world: World) -> None:
    await world.sleep(1.3)


async def _nothing(_: World) -> None:
    return


_ACTS: Final = (
    _group,
    _waiting_group,
    _group_within_a_time_limit,
    _group_of_anyio,
    _time_limit,
    _wait_for,
    _scope,
    _gathered,
    _sleeps,
    _nothing,
)


class Code:
    """What a host's code does: at each call something else, drawn by `dice`."""

    def __init__(self, dice: Random, world: World) -> None:
        self._dice = Random(dice.random())
        self._world = world
        self.turns = dice.randrange(1, 5)

    async def __call__(self) -> None:
        await self._dice.choice(_ACTS)(self._world)

    async def of_a_tool(self) -> str:
        await self()
        if self._dice.random() < 0.3:
            await _group_that_fails(self._world)
        return "done"


class Model:
    provider = "scripted"
    name = "m"

    def __init__(self, code: Code) -> None:
        self._code = code

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        await self._code()
        turn = len(request.messages) // 2
        calls = [ToolUse(f"{turn}_{index}", "look", {}) for index in range(1 + turn % 3)]
        asks = turn < self._code.turns
        yield Response(
            tuple(calls) if asks else (TextBlock("done"),),
            StopReason.TOOL_USE if asks else StopReason.END_TURN,
            Usage(1, 1),
            "m",
        )

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return 0


class Working(Stage[object, object]):
    name = "working"
    order = 8

    def __init__(self, code: Code) -> None:
        super().__init__()
        self._code = code

    async def execute(self, input: object, state: PipelineState) -> object:
        await self._code()
        return input


def _made(dice: Random, world: World) -> Pipeline:
    code = Code(dice, world)
    effects = ["write"] if dice.random() < 0.5 else ["read"]
    pipeline = PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": Model(code)}),
        tools=[Do("look", lambda _, __: code.of_a_tool(), effects=effects, safe=True)],
        world=world,
    )
    pipeline.register_stage(Working(code))
    return pipeline


Ending = Callable[[Pipeline, World, float], Awaitable[str]]
"""Runs the pipeline, ends that after so many seconds, and says what became of it."""


async def _run(pipeline: Pipeline) -> str:
    return (await pipeline.run("go", raise_on_error=False)).status


async def nobody(pipeline: Pipeline, _: World, __: float) -> str:
    return await _run(pipeline)


async def a_task(pipeline: Pipeline, world: World, after: float) -> str:
    task = asyncio.get_running_loop().create_task(_run(pipeline))
    await world.sleep(after)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "cut off"


async def a_time_limit(pipeline: Pipeline, _: World, after: float) -> str:
    try:
        async with asyncio.timeout(after):
            return await _run(pipeline)
    except TimeoutError:
        return "cut off"


async def a_scope(pipeline: Pipeline, _: World, after: float) -> str:
    with anyio.move_on_after(after):
        return await _run(pipeline)
    return "cut off"


async def a_shutdown(pipeline: Pipeline, world: World, after: float) -> str:
    task = asyncio.get_running_loop().create_task(_run(pipeline))
    await world.sleep(after)
    pipeline.shut_down()
    return await task


async def its_own_cancel(pipeline: Pipeline, world: World, after: float) -> str:
    task = asyncio.get_running_loop().create_task(_run(pipeline))
    await world.sleep(after)
    pipeline.cancel()
    return await task


_ENDED: Final[dict[Ending, str]] = {
    nobody: "ok",
    a_task: "cut off",
    a_time_limit: "cut off",
    a_scope: "cut off",
    a_shutdown: "suspended",
    its_own_cancel: "cancelled",
}
_RECORDED: Final = {"ok": "ok", "cut off": "cancelled", "cancelled": "cancelled", "suspended": ""}


def _play(seed: int) -> None:
    dice = Random(seed)
    ending = dice.choice([*_ENDED])
    after = dice.random() * _LONGEST

    async def main(world: World) -> None:
        pipeline = _made(dice, world)
        became = await ending(pipeline, world, after)
        (row,) = await pipeline.journal.runs()
        task = asyncio.current_task()
        assert task is not None
        told = f"seed {seed}: {ending.__name__} after {after:.3f} s: {became}, {row.status!r}"
        assert became in ("ok", _ENDED[ending]), told
        assert row.status == _RECORDED[became], told
        assert not task.cancelling(), told

    simulate(main)


def test_a_caller_sees_a_cancellation_if_and_only_if_there_was_one() -> None:
    seed = chosen()
    if seed is not None:
        _play(seed)
        return
    first = fresh()
    for each in range(first, first + _TRIALS):
        _play(each)
