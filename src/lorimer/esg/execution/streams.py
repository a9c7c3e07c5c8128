"""`sys.stdout` and `sys.stderr` while steps run."""

from __future__ import annotations

import io
from typing import Final

from lorimer.esg.values.content import OfSession

MAX_OUTPUT: Final = 1 << 20
"""Characters kept of what a step prints; the rest is cut off, with a note."""


class Output(io.StringIO):
    """What one step has printed, up to a limit."""

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


class Stream(io.TextIOBase, OfSession):
    """One for all steps of a session. If something keeps it, such as a `logging` handler, it writes
    to the output of the step that is running."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.output = Output()

    def write(self, text: str, /) -> int:
        return self.output.write(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Does nothing: it stays open for later steps."""


class Streams:
    """Both streams of a session."""

    def __init__(self) -> None:
        self.out, self.err = Stream("stdout"), Stream("stderr")

    def begin(self) -> tuple[Output, Output]:
        """A step is about to run. Returns the buffers for its output."""
        self.out.output, self.err.output = Output(), Output()
        return self.out.output, self.err.output
