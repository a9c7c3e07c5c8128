"""Old conversations are removed whole, and nothing that anybody still needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lorimer import Pipeline
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.retention import Pruned, compact, prune
from lorimer.journal.verify import verify
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, make, use

DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(kind: str, world: World) -> Journal:
    if kind == "memory":
        return MemoryJournal(world)
    return SQLiteJournal(":memory:", world=world, threads=False)


def chat(world: World, journal: Journal, **options: Any) -> Pipeline:
    model = ScriptedModel(lambda _: "fine")
    return make(world, model, "chat", journal=journal, **options)  # type: ignore[arg-type]


async def said(world: SimulatedWorld, journal: Journal, *words: str) -> str:
    """A conversation of these runs, which nobody holds any more; its session."""
    async with chat(world, journal) as pipeline:
        for word in words:
            result = await pipeline.run(word)
    return result.session_id


def test_by_age_and_by_number(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        sessions = []
        for word in "abcd":
            sessions.append(await said(world, journal, word, word))
            await world.sleep(DAY)
        month_ago = world.time() - 30 * DAY
        assert await prune(journal, before=month_ago) == Pruned(0, 0, 0, 0, 0)
        before = world.time() - 1.5 * DAY
        wanted = Pruned(2, 4, 0, 0, 0)
        assert await prune(journal, before=before, keep=3, dry_run=True) == wanted
        assert len(await journal.runs()) == 8, "only said"
        assert await prune(journal, before=before, keep=3) == wanted
        left = {row.stream for row in await journal.runs()}
        assert left == set(sessions[2:]), "a session stays whole"
        for session in left:
            assert await verify(journal, session) == []
        assert (await prune(journal, before=world.time())).sessions == 2
        assert await journal.runs() == []

    simulate(main)


def test_old_sessions_are_found_behind_however_many_runs(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        old = await said(world, journal, "old")
        await world.sleep(DAY)
        kept = await said(world, journal, *["new"] * 60)
        assert (await prune(journal, before=world.time() - 10)).sessions == 1
        assert {row.stream for row in await journal.runs(limit=99)} == {kept}
        assert [fact async for fact in journal.read(old)] == []

    simulate(main)


def test_an_unfinished_run_and_a_live_claim_stay(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        calls: Any = [[use("look")]]
        broken = make(world, calls, "chat", tools=[Do("look")], journal=journal)

        @broken.on("tool.result")
        def _(_: object) -> None:
            from lorimer.core.cancel import Reason

            broken.cancel(Reason.SHUTDOWN)

        await broken.run("stopped", raise_on_error=False)
        await broken.aclose()
        held = chat(world, journal)
        await held.run("held")
        later = world.time() + 1
        assert await prune(journal, before=later) == Pruned(0, 0, 0, 1, 1)
        await held.aclose()
        assert await prune(journal, before=later) == Pruned(1, 1, 0, 1, 0)
        assert [row.title for row in await journal.runs()] == ["stopped"]

    simulate(main)


def test_a_program_that_comes_back_to_a_pruned_conversation_begins_it_anew(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        first = chat(world, journal, session_id="bob")
        await first.run("My name is Bob.")
        await world.sleep(DAY)
        assert (await prune(journal, before=world.time())).sessions == 1
        with pytest.raises(JournalError) as refused:  # what it knows is not so any more
            await first.run("Who am I?")
        assert refused.value.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        again = await first.run("Who am I?")
        assert [message.text for message in again.messages] == ["Who am I?", "fine"]
        assert await verify(journal, "bob") == []

    simulate(main)


def test_the_manifest_of_a_run_is_there_whatever_was_swept_before(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        pipeline = make(world, ScriptedModel(lambda _: "fine"), "minimal", journal=journal)  # type: ignore[arg-type]
        await pipeline.run("one")
        await world.sleep(DAY)
        assert await prune(journal, before=world.time()) == Pruned(1, 1, 1, 0, 0)
        result = await pipeline.run("two")  # the same pipeline, which has stored it before
        assert await journal.get(str(result.events[0].data["manifest"])) is not None
        assert await verify(journal, result.run_id) == []

    simulate(main)


def test_a_fork_outlives_its_parent(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        session = await said(world, journal, "one")
        [parent] = await journal.runs()
        await world.sleep(DAY)
        async with chat(world, journal) as other:
            fork = await other.fork(parent.run_id, after=1, input="two")
        assert (await prune(journal, before=world.time() - 1)).sessions == 1
        assert [row.stream for row in await journal.runs()] == [fork.session_id]
        async with chat(world, journal, session_id=fork.session_id) as later:
            result = await later.run("three")
        assert [m.text for m in result.messages][::2] == ["one", "two", "three"]
        assert session not in {row.stream for row in await journal.runs()}

    simulate(main)


def test_a_run_of_many_children_is_looked_at_once() -> None:
    looked: Counter[str] = Counter()

    class Counting(MemoryJournal):
        def read(self, stream: str, after: int = 0, *, follow: bool = False) -> Any:
            looked[stream] += 1
            return super().read(stream, after, follow=follow)

    async def main(world: SimulatedWorld) -> None:
        journal = Counting(world)
        await ended(world, journal, "boss", None)
        for number in range(20):
            parent: JSON = {"run": "boss", "agent": "worker"}
            await ended(world, journal, f"child{number}", parent)
        assert await prune(journal, before=world.time() + 1) == Pruned(21, 21, 0, 0, 0)
        assert looked == Counter(["boss", *(f"child{number}" for number in range(20))])

    simulate(main)


async def ended(world: SimulatedWorld, journal: Journal, run: str, parent: JSON) -> None:
    """A run of that name, in a stream of that name."""
    data: dict[str, JSON] = {"input": "x"} if parent is None else {"input": "x", "parent": parent}
    facts = [
        Event("run.start", data, run_id=run, time=world.time()),
        Event("run.end", {"status": "ok"}, run_id=run, time=world.time()),
    ]
    epoch = await journal.claim(run, "me", 30)
    await journal.append(run, epoch, facts, sync=True)
    await journal.release(run, epoch)


@pytest.mark.parametrize("threads", [True, False])
def test_the_file_becomes_small_again_when_asked(tmp_path: Path, threads: bool) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        from lorimer.world import RealWorld

        world = RealWorld()
        async with SQLiteJournal(path, threads=threads) as journal:
            for _ in range(2):
                async with chat(world, journal) as pipeline:
                    for _ in range(40):
                        await pipeline.run("x" * 2000)
            size, free = await journal.space()
            first = (await journal.runs())[-1].stream
            assert await journal.drop(first, before=world.time() + 1)
            full, freed = await journal.space()
            assert full == size
            assert free == 0
            assert freed > size / 3
            await journal.vacuum()
            small, left = await journal.space()
            assert small <= size - freed
            assert left == 0
            [session] = {row.stream for row in await journal.runs()}
            assert await verify(journal, session) == []
            async with chat(world, journal, session_id=session) as pipeline:
                await pipeline.run("it goes on")
            assert await verify(journal, session) == []

    asyncio.run(main())
    assert path.stat().st_size < 300_000


def test_nothing_is_removed_while_a_store_fails_in_which_nothing_is_damaged() -> None:
    class Fails(MemoryJournal):
        def read(
            self, stream: str, after: int = 0, *, follow: bool = False
        ) -> AsyncGenerator[Event, None]:
            if stream == "child":
                raise JournalError("the disk cannot be read")
            return super().read(stream, after, follow=follow)

    async def main(world: SimulatedWorld) -> None:
        journal = Fails(world)
        await ended(world, journal, "mother", None)
        await ended(world, journal, "child", {"run": "mother", "agent": "digger"})
        with pytest.raises(JournalError, match="the disk cannot be read"):
            await prune(journal, before=world.time() + 1)
        assert len(await journal.runs()) == 2

    simulate(main)


def test_a_journal_in_memory_has_nothing_to_give_back() -> None:
    async def main(world: SimulatedWorld) -> None:
        async with SQLiteJournal(":memory:", world=world, threads=False) as journal:
            session = await said(world, journal, "one", "two")
            await journal.vacuum()
            assert await verify(journal, session) == []
            assert len(await journal.runs()) == 2

    simulate(main)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE facts SET body='[['",
        "UPDATE facts SET body=CAST(x'ff' AS TEXT)",
        "UPDATE facts SET body='[[5,1,0,{}]]'",
        "DELETE FROM facts",
        "UPDATE blocks SET body=x'00'",
        "DELETE FROM blocks",
    ],
)
def test_a_damaged_run_keeps_every_document(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        from lorimer.world import RealWorld

        async with SQLiteJournal(path) as journal:
            async with chat(RealWorld(), journal) as pipeline:
                for _ in range(3):
                    await pipeline.run("x")
            await journal.put("nobody's", b"")
            if "blocks" in damage:
                assert (await compact(journal, before=RealWorld().time() + 1)).sessions == 1
        db = apsw.Connection(str(path))
        db.execute(damage)
        assert db.total_changes()
        db.close()
        async with SQLiteJournal(path) as journal:
            assert await journal.sweep() == 0
            assert await journal.get("nobody's") == b""

    asyncio.run(main())


def test_a_file_that_somebody_writes_to_is_not_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.journal.sqlite.database.BUSY_MS", 50)
    path = tmp_path / "journal.db"

    async def main() -> None:
        async with SQLiteJournal(path) as journal:
            await journal.claim("s", "me", 30)
            other = apsw.Connection(str(path))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="is locked"):
                await journal.vacuum()
            other.execute("ROLLBACK")
            other.close()
            await journal.vacuum()

    asyncio.run(main())
