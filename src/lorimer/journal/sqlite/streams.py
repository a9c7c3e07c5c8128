"""What is written to the streams of a journal file: claims and facts, each in the transaction begun
by `writer.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import apsw

from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry, RunRow
from lorimer.core.world import World
from lorimer.journal.chain import mark
from lorimer.journal.codec import encode, micros
from lorimer.journal.projection import RUN_KINDS, TAKING, refuse_claim, refuse_epoch, taken_by
from lorimer.journal.sqlite import inbox, purse_tables
from lorimer.journal.sqlite.database import Database, one
from lorimer.journal.sqlite.rows import Head, load_head, projected, run_values, whole
from lorimer.journal.sqlite.schema import STREAM_BITS
from lorimer.journal.sqlite.work import Work

# The epoch is checked by the insert itself: a stale one finds no stream and changes nothing.
_INSERT_FACTS: Final = "INSERT INTO facts SELECT ?,?,? FROM streams WHERE id=? AND epoch=?"
_UPSERT_RUN: Final = """
    INSERT INTO runs VALUES(NULL,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(run_id) DO UPDATE SET
    status=excluded.status, ended=excluded.ended, iterations=excluded.iterations,
    cost=excluded.cost, code=excluded.code"""

MOST_HEADS: Final = 16_384
"""Streams that are cached: about 10 MB. Not every host releases what it has claimed."""


class Streams:
    """Caches the head of each stream that this process writes to, so that an append reads nothing;
    at most MOST_HEADS, the newest. Its methods raise JournalError or LimitError before their first
    write or not at all."""

    __slots__ = ("_heads", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._heads: dict[str, Head] = {}

    def forget(self) -> None:
        """A transaction was rolled back: what was cached from it is void."""
        self._heads.clear()

    def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        ledger: LedgerEntry | None,
        db: Database,
    ) -> int:
        head = self._heads.get(stream)
        if head is None or head.epoch != epoch:
            head = load_head(db, stream)
            if head is None or head.epoch != epoch:
                raise refuse_epoch(stream)
        if ledger is not None and ledger.purses:
            purse_tables.check(ledger, self._world.time(), db)
        body, place = encode(facts, head.place)
        runs: Sequence[RunRow] = ()
        taken: list[str] = []
        open_run = head.run
        for fact in facts:
            if fact.type in RUN_KINDS and not runs:
                runs, open_run = projected(db, stream, head, facts)
            if fact.type in TAKING:
                taken += taken_by(fact)
        at = head.stream_id << STREAM_BITS | (head.seq + 1)
        marked = mark(head.mark, at, body.encode())
        try:
            db.write(_INSERT_FACTS, (at, body, marked, head.stream_id, epoch))
        except apsw.ConstraintError:  # two writers with the same owner name
            raise refuse_epoch(stream) from None
        if db.changes() != 1:
            raise refuse_epoch(stream)
        for run in runs:
            db.write(_UPSERT_RUN, run_values(head.stream_id, run))
        if ledger is not None:
            values = (ledger.account, ledger.reserved, ledger.spent)
            db.write(purse_tables.UPSERT_LEDGER, values)
            if ledger.purses:
                purse_tables.apply(ledger, self._world.time(), db)
        if taken:
            inbox.take(head.stream_id, taken, db)
        head.seq += len(facts)
        head.place, head.run, head.mark = place, open_run, marked
        heads = self._heads
        if len(heads) >= MOST_HEADS and stream not in heads:
            del heads[next(iter(heads))]
        heads[stream] = head  # if a later step fails, `forget` is called
        return head.seq

    def claim(self, stream: str, owner: str, ttl: float, db: Database) -> int:
        now = self._world.time()
        until = micros(now + ttl)
        row = one(db, "SELECT epoch, owner, lease_until FROM streams WHERE name=?", stream)
        if row is None:
            db.execute("INSERT INTO streams VALUES(NULL,?,1,?,?)", (stream, owner, until))
            return 1
        epoch, holder, lease = whole(row[0]), row[1], whole(row[2])
        if holder != owner:
            if holder is not None and lease > micros(now):
                raise refuse_claim(stream, str(holder), lease / 1e6, now)
            epoch += 1
        db.execute(
            "UPDATE streams SET epoch=?, owner=?, lease_until=? WHERE name=?",
            (epoch, owner, until, stream),
        )
        return epoch

    def renew(self, stream: str, epoch: int, ttl: float, db: Database) -> None:
        db.execute(
            "UPDATE streams SET lease_until=? WHERE name=? AND epoch=? AND owner IS NOT NULL",
            (micros(self._world.time() + ttl), stream, epoch),
        )
        if db.changes() != 1:
            raise refuse_epoch(stream)

    def release(self, stream: str, epoch: int, db: Database) -> None:
        db.execute(
            "UPDATE streams SET owner=NULL, lease_until=0 WHERE name=? AND epoch=?",
            (stream, epoch),
        )
        self._heads.pop(stream, None)

    def dropped(self, stream: str) -> None:
        """The facts of the stream are about to be removed."""
        self._heads.pop(stream, None)


class Append(Work):
    """An append as a part of a transaction."""

    __slots__ = ("_epoch", "_facts", "_grew", "_ledger", "_stream", "_streams", "last")

    def __init__(
        self,
        streams: Streams,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        ledger: LedgerEntry | None,
        sync: bool,
        grew: Callable[[str], None],
    ) -> None:
        """`grew` is called with the stream once the facts have their numbers."""
        super().__init__(stream, sync)
        self._streams = streams
        self._stream = stream
        self._epoch = epoch
        self._facts = facts
        self._ledger = ledger
        self._grew = grew
        self.last = 0
        """Number of the last fact."""

    def perform(self, db: Database) -> None:
        self.last = self._streams.append(self._stream, self._epoch, self._facts, self._ledger, db)

    def succeeded(self) -> None:
        facts = self._facts
        seq = self.last - len(facts)
        for fact in facts:
            seq += 1
            fact.seq = seq
        self._grew(self._stream)
