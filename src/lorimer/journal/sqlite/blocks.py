"""Rows of ended runs, compressed: one row of `blocks` for many of `facts`, in a third of the bytes
or less, since the rows of a conversation are much alike.

    at    place of its first fact            last   place of its last fact
    mark  of its last row (see chain.py)     body   zlib of lines: a JSON list of how many facts
                                                    each row has; then the rows (see codec.py)

A block contains the original rows unchanged, so readers of facts need not know about blocks, and
the chain of marks continues through them. Blocks and rows of one stream never overlap.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple, cast

from lorimer.core.errors import JournalError
from lorimer.core.jsonable import JSON, dumps
from lorimer.journal.chain import START, mark
from lorimer.journal.codec import DAMAGE_HINT, length
from lorimer.journal.sqlite.database import Database, one
from lorimer.journal.sqlite.schema import STREAM_BITS

SEQ: Final = (1 << STREAM_BITS) - 1
"""The part of a place that is the sequence number."""

BLOCK_CHARS: Final = 262_144
"""Characters of the rows in a block; it may exceed this by one row. Larger ones would gain 1 %, and
reading a single fact requires decompressing its whole block: about 1 ms."""

MAX_BYTES: Final = 2**30
"""Maximum of a decompressed block. SQLite itself accepts no larger row."""

# Places from ?1 to ?2. A block matches if it contains any of them; its `last` is 0 for a plain row.
SELECT_ROWS: Final = """
    SELECT at, body, mark, last FROM blocks WHERE last>=?1 AND at BETWEEN
      ifnull((SELECT max(at) FROM blocks WHERE at BETWEEN ?1>>32<<32 AND ?1), ?1) AND ?2
    UNION ALL SELECT at, body, mark, 0 FROM facts WHERE at BETWEEN ?1 AND ?2 ORDER BY at """

_SELECT_ROW: Final = """
    SELECT at, body, last FROM blocks WHERE at BETWEEN ?2 AND ?1
    UNION ALL SELECT at, body, 0 FROM facts WHERE at BETWEEN ?2 AND ?1
    ORDER BY at DESC LIMIT 1"""


class FactRow(NamedTuple):
    """One row of facts."""

    at: int
    body: str


def rows_of(at: int, body: object, last: int) -> list[FactRow]:
    """The rows in a result of SELECT_ROWS: one, or those of a block.

    Blocks are untrusted: raises JournalError for anything that `compress` never produces, before
    using more memory than a row of SQLite can.
    """
    if not last:
        return [FactRow(at, body if isinstance(body, str) else "")]  # decode reports the fault
    try:
        if not isinstance(body, bytes):
            raise ValueError("it is not a block")
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(body, MAX_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("it is cut off, or too large")
        head, *rows = raw.decode().split("\n")
        lines: list[FactRow] = []
        for facts, row in zip(_counts(head), rows, strict=True):
            lines.append(FactRow(at, row))
            at += facts
        if not lines or at != last + 1:
            raise ValueError(f"it holds no facts up to {last & SEQ}")
    except (ValueError, RecursionError, zlib.error) as error:
        raise JournalError(
            f"the block of facts up to {last & SEQ} is damaged: {error}",
            hint=DAMAGE_HINT,
            cause=error,
        ) from error
    return lines


def _counts(head: str) -> Iterator[int]:
    counts = cast("JSON", json.loads(head))
    for facts in counts if isinstance(counts, list) else [None]:
        if type(facts) is not int or not 0 < facts <= SEQ:
            raise ValueError("it does not say how many facts its rows have")
        yield facts


def compress(db: Database, stream_id: int) -> int:
    """Compress the first rows of a stream that are not in a block yet into one. Returns the bytes
    saved; 0, without any change, if there are no such rows, they are damaged, or nothing would be
    gained."""
    lines, last, marked = _next_rows(db, stream_id << STREAM_BITS)
    if not lines:
        return 0
    places = [*[line.at for line in lines], last + 1]
    counts = [end - at for at, end in pairwise(places)]
    rows = [line.body for line in lines]
    body = zlib.compress("\n".join([dumps(counts), *rows]).encode())
    saved = sum([len(row.encode()) for row in rows]) - len(body)
    if saved <= 0:
        return 0
    db.execute("INSERT INTO blocks VALUES(?,?,?,?)", (places[0], last, marked, body))
    db.execute("DELETE FROM facts WHERE at BETWEEN ? AND ?", (places[0], last))
    return saved


def _next_rows(db: Database, low: int) -> tuple[list[FactRow], int, bytes]:
    """The rows for the next block, the place of their last fact, and the mark of their last row.
    Ends before the first row that was altered: that one is left for `verify` to report."""
    last, marked = last_of_blocks(db, low)
    lines: list[FactRow] = []
    chars = 0
    rows = db.execute(
        # as bytes: what is no longer valid text cannot be compressed
        "SELECT at, CAST(body AS BLOB), mark FROM facts WHERE at BETWEEN ? AND ? ORDER BY at",
        (low, low | SEQ),
    )
    for at, body, mark_of in rows:
        if not isinstance(at, int) or not isinstance(body, bytes) or at != last + 1:
            break
        after = mark(marked, at, body)
        if mark_of != after or b"\n" in body:
            break
        try:
            line = FactRow(at, body.decode())
            last += length(line.body, at & SEQ, "")
        except (UnicodeDecodeError, JournalError):
            break
        marked = after
        lines.append(line)
        chars += len(line.body)
        if chars >= BLOCK_CHARS:
            break
    rows.close()
    return lines, last, marked


def last_of_blocks(db: Database, low: int) -> tuple[int, bytes]:
    """The place of the last fact in the blocks of the stream that begins at `low`, and the mark of
    its row; `low` and START if it has none."""
    row = one(
        db,
        "SELECT last, mark FROM blocks WHERE at BETWEEN ? AND ? ORDER BY at DESC LIMIT 1",
        low,
        low | SEQ,
    )
    match row:
        case None:
            return low, START
        case (int(last), bytes(marked)):
            return last, marked
        case _:
            raise JournalError("the journal's file is damaged: a block has no end")


class RowFinder:
    """Finds the row that contains a fact. Keeps the last decompressed block: look up several facts
    in order."""

    def __init__(self) -> None:
        self._lines: list[FactRow] = []
        self._end = 0
        """Place of the last fact in these rows."""

    def row(self, db: Database, at: int) -> FactRow | None:
        """The row that contains the fact at that place; None if it is missing or damaged."""
        if not (self._lines and self._lines[0].at <= at <= self._end):
            try:
                found = one(db, _SELECT_ROW, at, at >> STREAM_BITS << STREAM_BITS)
                if found is None or not isinstance(found[0], int) or not isinstance(found[2], int):
                    return None
                self._lines = rows_of(found[0], found[1], found[2])
            except (JournalError, UnicodeDecodeError):
                return None
            self._end = found[2]
        return self._lines[bisect_right(self._lines, at, key=_place) - 1]


def _place(line: FactRow) -> int:
    return line.at
