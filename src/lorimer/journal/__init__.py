"""Where facts are kept, and what is read out of them.

Decides: how facts are stored, folded and resumed from. Which facts there are: `core/events.py`;
when they are written: `core/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorimer.journal.conversation import Conversation
from lorimer.journal.fold import Fold, RunSummary, fold
from lorimer.journal.memory import MemoryJournal

if TYPE_CHECKING:
    from lorimer.journal.sqlite.store import SQLiteJournal

__all__ = [
    "Conversation",
    "Fold",
    "MemoryJournal",
    "RunSummary",
    "SQLiteJournal",
    "fold",
]


def __getattr__(name: str) -> object:
    # SQLite costs 15 ms to import, and runs that keep nothing never need it.
    if name == "SQLiteJournal":
        from lorimer.journal.sqlite.store import SQLiteJournal

        return SQLiteJournal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
