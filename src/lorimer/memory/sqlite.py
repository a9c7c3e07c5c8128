"""A memory in a SQLite file, found by full text (FTS5, ranked by BM25)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Final, TypeVar

from lorimer.core.errors import MemoryFailed
from lorimer.core.memory import MemoryItem
from lorimer.core.words import grams, words
from lorimer.core.world import World
from lorimer.journal.sqlite.database import (
    Database,
    Row,
    Rows,
    Value,
    number,
    transaction,
    use_wal,
)
from lorimer.journal.sqlite.file import SQLiteFile
from lorimer.memory.given import some_ids, some_items
from lorimer.tools.threads import StoreThread
from lorimer.world.real import RealWorld

T = TypeVar("T")

_VERSION: Final = 2
"""1 did not index `grams`."""
_MAX_WORDS: Final = 64
"""Of a query; what follows does not count."""
_SEARCH: Final = """
SELECT id, item.text, kind, time, session_id, importance, pinned, tags
FROM words JOIN item ON item.number = words.rowid
WHERE words MATCH ? AND scope = ? ORDER BY bm25(words), item.number DESC LIMIT ?
"""
_PINNED: Final = """
SELECT id, text, kind, time, session_id, importance, pinned, tags
FROM item WHERE scope = ? AND pinned ORDER BY importance DESC, time DESC, id LIMIT ?
"""
_INSERT: Final = """
INSERT INTO item (scope, id, text, kind, time, session_id, importance, pinned, tags)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number
"""
_FORGET: Final = "DELETE FROM item WHERE scope = ? AND id = ? RETURNING number"
_SCHEMA: Final = f"""
CREATE TABLE item (
  number INTEGER PRIMARY KEY, scope TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL,
  kind TEXT NOT NULL, time REAL NOT NULL, session_id TEXT NOT NULL, importance REAL NOT NULL,
  pinned INTEGER NOT NULL, tags TEXT NOT NULL, UNIQUE (scope, id)
);
CREATE INDEX pins ON item (scope, importance) WHERE pinned;
CREATE VIRTUAL TABLE words USING fts5 (text, content='', contentless_delete=1,
  tokenize='porter unicode61 remove_diacritics 2');
PRAGMA user_version = {_VERSION};
"""


class SQLiteMemory:
    """Items of one `scope` in one file, which several processes may use at once. The file is made
    when it is first used. Raises MemoryFailed for a file that cannot be used.

    threads: False does everything in line, for simulations; else it is done in a thread, one thing
    at a time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        scope: str = "default",
        world: World | None = None,
        threads: bool = True,
    ) -> None:
        self._scope = scope
        self._thread = StoreThread(world or RealWorld(), threads=threads)
        self._file = SQLiteFile(path, "memory", _prepare, MemoryFailed)

    async def put(self, items: Sequence[MemoryItem]) -> None:
        """As in the port."""
        given = some_items(items)
        await self._write(lambda db: self._put(db, given))

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        """As in the port."""
        asked = " OR ".join([f'"{word}"' for word in [*dict.fromkeys(words(query))][:_MAX_WORDS]])
        if not asked:
            return []
        return await self._read(_SEARCH, (asked, self._scope, limit))

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        """As in the port."""
        return await self._read(_PINNED, (self._scope, limit))

    async def remove(self, ids: Sequence[str]) -> int:
        """As in the port."""
        given = {*some_ids(ids)}
        return await self._write(lambda db: sum([self._remove(db, each) for each in given]))

    async def close(self) -> None:
        """Close the file. It is opened again when it is used again."""
        await self._thread.run(self._file.close)

    async def _read(self, sql: str, values: Sequence[Value]) -> list[MemoryItem]:
        look = partial(self._file.read, lambda db: _items(db.execute(sql, values)))
        return await self._thread.run(look)

    async def _write(self, work: Callable[[Database], T]) -> T:
        return await self._thread.run(partial(self._file.write, work))

    def _put(self, db: Database, items: Sequence[MemoryItem]) -> None:
        for item in items:
            self._remove(db, item.id)
            row = (
                self._scope,
                item.id,
                item.text,
                item.kind,
                item.time,
                item.session_id,
                item.importance,
                int(item.pinned),
                "\n".join(item.tags),
            )
            _index(db, number(db, _INSERT, *row), " ".join([item.text, *item.tags]))

    def _remove(self, db: Database, item_id: str) -> int:
        gone = number(db, _FORGET, self._scope, item_id)
        if gone:
            db.execute("DELETE FROM words WHERE rowid = ?", (gone,))
        return int(gone > 0)


def _prepare(db: Database, path: str) -> None:
    use_wal(db)
    db.execute("PRAGMA synchronous=NORMAL")
    with transaction(db):
        version = number(db, "PRAGMA user_version")
        if not version and not number(db, "SELECT count(*) FROM sqlite_schema"):
            db.execute(_SCHEMA)
        elif version == 1:
            _index_grams(db)
        elif version != _VERSION:
            raise MemoryFailed(
                f"{path!r} is no memory of this version of lorimer (format {version}).",
                hint="Give another file, or use the version that made it.",
            )


def _index(db: Database, at: int, text: str) -> None:
    searched = " ".join([text, *grams(text)])
    db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (at, searched))


def _index_grams(db: Database) -> None:
    for at, text, tags in [*db.execute("SELECT number, text, tags FROM item")]:
        told = f"{text} {tags}"
        if grams(told) and isinstance(at, int):
            db.execute("DELETE FROM words WHERE rowid = ?", (at,))
            _index(db, at, told)
    db.execute(f"PRAGMA user_version = {_VERSION}")


def _items(rows: Rows) -> list[MemoryItem]:
    return [_item(row) for row in rows]


def _item(row: Row) -> MemoryItem:
    item_id, text, kind, time, session_id, importance, pinned, tags = row
    return MemoryItem(
        str(item_id),
        str(text),
        str(kind),
        _finite(time, 0.0),
        str(session_id),
        _finite(importance, 0.5),
        bool(pinned),
        tuple(str(tags).split("\n")) if tags else (),
    )


def _finite(value: Value, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and isfinite(value) else otherwise
