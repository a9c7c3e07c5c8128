"""Keeps one session alive: forks the process that runs its steps, and has another take over.

The keeper runs no code of an agent and trusts nothing that does, so it can be relied on. The
process that runs steps (`serving`) has at most one heir: a fork of it that sleeps, with the state
at that time. When the running process dies, or has to be killed, its heir is woken; without an heir
a new process begins with nothing.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.esg.confined import hold, serving
from lorimer.world.sandbox import landlock

KILL: Final = "kill"
"""`kill N`: end the Nth process, if it is still the running one; its heir takes over."""
RESTART: Final = "restart"
"""`restart N`: the same, but the next process begins with nothing."""
_MAX_PID: Final = 2**31 - 1


def keep(settings: Mapping[str, JSON], talk: int, control: int) -> None:
    """Serve one session until the other end of `control` is closed."""
    _Keeper(settings, talk, control).run()


class _Keeper:
    def __init__(self, settings: Mapping[str, JSON], talk: int, control: int) -> None:
        self._settings = settings
        self._talk = talk
        self._control = socket.socket(fileno=control)
        self._outside = os.getppid()
        """The zygote."""
        self._leash = self._theirs = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._current = self._watch = 0
        self._count = 0
        """The number of processes so far, which is the number of the running one."""
        self._heir = 0
        self._wake: socket.socket | None = None

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for each in range(3):
            os.dup2(null, each)
        os.close(null)
        os.setpgid(0, 0)
        landlock.adopt_orphans()
        hold.keep_apart()
        self._begin(None)
        while True:
            ready = self._wait()
            if self._leash.fileno() in ready:
                self._registered()
            if self._control.fileno() in ready:
                asked = self._control.recv(32).decode()
                if not asked:
                    self._kill()
                    hold.end_all_others(self._outside)
                    return
                word, _, number = asked.partition(" ")
                if number == str(self._count):
                    if word == RESTART:
                        self._forget_heir()
                    self._kill()
            if self._watch in ready:
                self._kill()
            self._reap()

    def _wait(self) -> set[int]:
        poll = select.poll()
        for each in (self._leash.fileno(), self._control.fileno(), self._watch):
            poll.register(each, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll()}

    def _begin(self, status: int | None) -> None:
        """Begin with nothing, and with a new leash that nobody else has had."""
        self._forget_heir()
        self._leash.close()
        self._theirs.close()
        self._leash, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()  # noqa: TID251 - this is what it is for
        if pid == 0:
            self._leash.close()
            self._control.close()
            if self._watch:
                os.close(self._watch)
            turn = serving.Turn(self._count + 1, status)
            serving.serve(self._settings, self._talk, self._theirs, self._outside, turn)
            os._exit(0)
        self._follow(pid)

    def _follow(self, pid: int) -> None:
        watch = os.pidfd_open(pid)
        if self._watch:
            os.close(self._watch)
        self._current, self._watch = pid, watch
        self._count += 1

    def _registered(self) -> None:
        """The running process has a new heir, or none if it sends anything else. It is killed if it
        has closed its leash, which would be reported for ever."""
        message, descriptors, _, _ = socket.recv_fds(self._leash, 64, 1)
        self._forget_heir()
        number = int(message) if message.isdigit() else 0
        for each in descriptors:
            try:
                wake = socket.socket(fileno=each)
            except OSError:
                os.close(each)
                continue
            if 0 < number <= _MAX_PID:
                wake.setblocking(False)
                self._heir, self._wake = number, wake
                return
            wake.close()
        if not message:
            self._kill()

    def _forget_heir(self) -> None:
        """It ends itself when it is no longer wanted."""
        if self._wake is not None:
            self._wake.close()
        self._heir, self._wake = 0, None

    def _kill(self) -> None:
        # Its pid cannot be reused before it is reaped.
        for end in (os.kill, os.killpg):
            with suppress(ProcessLookupError, PermissionError):
                end(self._current, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._current:
                self._succeed(os.waitstatus_to_exitcode(status))

    def _succeed(self, status: int) -> None:
        """The running process is dead."""
        heir, wake = self._heir, self._wake
        self._heir, self._wake = 0, None
        if wake is not None:
            with wake, suppress(OSError):
                wake.send(f"{self._count + 1} {status}".encode())
                self._follow(heir)
                return
        hold.end_all_others(self._outside)
        self._begin(status)
