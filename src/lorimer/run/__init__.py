"""The run kernel: what a host needs to let agents loose."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorimer.run.fanout import Outcome, fan_out
    from lorimer.run.lane import Lane, LaneStats

__all__ = ["Lane", "LaneStats", "Outcome", "fan_out"]

_HOMES = {
    "fanout": ("Outcome", "fan_out"),
    "lane": ("Lane", "LaneStats"),
}


def __getattr__(name: str) -> object:
    """Names are imported when they are first used: a program pays for what it needs."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = vars(import_module(f"lorimer.run.{home}"))[name]
            globals()[name] = value
            return value
    raise AttributeError(f"module 'lorimer.run' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
