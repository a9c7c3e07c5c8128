"""The step session of one run: where it lives, and when it is begun again.

The earlier calls of the conversation determine its state at a call. If the session does not exist
(the run was resumed, the session was ended by a timeout, the folder is another), it begins with
those steps and without their values, which are made again when they are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.tool import PastCall
from lorimer.core.world import Isolation
from lorimer.esg.agent.desk import MAX_TEXT, Desk, Message
from lorimer.esg.agent.record import effective, fold
from lorimer.esg.confined.worker import Died, Worker
from lorimer.esg.confined.workers import StepLimits, StepWorkers
from lorimer.tools.base import ToolContext

MAX_S: Final = 600
"""Maximum timeout of a call, in seconds."""
_DESK: Final = "lorimer.esg.agent.desk:Desk"
_CRASHED: Final = ExecutorErrorCode.EXEC_STEP_CRASHED

Tell = Callable[[Message], None]


class StepEnded(Exception):
    """A request was ended before it was complete. `alive`: the session can still be used, and is as
    it was at some earlier time."""

    def __init__(self, why: str, code: ExecutorErrorCode, *, alive: bool) -> None:
        super().__init__(why)
        self.code = code
        self.alive = alive


class StepSession(Protocol):
    """A session somewhere, with the answers of `Desk`."""

    @property
    def isolation(self) -> Isolation | None:
        """How the code is isolated; None: not at all."""
        ...

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """The answer of `Desk`. Raises StepEnded; TimeoutError, after which the session is as after
        a StepEnded with `alive`; and LorimerError if it cannot be started. If cancelled, the
        session is unusable."""
        ...

    def stop(self) -> None:
        """End it soon, with everything that its steps have started."""
        ...

    async def ended(self) -> None:
        """Wait for the end."""
        ...


@dataclass(slots=True)
class Asked:
    """An answer, and what the session was before it."""

    answer: Mapping[str, JSON]
    restored: int
    """Number of steps that had to be restored for this request: their values are gone."""
    earlier: tuple[str, ...]
    """Results of earlier calls."""
    isolation: Isolation | None


class StepSessions:
    """See `core/owned.py`. At most one session at a time; `make` makes one."""

    def __init__(self, make: Callable[[ToolContext], StepSession]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._session: StepSession | None = None
        self._knows: tuple[str, ...] | None = None
        """The calls that its state consists of; None: unknown, some of them or more."""
        self._folder: Path | None = None
        self._past: tuple[PastCall, ...] = ()
        """The calls that were examined; `_changes` are those that changed the session."""
        self._changes: list[PastCall] = []
        self._stopped: list[StepSession] = []

    async def ask(
        self, request: Message, context: ToolContext, timeout_s: float, tell: Tell
    ) -> Asked:
        """Ask the session at its state in the conversation. Raises like `StepSession.ask`."""
        async with self._turn:
            try:
                return await self._ask(request, context, timeout_s, tell)
            except TimeoutError:
                self._knows = None
                raise
            except StepEnded as end:
                self._knows = None
                if not end.alive:
                    await self._stop()
                raise
            except BaseException:
                self._drop()  # awaited when the run ends
                raise

    async def _ask(
        self, request: Message, context: ToolContext, timeout_s: float, tell: Tell
    ) -> Asked:
        until = context.world.monotonic() + timeout_s
        past = self._effective(context.past)
        known = tuple([call.use.id for call in past])
        earlier = tuple([str(call.result.content) for call in past])
        restored = 0
        if context.working_dir != self._folder:
            await self._stop()
        session = self._session
        if session is None:
            session = self._session = self._make(context)
            self._folder, self._knows = context.working_dir, None
        if known != self._knows:
            steps = [each.to_json() for each in fold(past)]
            said = await session.ask({"op": "restore", "steps": steps}, tell, timeout_s)
            if "error" in said:
                raise StepEnded(f"its steps are lost: {said['error']}", _CRASHED, alive=False)
            given = said.get("given")
            restored = given if isinstance(given, int) else 0
        answer = await session.ask(request, tell, max(until - context.world.monotonic(), 0.01))
        changes = "changed" in answer
        self._knows = (*known, context.tool_use_id) if changes else known
        if answer.get("spoiled") is True:
            self._drop()
        return Asked(answer, restored, earlier, session.isolation)

    def _effective(self, past: tuple[PastCall, ...]) -> list[PastCall]:
        """The calls that changed the session; calls already examined are not examined again."""
        if len(past) < len(self._past) or past[: len(self._past)] != self._past:
            self._past, self._changes = (), []
        self._changes += effective(past[len(self._past) :])
        self._past = past
        return self._changes

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

    def __init__(self, context: ToolContext) -> None:
        self._context = context
        self._desk = Desk(self._told, world=context.world)
        self._tell: Tell = _nobody

    def _told(self, message: Message) -> None:
        self._tell(message)

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """See `StepSession`. A step that does not end cannot be stopped here: `timeout_s` has no
        effect; after the tool's own time limit the thread is abandoned."""
        loop = asyncio.get_running_loop()
        self._tell = lambda message: cast("None", loop.call_soon_threadsafe(tell, message))
        return await self._context.in_thread(lambda: self._desk.answer(request))

    def stop(self) -> None:
        """See `StepSession`."""

    async def ended(self) -> None:
        """See `StepSession`."""


class Confined:
    """A session in its own worker (`esg/confined`), in the host's sandbox. When its running process
    is ended, another takes over with an earlier state."""

    def __init__(self, context: ToolContext) -> None:
        assert context.working_dir is not None
        self._workers = StepWorkers(
            context.working_dir,
            sandbox=context.sandbox,
            limits=StepLimits(step_s=MAX_S, output_chars=MAX_TEXT),
            ahead=False,  # a run has one session
            world=context.world,
        )
        self._worker: Worker | None = None
        self._task: asyncio.Task[Message] | None = None

    @property
    def isolation(self) -> Isolation | None:
        """See `StepSession`."""
        return self._workers.isolation

    async def ask(self, request: Message, tell: Tell, timeout_s: float) -> Mapping[str, JSON]:
        """See `StepSession`."""
        task = self._task = asyncio.get_running_loop().create_task(
            self._asked(request, tell), name="steps"
        )
        try:
            await asyncio.wait([task], timeout=timeout_s)
        finally:
            if not task.done():
                task.cancel()  # which ends the step
        if task.done():
            return task.result()
        await asyncio.wait([task])
        raise TimeoutError

    async def _asked(self, request: Message, tell: Tell) -> Message:
        try:
            if self._worker is None:
                self._worker = await self._workers.worker(_DESK)
            return await self._worker.ask(request, tell)
        except Died as died:
            raise StepEnded(died.death.why, died.death.code, alive=True) from died
        except EOFError as error:
            raise StepEnded(str(error) or "the process is gone", _CRASHED, alive=False) from error

    def stop(self) -> None:
        """See `StepSession`."""
        if self._task is not None:
            self._task.cancel()
        if self._worker is not None:
            self._worker.close()

    async def ended(self) -> None:
        """See `StepSession`."""
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._workers.end()


def _nobody(message: Message) -> None:
    del message


def texts(value: JSON) -> Iterable[str]:
    """The texts in a list that may contain anything."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
