"""One simulated outage: providers that fail by a schedule drawn from a seed, runs at once on a
chain of them, and what has to be true afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from lorimer import Pipeline
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.model import ModelCall
from lorimer.core.request import (
    Delta,
    Request,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.verify import verify
from lorimer.models import Models, Price
from lorimer.models.health import Health, TargetHealth
from lorimer.models.pricing import cost_nano
from lorimer.models.unasked import Unasked
from lorimer.presets import preset_manifest
from lorimer.testing import SimulatedWorld, simulate
from tests.core.support import Do, check_history

CODE: Final = ExecutorErrorCode
WORDS: Final = "the quick brown fox jumps over the lazy dog and does it again and again".split()
TRANSIENT: Final = ("refuse", "limit", "cut", "think", "call", "hang", "lost")
KINDS: Final = (*TRANSIENT, "empty", "no_model")


@dataclass
class Attempt:
    """What the server knows of one call."""

    target: str
    began: float
    ended: float = 0.0
    outcome: str = "open"
    usage: Usage = field(default_factory=Usage)


class Server:
    """One provider: fails by its schedule, and counts what it bills."""

    name = "m"

    def __init__(
        self, provider: str, dice: Random, log: tuple[list[Attempt], list[Attempt]], tiers: Any
    ) -> None:
        self.provider = provider
        self._log, self._ended = log
        self._dice = dice
        self._tiers = tiers
        self._outages: list[tuple[float, float, str]] = []
        now = 0.0
        while now < 400:
            now += dice.expovariate(1 / 30)
            length = dice.choice([0.5, 3, 8, 20, 60, 200])
            self._outages.append((now, now + length, dice.choice(KINDS)))
            now += length
        if dice.random() < 0.3:
            self._outages.insert(0, (0.0, 15.0, dice.choice(KINDS)))

    def fault(self, now: float) -> str:
        """What goes wrong now; "": nothing."""
        return next((kind for start, end, kind in self._outages if start <= now < end), "")

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return cost_nano(self._tiers, usage)

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        dice, fault = self._dice, self.fault(world.monotonic())
        seen = Attempt(f"{self.provider}:m", world.monotonic())
        self._log.append(seen)
        seen.outcome = "cut off"
        try:
            await world.sleep(dice.choice([0.01, 0.3, 2.0]))
            if fault in ("refuse", "limit", "no_model"):
                seen.outcome = fault
                raise self._error(fault)
            seen.usage = Usage(input_tokens=dice.randint(1, 99))
            yield UsageDelta(seen.usage)
            if fault == "hang":
                seen.outcome = fault
                await world.sleep(1000)
            if fault == "think":
                yield ThinkingDelta("hm ")
                seen.usage = seen.usage + Usage(output_tokens=1)
                yield UsageDelta(seen.usage)
                seen.outcome = fault
                raise self._error(fault)
            if fault == "empty":
                seen.outcome = fault
                if dice.random() < 0.5:
                    yield TextDelta(" ")
                    yield Response((TextBlock(" "),), usage=seen.usage, model="m")
                    return
                yield Response((), usage=seen.usage, model="m")
                return
            words = [dice.choice(WORDS) + " " for _ in range(dice.randint(1, 12))]
            breaks = dice.randint(0, len(words)) if fault in ("cut", "lost") else len(words)
            for word in words[:breaks]:
                yield TextDelta(word)
                seen.usage = seen.usage + Usage(output_tokens=1)
                yield UsageDelta(seen.usage)
                await world.sleep(dice.choice([0.0, 0.2]))
            if fault == "call":
                yield ToolInputDelta(0, '{"a', "look")
                seen.usage = seen.usage + Usage(output_tokens=1)
                yield UsageDelta(seen.usage)
            if fault:
                seen.outcome = fault
                raise self._error(fault)
            content: list[Any] = [TextBlock("".join(words))]
            if len(request.messages) == 1 and dice.random() < 0.5:
                content.append(ToolUse("", "look", {}))
                yield ToolInputDelta(0, "{}", "look")
            stop = StopReason.TOOL_USE if len(content) > 1 else StopReason.END_TURN
            seen.outcome = "ok"
            yield Response(tuple(content), stop, seen.usage, "m")
        finally:
            seen.ended = world.monotonic()
            self._ended.append(seen)

    def _error(self, fault: str) -> APIError:
        match fault:
            case "limit":
                asked = self._dice.choice([None, 0.5, 10.0, 90.0])
                code = CODE.EXEC_API_RATE_LIMITED
                return APIError("slow down", code=code, status=429, retry_after_s=asked)
            case "no_model":
                return APIError("no such model", code=CODE.EXEC_API_BAD_REQUEST, status=404)
            case "lost":
                return APIError("reset", code=CODE.EXEC_API_NETWORK)
            case "refuse":
                return APIError("overloaded", code=CODE.EXEC_API_SERVER_ERROR, status=529)
            case _:
                return APIError("broke off", code=CODE.EXEC_API_STREAM_INCOMPLETE)


class Breakers:
    """The rules as the specification has them, fed with what the servers saw."""

    def __init__(self) -> None:
        self._state: dict[str, tuple[int, int, float | None]] = {}
        """Failures in a row, benches, until when."""
        self.told: list[tuple[float, str, str]] = []

    def ended(self, attempt: Attempt) -> None:
        failures, benches, until = self._state.get(attempt.target, (0, 0, None))
        if attempt.outcome == "ok":
            if until is not None:
                self.told.append((attempt.ended, attempt.target, "closed"))
            self._state.pop(attempt.target, None)
        elif attempt.outcome in TRANSIENT and not (until is not None and attempt.began < until):
            failures += 1
            if failures >= 2 or until is not None:
                benches += 1
                until = attempt.ended + min(5 * 2 ** (benches - 1), 300)
                self.told.append((attempt.ended, attempt.target, "open"))
            self._state[attempt.target] = (failures, benches, until)


@dataclass
class Listener:
    """Does as it is told: keeps what it is given of the present answer, discards when asked to."""

    answers: list[str] = field(default_factory=lambda: [""])
    given: list[str] = field(default_factory=list[str])
    restarts: int = 0
    released: int = 0

    def hear(self, event: Event) -> None:
        match event.type:
            case "text.delta":
                self.answers[-1] += str(event.data["text"])
                self.given.append(str(event.data["text"]))
                self.released += len(str(event.data["text"]))
            case "thinking.delta":
                self.released += len(str(event.data["text"]))
            case "tool.input_delta":
                self.released += len(str(event.data["name"])) + len(str(event.data["partial_json"]))
            case "api.stream_restart":
                assert event.data["released"] == self.released > 0
                self.answers[-1] = ""
                self.restarts += 1
                self.released = 0
            case "api.response":
                self.answers.append("")
                self.released = 0
            case _:
                pass


@dataclass
class Seen:
    """What the runs of one seed came to, for the tallies."""

    statuses: list[str] = field(default_factory=list[str])
    restarts: int = 0
    continued: int = 0
    opened: int = 0
    closed: int = 0
    attempts: int = 0
    routed: int = 0


def play(seed: int) -> Seen:
    """Play the outage of a seed. Raises AssertionError for what must not be."""
    return simulate(lambda world: _play(world, seed), seed)


async def _play(world: SimulatedWorld, seed: int) -> Seen:
    dice = Random(seed)
    log: list[Attempt] = []
    ended: list[Attempt] = []
    told: list[tuple[float, str, str]] = []
    calls: list[ModelCall] = []
    routed: list[tuple[float, int, Event]] = []

    def observe(health: TargetHealth) -> None:
        told.append((world.monotonic(), health.target, health.breaker))

    names = ["one", "two", "three", "four"][: dice.randint(2, 4)]
    tiers = [Price(dice.randint(1, 9), dice.randint(1, 90)).tiers() for _ in names]
    servers = [
        Server(n, Random(f"{seed}/{n}"), (log, ended), t) for n, t in zip(names, tiers, strict=True)
    ]

    class Sink:
        def record_usage(self, call: ModelCall) -> None:
            calls.append(call)

    models = Models(
        providers={server.provider: server for server in servers},
        health=Health(observe),
        usage_sink=Sink(),
    )
    policy = dice.choice(["stop", "restart", "continue"])
    manifest = preset_manifest("agent", model=",".join([f"{name}:m" for name in names]))
    if policy != "stop":
        manifest.stages["api"].config["after_release"] = policy
    journal = MemoryJournal(world)
    limits = Limits(timeout_s=dice.choice([20, 300]), idle_timeout_s=6, max_cost_usd=100)

    async def one(delay: float, heard: bool) -> tuple[Listener | None, PipelineResult, Pipeline]:
        pipeline = Pipeline(
            manifest, models=models, journal=journal, world=world, tools=[Do("look")]
        )
        listener = Listener() if heard else None
        if listener is not None:
            for kind in ("text.delta", "thinking.delta", "tool.input_delta", "api.*"):
                pipeline.on(kind, listener.hear)
        pipeline.on("api.model_routed", lambda e: routed.append((world.monotonic(), len(told), e)))
        await world.sleep(delay)
        return listener, await pipeline.run("go", raise_on_error=False, limits=limits), pipeline

    plans = [(dice.uniform(0, 60), dice.random() < 0.7) for _ in range(dice.randint(1, 5))]
    played = await asyncio.gather(*[one(*plan) for plan in plans])

    seen = Seen(attempts=len(log), routed=len(routed))
    for listener, result, pipeline in played:
        _check_run(listener, result, policy)
        check_history(result.messages)
        assert await verify(journal, result.run_id) == []
        for again in (pipeline, _replayer(world, manifest, journal)):
            divergence = (await again.replay(result.run_id)).divergence
            assert divergence is None, divergence
        seen.statuses.append(result.code.value if result.code else result.status)
        seen.restarts += listener.restarts if listener else 0
        seen.continued += sum("partial" in _error(fact) for fact in result.events)

    # what the servers billed is what the runs, the ledger and the sink say
    billed = sum([attempt.usage for attempt in log], Usage())
    price = dict(zip(names, tiers, strict=True))
    cost = sum(cost_nano(price[a.target.partition(":")[0]], a.usage) or 0 for a in log)
    results = [result for _, result, _ in played]
    assert sum([result.usage for result in results], Usage()) == billed
    assert sum(result.cost_nano for result in results) == cost
    assert sum([call.usage for call in calls], Usage()) == billed
    assert (len(calls), sum(call.cost_nano for call in calls)) == (len(log), cost)
    balances = [await journal.balance(result.run_id) for result in results]
    assert (sum(b.spent for b in balances), sum(b.reserved for b in balances)) == (cost, 0)

    # the breakers did what the specification says
    rules = Breakers()
    for attempt, call in zip(ended, calls, strict=True):
        assert (attempt.target, attempt.usage) == (call.target, call.usage)
        if call.code == CODE.EXEC_RUN_CANCELLED:  # of the run, not by the model's clocks
            attempt.outcome = "cut off"
        elif policy == "continue" and attempt.outcome == "empty" and not call.code:
            attempt.outcome = "ok"  # there is nothing to add to the part that was given before
        rules.ended(attempt)
    assert sorted(told) == sorted(rules.told)
    _check_routes(routed, told)
    seen.opened = sum(state == "open" for _, _, state in told)
    seen.closed = sum(state == "closed" for _, _, state in told)
    return seen


def _replayer(world: World, manifest: Any, journal: MemoryJournal) -> Pipeline:
    return Pipeline(manifest, models=Unasked(), journal=journal, world=world, tools=[Do("look")])


def _error(fact: Event) -> dict[str, Any]:
    error = fact.data.get("error")
    return dict(error) if isinstance(error, dict) else {}


def _check_run(listener: Listener | None, result: PipelineResult, policy: str) -> None:
    replies = [fact for fact in result.events if fact.type == "model.reply"]
    if result.status == "timeout":
        assert result.code is CODE.EXEC_LIMIT_TIMEOUT
    elif not result.success:
        last = _error(replies[-1]) if replies else {}
        # an answer of blanks alone is no answer: it is asked for once more, of who is left
        blank = last.get("code") == CODE.EXEC_API_EMPTY.value
        stopped = policy == "stop" and "released" in last and not blank
        codes = [last["code"]] if stopped or blank else []
        if not stopped:
            codes.append(CODE.EXEC_API_UNAVAILABLE.value)
        assert result.code is not None and result.code.value in codes, (result.code, last)
    texts = [
        "".join([block["text"] for block in fact.data["content"] if block["type"] == "text"])
        for fact in replies
        if "error" not in fact.data
    ]
    if listener is None:
        assert not any("released" in _error(fact) for fact in replies)
        return
    assert listener.answers[: len(texts)] == texts, "it has every answer, and nothing twice"
    if policy == "stop":  # an answer of blanks alone is no answer: it is asked for once more
        blanks = [_error(fact).get("code") == CODE.EXEC_API_EMPTY.value for fact in replies]
        given = ["released" in _error(fact) for fact in replies]
        again = [blank and shown for blank, shown in zip(blanks, given, strict=True)]
        # after the last one there may have been nobody left to ask
        assert sum(again[:-1]) <= listener.restarts <= sum(again)
    if not listener.restarts:
        rest = listener.answers[-1] if len(listener.answers) > len(texts) else ""
        assert "".join(listener.given) == "".join(texts) + rest


def _check_routes(
    routed: list[tuple[float, int, Event]], told: list[tuple[float, str, str]]
) -> None:
    """Nobody was sent to a target that was cooling down, by what was known then."""
    for now, known, event in routed:
        until, benches = -1.0, 0
        for when, target, state in told[:known]:
            if target == event.data["to"]:
                benches = benches + 1 if state == "open" else 0
                until = when + min(5 * 2 ** (benches - 1), 300) if state == "open" else -1.0
        assert now >= until - 1e-6, (event, now, until)
