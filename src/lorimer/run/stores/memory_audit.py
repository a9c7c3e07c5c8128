"""An audit in memory: for tests, and for hosts that only want to look back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import cast

from lorimer.core.errors import StoreFailed
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.run.audit.chain import Head, Row, Sealer, Verdict
from lorimer.run.audit.log import AuditQuery
from lorimer.run.audit.port import AuditStart


@record
class _Entry:
    row: Row
    time: float
    found_by: AuditQuery

    def fits(self, wanted: AuditQuery) -> bool:
        mine = self.found_by
        return (
            wanted.kind in ("", mine.kind)
            and wanted.run_id in ("", mine.run_id)
            and wanted.caller_id in ("", mine.caller_id)
            and wanted.subject in ("", mine.subject)
            and wanted.parent_run_id in ("", mine.parent_run_id)
        )


class MemoryAudit:
    """An `AuditStore`. It grows until it is purged."""

    files: tuple[Path, ...] = ()

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[_Entry] = []
        self._of_run: dict[str, list[_Entry]] = {}
        """The same, by run."""
        self._head: Head | None = None

    def append(self, bodies: Sequence[bytes], sealer: Sealer) -> None:
        """See the port."""
        with self._lock:
            self._append(bodies, sealer)

    def purge(self, before: float, note: Callable[[Row], bytes], sealer: Sealer) -> int:
        """See the port."""
        with self._lock:
            late = {each.found_by.run_id for each in self._entries if each.time >= before} - {""}
            gone = 0
            for each in self._entries:
                if each.time >= before or each.found_by.run_id in late:
                    break
                gone += 1
            if gone:
                last = self._entries[gone - 1].row
                body = note(last)
                self._append([body], sealer, last)
                del self._entries[:gone]
                self._of_run = {}
                for each in self._entries:
                    self._of_run.setdefault(each.found_by.run_id, []).append(each)
            return gone

    def find(self, wanted: AuditQuery, limit: int) -> Sequence[bytes]:
        """See the port."""
        with self._lock:
            found: list[bytes] = []
            closed: set[str] = set()
            known = self._of_run.get(wanted.run_id, []) if wanted.run_id else self._entries
            for each in reversed(known):
                if len(found) >= limit:
                    break
                run_id = each.found_by.run_id
                if each.found_by.kind == "close":
                    closed.add(run_id)
                if each.fits(wanted) and not (wanted.unfinished and run_id in closed):
                    found.append(each.row.body)
            return found

    def head(self) -> Head | None:
        """See the port."""
        return self._head

    def check(self, judge: Callable[[Iterable[Row], Head | None], Verdict]) -> Verdict:
        """See the port."""
        with self._lock:
            rows, head = [each.row for each in self._entries], self._head
        return judge(rows, head)

    def close(self) -> None:
        """Nothing is open."""

    def _append(self, bodies: Sequence[bytes], sealer: Sealer, purged: Row | None = None) -> None:
        if self._head is not None and not sealer.fits(self._head):
            raise StoreFailed("the audit is written with another key")
        head = self._head or Head()
        last = Row(head.count, b"", head.hash)
        for body in bodies:
            last = sealer.row(last.hash, last.seq + 1, body)
            entry = _entry(last)
            self._entries.append(entry)
            self._of_run.setdefault(entry.found_by.run_id, []).append(entry)
        self._head = sealer.head(last, head, purged)


def _entry(row: Row) -> _Entry:
    match cast(JSON, json.loads(row.body)):
        case {
            "kind": "start",
            "run": str(run),
            "time": int() | float() as time,
            "data": dict(data),
        }:
            start = AuditStart.from_json(data)
            found_by = AuditQuery("start", run, start.caller_id, start.subject, start.parent_run_id)
        case {"kind": str(kind), "run": str(run), "time": int() | float() as time}:
            found_by = AuditQuery(kind, run)
        case _:
            raise StoreFailed("this is not a record of an audit")
    return _Entry(row, time, found_by)
