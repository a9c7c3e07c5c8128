"""Ensures that simulated code starts no thread, process or connection unannounced."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from lorimer.testing.simulated_failures import UnannouncedOutside

if TYPE_CHECKING:
    from lorimer.testing.simulated_world import VirtualClock


class Watch:
    """The guard's state for one simulation: whether going outside is allowed now, and whether it
    happened without permission."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.offence: UnannouncedOutside | None = None

    def see(self, event: str, args: tuple[object, ...]) -> None:
        if self._clock.held:
            return
        what = _describe_event(event, args)
        raise self.refuse(f"{what} in a simulation: announce it with world.outside(...)")

    def refuse(self, why: str) -> UnannouncedOutside:
        """The error to raise; the first is kept, in case the code swallows it."""
        error = UnannouncedOutside(why)
        self.offence = self.offence or error
        return error


class Guard(threading.local):
    """Which simulation the current thread runs.

    An audit hook stays for the life of the process and is called without any context, so the state
    it consults has to be global and is necessarily shared. It is per thread, because the
    prohibition applies to the thread: other threads, whether announced or of other tests, do not
    concern this simulation. A context variable would not work: code may run in a context of its own
    and would escape.
    """

    watch: Watch | None = None

    @contextmanager
    def watching(self, clock: VirtualClock) -> Generator[Watch]:
        before = self.watch
        self.watch = watch = Watch(clock)
        try:
            yield watch
        finally:
            self.watch = before


@cache
def guard() -> Guard:
    """The process's only guard; its hook is installed with the first simulation."""
    one = Guard()
    watched = frozenset(
        {
            "_thread.start_joinable_thread",  # from Python 3.13 on
            "_thread.start_new_thread",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.system",
            "socket.bind",
            "socket.connect",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.sendmsg",
            "socket.sendto",
            "subprocess.Popen",
        }
    )

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in watched and (watch := one.watch) is not None:
            watch.see(event, args)

    sys.addaudithook(hook)
    if sys.version_info < (3, 12):
        _audit_threads()
    return one


def _audit_threads() -> None:
    """Have threads announced as Python itself does from 3.12 on; permanently, like the hook."""
    start = threading.Thread.start

    def audited_start(self: threading.Thread) -> None:
        sys.audit("_thread.start_new_thread", self.run, (), {})
        start(self)

    threading.Thread.start = audited_start


def refusal(why: str) -> UnannouncedOutside:
    """The error for something that this simulation does not have; it fails with it."""
    watch = guard().watch
    return UnannouncedOutside(why) if watch is None else watch.refuse(why)


def _describe_event(event: str, args: tuple[object, ...]) -> str:
    """Event and its most telling argument; never all of them, an environment may contain
    secrets."""
    shown = {"subprocess.Popen": 1, "socket.connect": 1, "socket.bind": 1}.get(event, 0)
    return f"{event} {args[shown]!r}" if shown < len(args) else event
