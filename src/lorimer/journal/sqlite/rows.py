"""Queries on the tables of a journal file: heads of streams, facts, runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import RunRow
from lorimer.journal.codec import DAMAGE_HINT, Place, decode, length, micros, not_text
from lorimer.journal.projection import (
    RUN_KINDS,
    ended_row,
    refuse_end,
    refuse_second,
    refuse_start,
    started_row,
)
from lorimer.journal.sqlite.blocks import SELECT_ROWS, SEQ, last_of_blocks, rows_of
from lorimer.journal.sqlite.database import Database, number, one
from lorimer.journal.sqlite.schema import STREAM_BITS

CHUNK_ROWS: Final = 2000
CHUNK_CHARS: Final = 1_000_000
"""Rows, and characters of rows, that a reader loads at once (it may exceed them by one row)."""
MOST_FACTS: Final = SEQ // 2
"""Facts of a stream."""

_LAST_PLACE: Final = """
    SELECT max(ifnull((SELECT max(at) FROM facts WHERE at BETWEEN ?1 AND ?2), 0),
               ifnull((SELECT max(at) FROM blocks WHERE at BETWEEN ?1 AND ?2), 0))"""

SELECT_RUNS: Final = """
    SELECT run_id, name, started, title, status, ended, iterations, cost, code, first
    FROM runs JOIN streams ON streams.id = runs.stream """


@dataclass(slots=True)
class Head:
    """The end of a stream. Remains valid while the epoch in the file is `epoch`: only the holder of
    an epoch appends."""

    stream_id: int
    epoch: int
    seq: int
    place: Place
    run: str
    """The last run if it has not ended, else ""."""
    mark: bytes
    """Mark of its last row: see chain.py."""


def load_head(db: Database, stream: str) -> Head | None:
    """The head from the file; None: the stream was never claimed."""
    row = one(db, "SELECT id, epoch FROM streams WHERE name=?", stream)
    if row is None:
        return None
    stream_id, epoch = whole(row[0]), whole(row[1])
    low = begin_of(stream_id)
    last = one(
        db,
        "SELECT at, body, mark FROM facts WHERE at BETWEEN ? AND ? ORDER BY at DESC LIMIT 1",
        low,
        low | SEQ,
    )
    if last is not None:
        first, mark = whole(last[0]) & SEQ, blob(last[2])
        seq = first - 1 + length(last[1], first, stream)
    else:
        place_of_last, mark = last_of_blocks(db, low)
        seq = place_of_last & SEQ
    if seq > MOST_FACTS:  # what is appended would come into the next stream
        raise JournalError(
            f"the facts of stream {stream!r} are damaged: none can have the number {seq}",
            hint=DAMAGE_HINT,
        )
    run = one(
        db,
        "SELECT run_id, started, ended FROM runs WHERE stream=? ORDER BY first DESC LIMIT 1",
        stream_id,
    )
    if run is None:
        return Head(stream_id, epoch, seq, Place(), "", mark)
    run_id = str(run[0])
    place = Place(run_id, whole(run[1]))
    return Head(stream_id, epoch, seq, place, run_id if run[2] is None else "", mark)


def projected(
    db: Database, stream: str, head: Head, facts: Sequence[Event]
) -> tuple[list[RunRow], str]:
    """The rows of runs that `facts` begin and end, and the run that is open after them.

    Raises JournalError for a second start or end of a run, and for one in another. Writes nothing.
    """
    run, rows = head.run, dict[str, RunRow]()
    for seq, fact in enumerate(facts, head.seq + 1):
        if fact.type not in RUN_KINDS:
            continue
        if fact.type == "run.start":
            known = fact.run_id in rows or run_named(db, fact.run_id) is not None
            if known or not fact.run_id:
                raise refuse_start(fact.run_id)
            if run:
                raise refuse_second(run)
            rows[fact.run_id] = started_row(stream, seq, fact)
            run = fact.run_id
        else:
            row = rows.get(run) or run_named(db, run)
            if row is None or fact.run_id != run:
                raise refuse_end(fact.run_id)
            rows[run] = ended_row(row, fact)
            run = ""
    return list(rows.values()), run


def run_values(stream: int, row: RunRow) -> tuple[str | int | None, ...]:
    """A row of runs, in the order of its columns after the id."""
    return (
        row.run_id,
        stream,
        row.first,
        micros(row.started),
        row.title,
        row.status,
        micros(row.ended) if row.ended is not None else None,
        row.iterations,
        row.cost_nano,
        row.code,
    )


def run_rows(sql: str, values: tuple[str | int, ...], db: Database) -> list[RunRow]:
    """The rows of a query beginning with SELECT_RUNS."""
    return [
        RunRow(
            run_id=str(row[0]),
            stream=str(row[1]),
            started=whole(row[2]) / 1e6,
            title=str(row[3]),
            status=str(row[4]),
            ended=whole(row[5]) / 1e6 if row[5] is not None else None,
            iterations=whole(row[6]),
            cost_nano=whole(row[7]),
            code=str(row[8]),
            first=whole(row[9]),
        )
        for row in db.execute(sql, values)
    ]


def run_named(db: Database, run_id: str) -> RunRow | None:
    """The run with exactly that id."""
    found = run_rows(SELECT_RUNS + "WHERE run_id=?", (run_id,), db)
    return found[0] if found else None


class Scan:
    """A pass over the facts of one stream with seq > `after`, chunk by chunk."""

    __slots__ = ("_after", "_error", "_id", "_next", "_place", "_stream", "at_end", "version")

    def __init__(self, stream: str, after: int) -> None:
        self._stream = stream
        self._after = max(after, 0)
        self._id = 0
        self._next = 0
        """Sequence number of the first fact of the next row; 0: not known yet."""
        self._place = Place()
        self._error: JournalError | None = None
        self.version = 0
        """`data_version` before the last chunk was read."""
        self.at_end = False
        """There was nothing after the last chunk when it was read."""

    def chunk(self, db: Database) -> list[Event]:
        """The next facts; empty: no more at present. A damaged or missing row raises JournalError,
        after all facts before it were returned."""
        if self._error is not None:
            raise self._error
        self.version = data_version(db)
        self.at_end = True
        if not self._next and not self._begin(db):
            return []
        facts: list[Event] = []
        low, chars, read = self._id << STREAM_BITS, 0, 0
        rows = db.execute(SELECT_ROWS + "LIMIT ?3", (low | self._next, low | SEQ, CHUNK_ROWS))
        try:
            for at, body, _, last in rows:
                read += 1
                if last:
                    for line in rows_of(whole(at), body, whole(last)):
                        facts += self._take(*line)
                        chars += len(line.body)
                elif whole(at) & SEQ < self._next:
                    raise JournalError(
                        f"two rows of stream {self._stream!r} hold fact {whole(at) & SEQ}",
                        hint=DAMAGE_HINT,
                    )
                else:
                    facts += self._take(whole(at), body)
                    chars += len(body) if isinstance(body, str) else 0
                if chars > CHUNK_CHARS:
                    read = CHUNK_ROWS  # there may be more
                    break
        except (JournalError, UnicodeDecodeError) as error:
            known = isinstance(error, JournalError)
            self._error = error if known else not_text(self._next, self._stream)
            if not facts:
                raise self._error from error
        finally:
            rows.close()  # else the error holds it, and this connection would see nothing newer
        self.at_end = read < CHUNK_ROWS and self._error is None
        return facts

    def _take(self, at: int, body: object) -> list[Event]:
        """The facts of the next row, or of one of the rows before it in its block."""
        first = at & SEQ
        if first != self._next:
            if first < self._next:
                return []
            raise JournalError(
                f"facts {self._next} to {first - 1} of stream {self._stream!r} are missing",
                hint=DAMAGE_HINT,
            )
        facts, self._place = decode(body, self._place, first, self._stream)
        self._next += len(facts)
        if first > self._after:
            return facts
        return [fact for fact in facts if (fact.seq or 0) > self._after]

    def _begin(self, db: Database) -> bool:
        """Find the row that contains fact `after` + 1, or the last one before it."""
        row = one(db, "SELECT id FROM streams WHERE name=?", self._stream)
        if row is None:
            return False
        self._id = whole(row[0])
        low = begin_of(self._id)
        at = number(db, _LAST_PLACE, low, low | min(self._after + 1, SEQ))
        self._next = at & SEQ or 1
        run = one(
            db,
            "SELECT run_id, started FROM runs WHERE stream=? AND first<? "
            "ORDER BY first DESC LIMIT 1",
            self._id,
            self._next,
        )
        if run is not None:
            self._place = Place(str(run[0]), whole(run[1]))
        return True


def data_version(db: Database) -> int:
    """A number that changes when another connection has committed."""
    return number(db, "PRAGMA data_version")


def begin_of(stream: int) -> int:
    """The place before the first fact of a stream. Raises JournalError if there is none."""
    if not 0 <= stream < 1 << 63 - STREAM_BITS:
        raise JournalError(
            f"the journal's file is damaged: no conversation has the number {stream}",
            hint=DAMAGE_HINT,
        )
    return stream << STREAM_BITS


def whole(value: object) -> int:
    """An integer column. Raises JournalError if the file contains something else there."""
    if not isinstance(value, int):
        raise JournalError("the journal's file is damaged: a number is missing")
    return value


def blob(value: object) -> bytes:
    """A BLOB column. Raises JournalError if the file contains something else there."""
    if not isinstance(value, bytes):
        raise JournalError("the journal's file is damaged: a document is missing")
    return value
