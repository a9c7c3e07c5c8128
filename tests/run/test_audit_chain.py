"""Whatever is done to an audit's file behind its back shows, and where."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorimer.core.errors import ConfigError, StoreFailed
from lorimer.run.audit.chain import Head, Row, Sealer, Verdict, verify
from lorimer.run.audit.log import AuditQuery
from lorimer.run.audit.port import AuditStart
from lorimer.run.stores.memory_audit import MemoryAudit
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.testing import SimulatedWorld, simulate
from tests.run.support_audit import log_of, whole_run

MORE = 20 if os.environ.get("LORIMER_CAMPAIGN") else 1
KEY = b"a key of the host's"
RUNS = 6
PURGED = 5
"""Records that were taken out: those of the first run."""
FIRST, LAST = PURGED + 1, RUNS * 5 + 1
"""What is left: five of each run, and the one that tells of the purge."""
AT = st.integers(FIRST, LAST)


@dataclass
class Made:
    path: Path
    bytes: bytes
    rows: list[Row]
    head: Head
    key: bytes | None

    def verdict(self, known: str = "") -> Verdict:
        sealer = Sealer(self.key)
        store = SQLiteAudit(self.path)
        try:
            return store.check(lambda rows, head: verify(rows, head, sealer, known))
        finally:
            store.close()

    def put(self, data: bytes) -> None:
        """A file of those bytes, with nothing beside it."""
        for end in ("-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        self.path.write_bytes(data)

    def change(self, *statements: str) -> Verdict:
        """The verdict after that, on a file as it was made."""
        self.put(self.bytes)
        db = apsw.Connection(str(self.path))
        try:
            for statement in statements:
                db.execute(statement)
        finally:
            db.close()
        return self.verdict()


@pytest.fixture(scope="module", params=[None, KEY], ids=["no key", "key"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("audit") / "kernel.db"
    key = cast("bytes | None", request.param)

    async def main(world: SimulatedWorld) -> None:
        log = log_of(SQLiteAudit(path), world, key)
        for number in range(RUNS):
            await whole_run(log, AuditStart(f"r{number}", "agent", caller_id="bob"))
            await world.sleep(1)
        assert await log.purge(world.time() - RUNS + 0.5) == PURGED
        await log.close()

    simulate(main)
    store = SQLiteAudit(path)
    rows: list[Row] = []
    heads: list[Head | None] = []

    def take(found: Iterator[Row], head: Head | None) -> Verdict:
        rows.extend(found)
        heads.append(head)
        return Verdict(0)

    store.check(lambda found, head: take(iter(found), head))
    store.close()
    head = heads[0]
    assert head is not None and head.count == LAST and rows[0].seq == FIRST
    return Made(path, path.read_bytes(), rows, head, key)


def test_an_untouched_log_fits_also_a_head_that_was_kept(made: Made) -> None:
    made.put(made.bytes)
    assert made.verdict() == made.verdict(made.head.told()) == Verdict(LAST - PURGED)
    older = next(row for row in made.rows if row.seq == 9)
    assert made.verdict(f"9:{older.hash.hex()}").ok
    other = made.verdict(f"9:{'00' * 32}")
    assert (other.bad, other.records) == (9, 8 - PURGED)
    assert made.verdict(f"{LAST + 1}:{'00' * 32}").bad == LAST + 1  # it was put back
    with pytest.raises(ConfigError, match="not a head"):
        made.verdict("nonsense")


@settings(max_examples=10 * MORE)
@given(at=AT, where=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_of_a_record_names_it(made: Made, at: int, where: int, flip: int) -> None:
    row = made.rows[at - FIRST]
    stored = row.body + row.hash
    changed = bytearray(made.bytes)
    changed[made.bytes.index(stored) + where % len(stored)] ^= flip
    made.put(changed)
    verdict = made.verdict()
    assert (verdict.bad, verdict.records) == (at, at - FIRST)


@settings(max_examples=3 * MORE)
@given(at=AT)
def test_a_dropped_record_is_named(made: Made, at: int) -> None:
    assert made.change(f"DELETE FROM audit WHERE seq = {at}").bad == at
    if at > FIRST:  # and what came after it moved up
        closed = f"UPDATE audit SET seq = seq - 1 WHERE seq > {at}"
        verdict = made.change(f"DELETE FROM audit WHERE seq = {at}", closed)
        assert verdict.bad == at


@settings(max_examples=3 * MORE)
@given(at=AT)
def test_dropped_last_records_are_noticed(made: Made, at: int) -> None:
    assert made.change(f"DELETE FROM audit WHERE seq >= {at}").bad == at


@settings(max_examples=3 * MORE)
@given(at=AT)
def test_dropped_first_records_are_noticed(made: Made, at: int) -> None:
    assert made.change(f"DELETE FROM audit WHERE seq <= {at}").bad == FIRST


@settings(max_examples=3 * MORE)
@given(pair=st.lists(AT, min_size=2, max_size=2, unique=True))
def test_two_swapped_records_are_named_by_the_first(made: Made, pair: list[int]) -> None:
    one, two = sorted(pair)
    swap = [
        f"UPDATE audit SET seq = -1 WHERE seq = {one}",
        f"UPDATE audit SET seq = {one} WHERE seq = {two}",
        f"UPDATE audit SET seq = {two} WHERE seq = -1",
    ]
    assert made.change(*swap).bad == one


@settings(max_examples=3 * MORE)
@given(at=AT)
def test_an_added_record_is_named(made: Made, at: int) -> None:
    copy = "INSERT INTO audit (seq, body, hash) SELECT {}, body, hash FROM audit WHERE seq = {}"
    assert made.change(copy.format(LAST + 1, at)).bad == LAST + 1
    assert made.change(copy.format(PURGED, at)).bad == PURGED
    shift = f"UPDATE audit SET seq = -seq WHERE seq >= {at}"
    back = "UPDATE audit SET seq = 1 - seq WHERE seq < 0"
    assert made.change(shift, back, copy.format(at, FIRST if at > FIRST else LAST)).bad == at


@pytest.mark.parametrize("field", ["count", "hash", "purged", "purged_hash", "seal"])
def test_a_changed_head_is_noticed(made: Made, field: str) -> None:
    value = f"{field} + 1" if field in ("count", "purged") else "zeroblob(32)"
    verdict = made.change(f"UPDATE audit_head SET {field} = {value}")
    assert verdict.bad == 0 and "head" in verdict.what


@pytest.mark.parametrize(
    "change", ["purged = -1", "count = -1", f"count = {2**63 - 1}", "hash = zeroblob(300)"]
)
def test_a_head_that_no_log_can_have_is_noticed(made: Made, change: str) -> None:
    verdict = made.change(f"UPDATE audit_head SET {change}")
    assert verdict.bad == 0
    assert "head" in verdict.what
    with pytest.raises(StoreFailed, match="was changed"):
        SQLiteAudit(made.path).append([b"{}"], Sealer(made.key))


def test_a_log_without_its_head_or_its_records_is_noticed(made: Made) -> None:
    lost = made.change("DELETE FROM audit_head")
    assert lost.bad == 0 and "head is missing" in lost.what
    with pytest.raises(StoreFailed, match="was changed"):
        SQLiteAudit(made.path).append([b"{}"], Sealer(made.key))
    assert made.change("DELETE FROM audit").bad == FIRST
    emptied = made.change("DELETE FROM audit_head", "DELETE FROM audit")
    assert emptied.ok  # as a new one: only a head that was kept shows it
    assert made.verdict(made.head.told()).bad == 1


def test_who_has_no_key_cannot_make_hashes_that_fit(made: Made) -> None:
    """From a record on, everything is computed anew, as far as who has only the file can."""
    forger = Sealer(None)
    last = made.rows[3]
    statements: list[str] = []
    for row in made.rows[4:]:
        body = row.body.replace(b"bob", b"eve")
        last = forger.row(last.hash, row.seq, body)
        statements.append(
            f"UPDATE audit SET body = CAST(x'{body.hex()}' AS TEXT), hash = x'{last.hash.hex()}' "
            f"WHERE seq = {row.seq}"
        )
    statements.append(f"UPDATE audit_head SET hash = x'{last.hash.hex()}'")
    head = forger.head(last, made.head)
    sealed = f"UPDATE audit_head SET seal = x'{head.seal.hex()}'"
    if made.key is None:
        assert made.change(*statements, sealed).ok  # what the docs say of a log without a key
        assert made.verdict(made.head.told()).bad == LAST
    else:
        assert made.change(*statements).bad == 0
        head = made.head
        assert made.change(*statements[:-1]).bad == made.rows[4].seq


def test_records_that_fit_each_other_but_not_the_head_are_named(made: Made) -> None:
    forger = Sealer(made.key)  # at best
    more = forger.row(made.head.hash, LAST + 1, b"{}")
    insert = (
        f"INSERT INTO audit (seq, body, hash) VALUES ({LAST + 1}, '{{}}', x'{more.hash.hex()}')"
    )
    verdict = made.change(insert)
    assert verdict.bad == LAST + 1 and "added" in verdict.what
    other = forger.row(made.rows[-2].hash, LAST, b"{}")
    update = f"UPDATE audit SET body = '{{}}', hash = x'{other.hash.hex()}' WHERE seq = {LAST}"
    verdict = made.change(update)
    assert verdict.bad == LAST and "not the one that the head counts" in verdict.what


def test_a_record_that_cannot_be_read_is_named(made: Made) -> None:
    def rows() -> Iterator[Row]:
        yield from made.rows[:4]
        raise StoreFailed("the disk is broken")

    verdict = verify(rows(), made.head, Sealer(made.key))
    assert (verdict.bad, verdict.records) == (FIRST + 4, 4) and "disk is broken" in verdict.what


def test_a_record_that_is_none_is_told_as_damaged(made: Made) -> None:
    made.change(f"UPDATE audit SET body = '[]' WHERE seq = {FIRST + 1}")

    async def main(world: SimulatedWorld) -> list[str]:
        log = log_of(SQLiteAudit(made.path), world, made.key)
        kinds = [each.kind for each in await log.records()]
        await log.close()
        return kinds

    assert simulate(main)[:3] == ["start", "damaged", "step"]


def test_an_index_that_tells_something_else_than_the_records_is_noticed(made: Made) -> None:
    """Searches would give other runs than there are."""
    swap = """PRAGMA writable_schema = 1;
      UPDATE sqlite_schema SET rootpage = (SELECT sum(rootpage) FROM sqlite_schema
        WHERE name IN ('audit_caller', 'audit_subject')) - rootpage
      WHERE name IN ('audit_caller', 'audit_subject')"""
    verdict = made.change(swap)
    assert verdict.bad == 0 and "damaged" in verdict.what


def test_tables_that_were_changed_are_noticed(made: Made) -> None:
    """Rows that fit, and an index that hides some of them."""
    hidden = "CREATE INDEX audit_caller ON audit(caller) WHERE caller IS NOT NULL AND seq > 9"
    verdict = made.change("DROP INDEX audit_caller", hidden)
    assert verdict.bad == 0 and "tables" in verdict.what


@settings(max_examples=25 * MORE)
@example(at=0, flip=1)
@given(at=st.integers(0, 1_000_000), flip=st.integers(1, 255))
def test_any_changed_byte_of_the_file_is_noticed_or_changes_nothing(
    made: Made, at: int, flip: int
) -> None:
    changed = bytearray(made.bytes)
    changed[at % len(changed)] ^= flip
    made.put(changed)
    try:
        verdict = made.verdict()
    except StoreFailed:
        return  # it is no store of ours any more, and says so
    if not verdict.ok:
        assert verdict.what
        return
    store = SQLiteAudit(made.path)
    found = store.find(AuditQuery("start", caller_id="bob"), 100)
    store.close()
    starts = [row.body for row in reversed(made.rows) if b'"kind":"start"' in row.body]
    assert found == starts and len(starts) == RUNS - 1


def test_verify_agrees_with_itself_whatever_is_around(made: Made, tmp_path: Path) -> None:
    """A copy of the file alone, without what SQLite keeps beside it, is whole."""
    made.put(made.bytes)
    copy = shutil.copy(made.path, tmp_path / "copy.db")
    store = SQLiteAudit(copy)
    assert store.check(lambda rows, head: verify(rows, head, Sealer(made.key))).ok
    store.close()


@pytest.mark.parametrize("name", ["audit.db", "audit.db-wal"])
def test_a_log_that_was_taken_away_while_it_is_written_is_told(name: str, tmp_path: Path) -> None:
    sealer = Sealer(KEY)
    store = SQLiteAudit(tmp_path / "audit.db")
    store.append([b"{}"], sealer)
    (tmp_path / name).rename(tmp_path / "hidden.db")
    with pytest.raises(StoreFailed, match="was moved, deleted or replaced while it was open"):
        store.append([b"{}"], sealer)
    store.close()


@given(data=st.data())
@settings(max_examples=20 * MORE)
def test_rows_in_any_other_order_or_number_do_not_verify(data: st.DataObject) -> None:
    sealer = Sealer(KEY)
    store = MemoryAudit()
    bodies = [b'{"kind":"log","run":"r","time":%d}' % number for number in range(6)]
    store.append(bodies, sealer)
    rows: list[Row] = []
    store.check(lambda found, head: rows.extend(found) or Verdict(0))
    other = data.draw(st.lists(st.sampled_from(rows), max_size=8))
    verdict = verify(other, store.head(), sealer)
    same = next((at for at, (a, b) in enumerate(zip(rows, other, strict=False)) if a != b), None)
    if other == rows:
        assert verdict == Verdict(6)
    elif same is None and len(other) < 6:
        assert verdict.bad == len(other) + 1
    else:
        good = same if same is not None else 6
        assert verdict.records == good and not verdict.ok
