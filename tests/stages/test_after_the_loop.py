"""Stages 17 to 21, through pipelines: handing the answer on, snapshots, the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, PipelineBuilder, PipelinePresets
from lorimer.core.errors import ExecutorErrorCode, StageError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.request import Usage
from lorimer.journal import Conversation, MemoryJournal, SQLiteJournal
from lorimer.memory import InMemory
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.session import SessionManager
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Change, Do, kinds, make, use
from tests.stages.support import choose

CODE = ExecutorErrorCode


# --- 17 Emit ----------------------------------------------------------------------------------


def emitting(**targets: str) -> Change:
    def change(manifest: EnvironmentManifest) -> None:
        entry = manifest.stages["emit"]
        entry.strategies["emitters"] = list(targets)
        entry.strategy_configs["emitters"] = {
            name: {"target": target} for name, target in targets.items()
        }

    return change


def test_emitters_call_what_the_host_bound_in_order() -> None:
    got: list[tuple[str, JSON]] = []

    async def store(record: JSON) -> None:
        got.append(("store", record))

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["the answer"], usage=Usage(7, 3), price=Price(1, 1))
        pipeline = make(
            world,
            model,
            change=emitting(text="speak", record="store"),
            bindings={"speak": lambda text: got.append(("speak", text)), "store": store},
        )
        seen: list[Event] = []
        pipeline.on("emit.complete", seen.append)
        result = await pipeline.run("go")
        assert got == [
            ("speak", "the answer"),
            (
                "store",
                {
                    "run_id": result.run_id,
                    "text": "the answer",
                    "iterations": 1,
                    "usage": {"input_tokens": 7, "output_tokens": 3},
                    "total_cost_usd": 1e-5,
                },
            ),
        ]
        assert [event.data for event in seen] == [{"channels": ["text", "record"]}]
        effects = [fact.data["key"] for fact in result.events if fact.type == "effect"]
        assert effects == ["emit:text", "emit:record"]

    simulate(main)


def test_what_was_handed_on_is_not_handed_on_again_when_the_run_is_resumed() -> None:
    async def main(world: SimulatedWorld) -> None:
        got: list[JSON] = []

        def build(journal: MemoryJournal) -> Any:
            return make(
                world,
                ["the answer"],
                change=emitting(text="one", record="two"),
                bindings={"one": got.append, "two": got.append},
                journal=journal,
            )

        whole = await build(MemoryJournal(world)).run("go")
        got.clear()
        cut = next(i for i, f in enumerate(whole.events) if f.data.get("key") == "emit:record")
        journal = MemoryJournal(world)
        epoch = await journal.claim("s", "dead", 0)
        kept = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in whole.events[:cut]]
        await journal.append("s", epoch, kept, sync=True)
        await journal.release("s", epoch)
        result = await build(journal).resume(whole.run_id)
        assert [type(record) for record in got] == [dict]
        assert kinds(result.events) == kinds(whole.events)

    simulate(main)


def test_a_receiver_that_fails_ends_the_run_in_error_and_the_answer_is_kept() -> None:
    def broken(text: JSON) -> None:
        raise OSError("no speaker")

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(
            world, ["the answer", "more"], change=emitting(text="x"), bindings={"x": broken}
        )
        with pytest.raises(StageError, match=r"Stage 17 \(emit\) failed: OSError: no speaker") as e:
            await pipeline.run("go")
        assert e.value.result is not None
        assert e.value.result.text == "the answer"
        assert [message.text for message in e.value.result.messages] == ["go", "the answer"]

    simulate(main)


@pytest.mark.parametrize(
    ("bindings", "says"),
    [
        ({}, r"stages\[17\].*target: nothing is bound to the name 'speak'"),
        ({"speek": print}, "did you mean 'speek'"),
        ({"speak": 3}, "'speak' is bound to a int"),
    ],
)
def test_a_missing_binding_is_named(bindings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(SimulatedWorld(), [], change=emitting(text="speak"), bindings=bindings)


def test_an_emitter_needs_a_target() -> None:
    with pytest.raises(
        ConfigError, match=r"stages\[17\]\.strategy_configs\.emitters\.text\.target"
    ):
        make(SimulatedWorld(), [], change=choose("emit", "emitters", ["text"]))


def test_nothing_is_handed_on_when_the_run_did_not_end_well() -> None:
    async def main(world: SimulatedWorld) -> None:
        got: list[JSON] = []
        model = ScriptedModel.obedient("look")
        pipeline = make(
            world,
            model,
            change=emitting(text="x"),
            bindings={"x": got.append},
            tools=[Do("look")],
        )
        await pipeline.run("go", limits=Limits(max_turns=2), raise_on_error=False)
        assert got == []

    simulate(main)


def test_the_builder_names_receivers_in_order() -> None:
    async def main(world: SimulatedWorld) -> None:
        got: list[JSON] = []
        pipeline = (
            PipelineBuilder(
                model="scripted:m",
                models=Models(providers={"scripted": ScriptedModel(["hi"])}),
                world=world,
                bindings={"a": lambda record: got.append("record"), "b": got.append},
            )
            .with_emit(record="a", text="b")
            .build()
        )
        await pipeline.run("go")
        assert got == ["record", "hi"]

    simulate(main)


# --- 20 Persist -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (choose("persist", "cadence", "every_n_facts", n=8), [10, 20]),
        (choose("persist", "cadence", "every_n_facts", n=1), [5, 10, 15, 20]),
        (choose("persist", "cadence", "every_n_facts"), []),
        (choose("persist", "cadence", "every_n_turns", n=2), [10, 20]),
        (choose("persist", "cadence", "every_n_turns", n=3), [15]),
        (choose("persist", "cadence", "every_n_turns"), []),
        (choose("persist", "cadence", "on_growth", min_facts=2, ratio=1.0), [5, 15]),
        (choose("persist", "cadence", "on_growth"), []),
    ],
)
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_snapshots_are_kept_as_often_as_the_cadence_says(
    change: Change, at: list[int], heard: bool
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        pipeline = make(
            world, ScriptedModel([f"answer {n}" for n in range(4)]), change=change, journal=journal
        )
        if heard:
            pipeline.on("*", lambda event: None)
        found: list[int] = []
        for number in range(4):
            result = await pipeline.run(f"question {number}")
            assert len(result.events) == 5
            kept = await journal.snapshot(result.session_id)
            if kept is not None and kept[0] not in found:
                found.append(kept[0])
        assert found == at
        await pipeline.aclose()
        again = await Conversation.open(journal, result.session_id, "later", world)
        assert list(again.history) == result.messages
        await journal.close()

    simulate(main)


def test_a_conversation_opened_from_a_snapshot_goes_on_the_same(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        path = tmp_path / "journal.db"
        session = ""
        model = ScriptedModel([[use("look")], "one", "two", "three"])
        for question in ("first", "second", "third"):
            journal = SQLiteJournal(path, world=world, threads=False)
            change = choose("persist", "cadence", "every_n_facts", n=1)
            async with make(
                world,
                model,
                change=change,
                journal=journal,
                tools=[Do("look")],
                session_id=session,
            ) as pipeline:
                result = await pipeline.run(question)
                session = result.session_id
            await journal.close()
        assert [message.text for message in model.requests[-1].messages] == [
            *("first", "", "", "one"),
            *("second", "two", "third"),
        ]

    simulate(main)


def test_turns_since_the_last_snapshot_count_whichever_process_had_them(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        path, session, kept = tmp_path / "journal.db", "", list[int]()
        for number in range(7):  # the third run fails: the fourth has the snapshot in its place
            journal = SQLiteJournal(path, world=world, threads=False)
            async with make(
                world,
                [RuntimeError("no")] if number == 2 else [f"answer {number}"],
                change=choose("persist", "cadence", "every_n_turns", n=3),
                journal=journal,
                session_id=session,
            ) as pipeline:
                result = await pipeline.run(f"question {number}", raise_on_error=False)
                session = result.session_id
            assert (result.status == "ok") is (number != 2)
            found = await journal.snapshot(session)
            kept.append(0 if found is None else found[0])
            await journal.close()
        first, second = kept[3], kept[6]
        assert kept == [0, 0, 0, first, first, first, second]
        assert 0 < first < second

    simulate(main)


def test_a_journal_that_does_not_outlive_the_process_gets_no_snapshots() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        change = choose("persist", "cadence", "every_n_facts", n=1)
        pipeline = make(world, ["hi"], change=change, journal=journal)
        bypassed: list[str] = []
        pipeline.on("stage.bypass", lambda event: bypassed.append(event.stage))
        result = await pipeline.run("go")
        assert "persist" in bypassed
        assert await journal.snapshot(result.session_id) is None

    simulate(main)


# --- 21 Yield ---------------------------------------------------------------------------------


def test_the_output_is_the_text_or_what_the_parser_made_of_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        assert (await make(world, ["hi"]).run("go")).output == "hi"
        change = choose("parse", "parser", "structured_output")
        assert (await make(world, ['{"a": 1}'], change=change).run("go")).output == {"a": 1}

    simulate(main)


def test_the_structured_formatter_tells_the_circumstances() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            choose("parse", "parser", "structured_output")(manifest)
            choose("yield", "formatter", "structured")(manifest)

        model = ScriptedModel(
            [[use("look")], "[1]"], name="m-2026", usage=Usage(7, 3), price=Price(1, 1)
        )
        pipeline = make(world, model, change=change, tools=[Do("look")])
        result = await pipeline.run("go")
        assert result.output == {
            "text": "[1]",
            "output": [1],
            "model": "m-2026",
            "iterations": 2,
            "usage": {"input_tokens": 14, "output_tokens": 6},
            "total_cost_usd": 2e-5,
        }
        assert result.text == "[1]"

    simulate(main)


def test_one_runs_output_is_not_the_next_ones() -> None:
    async def main(world: SimulatedWorld) -> None:
        change = choose("parse", "parser", "structured_output")
        pipeline = make(world, ['{"a": 1}', "plain"], "chat", change=change)
        assert (await pipeline.run("go")).output == {"a": 1}
        assert (await pipeline.run("go")).output == "plain"

    simulate(main)


def test_a_chat_with_a_memory_knows_in_another_conversation_what_was_said() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(lambda _: "The key is 7391.")
        chat = PipelinePresets.chat(
            model="scripted:m",
            models=Models(providers={"scripted": model}),
            world=world,
            bindings={"memory": InMemory()},
        )
        async with SessionManager() as manager:
            await manager.create(chat).run("What is the deploy key?")
            await manager.create(chat).run("Say the deploy key.")
        first, second = (request.messages for request in model.requests)
        assert [message.text for message in first] == ["What is the deploy key?"]
        assert second[0].text == "Say the deploy key."
        assert "The key is 7391." in second[-1].text

    simulate(main)
