"""The SQLite file of the kernel's stores: its tables and their version.

audit        one record per row, chained; columns for queries are computed from the body
audit_head   where the records end (`run/audit/chain.py`), in one row
agents       saved agents in all their versions; present: it is the current one
"""

from __future__ import annotations

import os
from typing import Final

from lorimer.core.errors import StoreFailed
from lorimer.journal.sqlite.database import Database, is_ours, number, transaction, use_wal
from lorimer.journal.sqlite.file import SQLiteFile

APPLICATION_ID: Final = 0x4C6F726B  # "Lork"
VERSION: Final = 1
TABLES: Final[tuple[str, ...]] = (
    """CREATE TABLE audit(seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL,
  kind TEXT AS (json_extract(body, '$.kind')), run TEXT AS (json_extract(body, '$.run')),
  time REAL AS (json_extract(body, '$.time')),
  subject TEXT AS (iif(kind = 'start', json_extract(body, '$.data.subject'), NULL)),
  caller TEXT AS (iif(kind = 'start', json_extract(body, '$.data.caller_id'), NULL)),
  parent TEXT AS (iif(kind = 'start', json_extract(body, '$.data.parent_run_id'), NULL))) STRICT""",
    "CREATE INDEX audit_run ON audit(run, kind)",
    "CREATE INDEX audit_subject ON audit(subject) WHERE subject IS NOT NULL",
    "CREATE INDEX audit_caller ON audit(caller) WHERE caller IS NOT NULL",
    "CREATE INDEX audit_parent ON audit(parent) WHERE parent IS NOT NULL",
    """CREATE TABLE audit_head(one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL,
  hash BLOB NOT NULL, purged INTEGER NOT NULL, purged_hash BLOB NOT NULL, seal BLOB NOT NULL)
  STRICT""",
    """CREATE TABLE agents(body TEXT NOT NULL,
  owner TEXT NOT NULL AS (json_extract(body, '$.owner')) STORED,
  name TEXT NOT NULL AS (json_extract(body, '$.name')) STORED,
  version INTEGER NOT NULL AS (json_extract(body, '$.version')) STORED,
  visibility TEXT NOT NULL AS (json_extract(body, '$.visibility')),
  present INTEGER NOT NULL CHECK (present IN (0, 1)),
  UNIQUE (owner, name, version)) STRICT""",
    "CREATE UNIQUE INDEX agents_present ON agents(owner, name) WHERE present",
    "CREATE INDEX agents_visible ON agents(visibility) WHERE present",
)


def store_file(path: str | os.PathLike[str]) -> SQLiteFile:
    """The file at this path. It raises StoreFailed if it cannot be used."""
    return SQLiteFile(path, "store", _prepare, StoreFailed)


def _prepare(db: Database, path: str) -> None:
    if not is_ours(db, APPLICATION_ID):
        raise StoreFailed(
            f"{path} is a SQLite database, but not a store of the kernel",
            hint="Give another path, or move the file away.",
        )
    use_wal(db)
    # purged data is really gone; acknowledged data survives a power failure
    db.execute("PRAGMA secure_delete=1; PRAGMA synchronous=FULL")
    if number(db, "PRAGMA user_version") == 0:
        with transaction(db):
            if number(db, "PRAGMA user_version") == 0:  # checked again: nobody else has created it
                db.execute("; ".join(TABLES))
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={VERSION}")
    version = number(db, "PRAGMA user_version")
    if version != VERSION:
        raise StoreFailed(
            f"{path} was written by another version of lorimer (format {version}, this "
            f"one knows {VERSION})",
            hint="Update lorimer, or use another file.",
        )


def damage(db: Database) -> str:
    """Damage to the file apart from its rows; "": none."""
    made = {str(sql) for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")}
    if made != set(TABLES):
        return "its tables are not those that were made"
    found = [str(line) for (line,) in db.execute("PRAGMA integrity_check(1)")]
    return "" if found == ["ok"] else " ".join(found)
