"""Writes the end of an interrupted run that will not be resumed. When a run may be abandoned:
`launch/interrupted.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.facts import ABANDONED
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.purse import purses_of
from lorimer.core.spend import whole
from lorimer.journal.contract import RunFacts
from lorimer.journal.conversation import Conversation


def charge(child_id: str, end: Mapping[str, JSON]) -> dict[str, JSON]:
    """What a run is charged for a child that it was not told of: everything that the child used, as
    the data of its run.end."""
    return {
        "key": f"{ABANDONED}child:{child_id}",
        "runs": [child_id],
        "usage": end.get("usage"),
        "cost": end.get("cost"),
    }


async def give_up(
    conversation: Conversation,
    run_id: str,
    charges: Sequence[Mapping[str, JSON]],
    now: float,
) -> None:
    """End the unfinished run of a conversation as cancelled, with everything it used and those
    charges, and release what it had reserved. `now`: wall clock. Some or all facts of a damaged run
    may be missing: the ledger knows its cost. Raises JournalError."""
    facts = conversation.unfinished
    start = facts[0] if facts else Event("run.start", {}, run_id)
    last = facts[-1].iteration if facts else 0
    told = RunFacts.of(facts or [start])
    unpaid = [Event("effect", charged, run_id, last, now) for charged in charges]
    for fact in unpaid:
        list(told.take(fact))
    balance = await conversation.journal.balance(run_id)
    owed = sum([whole(charged.get("cost")) for charged in charges])
    end: dict[str, JSON] = {
        "status": "cancelled",
        "code": ExecutorErrorCode.EXEC_RUN_CANCELLED.value,
        "message": "It was interrupted, and given up.",
        "usage": told.tokens,
        "cost": max(told.cost_nano, balance.spent + owed),
        "iterations": told.turns,
    }
    held = balance.reserved
    try:
        purses = purses_of(start.data)
    except JournalError:  # damaged too: which budgets pay for it is unknown
        purses = ()
    ledger = LedgerEntry(run_id, -held, owed, purses, below=owed)
    await conversation.journal.append(
        conversation.stream,
        conversation.epoch,
        [*unpaid, Event("run.end", end, run_id, last, now)],
        sync=True,
        ledger=ledger if held or owed else None,
    )
