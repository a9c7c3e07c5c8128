"""Retention in a journal file: streams are removed or compressed, documents swept, and the file
shrunk."""

from __future__ import annotations

from contextlib import suppress

import apsw

from lorimer.core.errors import JournalError
from lorimer.journal.codec import Place, decode, micros
from lorimer.journal.sqlite import purse_tables
from lorimer.journal.sqlite.blocks import SEQ, FactRow, RowFinder, compress
from lorimer.journal.sqlite.database import Database, number, one
from lorimer.journal.sqlite.faults import LOCKED
from lorimer.journal.sqlite.rows import begin_of, whole
from lorimer.journal.sqlite.schema import open_for_writing


def settled(db: Database, stream: str, before: float, now: float) -> int | None:
    """The number of a stream that nobody holds, all of whose runs ended before `before`; None
    otherwise, or if it has no runs."""
    row = one(db, "SELECT id, owner, lease_until FROM streams WHERE name=?", stream)
    if row is None or (row[1] is not None and whole(row[2]) > micros(now)):
        return None
    stream_id = whole(row[0])
    runs = number(db, "SELECT count(*) FROM runs WHERE stream=?", stream_id)
    stays = number(
        db,
        "SELECT count(*) FROM runs WHERE stream=? AND (ended IS NULL OR ended>=?)",
        stream_id,
        micros(before),
    )
    return stream_id if runs and not stays else None


def compact_step(db: Database, stream: str, before: float, now: float) -> int | None:
    """One step of Journal.compact: the next block. None: the stream is not settled."""
    stream_id = settled(db, stream, before, now)
    return compress(db, stream_id) if stream_id is not None else None


def drop_stream(db: Database, stream: str, before: float, now: float) -> bool:
    """See Journal.drop. The stream's row stays, with a higher epoch: an earlier holder of the
    stream must not mistake a new one of that name for it."""
    stream_id = settled(db, stream, before, now)
    if stream_id is None:
        return False
    low = begin_of(stream_id)
    purse_tables.forget_runs(stream_id, db)
    db.execute(
        "DELETE FROM ledger WHERE account IN (SELECT run_id FROM runs WHERE stream=?)", (stream_id,)
    )
    db.execute("DELETE FROM facts WHERE at BETWEEN ? AND ?", (low, low | SEQ))
    db.execute("DELETE FROM blocks WHERE at BETWEEN ? AND ?", (low, low | SEQ))
    db.execute("DELETE FROM runs WHERE stream=?", (stream_id,))
    db.execute("DELETE FROM snapshots WHERE stream=?", (stream_id,))
    db.execute("DELETE FROM inbox WHERE stream=?", (stream_id,))
    db.execute(
        "UPDATE streams SET epoch=epoch+1, owner=NULL, lease_until=0 WHERE id=?", (stream_id,)
    )
    return True


def sweep_documents(db: Database, now: float) -> int:
    """See Journal.sweep."""
    if number(
        db,
        "SELECT count(*) FROM streams WHERE owner IS NOT NULL AND lease_until>?",
        micros(now),
    ):
        return 0
    purse_tables.sweep(now, db)
    named: set[str] = set()
    finder = RowFinder()
    # in the order of their rows: each block is decompressed once
    runs = db.execute("SELECT run_id, stream, first FROM runs ORDER BY stream, first")
    for run_id, stream, first in list(runs):
        row = finder.row(db, begin_of(whole(stream)) | whole(first))
        manifest = _manifest(row, str(run_id))
        if manifest is None:
            return 0  # damaged: nothing is removed that it may refer to
        named.add(manifest)
        named.add(str(run_id))
    digests = [str(row[0]) for row in db.execute("SELECT digest FROM documents")]
    unused = [digest for digest in digests if digest.rpartition(":")[2] not in named]
    for digest in unused:
        db.execute("DELETE FROM documents WHERE digest=?", (digest,))
    return len(unused)


def _manifest(row: FactRow | None, run_id: str) -> str | None:
    """The manifest that the run.start in that row refers to; None: it is missing."""
    if row is None:
        return None
    try:
        facts, _ = decode(row.body, Place(), 1, run_id)
    except JournalError:
        return None
    starts = [fact for fact in facts if fact.type == "run.start" and fact.run_id == run_id]
    return str(starts[0].data.get("manifest", "")) if starts else None


def space(db: Database) -> tuple[int, int]:
    """Bytes of the database, and how many of them are free."""
    page = number(db, "PRAGMA page_size")
    return number(db, "PRAGMA page_count") * page, number(db, "PRAGMA freelist_count") * page


def vacuum(path: str, vfs: str | None) -> None:
    """Rewrite the file without its free pages. Blocks; other writers wait. Raises apsw.Error,
    JournalError."""
    db = open_for_writing(path, vfs)
    try:
        db.execute("VACUUM")
        with suppress(*LOCKED):  # other processes keep writing: one of them moves the log later
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
