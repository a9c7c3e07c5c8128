"""How long to wait for the answer to one request, whatever is reported meanwhile.

The process that runs a step reports that it has begun or ended, and the code of a step can fake
such reports. So the time of each step of the session begins once per request (twice if each is
tried first). A step that impersonates others uses up their time, as they would have, and no more.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

GRACE_S: Final = 0.1
"""By then a step that Python code can interrupt has reported its line; one that computes in C is
killed."""


class Patience:
    """`until`: the deadline, on the clock of `now`, all in seconds. `turns`: how often the time of
    each step may begin."""

    def __init__(self, step_s: float, turns: int, now: float) -> None:
        self._each = step_s + GRACE_S
        self._turns = turns
        self._begun = Counter[str]()
        self._looked = False
        self._all = self.until = now + self._each

    def begins(self, step: str, now: float) -> None:
        """A step has reportedly begun. One that runs again gets the time the others have left
        over."""
        if not self._begun:  # before it no step was running
            self._all = now
        if self._begun[step] < self._turns:
            self._begun[step] += 1
            self._all += self._each
            self._looked = False
        self.until = min(self._all, now + self._each)

    def add(self, seconds: float) -> None:
        """This process did something else for that long, so it does not count."""
        self._all += seconds
        self.until += seconds

    def looks_again(self, now: float) -> bool:
        """The time is up. Whether this process was delayed meanwhile and has to read what has
        arrived since; at most once per step, or a worker that sends much could go on for ever."""
        late = now - self.until
        if self._looked or late < GRACE_S:
            return False
        self._looked = True
        self.add(late + GRACE_S)
        return True
