"""A recorded run again, from its facts alone; and what is shown when it is another run by now.

That simulated agents of all kinds replay without a divergence is held by tests/campaign.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.context import Safety
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock
from lorimer.core.stage import Stage
from lorimer.core.state import Decision, PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.export import export, read_export
from lorimer.journal.recording import recorded
from lorimer.journal.replay import Divergence, Replayed
from lorimer.journal.verify import verify
from lorimer.models import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater, ToolRegistry
from tests.core.support import Change, Do, held, kinds, make, use

CODE = ExecutorErrorCode
CALLS: Sequence[Any] = ([use("look", "a"), use("send", "b", to="Ann")], [use("look", "c")], "done")


def tools() -> list[Do]:
    return [Do("look", safe=True), Do("send", effects=["send"])]


def build(world: World, replies: Sequence[Any] = CALLS, **options: Any) -> Pipeline:
    return make(world, replies, "chat", **{"tools": tools(), **options})


def never(world: World, journal: MemoryJournal, **options: Any) -> Pipeline:
    """The same agent, whose model and tools must not be called."""

    def fail(*_: object) -> None:
        raise AssertionError("it was called")

    given = [Do("look", fail, safe=True), Do("send", fail, effects=["send"])]
    model = ScriptedModel(fail)
    return build(world, model, journal=journal, **{"tools": given, **options})  # type: ignore[arg-type]


def changed(facts: Sequence[Event], at: int, **data: object) -> list[Event]:
    """The facts, with other data in one of them."""
    out = list(facts)
    old = out[at]
    new: Any = {**old.data, **data}
    out[at] = Event(old.type, new, old.run_id, old.iteration, old.time, seq=old.seq)
    return out


def only(replayed: Replayed) -> Divergence:
    assert replayed.divergence is not None
    json.dumps(replayed.divergence.to_json())
    return replayed.divergence


def test_a_run_gives_the_same_again_and_calls_nobody() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await build(world, journal=journal).run("go")
        before = [fact async for fact in journal.read(first.session_id)]
        replayed = await never(world, journal).replay(first.run_id[:10])
        again = replayed.result
        assert replayed.divergence is None
        assert (again.status, again.text, again.iterations) == ("ok", "done", 3)
        assert again.events == first.events
        assert again.messages == first.messages
        assert (again.usage, again.cost_nano) == (first.usage, first.cost_nano)
        assert [fact async for fact in journal.read(first.session_id)] == before, "only read"

    simulate(main)


def test_a_later_run_of_a_conversation_has_what_was_before_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        chat = build(world, ["one", "two", "three"], journal=journal)
        results = [await chat.run(word) for word in ("a", "b", "c")]
        for result in results:
            replayed = await never(world, journal).replay(result.run_id)
            assert replayed.divergence is None
            assert replayed.result.messages == result.messages

    simulate(main)


@pytest.mark.parametrize("kept", range(1, 13))
def test_an_unfinished_run_is_replayed_as_far_as_it_is_recorded(kept: int) -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await build(world).run("go")
        assert len(whole.events) == 15
        journal = await held(world, whole.events[:kept])
        replayed = await never(world, journal).replay(whole.run_id)
        assert replayed.divergence is None
        assert replayed.result.status == "suspended"
        assert [fact.type for fact in replayed.result.events] == [
            fact.type for fact in whole.events[:kept]
        ]
        [row] = await journal.runs()
        assert row.status == "", "it still waits to be resumed"

    simulate(main)


def test_a_run_that_was_interrupted_and_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await build(world).run("go")
        for cut in range(1, len(whole.events)):
            journal = await held(world, whole.events[:cut])
            resumed = await build(world, list(CALLS), journal=journal).resume(
                whole.run_id, raise_on_error=False
            )
            replayed = await never(world, journal).replay(whole.run_id)
            assert replayed.divergence is None, cut
            assert replayed.result.events == resumed.events

    simulate(main)


@pytest.mark.parametrize("reason", [Reason.CALLER, Reason.SHUTDOWN, Reason.KILLED])
def test_a_run_that_was_stopped_in_the_middle_of_a_call(reason: Reason) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        async def stop(*_: object) -> str:
            pipeline.cancel(reason)
            await world.sleep(60)
            return "never"

        given = [Do("look"), Do("send", stop, effects=["send"])]
        pipeline = build(world, tools=given, journal=journal)
        first = await pipeline.run("go", raise_on_error=False)
        replayed = await never(world, journal).replay(first.run_id)
        assert replayed.divergence is None
        assert replayed.result.status == first.status
        assert replayed.result.code == first.code

    simulate(main)


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(max_turns=2), "error"),
        (Limits(timeout_s=25), "timeout"),
        (Limits(max_tool_calls=2), "error"),
        (Limits(max_cost_usd=0.00001), "error"),
    ],
)
def test_a_run_that_a_limit_ended(limits: Limits, status: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(list(CALLS), latency_s=10)
        first = await build(world, model, journal=journal).run(  # type: ignore[arg-type]
            "go", limits=limits, raise_on_error=False
        )
        assert first.status == status
        replayed = await never(world, journal).replay(first.run_id)
        assert replayed.divergence is None
        assert (replayed.result.status, replayed.result.code) == (first.status, first.code)

    simulate(main)


def test_failed_attempts_are_answered_too_and_nobody_waits() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        busy = APIError("busy", code=CODE.EXEC_API_SERVER_ERROR)
        first = await build(world, [busy, busy, "at last"], journal=journal).run("go")
        before = world.monotonic()
        replayed = await never(world, journal).replay(first.run_id)
        assert replayed.divergence is None
        assert replayed.result.text == "at last"
        assert world.monotonic() == before

    simulate(main)


def test_a_question_to_a_person_is_not_asked_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        asked: list[str] = []

        class Asks:
            async def approve(self, tool: str, summary: str, reason: str) -> bool:
                asked.append(tool)
                return len(asked) == 1

        replies = [[use("Write", "w", file_path="a", content="b")]] * 2
        journal = MemoryJournal(world)

        def shipped(manifest: EnvironmentManifest) -> None:
            manifest.tools.built_in = ["Write"]

        options: dict[str, Any] = {"change": shipped, "approver": Asks(), "tools": ()}
        with pytest.MonkeyPatch.context() as patch:
            import tempfile

            patch.setenv("TMPDIR", tempfile.gettempdir())
            folder = tempfile.mkdtemp()
            with world.outside("files"):
                first = await build(
                    world, [*replies, "done"], journal=journal, workspace=folder, **options
                ).run("go")
            assert asked == ["Write", "Write"]
            replayed = await build(world, [], journal=journal, workspace=folder, **options).replay(
                first.run_id
            )
        assert replayed.divergence is None
        assert asked == ["Write", "Write"]
        assert "decision" in [fact.type for fact in replayed.result.events]

    simulate(main)


# --- divergence -------------------------------------------------------------------------------


def prompt(text: str) -> Change:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages["system"].config["prompt"] = text

    return change


def test_another_prompt_shows_at_the_first_model_call() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await build(world, journal=journal).run("go")
        replayed = await never(world, journal, change=prompt("Be brief.")).replay(first.run_id)
        found = only(replayed)
        assert (found.iteration, found.type, found.key, found.seq) == (0, "model.intent", "0", 2)
        assert found.why == (
            "the model call asks something else after the same words: its tools, system prompt, "
            "model or settings differ"
        )
        assert found.recorded is not None and found.found is not None
        assert found.recorded["hash"] != found.found["hash"]
        assert replayed.result.code is CODE.EXEC_JOURNAL_DIVERGED

    simulate(main)


class Late(Stage[object, object]):
    """Ends the loop when it is late."""

    name, order = "late", 16
    at = 0.0

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.run.now >= self.at:
            state.decision, state.reason = Decision.COMPLETE, "late"
        return input


def test_a_turn_has_the_time_that_it_had() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def takes_long(*_: object) -> str:
            await world.sleep(3)
            return "ok"

        journal = MemoryJournal(world)
        late = Late()
        late.at = world.time() + 5
        agent = build(world, [[use("look")]] * 9, tools=[Do("look", takes_long)], journal=journal)
        agent.register_stage(late)
        first = await agent.run("go")
        assert (first.status, first.iterations) == ("ok", 3)
        again = never(world, journal, tools=[Do("look")])
        again.register_stage(late)
        replayed = await again.replay(first.run_id)
        assert replayed.divergence is None
        assert replayed.result.iterations == 3

    simulate(main)


class Verdict(Stage[object, object]):
    """Ends the loop after some turns, or never."""

    name, order = "verdict", 16
    after = 99

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.iteration + 1 >= self.after:
            state.decision, state.reason = Decision.COMPLETE, "enough"
        return input


def with_verdict(pipeline: Pipeline, after: int) -> Pipeline:
    stage = Verdict()
    stage.after = after
    pipeline.register_stage(stage)
    return pipeline


@pytest.mark.parametrize(
    ("then", "now", "type", "why"),
    [
        (99, 2, "iteration.end", "it says something else"),
        (2, 99, "iteration.end", "it says something else"),
    ],
)
def test_code_that_decides_otherwise_shows_where_it_does(
    then: int, now: int, type: str, why: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await with_verdict(build(world, journal=journal), then).run("go")
        found = only(await with_verdict(never(world, journal), now).replay(first.run_id))
        assert (found.iteration, found.type, found.why) == (1, type, why)

    simulate(main)


@pytest.mark.parametrize(
    ("at", "data", "place"),
    [
        (0, {"input": "something else"}, (0, "model.intent", "0")),
        (1, {"messages": []}, (0, "model.intent", "0")),
        (2, {"content": [use("look", "a").to_json()]}, (0, "tool.intent", "1")),
        (4, {"hash": "0" * 24}, (0, "tool.intent", "1")),
        (4, {"effects": "read"}, None),  # what a tool may do is asked of the tool, not of the run
        (5, {"content": "a lie"}, (1, "model.intent", "0")),
        (-1, {"cost": 5}, (2, "run.end", "")),
        (-1, {"status": "error"}, (2, "run.end", "")),
        (-2, {"reason": "tired"}, (2, "iteration.end", "")),
        (-1, {"message": "other words"}, None),
        (-2, {"times": [1, 2, 3]}, None),
    ],
)
def test_a_record_that_was_changed_does_not_agree_with_the_code(
    at: int, data: dict[str, object], place: tuple[int, str, str] | None
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await build(world, journal=journal).run("go")
        [run] = read_export([line async for line in export(journal, first.run_id)])
        run.facts = changed(run.facts, at, **data)  # type: ignore[misc]
        replayed = await never(world, journal).replay(run)
        if place is None:
            assert replayed.divergence is None
        else:
            found = only(replayed)
            assert (found.iteration, found.type, found.key) == place

    simulate(main)


def test_a_run_that_goes_on_where_the_recorded_one_had_ended() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await build(world, journal=journal).run(
            "go", limits={"max_turns": 2}, raise_on_error=False
        )
        run = await recorded(journal, first.run_id)
        run.facts = changed(run.facts, 0, limits={"max_turns": 9})  # type: ignore[misc]
        found = only(await never(world, journal).replay(run))
        assert (found.iteration, found.type, found.recorded) == (2, "model.reply", None)
        assert found.why == "no result of this call is recorded"
        run.facts = changed(run.facts, 0, limits={"max_turns": 1})  # type: ignore[misc]
        found = only(await never(world, journal).replay(run))
        assert (found.iteration, found.type) == (1, "model.intent")
        assert found.why == "this is recorded, and the run ended before"
        assert found.found is not None
        assert found.found["code"] == "exec.loop.max_turns"

    simulate(main)


class Notes(Stage[object, object]):
    """Records something of its own, by now."""

    name, order = "notes", 7

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.run.replaying:
            await state.run.record("effect", {"key": "note:0", "said": "x"}, key="note:0")
        return input


def test_a_fact_that_is_not_recorded() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = build(world, journal=journal)
        first.register_stage(Notes())
        result = await first.run("go")
        again = never(world, journal)
        again.register_stage(Notes())
        found = only(await again.replay(result.run_id))
        assert (found.iteration, found.type, found.key) == (0, "effect", "note:0")
        assert (found.why, found.recorded) == ("this is not recorded", None)
        assert found.found is not None and found.found["said"] == "x"

    simulate(main)


class Swallows(Stage[object, object]):
    """Asks outside for what is not recorded, and makes nothing of being refused, twice."""

    name, order = "swallows", 7

    async def execute(self, input: object, state: PipelineState) -> object:
        async def call() -> dict[str, JSON]:
            return {}

        for number in range(2) if state.run.replaying else ():
            with suppress(JournalError):
                await state.run.effect(
                    "extra", str(number), call, request=b"", safety=Safety.READ_ONLY
                )
        return input


def test_the_first_divergence_is_told_whatever_comes_after_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = build(world, journal=journal)
        first.register_stage(Swallows())
        result = await first.run("go")
        again = never(world, journal)
        again.register_stage(Swallows())
        found = only(await again.replay(result.run_id))
        assert (found.iteration, found.type, found.key) == (0, "effect", "extra:0")
        assert found.why == "no result of this call is recorded"

    simulate(main)


class Quits(Stage[object, object]):
    """Stops the run before its second model call."""

    name, order = "quits", 5
    every_call = True

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.iteration and not state.run.replaying:
            state.run.cancel(Reason.CALLER)
            await asyncio.sleep(0)
        return input


def test_a_run_that_was_stopped_between_two_turns() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = build(world, journal=journal)
        pipeline.register_stage(Quits())
        first = await pipeline.run("go", raise_on_error=False)
        assert first.status == "cancelled"
        assert kinds(first.events)[-2:] == ["iteration.end", "run.end"]
        again = never(world, journal)
        again.register_stage(Quits())
        replayed = await again.replay(first.run_id)
        assert replayed.divergence is None
        assert (replayed.result.status, replayed.result.code) == (first.status, first.code)

    simulate(main)


class Waits(Stage[object, object]):
    name, order = "waits", 7
    reached = False

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.run.replaying:
            self.reached = True
            await asyncio.Event().wait()
        return input


def test_who_cancels_a_replay_is_obeyed() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first, stage = build(world, journal=journal), Waits()
        first.register_stage(stage)
        result = await first.run("go")
        again = never(world, journal)
        again.register_stage(stage)
        going = asyncio.ensure_future(again.replay(result.run_id))
        while not stage.reached:
            await asyncio.sleep(0)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

    simulate(main)


class Peeks(Stage[object, object]):
    """Goes outside past the one door."""

    name, order = "peeks", 7

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.run.replaying:
            state.run.world.http()
        return input


def test_a_stage_that_goes_outside_by_itself_is_refused() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = build(world, journal=journal)
        first.register_stage(Peeks())
        result = await first.run("go")
        again = never(world, journal)
        again.register_stage(Peeks())
        replayed = await again.replay(result.run_id)
        assert "open a connection" in only(replayed).why

    simulate(main)


def test_a_run_that_is_not_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(PipelineError, match="There is no run 'run_x'"):
            await build(world).replay("run_x")

    simulate(main)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000], ids=len)
def test_a_run_whose_manifest_is_damaged_can_be_read(body: bytes) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first = await build(world, journal=journal).run("go")
        journal._documents[str(first.events[0].data["manifest"])] = body
        assert (await recorded(journal, first.run_id)).manifest is None

    simulate(main)


def test_texts_of_any_kind_are_the_same_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        odd = [[TextBlock("\ud800 half"), use("look", "a")], "\x00"]
        first = await build(world, odd, journal=journal).run("ü\ud800")
        assert (await never(world, journal).replay(first.run_id)).divergence is None

    simulate(main)


# --- told from elsewhere ------------------------------------------------------------------------


def test_a_text_that_was_sent_meanwhile_comes_at_the_same_place() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        ids: list[str] = []

        async def look(*_: object) -> str:
            await mail.send(journal, ids[0], "hurry", id=f"m{world.monotonic()}")
            await world.sleep(1)
            return "seen"

        given = [Do("look", look), Do("send", effects=["send"])]
        model = ScriptedModel([[use("look", "a")], "first", "second"], latency_s=2)
        pipeline = build(world, model, tools=given, journal=journal)  # type: ignore[arg-type]
        pipeline.on("run.start", lambda event: ids.append(event.run_id))
        going = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(4.5)
        await mail.send(journal, ids[0], "and this", id="late")
        first = await going
        assert first.text == "second"
        again = build(world, [], tools=[Do("look"), Do("send", effects=["send"])], journal=journal)
        replayed = await again.replay(first.run_id)
        assert replayed.divergence is None
        assert replayed.result.messages == first.messages
        assert await verify(journal, first.run_id) == []
        fork = build(world, ["third"], tools=given, journal=journal)
        forked = await fork.fork(first.run_id, after=1)
        assert forked.messages[:3] == first.messages[:3]
        assert await verify(journal, forked.run_id) == []

    simulate(main)


def test_a_run_that_waits_and_is_answered_is_replayed_before_and_after() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        def asking(replies: Sequence[Any]) -> Pipeline:
            registry = ToolRegistry()
            registry.register(Do("send", effects=["net"]), granted=False)
            return make(
                world, replies, "chat", tools=registry, journal=journal, approver=AskLater()
            )  # type: ignore[arg-type]

        waits = asking([[use("send")]])
        result = await waits.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_RUN_WAITING
        await waits.aclose()
        replayed = await asking([]).replay(result.run_id)
        assert (replayed.divergence, replayed.result.status) == (None, "suspended")
        await mail.answer(journal, result.run_id, True)
        ended = await asking(["done"]).resume(result.run_id)
        replayed = await asking([]).replay(result.run_id)
        assert replayed.divergence is None
        assert replayed.result.events == ended.events
        assert await verify(journal, result.run_id) == []

    simulate(main)


ORDERED: Mapping[str, JSON] = {
    "model": {
        "model": "scripted:m",
        "output_schema": {
            "type": "object",
            "properties": {"why": {"type": "string"}, "answer": {"type": "string"}},
            "required": ["why", "answer"],
        },
    },
    "tools": {
        "ad_hoc": [
            {
                "kind": "template",
                "name": "join",
                "template": "{to}{by}",
                "parameters": {"to": {"type": "string"}, "by": {"type": "string"}},
            }
        ]
    },
    "stages": [
        {"order": 1, "name": "input"},
        {"order": 6, "name": "api"},
        {"order": 9, "name": "parse"},
        {"order": 10, "name": "tool"},
        {
            "order": 14,
            "name": "evaluate",
            "strategies": {"strategy": "agent_evaluation"},
            "strategy_configs": {
                "strategy": {"criteria": {"true": "No lies.", "brief": "One word."}}
            },
        },
        {"order": 21, "name": "yield"},
    ],
}
"""The keys that a model is shown are in another order than that of the alphabet."""


def test_the_manifest_that_a_journal_keeps_asks_the_same() -> None:
    marks = [{"criterion": name, "score": 1} for name in ("true", "brief")]
    replies = ['{"why": "", "answer": "Yes."}', json.dumps({"marks": marks, "feedback": ""})]

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(replies)
        models = Models(providers={"scripted": model})
        begun = Pipeline.from_manifest(ORDERED, models=models, journal=journal, world=world)
        result = await begun.run("Is it so?")
        assert len(model.requests) == 2
        recording = await recorded(journal, result.run_id)
        kept = EnvironmentManifest.from_dict(recording.manifest)
        assert kept.digest == begun.manifest.digest
        other = Pipeline(kept, models=models, journal=journal, world=world)
        assert (await other.replay(result.run_id)).divergence is None
        assert not await verify(journal, result.run_id)

    simulate(main)


class Learns(Stage[object, object]):
    """Goes outside when the answer is there."""

    name, order = "learns", 18

    async def execute(self, input: object, state: PipelineState) -> object:
        async def call() -> dict[str, Any]:
            return {"learnt": True}

        await state.run.effect("embed", "0", call, request=b"", safety=Safety.READ_ONLY)
        return input


def test_a_record_that_ends_after_the_answer_is_replayed_to_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = build(world)
        first.register_stage(Learns())
        result = await first.run("go")
        at = [fact.data.get("key") for fact in result.events].index("embed:0")
        journal = await held(world, result.events[:at], result.session_id)
        again = never(world, journal)
        again.register_stage(Learns())
        replayed = await again.replay(result.run_id)
        assert replayed.divergence is None
        assert replayed.result.status == "suspended"

    simulate(main)
