"""The settings of libraries that decide what is shown: pandas' options, numpy's way of printing,
matplotlib's parameters; and those that decide what is computed, or whether it raises: numpy's ways
with errors, the context of `decimal`, the locale. None of the libraries is imported here; each is a
state (resources.py) once somebody has.
"""

from __future__ import annotations

import locale
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

PANDAS: Final = "settings:pandas"
PANDAS_WORKS: Final = "settings:pandas:works"
"""How it computes, reads and copies (`mode.*`, `compute.*`, ...): all options but `display.*`. Much
of pandas asks for them, some of it once and for all, so every step counts as reading them that may
use it."""
NUMPY: Final = "settings:numpy"
NUMPY_ERRORS: Final = "settings:numpy:errors"
DECIMAL: Final = "settings:decimal"
LOCALE: Final = "settings:locale"
PYTHON: Final = "settings:python"
"""How deep calls may go, and how long the text of a number may be."""
MATPLOTLIB: Final = "settings:matplotlib"
_OF_THE_SCREEN: Final = frozenset({"backend", "backend_fallback", "interactive", "toolbar"})
"""Parameters of matplotlib that its first use changes, and that no figure shows."""
_SHOWN: Final = "display"
_OF_CONTEXTS: Final = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
_Values = Mapping[str, object]
_Dict = dict[str, object]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a library's settings are read and set, and what they are before anybody sets them."""

    get: Callable[[], object]
    set: Callable[[object], None]
    initial: Callable[[], object]


def settings() -> dict[str, Setting]:
    """Those of the libraries that are loaded."""
    found: dict[str, Setting] = {}
    pandas = sys.modules.get("pandas._config.config")
    if pandas is not None and hasattr(pandas, "_global_config"):
        found[PANDAS] = _options(pandas, shown=True)
        found[PANDAS_WORKS] = _options(pandas, shown=False)
    found[PYTHON] = Setting(_limits, _set_limits, _limits)
    found[LOCALE] = Setting(
        _locale, lambda value: cast("None", locale.setlocale(locale.LC_ALL, str(value))), _locale
    )
    decimal = cast("Any", sys.modules.get("decimal"))
    if decimal is not None and hasattr(decimal, "getcontext"):
        found[DECIMAL] = Setting(
            lambda: _context(decimal.getcontext()),
            lambda values: _set_context(decimal.getcontext(), cast("_Values", values)),
            lambda: _context(decimal.DefaultContext),
        )
    numpy = cast("Any", sys.modules.get("numpy"))
    if numpy is not None and hasattr(numpy, "seterr"):
        found[NUMPY_ERRORS] = Setting(
            numpy.geterr, lambda values: numpy.seterr(**cast("_Values", values)), numpy.geterr
        )
    if numpy is not None and hasattr(numpy, "set_printoptions"):
        found[NUMPY] = Setting(
            numpy.get_printoptions,
            lambda values: numpy.set_printoptions(**cast("_Values", values)),
            numpy.get_printoptions,
        )
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None and hasattr(matplotlib, "rcParamsOrig"):
        found[MATPLOTLIB] = Setting(
            lambda: _parameters(matplotlib.rcParams),
            lambda values: _Dict.update(matplotlib.rcParams, cast("_Values", values)),
            lambda: _parameters(matplotlib.rcParamsOrig),
        )
    return found


def _limits() -> tuple[int, int]:
    return sys.getrecursionlimit(), sys.get_int_max_str_digits()


def _set_limits(value: object) -> None:
    depth, digits = cast("tuple[int, int]", value)
    with suppress(RecursionError):  # there are more calls now than that
        sys.setrecursionlimit(depth)
    sys.set_int_max_str_digits(digits)


def _locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def _context(context: Any) -> _Values:
    """Without the flags, which computing sets."""
    return {**{name: getattr(context, name) for name in _OF_CONTEXTS}, "traps": {**context.traps}}


def _set_context(context: Any, values: _Values) -> None:
    """In place: who has it goes on with it."""
    for name in _OF_CONTEXTS:
        setattr(context, name, values[name])
    context.traps.update(values["traps"])


class Reads(Protocol):
    """What was seen to be read (reading.py)."""

    told: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """Those that were read."""
        ...


def used(reads: Reads, *, shows: bool, draws: bool = False) -> frozenset[str]:
    """The settings that a piece of code has read, which shows a text, or draws."""
    found = {PANDAS, NUMPY} - reads.told if shows else set[str]()
    return frozenset(reads.names | found | ({MATPLOTLIB} if draws else set[str]()))


def _parameters(values: dict[str, object]) -> _Values:
    return {name: each for name, each in _Dict.items(values) if name not in _OF_THE_SCREEN}


def _options(pandas: Any, *, shown: bool) -> Setting:
    """Those of what is shown, or the others."""

    def ours(values: _Values) -> _Values:
        return {name: each for name, each in values.items() if (name == _SHOWN) is shown}

    def initial() -> _Values:
        every = pandas._registered_options.items()
        return {n: each.defval for n, each in every if n.startswith(f"{_SHOWN}.") is shown}

    return Setting(
        lambda: _flat(ours(pandas._global_config), ""),
        lambda values: _set_options(pandas, cast("_Values", values)),
        initial,
    )


def _flat(values: Mapping[str, object], before: str) -> _Values:
    found: dict[str, object] = {}
    for name, each in values.items():
        if isinstance(each, dict):
            found |= _flat(cast("_Values", each), f"{before}{name}.")
        else:
            found[before + name] = each
    return found


def _set_options(pandas: Any, values: _Values) -> None:
    for name, now in _flat(pandas._global_config, "").items():
        if name in values and values[name] != now:
            pandas.set_option(name, values[name])
