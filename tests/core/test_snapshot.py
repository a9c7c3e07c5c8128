"""A snapshot is a manifest and a position in the journal; restored, it is the same snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from lorimer import (
    ConfigError,
    EnvironmentManifest,
    ExecutorErrorCode,
    Pipeline,
    PipelineError,
)
from lorimer.core.errors import JournalError, MutationLocked
from lorimer.core.request import Request
from lorimer.core.snapshot import Snapshot
from lorimer.journal import Fold, MemoryJournal, SQLiteJournal
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, check_history, make, use
from tests.core.test_mutation import EACH, before


def said(request: Request) -> str:
    """The last thing that was asked, and how much was said before."""
    return f"{request.messages[-1].text} after {len(request.messages) - 1}"


def test_restored_it_is_the_same_snapshot_and_the_next_run_goes_on_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = make(world, ScriptedModel(said), journal=journal)
        empty = await pipeline.snapshot()
        assert (empty.session_id, empty.seq) == ("", 0)
        await pipeline.run("one")
        kept = await pipeline.snapshot()
        assert Snapshot.from_json(kept.to_json()) == kept
        pipeline.mutate({"kind": "remove_stage", "stage": "think"})
        assert (await pipeline.run("two")).text == "two after 2"
        later = await pipeline.snapshot()
        assert later.session_id == kept.session_id
        assert later != kept

        await pipeline.restore(kept)
        assert await pipeline.snapshot() == kept
        assert "think" in pipeline.manifest.stages
        assert (await pipeline.run("other")).text == "other after 2"
        assert (await pipeline.run("third")).text == "third after 4"
        branched = await pipeline.snapshot()
        assert branched.session_id != kept.session_id

        await pipeline.restore(later)  # what was said since is another conversation's
        assert await pipeline.snapshot() == later
        assert (await pipeline.run("three")).text == "three after 4"
        assert (await pipeline.snapshot()).session_id == later.session_id

        await pipeline.restore(empty)
        assert await pipeline.snapshot() == empty
        assert (await pipeline.run("anew")).text == "anew after 0"
        for stream in (kept.session_id, branched.session_id):
            assert await verify(journal, stream) == []

    simulate(main)


def test_another_process_restores_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        async with make(world, ScriptedModel(said), journal=journal) as first:
            await first.run("one")
            kept = (await first.snapshot()).to_json()
        second = make(world, ScriptedModel(said), "chat", journal=journal)
        await second.restore(Snapshot.from_json(kept))
        assert (await second.snapshot()).to_json() == kept
        assert (await second.run("two")).text == "two after 2"
        assert (await second.snapshot()).session_id == kept["session_id"]

    simulate(main)


def test_a_place_before_what_the_journal_keeps_folded() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        pipeline = make(world, ScriptedModel(said), journal=journal)
        await pipeline.run("one")
        kept = await pipeline.snapshot()
        await pipeline.run("two")
        later, fold = await pipeline.snapshot(), Fold()
        async for fact in journal.read(kept.session_id):
            fold.apply(fact)
        await pipeline.restore(kept)  # which gives the claim back
        await journal.put_snapshot(kept.session_id, later.seq, fold.dump())
        [second] = [row.run_id for row in await journal.runs() if row.title == "two"]
        before = (await recorded(journal, second)).history
        assert [message.text for message in before] == ["one", "one after 0"]
        assert (await pipeline.run("other")).text == "other after 2"
        await journal.close()

    simulate(main)


def test_of_a_run_that_is_going_on_what_is_recorded_so_far() -> None:
    async def main(world: SimulatedWorld) -> None:
        taken: list[Snapshot] = []

        async def look(input: object, context: object) -> str:
            taken.append(await pipeline.snapshot())
            with pytest.raises(PipelineError) as caught:
                await pipeline.restore(taken[0])
            assert caught.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
            return "seen"

        model = ScriptedModel([[use("look")], "done", "again"])
        pipeline = make(world, model, tools=[Do("look", look)])
        await pipeline.run("go")
        await pipeline.restore(taken[0])
        assert await pipeline.snapshot() == taken[0]
        assert (await pipeline.run("more")).text == "again"
        check_history(model.requests[-1].messages)
        texts = [message.text for message in model.requests[-1].messages]
        assert texts[0] == "go"
        assert texts[-1] == "more"
        assert "done" not in texts

    simulate(main)


def test_a_conversation_of_which_something_is_missing_is_not_restored(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(path, world=world, threads=False)
        pipeline = make(world, ScriptedModel(said), "chat", journal=journal)
        await pipeline.run("one")
        then = await pipeline.snapshot()
        await pipeline.run("two")
        db = apsw.Connection(str(path))
        db.execute("DELETE FROM facts WHERE at=(SELECT at FROM facts ORDER BY at LIMIT 1 OFFSET 1)")
        db.close()
        await pipeline.restore(Snapshot(then.manifest, "", 0))
        with pytest.raises(JournalError, match="facts 2 to 2 of stream .* are missing"):
            await pipeline.restore(then)
        await journal.close()

    simulate(main)


def test_what_cannot_be_restored_changes_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(said))
        await pipeline.run("one")
        now = await pipeline.snapshot()
        other = EnvironmentManifest.from_dict(now.manifest.to_dict())
        other.model.temperature = 1.0
        with pytest.raises(PipelineError, match="does not hold fact 9000") as caught:
            await pipeline.restore(Snapshot(other, now.session_id, 9000))
        assert caught.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
        with pytest.raises(PipelineError, match="does not hold fact 1"):
            await pipeline.restore(Snapshot(other, "session_gone", 1))
        pipeline.lock("model")
        with pytest.raises(MutationLocked):
            await pipeline.restore(Snapshot(other, "", 0))
        assert await pipeline.snapshot() == now
        assert (await pipeline.run("two")).text == "two after 2"

    simulate(main)


@pytest.mark.parametrize(
    "data",
    [{}, {"manifest": {}, "session_id": "s"}, {"manifest": {}, "session_id": "s", "seq": -1}],
    ids=["nothing", "no place", "before the first"],
)
def test_what_is_no_snapshot(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="a snapshot has"):
        Snapshot.from_json(data)  # type: ignore[arg-type]


def test_a_snapshot_does_not_change_with_the_pipeline() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        taken = await pipeline.snapshot()
        pipeline.manifest.metadata.name = "other"
        assert taken.manifest.metadata.name == "minimal"
        await asyncio.sleep(0)

    simulate(main)


def test_whatever_was_changed_is_restored() -> None:
    """Chains, configurations and all: onto a pipeline of another preset, and back."""

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        for change, _ in EACH:
            if change["kind"] == "set_implementation":  # a stage that only its host has
                continue
            pipeline = Pipeline(before(), tools=[Do("a"), Do("b")], journal=journal, world=world)
            pipeline.mutate(change)
            taken = Snapshot.from_json((await pipeline.snapshot()).to_json())
            other = Pipeline(
                preset_manifest("minimal", model="scripted:m"),
                tools=[Do("a"), Do("b")],
                journal=journal,
                world=world,
            )
            await other.restore(taken)
            assert await other.snapshot() == taken == await pipeline.snapshot()
            assert other.plan.digest == pipeline.plan.digest
            assert other.describe() == pipeline.describe()

    simulate(main)


def test_what_is_no_snapshot_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "chat")
        kept: Any = (await pipeline.snapshot()).to_json()
        with pytest.raises(ConfigError, match="snapshot must be a Snapshot, not dict") as told:
            await pipeline.restore(kept)
        assert "Snapshot.from_json" in told.value.hint

    simulate(main)
