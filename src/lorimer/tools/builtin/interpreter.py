"""The Python interpreter behind REPL, one per run, which ends with the run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorimer.core.world import Finished, Isolation, ProcessLimits, World
from lorimer.tools.base import ToolContext
from lorimer.tools.builtin import repl_worker
from lorimer.tools.builtin.programs import MAX_OUTPUT_BYTES
from lorimer.tools.overflow import Overflow
from lorimer.world.bounded import BoundedOutput

_STATES: Final = (b" ok\n", b" error\n")


@dataclass(frozen=True, slots=True)
class Cell:
    """The outcome of one piece of code."""

    fine: bool
    output: bytes
    total: int
    """Bytes of output; `output` may be only a part of it."""
    where: str
    """The file that has the whole output, in words; "": there is none."""
    isolation: Isolation | None
    new: bool
    """The interpreter was started for this code."""
    earlier: bool
    """There was an interpreter before it in this run."""
    done: Finished | None
    """How the interpreter ended meanwhile; None: it is alive, or was killed at the time-out."""
    timed_out: bool


class Interpreter:
    """Owns at most one process at a time, and a task that ends with its whole process tree; see
    `core/owned.py`. If the process is gone, the next call starts a new one."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: _Process | None = None
        self._starts = 0
        self._tasks: set[asyncio.Task[Finished]] = set()

    async def run(self, code: str, timeout_s: float, context: ToolContext) -> Cell:
        """Run code for at most `timeout_s` seconds; the process is killed if it takes longer, or if
        this is cancelled. Raises OSError if it cannot be started."""
        async with self._turn:
            process = self._process
            new = process is None or process.task.done()
            if process is None or new:
                process = self._process = _Process(context)
                self._starts += 1
                self._tasks.add(process.task)
                process.task.add_done_callback(self._tasks.discard)
            timed_out = False
            try:
                fine = await process.run(code, timeout_s, context)
            except TimeoutError:
                fine, timed_out = False, True
                await self._stop()
            except asyncio.CancelledError:
                process.task.cancel()  # waited for when the run ends
                self._process = None
                raise
            done = None
            if not timed_out and process.task.done():
                done, self._process = process.task.result(), None
            where = await process.log.finish()
            output, total = process.news()
            return Cell(
                fine,
                output,
                total,
                where,
                process.log.isolation or process.isolation,
                new,
                self._starts > 1,
                done,
                timed_out,
            )

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.task.cancel()
            await asyncio.wait([process.task])

    async def end(self) -> None:
        """See `Owned`."""
        self._process = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Process:
    """One interpreter process; a `Sink` for what it writes."""

    def __init__(self, context: ToolContext) -> None:
        run, folder = context.run, context.working_dir
        assert run is not None
        assert folder is not None
        self.isolation: Isolation | None = None
        self.log = Overflow(context, context.idempotency_key)
        self._unread = BoundedOutput(MAX_OUTPUT_BYTES)
        self._held = b""
        """The end of the output so far, if it may be the beginning of a mark."""
        self._mark = b""
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        limits = ProcessLimits(run.bounds.limits.timeout_s, 0, context.sandbox)
        self.task = asyncio.get_running_loop().create_task(
            self._serve(context.world, folder, limits), name="repl"
        )

    async def _serve(self, world: World, folder: Path, limits: ProcessLimits) -> Finished:
        argv = [sys.executable, "-I", "-B", repl_worker.__file__]
        return await world.spawn(argv, cwd=folder, stdin=self._input(), limits=limits, sink=self)

    async def _input(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._requests.get()

    async def run(self, code: str, timeout_s: float, context: ToolContext) -> bool:
        """Whether the code ran without an exception; also False if the process ended. Raises
        TimeoutError."""
        self.log = Overflow(context, context.idempotency_key)
        mark = context.world.new_id("cell")
        self._mark = f"\n{mark}".encode()
        self._over = asyncio.get_running_loop().create_future()
        self._requests.put_nowait(f"{json.dumps([code, mark])}\n".encode())
        done, _ = await asyncio.wait(
            (self._over, self.task), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise TimeoutError
        return self._over.done() and self._over.result()

    def begun(self, isolation: Isolation | None) -> None:
        """See `Sink`."""
        self.isolation = isolation

    def take(self, chunk: bytes) -> bool:
        """See `Sink`. The mark is not part of the output."""
        self._held += chunk
        enough = True
        if self._mark and not self._over.done():
            at = self._held.find(self._mark)
            for state in _STATES if at >= 0 else ():
                if self._held.startswith(state, at + len(self._mark)):
                    enough = self._pass(at)
                    self._held = self._held[len(self._mark) + len(state) :]
                    self._over.set_result(state == _STATES[0])
        keep = 0 if self._over.done() else len(self._mark) + len(_STATES[1])
        return self._pass(max(len(self._held) - keep, 0)) and enough

    def _pass(self, size: int) -> bool:
        chunk, self._held = self._held[:size], self._held[size:]
        self._unread.write(chunk)
        return self.log.take(chunk)

    async def drain(self) -> None:
        """See `Sink`."""
        await self.log.drain()

    def news(self) -> tuple[bytes, int]:
        """The output since the last call, shortened, and its full length in bytes."""
        if self.task.done():
            self._pass(len(self._held))
        unread, self._unread = self._unread, BoundedOutput(MAX_OUTPUT_BYTES)
        return unread.content(), unread.total
