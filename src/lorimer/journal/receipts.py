"""The compactions of recorded runs, and the messages that they hid from the model.

The conversation is complete in the journal: a message is found by its index in it, as it was when
the receipt was made. What is compacted is decided in `stages/s02_compaction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.messages import Message
from lorimer.core.receipt import Receipt
from lorimer.core.record import record
from lorimer.journal.fold import Fold
from lorimer.journal.recording import Recording


@record
class Compaction:
    """One compaction of a run."""

    iteration: int
    """The model call before which it was made, from 0."""
    time: float
    """Wall clock, seconds."""
    receipt: Receipt
    removed: Sequence[tuple[int, Message]]
    """The hidden messages, each with its index in the conversation, from 0."""


def compactions(run: Recording) -> list[Compaction]:
    """All compactions of a run, in order. Raises JournalError when a receipt does not belong to
    this conversation."""
    fold = Fold()
    fold.messages = list(run.history)
    history, taken = History(), 0
    found: list[Compaction] = []
    for fact in run.facts:
        fold.apply(fact)
        if fact.type == "compacted" and fold.receipt is not None:
            fold.close()  # results of the last turn, which are in the next fact
            for message in fold.messages[taken:]:
                history.append(message)
            taken = len(fold.messages)
            found.append(_compaction(fact, fold.receipt, history))
    return found


def _compaction(fact: Event, receipt: Receipt, history: History) -> Compaction:
    history.adopt_receipt(receipt)
    if history.receipt is not receipt:
        raise JournalError(
            f"The receipt in fact {fact.seq} is not of the conversation before it.",
            hint=f"lorimer runs verify {fact.run_id} tells what is damaged.",
        )
    removed = [(index, history[index]) for index in receipt.indexes]
    return Compaction(fact.iteration, fact.time, receipt, removed)
