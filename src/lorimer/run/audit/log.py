"""The shipped audit: records in a store, chained so that changes are detected, with queries by
caller, by subject and along the family of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

from lorimer.core.arguments import check_port
from lorimer.core.jsonable import JSON, canonical, dumps, fields_of
from lorimer.core.record import record
from lorimer.core.redaction import of_environment, veiled
from lorimer.core.world import World
from lorimer.run.audit.chain import Head, Row, Sealer, Verdict, verify
from lorimer.run.audit.port import AuditClose, AuditStart, AuditStep, AuditTool, RunAudit
from lorimer.run.audit.writer import Writer
from lorimer.tools.threads import StoreThread
from lorimer.world.real import RealWorld

T = TypeVar("T")

MAX_WAITING_BYTES: Final = 16_777_216
MAX_TEXT: Final = 20_000
"""Characters of one text, bytes of one object in a record; longer ones are cut."""


@record
class AuditRecord:
    """One record, as it was written."""

    kind: str
    """`start`, `step`, `tool`, `close`, `purged`, `lost`, or `log`."""
    run_id: str
    time: float
    """Wall clock, seconds."""
    data: Mapping[str, JSON]


@record
class AuditedRun:
    """What is known of a run: `close` is None while it is live, or if it died."""

    start: AuditStart
    close: AuditClose | None = None


@record
class AuditQuery:
    """A filter for records: all given conditions have to match."""

    kind: str = ""
    run_id: str = ""
    caller_id: str = ""
    subject: str = ""
    parent_run_id: str = ""
    unfinished: bool = False
    """Only starts of runs that have no `close` after it."""


class AuditStore(Protocol):
    """Where records are stored. Every method blocks, may be called from any thread, and raises
    StoreFailed. Shipped: `lorimer.run.stores`."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that hold the records, if any."""
        ...

    def append(self, bodies: Sequence[bytes], sealer: Sealer) -> None:
        """Append records, all or none, even if other processes do so at the same time. Also raises
        when the head does not fit the key."""
        ...

    def purge(self, before: float, note: Callable[[Row], bytes], sealer: Sealer) -> int:
        """Remove the first records, up to the first of any run that has one from `before` (seconds)
        or later; returns how many. If any were removed, the record that `note` makes of the last of
        them is appended in the same transaction."""
        ...

    def find(self, wanted: AuditQuery, limit: int) -> Sequence[bytes]:
        """The bodies of the matching records, newest first."""
        ...

    def head(self) -> Head | None:
        """None: nothing was ever written."""
        ...

    def check(self, judge: Callable[[Iterable[Row], Head | None], Verdict]) -> Verdict:
        """The verdict of `judge` on all rows and the head, as of one moment; if it finds nothing,
        any damage to the store's own structures."""
        ...

    def close(self) -> None:
        """Release resources. The store is reopened on the next use."""
        ...


class AuditLog:
    """An `Audit` in a store. Before anything is stored, secrets of the environment and `secrets`
    (value to name) are removed, and so are all texts whose argument name suggests a secret.

    key: with one, hashes cannot be forged without it (`chain.py`).
    threads: False writes inline, for simulations; else threads are used.
    max_waiting_bytes: limit of records that wait for the store; further ones are dropped, and their
    number is recorded.

    Raises ConfigError for a short key, and for an invalid store.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        key: bytes | None = None,
        secrets: Mapping[str, str] | None = None,
        world: World | None = None,
        threads: bool = True,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        check_port("store", store, AuditStore, 'SQLiteAudit("audit.db")')
        self._store = store
        self._sealer = Sealer(key)
        self._redactor = of_environment(secrets or {})
        self._world = world or RealWorld()
        self._thread = StoreThread(self._world, threads=threads)
        self._writer = Writer(
            lambda bodies: store.append(bodies, self._sealer),
            lambda count: self._body("lost", "", {"count": count}),
            world=self._world,
            threads=threads,
            max_waiting_bytes=max_waiting_bytes,
        )

    @property
    def files(self) -> Sequence[Path]:
        """The files of the store, which tools must not see. An executor hides them from its
        runs."""
        return self._store.files

    async def start(self, start: AuditStart) -> RunAudit:
        """See the port."""
        run = _Recorder(self._writer, partial(self._body, run_id=start.run_id))
        try:
            await self._writer.keep(self._body("start", start.run_id, start.to_json()))
        except BaseException:  # it may still be written, and the caller will not report its end
            run.lost()
            raise
        return run

    async def runs(
        self,
        *,
        caller_id: str = "",
        subject: str = "",
        unfinished: bool = False,
        limit: int = 50,
    ) -> list[AuditedRun]:
        """The newest runs, newest first: all, or those of a caller, of a subject, or of both.
        `unfinished`: only those whose end was not recorded yet."""
        wanted = AuditQuery("start", caller_id=caller_id, subject=subject, unfinished=unfinished)
        return await self._ask(lambda: self._runs(wanted, limit))

    async def last(self, subject: str) -> AuditedRun | None:
        """The newest run of a subject."""
        found = await self.runs(subject=subject, limit=1) if subject else []
        return found[0] if found else None

    async def run(self, run_id: str) -> AuditedRun | None:
        """That run; None if unknown."""
        if not run_id:
            return None
        found = await self._ask(lambda: self._runs(AuditQuery("start", run_id), 1))
        return found[0] if found else None

    async def children(self, run_id: str, *, limit: int = 1_000) -> list[AuditedRun]:
        """The runs that it started, newest first."""
        if not run_id:
            return []
        wanted = AuditQuery("start", parent_run_id=run_id)
        return await self._ask(lambda: self._runs(wanted, limit))

    async def ancestors(self, run_id: str) -> list[AuditedRun]:
        """Its parent, the parent of that, and so on, without repetitions whatever the records
        say."""

        def walk() -> list[AuditedRun]:
            found: list[AuditedRun] = []
            seen = {""}
            at = run_id
            while at not in seen:
                seen.add(at)
                here = self._runs(AuditQuery("start", at), 1)
                if not here:
                    break
                found += here
                at = here[0].start.parent_run_id
            return found[1:]

        return await self._ask(walk)

    async def records(
        self, run_id: str = "", *, kind: str = "", limit: int = 10_000
    ) -> list[AuditRecord]:
        """The records of a run, of a kind, or all, in order; above `limit`, the last ones."""
        wanted = AuditQuery(kind, run_id)
        found = await self._ask(lambda: self._store.find(wanted, limit))
        return [_record(body) for body in reversed(found)]

    async def head(self) -> Head | None:
        """Where the records end. Its line (`told`), kept elsewhere, reveals a log that was restored
        as a whole."""
        return await self._ask(self._store.head)

    async def verify(self, known: str = "") -> Verdict:
        """Check that the records are those that were written, and continue from the head `known`.
        Raises ConfigError for a line that is not a head."""
        return await self._ask(
            lambda: self._store.check(lambda rows, head: verify(rows, head, self._sealer, known))
        )

    async def purge(self, before: float, *, by: str = "") -> int:
        """Remove what is older than `before` (wall clock, seconds); returns the number of records.

        Only the first records are removed, and a run that has a record from then on loses none: the
        chain continues from the hash of the last one removed, which the sealed head contains. The
        purge is itself recorded: by whom, and how far.
        """

        def note(last: Row) -> bytes:
            data = {"through": last.seq, "hash": last.hash.hex(), "before": before, "by": by}
            return self._body("purged", "", data)

        return await self._ask(lambda: self._store.purge(before, note, self._sealer))

    async def close(self) -> None:
        """Write what is pending, and close the store. Raises StoreFailed."""
        try:
            await self._writer.flushed()
        finally:
            await self._thread.run(self._store.close)

    async def _ask(self, work: Callable[[], T]) -> T:
        await self._writer.flushed()  # queries include what was recorded before
        return await self._thread.run(work)

    def _runs(self, wanted: AuditQuery, limit: int) -> list[AuditedRun]:
        found: dict[str, AuditedRun] = {}
        for body in self._store.find(wanted, limit):
            begun = _record(body)
            start = AuditStart.from_json(begun.data)
            if start.run_id in found:  # it was resumed, so it has two starts
                continue
            if wanted.unfinished:
                found[start.run_id] = AuditedRun(start)
                continue
            ends = self._store.find(AuditQuery("close", start.run_id), 1)
            # by order, as clocks are set back; with two starts, the end may be that of the first
            if ends and self._store.find(AuditQuery("start", start.run_id, unfinished=True), 1):
                ends = ()
            last = [AuditClose.from_json(_record(end).data) for end in ends]
            found[start.run_id] = AuditedRun(start, last[0] if last else None)
        return list(found.values())

    def _body(self, kind: str, run_id: str, data: Mapping[str, JSON]) -> bytes:
        said = {name: veiled(_plain(value)) for name, value in data.items()}
        if self._redactor is not None:
            said = self._redactor.json(said, deep=True)
        said = {name: _cut(value) for name, value in said.items()}
        whole = {"kind": kind, "run": run_id, "time": self._world.time(), "data": said}
        return _bytes(whole)


class _Recorder:
    """The records of one run."""

    def __init__(self, writer: Writer, body: _Body) -> None:
        self._writer = writer
        self._body = body

    def step(self, step: AuditStep) -> None:
        self._writer.put(self._body("step", data=step.to_json()))

    def tool(self, call: AuditTool) -> None:
        self._writer.put(self._body("tool", data=call.to_json()))

    def log(self, event: str, data: Mapping[str, JSON]) -> None:
        self._writer.put(self._body("log", data={"event": event, "data": data}))

    def lost(self) -> None:
        """Nobody will report how it ended."""
        end = AuditClose("unknown", error="the audit could not be told how this run went on")
        self._writer.put(self._body("close", data=end.to_json()))

    async def close(self, end: AuditClose) -> None:
        await self._writer.keep(self._body("close", data=end.to_json()))


class _Body(Protocol):
    def __call__(self, kind: str, /, *, data: Mapping[str, JSON]) -> bytes: ...


def _record(body: bytes) -> AuditRecord:
    """Stored records are untrusted: anything that is not a record is read as an empty one."""
    try:
        whole = cast(JSON, json.loads(body))
        dumps(whole)  # not of 1e999, which json.loads reads as infinite
        match whole:
            case {"kind": str(kind), "run": str(run), "time": int() | float() as at, "data": data}:
                return AuditRecord(kind, run, float(at), fields_of(data))
            case _:
                pass
    except (ValueError, OverflowError, RecursionError):
        pass
    return AuditRecord("damaged", "", 0.0, {})


def _bytes(value: JSON) -> bytes:
    return canonical(value).decode("utf-8", "replace").encode()


def _plain(value: JSON) -> JSON:
    """The value; if it is not JSON, despite its type, a note that says so."""
    if value is None or isinstance(value, str | int):
        return value
    try:
        canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        return {"not_json": str(error)}
    return value


def _cut(value: JSON) -> JSON:
    """The value, or the beginning of a large one."""
    if isinstance(value, str):
        more = len(value) - MAX_TEXT
        return value if more <= 0 else f"{value[:MAX_TEXT]} [{more} characters more]"
    if not isinstance(value, Mapping | list | tuple):
        return value
    body = _bytes(value)
    if len(body) <= MAX_TEXT:
        return value
    return {"cut_bytes": len(body), "begin": body[:MAX_TEXT].decode("utf-8", "replace")}
