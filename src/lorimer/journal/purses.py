"""Purses, the accounts that many runs share, in a journal: the rules of all stores, and the store
in memory. In a SQLite file: `sqlite/purse_tables.py`.

A call's highest price is reserved in the transaction of its intent, and only if it still fits: so
concurrent runs, in one process or many, never exceed the ceiling together. A reservation counts
until the run settles it, ends, or is abandoned. Nothing else releases it: a run that was killed and
is never resumed keeps it forever, because it is unknown what it has spent.

Spent money counts until the window has passed. It is stored in time slots of a 168th of the window
(an hour of a week), and counts as spent at the end of its slot: never too short, and at most one
slot too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.journal import Balance, LedgerEntry
from lorimer.core.purse import MAX_WINDOW_S, Purse
from lorimer.journal.codec import micros

SLOTS: Final = 168
"""Slots per window. A look at a purse reads at most one more."""
SLOT_OF_ALL: Final = 3_600_000_000
"""Width of a slot in microseconds, for a purse without a window."""
GONE: Final = ""
"""In place of a run's id: runs that are no longer stored."""


def slot_of(purse: Purse, now: float) -> int:
    """The end, in microseconds, of the current slot."""
    window = purse.window_s
    width = SLOT_OF_ALL if window is None else max(1, micros(window) // SLOTS)
    return (micros(now) // width + 1) * width


def since(purse: Purse, now: float) -> int | None:
    """Slots that end later than this count; None: all do."""
    return None if purse.window_s is None else micros(now) - micros(purse.window_s)


def oldest(now: float) -> int:
    """Slots that ended earlier count in no possible window."""
    return micros(now - MAX_WINDOW_S)


def must_fit(purse: Purse, nano: int, used: Balance) -> None:
    """Raises LimitError when less than that is left."""
    if used.spent + used.reserved + nano > purse.ceiling_nano:
        call = f"Stopped before a model call that could cost ${nano / 1e9:.4f}"
        raise exceeded(call, purse, used)


def exceeded(what: str, purse: Purse, used: Balance) -> LimitError:
    """The error of something that was not done, because a purse has too little left."""
    window = purse.window_s
    within = "" if window is None else f" within {_span(window)}"
    held = f", and ${used.reserved / 1e9:.4f} set aside for other calls" if used.reserved else ""
    fewer = (
        "Each call sets aside what it can cost at most: fewer at once, or a smaller max_tokens, "
        "leave more. "
    )
    return LimitError(
        f"{what}: of the ${purse.ceiling_nano / 1e9:.4f} of budget {purse.name}{within}, "
        f"${used.spent / 1e9:.4f} are spent{held}.",
        code=ExecutorErrorCode.EXEC_BUDGET_EXCEEDED,
        hint=f"Raise the budget, or wait until there is money again. {fewer if held else ''}What "
        "interrupted runs have set aside is held until they are resumed or abandoned: "
        "lorimer runs ls --all shows it.",
    )


def _span(seconds: float) -> str:
    units = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
    size, name = next((unit for unit in units if seconds >= unit[0]), units[-1])
    count = f"{seconds / size:g}"
    return f"{count} {name}" if count == "1" else f"{count} {name}s"


def spent_of(entry: LedgerEntry) -> int:
    """The part of an entry that its purses are charged with."""
    return entry.spent - entry.below


class Purses:
    """The purses of a journal in memory. Their balances are in `ledger`, with those of the runs."""

    __slots__ = ("_ledger", "_shares", "_spending")

    def __init__(self, ledger: dict[str, tuple[int, int]]) -> None:
        self._ledger = ledger
        self._shares: dict[str, dict[str, tuple[int, int]]] = {}
        """Reserved and spent by run, of each purse."""
        self._spending: dict[str, dict[int, int]] = {}
        """What was spent in each slot, of each purse."""

    def check(self, entry: LedgerEntry, now: float) -> None:
        """Raises LimitError when a purse has less left than the entry reserves."""
        if entry.reserved > 0:
            for purse in entry.purses:
                must_fit(purse, entry.reserved, self.used(purse, now))

    def apply(self, entry: LedgerEntry, now: float) -> None:
        """Add the entry's amounts to each of its purses."""
        spent = spent_of(entry)
        for purse in entry.purses:
            _add(self._ledger, purse.name, entry.reserved, spent)
            shares = self._shares.setdefault(purse.name, {})
            _add(shares, entry.account, entry.reserved, spent)
            if spent:
                slots, until = self._spending.setdefault(purse.name, {}), slot_of(purse, now)
                slots[until] = slots.get(until, 0) + spent

    def used(self, purse: Purse, now: float) -> Balance:
        """See Journal."""
        reserved, spent = self._ledger.get(purse.name, (0, 0))
        after = since(purse, now)
        if after is not None:
            slots = self._spending.get(purse.name, {})
            spent = sum([nano for until, nano in slots.items() if until > after])
        return Balance(reserved, spent)

    def shares(self, name: str) -> Mapping[str, Balance]:
        """See Journal."""
        return {run: Balance(*share) for run, share in self._shares.get(name, {}).items()}

    def forget(self, runs: Iterable[str]) -> None:
        """These runs are removed; what they have spent is not."""
        for shares in self._shares.values():
            for run in runs:
                if run in shares:
                    _add(shares, GONE, *shares.pop(run))

    def sweep(self, now: float) -> None:
        """Drop the slots that count in no window."""
        before = oldest(now)
        for slots in self._spending.values():
            for until in [until for until in slots if until < before]:
                del slots[until]


def _add(accounts: dict[str, tuple[int, int]], name: str, reserved: int, spent: int) -> None:
    before = accounts.get(name, (0, 0))
    accounts[name] = (before[0] + reserved, before[1] + spent)
