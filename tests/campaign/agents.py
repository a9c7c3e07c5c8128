"""One simulated agent, all of it drawn from one seed: what its model says and how its wire fails,
what its tools do, its limits, who listens, who stops it, and when the process dies.

`play(seed)` plays it to its one end, checking on the way, and returns what is left: the facts.
The provider and the effects of the tools are outside the process, so they survive its death.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ExecutorErrorCode, ToolExecutionError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import (
    Delta,
    Request,
    Response,
    StopReason,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ToolInputDelta,
    ToolUse,
    Usage,
    UsageDelta,
)
from lorimer.core.result import STATUSES, PipelineResult
from lorimer.core.wellformed import faults
from lorimer.core.world import World
from lorimer.journal import Conversation, MemoryJournal, SQLiteJournal
from lorimer.journal.verify import verify
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing.simulation import SimulatedCrash, SimulatedWorld, simulate_in
from lorimer.tools import Tool, ToolContext, ToolResult
from lorimer.tools.base import Check, ToolInput
from lorimer.tools.schema import compile_schema
from tests.core.support import SlowJournal, check_history

CODE = ExecutorErrorCode
RETRYABLE = (CODE.EXEC_API_RATE_LIMITED, CODE.EXEC_API_SERVER_ERROR, CODE.EXEC_API_NETWORK)
FATAL = (CODE.EXEC_API_AUTH_INVALID_KEY, CODE.EXEC_API_BAD_REQUEST, CODE.EXEC_API_TOKEN_LIMIT)
NANO_IN, NANO_OUT = 3_000, 15_000
MAX_TOKENS = 200
CLAIM_S = 31.0


# --- the script -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """How one attempt goes wrong."""

    kind: str
    code: ExecutorErrorCode = CODE.EXEC_API_SERVER_ERROR
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Turn:
    """What the model says to one request, once it says it."""

    blocks: tuple[TextBlock | ThinkingBlock | ToolUse, ...]
    usage: Usage
    latency_s: float
    delta_s: float
    faults: tuple[Fault, ...]
    stop: StopReason = StopReason.END_TURN


@dataclass(frozen=True)
class Interruption:
    """What happens to one life of the process. Seconds count from its begin."""

    kind: str = ""
    """`cancel` the caller, its `timeout`, `close` the stream, `shutdown` or `abort` everything,
    `crash_steps`, `crash_time`, or nothing."""
    at_s: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class Case:
    """Everything that the seed decides."""

    seed: int
    preset: str
    spoken: bool
    """The conversation has an older run."""
    journal: str
    stream: bool
    listener: str
    limits: Limits
    turns: tuple[Turn, ...]
    lives: tuple[Interruption, ...]


def draw(seed: int) -> Case:
    """The case of a seed."""
    dice = Random(f"agent/{seed}")
    number = iter(range(10_000))
    return Case(
        seed=seed,
        preset=dice.choice(("agent", "agent", "agent", "agent", "chat", "chat", "minimal")),
        spoken=dice.random() < 0.3,
        journal=dice.choice((*["memory"] * 7, *["slow"] * 4, "sqlite")),
        stream=dice.random() < 0.3,
        listener=dice.choice(("", "", "raising", "slow", "hanging")),
        limits=_limits(dice),
        turns=tuple(_turn(dice, number) for _ in range(dice.randint(1, 8))),
        lives=tuple(_interruption(dice) for _ in range(dice.choice((0, 0, 1, 1, 1, 2, 3)))),
    )


def _limits(dice: Random) -> Limits:
    def maybe(chance: float, value: Any, default: Any) -> Any:
        return value if dice.random() < chance else default

    return Limits(
        max_turns=maybe(0.2, dice.randint(1, 6), 12),
        timeout_s=maybe(0.2, dice.choice((0.5, 5.0, 60.0, dice.uniform(1, 900))), 1800.0),
        max_cost_usd=maybe(0.3, dice.uniform(0.002, 0.1), None),
        max_tool_calls=maybe(0.1, dice.randint(0, 12), 1000),
        max_calls_per_turn=maybe(0.15, dice.randint(1, 3), 16),
        max_parallel_tools=dice.randint(1, 4),
        tool_timeout_s=maybe(0.3, dice.uniform(0.5, 60), 120.0),
        max_result_chars=maybe(0.1, 60, 50_000),
        connect_timeout_s=maybe(0.1, dice.uniform(0.5, 5), 10.0),
        idle_timeout_s=maybe(0.1, dice.uniform(0.5, 20), 120.0),
        model_timeout_s=maybe(0.1, dice.uniform(1, 100), 600.0),
        cleanup_s=dice.choice((0.5, 10.0)),
    )


TOOLS = ("look", "look", "put", "change", "change", "alone")
BEHAVIOURS = (
    *("quick", "quick", "quick", "slow", "slow", "first"),
    *("raise", "refuse", "error", "hang", "stubborn", "cancelled", "odd", "long", "chatty"),
)


def _turn(dice: Random, number: Any) -> Turn:
    blocks: list[TextBlock | ThinkingBlock | ToolUse] = []
    if dice.random() < 0.2:
        blocks.append(ThinkingBlock("hm, hm", signature=f"sig-{dice.getrandbits(32)}"))
    if dice.random() < 0.5:
        blocks.append(
            TextBlock(dice.choice(("Let me see.", "TASK_COMPLETE", "[ERROR: no]", "·" * 40)))
        )
    for _ in range(dice.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4))):
        blocks.append(_call(dice, next(number)))
    if not any(isinstance(block, TextBlock | ToolUse) for block in blocks):
        blocks.append(TextBlock("so be it"))
    calls = any(isinstance(block, ToolUse) for block in blocks)
    stop = StopReason.TOOL_USE if calls else StopReason.END_TURN
    if dice.random() < 0.03:
        stop = dice.choice((StopReason.MAX_TOKENS, StopReason.PAUSE, StopReason.REFUSAL))
    return Turn(
        blocks=tuple(blocks),
        usage=Usage(dice.randint(1, 60), dice.randint(1, MAX_TOKENS), reasoning_tokens=1),
        latency_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(0, 9))),
        delta_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(0, 6))),
        faults=tuple(_fault(dice) for _ in range(dice.choice((*[0] * 12, 1, 1, 1, 2, 5)))),
        stop=stop,
    )


def _call(dice: Random, number: int) -> ToolUse:
    if dice.random() < 0.05:
        return ToolUse(f"call_{number}", "nonesuch", {"n": number})
    if dice.random() < 0.05:
        return ToolUse(f"call_{number}", "look", {"n": "not a number"})
    if dice.random() < 0.03:
        return ToolUse(f"call_{number}", "look", {}, raw='{"n": 1')
    arguments: dict[str, JSON] = {"n": number, "do": dice.choice(BEHAVIOURS)}
    if dice.random() < 0.7:
        arguments["s"] = round(dice.uniform(0, 40), 3)
    return ToolUse(f"call_{number}", dice.choice(TOOLS), arguments)


def _fault(dice: Random) -> Fault:
    wait = dice.choice((None, None, 0.0, 7.5, 61.0))
    if dice.random() < 0.05:
        return Fault("before", dice.choice(FATAL))
    kinds = ("before", "before", "before", "middle", "end", "silent", "stall")
    kind = "odd" if dice.random() < 0.03 else dice.choice(kinds)
    return Fault(kind, dice.choice(RETRYABLE), wait)


def _interruption(dice: Random) -> Interruption:
    kind = dice.choice(
        (
            *("cancel", "timeout", "close", "abort"),
            *("shutdown", "shutdown", "shutdown", "shutdown"),
            *(
                "crash_steps",
                "crash_steps",
                "crash_steps",
                "crash_time",
                "crash_time",
                "crash_time",
            ),
        )
    )
    at_s = dice.choice((0.0, dice.uniform(0, 3), dice.uniform(0, 20), dice.uniform(0, 90)))
    return Interruption(kind, at_s, int(2 ** dice.uniform(2, 8)))


# --- outside the process ----------------------------------------------------------------------


class Provider:
    """The model's maker, as `core.model.Model`. Answers by the state of the conversation alone."""

    provider = "scripted"
    name = "m"

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = turns
        self.asked: list[int] = []
        """The turn of every request."""
        self.told: list[Usage] = []
        """What each request was told to have used."""

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return (usage.total - usage.output_tokens) * NANO_IN + usage.output_tokens * NANO_OUT

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        check_history(request.messages)
        assert faults(request.messages) == []
        at = sum(message.role == "assistant" for message in request.messages)
        attempt = self.asked.count(at)
        self.asked.append(at)
        self.told.append(Usage())
        mine = len(self.told) - 1
        turn = self.turns[at] if at < len(self.turns) else THE_END
        fault = turn.faults[attempt] if attempt < len(turn.faults) else None
        if turn.latency_s:
            await world.sleep(turn.latency_s)
        if fault is not None and fault.kind == "before":
            raise APIError("no", code=fault.code, retry_after_s=fault.retry_after_s)
        if fault is not None and fault.kind == "silent":
            await forever()
        begun = Usage(input_tokens=turn.usage.input_tokens)
        self.told[mine] = begun
        yield UsageDelta(begun)
        for number, delta in enumerate(deltas(turn)):
            if turn.delta_s:
                await world.sleep(turn.delta_s)
            yield delta
            if number == 1 and fault is not None and fault.kind in ("middle", "odd"):
                if fault.kind == "odd":
                    raise ConnectionError("what no provider should raise")
                raise APIError("cut", code=fault.code, retry_after_s=fault.retry_after_s)
        if fault is not None and fault.kind == "stall":
            await forever()
        if fault is not None:
            return
        self.told[mine] = turn.usage
        yield Response(turn.blocks, turn.stop, turn.usage, self.name)


THE_END = Turn((TextBlock("the end"),), Usage(5, 5), 0.0, 0.0, ())


def deltas(turn: Turn) -> list[Delta]:
    out: list[Delta] = []
    for block in turn.blocks:
        if isinstance(block, TextBlock):
            out += [TextDelta(piece) for piece in (block.text[:3], block.text[3:])]
        elif isinstance(block, ToolUse):
            out.append(ToolInputDelta(0, dumps(block.input), block.name))
    return out


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class Act(Tool):
    """A tool whose arguments say what it does. Effects go into a log outside of the process."""

    description = "does what it is told"
    input_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "do": {"type": "string"},
            "s": {"type": "number"},
        },
        "required": ["n"],
        "additionalProperties": False,
    }

    def __init__(
        self, name: str, effects: frozenset[str], done: list[tuple[str, int, str]], **flags: bool
    ) -> None:
        self.name = name
        self.effects = effects
        self.done = done
        self.idempotent = flags.get("idempotent", False)
        self.concurrency_safe = flags.get("concurrency_safe", False)

    def check(self) -> Check:
        return _checked()  # compiling the schema would take longer than all the rest

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        n, seconds = input["n"], input.get("s", 0.0)
        effect = (self.name, n, context.idempotency_key)
        if input.get("do") == "slow":
            await context.world.sleep(seconds)
        self.done.append(effect)
        match input.get("do"):
            case "first":
                await context.world.sleep(seconds)
            case "raise":
                await context.world.sleep(seconds)
                raise ValueError("broken")
            case "refuse":
                raise ToolExecutionError("not like this")
            case "error":
                return ToolResult(f"no {n}", is_error=True)
            case "hang":
                await forever()
            case "stubborn":
                for _ in range(5):
                    with suppress(asyncio.CancelledError):
                        await context.world.sleep(seconds + 1)
            case "cancelled":
                raise asyncio.CancelledError
            case "odd":
                return ToolResult({"n": n, "what": object, "nan": float("nan")})
            case "long":
                return ToolResult("a long line\n" * 30)
            case "chatty":
                for part in range(20):
                    context.progress(f"{part} of 20")
            case _:
                pass
        return ToolResult(f"{self.name} {n}")


@cache
def _checked() -> Check:
    return compile_schema(Act.input_schema, "act")


def tools(done: list[tuple[str, int, str]]) -> list[Tool]:
    return [
        Act("look", frozenset({"read"}), done, concurrency_safe=True),
        Act("put", frozenset({"write"}), done, idempotent=True, concurrency_safe=True),
        Act("change", frozenset({"write"}), done, concurrency_safe=True),
        Act("alone", frozenset({"write", "net"}), done),
    ]


@cache
def manifest(preset: str) -> EnvironmentManifest:
    made = preset_manifest(preset, model="scripted:m")
    made.model.max_tokens = MAX_TOKENS
    made.stages["api"].strategy_configs["retry"] = {"max_retries": 3}
    return made


# --- playing ----------------------------------------------------------------------------------


@dataclass
class Played:
    """What is left of a case that was played to its end."""

    case: Case
    facts: list[Event] = field(default_factory=list[Event])
    results: list[PipelineResult] = field(default_factory=list[PipelineResult])
    terminals: list[list[str]] = field(default_factory=list[list[str]])
    crashes: int = 0
    lives: int = 0

    def lines(self) -> str:
        """The facts in plain form, one a line."""
        return "\n".join(dumps(fact.to_json()) for fact in self.facts)


def journal(kind: str, world: World) -> Journal:
    if kind == "sqlite":
        return SQLiteJournal(":memory:", world=world, threads=False)
    return SlowJournal(world) if kind == "slow" else MemoryJournal(world)


class Player:
    """Plays one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.world = SimulatedWorld(case.seed)
        self.journal = journal(case.journal, self.world)
        self.provider = Provider(case.turns)
        self.done: list[tuple[str, int, str]] = []
        self.out = Played(case)
        self.stream = ""
        """Of the conversation, where it had an older run."""

    def pipeline(self) -> Pipeline:
        pipeline = Pipeline(
            manifest(self.case.preset),
            tools=tools(self.done),
            models=Models(providers={"scripted": self.provider}),
            journal=self.journal,
            world=self.world,
            session_id=self.stream,
        )
        heard: list[str] = []
        self.out.terminals.append(heard)

        @pipeline.on("pipeline.*")
        def _(event: Event) -> None:
            if event.type in ("pipeline.complete", "pipeline.error"):
                heard.append(event.type)

        self.listen(pipeline)
        self.current = pipeline
        return pipeline

    def listen(self, pipeline: Pipeline) -> None:
        match self.case.listener:
            case "raising":

                @pipeline.on("*")
                def _(event: Event) -> None:
                    raise RuntimeError(event.type)

            case "slow":

                @pipeline.on("stage.*")
                async def _(event: Event) -> None:
                    await self.world.sleep(0.3)

            case "hanging":

                @pipeline.on("tool.*")
                async def _(event: Event) -> None:
                    await forever()

            case _:
                pass

    def play(self) -> Played:
        if self.case.spoken and self.case.preset != "minimal":
            simulate_in(self.world, lambda _: self.before())
        for life in (*self.case.lives, Interruption()):
            before = self.recorded() + bool(self.stream)
            asked = len(self.provider.asked)
            self.out.lives += 1
            crash: dict[str, Any] = {}
            if life.kind == "crash_steps":
                crash = {"crash_after_steps": life.steps}
            elif life.kind == "crash_time":
                crash = {"crash_at_s": self.world.monotonic() + CLAIM_S + life.at_s}
            try:
                simulate_in(self.world, lambda _, life=life: self.live(life), **crash)
            except SimulatedCrash:
                self.out.crashes += 1
            again = self.provider.asked[asked:]
            assert all(turn >= before for turn in again), (
                f"{before} replies were recorded, and these were asked for again: {again}"
            )
            if simulate_in(self.world, lambda _: self.ended()):
                break
        self.told = sum(self.provider.told, Usage())
        simulate_in(self.world, lambda _: self.after())
        check(self)
        return self.out

    async def before(self) -> None:
        turns, self.provider.turns = self.provider.turns, ()
        async with self.pipeline() as pipeline:
            result = await pipeline.run("hello")
        self.stream = result.session_id
        self.provider.turns = (THE_END, *turns)
        self.provider.told.clear()
        self.out.terminals.clear()

    async def row(self) -> RunRow | None:
        """The run that this is about, once it is there."""
        rows = await self.journal.runs()
        ours = rows[: len(rows) - bool(self.stream)]
        return ours[0] if ours else None

    def recorded(self) -> int:
        """How many replies the journal holds."""
        facts = simulate_in(self.world, lambda _: self.read())
        return sum(fact.type == "model.reply" and "error" not in fact.data for fact in facts)

    async def read(self) -> list[Event]:
        row = await self.row()
        if row is None:
            return []
        return [f async for f in self.journal.read(row.stream) if f.run_id == row.run_id]

    async def ended(self) -> bool:
        row = await self.row()
        return row is not None and bool(row.status)

    async def live(self, life: Interruption) -> None:
        """One life of the process: start the run or resume it, and maybe stop it."""
        await self.world.sleep(CLAIM_S)  # the dead owner's claim runs out
        row = await self.row()
        run_id = row.run_id if row is not None else ""
        call = self.streamed(run_id, life) if self.case.stream else self.plain(run_id, life)
        task = asyncio.create_task(call)
        if life.kind in ("cancel", "shutdown", "abort"):
            await asyncio.wait([task], timeout=life.at_s)
            if life.kind == "shutdown":
                self.current.cancel(Reason.SHUTDOWN)
            victims = {task} if life.kind == "cancel" else asyncio.all_tasks()
            for victim in sorted(victims - {asyncio.current_task()}, key=lambda t: t.get_name()):
                if life.kind != "shutdown":
                    victim.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def plain(self, run_id: str, life: Interruption) -> None:
        async with self.pipeline() as pipeline:
            with suppress(TimeoutError):
                async with asyncio.timeout(life.at_s if life.kind == "timeout" else None):
                    result = await (
                        pipeline.resume(run_id, raise_on_error=False)
                        if run_id
                        else pipeline.run("go", limits=self.case.limits, raise_on_error=False)
                    )
                    self.note(result)

    async def streamed(self, run_id: str, life: Interruption) -> None:
        async with self.pipeline() as pipeline:
            events = (
                pipeline.resume_stream(run_id)
                if run_id
                else pipeline.run_stream("go", limits=self.case.limits)
            )
            last: Event | None = None
            begun = self.world.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(life.at_s if life.kind == "timeout" else None):
                    async with aclosing(events):
                        async for event in events:
                            assert last is None or last.type not in TERMINAL, "an event after it"
                            last = event
                            if life.kind == "close" and self.world.monotonic() - begun >= life.at_s:
                                return
                            if self.case.seed % 5 == 0:
                                await self.world.sleep(0.05)
                    assert last is not None and last.type in TERMINAL
                    result = last.data["result"]
                    assert isinstance(result, PipelineResult)
                    self.note(result)

    def note(self, result: PipelineResult) -> None:
        assert result.status in STATUSES
        assert result.code not in (CODE.EXEC_JOURNAL_DIVERGED, CODE.EXEC_JOURNAL_CONFLICT), result
        assert (result.exception is None) == (result.status == "ok")
        check_history(result.messages)
        self.out.results.append(result)

    async def after(self) -> None:
        """What can be seen from outside once it is over; and the conversation goes on."""
        await self.world.sleep(CLAIM_S)
        self.out.facts = await self.read()
        row = await self.row()
        assert row is not None
        assert not (found := await verify(self.journal, row.run_id)), found
        if REPLAY_ALL or self.case.seed % 4 == 0:
            await self.replayed(row.run_id)
        self.row_cost = row.cost_nano
        self.balance = await self.journal.balance(row.run_id)
        conversation = await Conversation.open(self.journal, row.stream, "auditor", self.world)
        self.history = list(conversation.history)
        self.unfinished = conversation.unfinished
        await conversation.release()
        if self.case.preset == "minimal" or self.unfinished:
            return
        self.stream = row.stream
        async with self.pipeline() as pipeline:
            self.provider.turns = ()
            result = await pipeline.run("and now?")
            assert result.text == "the end"
            assert result.messages[: len(self.history)] == self.history

    async def replayed(self, run_id: str) -> None:
        """From its facts alone the run does the same again, and asks nobody."""
        done, asked, terminals = len(self.done), len(self.provider.asked), self.out.terminals
        self.out.terminals = []
        async with self.pipeline() as pipeline:
            replayed = await pipeline.replay(run_id)
        self.out.terminals = terminals
        assert replayed.divergence is None, replayed.divergence
        assert replayed.result.events == self.out.facts
        assert (len(self.done), len(self.provider.asked)) == (done, asked)


TERMINAL = ("pipeline.complete", "pipeline.error")
REPLAY_ALL = bool(os.environ.get("LORIMER_CAMPAIGN"))


# --- what must hold ---------------------------------------------------------------------------


def check(player: Player) -> None:
    case, facts, out = player.case, player.out.facts, player.out
    [start] = [fact for fact in facts if fact.type == "run.start"]
    ends = [fact for fact in facts if fact.type == "run.end"]
    assert len(ends) == 1, f"{len(ends)} terminal facts"
    [end] = ends
    assert facts[0] is start
    assert facts[-1] is end
    first = start.seq or 0
    assert [fact.seq for fact in facts] == list(range(first, first + len(facts)))
    assert [fact.iteration for fact in facts] == sorted(fact.iteration for fact in facts)
    assert [fact.time for fact in facts] == sorted(fact.time for fact in facts)
    assert end.data["status"] in STATUSES and end.data["status"] != "suspended"
    check_money(player, end)
    check_effects(player)
    check_bounds(player, start, end)
    assert not player.unfinished
    check_history(player.history)
    for result in out.results:
        if result.status != "suspended":
            assert result.messages == player.history, "live history and journal differ"
            assert result.events == facts
            assert result.status == end.data["status"]
            assert result.iterations == end.data["iterations"]
            assert result.cost_nano == end.data["cost"]
            assert result.usage.to_json() == end.data["usage"]
    for heard in out.terminals:
        assert len(heard) <= 1 or case.preset != "minimal", heard


def check_money(player: Player, end: Event) -> None:
    spent = sum(_int(fact.data.get("cost")) for fact in player.out.facts[:-1])
    used = Usage()
    for fact in player.out.facts[:-1]:
        usage = fact.data.get("usage")
        used = used + Usage.from_json(usage if isinstance(usage, Mapping) else {})
    assert player.balance.reserved == 0, f"{player.balance.reserved} are reserved for ever"
    assert player.balance.spent == spent, "the ledger and the facts differ"
    assert end.data["cost"] == spent, "run.end and the facts differ"
    assert end.data["usage"] == used.to_json()
    assert player.row_cost == spent
    ceiling = player.case.limits.max_cost_nano
    assert ceiling is None or spent <= ceiling
    if not player.out.crashes:
        assert used == player.told, f"the facts tell of {used}, the provider of {player.told}"


def check_effects(player: Player) -> None:
    for (name, n), count in Counter((name, n) for name, n, _ in player.done).items():
        if name in ("change", "alone"):
            assert count == 1, f"the effect {name} {n} happened {count} times"
    keys: dict[int, str] = {}
    for _, n, key in player.done:
        assert keys.setdefault(n, key) == key, f"call {n} ran under two keys"
    assert len(set(keys.values())) == len(keys), "two calls had one key"


def check_bounds(player: Player, start: Event, end: Event) -> None:
    limits, facts = player.case.limits, player.out.facts
    if player.case.preset == "minimal":
        assert _int(end.data["iterations"]) <= 1
    assert _int(end.data["iterations"]) <= limits.max_turns
    not_run = CODE.EXEC_TOOL_NOT_RUN.value
    told = [fact for fact in facts if fact.type == "tool.result"]
    results = [fact for fact in told if fact.data.get("error") != not_run]
    assert len(results) <= limits.max_tool_calls
    for iteration in range(len(player.case.turns)):
        mine = [fact for fact in results if fact.iteration == iteration]
        assert len(mine) <= limits.max_calls_per_turn
        keys = [fact.data["key"] for fact in told if fact.iteration == iteration]
        assert len(set(keys)) == len(keys), "one call, two results"
    if not player.case.lives:
        slack = limits.cleanup_s + 1e-3
        assert end.time - start.time <= limits.timeout_s + slack


def _int(value: JSON) -> int:
    return value if isinstance(value, int) else 0


def play(seed: int) -> Played:
    """Play the case of a seed to its end and check all that must hold."""
    log = logging.getLogger("lorimer")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what listeners raise is logged
    try:
        return Player(draw(seed)).play()
    finally:
        log.setLevel(level)
