"""Where facts are stored, and what is read from them.

Decides how facts are stored, folded and resumed from. Which facts exist: `core/events.py`; when
they are written: `core/`.
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
    # SQLite takes 15 ms to import, which runs without a file never need
    if name == "SQLiteJournal":
        from lorimer.journal.sqlite.store import SQLiteJournal

        return SQLiteJournal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
