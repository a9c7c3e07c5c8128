"""What a run has used: tokens, money spent and set aside, and the ceiling of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.messages import USAGE_FIELDS, Usage

_NONE: Final = (0,) * len(USAGE_FIELDS)


class Spend:
    """The account of one run. Money is in whole nano-dollars.

    Keeps count only: each change that the ledger has to know is returned as a LedgerEntry, to be
    recorded in one transaction with its fact.
    """

    __slots__ = ("_account", "_ceiling_nano", "_reserved_nano", "_tokens", "nano")

    def __init__(self, account: str, ceiling_nano: int | None) -> None:
        self._account = account
        self._ceiling_nano = ceiling_nano
        self._reserved_nano = 0
        self._tokens: dict[str, int] = {}
        self.nano = 0
        """Spent so far."""

    @property
    def tokens(self) -> dict[str, JSON]:
        """`usage` in its plain form."""
        return {name: count for name, count in self._tokens.items() if count}

    @property
    def usage(self) -> Usage:
        """Tokens so far, failed and abandoned attempts included."""
        return Usage(*map(self._tokens.get, USAGE_FIELDS, _NONE))

    def charge(self, result: Mapping[str, JSON], sign: int = 1) -> int:
        """Add the `cost` and the `usage` of an effect's data (take them back with `sign` -1);
        returns the cost."""
        usage = result.get("usage")
        if usage and isinstance(usage, dict):
            tokens = self._tokens
            for name, count in usage.items():
                if type(count) is int:
                    tokens[name] = tokens.get(name, 0) + sign * count
        cost = result.get("cost")
        if type(cost) is not int:  # as with most tools
            return 0
        self.nano += sign * cost
        return cost

    def reserve(self, nano: int) -> LedgerEntry | None:
        """Set aside the most that a call can cost. Raises LimitError over the ceiling."""
        ceiling = self._ceiling_nano
        if ceiling is not None and self.nano + self._reserved_nano + nano > ceiling:
            raise LimitError(
                f"Stopped before a model call that could cost ${nano / 1e9:.4f}: "
                f"${self.nano / 1e9:.4f} of ${ceiling / 1e9:.4f} are spent.",
                code=ExecutorErrorCode.EXEC_LIMIT_COST,
                hint="Raise max_cost_usd (--max-cost-usd) or use a cheaper model.",
            )
        self._reserved_nano += nano
        return LedgerEntry(self._account, nano) if nano else None

    def recall(self, nano: int) -> None:
        """Set aside, or free (below 0), what is recorded already: the ledger knows it."""
        self._reserved_nano += nano

    def settle(self, reserved: int, result: Mapping[str, JSON]) -> LedgerEntry | None:
        """Charge a call's data in place of what was set aside for it."""
        if not reserved and "usage" not in result and "cost" not in result:
            return None  # of nearly all tools
        cost = self.charge(result)
        self._reserved_nano -= reserved
        if not cost and not reserved:
            return None
        return LedgerEntry(self._account, -reserved, cost)

    def undo(self, reserved: int, result: Mapping[str, JSON]) -> None:
        """The opposite of `settle`: its fact was not written."""
        self.charge(result, -1)
        self._reserved_nano += reserved

    def write_off(self, data: Mapping[str, JSON]) -> LedgerEntry | None:
        """Charge what a half-done call cost; what was set aside for it stays."""
        cost = self.charge(data)
        return LedgerEntry(self._account, spent=cost) if cost else None

    def release(self) -> LedgerEntry | None:
        """Give back what is still set aside; goes with run.end."""
        left, self._reserved_nano = self._reserved_nano, 0
        return LedgerEntry(self._account, reserved=-left) if left else None


def whole(value: JSON) -> int:
    """A recorded amount; 0 if there is none."""
    return value if isinstance(value, int) else 0
