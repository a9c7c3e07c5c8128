"""The step session of one run: where it lives, and when it begins anew.

What it has to be at a call is what the earlier calls of the conversation come to. A session that is
not there (the run was resumed, it was ended at a time-out, the folder is another) begins with those
steps and without their values, which are made again when somebody needs them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from lorimer.core.jsonable import JSON
from lorimer.core.world import Finished, Isolation, ProcessLimits, World
from lorimer.esg.agent import worker
from lorimer.esg.agent.desk import Desk, Message
from lorimer.esg.agent.record import effective, fold
from lorimer.tools.base import ToolContext

MAX_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of one answer; a process that writes more is ended."""

Tell = Callable[[Message], None]


class SessionEnded(Exception):
    """The process is gone, and what was defined in it."""

    def __init__(self, done: Finished | None, why: str = "") -> None:
        super().__init__(why)
        self.done = done


class StepSession(Protocol):
    """A session somewhere, that answers as `Desk` does."""

    isolation: Isolation | None
    """How the code is held; None: not at all."""

    @property
    def alive(self) -> bool:
        """It can be asked."""
        ...

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """An answer of `Desk`. Raises SessionEnded, TimeoutError. After that, and when it was
        cancelled, it is of no use any more."""
        ...

    def stop(self) -> None:
        """End it soon, with all that its steps have started."""
        ...

    async def ended(self) -> None:
        """Wait for that."""
        ...


@dataclass(slots=True)
class Asked:
    """An answer, and what the session was before it."""

    answer: Mapping[str, JSON]
    restored: int
    """The steps that it began with just now: their values are gone."""
    earlier: tuple[str, ...]
    """What earlier calls were told."""
    isolation: Isolation | None


class StepSessions:
    """See `core/owned.py`. At most one session at a time; `make` makes one."""

    def __init__(self, make: Callable[[ToolContext], StepSession]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._session: StepSession | None = None
        self._knows: tuple[str, ...] = ()
        """The calls that it is made of."""
        self._folder: Path | None = None
        self._stopped: list[StepSession] = []

    async def ask(
        self, request: Message, context: ToolContext, timeout_s: float, tell: Tell
    ) -> Asked:
        """Ask the session that the conversation has come to. Raises SessionEnded, TimeoutError (it
        is ended then) and OSError when it cannot be started."""
        async with self._turn:
            try:
                return await self._ask(request, context, timeout_s, tell)
            except (TimeoutError, SessionEnded):
                await self._stop()
                raise
            except asyncio.CancelledError:
                self._drop()  # waited for when the run ends
                raise

    async def _ask(
        self, request: Message, context: ToolContext, timeout_s: float, tell: Tell
    ) -> Asked:
        until = context.world.monotonic() + timeout_s
        past = effective(context.past)
        known = tuple([call.use.id for call in past])
        earlier = tuple([str(call.result.content) for call in past])
        restored = 0
        session = self._session
        if (
            session is None
            or not session.alive
            or known != self._knows
            or context.working_dir != self._folder
        ):
            await self._stop()
            session = self._session = self._make(context)
            self._folder = context.working_dir
            steps = [each.to_json() for each in fold(past)]
            restored = len(steps)
            said = await session.ask({"op": "restore", "steps": steps}, tell, timeout_s)
            if "error" in said:
                raise SessionEnded(None, f"its steps cannot be restored: {said['error']}")
        answer = await session.ask(request, tell, max(until - context.world.monotonic(), 0.01))
        changes = "changed" in answer
        self._knows = (*known, context.tool_use_id) if changes else known
        if answer.get("spoiled") is True:
            self._drop()
        return Asked(answer, restored, earlier, session.isolation)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.stop()
            self._stopped.append(session)

    async def _stop(self) -> None:
        self._drop()
        while self._stopped:
            await self._stopped[-1].ended()
            self._stopped.pop()

    async def end(self) -> None:
        """See `Owned`."""
        await self._stop()


class InProcess:
    """A session in this process, in a thread: for code that the host trusts."""

    isolation: Isolation | None = None
    alive = True

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._desk = Desk(self._told, world=context.world)
        self._tell: Tell = _nobody

    def _told(self, message: Message) -> None:
        self._tell(message)

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """See `StepSession`. A step that does not end cannot be stopped here: `timeout_s` does
        nothing, the tool's own time limit gives the thread up."""
        loop = asyncio.get_running_loop()
        self._tell = lambda message: cast("None", loop.call_soon_threadsafe(tell, message))
        return await self._context.in_thread(lambda: self._desk.answer(request))

    def stop(self) -> None:
        """See `StepSession`."""

    async def ended(self) -> None:
        """See `StepSession`."""


class Confined:
    """A session in a process of its own, sandboxed as the host says; a `Sink` for what it writes.
    The process lives in a task, which ends with the whole tree."""

    def __init__(self, context: ToolContext) -> None:
        run, folder = context.run, context.working_dir
        assert run is not None
        assert folder is not None
        self.isolation: Isolation | None = None
        self._held = bytearray()
        self._over: asyncio.Future[Mapping[str, JSON]] | None = None
        self._mark = ""
        self._tell: Tell = _nobody
        self._ids = context.world.new_id
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        limits = ProcessLimits(run.bounds.limits.timeout_s, 0, context.sandbox)
        self._task = asyncio.get_running_loop().create_task(
            self._serve(context.world, folder, limits), name="steps"
        )

    async def _serve(self, world: World, folder: Path, limits: ProcessLimits) -> Finished:
        argv = [sys.executable, "-P", "-s", "-B", worker.__file__]
        env = {"PYTHONHASHSEED": "0"}  # sets in the same order when a step runs again elsewhere
        return await world.spawn(
            argv, cwd=folder, env=env, stdin=self._input(), limits=limits, sink=self
        )

    async def _input(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._requests.get()

    @property
    def alive(self) -> bool:
        """See `StepSession`."""
        return not self._task.done()

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """See `StepSession`."""
        self._mark, self._tell = self._ids("ask"), tell
        over = self._over = asyncio.get_running_loop().create_future()
        line = json.dumps({**request, "mark": self._mark})
        self._requests.put_nowait(f"{line}\n".encode())
        done, _ = await asyncio.wait(
            (over, self._task), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        self._over, self._tell = None, _nobody
        if not done:
            raise TimeoutError
        if over.done():
            return over.result()
        raise SessionEnded(self._task.result(), _last_words(self._held))

    def begun(self, isolation: Isolation | None) -> None:
        """See `Sink`."""
        self.isolation = isolation

    def take(self, chunk: bytes) -> bool:
        """See `Sink`."""
        self._held += chunk
        while (at := self._held.find(b"\n")) >= 0:
            line = bytes(self._held[:at])
            del self._held[: at + 1]
            self._read(line)
        if len(self._held) > MAX_ANSWER:
            self._task.cancel()
        return True

    def _read(self, line: bytes) -> None:
        """A line that may be anything: steps can write here if they mean to."""
        message = _message(line)
        if message is None or self._over is None or self._over.done():
            return
        if message.get("mark") == self._mark:
            self._over.set_result(message)
        elif "event" in message:
            self._tell(message)

    async def drain(self) -> None:
        """See `Sink`."""

    def stop(self) -> None:
        """See `StepSession`."""
        self._task.cancel()

    async def ended(self) -> None:
        """See `StepSession`."""
        await asyncio.wait([self._task])


def _message(line: bytes) -> Message | None:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("Message", value) if isinstance(value, dict) else None


def _last_words(held: bytearray) -> str:
    return held[-2000:].decode("utf-8", "replace").strip()


def _nobody(message: Message) -> None:
    del message


def texts(value: JSON) -> Iterable[str]:
    """The texts in a list that may be anything."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
