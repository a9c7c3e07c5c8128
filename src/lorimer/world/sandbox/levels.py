"""The isolation level for a process: the best that works here, and never silently a lower one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.world import Isolation, Level, ProcessLimits, Sandbox
from lorimer.world.sandbox import bubblewrap, landlock, seccomp
from lorimer.world.sandbox.view import kept
from lorimer.world.spawn import run_process

ORDER: Final[tuple[Level, ...]] = ("L2", "L1", "L0")

_TRIAL_S: Final = 10.0

_UNCOUNTED: Final = "the number of its processes is not limited"
_UNBOUNDED: Final = (
    "files outside the workspace can be read and written",
    "the network can be reached",
    "other processes can be seen and ended",
    "what it starts outlives a kill -9 of Lorimer",
    _UNCOUNTED,
)


class Levels:
    """What works on this machine; determined once, on first use."""

    __slots__ = ("_bubblewrap", "_landlock")

    def __init__(self) -> None:
        self._bubblewrap: dict[str | None, str] = {}
        """By path of the program."""
        self._landlock: str | None = None

    async def why_not(self, writable: Sequence[Path] = ()) -> dict[Level, str]:
        """For each level "" if it works, else the reason why not. Programs in a folder that is
        `writable` for the sandboxed process do not count."""
        program = bubblewrap.found(writable)
        if program not in self._bubblewrap:
            self._bubblewrap[program] = await _bubblewrap(program, writable)
        if self._landlock is None:
            self._landlock = _landlock()
        return {"L2": self._bubblewrap[program], "L1": self._landlock, "L0": ""}

    async def choose(self, sandbox: Sandbox) -> Isolation:
        """The best available level. Raises `exec.sandbox.missing` if that is not sufficient."""
        why = await self.why_not(sandbox.writable)
        for level in ORDER:
            if not why[level]:
                return Isolation(sandbox.requested, level, gaps(level, sandbox))
            if level == sandbox.at_least:
                break
        wanted = sandbox.at_least
        error = ToolExecutionError(
            f"Sandbox level {wanted} is required and does not work here: {why[wanted]}.",
            code=ExecutorErrorCode.EXEC_SANDBOX_MISSING,
        )
        error.hint = "Install bubblewrap and see `lorimer doctor`, or accept less: sandbox='auto'."
        raise error


def gaps(level: Level, sandbox: Sandbox) -> tuple[str, ...]:
    """What a level does not enforce."""
    if level == "L0":
        return (*_UNBOUNDED, "the list of hosts is not enforced") if sandbox.hosts else _UNBOUNDED
    if level == "L1":
        found = [
            "what it starts outlives a kill -9 of Lorimer",
            "Unix sockets of other programs can be reached",
            "modes, owners and times of files outside the workspace can be changed",
            _UNCOUNTED,
        ]
        if sandbox.hosts:
            found.append(
                "TCP connections can be made to one port (the proxy's) of any host"
                if landlock.abi() >= landlock.TCP
                else "the list of hosts is not enforced: TCP connections can be made to any host"
            )
        if landlock.abi() < landlock.SIGNALS:
            found.append("processes of the same user can be ended")
        if landlock.keeps_the_machine():
            found.append("root's power over network and machine stays as this container left it")
        writable = [Path(os.path.realpath(path)) for path in sandbox.writable]
        for path in sandbox.hidden:
            real = Path(os.path.realpath(path))
            if real.exists() and any(real.is_relative_to(folder) for folder in writable):
                found.append(f"{path} lies in the workspace: it can be read and written")
        found += [f"{path} lies in the workspace: it can be written" for path in kept(sandbox)]
        return tuple(found)
    return (_UNCOUNTED,) if os.getuid() == 0 else ()


def _landlock() -> str:
    if sys.platform != "linux":
        return "Landlock is there on Linux only"
    if not seccomp.supported():
        return "the system calls of this machine are not known"
    version = landlock.abi()
    if version < landlock.OLDEST:
        return f"this kernel has {f'Landlock {version}' if version else 'no Landlock'}; 3 is needed"
    return ""


async def _bubblewrap(program: str | None, writable: Sequence[Path]) -> str:
    """Tested with all features that are used later, because many of them can be forbidden."""
    if sys.platform != "linux":
        return "bubblewrap is there on Linux only"
    if program is None:
        there = bubblewrap.found()
        lies = f"{there} lies where what it is to hold may write"
        return "bubblewrap (bwrap) is not installed" if there is None else lies
    if not seccomp.supported():
        return "the system calls of this machine are not known"
    trial = Sandbox(writable=tuple(filter(Path.is_dir, writable)))
    done = await run_process(
        ["true"],
        cwd=Path("/"),
        limits=ProcessLimits(timeout_s=_TRIAL_S, max_output_bytes=2000, sandbox=trial),
        isolation=Isolation("L2", "L2"),
    )
    if done.returncode == 0:
        return ""
    said = done.output.decode("utf-8", "replace").strip().splitlines()
    return f"bubblewrap fails: {said[-1] if said else f'exit code {done.returncode}'}"
