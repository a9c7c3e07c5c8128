"""The balances of purses in a journal file. Everything here runs in the caller's transaction. The
rules are in `journal/purses.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.journal import Balance, LedgerEntry
from lorimer.core.purse import Purse
from lorimer.journal.purses import GONE, must_fit, oldest, since, slot_of, spent_of
from lorimer.journal.sqlite.database import Database, number, one
from lorimer.journal.sqlite.rows import whole

UPSERT_LEDGER: Final = """
    INSERT INTO ledger VALUES(?,?,?) ON CONFLICT(account) DO UPDATE SET
    reserved=reserved+excluded.reserved, spent=spent+excluded.spent"""
_UPSERT_SHARE: Final = """
    INSERT INTO shares VALUES(?,?,?,?) ON CONFLICT(run, purse) DO UPDATE SET
    reserved=reserved+excluded.reserved, spent=spent+excluded.spent"""
_UPSERT_SLOT: Final = """
    INSERT INTO spending VALUES(?,?,?) ON CONFLICT(purse, until) DO UPDATE SET
    spent=spent+excluded.spent"""
_FOLD_SHARES: Final = """
    INSERT INTO shares SELECT ?, purse, sum(reserved), sum(spent) FROM shares
    WHERE run IN (SELECT run_id FROM runs WHERE stream=?) GROUP BY purse
    ON CONFLICT(run, purse) DO UPDATE SET
    reserved=reserved+excluded.reserved, spent=spent+excluded.spent"""


def check(entry: LedgerEntry, now: float, db: Database) -> None:
    """Raises LimitError when a purse has less left than the entry reserves. Writes nothing."""
    if entry.reserved > 0:
        for purse in entry.purses:
            must_fit(purse, entry.reserved, used(purse, now, db))


def apply(entry: LedgerEntry, now: float, db: Database) -> None:
    """Add the entry's amounts to each of its purses."""
    reserved, spent = entry.reserved, spent_of(entry)
    for purse in entry.purses:
        db.execute(UPSERT_LEDGER, (purse.name, reserved, spent))
        db.execute(_UPSERT_SHARE, (entry.account, purse.name, reserved, spent))
        if spent:
            db.execute(_UPSERT_SLOT, (purse.name, slot_of(purse, now), spent))


def used(purse: Purse, now: float, db: Database) -> Balance:
    """See Journal."""
    row = one(db, "SELECT reserved, spent FROM ledger WHERE account=?", purse.name)
    if row is None:
        return Balance()
    reserved, spent, after = whole(row[0]), whole(row[1]), since(purse, now)
    if after is not None:
        sql = "SELECT sum(spent) FROM spending WHERE purse=? AND until>?"
        spent = number(db, sql, purse.name, after)
    return Balance(reserved, spent)


def shares(name: str, db: Database) -> Mapping[str, Balance]:
    """See Journal."""
    rows = db.execute("SELECT run, reserved, spent FROM shares WHERE purse=?", (name,))
    return {str(run): Balance(whole(reserved), whole(spent)) for run, reserved, spent in rows}


def forget_runs(stream_id: int, db: Database) -> None:
    """All runs of a stream, which have all ended, are about to be removed; their spending is
    kept."""
    db.execute(_FOLD_SHARES, (GONE, stream_id))
    db.execute(
        "DELETE FROM shares WHERE run IN (SELECT run_id FROM runs WHERE stream=?)", (stream_id,)
    )


def sweep(now: float, db: Database) -> None:
    """Remove the slots that are outside all windows."""
    db.execute("DELETE FROM spending WHERE until<?", (oldest(now),))
