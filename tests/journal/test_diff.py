"""Two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.messages import ThinkingBlock, user_message
from lorimer.core.request import Usage
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.journal import MemoryJournal
from lorimer.journal.diff import Comparison, diff
from lorimer.journal.recording import Recording, recorded
from lorimer.models.pricing import Price
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, make, use


async def ran(
    world: SimulatedWorld, replies: Sequence[Any], input: str = "go", **options: Any
) -> Recording:
    journal = MemoryJournal(world)
    model = ScriptedModel(replies, usage=Usage(100, 10), price=Price(1, 1), latency_s=2)
    tools = [Do("look", lambda given, _: f"saw {given.get('at')}")]
    agent = make(world, model, "chat", tools=tools, journal=journal)
    result = await agent.run(input, raise_on_error=False, **options)
    return await recorded(journal, result.run_id)


def places(found: Comparison) -> list[tuple[int, str, str]]:
    return [(item.iteration, item.kind, item.key) for item in found.differences]


def test_a_run_that_says_the_same_is_the_same_whatever_its_ids_and_times() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, [[use("look", "c1", at="a")], "done"])
        await world.sleep(5)
        two = await ran(world, [[use("look", "other", at="a")], "done"])
        assert one.run_id != two.run_id
        assert diff(one, two).differences == []

    simulate(main)


def test_what_differs_is_told_where_it_differs() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, [[use("look", "c1", at="a"), use("look", "c2", at="b")], "done"])
        two = await ran(
            world,
            [[ThinkingBlock("hm"), use("look", "c1", at="a"), use("look", "c2", at="z")], "fine"],
            "go on",
            limits=Limits(max_turns=9),
        )
        found = diff(one, two)
        assert places(found) == [
            (0, "limits", "max_turns"),
            (0, "input", ""),
            (0, "thinking", ""),
            (0, "call", "1"),
            (0, "result", "1"),
            (1, "reply", ""),
        ]
        assert [(item.left, item.right) for item in found.differences[3:]] == [
            (
                {"name": "look", "input": {"at": "b"}},
                {"name": "look", "input": {"at": "z"}},
            ),
            ("saw b", "saw z"),
            ("done", "fine"),
        ]
        json.dumps(found.to_json())

    simulate(main)


def test_turns_that_one_of_them_has_alone_and_their_figures() -> None:
    async def main(world: SimulatedWorld) -> None:
        error = APIError("busy", code=ExecutorErrorCode.EXEC_API_SERVER_ERROR)
        one = await ran(world, ["done"])
        two = await ran(world, [error, [use("look", "c", at="a")], "done"])
        found = diff(one, two)
        assert places(found) == [
            (0, "attempt", "0"),
            (0, "reply", ""),
            (0, "call", "0"),
            (0, "result", "0"),
            (0, "end", ""),
            (1, "reply", ""),
            (1, "end", ""),
        ]
        assert [(f.turns, f.tool_calls, f.cost_nano) for f in (found.left, found.right)] == [
            (1, 0, 110_000),
            (2, 1, 220_000),
        ]
        assert found.left.seconds == 2
        assert found.right.seconds > 6
        assert found.right.usage == Usage(200, 20)

    simulate(main)


def test_an_unfinished_run_has_figures_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await ran(world, [[use("look", "c", at="a")], "done"])
        journal = await held(world, whole.facts[:6])
        part = await recorded(journal, whole.run_id)
        found = diff(whole, part)
        assert (found.right.status, found.right.turns) == ("", 2)
        assert places(found)[-2:] == [(1, "reply", ""), (1, "end", "")]

    simulate(main)


def test_manifests_are_compared_field_by_field() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, ["done"])
        manifest = json.loads(json.dumps(one.manifest))
        manifest["model"]["temperature"] = 0.5
        manifest["stages"][1]["config"] = {"stateless": True}
        two = Recording(one.run_id, one.session_id, one.history, one.facts, manifest)
        assert [(item.key, item.right) for item in diff(one, two).differences] == [
            ("model.temperature", 0.5),
            ("stages[2].config.stateless", True),
        ]

    simulate(main)


def test_a_call_that_was_cut_off_is_no_difference_and_what_was_sent_meanwhile_is_one() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, [[use("look", "c1", at="a")], "done"])
        facts = list(one.facts)
        at = [fact.type for fact in facts].index("iteration.end")
        old = facts[at]
        facts.insert(at, Event("effect", {"key": "abandoned:model:1", "cost": 3}, old.run_id))
        assert diff(one, replace(one, facts=facts)).differences == []
        facts[at] = Event("effect", {"key": "embed:1", "vectors": [1]}, old.run_id)
        assert places(diff(one, replace(one, facts=facts))) == [(0, "effect", "embed:1")]

    simulate(main)


def test_of_a_manifest_that_is_not_there_the_digest_is_compared() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, ["done"])
        lost = replace(one, manifest=None)
        assert diff(lost, lost).differences == []
        assert (0, "manifest", "digest") in places(diff(one, lost))

    simulate(main)


def test_damaged_content_is_compared_as_far_as_it_can_be_read() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = await ran(world, ["done"])
        facts = [
            Event(f.type, {**f.data, "content": [3, *f.data["content"]]}, f.run_id, f.iteration)  # type: ignore[misc]
            if f.type == "model.reply"
            else f
            for f in one.facts
        ]
        assert diff(one, replace(one, facts=facts)).differences == []

    simulate(main)


class Urges(Stage[object, object]):
    """Says something to the model after its first turn."""

    name, order = "urges", 13

    def __init__(self, text: str) -> None:
        self.text = text

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.iteration == 0:
            state.messages.append(user_message(self.text))
        return input


def test_what_a_stage_tells_the_model_in_a_later_turn_is_compared() -> None:
    async def told(world: SimulatedWorld, text: str) -> Recording:
        journal = MemoryJournal(world)
        agent = make(world, [[use("look", "c")], "done"], tools=[Do("look")], journal=journal)
        agent.register_stage(Urges(text))
        return await recorded(journal, (await agent.run("go")).run_id)

    async def main(world: SimulatedWorld) -> None:
        one, two = await told(world, "Hurry."), await told(world, "Take your time.")
        assert (1, "asked", "") in places(diff(one, two))

    simulate(main)
