"""Who is writing a run: a name that says which process, so that others can tell whether it lives.

A claim on a conversation ends by itself some time after its process died. Whoever resumes should
not have to wait for that: on the same machine it can be seen at once that a process is gone.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, TypeAlias

Fate: TypeAlias = Literal["alive", "gone", "unknown"]

_KIND: Final = "cli"


def own_name() -> str:
    """The name of this process: `cli:<machine>:<pid>:<start>`."""
    pid = os.getpid()
    return f"{_KIND}:{_machine()}:{pid}:{_start(pid)}"


def fate(name: str) -> Fate:
    """Whether the process of that name lives. `unknown`: it is none of ours, or not of here."""
    kind, _, rest = name.partition(":")
    machine, _, rest = rest.partition(":")
    pid, _, start = rest.partition(":")
    if kind != _KIND or not pid.isdecimal() or machine != _machine():
        return "unknown"
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return "gone"
    except OSError:  # it exists, and is somebody else's
        pass
    return "alive" if _start(int(pid)) == start else "gone"  # a number may be given out again


def pid_of(name: str) -> int:
    """The process in a name that `fate` knows."""
    return int(name.split(":")[2])


def _start(pid: int) -> str:
    """When a process began, in the kernel's own count; "" where that cannot be known."""
    if sys.platform == "linux":
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] == b"Z":  # dead, only nobody has asked for its status yet
                return "dead"
            return fields[19].decode()
    return ""


def _machine() -> str:
    """This machine since it was started, and this container on it: where a pid means something."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        with suppress(OSError):
            parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        with suppress(OSError):
            parts.append(os.readlink("/proc/self/ns/pid"))
    return blake2b("|".join(parts).encode(), digest_size=6).hexdigest()
