"""How long the answer to one request is waited for, whatever is said meanwhile.

What runs a step is the process that says that it has begun or ended: the code of a step can say so
too. So the time of each step of the session begins once in a request (twice where each is tried
first). One that passes itself off as others uses up their time, as they would have, and no more.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

GRACE_S: Final = 0.1
"""A step that Python code can end has said where it was by then; what computes in C is killed."""


class Patience:
    """`until`: when it is over, by the clock of `now`, all in seconds. `turns`: how often the time
    of each step may begin."""

    def __init__(self, step_s: float, turns: int, now: float) -> None:
        self._each = step_s + GRACE_S
        self._turns = turns
        self._begun = Counter[str]()
        self._looked = False
        self._all = self.until = now + self._each

    def begins(self, step: str, now: float) -> None:
        """A step is said to have begun. One that runs again has what the others have left over."""
        if not self._begun:  # what was before was no step
            self._all = now
        if self._begun[step] < self._turns:
            self._begun[step] += 1
            self._all += self._each
            self._looked = False
        self.until = min(self._all, now + self._each)

    def add(self, seconds: float) -> None:
        """So long this process did something else: it was not waited."""
        self._all += seconds
        self.until += seconds

    def looks_again(self, now: float) -> bool:
        """Time is up. Whether this process was held up meanwhile, so that it has to look what has
        come since; once for each step, or who has much to say could hold it up for ever."""
        late = now - self.until
        if self._looked or late < GRACE_S:
            return False
        self._looked = True
        self.add(late + GRACE_S)
        return True
