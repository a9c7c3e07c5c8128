"""Texts that were made to be slow: what takes time as their length takes milliseconds, what takes
time as the square of it takes minutes."""

from __future__ import annotations

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
