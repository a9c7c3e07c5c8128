"""Reads the rows of one stream as they are in the file, and reports damage: unlike readers of
facts, which stop at the first damage, this continues after it."""

from __future__ import annotations

from typing import Final

from lorimer.core.errors import JournalError
from lorimer.core.journal import Damage
from lorimer.journal.chain import START, mark
from lorimer.journal.codec import length
from lorimer.journal.sqlite import inbox
from lorimer.journal.sqlite.blocks import SELECT_ROWS, SEQ, rows_of
from lorimer.journal.sqlite.database import Database, Value, one
from lorimer.journal.sqlite.rows import CHUNK_ROWS, begin_of, whole

# as bytes: the marks cover what is there, valid text or not
_SELECT: Final = SELECT_ROWS.replace("body", "CAST(body AS BLOB)") + "LIMIT ?3"


class RowCheck:
    """A pass over all rows of one stream, chunk by chunk. One change in the file is one finding:
    after it the check continues from the actual contents."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._at = -1
        """Place of the last row seen; -1: none yet."""
        self._next: int | None = 1
        """The sequence number that the next row has to begin with; None: the row before cannot be
        read."""
        self._before: bytes | None = START
        """Mark of the row before; None: that row is missing."""
        self.found: list[Damage] = []

    def chunk(self, db: Database) -> bool:
        """Check the next rows; returns whether there may be more."""
        if self._at < 0:
            row = one(db, "SELECT id FROM streams WHERE name=?", self._stream)
            if row is None:
                return False
            self._at = begin_of(whole(row[0]))
            self.found += [Damage(0, what) for what in inbox.damaged(whole(row[0]), db)]
        seen = 0
        rows = db.execute(_SELECT, (self._at + 1, self._at | SEQ, CHUNK_ROWS))
        for at, body, marked, last in rows:
            seen += 1
            if last:
                self._block(whole(at), body, marked, whole(last))
            else:
                self._row(whole(at), body, marked)
        return seen == CHUNK_ROWS

    def _row(self, at: int, body: Value, marked: Value) -> None:
        first = at & SEQ
        self._at = at
        raw = body if isinstance(body, bytes) else b""
        self._follows(first)
        if self._before is not None and marked != mark(self._before, at, raw):
            self._tell(first, "its row is not as it was written, or the row before it")
        self._before = marked if isinstance(marked, bytes) else None
        try:
            self._next = first + length(raw.decode(), first, self._stream)
        except UnicodeDecodeError:
            self._next = None
            self._tell(first, "its row is not text")
        except JournalError as error:
            self._next = None
            self._tell(first, str(error))

    def _block(self, at: int, body: Value, marked: Value, last: int) -> None:
        # the block may have been created during the check: then the rows before `since` were seen
        # as rows
        since = max(at, self._at + 1)
        self._at = last
        first = since & SEQ
        self._follows(first)
        try:
            lines = [line for line in rows_of(at, body, last) if line.at >= since]
            before = self._before
            for line in lines:
                before = before if before is None else mark(before, line.at, line.body.encode())
                length(line.body, line.at & SEQ, self._stream)
            if before is not None and before != marked:
                self._tell(first, f"the facts from it to {last & SEQ} are not as they were written")
        except JournalError as error:
            self._tell(first, str(error))
        self._before = marked if isinstance(marked, bytes) else None
        self._next = (last & SEQ) + 1

    def _follows(self, first: int) -> None:
        if self._next is not None and first != self._next:
            if first > self._next:
                self._tell(self._next, f"facts {self._next} to {first - 1} are missing")
                self._before = None
            else:
                self._tell(first, "two rows hold this fact")

    def _tell(self, seq: int, what: str) -> None:
        self.found.append(Damage(seq, what))
