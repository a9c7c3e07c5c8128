"""Threads for tools and stores that block: bounded in number, and abandoned rather than waited
for."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Final, Generic, TypeVar

from lorimer.core.world import World

T = TypeVar("T")

MAX_THREADS: Final = 32
"""Most tool threads of one Toolset at once, including those of abandoned calls."""


class Threads:
    """Runs blocking functions beside the event loop. Loops in several threads may share it.

    Nothing can stop a thread: if its call is cancelled or times out, it is abandoned, its result is
    dropped, and its place stays taken until it ends. The threads are daemons, so that even one that
    never ends does not delay the end of the program.
    """

    def __init__(self, limit: int = MAX_THREADS) -> None:
        self._lock = threading.Lock()
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, world: World, function: Callable[[], T]) -> T:
        """The function's result, or what it raised (StopIteration and GeneratorExit as
        RuntimeError).

        Waits for a free place first. Returns at once on cancellation.
        """
        with world.outside("tool thread"):
            await self._take()
            job = _Job(function, self._give)
            try:
                threading.Thread(target=job.run, name="lorimer tool", daemon=True).start()
            except RuntimeError:
                self._give()
                raise
            return await job.done

    async def _take(self) -> None:
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                mine = turn not in self._waiting
                if not mine:
                    self._waiting.remove(turn)
            if mine:  # the place was handed over at the same moment
                self._give()
            raise

    def _give(self) -> None:
        """Pass a place on to the next in line, from any thread."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                turn = self._waiting.popleft()
            if _tell(turn, partial(turn.set_result, None)):
                return


class StoreThread:
    """Runs the operations of a store that blocks, one at a time, in a thread; with `threads=False`
    inline, for simulations, whose order must not depend on a scheduler."""

    def __init__(self, world: World, *, threads: bool) -> None:
        self._world = world
        self._threads = Threads(1) if threads else None

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raised; see `Threads.run`."""
        return work() if self._threads is None else await self._threads.run(self._world, work)


class _Job(Generic[T]):
    """One function on its way through one thread."""

    def __init__(self, function: Callable[[], T], give: Callable[[], None]) -> None:
        self._function = function
        self._give = give
        self._context = copy_context()
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run(self) -> None:
        settle: Callable[[], None]
        try:
            settle = partial(self.done.set_result, self._context.run(self._function))
        except (StopIteration, GeneratorExit) as stop:  # exceptions that a future cannot hold
            as_text = f"{type(stop).__name__}: {stop}"
            settle = partial(self.done.set_exception, RuntimeError(as_text))
        except BaseException as error:  # noqa: BLE001 - raised again where the call is awaited
            settle = partial(self.done.set_exception, error)
        self._give()
        _tell(self.done, settle)


def _tell(future: asyncio.Future[T], settle: Callable[[], None]) -> bool:
    """Settle a future of any loop from any thread. False: its loop is closed."""
    try:
        future.get_loop().call_soon_threadsafe(lambda: None if future.done() else settle())
    except RuntimeError:
        return False
    return True
