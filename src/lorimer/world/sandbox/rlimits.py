"""Limits that the kernel enforces for each process: memory, CPU time, file sizes, open files.

A small `sh` sets them and then becomes the program. Running Python code between fork and exec would
be unsafe: other threads of this process may hold any lock at that moment.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from lorimer.core.world import ProcessLimits

SHELL: Final = "/bin/sh"

MAX_FILE_BYTES: Final = 16 * 1024**3
MAX_OPEN_FILES: Final = 16_384
MAX_PROCESSES: Final = 4_096
"""Only where processes are counted per sandbox; elsewhere the user's other processes count too."""
ADDRESS_SPACE_TIMES_MEMORY: Final = 16
"""Runtimes reserve far more address space than they use; actual use is limited by the memory
limit."""

# $1 CPU seconds, $2 blocks of 512 bytes, $3 files, $4 KiB of data, $5 KiB of address space, $6
# processes or "". Shells differ in the option for the limit of processes.
_LIMIT: Final = """\
ulimit -c 0; ulimit -t "$1"; ulimit -f "$2"; ulimit -n "$3"; ulimit -d "$4"; ulimit -v "$5"
if [ "$6" ]; then (ulimit -u "$6") 2>/dev/null && ulimit -u "$6" || ulimit -p "$6"; fi
shift 6
exec "$@"
"""
# Waits for this process to be ready; if it dies before, nothing is started.
_WAIT: Final = "read -r go <&2 || exit 126"
_GATE: Final = f'{_WAIT}; exec 2>&1; exec "$@"'
_FIRST_GATE: Final = f'{_WAIT}; exec "$@"'
READY: Final = b"\n"
_LAST_GATE: Final = f"echo >&2; {_WAIT}; exec 2>&1\n"


def gated(argv: Sequence[str], *, twice: bool = False) -> list[str]:
    """The command that becomes `argv` after reading a line from stderr's descriptor, which it then
    makes the same as stdout; `twice`: where `limited` waits once more."""
    return [SHELL, "-c", _FIRST_GATE if twice else _GATE, "sh", *argv]


def limited(argv: Sequence[str], limits: ProcessLimits, *, enclosed: bool = False) -> list[str]:
    """The command that runs `argv` under limits. `enclosed`: its processes are counted separately
    from all others; and before anything else it writes READY to stderr's descriptor and waits for a
    line there."""
    cpu_s = math.ceil(min(limits.timeout_s, 10**8)) * (os.cpu_count() or 1) + 5
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    numbers = [
        str(_within(resource.RLIMIT_CPU, cpu_s)),
        str(_within(resource.RLIMIT_FSIZE, MAX_FILE_BYTES) // 512),
        str(_within(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)),
        str(_within(resource.RLIMIT_DATA, memory) // 1024),
        str(_within(resource.RLIMIT_AS, memory * ADDRESS_SPACE_TIMES_MEMORY) // 1024),
        str(MAX_PROCESSES) if enclosed else "",
    ]
    script = _LAST_GATE + _LIMIT if enclosed else _LIMIT
    return [SHELL, "-c", script, "sh", *numbers, *argv]


def _within(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


# --- a mark that descends ------------------------------------------------------------------

_UNUSED: Final = resource.RLIMIT_RSS
"""No effect since Linux 2.4, but still inherited: a place for a number that identifies a tree."""


def mark(pid: int, number: int) -> bool:
    """Set `number` (1 to 2**62) on a process, for all its descendants; False if it, or an enclosing
    tree, has one already. Seccomp protects it at level L1."""
    if sys.platform != "linux" or resource.getrlimit(_UNUSED)[1] != resource.RLIM_INFINITY:
        return False
    with suppress(OSError, ValueError):
        resource.prlimit(pid, _UNUSED, (number, number))
        return True
    return False


def has_mark(pid: int, number: int) -> bool:
    """Whether that process carries the number."""
    if sys.platform != "linux":
        return False
    try:
        return resource.prlimit(pid, _UNUSED) == (number, number)
    except (OSError, ValueError):  # gone, or another user's
        return False
