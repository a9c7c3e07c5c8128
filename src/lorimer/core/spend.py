"""What a run has used: tokens, money spent and reserved, and their ceiling. For money that many
runs share see `purse.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.request import MOST, USAGE_FIELDS, Usage

_NONE: Final = (0,) * len(USAGE_FIELDS)


class Spend:
    """The account of one run, in whole nano-dollars.

    Only does the sums: each change that concerns the ledger is returned as a LedgerEntry, to be
    recorded in one transaction with its fact.
    """

    __slots__ = (
        "_above",
        "_account",
        "_below",
        "_ceiling_nano",
        "_reserved_nano",
        "_tokens",
        "nano",
        "purses",
    )

    def __init__(
        self,
        account: str,
        ceiling_nano: int | None,
        above: Spend | None = None,
        purses: tuple[Purse, ...] = (),
    ) -> None:
        """`above`: the account of the parent run, whose ceiling holds for both."""
        self._account = account
        self._ceiling_nano = ceiling_nano
        self._above = above
        self._reserved_nano = 0
        self._below = 0
        """What child runs have spent or reserved and this run has not been charged for yet."""
        self._tokens: dict[str, int] = {}
        self.nano = 0
        """Spent so far."""
        self.purses = purses
        """Shared accounts that are charged as well."""

    @property
    def tokens(self) -> dict[str, JSON]:
        """`usage` as plain data."""
        return {name: count for name, count in self._tokens.items() if count}

    @property
    def usage(self) -> Usage:
        """Tokens so far, including failed and aborted attempts."""
        return Usage(*map(self._tokens.get, USAGE_FIELDS, _NONE))

    def charge(self, result: Mapping[str, JSON], sign: int = 1) -> int:
        """Add the `cost` and `usage` in an effect's data (with `sign` -1: take them back); returns
        the cost."""
        usage, cost = result.get("usage"), result.get("cost")
        if isinstance(usage, dict):
            tokens = self._tokens
            for name, count in usage.items():
                if type(count) is int and 0 <= count < MOST:
                    tokens[name] = tokens.get(name, 0) + sign * count
        if type(cost) is not int or not 0 <= cost < MOST:  # none, as with most tools, or damage
            return 0
        self.nano += sign * cost
        return cost

    def reserve(self, nano: int) -> LedgerEntry | None:
        """Reserve the most that a call can cost. Raises LimitError over the ceiling of this run or
        an ancestor."""
        account: Spend | None = self
        while account is not None:
            account._require(nano)
            account = account._above
        self._reserved_nano += nano
        if self._above is not None:
            self._add_to_ancestors(nano)
        return LedgerEntry(self._account, nano, 0, self.purses) if nano else None

    def _require(self, nano: int) -> None:
        ceiling, used = self._ceiling_nano, self.nano + self._below
        if ceiling is not None and used + self._reserved_nano + nano > ceiling:
            raise LimitError(
                f"Stopped before a model call that could cost ${nano / 1e9:.4f}: "
                f"${used / 1e9:.4f} of ${ceiling / 1e9:.4f} are spent.",
                code=ExecutorErrorCode.EXEC_LIMIT_COST,
                hint="Raise max_cost_usd (--max-cost-usd) or use a cheaper model.",
            )

    def _add_to_ancestors(self, nano: int) -> None:
        account = self._above
        while account is not None and nano:
            account._below += nano
            account = account._above

    def give_back(self, nano: int) -> None:
        """Release a reservation that was not recorded."""
        self._reserved_nano -= nano
        self._add_to_ancestors(-nano)

    def add_uncharged(self, nano: int) -> None:
        """For a resumed run: count what its child runs had spent or reserved before the
        interruption without it having been charged."""
        self._below += nano

    def remove_uncharged(self, nano: int) -> None:
        """A child run has ended, and this run is about to be charged for it: from now on it counts
        as charged."""
        self._below -= nano
        self._add_to_ancestors(-nano)

    def restore_reserved(self, nano: int) -> None:
        """Reserve, or release (negative), an amount that the ledger already has, from recorded
        facts."""
        self._reserved_nano += nano

    def settle(self, reserved: int, result: Mapping[str, JSON]) -> LedgerEntry | None:
        """Charge a call's data in place of its reservation."""
        if not reserved and "usage" not in result and "cost" not in result:
            return None  # as with nearly all tools
        cost = self.charge(result)
        self._reserved_nano -= reserved
        if self._above is not None:
            self._add_to_ancestors(cost - reserved)
        if not cost and not reserved:
            return None
        below = cost if self.purses and "runs" in result else 0
        return LedgerEntry(self._account, -reserved, cost, self.purses, below)

    def undo(self, reserved: int, result: Mapping[str, JSON]) -> None:
        """The reverse of `settle`, when its fact was not written."""
        cost = self.charge(result, -1)
        self._reserved_nano += reserved
        self._add_to_ancestors(reserved - cost)

    def write_off(self, data: Mapping[str, JSON]) -> LedgerEntry | None:
        """Charge the cost of an aborted call; its reservation stays."""
        cost = self.charge(data)
        self._add_to_ancestors(cost)
        below = cost if "runs" in data else 0
        return LedgerEntry(self._account, 0, cost, self.purses, below) if cost else None

    def release(self) -> LedgerEntry | None:
        """Release what is still reserved; recorded with run.end."""
        left, self._reserved_nano = self._reserved_nano, 0
        self._add_to_ancestors(-left)
        return LedgerEntry(self._account, -left, 0, self.purses) if left else None


def whole(value: JSON) -> int:
    """A recorded amount; 0 if there is none, or it is impossible: it must not add to a budget."""
    return value if isinstance(value, int) and 0 <= value < MOST else 0
