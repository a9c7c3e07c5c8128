"""Access to the outside world: clock, ids, random numbers, HTTP, processes and files beneath opened
roots."""

from lorimer.world.real import RealWorld

__all__ = ["RealWorld"]
