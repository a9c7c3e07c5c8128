"""Tools for manifests: compare and explain them, manage a folder of them, convert them from
geny-executor, and the settings layered beneath them."""

from lorimer.environment.assigned import assigned
from lorimer.environment.diff import Change, diff
from lorimer.environment.foreign import Carried, carried
from lorimer.environment.manager import Environment, EnvironmentManager
from lorimer.environment.schema import schema
from lorimer.environment.values import values

__all__ = [
    "Carried",
    "Change",
    "Environment",
    "EnvironmentManager",
    "assigned",
    "carried",
    "diff",
    "schema",
    "values",
]
