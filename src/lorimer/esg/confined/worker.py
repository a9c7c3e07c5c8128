"""The workers of a folder: one zygote, and the sessions that are forked from it.

A zygote is one program in one sandbox: all its sessions may read and write the same files, and
cannot reach each other otherwise. Whoever wants other folders or other rights makes another.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, cast

import anyio

from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.jsonable import JSON, clean
from lorimer.core.world import Finished, Isolation, ProcessLimits, Sandbox, World
from lorimer.esg.confined import zygote
from lorimer.esg.confined.keeper import KILL, RESTART
from lorimer.esg.confined.requests import cut
from lorimer.world.real import RealWorld
from lorimer.world.sandbox.view import sandbox_for

Message = Mapping[str, JSON]

MAX_SESSIONS: Final = 64
"""Of one zygote at once."""
MAX_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of one line of a worker's; one that says more is ended."""
_START_S: Final = 60.0
"""For the zygote to load its modules."""
_GRACE_S: Final = 0.1
"""A step that Python code can end has said where it was by then; what computes in C is killed."""
_TAKE_OVER_S: Final = 1.0
_LIFE_S: Final = 10.0**8
_NO_THREADS: Final[Mapping[str, str]] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""A zygote with threads cannot be forked; and sums come out the same every time."""


class WorkerError(LorimerError):
    """A worker cannot be had: it does not start, or ends again and again."""

    default_code = ExecutorErrorCode.EXEC_STEP_CRASHED


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What the steps of one session may use."""

    step_s: float = 30.0
    """Wall seconds of one step; then it is ended, and has changed nothing."""
    memory_bytes: int = 4 * 1024**3
    """Of each process. What wants more gets a MemoryError, or is ended."""
    file_bytes: int = 1024**3
    """Of each file that is written."""
    output_chars: int = 100_000
    """Of each text that is told: what was printed, a value, a traceback."""


@dataclass(frozen=True, slots=True)
class Death:
    """How what ran in a worker was ended; another has taken over."""

    code: ExecutorErrorCode
    why: str
    step: str
    """The step that was running; "" if none was."""
    line: int | None
    at: int
    """Number of the last request that the one which took over has the outcome of."""


class Died(Exception):
    """See `Death`."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.why)
        self.death = death


class StepWorkers:
    """A zygote, started when the first session is asked for; `async with` or `end`.

    `sandbox`: what steps may reach; by default the best level that works here, `folder` to write,
    and no network. `preload`: modules that the zygote imports before, so that no session has to.
    Its one task is the program's; it ends with `end`, and with it all sessions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sandbox: Sandbox | None = None,
        preload: Sequence[str] = (),
        limits: StepLimits = StepLimits(),
        world: World | None = None,
    ) -> None:
        self.folder = folder
        self.limits = limits
        self.world: World = RealWorld() if world is None else world
        self.isolation: Isolation | None = None
        """The level in force, and what it does not hold; None before the first session."""
        self._sandbox = sandbox or sandbox_for("auto", writable=[folder], network=False)
        self._preload = tuple(preload)
        self._turn = asyncio.Lock()
        self._door: socket.socket | None = None
        self._task: asyncio.Task[Finished] | None = None
        self._open: set[Worker] = set()

    async def worker(self, session: str) -> Worker:
        """A new worker, ready. `session`: what answers in it, as `module:Class`.

        Raises `exec.sandbox.missing`, and WorkerError when it does not start.
        """
        if len(self._open) >= MAX_SESSIONS:
            raise WorkerError(
                f"{MAX_SESSIONS} sessions are open already, which is the most: close one"
            )
        assert self._sandbox is not None
        settings: dict[str, JSON] = {
            **cast("dict[str, JSON]", asdict(self.limits)),
            "session": session,
            "network": self._sandbox.network,
            "writable": [str(path) for path in self._sandbox.writable],
        }
        told = json.dumps(settings).encode()
        for last in (False, True):  # the zygote may have died a moment ago
            async with self._turn:
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
        worker = Worker(self, talk, control)
        self._open.add(worker)
        try:
            with their_talk, their_control:
                socket.send_fds(door, [told], [their_talk.fileno(), their_control.fileno()])
            await worker.open()
        except BaseException:
            worker.close()
            raise
        return worker

    def forget(self, worker: Worker) -> None:
        """It is closed."""
        self._open.discard(worker)

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
                raise WorkerError(
                    f"the module {name!r}, which is to be preloaded, is not installed"
                )
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
            done, _ = await asyncio.wait([self._task], timeout=_TAKE_OVER_S)
            if done and self._task.exception() is None:
                said = self._task.result().output.decode("utf-8", "replace").strip()
        last = clean(said.splitlines()[-1]) if said else "it ended before it said anything"
        return WorkerError(f"the worker of the steps does not start: {last}")

    async def _end_zygote(self) -> None:
        if self._door is not None:
            self._door.close()  # it ends itself by that
            self._door = None
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_TAKE_OVER_S)
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def end(self) -> None:
        """End all sessions, and all that their steps have started."""
        for worker in list(self._open):
            worker.close()
        with anyio.CancelScope(shield=True):
            await self._end_zygote()

    async def __aenter__(self) -> StepWorkers:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()


class _Begun:
    """A `Sink`: notes how the zygote is held."""

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


class Worker:
    """One session's process, or who has taken over from it. One request at a time."""

    def __init__(self, workers: StepWorkers, talk: socket.socket, control: socket.socket) -> None:
        self._workers = workers
        self._talk = talk
        self._control = control
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._count = 0
        """How many processes have been heard of; see `keeper`."""
        self._busy = False
        self.saved = 0
        """Number of the last request whose outcome outlives a death."""

    @property
    def number(self) -> int:
        """Of the last request."""
        return self._number

    async def open(self) -> None:
        """Wait until it is ready. Raises OSError or EOFError when it ends before."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._talk, limit=MAX_ANSWER
        )
        try:
            async with asyncio.timeout(_START_S):
                while "at" not in await self._message():
                    pass
        except TimeoutError:
            raise EOFError from None

    async def ask(self, request: Message, tell: Callable[[Message], None]) -> Message:
        """The answer. `tell` is told of events meanwhile.

        Raises Died when what ran was ended, by a limit or by itself, and another has taken over;
        EOFError when nothing is left. Cancelled, it ends the step, too; then the next one raises
        Died, with `exec.run.cancelled`, and is not asked.
        """
        if self._busy:  # the one before was cancelled
            raise await self._settled(ExecutorErrorCode.EXEC_RUN_CANCELLED, "", "", None)
        assert self._writer is not None
        self._number += 1
        self._busy = True
        line = json.dumps({**request, "n": self._number}).encode()
        with self._workers.world.outside("a worker of steps"):
            try:
                self._writer.write(b"\n" + line + b"\n")
                await self._writer.drain()
                answer = await self._answer(tell, str(request.get("step") or ""))
            except asyncio.CancelledError:
                self._end(KILL)
                raise
            except (ConnectionError, BrokenPipeError) as error:
                raise EOFError from error
        self._busy = False
        return answer

    async def _answer(self, tell: Callable[[Message], None], step: str) -> Message:
        while True:
            try:
                async with asyncio.timeout(self._workers.limits.step_s + _GRACE_S):
                    message = await self._message()
            except TimeoutError:
                self._end(KILL)
                why = f"it ran longer than {self._workers.limits.step_s:g} s"
                raise await self._settled(
                    ExecutorErrorCode.EXEC_STEP_TIMEOUT, why, step, None
                ) from None
            if "saved" in message:
                self.saved = _number(message["saved"])
            elif "at" in message:
                raise self._died(message, None, "", step, None)
            elif message.get("n") != self._number:
                continue
            elif "ends" in message:
                raise await self._gave_up(message, step)
            elif isinstance(event := message.get("tell"), dict):
                if event.get("event") == "step.started":
                    step = str(event.get("step"))
                tell(event)
            elif isinstance(answer := message.get("answer"), dict):
                return answer

    async def _gave_up(self, message: Message, step: str) -> Died:
        line = message.get("line")
        found = line if isinstance(line, int) else None
        where = f", in line {found}" if found else ""
        if message["ends"] == "time":
            why = f"it ran longer than {self._workers.limits.step_s:g} s{where}"
            return await self._settled(ExecutorErrorCode.EXEC_STEP_TIMEOUT, why, step, found)
        kind, said = clean(str(message["ends"])), cut(str(message.get("text", "")), 1000)
        why = f"it raised {kind}{where}{f': {said}' if said else ''}"
        return await self._settled(ExecutorErrorCode.EXEC_STEP_CRASHED, why, step, found)

    async def _settled(
        self, code: ExecutorErrorCode, why: str, step: str, line: int | None
    ) -> Died:
        """Wait until another has taken over, by force if it must be."""
        for force in (False, True):
            if force:
                self._end(RESTART)
            try:
                async with asyncio.timeout(_TAKE_OVER_S):
                    while "at" not in (message := await self._message()):
                        if "saved" in message:
                            self.saved = _number(message["saved"])
                    return self._died(message, code, why, step, line)
            except TimeoutError:
                continue
        raise EOFError("the worker does not end what it runs")

    def _died(
        self,
        message: Message,
        code: ExecutorErrorCode | None,
        why: str,
        step: str,
        line: int | None,
    ) -> Died:
        self._busy = False
        status = message.get("status")
        if code is None:
            code, why = _cause(status if isinstance(status, int) else 0)
        self.saved = at = _number(message["at"])
        return Died(Death(code, why, step, line, at))

    async def _message(self) -> Message:
        """The next line that is a message: one may be broken off. Raises EOFError."""
        assert self._reader is not None
        while True:
            try:
                line = await self._reader.readline()
            except ValueError as error:
                raise EOFError("the worker says too much") from error
            except ConnectionError as error:
                raise EOFError from error
            if not line:
                raise EOFError("the worker is gone")
            try:
                found: object = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                self._count += "at" in found
                return cast("Message", found)

    def _end(self, how: str) -> None:
        with suppress(OSError):  # it is gone
            self._control.send(f"{how} {self._count}".encode())

    def close(self) -> None:
        """End it, with all that it has started. It takes no time; to wait: `StepWorkers.end`."""
        self._workers.forget(self)
        self._control.close()
        if self._writer is not None:
            self._writer.transport.abort()
        else:
            self._talk.close()


def _cause(status: int) -> tuple[ExecutorErrorCode, str]:
    if status >= 0:
        return ExecutorErrorCode.EXEC_STEP_CRASHED, f"it ended the process (status {status})"
    with suppress(ValueError):
        number = signal.Signals(-status)
        if number is signal.SIGXCPU:
            return ExecutorErrorCode.EXEC_STEP_TIMEOUT, "it has used up its computing time"
        if number is signal.SIGKILL:
            return (
                ExecutorErrorCode.EXEC_STEP_OUT_OF_MEMORY,
                "the process was killed, as a system does that runs out of memory",
            )
        return ExecutorErrorCode.EXEC_STEP_CRASHED, f"the process was ended by {number.name}"
    return ExecutorErrorCode.EXEC_STEP_CRASHED, f"the process was ended by signal {-status}"


def _number(value: JSON) -> int:
    return value if isinstance(value, int) else 0
