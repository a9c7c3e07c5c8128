"""Settings of libraries that decide what is displayed (pandas' options, numpy's print options,
matplotlib's parameters and backend, polars' configuration), and those that decide what is computed
or whether it raises (numpy's error handling, the context of `decimal`, the locale). None of the
libraries is imported here; each becomes a state (resources.py) once somebody has imported it."""

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
"""How pandas computes, reads and copies (`mode.*`, `compute.*`, ...): all options except
`display.*`. Much of pandas reads them, in part only once, so every step that may use pandas counts
as reading them."""
NUMPY: Final = "settings:numpy"
NUMPY_ERRORS: Final = "settings:numpy:errors"
DECIMAL: Final = "settings:decimal"
LOCALE: Final = "settings:locale"
PYTHON: Final = "settings:python"
"""The recursion limit, and the limit on the length of numbers in text."""
MATPLOTLIB: Final = "settings:matplotlib"
BACKEND: Final = "settings:matplotlib:backend"
"""Draws figures, and measures their texts."""
OF_FIGURES: Final = frozenset({MATPLOTLIB, BACKEND})
SKLEARN: Final = "settings:sklearn"
"""What its estimators return, check and display."""
POLARS: Final = "settings:polars"
"""Kept in the environment, where the Rust part reads it, and in polars itself."""
_BACKEND: Final = "backend"
_OF_THE_SCREEN: Final = frozenset({_BACKEND, "backend_fallback", "interactive", "toolbar"})
"""Parameters of matplotlib that its first use changes, and that affect no figure, except the
backend, which is a state of its own."""
_AGG: Final = "agg"
"""The backend that also draws for those of screens: which of them it is affects no figure."""
_DRAWN_BY_AGG: Final = frozenset({"macosx", "module://matplotlib_inline.backend_inline"})
"""Those whose names do not say so."""
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
"""What polars keeps itself, by the methods of `Config` that set it."""
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
"""The settings of a library just loaded, by a step that may already have changed them."""
_Values = Mapping[str, object]
_Dict = dict[str, object]


@dataclass(frozen=True, slots=True)
class State:
    """A state of the process that can be read and set."""

    get: Callable[[], object]
    set: Callable[[object], None]
    initial: Callable[[], object] | None = None
    """Its value before anybody sets it, where that can be determined afterwards."""
    same: Callable[[object], bool] | None = None
    """Whether it has this value, where that is faster than `get`."""
    sooner_set: bool = False
    """Setting it is faster than checking whether it already has the value."""

    def now(self, known: object) -> object:
        """Its present value: the `known` object itself if that is unchanged."""
        if self.same is not None and self.same(known):
            return known
        present = self.get()
        return known if present == known else present


def _limits() -> tuple[int, int]:
    return sys.getrecursionlimit(), sys.get_int_max_str_digits()


def _set_limits(value: object) -> None:
    depth, digits = cast("tuple[int, int]", value)
    with suppress(RecursionError):  # the stack is deeper than that now
        sys.setrecursionlimit(depth)
    sys.set_int_max_str_digits(digits)


def _locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def environment() -> dict[bytes, bytes]:
    """The environment of the process."""
    held: object = getattr(os.environb, "_data", None)  # reading it item by item takes 20 us
    return {**cast("dict[bytes, bytes]", held)} if type(held) is dict else dict(os.environb)


def _polars() -> _Values:
    """What differs from the defaults, so that loading polars makes no difference."""
    config: Any = getattr(sys.modules.get("polars"), "Config", None)
    kept: _Values = {} if config is None else config.state(if_set=True)
    own = {n: each for n, each in kept.items() if each != _POLARS_AT_FIRST.get(n, each)}
    every = environment()
    if _OF_POLARS not in b" ".join(every):  # asking name by name takes 30 us
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
"""The settings that exist without any library, or may: the environment."""


def _context(context: Any) -> tuple[object, ...]:
    """Without the flags, which computing sets: (precision, rounding, ..., traps), taken from its
    `__reduce__`; item by item takes ten times as long."""
    *values, _flags, traps = context.__reduce__()[1]
    return (*values, tuple(sorted(trap.__name__ for trap in traps)))


def _set_context(context: Any, values: tuple[object, ...]) -> None:
    """Changes it in place, so whoever has it sees the change."""
    *numbers, traps = values
    for name, value in zip(_OF_CONTEXTS, numbers, strict=True):
        setattr(context, name, value)
    for trap in context.traps:
        context.traps[trap] = trap.__name__ in cast("tuple[str, ...]", traps)


class Reads(Protocol):
    """The reads that were seen (reading.py)."""

    told: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """The settings that were read."""
        ...


def used(reads: Reads, *, shows: bool, draws: bool = False) -> frozenset[str]:
    """The settings read by a piece of code that displays text (`shows`) or draws."""
    found = {PANDAS, NUMPY} - reads.told if shows else set[str]()
    return frozenset(reads.names | found | (OF_FIGURES if draws else set[str]()))


def _parameters(values: dict[str, object]) -> _Values:
    return {name: each for name, each in _Dict.items(values) if name not in _OF_THE_SCREEN}


@dataclass(frozen=True, slots=True)
class _Backend:
    """A backend of matplotlib; two are equal if they draw the same."""

    name: str = field(compare=False, repr=False)
    draws: str

    @classmethod
    def of(cls, name: object) -> _Backend:
        """`name` is not a text if the first figure is to choose one for the screen."""
        if not isinstance(name, str):
            return cls(_AGG, _AGG)
        kind = name.lower()
        agg = kind.endswith(_AGG) or kind in _DRAWN_BY_AGG
        return cls(name, _AGG if agg else kind)


def _options(pandas: Any, *, shown: bool) -> State:
    """The display options, or the others."""

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
    """An option, or a folder of options, as it is now, without reporting a read."""
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
    """A state that one function returns, and another takes as keyword arguments."""

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
"""(module, the attribute it has once it is loaded, its states)."""


def of_libraries() -> dict[str, State]:
    """The settings of the libraries that are loaded."""
    found: dict[str, State] = {}
    for name, last, states in _LIBRARIES:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, last):
            found.update(states(module))
    return found
