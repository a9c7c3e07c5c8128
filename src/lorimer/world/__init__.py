"""The outside: clock, ids, dice, HTTP, processes and files beneath opened roots."""

from lorimer.world.real import RealWorld

__all__ = ["RealWorld"]
