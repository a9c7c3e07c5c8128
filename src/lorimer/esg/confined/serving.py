"""Runs the steps of one session, in the worker: reads requests, answers, and keeps an heir.

Requests and answers are JSON lines. Outside, nothing said here is trusted except as text: this
process runs what an agent wrote.

An heir is a fork that sleeps with the state after some request. It is made in an idle moment, or
once more work than twenty forks cost would be lost without it.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Final, NamedTuple, NoReturn, Protocol, cast

from lorimer.core.jsonable import JSON
from lorimer.esg.confined import hold
from lorimer.esg.confined.requests import cut
from lorimer.esg.execution.main import MainModule
from lorimer.world.real import RealWorld

Message = Mapping[str, JSON]

_ENCODE: Final = json.JSONEncoder().encode
_DECODE: Final = json.JSONDecoder().decode
"""Steps may replace `json.dumps` and `json.loads`."""
_IDLE_MS: Final = 5
_PRINTED_BYTES: Final = 1 << 20
_WORTH: Final = 20
"""An heir is made when redoing the work would take so many times longer than making one."""


class Answers(Protocol):
    """A session: made with `(tell, printed, most)`, like `Requests` and the agent's.

    `tell` takes events: for each run of a step `step.started` and `step.finished`, with its id as
    `step`. `quiet` events stay here; after a `lasting` one (the step wrote files) an heir is made
    without waiting for an idle moment. `printed` returns what was written below Python since the
    last call; `most` limits the length of a text.
    """

    def answer(self, request: Message) -> dict[str, JSON]:
        """Carry out a request."""
        ...


class Turn(NamedTuple):
    """Which process has taken over, and from which."""

    number: int
    """The ordinal of this process in the session: it answers only what is addressed to it. What its
    predecessor did not read is sent again by the other side."""
    status: int | None
    """How the predecessor ended; None: this is the first."""


class TimeUp(BaseException):
    """The time of the step is up."""


class _Inherited(BaseException):
    """This process has taken over; what was going on is over."""


def serve(settings: Message, talk: int, leash: socket.socket, outside: int, turn: Turn) -> None:
    """Serve until the other end of `talk` is closed."""
    os.setpgid(0, 0)
    printed = _Printed()
    hold.keep_apart()
    hold.write_only_beneath(cast("list[str]", settings["writable"]))
    hold.limit(_integer(settings, "memory_bytes"), _integer(settings, "file_bytes"))
    hold.harden(network=bool(settings["network"]))
    sys.path.insert(0, os.getcwd())
    own, sys.modules["__main__"] = sys.modules["__main__"], MainModule()
    sys.modules["_lorimer_zygote"] = own  # or it would be cleared
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()  # Python's own generator reseeds itself
    _Serving(settings, socket.socket(fileno=talk), leash, outside, printed).run(turn)


def _integer(settings: Message, name: str) -> int:
    found = settings[name]
    assert isinstance(found, int)
    return found


class _Serving:
    """One session: when it is asked, how long it may take, and which process has its state when it
    dies."""

    def __init__(
        self,
        settings: Message,
        talk: socket.socket,
        leash: socket.socket,
        outside: int,
        printed: _Printed,
    ) -> None:
        self._talk = talk
        self._leash = leash
        self._outside = outside
        self._printed = printed
        self._step_s = float(cast("float", settings["step_s"]))
        self._cpu_s = self._step_s * (os.cpu_count() or 1)
        self._most = _integer(settings, "output_chars")
        self._count = 0
        self._buffer = bytearray()
        self._clock = RealWorld().monotonic
        self._number = self._done = 0
        """The numbers of the current request and of the last one answered."""
        self._since = 0.0
        self._unsaved_s = 0.0
        self._lasting = False
        self._fork_s = 0.002
        self._heir = 0
        self._running = ""
        module, _, name = str(settings["session"]).partition(":")
        make = cast("Callable[..., Answers]", getattr(importlib.import_module(module), name))
        self._session = make(self._tell, printed, self._most)

    def run(self, turn: Turn) -> None:
        signal.signal(signal.SIGALRM, _time_up)
        self._take(turn)
        while True:
            with suppress(_Inherited):
                line = self._next()
                if line is None:
                    os._exit(0)
                try:
                    found: object = _DECODE(line.decode())
                except ValueError:  # the rest of a line that the predecessor was given
                    continue
                request = cast("dict[str, JSON]", found) if isinstance(found, dict) else {}
                if request.get("to") == self._count:
                    self._answer(request)

    def _answer(self, request: dict[str, JSON]) -> None:
        self._number = cast("int", request["n"])
        self._since = self._clock()
        self._arm()
        try:
            answer = self._session.answer(request)
        except _Inherited:
            raise
        except BaseException as error:  # noqa: BLE001 - what it left half done dies with it
            self._give_up(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._worked()
        self._done = self._number
        self._say({"n": self._number, "answer": answer})

    def _tell(self, event: Message) -> None:
        finished = event["event"] == "step.finished"
        if finished:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not event.get("quiet"):
            self._say({"n": self._number, "tell": event})
        if event["event"] == "step.started":
            self._running = str(event["step"])
            self._arm()
        if finished:
            self._worked()
            self._lasting |= event.get("lasting") is True
            if self._unsaved_s > _WORTH * self._fork_s and not event.get("quiet"):
                self._make_heir()  # otherwise it is made soon, after the answer

    def _worked(self) -> None:
        now = self._clock()
        self._unsaved_s += now - self._since
        self._since = now

    # ---------------------------------------------------------------- time

    def _arm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._step_s)
        hold.limit_cpu(self._cpu_s)

    def _give_up(self, error: BaseException) -> NoReturn:
        """Report the line, and die: the heir has the earlier state."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        lines = [
            number
            for frame, number in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == f"<step {self._running}>"
        ]
        self._say(
            {
                "n": self._number,
                "ends": "time" if isinstance(error, TimeUp) else type(error).__name__,
                "line": lines[-1] if lines else None,
                "text": cut(str(error), self._most),
            }
        )
        os._exit(1)

    # ---------------------------------------------------------------- heirs

    def _make_heir(self) -> None:
        if threading.active_count() > 1:
            return  # a fork would have only this thread; the earlier heir stays
        began = self._clock()
        ours, theirs = socket.socketpair()
        dice = random.getstate()
        try:
            pid = os.fork()  # noqa: TID251 - this is what it is for
        except OSError:
            ours.close()
            theirs.close()
            return
        if pid == 0:
            theirs.close()
            self._wait_to_inherit(ours)
            random.setstate(dice)
            raise _Inherited
        # Here too, and not only by itself: what kills this process's group must never find it
        # there.
        os.setpgid(pid, pid)
        with ours, theirs:
            socket.send_fds(self._leash, [str(pid).encode()], [theirs.fileno()])
        if self._heir:
            with suppress(ChildProcessError):
                os.waitpid(self._heir, 0)  # it ends itself: another is registered
        self._heir = pid
        self._fork_s = self._clock() - began
        self._unsaved_s, self._lasting = 0.0, False
        self._say({"saved": self._done})

    def _wait_to_inherit(self, wake: socket.socket) -> None:
        os.setpgid(0, 0)
        with wake:
            told = wake.recv(32).split()
        if not told:
            os._exit(0)
        hold.end_all_others(self._outside)
        self._heir = 0
        self._running = ""
        self._unsaved_s, self._lasting = 0.0, False
        self._buffer.clear()
        self._printed()
        self._take(Turn(*map(int, told)))

    def _take(self, turn: Turn) -> None:
        self._count = turn.number
        self._say({"at": self._done, "count": turn.number, "status": turn.status})

    # ---------------------------------------------------------------- talking

    def _next(self) -> bytes | None:
        while (end := self._buffer.find(b"\n")) < 0:
            if self._unsaved_s and not self._buffer and self._may_save():
                self._make_heir()
            data = self._talk.recv(1 << 20)
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _may_save(self) -> bool:
        if self._lasting or self._unsaved_s > _WORTH * self._fork_s:
            return True
        poll = select.poll()
        poll.register(self._talk, select.POLLIN)
        return not poll.poll(_IDLE_MS)

    def _say(self, message: dict[str, JSON]) -> None:
        # The previous line may have been cut off by a death.
        self._talk.sendall(b"\n" + _ENCODE(message).encode() + b"\n")


class _Printed:
    """What was written to standard output and error below Python since the last call."""

    def __init__(self) -> None:
        self._file = os.memfd_create("printed")
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        for each in (1, 2):
            os.dup2(self._file, each)

    def __call__(self) -> str:
        size = os.fstat(self._file).st_size
        if not size:
            return ""
        text = os.pread(self._file, _PRINTED_BYTES, max(0, size - _PRINTED_BYTES))
        os.ftruncate(self._file, 0)
        return text.decode("utf-8", "replace")


def _time_up(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeUp
