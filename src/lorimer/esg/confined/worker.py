"""The process of one session, as seen from outside: requests, time limits, deaths and takeovers.

Its output is read as JSON lines of bounded length; `told.py` makes texts of them.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.jsonable import JSON, clean
from lorimer.core.world import World
from lorimer.esg.confined.keeper import KILL, RESTART
from lorimer.esg.confined.patience import Patience
from lorimer.esg.confined.requests import cut

Message = Mapping[str, JSON]

MAX_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of one line; a worker that sends a longer one is ended."""
MAX_VALUES: Final = 3_000_000
"""Brackets and commas in one line: the values of 32 MiB of `{},` would take 800 MB."""
MAX_EVENTS: Final = 100_000
"""Events during one request."""
_IN_A_ROW: Final = 100
"""Messages that are read before others have a turn, so that one worker cannot block the rest."""
START_S: Final = 60.0
"""Time for the zygote to load its modules."""
TAKE_OVER_S: Final = 1.0


class WorkerError(LorimerError):
    """No worker is available: it does not start, or ends repeatedly."""

    default_code = ExecutorErrorCode.EXEC_STEP_CRASHED


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker's running process was ended; another has taken over."""

    code: ExecutorErrorCode
    why: str
    step: str
    """The step that was running; "" if none was."""
    line: int | None
    at: int
    """The last request whose outcome the new process has."""


class Died(Exception):
    """See `Death`."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.why)
        self.death = death


class Worker:
    """The process of one session, or the one that took over from it. One request at a time."""

    def __init__(
        self, talk: socket.socket, control: socket.socket, step_s: float, world: World
    ) -> None:
        self._step_s = step_s
        self._world = world
        self._talk = talk
        self._control = control
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._count = 0
        """Number of the process that is addressed; see `serving.Turn`."""
        self._busy = False
        self._read = 0
        """Number of lines read."""
        self.saved = 0
        """Number of the last request whose outcome survives a death."""

    @property
    def closed(self) -> bool:
        """It cannot be used any more."""
        return self._control.fileno() < 0

    @property
    def fit(self) -> bool:
        """Nothing has ended it yet, as far as known."""
        return not self.closed and self._reader is not None and not self._reader.at_eof()

    @property
    def number(self) -> int:
        """Number of the last request."""
        return self._number

    async def open(self) -> None:
        """Wait until it is ready. Raises OSError or EOFError if it ends before."""
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._talk, limit=MAX_ANSWER
        )
        try:
            async with asyncio.timeout(START_S):
                while "at" not in await self._message():
                    pass
        except TimeoutError:
            raise EOFError from None

    async def ask(
        self,
        request: Message,
        tell: Callable[[Message], None],
        steps: Container[str] = (),
        turns: int = 1,
    ) -> Message:
        """Send a request and return the answer. `tell` is called with events meanwhile. `steps`:
        the existing steps, each of which may run for `step_s`, `turns` times; without them that is
        the time for the whole request.

        Raises Died if the running process was ended, by a limit or by itself, and another has taken
        over; EOFError if nothing is left. Cancelling ends the step, too; see `settled`.
        """
        await self.settled()
        assert self._writer is not None
        self._number += 1
        self._busy = True
        line = json.dumps({**request, "n": self._number, "to": self._count}).encode()
        now = asyncio.get_running_loop().time()
        with self._world.outside("a worker of steps"):
            try:
                # A process that reads nothing is ended in time, so this does not wait for it to
                # read.
                self._writer.write(b"\n" + line + b"\n")
                answer = await self._answer(tell, steps, Patience(self._step_s, turns, now))
            except asyncio.CancelledError:
                self._end(KILL)
                raise
            except (ConnectionError, BrokenPipeError) as error:
                raise EOFError from error
        self._busy = False
        return answer

    async def settled(self) -> Death | None:
        """If the previous `ask` was cancelled, wait for the process that takes over, and return how
        the other ended. Raises EOFError if nothing is left."""
        if not self._busy:
            return None
        return (await self._settled(ExecutorErrorCode.EXEC_RUN_CANCELLED, "", "", None)).death

    async def _answer(
        self, tell: Callable[[Message], None], steps: Container[str], patience: Patience
    ) -> Message:
        step, events = "", 0
        now = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout_at(patience.until):
                    message = await self._message()
            except TimeoutError:
                if patience.looks_again(now()):
                    continue
                self._end(KILL)
                why = f"it ran longer than {self._step_s:g} s"
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
                events += 1
                if events > MAX_EVENTS:
                    raise EOFError("the worker says too much")
                heard = now()
                if event.get("event") == "step.started":
                    step = str(event.get("step"))
                    if step in steps:
                        patience.begins(step, heard)
                tell(event)
                patience.add(now() - heard)
            elif isinstance(answer := message.get("answer"), dict):
                return answer

    async def _gave_up(self, message: Message, step: str) -> Died:
        line = message.get("line")
        found = line if isinstance(line, int) else None
        where = f", in line {found}" if found else ""
        if message["ends"] == "time":
            why = f"it ran longer than {self._step_s:g} s{where}"
            return await self._settled(ExecutorErrorCode.EXEC_STEP_TIMEOUT, why, step, found)
        kind, said = clean(str(message["ends"])), cut(str(message.get("text", "")), 1000)
        why = f"it raised {kind}{where}{f': {said}' if said else ''}"
        return await self._settled(ExecutorErrorCode.EXEC_STEP_CRASHED, why, step, found)

    async def _settled(
        self, code: ExecutorErrorCode, why: str, step: str, line: int | None
    ) -> Died:
        """Wait until another has taken over, by force if necessary."""
        for force in (False, True):
            if force:
                self._end(RESTART)
            try:
                async with asyncio.timeout(TAKE_OVER_S):
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
        """The next line that is a message; lines may be cut off. Raises EOFError."""
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
            self._read += 1
            if self._read % _IN_A_ROW == 0:
                await asyncio.sleep(0)  # noqa: TID251 - a bare yield, not a wait
            if len(line) > MAX_VALUES and sum(map(line.count, (b"[", b"{", b","))) > MAX_VALUES:
                raise EOFError("the worker says too much")
            try:
                found: object = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                if "at" in found:
                    self._count = _number(cast("Message", found).get("count"))
                return cast("Message", found)

    def _end(self, how: str) -> None:
        with suppress(OSError):  # it is gone
            self._control.send(f"{how} {self._count}".encode())

    def close(self) -> None:
        """End it, with everything it has started. Does not block; to wait: `StepWorkers.end`."""
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
