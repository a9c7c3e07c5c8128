"""What the tasks of event loops hand to a thread that sleeps until there is something.

A `queue.SimpleQueue` would wake the thread while whoever puts something in holds the interpreter's
lock. The thread needs that next, so it goes to sleep once more, and is woken a second time, in the
way of the one that lets go of the lock. To write a byte to a pipe is to let go of the lock first.
"""

from __future__ import annotations

import os
from collections import deque
from select import POLLIN, poll
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """Things that one thread takes, in the order in which they were put in; from any thread. Raises
    OSError where no more files can be opened. Holds two, until `close`."""

    __slots__ = ("_bell", "_ear", "_ended", "_poll", "_things")

    def __init__(self) -> None:
        self._things: deque[T] = deque()
        self._ended = False
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._poll = poll()
        self._poll.register(self._ear, POLLIN)

    def put(self, thing: T) -> None:
        """Wake the thread for it."""
        self._things.append(thing)
        self._ring()

    def end(self) -> None:
        """Nothing more will be put in."""
        self._ended = True
        self._ring()

    def _ring(self) -> None:
        try:
            os.write(self._bell, b"\0")
        except BlockingIOError:
            pass  # it was woken thousands of times, and has not looked yet

    def take(self, within_s: float) -> list[T]:
        """All that there is, as soon as there is something; nothing: nothing came, or this is the
        end."""
        while not self._things and not self._ended and self._poll.poll(within_s * 1000):
            os.read(self._ear, 4096)  # perhaps for things that were taken already
        return self.rest()

    def rest(self) -> list[T]:
        """All that there is now."""
        things: list[T] = []
        while self._things:
            things.append(self._things.popleft())
        return things

    def close(self) -> None:
        """Once nobody puts anything in any more."""
        os.close(self._ear)
        os.close(self._bell)
