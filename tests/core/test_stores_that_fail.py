"""Stores that fail, lose the run to another or do not write: what the run comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, JournalError, LimitError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Balance, LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.messages import TextBlock
from lorimer.core.request import Response
from lorimer.journal import MemoryJournal
from lorimer.models import Price
from lorimer.models.scripted import DEFAULT_USAGE
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from tests.core.support import Do, check_history, kinds, make, use

CODE = ExecutorErrorCode


class Failing(MemoryJournal):
    """Refuses to write facts of one kind, until it is mended."""

    kind = ""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        if any(fact.type == self.kind for fact in facts):
            raise JournalError("the disk is full")
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


@pytest.mark.parametrize(
    "kind", ["run.start", "model.intent", "model.reply", "tool.intent", "tool.result", "run.end"]
)
def test_a_store_that_fails_ends_the_run_and_it_can_be_resumed_when_it_is_mended(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Failing(world)
        journal.kind = kind
        write = Do("write", effects=["write"])
        lost = [[use("write")]] * (kind == "model.reply")
        model = ScriptedModel([*lost, [use("write")], "done", "more"])
        pipeline = make(world, model, "chat", tools=[write], journal=journal)
        with pytest.raises(JournalError, match="the disk is full") as failed:
            await pipeline.run("go")
        assert failed.value.code is CODE.EXEC_JOURNAL_FAILED
        assert failed.value.result is not None
        assert failed.value.result.status == "error"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        journal.kind = ""
        rows = await journal.runs()
        assert len(rows) == (kind != "run.start")
        if rows:
            assert rows[0].status == ""
            result = await pipeline.resume(rows[0].run_id)
            assert result.status == "ok"
            facts = [fact async for fact in journal.read(rows[0].stream)]
            assert kinds(facts).count("run.end") == 1
            assert result.events == facts
            assert len(write.calls) == 1
        result = await pipeline.run("and")
        check_history(result.messages)

    simulate(main)


def test_a_store_that_fails_under_a_call_within_a_call_is_no_result_of_it() -> None:
    """Told to the model, it would hide that nobody knows what is recorded."""

    async def main(world: SimulatedWorld) -> None:
        async def through(input: ToolInput, context: ToolContext) -> str:
            assert context.call is not None
            journal.kind = "effect.intent"
            try:
                return str((await context.call("write", {})).content)
            finally:
                journal.kind = ""  # whoever asks next finds the store mended

        journal = Failing(world)
        write = Do("write", effects=["write"])
        tools = [Do("outer", through, effects=["write"]), write]
        pipeline = make(world, [[use("outer")], "done"], tools=tools, journal=journal)
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_JOURNAL_FAILED
        assert "tool.result" not in kinds(result.events)
        assert not write.calls

    simulate(main)


def test_a_store_that_fails_under_calls_made_at_once_is_the_runs_error() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def slow(input: ToolInput, context: ToolContext) -> str:
            await context.world.sleep(input["s"])
            return "done"

        journal = Failing(world)
        journal.kind = "tool.result"
        calls = [use("look", "a", s=1), use("look", "b", s=1), use("look", "c", s=9)]
        tools = [Do("look", slow, safe=True)]
        pipeline = make(world, [calls, "done"], "chat", tools=tools, journal=journal)
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_JOURNAL_FAILED
        assert world.monotonic() == 1
        journal.kind = ""
        [row] = await journal.runs()
        assert (await pipeline.resume(row.run_id)).text == "done"

    simulate(main)


def test_a_run_fenced_off_gets_no_last_word() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["never"], latency_s=5), "chat")
        asyncio.get_running_loop().call_later(1, pipeline.cancel, Reason.FENCED)
        with pytest.raises(JournalError, match="taken this run over") as fenced:
            await pipeline.run("go")
        assert fenced.value.code is CODE.EXEC_JOURNAL_CONFLICT
        assert fenced.value.result is not None
        assert fenced.value.result.status == "suspended"
        assert kinds(fenced.value.result.events) == ["run.start", "model.intent"]

    simulate(main)


class Unwritten(MemoryJournal):
    """Waits before it writes; what is cancelled meanwhile was not written."""

    at = ""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        if any(fact.type == self.at for fact in facts):
            self.at = ""
            await asyncio.sleep(10)
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


@pytest.mark.parametrize("at", ["run.start", "model.intent", "model.reply", "tool.result"])
def test_a_fact_that_was_not_written_did_not_happen(at: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = at
        model = ScriptedModel([[use("look")], "done", "more", "more"])
        pipeline = make(world, model, "chat", tools=[Do("look")], journal=journal)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await pipeline.run("go")
        rows = await journal.runs()
        assert [row.status for row in rows] == ([] if at == "run.start" else ["cancelled"])
        for row in rows:
            facts = [fact async for fact in journal.read(row.stream)]
            assert at not in kinds(facts)
            assert kinds(facts).count("run.end") == 1
        result = await pipeline.run("on")
        check_history(result.messages)

    simulate(main)


@pytest.mark.parametrize("reason", list(Reason)[:4])
@pytest.mark.parametrize("at", ["model.intent", "model.reply"])
def test_money_is_counted_when_its_fact_was_not_written(at: str, reason: Reason) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = at
        model = ScriptedModel(["paid", "paid again"], price=Price(3, 15))
        pipeline = make(world, model, "chat", journal=journal)
        asyncio.get_running_loop().call_later(1, pipeline.cancel, reason)
        limits = {"max_cost_usd": 1.0}
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        if reason is Reason.SHUTDOWN:
            assert result.status == "suspended"
            result = await pipeline.resume(result.run_id)
        assert result.events[-1].type == "run.end"
        paid = DEFAULT_USAGE.input_tokens * 3_000 + DEFAULT_USAGE.output_tokens * 15_000
        assert result.cost_nano == paid * model.calls
        assert result.usage.input_tokens == DEFAULT_USAGE.input_tokens * model.calls
        assert await journal.balance(result.run_id) == Balance(0, result.cost_nano)

    simulate(main)


@pytest.mark.parametrize("estimated", [False, True])
def test_what_was_counted_of_a_reply_that_was_not_written_is_told_as_what_it_is(
    estimated: bool,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = "model.reply"
        extra: dict[str, JSON] = {"served_by": "x"}
        if estimated:
            extra["usage_estimated"] = True
        reply = Response((TextBlock("paid"),), usage=DEFAULT_USAGE, extra=extra)
        pipeline = make(world, ScriptedModel([reply]), "chat", journal=journal)
        asyncio.get_running_loop().call_later(1, pipeline.cancel)
        result = await pipeline.run("go", raise_on_error=False)
        (given_up,) = [fact.data for fact in result.events if fact.data.get("usage")][:1]
        assert given_up.get("extra") == ({"usage_estimated": True} if estimated else None)
        assert result.usage == DEFAULT_USAGE

    simulate(main)


def test_what_was_held_for_a_fact_that_was_not_written_is_written_with_the_next() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = "iteration.end"
        model = ScriptedModel([[use("look")], "done"])
        pipeline = make(world, model, "chat", tools=[Do("look")], journal=journal)
        asyncio.get_running_loop().call_later(1, pipeline.cancel, Reason.SHUTDOWN)
        cut = await pipeline.run("go", raise_on_error=False)
        assert kinds(cut.events)[-2:] == ["iteration.end", "run.suspended"]
        result = await pipeline.resume(cut.run_id)
        assert kinds(result.events).count("iteration.end") == 2
        turns = [fact.iteration for fact in result.events]
        assert turns == sorted(turns)

    simulate(main)


@pytest.mark.parametrize("reason", list(Reason)[:4])
def test_a_run_stopped_before_its_first_fact_leaves_none(reason: Reason) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unwritten(world)
        journal.at = "run.start"
        pipeline = make(world, ["done"], "chat", journal=journal)
        asyncio.get_running_loop().call_later(1, pipeline.cancel, reason)
        cut = await pipeline.run("go", raise_on_error=False)
        assert cut.events == []
        assert [fact async for fact in journal.read(cut.session_id)] == []
        assert (await pipeline.run("go")).text == "done"

    simulate(main)


class Unsure(MemoryJournal):
    """Writes facts of one kind, and says once that it could not."""

    kind = ""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        last = await super().append(stream, epoch, facts, sync=sync, ledger=ledger)
        if any(fact.type == self.kind for fact in facts):
            self.kind = ""
            raise JournalError("the connection was lost")
        return last


@pytest.mark.parametrize("kind", ["run.start", "model.intent", "model.reply", "run.end"])
def test_what_a_store_wrote_and_says_it_did_not_is_found_again(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Unsure(world)
        journal.kind = kind
        model = ScriptedModel(["one", "two", "three"])
        pipeline = make(world, model, "chat", journal=journal)
        with pytest.raises(JournalError, match="the connection was lost"):
            await pipeline.run("go")
        [row] = await journal.runs()
        if kind != "run.end":
            with pytest.raises(PipelineError, match="unfinished") as busy:
                await pipeline.run("on")
            assert row.run_id in busy.value.hint
            await pipeline.resume(row.run_id)
        result = await pipeline.run("on")
        assert [row.status for row in await journal.runs()] == ["ok", "ok"]
        assert result.messages[0].text == "go"
        check_history(result.messages)

    simulate(main)


@pytest.mark.parametrize("reason", list(Reason)[:4])
def test_whoever_stops_a_run_whose_store_fails_is_told_that_it_has_no_end(reason: Reason) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Failing(world)
        journal.kind = "effect"
        model = ScriptedModel(["a long answer", "done"], delta_s=1, price=Price(3, 15))
        pipeline = make(world, model, "chat", journal=journal)
        asyncio.get_running_loop().call_later(2.5, pipeline.cancel, reason)
        with pytest.raises(JournalError, match="the disk is full") as failed:
            await pipeline.run("go")
        assert failed.value.result is not None
        assert failed.value.result.status == "error"
        journal.kind = ""
        [row] = await journal.runs()
        assert row.status == ""
        result = await pipeline.resume(row.run_id)
        assert result.status == "ok"
        assert await journal.balance(row.run_id) == Balance(0, result.cost_nano)
        check_history((await pipeline.run("on", raise_on_error=False)).messages)

    simulate(main)


@pytest.mark.parametrize("preset", ["chat", "minimal"])
def test_what_cannot_be_given_back_after_a_run_is_logged_and_changes_nothing(
    preset: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Kept(MemoryJournal):
        async def release(self, stream: str, epoch: int) -> None:
            raise JournalError("the disk is full")

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["done"]), preset, journal=Kept(world))
        assert (await pipeline.run("go")).text == "done"
        await pipeline.aclose()

    simulate(main)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["after the end of a run: the disk is full"] * (preset == "minimal")


def test_an_end_that_could_not_be_written_is_not_told_as_one() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Failing(world)
        journal.kind = "run.end"
        pipeline = make(world, [[use("look")]], "chat", tools=[Do("look")], journal=journal)
        with pytest.raises(JournalError, match="the disk is full") as failed:
            await pipeline.run("go", limits={"max_turns": 1})
        assert isinstance(failed.value.__cause__, LimitError)
        journal.kind = ""
        [row] = await journal.runs()
        with pytest.raises(LimitError):
            await pipeline.resume(row.run_id)
        assert [row.status for row in await journal.runs()] == ["error"]

    simulate(main)


def test_a_claim_that_could_not_be_prolonged_is_prolonged_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(MemoryJournal):
        durable = True
        tried = 0

        async def renew(self, stream: str, epoch: int, ttl: float) -> None:
            self.tried += 1
            if self.tried == 1:
                raise JournalError("the disk is full")
            await super().renew(stream, epoch, ttl)

    async def main(world: SimulatedWorld) -> None:
        journal = Full(world)
        model = ScriptedModel(["done"], latency_s=60)
        pipeline = make(world, model, "chat", journal=journal, session_id="s")
        task = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(45)  # the claim that it began with is over
        with pytest.raises(JournalError, match="is being written by"):
            await journal.claim("s", "another", 30)
        assert (await task).text == "done"

    simulate(main)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["a claim was not renewed: the disk is full"]


def test_a_store_that_fails_in_a_way_of_its_own_ends_the_run_with_a_code() -> None:
    class Odd(MemoryJournal):
        async def append(
            self,
            stream: str,
            epoch: int,
            facts: Sequence[Event],
            *,
            sync: bool,
            ledger: LedgerEntry | None = None,
        ) -> int:
            if any(fact.type == "model.reply" for fact in facts):
                raise ZeroDivisionError("a fault of the store's")
            return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["done"], journal=Odd(world))
        result = await pipeline.run("go", raise_on_error=False)
        assert result.status == "error"
        assert "a fault of the store's" in result.error

    simulate(main)
