"""Tells which modules an import has loaded, before the code that imports them goes on."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from typing import Any

Told = Callable[[list[types.ModuleType]], None]


class Loading:
    """Stands before `import` from `begin` to `end`; for one run."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._before: Any = None
        self._deep = False

    def begin(self) -> None:
        """Tell of imports from now on."""
        if self._before is None:
            self._before, builtins.__import__ = builtins.__import__, self._import

    def end(self) -> None:
        """As it was."""
        if self._before is not None:
            builtins.__import__, self._before = self._before, None

    def _import(self, *arguments: Any, **named: Any) -> Any:
        if self._deep:
            return self._before(*arguments, **named)
        there = {*sys.modules}
        self._deep = True
        try:
            return self._before(*arguments, **named)
        finally:
            self._deep = False
            new: list[object] = [sys.modules[name] for name in sys.modules.keys() - there]
            self._told([each for each in new if isinstance(each, types.ModuleType)])
