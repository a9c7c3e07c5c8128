"""Standard input as a part of the task: read where `-` asks for it, and never otherwise.

A command inherits it from cron, CI, loops and scripts. To read it unasked would wait for ever for a
pipe that nobody closes, take lines from the loop that called, and send a provider what was not
meant for it.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Final

from lorimer.cli.fail import Fault

UNREAD: Final = (
    'standard input is not read; if it belongs to the task, add - behind that: lorimer run "..." -'
)
UNREAD_BESIDE_FILE: Final = (
    "standard input is not read beside --input-file; if it belongs to the task:"
    ' lorimer run "$(cat FILE)" -'
)


def piped() -> str:
    """All of it. Waits until it ends. Raises Fault, OSError and UnicodeDecodeError."""
    if sys.stdin is None:
        raise Fault("standard input is closed", hint="Pipe text into it, or leave - out.")
    return sys.stdin.buffer.read().decode("utf-8")


def is_typed() -> bool:
    """Somebody types it. False where it is closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def has_more() -> bool:
    """A pipe or file is there, with something that nobody has read. Reads nothing, waits for
    nothing, and never raises: False where it cannot be told."""
    try:
        descriptor = sys.stdin.fileno()
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return os.lseek(descriptor, 0, os.SEEK_CUR) < found.st_size
        if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
            return _ready(descriptor) > 0
    except (AttributeError, ImportError, OSError, ValueError):
        pass  # it is closed, or none of the system's
    return False


def _ready(descriptor: int) -> int:
    """Bytes that could be read at once."""
    from fcntl import ioctl
    from termios import FIONREAD

    return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
