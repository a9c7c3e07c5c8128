"""Reports which modules an import has loaded, before the importing code continues."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from typing import Any

Told = Callable[[list[types.ModuleType]], None]


class Loading:
    """Intercepts `import` from `begin` to `end`; for one run."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._real: Any = builtins.__import__
        self._on = False
        self._deep = False

    def begin(self) -> None:
        """Report imports from now on."""
        if not self._on:
            self._on, self._real = True, builtins.__import__
            builtins.__import__ = _standing_for(self)

    def end(self) -> None:
        """Restore the original `import`."""
        if self._on:
            self._on, builtins.__import__ = False, self._real

    def load(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Import, and report. Only import, if a step calls a function that it kept from another
        run."""
        if self._deep or not self._on:
            return self._real(*arguments, **named)
        there = {*sys.modules}
        self._deep = True
        try:
            return self._real(*arguments, **named)
        finally:
            self._deep = False
            new: list[object] = [sys.modules[name] for name in sys.modules.keys() - there]
            if new:  # most imports in functions load nothing
                self._told([each for each in new if isinstance(each, types.ModuleType)])


def _standing_for(loading: Loading) -> Callable[..., Any]:
    # Not a method or closure: a step may keep it, and what those lead to would be state of the
    # step.
    def importing(*arguments: Any, _loading: Loading = loading, **named: Any) -> Any:
        return _loading.load(arguments, named)

    return importing
