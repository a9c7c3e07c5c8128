"""Run one program to its end, bounded in time and memory, leaving no processes behind.

How processes are ended is decided in `process_tree`; what is kept of the output, in `bounded`; the
pipes are in `pipes`. asyncio's own subprocesses are not used: their `wait()` also waits until every
holder of the pipe has closed it, so a single forgotten grandchild blocks the caller as long as it
lives.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from lorimer.core.redaction import logger
from lorimer.core.world import Finished, Isolation, ProcessLimits, Sink
from lorimer.world.pipes import Pipes, Threshold
from lorimer.world.process_tree import MARKER, ProcessTree, nested_marker
from lorimer.world.sandbox.start import Start, Started, remove

if TYPE_CHECKING:
    from lorimer.world.sandbox.outlet import Outlet

_INHERITED: Final = frozenset(
    {"PATH", "HOME", "LANG", "TERM", "TMPDIR", "TZ", "USER", "LOGNAME"},
)
_FOR_GIT: Final = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.bareRepository",
    "GIT_CONFIG_VALUE_0": "explicit",
}
"""A folder that merely contains files called HEAD and config must not be taken for a repository:
its settings name programs, which `git status` would start."""
_DRAIN_S: Final = 0.25
"""How long output may still arrive after the main program ended, e.g. through a `tee`."""
_POLL_S: Final = 0.02
_KILLED: Final = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""The second is the status that a shell reports for one of its commands."""

_log = logger("lorimer.world")


async def run_process(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes | AsyncIterator[bytes] | socket.socket = b"",
    limits: ProcessLimits = ProcessLimits(),
    isolation: Isolation | None = None,
    sink: Sink | None = None,
) -> Finished:
    """Run `argv` in its own session with a clean environment; see `World.spawn`. With a sandbox,
    `isolation` is the level that was chosen for it.

    Returns at most 2 s after `limits.timeout_s`. Background children still running when the main
    program ends are ended too; their output is awaited for at most 0.25 s. If cancelled, it ends
    the tree (TERM, 1 s, KILL) before the cancellation propagates; a second cancellation skips the
    grace period.

    Raises OSError when the program cannot be started, also for arguments that are impossible on the
    system.
    """
    began = time.monotonic()
    token = secrets.token_hex(12)
    loop = asyncio.get_running_loop()
    with ExitStack() as cleanup:
        pipes = Pipes(loop, stdin, limits, sink)
        cleanup.callback(pipes.close)
        outlet = _outlet(limits, isolation)
        if outlet is not None:
            cleanup.callback(outlet.close)
        environment = clean_environment(env, token)
        start = Start(
            argv, cwd, environment, pipes.stdin, pipes.stdout, limits, outlet, pipes.stderr
        )
        try:
            started = start.run(isolation)
        finally:
            if outlet is not None:
                outlet.let_go()
            pipes.close_their_ends()
        process = started.process
        if started.threshold is not None:
            cleanup.callback(Threshold(loop, started.threshold, pipes.pump).close)
        tree = ProcessTree(process, token, mark=started.mark, enclosed=started.enclosed)
        if started.temporary is not None:
            cleanup.callback(remove, started.temporary)
        cleanup.callback(tree.kill_now)
        exit_watch = _ExitWatch(loop, process)
        cleanup.callback(exit_watch.close)
        kills = _oom_kills()
        if sink is not None:
            sink.begun(isolation)
        deadline = began + limits.timeout_s
        serving = None if outlet is None else loop.create_task(outlet.serve())
        try:
            await asyncio.wait((exit_watch.exited,), timeout=deadline - time.monotonic())
            timed_out = not exit_watch.exited.done()
            if not timed_out:
                await pipes.drain(min(_DRAIN_S, deadline - time.monotonic()))
        except asyncio.CancelledError:
            await _end(tree, started, serving)
            raise
        finally:
            pipes.close_input()
        await _end(tree, started, serving)
        await pipes.pump.settle()
    returncode = process.returncode if process.returncode is not None else -9
    if started.enclosed and returncode - 128 in signal.valid_signals():
        returncode = 128 - returncode
    return Finished(
        returncode=returncode,
        output=pipes.output.content(),
        total_bytes=pipes.output.total,
        timed_out=timed_out,
        duration_s=time.monotonic() - began,
        isolation=isolation,
        refused=() if outlet is None else outlet.proxy.refused,
        out_of_memory=not timed_out and returncode in _KILLED and _oom_kills() > kills,
        errors=pipes.errors.content(),
    )


def clean_environment(given: Mapping[str, str] | None, token: str) -> dict[str, str]:
    """The environment of a child: a few harmless variables of ours, `given`, and the marker."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith("LC_")
    }
    environment["PATH"] = _absolute(environment.get("PATH", ""))
    environment.update(_FOR_GIT)
    environment.update(given or {})
    environment[MARKER] = nested_marker(os.environ.get(MARKER, ""), token)
    return environment


def _absolute(search: str) -> str:
    """A PATH without empty and relative folders. They would be looked up where the program starts,
    so a file called `git` in a workspace would be what a rule for `git` permits. Nor is it unset:
    then some shells look there too."""
    folders = [folder for folder in search.split(os.pathsep) if os.path.isabs(folder)]
    return os.pathsep.join(folders) or os.defpath


def _outlet(limits: ProcessLimits, isolation: Isolation | None) -> Outlet | None:
    sandbox = limits.sandbox
    if sandbox is None or isolation is None or not sandbox.hosts:
        return None
    from lorimer.world.sandbox.outlet import Outlet  # imports httpx2

    return Outlet(sandbox.hosts, isolation.in_force)


async def _end(tree: ProcessTree, started: Started, serving: asyncio.Task[None] | None) -> None:
    with anyio.CancelScope(shield=True):
        await tree.end()
        if serving is not None:
            serving.cancel()
            await asyncio.wait([serving])
            if not serving.cancelled() and (error := serving.exception()) is not None:
                _log.error("the proxy of a sandboxed program failed", exc_info=error)
        if started.temporary is not None:  # of whatever size the program made it
            await anyio.to_thread.run_sync(remove, started.temporary)


class _ExitWatch:
    """Notices when a process has ended, without reaping it and without a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, process: subprocess.Popen[bytes]) -> None:
        self._loop = loop
        self._process = process
        self._fd: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.exited: asyncio.Future[None] = loop.create_future()
        if sys.platform == "linux":
            try:
                self._fd = os.pidfd_open(process.pid)
            except OSError:  # an old kernel, or a filter that forbids it: poll
                self._poll()
            else:
                loop.add_reader(self._fd, self._tell)
        else:
            self._poll()

    def _tell(self) -> None:
        self.close()
        if not self.exited.done():
            self.exited.set_result(None)

    def _poll(self) -> None:
        if _is_over(self._process):
            self._tell()
        else:
            self._timer = self._loop.call_later(_POLL_S, self._poll)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def _oom_kills() -> int:
    """How many processes the kernel has killed system-wide for lack of memory; 0 if unknown."""
    try:
        counters = Path("/proc/vmstat").read_bytes()
    except OSError:
        return 0
    found = re.search(rb"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else 0


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    if sys.platform != "linux":  # no waitid there before Python 3.13: this reaps
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # the host ignores SIGCHLD, so the kernel reaped it
        return True
