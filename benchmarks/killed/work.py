"""The agent's work, the same for every contender: what its model says, what its tool does, and
the marks that both leave. Standard library only, because each contender has an environment of
its own, which has nothing of the others.

In turn n the model asks for call n of the one tool, and after `turns` turns it answers. Turn n is
known by the n results in the history that the model was given. Every call of model and tool makes
a mark when it begins and when it ends: a line of JSON, appended, so that it survives the kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROMPT: Final = "Append every line to the log, then say that it is done."
TOOL: Final = "append"
DESCRIPTION: Final = "Append line n to the log."


class Work:
    """One life of the process.

    settings: what `python -m benchmarks.killed.on_...` was given: the folder of marks and store,
    the variant, how many turns, and how many seconds model and tool take (so that kills hit them).
    """

    def __init__(self, settings: Sequence[str]) -> None:
        folder, self.variant, turns, pause_s = settings
        self.folder = Path(folder)
        self.turns = int(turns)
        self.pause_s = float(pause_s)
        self._marks = os.open(marks_of(self.folder), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    @contextmanager
    def model_call(self, results: Sequence[str]) -> Iterator[int | None]:
        """A call of the model with these results of the tool so far: the number of the tool call
        it asks for, or None: it answers with `final`."""
        turn = len(results)
        odd = {n: text for n, text in enumerate(results) if text != result_of(n)}
        self._mark("model", "begin", turn, odd)
        yield turn if turn < self.turns else None
        self._mark("model", "end", turn)

    @contextmanager
    def tool_call(self, n: int) -> Iterator[str]:
        """Call n of the tool, which has this result. Its marks are the log that it appends to."""
        self._mark("tool", "begin", n)
        yield result_of(n)
        self._mark("tool", "end", n)

    @property
    def final(self) -> str:
        """What the model says last."""
        return final_of(self.turns)

    def done(self, answer: str) -> None:
        """The run has ended, with this answer."""
        partial = self.folder / "partial"
        partial.write_text(answer)
        partial.rename(answer_of(self.folder))

    def _mark(self, what: str, phase: str, n: int, odd: dict[int, str] | None = None) -> None:
        mark: dict[str, object] = {"life": os.getpid(), "what": what, "phase": phase, "n": n}
        if odd:
            mark["odd"] = odd
        os.write(self._marks, json.dumps(mark).encode() + b"\n")


def call_id(n: int) -> str:
    """The id that the model gives to tool call n."""
    return f"call_{n}"


def result_of(n: int) -> str:
    """What the tool says to the model."""
    return f"line {n} is in the log"


def final_of(turns: int) -> str:
    """The answer of a run that is right."""
    return f"done: {turns} turns"


def marks_of(folder: Path) -> Path:
    """Where the marks are."""
    return folder / "marks"


def answer_of(folder: Path) -> Path:
    """Where the answer is, once there is one."""
    return folder / "answer"
