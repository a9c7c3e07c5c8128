"""The module `__main__` as steps find it: their names, as they are at the running step's place.

Pickles, other processes and annotations that are strings look there for what a program defines. A
name that is looked up is supplied as to the step's own code, so it counts as read; one that is set
or deleted counts as the step's. It replaces the process's own `__main__`, for all its threads, so
it is only for a process that runs nothing but steps: a worker of `esg/confined`, `lorimer steps
run`.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.values.content import MAIN, OfSteps

_OF_STEPS: Final = frozenset({"__annotations__", "__doc__"})
"""What every module has, and what belongs to the steps here if they make it."""


class MainModule(types.ModuleType, OfSteps):
    """Stands for the globals of the session whose step runs, or ran last.

    `object.__getattribute__(it, "__dict__")` is the module's own dict, which never changes;
    `vars(it)` are those globals.
    """

    __slots__ = ("_lorimer_space",)

    def __init__(self) -> None:
        super().__init__(MAIN)
        self.stand_for(TrackedNamespace())

    def stand_for(self, space: TrackedNamespace) -> None:
        """Use these names from now on."""
        object.__setattr__(self, "_lorimer_space", space)

    def __getattribute__(self, name: str) -> object:
        if name == "__dict__":
            space, frame = _space(self), inspect.currentframe()
            if frame is not None and frame.f_back and frame.f_back.f_globals is space:
                space.show_all()  # like `globals()`; libraries only look names up
            return space
        if name in _OF_STEPS and name in _space(self):
            return _space(self)[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> object:
        try:
            return _space(self)[name]
        except KeyError:
            raise _missing(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        _space(self)[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            _space(self).pop(name)
        except KeyError:
            raise _missing(name) from None

    def __dir__(self) -> list[str]:
        return sorted(_space(self))


@contextmanager
def main_of_steps() -> Generator[None]:
    """Replace `__main__` with that of steps meanwhile, in the whole process."""
    own, sys.modules[MAIN] = sys.modules[MAIN], MainModule()
    try:
        yield
    finally:
        sys.modules[MAIN] = own


def stand_for(space: TrackedNamespace) -> None:
    """Steps of this session run from now on: if `__main__` is that of steps, it shows their
    names."""
    module = sys.modules.get(MAIN)
    if isinstance(module, MainModule):
        module.stand_for(space)


def _space(module: MainModule) -> TrackedNamespace:
    found: TrackedNamespace = object.__getattribute__(module, "_lorimer_space")
    return found


def _missing(name: str) -> AttributeError:
    return AttributeError(f"module {MAIN!r} has no attribute {name!r}", name=name)
