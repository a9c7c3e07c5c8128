"""Beginning and ending runs, one at a time in a conversation: what the façade promises."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, PipelinePresets
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, check_history, make, only, use

CODE = ExecutorErrorCode


def test_a_conversation_takes_one_run_at_a_time_and_goes_on_after_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["one", "two"], latency_s=5), "chat")
        first = asyncio.create_task(pipeline.run("go"))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already in a run") as busy:
            await pipeline.run("me too")
        assert busy.value.code is CODE.EXEC_RUN_BUSY
        assert (await first).text == "one"
        assert (await pipeline.run("now")).text == "two"

    simulate(main)


def test_runs_of_a_pipeline_without_a_memory_do_not_disturb_each_other() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(lambda request: request.messages[0].text.upper(), latency_s=5)
        pipeline = make(world, model, "minimal")
        results = await asyncio.gather(*[pipeline.run(f"run {n}") for n in range(10)])
        assert [result.text for result in results] == [f"RUN {n}" for n in range(10)]
        assert world.monotonic() == 5
        assert len({result.session_id for result in results}) == 10
        assert len(await pipeline.journal.runs()) == 10

    simulate(main)


def test_a_refused_input_does_not_leave_the_conversation_busy() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["fine"], "chat")
        with pytest.raises(PipelineError, match="cannot be recorded") as refused:
            await pipeline.run(object())  # type: ignore[arg-type]
        assert "model_dump_json()" in refused.value.hint
        assert (await pipeline.run("go")).text == "fine"

    simulate(main)


def test_a_conversation_that_somebody_else_writes_is_refused_until_he_is_done() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        mine = make(world, ["one", "two"], "chat", journal=journal, session_id="s", owner="me")
        theirs = make(world, ["three"], "chat", journal=journal, session_id="s", owner="you")
        await mine.run("go")
        with pytest.raises(JournalError) as refused:
            await theirs.run("go")
        assert refused.value.code is CODE.EXEC_JOURNAL_CONFLICT
        await mine.aclose()
        result = await theirs.run("on")
        assert [message.text for message in result.messages] == ["go", "one", "on", "three"]
        await theirs.aclose()
        again = await mine.run("and")
        assert [message.text for message in again.messages][-2:] == ["and", "two"]
        assert len(again.messages) == 6

    simulate(main)


def test_a_conversation_lost_to_another_is_read_anew_the_next_time() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        mine = make(world, ["one", "two"], "chat", journal=journal, session_id="s", owner="me")
        await mine.run("go")
        await world.sleep(60)  # the claim has run out
        theirs = make(world, ["theirs"], "chat", journal=journal, session_id="s", owner="you")
        await theirs.run("on")
        await theirs.aclose()
        with pytest.raises(JournalError):
            await mine.run("and")
        result = await mine.run("and")
        texts = [message.text for message in result.messages]
        assert texts == ["go", "one", "on", "theirs", "and", "two"]

    simulate(main)


def test_a_pipeline_keeps_its_conversation_when_it_is_closed_and_used_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, model := ScriptedModel(["one", "two"]), "chat")
        async with pipeline:
            first = await pipeline.run("go")
        second = await pipeline.run("on")
        assert first.session_id == second.session_id
        assert len(model.requests[1].messages) == 3

    simulate(main)


def test_every_pipeline_has_a_conversation_of_its_own_in_a_shared_journal() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(["one", "two"])
        results = [
            await make(world, model, "chat", journal=journal).run(f"run {n}") for n in range(2)
        ]
        assert results[0].session_id != results[1].session_id
        assert all(result.session_id.startswith("session_") for result in results)
        assert [len(request.messages) for request in model.requests] == [1, 1]

    simulate(main)


def test_closing_after_the_journal_was_closed_is_harmless() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        pipeline = make(world, ["one"], "chat", journal=journal)
        await pipeline.run("go")
        await journal.close()
        await pipeline.aclose()
        await pipeline.aclose()

    simulate(main)


def test_a_loop_of_another_library_is_refused_in_words() -> None:
    pipeline = PipelinePresets.chat(model="scripted:echo")
    for begin in (pipeline.run("go"), anext(pipeline.run_stream("go"))):
        with pytest.raises(PipelineError, match="need an event loop of asyncio's") as refused:
            begin.__await__().send(None)  # as trio, which is not installed here, would
        assert refused.value.hint
    assert pipeline.run_sync("go").text == "go"


def test_run_sync_is_run_for_programs_without_a_loop() -> None:
    from lorimer.world.real import RealWorld

    pipeline = make(RealWorld(), ["one", APIError("no", code=CODE.EXEC_API_BAD_REQUEST)], "chat")
    assert pipeline.run_sync("go").text == "one"
    assert pipeline.run_sync("go", raise_on_error=False).code is CODE.EXEC_API_BAD_REQUEST
    with pytest.raises(APIError, match="used up"):
        pipeline.run_sync("go")

    async def inside() -> None:
        with pytest.raises(PipelineError, match="event loop is running"):
            pipeline.run_sync("go")

    asyncio.run(inside())


def test_one_tool_alone_may_be_given_and_shipped_ones_stand_beside_the_hosts(
    tmp_path: Path,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            manifest.tools.built_in = ["Read"]

        for changed, names in ((None, ["look"]), (change, ["look", "Read"])):
            model = ScriptedModel(["hi"])
            pipeline = make(
                world,
                model,
                "chat",
                change=changed,
                tools=Do("look"),  # type: ignore[arg-type]
                workspace=tmp_path,
            )
            await pipeline.run("go")
            assert [tool.name for tool in model.requests[0].tools] == names

    simulate(main)


def test_limits_of_a_run_may_be_given_as_a_mapping_over_those_of_the_manifest() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: Any) -> None:
            manifest.limits = Limits(max_turns=7, max_tool_calls=5)

        pipeline = make(world, ["one", "two"], "chat", change=change)
        result = await pipeline.run("go", limits={"max_turns": 3})
        assert only(result.events, "run.start")["limits"] == {"max_turns": 3, "max_tool_calls": 5}
        assert "limits" not in only((await pipeline.run("go")).events, "run.start")
        with pytest.raises(ConfigError):
            await pipeline.run("go", limits={"max_turnz": 3})

    simulate(main)


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel([[TextBlock("\udc80"), use("look", x="\ud800")], "done \ud800"])
        tools = [Do("look", lambda *_: "seen \udfff")]
        pipeline = make(world, model, "chat", journal=journal, tools=tools)
        result = await pipeline.run("half \ud83d")
        assert result.status == "ok"
        assert result.text == "done \ud800"
        check_history(result.messages)
        await journal.close()

    simulate(main)
