"""The command line: `lorimer`.

Decides what a person sees and which exit code a program gets; everything it does is done by the
packages below it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Ends the process with a documented exit code (`lorimer --help`)."""
    from io import TextIOWrapper

    from lorimer.cli.app import lorimer

    if isinstance(sys.stdout, TextIOWrapper):
        # what a terminal's encoding lacks, and halves of characters, are written out: never a crash
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportUnknownMemberType]
    sys.exit(lorimer.main(sys.argv[1:], prog_name="lorimer", standalone_mode=True))
