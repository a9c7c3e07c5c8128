"""Budgets: who pays for a run, and how much all of them together may cost.

A budget names the purses (`core/purse.py`) that pay for a run and may refuse it before it begins.
It does not have to keep the total spending of runs below a purse's ceiling: the journal enforces
that before each model call (`journal/purses.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from types import NoneType
from typing import Final, Protocol

from lorimer.core.arguments import check_port, each_of, is_a, wrong
from lorimer.core.errors import JournalError
from lorimer.core.journal import Journal
from lorimer.core.purse import Purse
from lorimer.core.redaction import logger
from lorimer.journal.purses import exceeded
from lorimer.run.agent import RunnableAgent
from lorimer.run.invocation import Invocation

WEEK: Final = timedelta(days=7)

_log: Final = logger("lorimer.run.budget")


class Budget(Protocol):
    """Called once for each run of an executor, before it begins; not when it is resumed: then its
    run.start says which purses pay for it."""

    async def admit(
        self, agent: RunnableAgent, asked: Invocation, ledger: Journal
    ) -> Sequence[Purse]:
        """The purses that pay for this run and all its descendants; () for none. `ledger` is the
        journal that will contain the run, and with it the purses.

        Raises a LorimerError to refuse the run. It then makes no calls, but is recorded, with that
        error and the status `budget_exceeded` where that is the code's, else `rejected`. Any other
        exception, a failing store, and 10 s without an answer refuse it as `exec.budget.undecided`.
        """
        ...


class TotalBudget:
    """A number of US dollars for all runs together, without a time window.

    name: that of the purse, `kind:whose`; in one journal, the same name means the same purse.
    allow_unpriced: also call models whose price is unknown, as if they were free.
    fail_open: begin a run even if the ledger cannot be asked whether anything is left. Without it
        such a run is refused. The cost of a call is reserved beforehand in either case.
    """

    def __init__(
        self,
        name: str,
        *,
        usd: float | Decimal,
        allow_unpriced: bool = False,
        fail_open: bool = False,
    ) -> None:
        """Raises ConfigError for an invalid name or amount."""
        self.purse = Purse.usd(name, usd, allow_unpriced=allow_unpriced)
        self._fail_open = fail_open

    async def admit(
        self, agent: RunnableAgent, asked: Invocation, ledger: Journal
    ) -> Sequence[Purse]:
        """See Budget."""
        await _require_money(self.purse, ledger, self._fail_open)
        return (self.purse,)


class CallerBudgets:
    """A number of US dollars for each caller within a rolling window. Runs without a caller share a
    purse of their own.

    usd: for callers that are not in `per_caller`, which maps caller ids to dollars.
    window: how long spending counts; up to one 168th of it longer.
    allow_unpriced, fail_open: as in TotalBudget.
    """

    def __init__(
        self,
        *,
        usd: float | Decimal,
        window: timedelta = WEEK,
        per_caller: Mapping[str, float | Decimal] | None = None,
        allow_unpriced: bool = False,
        fail_open: bool = False,
    ) -> None:
        """Raises ConfigError for an invalid amount, window or caller."""
        if not is_a(window, timedelta):
            raise wrong("window", window, "a timedelta", "timedelta(days=7)")
        if not is_a(per_caller, Mapping, NoneType):
            raise wrong("per_caller", per_caller, "a mapping", '{"ann": 20.0}')
        each_of("per_caller", tuple(per_caller or ()), str, '{"ann": 20.0}')
        self._usd = usd
        self._window = window
        self._per_caller = dict(per_caller or {})
        self._allow_unpriced = allow_unpriced
        self._fail_open = fail_open
        for caller in ("", *self._per_caller):
            self.purse(caller)

    def purse(self, caller_id: str) -> Purse:
        """The purse of a caller. Raises ConfigError for an id that cannot be part of a purse's
        name."""
        return Purse.usd(
            f"caller:{caller_id}",
            self._per_caller.get(caller_id, self._usd),
            window=self._window,
            allow_unpriced=self._allow_unpriced,
        )

    async def admit(
        self, agent: RunnableAgent, asked: Invocation, ledger: Journal
    ) -> Sequence[Purse]:
        """See Budget."""
        purse = self.purse(asked.caller_id)
        await _require_money(purse, ledger, self._fail_open)
        return (purse,)


class AllBudgets:
    """Several budgets at once: each has to have enough."""

    def __init__(self, *budgets: Budget) -> None:
        """Raises ConfigError for an argument that is not a budget."""
        for budget in budgets:
            check_port("a budget", budget, Budget, "CallerBudgets(usd=5)")
        self._budgets = budgets

    async def admit(
        self, agent: RunnableAgent, asked: Invocation, ledger: Journal
    ) -> Sequence[Purse]:
        """See Budget."""
        return [
            purse for budget in self._budgets for purse in await budget.admit(agent, asked, ledger)
        ]


async def _require_money(purse: Purse, ledger: Journal, fail_open: bool) -> None:
    """A run need not begin when everything is spent; what others have reserved may be released
    again. Raises LimitError, and JournalError unless `fail_open`."""
    try:
        used = await ledger.used(purse)
    except JournalError as error:
        if not fail_open:
            raise
        _log.warning("budget %s: a run starts without a check, because %s", purse.name, error)
        return
    if used.spent >= purse.ceiling_nano:
        raise exceeded("The run was not begun", purse, used)
