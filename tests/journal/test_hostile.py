"""Facts and rows that somebody changed: they lead to no action, and to an error for people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

from lorimer.attend import Attendant
from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, LedgerEntry, find
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.request import Usage
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.diff import figures
from lorimer.journal.family import descendants
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify
from lorimer.models.pricing import Price
from lorimer.pipeline import Pipeline
from lorimer.session.info import remove
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater, ToolRegistry
from lorimer.world import RealWorld
from tests.core.support import Do, Older, make, use
from tests.session.families import agent, model_of, pipeline_of, work


async def write(journal: Journal, stream: str, *facts: tuple[str, Mapping[str, JSON]]) -> None:
    """Facts of the run that has the name of its stream, as anybody could write them."""
    epoch = await journal.claim(stream, "somebody", 1)
    await journal.append(
        stream, epoch, [Event(kind, data, stream, 0) for kind, data in facts], sync=True
    )
    await journal.release(stream, epoch)


def of(parent: str) -> tuple[str, Mapping[str, JSON]]:
    return "run.start", {"parent": {"run": parent, "iteration": 0, "agent": "x"}}


def child(run: str) -> tuple[str, Mapping[str, JSON]]:
    return "child", {"key": "0", "run": run, "agent": "x"}


def test_a_run_that_is_given_up_ends_its_parts_and_no_run_that_its_facts_only_name() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Older(world)
        await write(journal, "other", ("run.start", {}))
        epoch = await journal.claim("other", "somebody", 1)
        later = Event("run.start", {}, "later")  # of the same conversation
        await journal.append("other", epoch, [later], sync=True)
        await journal.release("other", epoch)
        await write(journal, "part", of("run"))
        named = [child(run) for run in ("other", "later", "part")]
        await write(journal, "run", ("run.start", {}), *named)
        await make(world, ScriptedModel(), journal=journal).abandon("run")
        rows = {row.run_id: row.status for row in await journal.runs()}
        assert rows == {"run": "cancelled", "part": "cancelled", "other": "", "later": ""}

    simulate(main)


def test_a_run_whose_facts_name_another_run_as_its_part_is_not_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        save = Do("save", lambda *_: pipeline.cancel(Reason.SHUTDOWN) or "saved")
        replies = {"main": [work("a"), "done"], "a": [[use("save")], "x"]}
        pipeline = pipeline_of(world, model_of(replies), agent("a"), journal=journal, tools=[save])
        begun = await pipeline.run("go", raise_on_error=False)
        await write(journal, "other", ("run.start", {}))
        row = await find(journal, begun.run_id)
        await pipeline.aclose()
        epoch = await journal.claim(row.stream, "somebody", 1)
        await journal.append(row.stream, epoch, [Event(*child("other"), row.run_id)], sync=True)
        await journal.release(row.stream, epoch)
        with pytest.raises(JournalError, match="name run other as a part of it, which it is not"):
            await pipeline.resume(row.run_id)
        assert (await find(journal, "other")).status == ""

    simulate(main)


def test_runs_that_are_each_others_parents_are_attended() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        await write(journal, "one", of("two"))
        await write(journal, "two", of("one"))

        async def resume(run_id: str) -> Any:
            raise AssertionError(run_id)

        async with Attendant(journal, resume) as attendant:
            await asyncio.wait_for(attendant.add("one"), 5)

    asyncio.run(main())


def test_an_answer_to_a_run_that_was_given_up_hides_no_question_of_the_next_one() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, tool, registry = MemoryJournal(world), Do("send", effects=["net"]), ToolRegistry()
        registry.register(tool, granted=False)
        model = ScriptedModel([[use("send", "a")], [use("send", "b")], "done"])
        chat = make(world, model, tools=registry, journal=journal, approver=AskLater())
        first = await chat.run("one", raise_on_error=False)
        assert await mail.answer(journal, first.run_id, True)
        await chat.abandon(first.run_id)
        second = await chat.run("two", raise_on_error=False)
        assert [each.name for each in await mail.questions(journal, second.run_id)] == ["0:0"]
        assert tool.calls == []
        assert await mail.answer(journal, second.run_id, True)
        assert (await chat.resume(second.run_id)).text == "done"
        assert len(tool.calls) == 1

    simulate(main)


def test_a_recorded_cost_below_zero_leaves_a_resumed_run_no_more_money() -> None:
    async def main(world: SimulatedWorld) -> None:
        def stop(*_: object) -> str:
            pipeline.cancel(Reason.SHUTDOWN)
            return "saved"

        journal, save = MemoryJournal(world), Do("save", stop)
        spent = Usage(1000, 4000)
        said = ScriptedModel([[use("save")], "dear"], usage=spent, price=Price(1.0, 1.0))

        def limited(manifest: Any) -> None:
            manifest.limits = Limits(max_cost_usd=0.012)

        pipeline = make(world, said, tools=[save], journal=journal, change=limited)
        begun = await pipeline.run("go", raise_on_error=False)
        row = await find(journal, begun.run_id)
        paid = (await recorded(journal, row.run_id)).facts
        lie = {"cost": -(10**12), "usage": {"input_tokens": 10**400, "output_tokens": -7}}
        await pipeline.aclose()
        epoch = await journal.claim(row.stream, "somebody", 1)
        fact = Event("effect", {"key": "abandoned:x", **lie}, row.run_id, 0)
        await journal.append(row.stream, epoch, [fact], sync=True)
        await journal.release(row.stream, epoch)
        ended = await pipeline.resume(row.run_id, raise_on_error=False)
        assert (ended.status, said.calls) == ("budget_exceeded", 1)
        told = figures(await recorded(journal, row.run_id))
        assert told.cost_nano == sum(int(str(fact.data.get("cost", 0))) for fact in paid)
        assert told.usage == spent

    simulate(main)


def changed(path: Path, sql: str, *values: object) -> None:
    db = apsw.Connection(str(path))
    db.execute(sql, values)  # type: ignore[arg-type]
    db.close()


async def suspended(path: Path) -> tuple[Pipeline, str]:
    """A pipeline that nobody has open, and its run that waits."""
    registry = ToolRegistry()
    registry.register(Do("send", effects=["net"]), granted=False)
    model = ScriptedModel(lambda _: [use("send")])
    journal = SQLiteJournal(path)
    pipeline = make(RealWorld(), model, tools=registry, journal=journal, approver=AskLater())
    run = await pipeline.run("go", raise_on_error=False)
    await pipeline.aclose()
    await journal.close()
    journal = SQLiteJournal(path)
    return make(
        RealWorld(), model, tools=registry, journal=journal, approver=AskLater()
    ), run.run_id


def rows(path: Path) -> list[Any]:
    db = apsw.Connection(str(path))
    found = list(db.execute("SELECT at FROM facts"))
    db.close()
    return found


@pytest.mark.parametrize(
    "sql",
    [
        # what follows the last possible fact of a stream would be in the next stream
        "INSERT INTO facts SELECT at | 0xffffffff, body, mark FROM facts ORDER BY at DESC LIMIT 1",
        "UPDATE streams SET id=1<<62; UPDATE runs SET stream=1<<62",
        "UPDATE streams SET owner='x', lease_until=1<<62",
    ],
)
def test_impossible_numbers_are_told_and_nothing_is_written(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        pipeline, run_id = await suspended(path)
        changed(path, sql)
        before = rows(path)
        for act in (pipeline.resume, pipeline.abandon):
            with pytest.raises(JournalError) as told:
                await act(run_id)
            assert told.value.hint
        assert [row.run_id for row in await pipeline.journal.runs()] == [run_id]
        assert rows(path) == before
        await pipeline.journal.close()

    asyncio.run(main())


def test_a_run_whose_budgets_are_damaged_can_be_given_up(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        pipeline, run_id = await suspended(path)
        changed(path, """UPDATE facts SET body=replace(body, '"seed"', '"budgets":7,"seed"')""")
        with pytest.raises(JournalError, match="budgets of the run cannot be read"):
            await pipeline.resume(run_id)
        await pipeline.abandon(run_id)
        assert (await find(pipeline.journal, run_id)).status == "cancelled"
        await pipeline.journal.close()

    asyncio.run(main())


def test_a_run_that_stopped_in_a_call_without_a_key_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        journal = SQLiteJournal(path)
        model = ScriptedModel([[use("send")], "x"])
        tools = [Do("send", effects=["send"])]
        pipeline = make(RealWorld(), model, tools=tools, journal=journal)
        run = await pipeline.run("go")
        changed(path, "DELETE FROM facts WHERE at > (SELECT at FROM facts WHERE body LIKE '[[3,%')")
        changed(path, "UPDATE facts SET body='[[3,0,0,{}]]' WHERE body LIKE '[[3,%'")
        replayed = await pipeline.replay(run.run_id)
        assert "exec.tool.outcome_unknown" not in str(replayed.result.steps)
        await pipeline.aclose()
        await journal.close()

    asyncio.run(main())


def test_damage_in_a_part_of_a_run_is_no_damage_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        async with SQLiteJournal(path) as journal:
            await write(journal, "run", ("run.start", {}), child("part"), child("whole"))
            await write(journal, "whole", of("run"))
            await write(journal, "part", of("run"))
            changed(path, """UPDATE facts SET body='[[' WHERE body LIKE '%"part"]]'""")
            assert await mail.questions(journal, "run") == []
            facts = (await recorded(journal, "run")).facts
            found = [each.run_id async for _, each, _ in descendants(journal, facts, damaged=True)]
            assert found == ["part", "whole"]
            with pytest.raises(JournalError, match="'part' is damaged"):
                [each async for each in descendants(journal, facts)]

    asyncio.run(main())


@pytest.mark.parametrize("body", ["[[", "7", "\0"])
def test_a_damaged_message_is_told_by_verify_and_stops_no_giving_up(
    tmp_path: Path, body: str
) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        pipeline, run_id = await suspended(path)
        journal = pipeline.journal
        await mail.send(journal, run_id, "hello", id="one")
        changed(path, "UPDATE inbox SET body=?", body)
        [found] = await verify(journal, (await find(journal, run_id)).stream)
        assert (found.rule, found.what) == ("rows", "message 1 to it is damaged")
        await pipeline.abandon(run_id)
        await journal.close()

    asyncio.run(main())


def test_a_session_that_is_deleted_takes_its_parts_and_no_run_that_its_facts_only_name() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        end = ("run.end", {"status": "ok"})
        await write(journal, "other", ("run.start", {}), end)
        await write(journal, "part", of("session"), end)
        await write(journal, "session", ("run.start", {}), child("other"), child("part"), end)
        await world.sleep(1)
        await remove(journal, "session")
        assert [row.run_id for row in await journal.runs()] == ["other"]

    simulate(main)


@pytest.mark.parametrize(
    "intent", ["[3,0,0,{}]", '[3,0,0,{"key":"x"}]', "[3,0,0,[7]]", "[3,0,5,[0]]", '[3,0,0,["٠"]]']
)
def test_a_call_whose_intent_is_damaged_is_not_made_again(tmp_path: Path, intent: str) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        send = Do("send", effects=["send"])
        journal = SQLiteJournal(path)
        pipeline = make(RealWorld(), [[use("send")], "x"], tools=[send], journal=journal)
        run = await pipeline.run("go")
        await pipeline.aclose()
        changed(path, "DELETE FROM facts WHERE at > (SELECT at FROM facts WHERE body LIKE '[[3,%')")
        changed(path, "UPDATE facts SET body=? WHERE body LIKE '[[3,%'", f"[{intent}]")
        changed(path, "UPDATE runs SET ended=NULL, status=''")
        async with make(RealWorld(), ["y"], tools=[send], journal=journal) as again:
            with pytest.raises(JournalError, match="does not say which call"):
                await again.resume(run.run_id)
        assert len(send.calls) == 1
        await journal.close()

    asyncio.run(main())


def test_a_row_that_holds_a_fact_of_the_row_after_it_hides_none(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        pipeline, run_id = await suspended(path)
        changed(path, "UPDATE facts SET body='[[9,0,0,{}],[9,0,0,{}]]' WHERE at & 255 = 3")
        with pytest.raises(JournalError, match="two rows of stream .* hold fact 4"):
            await pipeline.resume(run_id)
        await pipeline.journal.close()

    asyncio.run(main())


def test_a_key_of_thousands_of_digits_stops_no_giving_up(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        pipeline, run_id = await suspended(path)
        fact = f'[[3,0,0,["{"9" * 5000}"]]]'
        changed(path, "UPDATE facts SET body=? WHERE at & 255 = 4", fact)
        await pipeline.abandon(run_id)
        await pipeline.journal.close()

    asyncio.run(main())


@pytest.mark.parametrize(("row", "ended"), [("parent", "cancelled"), ("decision", "")])
def test_a_part_that_cannot_be_read_is_paid_for_by_its_run_that_ends(
    tmp_path: Path, row: str, ended: str
) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        async with SQLiteJournal(path) as journal:
            await write(journal, "run", ("run.start", {}), child("part"))
            epoch = await journal.claim("part", "somebody", 1)
            for (kind, data), nano in ((of("run"), 3), (("effect", {"key": "decision"}), 4)):
                fact, paid = Event(kind, data, "part"), LedgerEntry("part", 0, nano)
                await journal.append("part", epoch, [fact], sync=True, ledger=paid)
            await journal.release("part", epoch)
            changed(path, "UPDATE facts SET body='[[' WHERE body LIKE ?", f'%"{row}"%')
            async with make(RealWorld(), ScriptedModel(), journal=journal) as pipeline:
                await pipeline.abandon("run")
            run = await find(journal, "run")
            assert (run.status, run.cost_nano) == ("cancelled", 7)
            assert (await find(journal, "part")).status == ended  # nothing can follow its last row

    asyncio.run(main())


def test_an_error_of_damage_that_is_kept_hides_nothing_that_is_written_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"

    async def main() -> None:
        async with SQLiteJournal(path) as journal:
            await write(journal, "old", ("run.start", {}))
            changed(path, "UPDATE facts SET body='[['")
            with pytest.raises(JournalError) as kept:
                [fact async for fact in journal.read("old")]
            await write(journal, "new", ("run.start", {}))
            assert [row.run_id for row in await journal.runs()] == ["new", "old"]
            assert kept.value.hint

    asyncio.run(main())
