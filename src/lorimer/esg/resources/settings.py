"""The settings of libraries that decide what is shown: pandas' options, numpy's way of printing,
matplotlib's parameters and backend, polars' configuration; and those that decide what is computed,
or whether it raises: numpy's ways with errors, the context of `decimal`, the locale. None of the
libraries is imported here; each is a state (resources.py) once somebody has.
"""

from __future__ import annotations

import json
import locale
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
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
BACKEND: Final = "settings:matplotlib:backend"
"""What draws figures, and measures their texts."""
OF_FIGURES: Final = frozenset({MATPLOTLIB, BACKEND})
SKLEARN: Final = "settings:sklearn"
"""What its estimators give, check and show."""
POLARS: Final = "settings:polars"
"""Kept in the environment, where its Rust reads it, and in there itself."""
_BACKEND: Final = "backend"
_OF_THE_SCREEN: Final = frozenset({_BACKEND, "backend_fallback", "interactive", "toolbar"})
"""Parameters of matplotlib that its first use changes, and that no figure shows; but for the
backend, which is a state of its own."""
_AGG: Final = "agg"
"""The backend that draws for the screens, too: which one of them no figure shows."""
_DRAWN_BY_AGG: Final = frozenset({"macosx", "module://matplotlib_inline.backend_inline"})
"""Those that do not say so by their names."""
_SHOWN: Final = "display"
_OF_CONTEXTS: Final = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
_OF_POLARS: Final = b"POLARS_"
_POLARS_AT_FIRST: Final[Mapping[str, object]] = {
    "set_fmt_float": "mixed",
    "set_float_precision": None,
    "set_thousands_separator": "",
    "set_decimal_separator": ".",
    "set_trim_decimal_zeros": False,
}
"""What it keeps itself, by the methods of its `Config` that set it."""
_NUMPY_AT_FIRST: Final[Mapping[str, object]] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
    "override_repr": None,
}
_ERRORS_AT_FIRST: Final[Mapping[str, object]] = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
}
_SKLEARN_AT_FIRST: Final[Mapping[str, object]] = {
    "assume_finite": False,
    "working_memory": 1024,
    "print_changed_only": True,
    "display": "diagram",
    "array_api_dispatch": False,
    "transform_output": "default",
    "enable_metadata_routing": False,
    "skip_parameter_validation": False,
}
"""What a library has that was loaded just now, by the step that may have set it already."""
_Values = Mapping[str, object]
_Dict = dict[str, object]


@dataclass(frozen=True, slots=True)
class State:
    """A state of the process that can be read and set."""

    get: Callable[[], object]
    set: Callable[[object], None]
    initial: Callable[[], object] | None = None
    """What it is before anybody sets it, where that can be told afterwards."""
    same: Callable[[object], bool] | None = None
    """Whether it is this, where that is told in less time than `get` takes."""
    sooner_set: bool = False
    """To set it takes less time than to look whether it is that already."""

    def now(self, known: object) -> object:
        """What it is: the very `known` if it is that still."""
        if self.same is not None and self.same(known):
            return known
        present = self.get()
        return known if present == known else present


def _limits() -> tuple[int, int]:
    return sys.getrecursionlimit(), sys.get_int_max_str_digits()


def _set_limits(value: object) -> None:
    depth, digits = cast("tuple[int, int]", value)
    with suppress(RecursionError):  # there are more calls now than that
        sys.setrecursionlimit(depth)
    sys.set_int_max_str_digits(digits)


def _locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def environment() -> dict[bytes, bytes]:
    """That of the process."""
    held: object = getattr(os.environb, "_data", None)  # to read it item by item takes 20 us
    return {**cast("dict[bytes, bytes]", held)} if type(held) is dict else dict(os.environb)


def _polars() -> _Values:
    """What differs from what it is at first, so that loading it makes no difference."""
    config: Any = getattr(sys.modules.get("polars"), "Config", None)
    kept: _Values = {} if config is None else config.state(if_set=True)
    own = {n: each for n, each in kept.items() if each != _POLARS_AT_FIRST.get(n, each)}
    every = environment()
    if _OF_POLARS not in b" ".join(every):  # to ask name by name takes 30 us
        return own
    return {os.fsdecode(n): os.fsdecode(each) for n, each in every.items() if _OF_POLARS in n} | own


def _set_polars(values: object) -> None:
    wanted = cast("_Values", values)
    for name in _polars().keys() - wanted.keys() - _POLARS_AT_FIRST.keys():
        del os.environ[name]
    kept = wanted.keys() - _POLARS_AT_FIRST.keys()
    os.environ.update({name: str(wanted[name]) for name in kept})
    config: Any = getattr(sys.modules.get("polars"), "Config", None)
    if config is not None:
        own = {n: wanted.get(n, first) for n, first in _POLARS_AT_FIRST.items() if n in dir(config)}
        config.load(json.dumps({"environment": {}, "direct": own}))  # its Rust looks again, too


OF_PYTHON: Final[Mapping[str, State]] = {
    PYTHON: State(_limits, _set_limits, _limits),
    LOCALE: State(
        _locale, lambda value: cast("None", locale.setlocale(locale.LC_ALL, str(value))), _locale
    ),
    POLARS: State(_polars, _set_polars, _polars),
}
"""The settings that are there without any library, or may be: the environment."""


def _context(context: Any) -> tuple[object, ...]:
    """Without the flags, which computing sets: (precision, rounding, ..., traps), as a copy of it
    would be made; item by item takes ten times as long."""
    *values, _flags, traps = context.__reduce__()[1]
    return (*values, tuple(sorted(trap.__name__ for trap in traps)))


def _set_context(context: Any, values: tuple[object, ...]) -> None:
    """In place: who has it goes on with it."""
    *numbers, traps = values
    for name, value in zip(_OF_CONTEXTS, numbers, strict=True):
        setattr(context, name, value)
    for trap in context.traps:
        context.traps[trap] = trap.__name__ in cast("tuple[str, ...]", traps)


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
    return frozenset(reads.names | found | (OF_FIGURES if draws else set[str]()))


def _parameters(values: dict[str, object]) -> _Values:
    return {name: each for name, each in _Dict.items(values) if name not in _OF_THE_SCREEN}


@dataclass(frozen=True, slots=True)
class _Backend:
    """One of matplotlib's: two are the same that draw the same."""

    name: str = field(compare=False, repr=False)
    draws: str

    @classmethod
    def of(cls, name: object) -> _Backend:
        """`name`: not a text where the first figure is to find one for the screen."""
        if not isinstance(name, str):
            return cls(_AGG, _AGG)
        kind = name.lower()
        agg = kind.endswith(_AGG) or kind in _DRAWN_BY_AGG
        return cls(name, _AGG if agg else kind)


def _options(pandas: Any, *, shown: bool) -> State:
    """Those of what is shown, or the others."""

    def here() -> _Values:
        every: _Dict = pandas._global_config
        return {name: each for name, each in every.items() if (name == _SHOWN) is shown}

    def initial() -> _Values:
        found: _Dict = {}
        for name, each in pandas._registered_options.items():
            if name.startswith(f"{_SHOWN}.") is shown:
                *folders, last = name.split(".")
                inner = found
                for folder in folders:
                    inner = cast("_Dict", inner.setdefault(folder, {}))
                inner[last] = each.defval
        return found

    def put(values: object) -> None:
        wanted = _flat(cast("_Values", values), "")
        for name, now in _flat(here(), "").items():
            if name in wanted and wanted[name] != now:
                pandas.set_option(name, wanted[name])

    return State(
        lambda: {name: _copied(each) for name, each in here().items()},
        put,
        initial,
        lambda known: here() == known,
    )


def _copied(option: object) -> object:
    """An option, or a folder of options, as it is now; nobody is told that it was read."""
    if not isinstance(option, dict):
        return option
    return {name: _copied(each) for name, each in _Dict.items(cast("_Dict", option))}


def _flat(values: _Values, before: str) -> _Values:
    found: _Dict = {}
    for name, each in values.items():
        if isinstance(each, dict):
            found |= _flat(cast("_Values", each), f"{before}{name}.")
        else:
            found[before + name] = each
    return found


def _of_pandas(pandas: Any) -> dict[str, State]:
    return {PANDAS: _options(pandas, shown=True), PANDAS_WORKS: _options(pandas, shown=False)}


def _of_decimal(decimal: Any) -> dict[str, State]:
    return {
        DECIMAL: State(
            lambda: _context(decimal.getcontext()),
            lambda values: _set_context(decimal.getcontext(), cast("tuple[object, ...]", values)),
            lambda: _context(decimal.DefaultContext),
        )
    }


def _known(
    get: Callable[[], _Values], put: Callable[..., object], at_first: Mapping[str, object]
) -> State:
    """Those that one function gives, and another takes by their names."""

    def initial() -> _Values:
        now = get()
        return {name: at_first.get(name, each) for name, each in now.items()}

    return State(get, lambda values: cast("None", put(**cast("_Values", values))), initial)


def _of_numpy(numpy: Any) -> dict[str, State]:
    return {
        NUMPY_ERRORS: _known(numpy.geterr, numpy.seterr, _ERRORS_AT_FIRST),
        NUMPY: _known(numpy.get_printoptions, numpy.set_printoptions, _NUMPY_AT_FIRST),
    }


def _of_sklearn(sklearn: Any) -> dict[str, State]:
    return {SKLEARN: _known(sklearn.get_config, sklearn.set_config, _SKLEARN_AT_FIRST)}


def _of_matplotlib(matplotlib: Any) -> dict[str, State]:
    return {
        MATPLOTLIB: State(
            lambda: _parameters(matplotlib.rcParams),
            lambda values: _Dict.update(matplotlib.rcParams, cast("_Values", values)),
            lambda: _parameters(matplotlib.rcParamsOrig),
        ),
        BACKEND: State(
            lambda: _Backend.of(_Dict.get(matplotlib.rcParams, _BACKEND)),
            lambda value: matplotlib.use(cast("_Backend", value).name),
            lambda: _Backend.of(
                os.environ.get("MPLBACKEND") or _Dict.get(matplotlib.rcParamsOrig, _BACKEND)
            ),
        ),
    }


_LIBRARIES: Final = (
    ("pandas._config.config", "_global_config", cache(_of_pandas)),
    ("decimal", "getcontext", cache(_of_decimal)),
    ("numpy", "set_printoptions", cache(_of_numpy)),
    ("matplotlib", "rcParamsOrig", cache(_of_matplotlib)),
    ("sklearn", "set_config", cache(_of_sklearn)),
)
"""(module, what it has once it is loaded, its states)."""


def of_libraries() -> dict[str, State]:
    """The settings of the libraries that are loaded."""
    found: dict[str, State] = {}
    for name, last, states in _LIBRARIES:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, last):
            found.update(states(module))
    return found
