"""Which process is which on this machine, and whether it still lives."""

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
    """This machine since it was started, and this container on it: where a pid means something."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        with suppress(OSError):
            parts.append(_boot())
        with suppress(OSError):
            parts.append(_namespace())
    return blake2b("|".join(parts).encode(), digest_size=6).hexdigest()


def place() -> str:
    """The same, sure to be another one after each start of the machine and in each container; "":
    it cannot be told here."""
    if sys.platform != "linux":
        return ""
    try:
        return f"{_boot()} {_namespace()}"
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, in the kernel's own count; `dead` if only nobody has asked for its
    status yet; "" where that cannot be known."""
    if sys.platform == "linux":
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return "dead" if fields[0] == b"Z" else fields[19].decode()
    return ""


def fate(pid: int, start: str) -> Fate:
    """What became of the process of this machine that had this number and began then."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:  # it exists, and is somebody else's
        pass
    now = started(pid)
    # a number may be given out again; where nothing can be known, what has it counts as it
    return "alive" if now in (start, "") else "gone"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")
