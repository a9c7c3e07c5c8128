"""Find and end all processes that one spawned program started.

There are three mechanisms, because each alone has gaps: the process group covers ordinary children;
a marker variable in the environment covers those that left the group (`setsid`, double fork), on
Linux; reaping covers those that were handed to us when their parent died (we are PID 1 or a
subreaper). A descendant that leaves the session *and* rewrites its environment escapes, unless it
is sandboxed: then all of them also carry a number, which cannot be removed at L1 and L2; and at L2
the kernel ends all of them soon after the leader ends, which is waited for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from lorimer.world.sandbox import rlimits

MARKER: Final = "LORIMER_SPAWN"
"""Environment variable that names the spawns a process belongs to, outermost first."""

_TERM_GRACE_S: Final = 1.0
_KILL_SETTLE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 0.05
_DEEPEST_NESTING: Final = 8
_MOST_LOOKS: Final = 8


def nested_marker(outer: str, token: str) -> str:
    """The marker's value for a spawn `token` started by a process that carries `outer`.

    The outer tokens are kept, so that ending an outer tree also finds the processes spawned by a
    Lorimer inside it.
    """
    outer_tokens = [part for part in outer.split(",") if part]
    return ",".join([*outer_tokens[1 - _DEEPEST_NESTING :], token])


class ProcessTree:
    """The leader started for one spawn and all its descendants.

    Nobody else may reap the leader before `kill_now`: while it is a zombie its pid, which is also
    its group's id, cannot be reused.
    """

    __slots__ = ("_empty", "_enclosed", "_ended", "_found", "_leader", "_mark", "_seen", "_token")

    def __init__(
        self,
        leader: subprocess.Popen[bytes],
        token: str,
        *,
        mark: int | None = None,
        enclosed: bool = False,
    ) -> None:
        self._leader = leader
        self._token = token.encode()
        self._mark = mark
        self._enclosed = enclosed
        self._empty = False
        self._found: set[int] = set()
        """All processes that were ever found to belong here."""
        self._ended: set[str] = set()
        """All processes that were listed but had ended when examined."""
        self._seen: set[int] = set()

    async def end(self) -> None:
        """Ask all to stop, wait at most 1 s, kill, wait at most 0.5 s. Immediate if none is
        alive."""
        if await self._stop(signal.SIGTERM, _TERM_GRACE_S):
            return
        await self._stop(signal.SIGKILL, _KILL_SETTLE_S)

    def kill_now(self) -> None:
        """Kill the remaining processes and reap. Blocks for the milliseconds that this takes."""
        self._signal(signal.SIGKILL, members := [] if self._empty else self._members())
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: do not wait for it
            self._leader.wait(_KILL_SETTLE_S)
        give_up = time.monotonic() + _KILL_SETTLE_S
        while members and (members := self._members()) and time.monotonic() < give_up:
            self._signal(signal.SIGKILL, members)  # a fork may have raced with the last look
            time.sleep(0.001)
        while (self._has_group() or self._dying()) and time.monotonic() < give_up:
            time.sleep(0.001)
        self._reap_adopted()

    async def _stop(self, number: signal.Signals, patience_s: float) -> bool:
        """Send `number`; True when no process is alive within `patience_s`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience_s
        pause = 0.001
        first = True
        while (members := self._members()) or self._dying():
            if loop.time() >= give_up:
                return False
            if first or number is signal.SIGKILL:  # a fork may have raced with the last look
                self._signal(number, members)
            first = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        self._empty = True
        return True

    def _signal(self, number: signal.Signals, members: list[int]) -> None:
        polite_to_enclosed = self._enclosed and number is signal.SIGTERM  # it would kill the rest
        if not polite_to_enclosed and (members or self._leader.returncode is None):
            # PermissionError: macOS for a group of zombies, Linux for a set-user-id program.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader.pid, number)
        for pid in members:
            # Once each: many programs take a second TERM as a request to stop immediately.
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) != self._leader.pid:
                    self._signal_stray(pid, number)

    def _signal_stray(self, pid: int, number: signal.Signals) -> None:
        """Signal a process outside the group, but never an unrelated one that reused its pid."""
        self._seen.add(pid)
        if sys.platform != "linux":
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # no pidfd in the kernel or the filter: the race is microseconds wide
            os.kill(pid, number)
            return
        try:
            if self._is_ours(str(pid)):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def _members(self) -> list[int]:
        """Pids of live members. Zombies do not count: nobody can end them."""
        if sys.platform == "linux":
            if self._is_dead(str(self._leader.pid)):
                self._ended.add(str(self._leader.pid))
            found = list[int]()
            for _ in range(_MOST_LOOKS):
                found, ended = self._look()
                if found or ended <= self._ended:
                    break
                # one that ended meanwhile may have left a child that was not listed yet
                self._ended |= ended
            self._found.update(found)
            return found
        try:
            os.killpg(self._leader.pid, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [self._leader.pid]

    def _look(self) -> tuple[list[int], set[str]]:
        """The listed processes that are alive and belong here; and those that ended before this
        could be determined."""
        try:
            names = os.listdir("/proc")
        except OSError:  # not mounted: only the group can be reached
            return [], set()
        found, ended = list[int](), set[str]()
        for name in names:
            if name.isdecimal():
                ours = self._is_ours(name)
                if ours is None:
                    ended.add(name)
                elif ours:
                    found.append(int(name))
        return found, ended

    def _dying(self) -> bool:
        """Whether a former member is still exiting. It can no longer be recognised by its
        environment, so no signal is sent: the pid may belong to another process by now."""
        return any(not self._is_dead(str(pid)) for pid in self._found)

    def _has_group(self) -> bool:
        """Whether members of the group are alive. Without the marker only the group identifies
        them."""
        try:
            os.killpg(self._leader.pid, 0)  # fast: usually there are none
        except (ProcessLookupError, PermissionError):
            return False
        with suppress(OSError):
            return any(self._is_of_group(name) for name in os.listdir("/proc") if name.isdecimal())
        return False

    def _is_of_group(self, pid: str) -> bool:
        try:
            state, _, group = _stat(pid)
        except OSError:
            return False
        return int(group) == self._leader.pid and state not in b"ZX"

    def _is_ours(self, pid: str) -> bool | None:
        """None: it has ended, and may have been a member."""
        if self._mark is not None and rlimits.has_mark(int(pid), self._mark):
            return None if self._is_dead(pid) else True
        if self._enclosed:  # all carry the number then: no need to read their environment
            return False
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as environ:
                given = environ.read()
        except PermissionError:  # another user's process
            return False
        except OSError:
            return None
        if not given and self._mark is None:  # a zombie, or a kernel thread
            return None
        return self._token in given

    def _is_dead(self, pid: str) -> bool:
        try:
            return _stat(pid)[0] in b"ZX"
        except OSError:
            return True

    def _reap_adopted(self) -> None:
        for pid in self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        with suppress(ChildProcessError):
            while os.waitpid(-self._leader.pid, os.WNOHANG) != (0, 0):
                pass


def _stat(pid: str) -> list[bytes]:
    """State, parent and group of a process. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
        return stat.read().rpartition(b")")[2].split()[:3]
