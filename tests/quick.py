"""What takes time as its input is long, and what takes time as the square of that. Of texts that
were made to be slow the one takes milliseconds, the other minutes; of anything else calls can be
counted, which come to the same on every machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

MOST_S: Final = 20.0


@contextmanager
def quick() -> Generator[None]:
    """What is done within took no minutes of this process's own time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < MOST_S


@contextmanager
def calls() -> Generator[list[int]]:
    """Afterwards its one number says how many calls of Python functions, and steps of generators,
    what is done within took in this thread."""
    count = [0]

    def tell(frame: object, event: str, argument: object) -> None:
        count[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(tell)
    try:
        yield count
    finally:
        sys.setprofile(before)
