"""Detects whether code reads the settings of pandas and numpy that decide how values are displayed.

The dicts in which these libraries keep them are replaced by dicts that report reads. If a version
of a library keeps them in another way, reads of them are not seen (`Reading.told`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any, Final, cast

from lorimer.esg.resources.settings import NUMPY, PANDAS

_Dict = dict[str, object]
Key = tuple[str, str]
"""A setting that is a resource, and one item of it; or all: `WHOLE`."""
WHOLE: Final = "*"
_QUIET: Final = "legacy"
"""Read by numpy for nearly everything it does."""


class Reading:
    """What has been read since `begin`. One per process."""

    def __init__(self) -> None:
        self.seen: set[Key] = set()
        self._kept: dict[str, Told] = {}
        self.told: frozenset[str] = frozenset()
        """The settings of which reads are seen."""

    def begin(self) -> None:
        """Watch reads from now on, for the libraries that are loaded."""
        self.told = frozenset(self._pandas() | self._numpy())
        self.seen.clear()

    @property
    def names(self) -> frozenset[str]:
        """The settings that have been read."""
        return frozenset(name for name, _ in self.seen)

    def present(self, keys: Iterable[Key]) -> str:
        """The present values under such keys, for the settings in `told`."""
        found = list[str]()
        for name, key in sorted(keys):
            kept: _Dict = self._kept[name] if name in self.told else {}
            found.append(repr(_Dict.copy(kept) if key == WHOLE else _Dict.get(kept, key)))
        return "\n".join(found)

    def _pandas(self) -> set[str]:
        pandas = sys.modules.get("pandas._config.config")
        every: object = getattr(pandas, "_global_config", None)
        display = cast("_Dict", every).get("display") if isinstance(every, dict) else None
        if not isinstance(display, dict):
            return set()
        if type(cast("object", display)) is not Told:
            self._kept[PANDAS] = Told(PANDAS, self.seen, cast("_Dict", display))
            cast("_Dict", every)["display"] = self._kept[PANDAS]
        return {PANDAS}

    def _numpy(self) -> set[str]:
        module = sys.modules.get("numpy._core.printoptions")
        variable: object = getattr(module, "format_options", None)
        if isinstance(variable, ContextVar):
            kept = cast("ContextVar[_Dict]", variable)
            if type(kept.get()) is not Told:
                self._kept[NUMPY] = Told(NUMPY, self.seen, kept.get())
                kept.set(self._kept[NUMPY])
            return {NUMPY}
        older: Any = sys.modules.get("numpy.core.arrayprint")
        options: object = getattr(older, "_format_options", None)
        if not isinstance(options, dict):
            return set()
        if type(cast("object", options)) is not Told:
            self._kept[NUMPY] = Told(NUMPY, self.seen, cast("_Dict", options))
            older._format_options = self._kept[NUMPY]
        return {NUMPY}


class Told(_Dict):
    """Settings that report when they are read."""

    __slots__ = ("_name", "_seen")

    def __init__(self, name: str, seen: set[Key], values: _Dict) -> None:
        super().__init__(values)
        self._name, self._seen = name, seen

    def __getitem__(self, key: str) -> object:
        if key != _QUIET:
            self._seen.add((self._name, key))
        return _Dict.__getitem__(self, key)

    def get(self, key: str, default: object = None) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._seen.add((self._name, key))
        return _Dict.get(self, key, default)

    def copy(self) -> _Dict:
        self._seen.add((self._name, WHOLE))
        return {**_Dict.copy(self)}

    def __iter__(self) -> Iterator[str]:
        self._seen.add((self._name, WHOLE))
        return _Dict.__iter__(self)


@cache
def reading() -> Reading:
    """The instance of this process."""
    return Reading()
