"""What is removed from the tables of a journal file, and the file made small again."""

from __future__ import annotations

import apsw

from lorimer.core.errors import JournalError
from lorimer.journal.codec import Place, decode, micros
from lorimer.journal.database import Database, number, one
from lorimer.journal.rows import whole
from lorimer.journal.schema import MEMORY, STREAM_BITS, open_for_writing


def drop_stream(db: Database, stream: str, before: float, now: float) -> bool:
    """See Journal.drop. The stream's row stays, with a higher epoch: whoever held the stream
    long ago must not take a new one of that name for it."""
    row = one(db, "SELECT id, owner, lease_until FROM streams WHERE name=?", stream)
    if row is None or (row[1] is not None and whole(row[2]) > micros(now)):
        return False
    stream_id = whole(row[0])
    runs = number(db, "SELECT count(*) FROM runs WHERE stream=?", stream_id)
    stays = number(
        db,
        "SELECT count(*) FROM runs WHERE stream=? AND (ended IS NULL OR ended>=?)",
        stream_id,
        micros(before),
    )
    if not runs or stays:
        return False
    low = stream_id << STREAM_BITS
    db.execute(
        "DELETE FROM ledger WHERE account IN (SELECT run_id FROM runs WHERE stream=?)", (stream_id,)
    )
    db.execute("DELETE FROM facts WHERE at BETWEEN ? AND ?", (low, low | (1 << STREAM_BITS) - 1))
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
    named: set[str] = set()
    for run_id, stream, first in list(db.execute("SELECT run_id, stream, first FROM runs")):
        manifest = _manifest(db, str(run_id), whole(stream) << STREAM_BITS | whole(first))
        if manifest is None:
            return 0  # damaged: nothing is removed that it may have named
        named.add(manifest)
        named.add(str(run_id))
    digests = [str(row[0]) for row in db.execute("SELECT digest FROM documents")]
    unused = [digest for digest in digests if digest.rpartition(":")[2] not in named]
    for digest in unused:
        db.execute("DELETE FROM documents WHERE digest=?", (digest,))
    return len(unused)


def _manifest(db: Database, run_id: str, at: int) -> str | None:
    """What the run.start at that place names; None: it is not there."""
    row = one(
        db,
        "SELECT at, body FROM facts WHERE at BETWEEN ? AND ? ORDER BY at DESC LIMIT 1",
        at >> STREAM_BITS << STREAM_BITS,
        at,
    )
    if row is None:
        return None
    try:
        facts, _ = decode(row[1], Place(), 1, run_id)
    except JournalError:
        return None
    starts = [fact for fact in facts if fact.type == "run.start" and fact.run_id == run_id]
    return str(starts[0].data.get("manifest", "")) if starts else None


def space(db: Database) -> tuple[int, int]:
    """Bytes of the database, and how many of them are free."""
    page = number(db, "PRAGMA page_size")
    return number(db, "PRAGMA page_count") * page, number(db, "PRAGMA freelist_count") * page


def compact(path: str, vfs: str | None) -> None:
    """Write the file anew without its free pages. Blocks; other writers wait. Raises apsw.Error,
    JournalError."""
    if path == MEMORY:
        return
    db = open_for_writing(path, vfs)
    try:
        db.execute("VACUUM")
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
