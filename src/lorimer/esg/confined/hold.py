"""Restricts a session, in addition to the sandbox that its zygote was started in.

Sessions of one zygote share its files and must not reach each other. Each keeps its signals to
itself (Landlock), may make fewer system calls than programs of tools, because it starts none
(seccomp), and has its own limits. `lorimer.world.sandbox` has the mechanisms.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lorimer.world.sandbox import landlock, seccomp

_ADDRESSES_TIMES_MEMORY: Final = 16
"""Libraries reserve far more address space than they use; see `lorimer.world.sandbox.rlimits`."""
_OPEN_FILES: Final = 1024


def prepare() -> None:
    """Look up what all sessions will need, once for all processes forked from this one; and give
    matplotlib a folder for its font cache."""
    if landlock.abi() and seccomp.supported():
        for network in (False, True):
            seccomp.code_program(network=network)
    own = os.environ.get("TMPDIR")
    if own is not None:  # its folder in the home is read-only: it would make a new one each time
        os.environ["MPLCONFIGDIR"] = os.path.join(own, ".cache", "matplotlib")


def keep_apart() -> bool:
    """Confine signals to this process and its future children; False if the kernel cannot."""
    return landlock.keep_apart()


def write_only_beneath(folders: Iterable[str]) -> bool:
    """Refuse writes elsewhere, including to what a sandbox of mounts lets through (pipes)."""
    own = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - as the sandbox has set it
    return landlock.write_only_beneath([Path(each) for each in (*folders, own)])


def harden(*, network: bool) -> bool:
    """Refuse system calls that steps do not need; False if their numbers are unknown."""
    if not seccomp.supported():
        return False
    landlock.filter_calls(seccomp.code_program(network=network))
    return True


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Limits per process: memory, file sizes, open files, no core dumps."""
    wanted = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_AS: memory_bytes * _ADDRESSES_TIMES_MEMORY,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def limit_cpu(seconds: float) -> None:
    """CPU time left to this process, in all its threads; then SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def end_all_others(outside: int) -> None:
    """Kill every process of the session except this one, including those that left its groups.

    `outside`: a live process of the same user that the session must not reach. Only while that
    process cannot be signalled is a signal to all processes certain to hit the session alone;
    otherwise nothing is done.
    """
    try:
        os.kill(outside, 0)
    except PermissionError:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return
