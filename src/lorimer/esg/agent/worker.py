"""The process of a step session: `python -P -s -B worker.py`.

stdin: JSON lines, each a request; stdout: JSON lines, events and then one answer with the request's
mark. What steps, and programs that they start, write to stdout and stderr themselves goes to a file
without a name, and into the answer. What runs here is held by the sandbox, never by this file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

_MOST_PRINTED = 200_000
"""Bytes told of what programs wrote during one step."""


class _Printed:
    """What was written to stdout and stderr below Python since it was asked last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __call__(self) -> str:
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        if not size:
            return ""
        text = os.pread(descriptor, _MOST_PRINTED, max(0, size - _MOST_PRINTED))
        os.ftruncate(descriptor, 0)
        return text.decode("utf-8", "replace")


def main() -> None:
    """Answer what comes, one after the other, in one session."""
    requests = os.fdopen(os.dup(0), "rb")  # not inherited: what a step starts cannot read it
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    printed = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115 - for as long as the process
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from lorimer.esg.agent.desk import Desk, Message

    del sys.path[0]
    sys.path.insert(0, os.getcwd())

    def write(message: Message) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    desk = Desk(write, _Printed(printed))
    own, module = sys.modules["__main__"], ModuleType("__main__")
    sys.modules["__main__"] = module  # what steps define is theirs
    sys.modules["_lorimer_steps"] = own  # or it would be taken apart
    for line in requests:
        request = json.loads(line)
        write({**desk.answer(request), "mark": request["mark"]})


if __name__ == "__main__":
    main()
