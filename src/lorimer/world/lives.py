"""Identifies processes on this machine, and whether they are still alive."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeAlias

Fate: TypeAlias = Literal["alive", "gone"]


def machine() -> str:
    """Identifies the boot of this machine and the container: the scope in which a pid is
    meaningful."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        with suppress(OSError):
            parts.append(_boot())
        with suppress(OSError):
            parts.append(_namespace())
    return blake2b("|".join(parts).encode(), digest_size=6).hexdigest()


def place() -> str:
    """The same, guaranteed to differ after each boot and in each container; "": cannot be
    determined here."""
    if sys.platform != "linux":
        return ""
    try:
        return f"{_boot()} {_namespace()}"
    except OSError:
        return ""


def started(pid: int) -> str:
    """The start time of a process, in the kernel's own units; `dead` for a zombie; "" if it cannot
    be determined."""
    if sys.platform == "linux":
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return "dead" if fields[0] == b"Z" else fields[19].decode()
    return ""


def fate(pid: int, start: str) -> Fate:
    """The fate of the process on this machine that had this pid and start time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:  # it exists, and belongs to another user
        pass
    now = started(pid)
    # a pid may be reused; if the start time is unknown, its current holder counts as the process
    return "alive" if now in (start, "") else "gone"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")
