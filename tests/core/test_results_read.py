"""`pipeline.result`: what an ended run gave, read from the journal by whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError, ExecutorErrorCode, PipelineError
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.verify import verify
from lorimer.models.pricing import Price
from lorimer.stages.s21_yield import Formatter
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, make, use


def said(*replies: Any) -> ScriptedModel:
    return ScriptedModel(replies, usage=Usage(120, 30), price=Price(3, 15))


class Doubled(Formatter):
    """Plain data, by a strategy of the host's own."""

    name = "doubled"

    def format(self, state: Any) -> object:
        return {"said": [state.text, state.text], "turns": state.run.bounds.turns}


class Alive(Formatter):
    name = "alive"

    def format(self, state: Any) -> object:
        return object()


def same(read: PipelineResult, given: PipelineResult) -> None:
    """Every field; events and errors by what they say."""
    for name in [field.name for field in fields(PipelineResult)]:
        ours, theirs = getattr(read, name), getattr(given, name)
        if name == "events":
            assert [fact.to_json() for fact in ours] == [fact.to_json() for fact in theirs]
        elif name == "history":
            assert read.messages == given.messages
        elif name == "exception" and theirs is not None:
            assert type(ours) is type(theirs)
            assert (ours.code, str(ours)) == (theirs.code, str(theirs))
            assert ours.result is read
        else:
            assert ours == theirs, name
    assert read.steps == given.steps
    assert (read.success, read.error, read.code) == (given.success, given.error, given.code)
    assert read.total_cost_usd == given.total_cost_usd


WORK = ([use("look", "c1"), use("look", "c2")], "It is fine.")
WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ok": (WORK, {}),
    "several": ((use("look", "c1"), [use("look", "c2")], "so"), {}),
    "error": (([use("look", "c1")],), {}),
    "cancelled": (WORK, {"cancel": "tool.intent"}),
    "cancelled late": (WORK, {"cancel": "model.reply"}),
    "timeout": (WORK, {"limits": Limits(timeout_s=5.0)}),
    "budget": (WORK, {"limits": Limits(max_cost_usd=0.003)}),
    "turns": (([use("look", f"c{n}")] for n in range(9)), {"limits": Limits(max_turns=2)}),
    "calls": (WORK, {"limits": Limits(max_tool_calls=1)}),
    "nothing said": (([],), {}),
}
STATUS = {
    "several": "ok",
    "cancelled late": "cancelled",
    "budget": "budget_exceeded",
    "turns": "error",
    "calls": "error",
    "nothing said": None,
}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_run_returned(way: str, kind: str) -> None:
    replies, how = WAYS[way]
    replies = [[r] if not isinstance(r, str | list) else r for r in replies]

    async def main(world: SimulatedWorld) -> None:
        journal: Any = (
            MemoryJournal(world)
            if kind == "memory"
            else SQLiteJournal(":memory:", world=world, threads=False)
        )

        async def look(_: object, __: object) -> str:
            if way == "timeout":
                await world.sleep(60)
            return "it is"

        tools = [Do("look", look, effects=["write"])]
        model = said("before", *replies)
        async with make(world, model, "chat", tools=tools, journal=journal) as pipeline:
            await pipeline.run("first")

            def stop(_: object) -> None:
                pipeline.cancel(Reason.CALLER)

            if "cancel" in how:
                pipeline.on(how["cancel"], stop)
            given = await pipeline.run("and now?", limits=how.get("limits"), raise_on_error=False)
        status = STATUS.get(way, way)
        assert status is None or given.status == status, given.error
        # somebody else, with another agent
        async with make(world, [], "minimal", journal=journal) as other:  # type: ignore[arg-type]
            same(await other.result(given.run_id), given)
            same(await other.result(given.run_id[:-1]), given)

    simulate(main)


def test_the_output_is_kept_where_it_is_plain_data() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        for formatter, kept in [(Doubled, True), (Alive, False)]:
            pipeline = make(world, said("Fine."), "minimal", journal=journal)
            pipeline.swap_strategy("yield", "formatter", formatter)
            given = await pipeline.run("hi")
            read = await pipeline.result(given.run_id)
            assert read.output == (given.output if kept else None)
            assert read.text == "Fine."
            assert (await pipeline.replay(given.run_id)).divergence is None

    simulate(main)


def test_a_run_that_has_not_ended_says_how_to_go_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def asked() -> PipelineError:
            [row] = await pipeline.journal.runs()
            with pytest.raises(PipelineError) as refused:
                await pipeline.result(row.run_id)
            assert row.run_id in refused.value.hint or "Wait" in refused.value.hint
            return refused.value

        seen: list[PipelineError] = []

        async def look(_: object, __: object) -> str:
            if not seen:
                seen.append(await asked())
                pipeline.shut_down()
            return "looked"

        look_at = Do("look", look, effects=["write"])
        pipeline = make(world, said(*WORK), "chat", tools=[look_at])
        given = await pipeline.run("hi", raise_on_error=False)
        assert given.status == "suspended"
        assert seen[0].code is ExecutorErrorCode.EXEC_RUN_BUSY
        suspended = await asked()
        assert suspended.code is ExecutorErrorCode.EXEC_RUN_SHUTDOWN
        assert "pipeline.resume(" in suspended.hint
        result = await pipeline.resume(given.run_id)
        same(await pipeline.result(given.run_id), result)
        with pytest.raises(PipelineError) as unknown:
            await pipeline.result("run_nobody")
        assert unknown.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN

    simulate(main)


def test_a_run_that_waits_for_an_answer_says_so() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.tools.built_in = ["AskUserQuestion"]

    async def main(world: SimulatedWorld) -> None:
        replies = [[use("AskUserQuestion", question="Which?")], "done"]
        pipeline = make(world, replies, "chat", change=change)
        given = await pipeline.run("hi", raise_on_error=False)
        with pytest.raises(PipelineError, match="waits for an answer") as refused:
            await pipeline.result(given.run_id)
        assert refused.value.code is ExecutorErrorCode.EXEC_RUN_WAITING
        assert f"lorimer runs answer {given.run_id}" in refused.value.hint

    simulate(main)


def test_a_run_that_had_no_turn_ended_for_no_reason_of_one() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages["input"].strategies["validator"] = "strict"
        manifest.stages["input"].strategy_configs["validator"] = {"max_length": 1}

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["x", "done"], "chat", change=change)
        refused = await pipeline.run("too long", raise_on_error=False)
        assert (refused.status, refused.reason) == ("error", "")
        assert (await pipeline.run("1")).reason == "end_turn"

    simulate(main)


def test_without_an_event_loop(tmp_path: Path) -> None:
    pipeline = PipelinePresets.minimal(
        model="scripted:echo", journal=SQLiteJournal(tmp_path / "runs.db")
    )
    given = pipeline.run_sync("Hello")
    same(pipeline.result_sync(given.run_id), given)

    async def main() -> None:
        with pytest.raises(PipelineError, match="result_sync was called where an event loop") as no:
            pipeline.result_sync(given.run_id)
        assert no.value.hint == "Use: result = await pipeline.result(...)"
        await pipeline.journal.close()

    asyncio.run(main())


def test_a_result_in_place_of_the_id_of_a_run_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = make(world, said("Fine."), "minimal", journal=journal)
        wrong: Any = await pipeline.run("hi")
        for call in (
            lambda: pipeline.result(wrong),
            lambda: pipeline.resume(wrong),
            lambda: pipeline.abandon(wrong),
            lambda: pipeline.explain(wrong),
            lambda: pipeline.replay(wrong),
            lambda: pipeline.fork(wrong, after=1),
            lambda: verify(journal, wrong),
            lambda: mail.questions(journal, wrong),
            lambda: mail.answer(journal, wrong, True),
            lambda: mail.cancel(journal, wrong),
            lambda: mail.send(journal, wrong, "hi", id="1"),
        ):
            with pytest.raises(ConfigError, match="must be text, not PipelineResult") as told:
                await call()
            assert "result.run_id" in told.value.hint
        number: Any = 7
        with pytest.raises(PipelineError, match="A message to a run has"):
            await mail.send(journal, wrong.run_id, number, id="1")

    simulate(main)
