"""The event loop of a simulation: its clock jumps to the next timer, and it can drop everything."""

from __future__ import annotations

import asyncio
import ctypes
import selectors
from asyncio.tasks import _unregister_task  # pyright: ignore[reportPrivateUsage] # documented
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Final, NoReturn, ParamSpec, TypeVar

from lorimer.testing.simulated_failures import SimulatedCrash, SimulationStuck

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from lorimer.testing.simulated_world import SimulatedWorld, VirtualClock

T = TypeVar("T")
P = ParamSpec("P")

MAX_STEPS: Final = 10_000_000
"""Callbacks after which a simulation counts as endless: some ten seconds of work."""
_PATIENCE_S: Final = 30.0
"""Real seconds that announced work may hold the clock without any sign of life."""
_LAST_STEPS: Final = 10_000
"""Callbacks in which cancelled tasks have to end once a simulation has failed."""


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop on a `VirtualClock`.

    It has no threads: `run_in_executor` (so `asyncio.to_thread` too) calls the function
    immediately, in no time; one that waits for the loop would wait forever. `anyio.to_thread` does
    start a thread and has to be announced.

    `crash_after_steps` and `crash_at_s` (of the clock) make it stop with SimulatedCrash; more than
    `max_steps` callbacks with SimulationStuck.
    """

    # Of asyncio.BaseEventLoop, unchanged since Python 3.4.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(
        self,
        world: SimulatedWorld,
        *,
        crash_after_steps: int | None = None,
        crash_at_s: float | None = None,
        max_steps: int = MAX_STEPS,
    ) -> None:
        self._world = world
        self._crash_after_steps = crash_after_steps
        self._crash_at_s = crash_at_s
        super().__init__(_JumpingSelector(self, world.clock))
        # asyncio takes the real clock's nanosecond and loses it in the float after some 97
        # days: then a timer is never quite due and the loop spins for ever.
        self._clock_resolution = 1e-6
        limit = max_steps if crash_after_steps is None else min(crash_after_steps, max_steps)
        self._ready = self._steps = _CountedSteps(limit, self._limit_reached)

    def time(self) -> float:
        """Virtual seconds."""
        return self._world.clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[P, T], *args: P.args, **_: P.kwargs
    ) -> asyncio.Future[T]:
        """Call `func` immediately; the future is done when this returns."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))  # pyright: ignore[reportCallIssue] # as asyncio's own
        except Exception as error:  # noqa: BLE001 # whoever awaits the future gets it
            future.set_exception(error)
        return future

    def jump(self, timeout: float | None) -> None:
        """Nobody has anything to do for `timeout` seconds (None: ever): skip them."""
        if self._crash_at_s is not None:
            left = self._crash_at_s - self._world.clock.now
            if timeout is None or timeout >= left:
                self._world.clock.advance(left)
                raise SimulatedCrash(self._world, self._steps.taken)
        if timeout is None:
            self.stuck("nothing can ever happen")
        self._world.clock.advance(timeout)

    def crash(self) -> None:
        """Stop with SimulatedCrash before the next callback."""
        self._crash_after_steps = self._steps.limit = self._steps.taken
        self.call_soon(lambda: None)  # otherwise it might wait for a timer first

    def stuck(self, why: str) -> NoReturn:
        """Raise SimulationStuck, naming the tasks that wait in vain."""
        waiting = describe_tasks(asyncio.all_tasks(self))
        raise SimulationStuck(f"simulation is stuck: {why}{waiting}")

    def grant_last_steps(self) -> None:
        """From now on only clean up: no more crashes, and few steps."""
        self._crash_after_steps = self._crash_at_s = None
        self._steps.limit = self._steps.taken + _LAST_STEPS

    def abandon(self) -> None:
        """Drop all tasks without unwinding them: no `finally` of theirs ever runs.

        A coroutine that is collected gets GeneratorExit thrown in, which runs its `finally` blocks,
        and this cannot be turned off. So an additional reference is taken on them and on everything
        that could hold others; as it is not accounted for anywhere, it also prevents their
        collection when the interpreter exits.
        """
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            _unregister_task(task)  # else every later all_tasks() would visit each of them
        ctypes.pythonapi.Py_IncRef(
            ctypes.py_object((tasks, list(self._ready), list(self._scheduled)))
        )
        self._world.clock.let_go()

    def _limit_reached(self) -> NoReturn:
        if self._steps.taken == self._crash_after_steps:
            raise SimulatedCrash(self._world, self._steps.taken)
        self.stuck(f"it goes on after {self._steps.taken} steps")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, moves the clock there."""

    def __init__(self, loop: SimulationLoop, clock: VirtualClock) -> None:
        super().__init__()
        self._loop = loop
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._clock.held:
            ready = super().select(_PATIENCE_S)
            if not ready:
                self._loop.stuck(f"{', '.join(self._clock.held)}: no news for {_PATIENCE_S} s")
        else:
            self._loop.jump(timeout)
        return ready


class _CountedSteps(deque[asyncio.Handle]):
    """The loop's queue of callbacks, with a limit on their number."""

    def __init__(self, limit: int, at_limit: Callable[[], NoReturn]) -> None:
        super().__init__()
        self.taken = 0
        self.limit = limit
        self._at_limit = at_limit

    def popleft(self) -> asyncio.Handle:
        if self.taken >= self.limit:
            self._at_limit()
        self.taken += 1
        return super().popleft()


def _describe_task(task: asyncio.Task[object]) -> str:
    """Name of a task and the calls in which it waits, outermost first."""
    calls: list[str] = []
    inner: object = task.get_coro()
    while isinstance(inner, CoroutineType):
        if inner.cr_frame is not None:
            calls.append(f"{inner.__qualname__}:{inner.cr_frame.f_lineno}")
        inner = inner.cr_await
    return f"{task.get_name()} at {' > '.join(calls)}"


def describe_tasks(tasks: set[asyncio.Task[object]]) -> str:
    """A line for each, with what it waits for."""
    return "".join(sorted(f"\n  {_describe_task(task)}" for task in tasks))
