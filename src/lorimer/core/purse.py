"""A purse: a budget shared by many runs, in any number of processes.

This module defines a purse; whether a call still fits into it is decided by the journal, in the
transaction that records the call's intent (`journal/purses.py`). For the account of one run see
`spend.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from types import NoneType
from typing import Final, TypeAlias, cast

from lorimer.core.arguments import each_of, is_a, wrong
from lorimer.core.errors import (
    ConfigError,
    ErrorCategory,
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
)
from lorimer.core.jsonable import JSON
from lorimer.core.record import record

MAX_NANO: Final = 2**53
"""Highest ceiling, in nano-dollars: 9 million dollars."""
MAX_WINDOW_S: Final = 366 * 86_400.0
MAX_PURSES: Final = 8
"""Most purses of one run."""
MAX_NAME: Final = 200
_EXAMPLE: Final = 'Purse.usd("job:review", 5)'
ASK_S: Final = 10.0
"""Seconds within which the payer of a run has to be determined."""
_STOP_S: Final = 1.0
"""Seconds to stop for code that was not fast enough."""


@record
class Purse:
    """A shared account and its ceiling. Purses with the same name are the same account, which is
    held to the ceiling that each run brings along.

    Raises ConfigError for an invalid name, ceiling or window.
    """

    name: str
    """`kind:owner`, such as `caller:alice`; the colon distinguishes it from a run's own account."""
    ceiling_nano: int
    """Nano-dollars that may be spent and reserved within the window; 0: nothing."""
    window_s: float | None = None
    """Seconds after which spent money no longer counts; None: it always counts. Reserved money
    counts until it is settled or released, however long that takes."""
    allow_unpriced: bool = False
    """Also call models whose price is unknown; they count as free."""

    def __post_init__(self) -> None:
        name, window = self.name, self.window_s
        if not is_a(name, str):
            raise wrong("the name of a budget", name, "text", _EXAMPLE)
        if not is_a(window, int, float, NoneType):
            raise wrong(f"budget {name}: its window", window, "a number of seconds", "3600.0")
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or ":" not in name:
            raise ConfigError(
                f"the name of a budget is up to {MAX_NAME} printable characters with a colon, "
                f"not {name[: MAX_NAME + 1]!r}",
                hint="For instance: caller:alice",
            )
        if type(self.ceiling_nano) is not int or not 0 <= self.ceiling_nano <= MAX_NANO:
            raise ConfigError(f"budget {name}: its ceiling must be whole nano-dollars, 0 to 2**53")
        if window is not None and not (isfinite(window) and 0 < window <= MAX_WINDOW_S):
            raise ConfigError(
                f"budget {name}: its window must be more than 0 s, and 366 days at most"
            )

    @classmethod
    def usd(
        cls,
        name: str,
        usd: float | Decimal,
        *,
        window: timedelta | None = None,
        allow_unpriced: bool = False,
    ) -> Purse:
        """A purse with a ceiling in US dollars. Raises ConfigError, also for NaN, infinity and
        negative amounts."""
        if not is_a(window, timedelta, NoneType):
            raise wrong(f"budget {name}: its window", window, "a timedelta", "timedelta(days=7)")
        seconds = None if window is None else window.total_seconds()
        return cls(name, nano_of(usd, f"budget {name}"), seconds, allow_unpriced)

    def to_json(self) -> dict[str, JSON]:
        """Plain data, as a run.start stores it."""
        data: dict[str, JSON] = {"name": self.name, "ceiling": self.ceiling_nano}
        if self.window_s is not None:
            data["window_s"] = self.window_s
        if self.allow_unpriced:
            data["allow_unpriced"] = True
        return data


Budgets: TypeAlias = Sequence[Purse] | Callable[[], Awaitable[Sequence[Purse]]]
"""The purses that pay for a run, or a function that returns them, called once when the run is about
to begin. If it raises a LorimerError, the run ends with that before it has called anything."""


def nano_of(usd: float | Decimal, what: str) -> int:
    """Whole nano-dollars. Raises ConfigError for an invalid amount."""
    try:
        nano = -1 if isinstance(usd, bool) else round(Decimal(usd) * 1_000_000_000)
    except (TypeError, ValueError, ArithmeticError):  # NaN and infinity too
        nano = -1
    if not 0 <= nano <= MAX_NANO:
        raise ConfigError(f"{what}: {usd!r} is no amount of US dollars (0 to 9 million)")
    return nano


def purses_json(purses: Sequence[Purse]) -> list[JSON]:
    """The purses of a run as plain data. Raises ConfigError for too many, and for duplicates."""
    names = [purse.name for purse in purses]
    if len(names) > MAX_PURSES or len({*names}) != len(names):
        raise ConfigError(f"a run has at most {MAX_PURSES} budgets, each once, not {names}")
    return [purse.to_json() for purse in purses]


def purses_of(start: Mapping[str, JSON]) -> tuple[Purse, ...]:
    """The purses in the data of a run.start. Raises JournalError for unreadable data: a run with
    unknown budgets does not continue."""
    given = start.get("budgets")
    if given is None:
        return ()
    try:
        if not isinstance(given, list | tuple):
            raise ConfigError("budgets: not a list")
        purses = tuple([_purse(each) for each in given])
        purses_json(purses)
        return purses
    except LorimerError as error:
        raise JournalError(f"the budgets of the run cannot be read: {error}") from error


def _purse(data: JSON) -> Purse:
    if not isinstance(data, Mapping):
        raise ConfigError("budgets: not a mapping")
    name, ceiling, window = data.get("name"), data.get("ceiling"), data.get("window_s")
    if not isinstance(name, str) or not isinstance(ceiling, int):
        raise ConfigError("budgets: a name or a ceiling is missing")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int | float)):
        raise ConfigError(f"budget {name}: its window is no number")
    return Purse(name, ceiling, window, data.get("allow_unpriced") is True)


async def ask_budgets(budgets: Budgets) -> tuple[dict[str, JSON], LorimerError | None]:
    """Determine which purses pay for a run. Returns what run.start records of them, and the error
    if the run is refused, which includes no answer within `ASK_S` seconds and a failure.

    A function is asked in a task of its own, so that what it does to its task is not done to the
    caller's."""
    if not callable(budgets):
        return _budgets_json(_purses(budgets)), None
    asked = asyncio.get_running_loop().create_task(_answer(budgets))
    answered = False
    try:
        answered = bool((await asyncio.wait([asked], timeout=ASK_S))[0])
    finally:
        if not answered:
            asked.cancel()
            await asyncio.wait([asked], timeout=_STOP_S)
    if answered:
        return asked.result()
    return _refused(_undecided(f"no answer within {ASK_S:g} s", TimeoutError()))


async def _answer(
    budgets: Callable[[], Awaitable[Sequence[Purse]]],
) -> tuple[dict[str, JSON], LorimerError | None]:
    """What `ask_budgets` returns. Raises nothing that is an error of that code."""
    try:
        return _budgets_json(_checked_answer(await budgets())), None
    except asyncio.CancelledError as error:
        return _refused(_undecided("it was cancelled", error))
    except LorimerError as error:
        undecided = error.category in (ErrorCategory.STORE, ErrorCategory.CANCELLED)
        return _refused(_undecided(str(error), error) if undecided else error)
    except Exception as error:  # noqa: BLE001 - a coded error of it: the run ends with that
        return _refused(_undecided(f"{type(error).__name__}: {error}", error))


def _refused(why: LorimerError) -> tuple[dict[str, JSON], LorimerError]:
    return {"refused": why.to_json()}, why


def _purses(given: object) -> tuple[Purse, ...]:
    """Raises ConfigError for anything but a list of purses, including the None of a function that
    forgets to return one."""
    return cast("tuple[Purse, ...]", each_of("budgets", given, Purse, _EXAMPLE))


def _checked_answer(given: object) -> tuple[Purse, ...]:
    """Check the answer of a budget function. Raises LimitError for an invalid one."""
    try:
        return _purses(given)
    except ConfigError as error:
        raise _undecided(error.message, error) from None


def _budgets_json(purses: Sequence[Purse]) -> dict[str, JSON]:
    return {"budgets": purses_json(purses)} if purses else {}


def _undecided(why: str, cause: BaseException) -> LimitError:
    return LimitError(
        f"Whether there is money for this run could not be found out: {why}",
        code=ExecutorErrorCode.EXEC_BUDGET_UNDECIDED,
        hint="Nothing was called. Run it again when its budget can be asked.",
        cause=cause,
    )
