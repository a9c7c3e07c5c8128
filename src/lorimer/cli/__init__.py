"""The command line: `lorimer`.

It decides what a person sees and which exit code a program gets. The work is done by the packages
below it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

_INTERRUPTED: Final = 130
"""The same as in `fail.EXIT_CODES`, which may not be imported yet."""


def main() -> None:
    """The console script. Ends the process with a documented exit code (`lorimer --help`)."""
    try:
        _main()
    except KeyboardInterrupt:  # also raised during imports, and while an error is reported
        # only clean-up is left: a second Ctrl-C ends the process at once
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(_INTERRUPTED)


def _main() -> NoReturn:
    from io import TextIOWrapper

    from lorimer.cli.app import lorimer

    _fill_closed_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        # a character that the terminal's encoding lacks is printed as an escape, not an error
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportUnknownMemberType]
    lorimer.main(sys.argv[1:], prog_name="lorimer", standalone_mode=True)


def _fill_closed_streams() -> None:
    """Open standard streams that the caller has closed (`>&-`) on the null device: otherwise the
    next opened file would get the free descriptor. `sys.stdin` stays None, unlike an empty one."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
