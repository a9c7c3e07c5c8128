"""Standard input as a part of the task: read if `-` asks for it, and never otherwise.

A command inherits it from cron, CI, loops and scripts. Reading it unasked could wait forever for a
pipe that nobody closes, consume the lines of a calling loop, or send a provider what was not meant
for it.
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
    """All of standard input; waits for its end. Raises Fault if it is closed, OSError and
    UnicodeDecodeError."""
    if sys.stdin is None:
        raise Fault("standard input is closed", hint="Pipe text into it, or leave - out.")
    return sys.stdin.buffer.read().decode("utf-8")


def is_typed() -> bool:
    """Whether standard input is a terminal. False if it is closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def has_more() -> bool:
    """Whether standard input is a pipe or file with unread data. Reads nothing, does not wait, and
    never raises: False if it cannot be determined."""
    try:
        descriptor = sys.stdin.fileno()
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return os.lseek(descriptor, 0, os.SEEK_CUR) < found.st_size
        if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
            return _ready(descriptor) > 0
    except (AttributeError, ImportError, OSError, ValueError):
        pass  # it is closed, or has no file descriptor
    return False


def _ready(descriptor: int) -> int:
    """The number of bytes that can be read without waiting."""
    from fcntl import ioctl
    from termios import FIONREAD

    return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
