"""Saved agents in a SQLite file, which several processes may use at once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Final, cast

from lorimer.core.errors import ConfigError, StoreFailed
from lorimer.core.jsonable import JSON, canonical
from lorimer.journal.sqlite.database import Database, Rows, number
from lorimer.run.saved.agent import SavedAgent
from lorimer.run.stores.tables import store_file
from lorimer.tools.policy.people import Person

_VERSION: Final = "SELECT version FROM agents WHERE owner = ? AND name = ? AND present"
_PAST: Final = "UPDATE agents SET present = 0 WHERE owner = ? AND name = ? AND present"
_INSERT: Final = "INSERT INTO agents (body, present) VALUES (?, 1)"
_DELETE: Final = "DELETE FROM agents WHERE owner = ? AND name = ?"
_PRESENT: Final = "SELECT body FROM agents WHERE owner = ? AND name = ? AND present"
_ONE: Final = "SELECT body FROM agents WHERE owner = ? AND name = ? AND version = ?"
_ALL: Final = "SELECT body FROM agents WHERE owner = ? AND name = ? ORDER BY version DESC LIMIT ?"
_VISIBLE: Final = """
SELECT body FROM agents WHERE present AND (owner = ?1 OR visibility = 'public'
  OR visibility = 'shared' AND EXISTS (
    SELECT 1 FROM json_each(body, '$.shared_with') AS named, json_each(?2) AS theirs
    WHERE named.value = theirs.value))
ORDER BY owner, name LIMIT ?3
"""


class SQLiteAgents:
    """A `SavedStore`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = store_file(path)
        self.files = self._file.files
        """The files of the store, which tools must not see."""

    def put(self, agent: SavedAgent) -> bool:
        """See the port."""
        body = canonical(agent.to_json()).decode()

        def swap(db: Database) -> bool:
            if number(db, _VERSION, agent.owner, agent.name) != agent.version - 1:
                return False
            db.execute(_PAST, (agent.owner, agent.name))
            db.execute(_INSERT, (body,))
            return True

        return self._file.write(swap)

    def delete(self, owner: str, name: str) -> bool:
        """See the port."""

        def gone(db: Database) -> bool:
            db.execute(_DELETE, (owner, name))
            return db.changes() > 0

        return self._file.write(gone)

    def get(self, owner: str, name: str, version: int | None = None) -> SavedAgent | None:
        """See the port."""
        if version is None:
            found = self._read(_PRESENT, owner, name)
        else:
            found = self._read(_ONE, owner, name, version)
        return found[0] if found else None

    def versions(self, owner: str, name: str, limit: int) -> Sequence[SavedAgent]:
        """See the port."""
        return self._read(_ALL, owner, name, limit)

    def visible(self, person: Person, limit: int) -> Sequence[SavedAgent]:
        """See the port."""
        theirs = canonical([person.name, *[f"@{role}" for role in sorted(person.roles)]])
        return self._read(_VISIBLE, person.name, theirs.decode(), limit)

    def close(self) -> None:
        """See the port."""
        self._file.close()

    def _read(self, sql: str, *values: str | int) -> list[SavedAgent]:
        return self._file.read(lambda db: self._agents(db.execute(sql, values)))

    def _agents(self, rows: Rows) -> list[SavedAgent]:
        found: list[SavedAgent] = []
        for (body,) in rows:
            try:  # stored data is untrusted
                data = cast(JSON, json.loads(str(body)))
                if not isinstance(data, dict):
                    raise ValueError("it is not an object")
                found.append(SavedAgent.from_json(data))
            except (ValueError, RecursionError, ConfigError) as error:
                raise StoreFailed(
                    f"the store {self._file.path} holds an agent that cannot be read: {error}"
                ) from error
        return found
