"""The ways in which a simulation fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorimer.testing.simulated_world import SimulatedWorld


class SimulationFailed(AssertionError):
    """Something forbidden happened in a simulation."""


class UnannouncedOutside(SimulationFailed):
    """A thread, socket or process that virtual time cannot see, outside `world.outside(...)`."""


class SimulationStuck(SimulationFailed):
    """Nothing can ever happen again, or things happen endlessly."""


class LeftBehind(SimulationFailed):
    """Tasks that had not ended when the simulated coroutine returned."""


class SimulatedCrash(Exception):
    """The requested moment was reached and everything in memory was dropped, as by kill -9.

    No `finally`, `except` or `__exit__` of the simulated code has run or ever will: the abandoned
    coroutines are leaked on purpose, because collecting them would unwind them. This exception need
    not be kept. The cost is memory (what the coroutines hold), so a campaign of very many crashes
    runs in several processes. What an operating system would release (file locks, connections) has
    to be released by the test, in the objects it passed in.

    `world` continues with `simulate_in(crash.world, recover)`: same clock, fresh ids.
    """

    def __init__(self, world: SimulatedWorld, steps: int) -> None:
        super().__init__(f"crashed as asked, after {steps} steps, at {world.monotonic()} s")
        self.world = world
        self.steps = steps
