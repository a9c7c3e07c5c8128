"""A run that is cut off anywhere goes on, repeats nothing, and comes to the same end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from lorimer import Pipeline, PipelinePresets
from lorimer.core.events import Event
from lorimer.core.messages import ToolUse
from lorimer.journal.memory import MemoryJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import Tool, ToolContext, ToolResult

SCRIPT: Sequence[list[ToolUse] | str] = (
    [ToolUse("a", "look", {"n": 1}), ToolUse("b", "look", {"n": 2})],
    [ToolUse("c", "change", {"n": 3})],
    [ToolUse("d", "put", {"n": 4}), ToolUse("e", "look", {"n": 5})],
    "all done",
)


class Counting(Tool):
    """Counts its effects."""

    input_schema = {"type": "object", "properties": {"n": {"type": "integer"}}}  # noqa: RUF012

    def __init__(self, name: str, effects: frozenset[str], *, idempotent: bool = False) -> None:
        self._name = name
        self.effects = effects
        self.idempotent = idempotent
        self.done: list[object] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def description(self) -> str:
        return "counts"

    async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
        await context.world.sleep(1)
        self.done.append(input)
        return ToolResult(f"{self._name} {input['n']}")


def _tools() -> list[Counting]:
    return [
        Counting("look", frozenset({"read"})),
        Counting("change", frozenset({"write"})),
        Counting("put", frozenset({"write"}), idempotent=True),
    ]


def _pipeline(
    world: SimulatedWorld, journal: MemoryJournal, model: ScriptedModel, tools: Sequence[Tool]
) -> Pipeline:
    return PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": model}),
        tools=tools,
        journal=journal,
        world=world,
    )


async def _whole(world: SimulatedWorld) -> list[Event]:
    pipeline = _pipeline(world, MemoryJournal(world), ScriptedModel(SCRIPT), _tools())
    return (await pipeline.run("go")).events


def _asked(facts: Sequence[Event]) -> int:
    return sum(fact.type == "model.reply" for fact in facts)


def _asked_for(facts: Sequence[Event]) -> list[Mapping[str, object]]:
    intents = [fact.data for fact in facts if fact.type == "model.intent"]
    return [{k: v for k, v in data.items() if k != "used_s"} for data in intents]


def _done(facts: Sequence[Event]) -> int:
    return sum(fact.type == "tool.result" for fact in facts)


def _timed(facts: Sequence[Event]) -> list[int]:
    """How many stages each iteration had, by their times."""
    ends = [fact for fact in facts if fact.type == "iteration.end"]
    return [len(cast("Sequence[int | None]", fact.data["times"])) for fact in ends]


def test_a_run_cut_after_any_fact_repeats_nothing_and_ends_the_same() -> None:
    facts = simulate(_whole)
    assert [fact.type for fact in facts][-1] == "run.end"
    for cut in range(1, len(facts)):
        kept = facts[:cut]

        async def resumed(world: SimulatedWorld, kept: list[Event] = kept) -> None:
            journal = MemoryJournal(world)
            stream = "session_x"
            epoch = await journal.claim(stream, "dead", 0.0)
            start = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in kept]
            await journal.append(stream, epoch, start, sync=True)
            await journal.release(stream, epoch)
            tools = _tools()
            model = ScriptedModel(SCRIPT[_asked(kept) :])
            pipeline = _pipeline(world, journal, model, tools)
            result = await pipeline.resume(kept[0].run_id)
            assert result.text == "all done"
            assert len(model.requests) == len(SCRIPT) - _asked(kept)
            begun = kept[-1].type == "tool.intent" and "idempotent" not in kept[-1].data
            effects = sum(len(tool.done) for tool in tools)
            assert effects == 5 - _done(kept) - begun
            types = [fact.type for fact in result.events]
            assert types.count("run.end") == 1
            assert types.count("run.start") == 1
            assert _timed(result.events) == _timed(facts)
            again = [fact async for fact in journal.read(stream)]
            assert [f.type for f in again] == [f.type for f in result.events]
            if not begun:
                assert [f.type for f in facts] == types
                assert _asked_for(facts) == _asked_for(result.events)
            else:
                assert "outcome" in str(next(s.content for s in result.steps if s.tool == "change"))

        simulate(resumed)
