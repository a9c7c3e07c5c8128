"""The outside: clock, ids, dice, HTTP, processes and files beneath opened roots."""

from lorimer.world.beneath import OutsideRoots
from lorimer.world.bounded import BoundedOutput
from lorimer.world.files import Entry, FileStat, NotRegularFile, RootedFiles
from lorimer.world.real import RealWorld
from lorimer.world.spawn import run_process

__all__ = [
    "BoundedOutput",
    "Entry",
    "FileStat",
    "NotRegularFile",
    "OutsideRoots",
    "RealWorld",
    "RootedFiles",
    "run_process",
]
