"""How long the answer to one request is waited for, whatever is said meanwhile.

What runs a step is the process that says that it has begun or ended: the code of a step can say so
too. So the time of each step of the session begins once in a request. One that passes itself off as
others uses up their time, as they would have, and no more.
"""

from __future__ import annotations

from typing import Final

GRACE_S: Final = 0.1
"""A step that Python code can end has said where it was by then; what computes in C is killed."""


class Patience:
    """`until`: when it is over, by the clock of `now`, all in seconds."""

    def __init__(self, step_s: float, now: float) -> None:
        self._each = step_s + GRACE_S
        self._begun: set[str] = set()
        self._looked = False
        self._all = self.until = now + self._each

    def begins(self, step: str, now: float) -> None:
        """A step is said to have begun. One that runs twice has what the others have left over."""
        if not self._begun:  # what was before was no step
            self._all = now + self._each
        elif step not in self._begun:
            self._all += self._each
        if step not in self._begun:
            self._looked = False
        self._begun.add(step)
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
