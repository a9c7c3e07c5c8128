"""One timer for all the deadlines of a run; none for a run that never waits.

A model call has three deadlines and a run has its own; a timer of the event loop for each would
cost more than all other bookkeeping. Here a deadline is a number: when the only timer fires, it
checks all of them, and sleeps again until the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

LOOK_S: Final = 10.0
"""The timer never sleeps longer than this, so that a later deadline needs no new one."""


class Clock(Protocol):
    """Something with a deadline. The deadline may move later at any time; if it moves nearer, the
    alarm has to be notified."""

    def deadline(self) -> float:
        """On the loop's clock; `inf`: none at present."""
        ...

    def ring(self, now: float) -> None:
        """The deadline has passed."""
        ...


class Alarm:
    """Watches deadlines on the running loop's clock, from `start` on. Belongs to one run."""

    __slots__ = ("_at", "_clocks", "_own", "_ring", "_timer", "loop")

    def __init__(self, own: float, ring: Callable[[], None]) -> None:
        """`ring` is called after `own` seconds, unless that deadline is moved."""
        self.loop = asyncio.get_running_loop()
        """The run's loop; getting the running one takes a system call."""
        self._own = self.loop.time() + own
        self._ring = ring
        self._clocks: tuple[Clock, ...] = ()
        self._at = -inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The run waits for the first time."""
        self._sleep(self.loop.time())

    def move(self, own: float, ring: Callable[[], None]) -> None:
        """Replace the run's own deadline: `own` seconds from now."""
        self._own = self.loop.time() + own
        self._ring = ring
        self._arm(self._own)

    @property
    def left_s(self) -> float:
        """Seconds until the run's own deadline."""
        return max(0.0, self._own - self.loop.time())

    def watch(self, clock: Clock) -> None:
        """Add a clock."""
        self._clocks += (clock,)
        self._arm(clock.deadline())

    def moved_nearer(self, clock: Clock) -> None:
        """The deadline of a watched clock has moved nearer."""
        self._arm(clock.deadline())

    def forget(self, clock: Clock) -> None:
        """Remove a clock."""
        self._clocks = tuple([other for other in self._clocks if other is not clock])

    def pending(self) -> tuple[float, ...]:
        """When the clocks it watches would ring. Each piece of an answer moves the deadline of its
        model call."""
        return tuple([clock.deadline() for clock in self._clocks])

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, deadline: float) -> None:
        if deadline < self._at and self._timer is not None:
            self._timer.cancel()
            self._at = deadline
            self._timer = self.loop.call_at(deadline, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        if now >= self._own:
            self._own = inf
            self._ring()
        for clock in self._clocks:
            if now >= clock.deadline():
                clock.ring(now)
        self._sleep(now)

    def _sleep(self, now: float) -> None:
        due = min([self._own, *[clock.deadline() for clock in self._clocks]])
        # a deadline that has passed and not moved must not be checked in a busy loop
        self._at = min(due, now + LOOK_S) if due > now else now + LOOK_S
        self._timer = self.loop.call_at(self._at, self._look)
