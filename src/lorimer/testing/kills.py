"""Kill tests for a tool: an agent that calls it is killed at moments drawn from a seed, resumed,
and its effects are audited. In virtual time, so that hundreds of kills take seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from anyio import CancelScope

from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.messages import Block, ToolUse
from lorimer.core.request import Request
from lorimer.journal.memory import MemoryJournal
from lorimer.models.registry import Models
from lorimer.models.scripted import ScriptedModel
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing.audit import Report, Seen, audit
from lorimer.testing.marks import Mark, MarkedModel, MarkedTool, iteration_of
from lorimer.testing.recorded import Evidence
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate_in
from lorimer.tools.base import Tool

KILLS_OF_A_RUN: Final = 3
"""Maximum kills of one run; after that it may end, and another is started."""


def under_kills(
    tool: Tool, inputs: Sequence[Mapping[str, JSON]], *, kills: int = 100, seed: int = 0
) -> Report:
    """Let agents call `tool` once with each of `inputs`, and kill them `kills` times as with -9.

    The tool itself simulates the outside: it is the same object all the time, and its state
    survives every kill. It has to be `async` and to wait with `context.world.sleep`: see
    `simulate`. It is up to the caller to compare what it really did with the report, which counts
    the effects that were begun, repeated, or reported to the model as unknown.

    The journal is in memory. Raises AssertionError for violations of the contract of
    docs/durability.md, and whatever `simulate` raises for a tool that does not meet these
    conditions.
    """
    if kills < 1 or not inputs:
        raise ValueError("under_kills needs at least one kill and one input")
    dice = Random(seed)
    trials: list[_Trial] = []
    made, reach = 0, 16
    while made < kills:
        trial = _Trial(tool, inputs, f"{seed}/{len(trials)}")
        left = min(KILLS_OF_A_RUN, kills - made)
        while not trial.live(dice.randint(1, reach) if left else 0):
            left -= 1
            made += 1
        if left:  # it ended before that moment: the range of moments is too wide
            reach = max(16, reach * 3 // 4)
        else:
            reach = reach * 5 // 4
        trials.append(trial)
    report = Report()
    for trial in trials:
        report.add(trial.audited())
    report.require(f"under_kills({tool.name!r}, ..., kills={kills}, seed={seed})")
    return report


class _Trial:
    """One run, with all its lives."""

    def __init__(self, tool: Tool, inputs: Sequence[Mapping[str, JSON]], seed: str) -> None:
        self._tool = tool
        self._inputs = inputs
        self._world = SimulatedWorld(seed)
        self._journal = _Slow(self._world)
        self._marks: list[Mark] = []
        self._seen = Seen()
        self._life = 0
        self._run = ""
        self._stream = ""

    def live(self, steps: int) -> bool:
        """One life of the process, killed after that many steps (0: not at all). Returns whether
        the run is over."""
        over = True
        try:
            simulate_in(self._world, self._main, crash_after_steps=steps or None)
        except SimulatedCrash:
            over = False
        simulate_in(self._world, self._look)
        self._life += 1
        return over

    async def _main(self, world: SimulatedWorld) -> None:
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:kills"),
            tools=[MarkedTool(self._tool, self._marks, self._life)],
            models=Models(providers={"scripted": self._model()}),
            journal=self._journal,
            world=world,
            owner="under kills",
        )

        @pipeline.on("run.start")
        def _(event: Event) -> None:
            self._run = event.run_id
            self._marks.append(Mark("accepted", self._life, run=event.run_id))

        rows = await self._journal.runs()
        if rows:
            if not rows[0].status:
                await pipeline.resume(rows[0].run_id, raise_on_error=False)
        else:
            limits = Limits(max_turns=len(self._inputs) + 1, max_tool_calls=len(self._inputs))
            await pipeline.run("go", limits=limits, raise_on_error=False)
        self._marks.append(Mark("over", self._life, run=self._run))
        await pipeline.aclose()

    def _model(self) -> MarkedModel:
        def reply(request: Request) -> str | Sequence[Block]:
            at = iteration_of(request)
            if at == len(self._inputs):
                return "done"
            return [ToolUse(f"call_{at}", str(self._tool.name), self._inputs[at])]

        model = ScriptedModel(reply, name="kills", record=False)
        return MarkedModel(model, self._marks, self._life, lambda: self._run)

    async def _look(self, world: SimulatedWorld) -> None:
        rows = await self._journal.runs()
        if rows:
            self._run, self._stream = rows[0].run_id, rows[0].stream
            facts = [fact async for fact in self._journal.read(self._stream)]
            self._seen.note(self._life, {self._stream: len(facts)})

    def audited(self) -> Report:
        """The audit of marks and journal."""
        return audit([simulate_in(self._world, self._evidence)], self._marks, self._seen)

    async def _evidence(self, world: SimulatedWorld) -> Evidence:
        facts = [fact async for fact in self._journal.read(self._stream)]
        return Evidence(self._run, self._stream, facts, await self._journal.balance(self._run))


class _Slow(MemoryJournal):
    """As slow as a file, so that a process can die before and after each commit."""

    def __init__(self, world: SimulatedWorld) -> None:
        super().__init__(world)
        self._outside = world

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        with CancelScope(shield=True):
            await self._outside.sleep(0)
        last = await super().append(stream, epoch, facts, sync=sync, ledger=ledger)
        with CancelScope(shield=True):
            await self._outside.sleep(0)
        return last
