"""An audit in a SQLite file, which several processes may write to at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import apsw

from lorimer.core.errors import StoreFailed
from lorimer.journal.sqlite.database import Database, number, one
from lorimer.journal.sqlite.database import Row as DatabaseRow
from lorimer.run.audit.chain import Head, Row, Sealer, Verdict
from lorimer.run.audit.log import AuditQuery
from lorimer.run.stores.tables import damage, store_file

_HEAD: Final = "SELECT count, hash, purged, purged_hash, seal FROM audit_head"
_SET_HEAD: Final = "INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?, ?, ?, ?)"
# as bytes: the caller has to report a body that is no longer valid text
_ROWS: Final = "SELECT seq, CAST(body AS BLOB), hash FROM audit ORDER BY seq"
_ROW: Final = "SELECT seq, CAST(body AS BLOB), hash FROM audit WHERE seq = ?"
_COUNT: Final = "SELECT count(*) FROM audit"
_INSERT: Final = "INSERT INTO audit (seq, body, hash) VALUES (?, ?, ?)"
_UNFINISHED: Final = """NOT EXISTS (SELECT 1 FROM audit AS later
  WHERE later.run = audit.run AND later.kind = 'close' AND later.seq > audit.seq)"""
_KEPT: Final = """SELECT min(seq) FROM audit WHERE time >= ?1
  OR run <> '' AND run IN (SELECT run FROM audit WHERE time >= ?1)"""


class SQLiteAudit:
    """An `AuditStore`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = store_file(path)
        self.files = self._file.files
        """The files of the store, which tools must not see."""

    def append(self, bodies: Sequence[bytes], sealer: Sealer) -> None:
        """See the port."""
        self._file.write(lambda db: _append(db, _fitting(db, sealer), bodies, sealer))

    def purge(self, before: float, note: Callable[[Row], bytes], sealer: Sealer) -> int:
        """See the port."""

        def cut(db: Database) -> int:
            head = _fitting(db, sealer)
            kept = number(db, _KEPT, before) or head.count + 1
            found = one(db, _ROW, kept - 1)
            if found is None:
                return 0
            last = _row(found)
            db.execute("DELETE FROM audit WHERE seq <= ?", (last.seq,))
            gone = db.changes()
            _append(db, head, [note(last)], sealer, last)
            return gone

        return self._file.write(cut)

    def find(self, wanted: AuditQuery, limit: int) -> Sequence[bytes]:
        """See the port."""
        asked = {
            "kind = ?": wanted.kind,
            "run = ?": wanted.run_id,
            "subject = ?": wanted.subject,
            "caller = ?": wanted.caller_id,
            "parent = ?": wanted.parent_run_id,
        }
        parts = [part for part, value in asked.items() if value]
        where = " AND ".join([*parts, *([_UNFINISHED] if wanted.unfinished else [])]) or "1"
        sql = f"SELECT CAST(body AS BLOB) FROM audit WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - of fixed parts
        values = (*filter(None, asked.values()), limit)
        return self._file.read(lambda db: [_blob(body) for (body,) in db.execute(sql, values)])

    def head(self) -> Head | None:
        """See the port."""
        return self._file.read(_head)

    def check(self, judge: Callable[[Iterable[Row], Head | None], Verdict]) -> Verdict:
        """See the port."""

        def look(db: Database) -> Verdict:
            verdict = judge(self._rows(db), _head(db))
            if not verdict.ok:
                return verdict
            try:
                what = damage(db)
            except apsw.Error as error:
                what = str(error)
            return Verdict(verdict.records, 0, f"the file is damaged: {what}") if what else verdict

        return self._file.read(look)

    def close(self) -> None:
        """See the port."""
        self._file.close()

    def _rows(self, db: Database) -> Iterator[Row]:
        try:
            for found in db.execute(_ROWS):
                yield _row(found)
        except apsw.Error as error:
            raise self._file.failed(error) from error


def _append(
    db: Database, head: Head, bodies: Sequence[bytes], sealer: Sealer, purged: Row | None = None
) -> None:
    last = Row(head.count, b"", head.hash)
    for body in bodies:
        last = sealer.row(last.hash, last.seq + 1, body)
        db.execute(_INSERT, (last.seq, body.decode(), last.hash))
    made = sealer.head(last, head, purged)
    db.execute(_SET_HEAD, (made.count, made.hash, made.purged, made.purged_hash, made.seal))


def _fitting(db: Database, sealer: Sealer) -> Head:
    head = _head(db)
    if head is None and number(db, _COUNT) == 0:
        return Head()
    if head is not None and sealer.fits(head):
        return head
    raise StoreFailed(
        "the audit was changed, or is written with another key",
        hint="Verify it, and go on in another file.",
    )


def _head(db: Database) -> Head | None:
    match one(db, _HEAD):
        case None:
            return None
        case (int(count), bytes(last), int(purged), bytes(purged_hash), bytes(seal)):
            return Head(count, last, purged, purged_hash, seal)
        case _:
            return Head()  # fits no key


def _row(found: DatabaseRow) -> Row:
    seq, body, made = found
    return Row(seq if isinstance(seq, int) else 0, _blob(body), _blob(made))


def _blob(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
