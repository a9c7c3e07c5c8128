"""What steps print: `sys.stdout` and `sys.stderr` while they run."""

from __future__ import annotations

import io
from typing import Final

MAX_OUTPUT: Final = 1 << 20
"""Characters kept of what a step prints; of more the end is cut off, and said to be."""


class Output(io.StringIO):
    """What one step has printed, up to a bound."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = self._dropped = 0

    def write(self, text: str) -> int:
        room = MAX_OUTPUT - self._kept
        super().write(text[:room])
        self._kept += min(room, len(text))
        self._dropped += max(0, len(text) - room)
        return len(text)

    def text(self) -> str:
        cut = f"\n[{self._dropped} more characters were not kept]" if self._dropped else ""
        return self.getvalue() + cut


class Stream(io.TextIOBase):
    """One for all steps of a session: what keeps it, as a handler of `logging` does, writes to the
    output of the step that runs."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.output = Output()

    def write(self, text: str, /) -> int:
        return self.output.write(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """It stays open, for the steps to come."""


class Streams:
    """Both streams of a session."""

    def __init__(self) -> None:
        self.out, self.err = Stream("stdout"), Stream("stderr")

    def begin(self) -> tuple[Output, Output]:
        """A step is about to run. Returns what it will have printed."""
        self.out.output, self.err.output = Output(), Output()
        return self.out.output, self.err.output
