"""Ended sessions take less room when they are compacted, and nothing else changes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.chain import mark
from lorimer.journal.diff import diff
from lorimer.journal.export import export
from lorimer.journal.recording import recorded
from lorimer.journal.retention import Compacted, Pruned, compact, prune
from lorimer.journal.sqlite import blocks
from lorimer.journal.sqlite import rows as rows_module
from lorimer.journal.verify import verify
from lorimer.session import SessionManager
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.world import RealWorld
from tests.core.support import Do, make, use
from tests.journal.power import Power, Quick
from tests.journal.support import NOW, Clock, end, facts_of, iteration, note, start
from tests.seeds import fresh

LATER = NOW + 1e9
WORDS = ["send the report", "what was in it?", "and the one before?"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, and readers that take a few rows at a time."""
    monkeypatch.setattr(blocks, "BLOCK_CHARS", 300)
    monkeypatch.setattr(rows_module, "CHUNK_ROWS", 4)


def chat(world: World, journal: Journal, **options: Any) -> Any:
    def answer(request: Any) -> Any:
        asked = request.messages[-1]
        return [use("look", path=f"{asked.text}.txt")] if asked.text in WORDS else "It is there."

    model = ScriptedModel(answer)
    return make(world, model, "chat", tools=[Do("look")], journal=journal, **options)  # type: ignore[arg-type]


async def said(world: World, journal: Journal, **options: Any) -> list[Any]:
    """A conversation of three runs, which nobody holds any more."""
    async with chat(world, journal, **options) as pipeline:
        return [await pipeline.run(word) for word in WORDS]


def told(facts: list[Event]) -> list[dict[str, Any]]:
    return [fact.to_json() for fact in facts]  # type: ignore[misc]


@pytest.mark.parametrize("threads", [True, False])
def test_all_that_reads_a_run_sees_no_difference(
    small: None, tmp_path: Path, threads: bool
) -> None:
    async def main() -> None:
        world = RealWorld()
        async with SQLiteJournal(tmp_path / "journal.db", threads=threads) as journal:
            results = await said(world, journal)
            session = results[0].session_id

            async def seen() -> list[Any]:
                runs = [await recorded(journal, result.run_id) for result in results]
                reads = [
                    told([fact async for fact in journal.read(session, after)])
                    for after in range(len(await facts_of(journal, session)) + 1)
                ]
                exports = [
                    [line async for line in export(journal, run.run_id, session=True)]
                    for run in runs
                ]
                return [runs, reads, exports, diff(runs[0], runs[1]), await journal.runs()]

            before = await seen()
            done = await compact(journal, before=world.time() + 1)
            assert (done.sessions, done.runs, done.unfinished, done.in_use) == (1, 3, 0, 0)
            assert done.saved > 0
            assert await seen() == before
            assert await verify(journal, session) == []
            again = await compact(journal, before=world.time() + 1)
            assert again == Compacted(0, 0, 0, 0, 0)
            async with chat(world, journal, session_id=session) as pipeline:
                replayed = await pipeline.replay(results[1].run_id)
                assert replayed.divergence is None
                result = await pipeline.run("thanks")
                assert result.messages[:12] == results[-1].messages
                fork = await pipeline.fork(results[1].run_id, after=1, input="go on")
                assert fork.messages[:6] == results[1].messages[:6]
            assert await verify(journal, session) == []
            assert (await compact(journal, before=world.time() + 1)).sessions == 2
            assert await verify(journal, session) == []
            latest, *_ = await journal.runs(stream=session)
            assert latest.run_id == result.run_id

    asyncio.run(main())
    assert number(tmp_path / "journal.db", "SELECT count(*) FROM blocks") > 3
    assert number(tmp_path / "journal.db", "SELECT count(*) FROM facts") == 0


def number(path: Path, sql: str) -> int:
    db = apsw.Connection(str(path))
    [(found,)] = db.execute(sql)
    db.close()
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_is_young_or_held_or_unfinished_stays_as_it_is(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        memory = kind == "memory"
        journal: Any = (
            MemoryJournal(world)
            if memory
            else SQLiteJournal(":memory:", world=world, threads=False)
        )
        broken = make(world, [[use("look")]], "chat", tools=[Do("look")], journal=journal)  # type: ignore[list-item]

        @broken.on("tool.result")
        def _(_: object) -> None:
            broken.shut_down()

        await broken.run("stopped", raise_on_error=False)
        await broken.aclose()
        held = chat(world, journal)
        result = await held.run(WORDS[0])
        later = world.time() + 1
        assert await journal.compact(result.session_id, before=later) is None
        assert await compact(journal, before=later) == Compacted(0, 0, 0, 1, 1)
        await held.aclose()
        assert await journal.compact(result.session_id, before=world.time() - 60) is None
        assert await journal.compact("nobody", before=later) is None
        saved = await journal.compact(result.session_id, before=later)
        assert saved == 0 if memory else saved > 0

    simulate(main)


def test_compacted_sessions_are_removed_and_their_manifests_are_not_before(small: None) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        results = await said(world, journal)
        await compact(journal, before=world.time() + 1)
        assert await journal.sweep() == 0, "it looks into blocks too"
        assert await journal.get(str(results[0].events[0].data["manifest"])) is not None
        assert await prune(journal, before=world.time() + 1) == Pruned(1, 3, 1, 0, 0)
        assert await facts_of(journal, results[0].session_id) == []
        assert (
            await journal._query(lambda db: db.execute("SELECT * FROM blocks").fetchone()) is None
        )

    simulate(main)


def test_each_block_is_looked_into_once_for_the_manifests_of_its_runs() -> None:
    """Also if runs of many sessions alternate: other writers wait meanwhile."""

    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        async with chat(world, journal) as pipeline, SessionManager() as manager:
            sessions = [manager.create(pipeline) for _ in range(4)]
            for word in WORDS * 3:
                for session in sessions:
                    await session.run(word)
        assert (await compact(journal, before=world.time() + 1)).runs == 36
        opened: list[str] = []

        def count(frame: object, event: str, called: Any) -> None:
            if event == "c_call" and called.__name__ == "decompress":
                opened.append(called.__name__)

        sys.setprofile(count)
        try:
            await journal.sweep()
        finally:
            sys.setprofile(None)
        assert len(opened) == len(sessions)

    simulate(main)


def test_a_long_session_takes_a_fourth_or_less(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            epoch = await journal.claim("s", "me", 30)
            await journal.append("s", epoch, [start()], sync=False)
            for turn in range(500):
                for row in iteration(turn):
                    await journal.append("s", epoch, row, sync=False)
            await journal.append("s", epoch, [end(at=900)], sync=True)
            await journal.release("s", epoch)
            await journal.vacuum()
            large, _ = await journal.space()
            await journal.compact("s", before=LATER)
            await journal.vacuum()
            compacted, _ = await journal.space()
            assert compacted * 4 < large
            assert await journal.check("s") == []

    asyncio.run(main())


ROWS = st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=4), max_size=12)


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, st.integers(1, 200))
def test_whatever_rows_there_are(
    first: list[list[str]], second: list[list[str]], size: int
) -> None:
    async def main() -> None:
        journal = SQLiteJournal(":memory:", world=Clock(), threads=False)  # type: ignore[arg-type]
        for run, rows in [("run_a", first), ("run_b", second)]:
            epoch = await journal.claim("s", "me", 30)
            await journal.append("s", epoch, [start(run)], sync=False)
            for row in rows:
                await journal.append("s", epoch, [note(text, run) for text in row], sync=False)
            await journal.append("s", epoch, [end(run)], sync=False)
            await journal.release("s", epoch)
            before = told(await facts_of(journal, "s"))
            await journal.compact("s", before=LATER)
            for after in range(len(before) + 1):
                assert told([f async for f in journal.read("s", after)]) == before[after:]
            assert await journal.check("s") == []
        await journal.close()

    kept = blocks.BLOCK_CHARS
    blocks.BLOCK_CHARS = size
    try:
        asyncio.run(main())
    finally:
        blocks.BLOCK_CHARS = kept


async def filled(journal: SQLiteJournal, notes: int = 30) -> None:
    """The stream s with an ended run of so many notes, given back."""
    epoch = await journal.claim("s", "me", 30)
    await journal.append("s", epoch, [start()], sync=False)
    for n in range(notes):
        await journal.append("s", epoch, [note(f"{n:05}" * 6)], sync=False)
    await journal.append("s", epoch, [end()], sync=True)
    await journal.release("s", epoch)


def test_who_reads_while_it_is_compacted_misses_nothing(small: None, tmp_path: Path) -> None:
    async def main() -> None:
        async with SQLiteJournal(tmp_path / "journal.db", world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
            reader = journal.read("s")
            seqs = [(await anext(reader)).seq for _ in range(5)]  # in the middle of a block to be
            assert await journal.compact("s", before=LATER)
            seqs += [fact.seq async for fact in reader]
            assert seqs == list(range(1, 33))

    asyncio.run(main())


def test_who_checks_while_it_is_compacted_finds_nothing(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorimer.journal.sqlite import rowcheck

    monkeypatch.setattr(rowcheck, "CHUNK_ROWS", 4)

    async def main() -> None:
        async with SQLiteJournal(tmp_path / "journal.db", world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
            check = rowcheck.RowCheck("s")
            assert await journal._query(check.chunk)
            assert await journal.compact("s", before=LATER)
            while await journal._query(check.chunk):
                pass
            assert check.found == []

    asyncio.run(main())


FIRST = "WHERE at=(SELECT min(at) FROM blocks)"
SECOND = "WHERE at=(SELECT at FROM blocks ORDER BY at LIMIT 1 OFFSET 1)"


@pytest.mark.parametrize(
    ("change", "found", "readable"),
    [
        (f"UPDATE blocks SET mark=x'00' {SECOND}", 2, 32),  # and what follows it does not fit
        (f"UPDATE blocks SET body=CAST(substr(body,1,40) AS BLOB) {SECOND}", 1, 6),
        (f"UPDATE blocks SET body=CAST(body||x'00' AS BLOB) {SECOND}", 1, 6),
        (f"UPDATE blocks SET body=x'' {SECOND}", 1, 6),
        (f"UPDATE blocks SET last=last-1 {SECOND}", 2, 6),
        (f"DELETE FROM blocks {SECOND}", 1, 6),
        (f"UPDATE blocks SET body=(SELECT body FROM blocks {FIRST}) {SECOND}", 1, None),
    ],
)
def test_damage_is_told_and_what_is_before_it_is_read(
    small: None, tmp_path: Path, change: str, found: int, readable: int | None
) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
            await journal.compact("s", before=LATER)
        db = apsw.Connection(str(path))
        db.execute(change)
        assert db.total_changes()
        db.close()
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            damage = await journal.check("s")
            assert len(damage) == found, damage
            seqs = []
            try:
                async for one in journal.read("s"):
                    seqs.append(one.seq)
            except JournalError:
                assert readable != 32
            if readable is not None:
                assert len(seqs) == readable
            assert "rows" in {item.rule for item in await verify(journal, "s")}

    asyncio.run(main())


def test_a_changed_row_that_somebody_pressed_again_does_not_fit(tmp_path: Path) -> None:
    import zlib

    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
            await journal.compact("s", before=LATER)
        db = apsw.Connection(str(path))
        [(body,)] = db.execute("SELECT body FROM blocks").fetchall()
        changed = zlib.compress(zlib.decompress(body).replace(b"00007", b"00008"))
        db.execute("UPDATE blocks SET body=?", (changed,))
        db.close()
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            [damage] = await journal.check("s")
            assert damage.what == "the facts from it to 32 are not as they were written"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("damage", "seq", "first"),
    [
        ("UPDATE facts SET body=replace(body,'00009','66666') WHERE at & 255 = 11", 11, 11),
        ("UPDATE facts SET body=CAST(x'ff' AS TEXT) WHERE at & 255 = 11", 11, 11),
        ("DELETE FROM facts WHERE at & 255 = 11", 11, 12),
    ],
)
def test_damaged_rows_stay_as_they_are(
    small: None, tmp_path: Path, damage: str, seq: int, first: int
) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
        db = apsw.Connection(str(path))
        db.execute(damage)
        assert db.total_changes()
        db.close()
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            before = await journal.check("s")
            facts = await read(journal)
            assert await journal.compact("s", before=LATER)
            assert await journal.check("s") == before
            assert {place.seq for place in before} == {seq}
            assert await read(journal) == facts

    async def read(journal: Journal) -> list[dict[str, Any]]:
        facts: list[Event] = []
        try:
            async for each in journal.read("s"):
                facts.append(each)
        except JournalError:
            assert len(facts) == 10
        return told(facts)

    asyncio.run(main())
    assert number(path, "SELECT min(at) & 255 FROM facts") == first


@pytest.mark.parametrize("body", [b"\xff", b"[[5,1"])
def test_a_row_that_is_none_stays_though_its_mark_fits(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
        db = apsw.Connection(str(path))
        [(at, before)] = db.execute(
            "SELECT max(at), (SELECT mark FROM facts WHERE at & 255 = 10) FROM facts "
            "WHERE at & 255 = 11"
        )
        assert isinstance(at, int) and isinstance(before, bytes)
        values = (body, mark(before, at, body), at)
        db.execute("UPDATE facts SET body=CAST(? AS TEXT), mark=? WHERE at=?", values)
        db.close()
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            assert await journal.compact("s", before=LATER)

    asyncio.run(main())
    assert number(path, "SELECT min(at) & 255 FROM facts") == 11


def test_a_block_without_an_end_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            await filled(journal)
            await journal.compact("s", before=LATER)
        db = apsw.Connection(str(path))
        db.execute(
            "CREATE TABLE others AS SELECT at, 'x' AS last, mark, body FROM blocks;"
            "DROP TABLE blocks; ALTER TABLE others RENAME TO blocks"
        )
        db.close()
        async with SQLiteJournal(path, world=Clock()) as journal:  # type: ignore[arg-type]
            with pytest.raises(JournalError, match="a block has no end"):
                await journal.compact("s", before=LATER)

    asyncio.run(main())


def test_manifests_of_all_runs_in_a_block_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with SQLiteJournal(tmp_path / "journal.db", world=Clock()) as journal:  # type: ignore[arg-type]
            epoch = await journal.claim("s", "me", 30)
            for run in ("one", "two", "three"):
                await journal.put(run * 4, b"manifest")
                begun = start(run, manifest=run * 4, input="x" * 1000)
                await journal.append("s", epoch, [begun], sync=False)
                await journal.append("s", epoch, [end(run)], sync=True)
            await journal.release("s", epoch)
            assert await journal.compact("s", before=LATER)
            assert await journal.sweep() == 0
            assert [await journal.get(run * 4) for run in ("one", "two", "three")] == [
                b"manifest"
            ] * 3

    asyncio.run(main())
    assert number(tmp_path / "journal.db", "SELECT count(*) FROM blocks") == 1


@pytest.mark.parametrize("seed", [1, 2, fresh()], ids=["1", "2", "fresh"])
def test_whatever_a_loss_of_power_leaves_is_all_of_it(
    small: None, seed: int, tmp_path: Path
) -> None:
    dice, path = Random(seed), tmp_path / "journal.db"
    compacting = False
    power = Power(dice, 0.3, lambda: (int(compacting), 0))

    async def live() -> None:
        nonlocal compacting
        journal = SQLiteJournal(path, world=Clock(), threads=False, vfs=power.name)  # type: ignore[arg-type]
        await filled(journal)
        compacting = True
        assert await journal.compact("s", before=LATER)
        await journal.close()

    asyncio.run(live())
    power.unregister()
    quick = Quick()
    pictures = [picture for picture in power.pictures if picture.known[0]]
    assert len(pictures) > 3

    later = Clock()
    later.now += 60  # giving the stream back was not synced

    async def check(cut: Path) -> int:
        journal = SQLiteJournal(cut, world=later, threads=False, vfs=quick.name)  # type: ignore[arg-type]
        assert [one.seq for one in await facts_of(journal, "s")] == list(range(1, 33))
        assert await journal.check("s") == []
        assert await journal.compact("s", before=LATER) is not None
        assert [one.seq for one in await facts_of(journal, "s")] == list(range(1, 33))
        await journal.close()
        return number(cut, "SELECT count(*) FROM facts")

    for index, picture in enumerate(pictures):
        picture.develop(tmp_path / str(index), dice)
        assert asyncio.run(check(tmp_path / str(index) / path.name)) == 0
    quick.unregister()


def test_a_block_of_another_format_is_no_traceback() -> None:
    import zlib

    for text in ["", "[1]", "[1,1]\n[]", "[0]\n[]", '{"a":1}\n[]', "[9999999999]\n[]", "x\n[]"]:
        with pytest.raises(JournalError, match="is damaged"):
            blocks.rows_of(1 << 32 | 1, zlib.compress(text.encode()), 1 << 32 | 1)
    for body in ["text", None, b"\xff", zlib.compress(b"\xff")]:
        with pytest.raises(JournalError, match="is damaged"):
            blocks.rows_of(1 << 32 | 1, body, 1 << 32 | 1)
    fitting = zlib.compress(b"[2]\n[[1,0,0,{}],[1,0,0,{}]]")
    [line] = blocks.rows_of(1 << 32 | 1, fitting, 1 << 32 | 2)
    assert line.at == 1 << 32 | 1


def test_a_block_cannot_take_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(blocks, "MAX_BYTES", 1000)
    with pytest.raises(JournalError, match="too large"):
        blocks.rows_of(1, zlib.compress(b"[1]\n" + b"x" * 2000), 1)
