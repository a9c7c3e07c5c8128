"""The workers of a folder: one zygote, and the sessions that are forked from it.

A zygote is one program in one sandbox: all its sessions may read and write the same files, and
cannot reach each other in any other way. Other folders or other rights need another one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

import anyio

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON, clean
from lorimer.core.world import Finished, Isolation, ProcessLimits, Sandbox, World
from lorimer.esg.confined import zygote
from lorimer.esg.confined.worker import TAKE_OVER_S, Worker, WorkerError
from lorimer.world.real import RealWorld
from lorimer.world.sandbox.view import sandbox_for

MAX_SESSIONS: Final = 64
"""Sessions of one zygote at the same time."""
_LIFE_S: Final = 10.0**8
_NO_THREADS: Final[Mapping[str, str]] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""A zygote with threads cannot be forked; and with one thread sums are reproducible."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """Limits for the steps of one session."""

    step_s: float = 30.0
    """Wall-clock seconds of one step; then it is ended, and has changed nothing."""
    memory_bytes: int = 4 * 1024**3
    """Per process. Beyond it, a process gets a MemoryError or is ended."""
    file_bytes: int = 1024**3
    """Per file that is written."""
    output_chars: int = 100_000
    """Limit on each returned text: printed output, a value, a traceback."""


class StepWorkers:
    """A zygote, started with the first session; use `async with` or `end`.

    `sandbox`: what steps may reach; by default the best level that works here, `folder` writable,
    and no network. `preload`: modules that the zygote imports, so that no session has to. `ahead`:
    after each session the next one is forked in advance; otherwise each is forked on request. Its
    only task is the zygote's; `end` ends it, and all sessions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sandbox: Sandbox | None = None,
        preload: Sequence[str] = (),
        limits: StepLimits = StepLimits(),
        ahead: bool = True,
        world: World | None = None,
    ) -> None:
        self.folder = folder
        self.limits = limits
        self.world: World = RealWorld() if world is None else world
        self.isolation: Isolation | None = None
        """The level in force, and what it does not prevent; None before the first session."""
        self._sandbox = sandbox or sandbox_for("auto", writable=[folder], network=False)
        self._preload = tuple(preload)
        self._turn = asyncio.Lock()
        self._door: socket.socket | None = None
        self._task: asyncio.Task[Finished] | None = None
        self._open: set[Worker] = set()
        self._spare: asyncio.Task[Worker] | None = None
        self._spare_is = ""
        self._ahead = ahead

    async def worker(self, session: str) -> Worker:
        """A new worker, ready. `session`: the class that answers in it, as `module:Class`.

        Raises `exec.sandbox.missing`, and WorkerError if it does not start.
        """
        self._open = {each for each in self._open if not each.closed}
        if len(self._open) >= MAX_SESSIONS:
            raise WorkerError(
                f"{MAX_SESSIONS} sessions are open already, which is the most: close one"
            )
        async with self._turn:
            worker = await self._prepared(session) or await self._new(session)
            self._open.add(worker)
            if self._ahead:
                self._spare = asyncio.get_running_loop().create_task(self._new(session))
                self._spare_is = session
        return worker

    async def _prepared(self, session: str) -> Worker | None:
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        await asyncio.wait([spare])
        if spare.cancelled() or spare.exception() is not None:
            return None
        worker = spare.result()
        if self._spare_is == session and worker.fit:
            return worker
        worker.close()
        return None

    async def _new(self, session: str) -> Worker:
        assert self._sandbox is not None
        settings: dict[str, JSON] = {
            **cast("dict[str, JSON]", asdict(self.limits)),
            "session": session,
            "network": self._sandbox.network,
            "writable": [str(path) for path in self._sandbox.writable],
        }
        told = json.dumps(settings).encode()
        for last in (False, True):  # the zygote may just have died
            door = await self._zygote()
            try:
                return await self._fork(door, told)
            except (OSError, EOFError) as error:
                failed = await self._no_start()
                if last:
                    raise failed from error
        raise AssertionError("not reached")

    async def _fork(self, door: socket.socket, told: bytes) -> Worker:
        talk, their_talk = socket.socketpair()
        control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = Worker(talk, control, self.limits.step_s, self.world)
        try:
            with their_talk, their_control:
                socket.send_fds(door, [told], [their_talk.fileno(), their_control.fileno()])
            await worker.open()
        except BaseException:
            worker.close()
            raise
        return worker

    # ---------------------------------------------------------------- the zygote

    async def _zygote(self) -> socket.socket:
        if self._door is not None and self._task is not None and not self._task.done():
            return self._door
        if sys.platform != "linux":
            raise WorkerError(
                "Confined steps need Linux.", code=ExecutorErrorCode.EXEC_SANDBOX_MISSING
            )
        await self._end_zygote()
        for name in self._preload:
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                raise WorkerError(f"the module {name!r} to be preloaded is not installed")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with theirs:
            self._task = asyncio.get_running_loop().create_task(
                self._run(theirs, _Begun(self, begun)), name="step-zygote"
            )
            self._door = ours
            try:
                await asyncio.wait((begun, self._task), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._task.cancel()
                raise
        if not begun.done():
            task, self._task = self._task, None
            task.result()  # raises what is wrong
        return ours

    async def _run(self, theirs: socket.socket, sink: _Begun) -> Finished:
        package = str(Path(__file__).parents[2])
        argv = [sys.executable, "-I", "-B", str(Path(zygote.__file__)), package, *self._preload]
        return await self.world.spawn(
            argv,
            cwd=self.folder,
            env=_NO_THREADS,
            stdin=theirs,
            limits=ProcessLimits(_LIFE_S, 10_000, self._sandbox),
            sink=sink,
        )

    async def _no_start(self) -> WorkerError:
        said = ""
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=TAKE_OVER_S)
            if done and self._task.exception() is None:
                said = self._task.result().output.decode("utf-8", "replace").strip()
        last = clean(said.splitlines()[-1]) if said else "it ended before it said anything"
        return WorkerError(f"the worker of the steps does not start: {last}")

    async def _end_zygote(self) -> None:
        if self._door is not None:
            self._door.close()  # that makes it end itself
            self._door = None
        if self._task is not None:
            await asyncio.wait([self._task], timeout=TAKE_OVER_S)
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def end(self) -> None:
        """End all sessions, and everything that their steps have started."""
        for worker in self._open:
            worker.close()
        if self._spare is not None:
            self._spare.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._spare])
            if not self._spare.cancelled() and self._spare.exception() is None:
                self._spare.result().close()
            self._spare = None
        with anyio.CancelScope(shield=True):
            await self._end_zygote()

    async def __aenter__(self) -> StepWorkers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()


class _Begun:
    """A `Sink` that notes how the zygote is isolated."""

    def __init__(self, workers: StepWorkers, begun: asyncio.Future[None]) -> None:
        self._workers = workers
        self._begun = begun

    def begun(self, isolation: Isolation | None) -> None:
        self._workers.isolation = isolation
        if not self._begun.done():
            self._begun.set_result(None)

    def take(self, chunk: bytes) -> bool:
        return True

    async def drain(self) -> None:
        """Nothing is kept."""
