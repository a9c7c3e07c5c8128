"""Run asynchronous code under virtual time, in one thread, from one seed.

`simulate` gives a coroutine a `SimulatedWorld` and an event loop whose clock jumps to the next
timer as soon as nobody has anything to do. An hour of waiting costs microseconds, and the same seed
gives the same run. What virtual time cannot see (a thread, a socket, a process) has to be announced
with `world.outside(...)`; otherwise the simulation fails.

Clock and world are in `simulated_world.py`, the loop in `simulated_loop.py`; the test scripts the
answers of simulated processes and HTTP servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from lorimer.testing.simulated_failures import LeftBehind, SimulatedCrash, SimulationStuck
from lorimer.testing.simulated_guard import guard
from lorimer.testing.simulated_loop import MAX_STEPS, SimulationLoop, describe_tasks
from lorimer.testing.simulated_world import SimulatedWorld, SpawnScript

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


def simulate(
    main: Callable[[SimulatedWorld], Awaitable[T]],
    seed: int | str = 0,
    *,
    transport: httpx2.AsyncBaseTransport | None = None,
    spawn: SpawnScript | None = None,
    crash_after_steps: int | None = None,
    crash_at_s: float | None = None,
    max_steps: int = MAX_STEPS,
) -> T:
    """Run `main(world)` in a new world and return its result; see `simulate_in`."""
    world = SimulatedWorld(seed, transport=transport, spawn=spawn)
    return simulate_in(
        world,
        main,
        crash_after_steps=crash_after_steps,
        crash_at_s=crash_at_s,
        max_steps=max_steps,
    )


def simulate_in(
    world: SimulatedWorld,
    main: Callable[[SimulatedWorld], Awaitable[T]],
    *,
    crash_after_steps: int | None = None,
    crash_at_s: float | None = None,
    max_steps: int = MAX_STEPS,
) -> T:
    """Run `main(world)` on a fresh loop; the world's clock continues from its current time.

    `crash_after_steps`: after that many callbacks of the loop, `crash_at_s`: before anything at
    that time of the world's clock happens, everything is dropped and SimulatedCrash raised. A
    `main` that ends earlier returns as usual; so trying 1, 2, 3, ... visits every await of a run.

    Raises what `main` raises; LeftBehind if tasks outlive it (they are cancelled first);
    UnannouncedOutside for unannounced threads, sockets and processes, even if the code that was
    refused one has swallowed that error; SimulationStuck when nothing can happen any more.
    """

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("a simulation has its own event loop: call it from plain code")

    async def run() -> T:
        return await main(world)

    with guard().watching(world.clock) as watch:
        loop = SimulationLoop(
            world, crash_after_steps=crash_after_steps, crash_at_s=crash_at_s, max_steps=max_steps
        )
        try:
            result = _run_to_the_end(loop, loop.create_task(run(), name="main"))
        except Exception as error:
            if watch.offence is not None and watch.offence is not error:
                raise watch.offence from error
            raise
        finally:
            loop.close()
        if watch.offence is not None:
            raise watch.offence
        return result


def _run_to_the_end(loop: SimulationLoop, main: asyncio.Task[T]) -> T:
    try:
        result = loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        if not left:
            loop.run_until_complete(loop.shutdown_asyncgens())
            left = asyncio.all_tasks(loop)
        if left:
            raise LeftBehind(f"tasks left behind:{describe_tasks(left)}")
    except SimulatedCrash:
        loop.abandon()
        raise
    except BaseException:
        _wind_up(loop)
        raise
    return result


def _wind_up(loop: SimulationLoop) -> None:
    """Cancel what is left of a failed simulation; abandon what does not end."""
    loop.grant_last_steps()
    try:
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    except SimulationStuck:
        loop.abandon()
