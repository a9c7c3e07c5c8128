"""Agents to be killed: what their models say and their tools do follows from the conversation and
a seed alone, so it is the same in the next process.

`Workers.work()` is one life of a process: it goes on with every run that the journal has
unfinished, as the command line does, and begins new ones until it is told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random

from lorimer import Pipeline
from lorimer.cli.reading import take_over
from lorimer.core.errors import (
    ExecutorErrorCode,
    PipelineError,
    ToolExecutionError,
)
from lorimer.core.events import Event
from lorimer.core.journal import RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.messages import Block, TextBlock, ToolUse
from lorimer.core.request import Delta, Request, Response
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import SQLiteJournal
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.testing.marks import Mark, MarkedModel, Notes, iteration_of, marked
from lorimer.tools import Tool, ToolContext, ToolResult
from lorimer.tools.base import ToolInput
from lorimer.tools.registry import ToolRegistry
from tests.core.support import check_history

CONFLICT = ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
LIMITS = Limits(max_turns=60, max_cost_usd=5.0)


class Act(Tool):
    """Waits as long as its arguments say, and says what it did."""

    description = "does what it is told"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"n": {"type": "string"}, "ms": {"type": "number"}, "fail": {}},
        "required": ["n"],
        "additionalProperties": False,
    }

    def __init__(self, name: str, effect: str, *, idempotent: bool, side_by_side: bool) -> None:
        self.name = name
        self.effects = frozenset({effect})
        self.idempotent = idempotent
        self.concurrency_safe = side_by_side

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        if milliseconds := input.get("ms"):
            await context.world.sleep(milliseconds / 1000)
        if input.get("fail"):
            raise ToolExecutionError(f"no {input['n']}")
        return ToolResult(f"done {input['n']}")


def tools() -> list[Tool]:
    """All three classes, beside others and alone."""
    return [
        Act("look", "read", idempotent=False, side_by_side=True),
        Act("put", "write", idempotent=True, side_by_side=True),
        Act("send", "send", idempotent=False, side_by_side=True),
        Act("pay", "net", idempotent=False, side_by_side=False),
    ]


@dataclass
class Pace:
    """How much agents do, and how fast."""

    turns: tuple[int, int] = (6, 18)
    """Turns of a run, at least and at most."""
    model_s: tuple[float, float] = (0.02, 0.3)
    """How long a model thinks."""
    runs: int = 3
    """Runs of one conversation; then the agent begins another."""
    rest_s: float = 0.0
    """How long a conversation rests between two of them, given back. 0: it is not."""
    slow: float = 0.05
    """Share of tool calls that take their time; the others take none."""
    slow_ms: tuple[float, float] = (5, 60)
    """How long those take."""


class Script:
    """What the model of one agent says. The input of its run names the agent and the run."""

    def __init__(self, seed: int, pace: Pace) -> None:
        self._seed = seed
        self._pace = pace

    def dice(self, request: Request) -> tuple[str, int, Random]:
        """The run's name, its turn, and their dice."""
        name = next(
            message.text
            for message in reversed(request.messages)
            if message.role == "user" and message.text
        )
        turn = iteration_of(request)
        return name, turn, Random(f"{self._seed}/{name}/{turn}")

    def __call__(self, request: Request) -> str | Sequence[Block]:
        check_history(request.messages)
        name, turn, dice = self.dice(request)
        last = Random(f"{self._seed}/{name}").randint(*self._pace.turns)
        if turn >= last:
            return f"{name} is done"
        calls: list[Block] = []
        for index in range(dice.choice((1, 1, 1, 1, 2, 2, 3, 4))):
            arguments: dict[str, JSON] = {"n": f"{name} {turn}.{index}"}
            if dice.random() < self._pace.slow:
                arguments["ms"] = round(dice.uniform(*self._pace.slow_ms), 1)
            if dice.random() < 0.03:
                arguments["fail"] = True
            tool = dice.choice(("look", "put", "send", "pay"))
            calls.append(ToolUse(f"call_{turn}_{index}", tool, arguments))
        return [TextBlock("so"), *calls] if dice.random() < 0.3 else calls


class Thinking(ScriptedModel):
    """Takes a time that follows from the conversation too."""

    def __init__(self, script: Script, pace: Pace) -> None:
        super().__init__(script, price=Price(3, 15), record=False, deltas=False)
        self._script = script
        self._range = pace.model_s

    async def stream(
        self, request: Request, *, world: World
    ) -> AsyncGenerator[Delta | Response, None]:
        *_, dice = self._script.dice(request)
        await world.sleep(dice.uniform(*self._range))
        async with aclosing(super().stream(request, world=world)) as answer:
            async for item in answer:
                yield item


@dataclass
class Workers:
    """The agents of one process."""

    journal: SQLiteJournal
    world: World
    notes: Notes
    life: int
    owner: str
    seed: int
    agents: int
    pace: Pace = field(default_factory=Pace)
    claim_s: float = 30.0
    enough: Callable[[], bool] = lambda: False
    """No new runs are begun."""
    take_over: bool = True
    """Claims of dead processes of this machine are taken over; else they are waited for."""

    async def work(self) -> None:
        """Until all runs are over and enough is done."""
        self.registry = ToolRegistry(marked(tools(), self.notes, self.life))
        latest: dict[str, RunRow] = {}
        for row in await self.journal.runs(limit=1_000_000):
            latest.setdefault(row.title.split(".")[0], row)
        async with asyncio.TaskGroup() as group:
            for number in range(self.agents):
                group.create_task(self.agent(f"a{number}", latest.get(f"a{number}")))

    async def agent(self, name: str, row: RunRow | None) -> None:
        number = 0
        pipeline, going = self.pipeline(row.stream if row is not None else "")
        if row is not None:
            number = int(row.title.split(".")[1])
            if self.take_over:
                await take_over(self.journal, row.stream, f"agent {name}")
            if not row.status:
                await self.resume(pipeline, going, row)
            number += 1
        while not self.enough():
            if number % self.pace.runs == 0:
                await pipeline.aclose()
                pipeline, going = self.pipeline("")
            result = await pipeline.run(f"{name}.{number}", limits=LIMITS, raise_on_error=False)
            self.told(result)
            number += 1
            if self.pace.rest_s:
                await pipeline.aclose()
                pipeline, going = self.pipeline(result.session_id)
                await self.world.sleep(self.pace.rest_s)
        await pipeline.aclose()

    def pipeline(self, session: str) -> tuple[Pipeline, list[str]]:
        """A pipeline, and where the id of its present run is kept."""
        going = [""]
        script = Script(self.seed, self.pace)
        model = MarkedModel(Thinking(script, self.pace), self.notes, self.life, lambda: going[0])
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:m"),
            tools=self.registry,
            models=Models(providers={"scripted": model}),
            journal=self.journal,
            world=self.world,
            session_id=session,
            owner=self.owner,
            claim_s=self.claim_s,
        )

        @pipeline.on("run.start")
        def _(event: Event) -> None:
            going[0] = event.run_id
            self.notes.append(Mark("accepted", self.life, run=event.run_id))

        @pipeline.on("run.resumed")
        def _(event: Event) -> None:
            facts = str(event.data["facts"])
            self.notes.append(Mark("resumed", self.life, run=event.run_id, effect=facts))

        return pipeline, going

    async def resume(self, pipeline: Pipeline, going: list[str], row: RunRow) -> None:
        going[0] = row.run_id
        wait_s = 0.0 if self.take_over else 60.0
        try:
            result = await pipeline.resume(row.run_id, wait_s=wait_s, raise_on_error=False)
        except PipelineError as error:
            if error.code is ExecutorErrorCode.EXEC_RUN_ENDED:
                return  # its owner has woken up in time
            raise
        self.told(result)

    def told(self, result: PipelineResult) -> None:
        if result.status != "suspended":
            self.notes.append(Mark("over", self.life, run=result.run_id, effect=result.status))
        elif result.exception is not None and result.code is not CONFLICT:
            raise result.exception  # it asks for something else than is recorded, for instance
