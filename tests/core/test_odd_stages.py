"""Stages and strategies of the host's that do odd things."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import APIError, ExecutorErrorCode, MutationError, StageError
from lorimer.core.messages import TextBlock, user_message
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.journal import SQLiteJournal
from lorimer.models.pricing import Price
from lorimer.stages import (
    s01_input,
    s02_context,
    s03_system,
    s04_guard,
    s05_cache,
    s06_api,
    s07_token,
    s08_think,
    s09_parse,
    s10_tool,
    s14_evaluate,
    s16_controllers,
    s17_emit,
    s20_persist,
    s21_yield,
)
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, check_history, kinds, make, only, use
from tests.stages.support import choose

CODE = ExecutorErrorCode


def run_with(stage: Stage[object, object], replies: Sequence[Any] = ("hi",)) -> PipelineResult:
    async def main(world: SimulatedWorld) -> PipelineResult:
        pipeline = make(world, list(replies), "chat", tools=[Do("look")])
        pipeline.register_stage(stage)
        result = await pipeline.run("go", raise_on_error=False)
        assert kinds(result.events)[-1] == "run.end"
        return result

    return simulate(main)


@pytest.mark.parametrize("place", [12, 16], ids=["before stage 16", "after it"])
def test_a_decision_that_is_none_ends_the_run_in_a_coded_error(place: int) -> None:
    class Odd(Stage[object, object]):
        name = "odd"
        order = place

        async def execute(self, input: object, state: PipelineState) -> object:
            state.decision = "enough"  # type: ignore[assignment]
            return input

    result = run_with(Odd())
    assert (result.status, result.code) == ("error", CODE.EXEC_STAGE_FAILED)
    assert isinstance(result.exception, StageError)
    assert "decided 'enough'" in result.error


@pytest.mark.parametrize("place", [12, 16], ids=["before stage 16", "after it"])
def test_a_decision_in_words_is_one(place: int) -> None:
    class Enough(Stage[object, object]):
        name = "odd"
        order = place

        async def execute(self, input: object, state: PipelineState) -> object:
            state.decision = "complete"  # type: ignore[assignment]
            return input

    result = run_with(Enough(), [[use("look", "a")], "never"])
    assert (result.status, result.iterations) == ("ok", 1)


def test_a_reason_that_cannot_be_told_ends_the_run_in_a_coded_error() -> None:
    class Untold:
        def __str__(self) -> str:
            raise ValueError("no words")

    class Odd(Stage[object, object]):
        name = "odd"
        order = 16

        async def execute(self, input: object, state: PipelineState) -> object:
            state.reason = Untold()  # type: ignore[assignment]
            return input

    result = run_with(Odd())
    assert (result.status, result.code) == ("error", CODE.EXEC_STAGE_FAILED)
    assert result.error == "The run failed: ValueError: no words"


def test_a_cancellation_that_nobody_asked_for_is_an_error_of_the_stage() -> None:
    class Lost(Stage[object, object]):
        name = "lost"
        order = 12

        async def execute(self, input: object, state: PipelineState) -> object:
            other = asyncio.ensure_future(asyncio.sleep(10))
            other.cancel()
            await other
            return input

    result = run_with(Lost())
    assert (result.status, result.code) == ("error", CODE.EXEC_STAGE_FAILED)
    assert "CancelledError" in result.error
    assert result.text == "hi"


def test_a_message_between_a_call_and_its_result_is_refused() -> None:
    class Between(Stage[object, object]):
        name = "between"
        order = 8

        async def execute(self, input: object, state: PipelineState) -> object:
            state.messages.append(user_message("by the way"))
            return input

    result = run_with(Between(), [[use("look")], "never"])
    assert result.code is CODE.EXEC_STAGE_FAILED
    assert "before the next model call" in result.error
    check_history(result.messages)


def test_a_stage_may_look_at_what_was_used_so_far() -> None:
    seen: list[tuple[int, float, Usage]] = []

    class Look(Stage[object, object]):
        name = "peek"
        order = 17

        async def execute(self, input: object, state: PipelineState) -> object:
            seen.append((state.cost_nano, state.cost_usd, state.usage))
            return input

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["hi"], usage=Usage(100, 10), price=Price(1, 1))
        pipeline = make(world, model, "agent")
        pipeline.register_stage(Look())
        await pipeline.run("go")

    simulate(main)
    assert seen == [(110_000, 0.00011, Usage(100, 10))]


def test_a_hosts_own_stage_6_need_not_ask_a_model() -> None:
    class Oracle(Stage[object, object]):
        name = "api"
        order = 6

        async def execute(self, input: object, state: PipelineState) -> object:
            state.text = "forty-two"
            return input

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["never"])
        pipeline = make(world, model, "agent")
        pipeline.register_stage(Oracle())
        result = await pipeline.run("go")
        assert (result.text, result.status, model.calls) == ("forty-two", "ok", 0)
        assert result.messages == []
        assert only(result.events, "iteration.end")["reason"] == "no_response"

    simulate(main)


def test_a_stage_may_leave_bypassing_to_its_base() -> None:
    ran: list[str] = []

    class Mine(Stage[object, object]):
        name = "mine"
        order = 12

        def should_bypass(self, state: PipelineState) -> bool:
            return super().should_bypass(state)

        async def execute(self, input: object, state: PipelineState) -> object:
            ran.append(self.name)
            return input

    assert run_with(Mine()).status == "ok"
    assert ran == ["mine"]


def test_a_stage_without_execute_is_told_by_name() -> None:
    class Empty(Stage[object, object]):
        name = "empty"
        order = 12

    assert "Empty has no execute method" in run_with(Empty()).error


STRATEGIES: list[tuple[str, str, type[Any], Any]] = [
    ("input", "validator", s01_input.Validator, "hi"),
    ("input", "normalizer", s01_input.Normalizer, "hi"),
    ("context", "strategy", s02_context.ContextStrategy, "hi"),
    ("system", "builder", s03_system.PromptBuilder, "hi"),
    ("guard", "guards", s04_guard.Guard, "hi"),
    ("cache", "strategy", s05_cache.CacheStrategy, "hi"),
    ("api", "retry", s06_api.Retry, APIError("x", code=CODE.EXEC_API_NETWORK)),
    ("token", "calculator", s07_token.Calculator, "hi"),
    ("token", "tracker", s07_token.Tracker, "hi"),
    ("think", "processor", s08_think.ThinkProcessor, "thought"),
    ("parse", "parser", s09_parse.Parser, "hi"),
    ("tool", "executor", s10_tool.ToolExecutor, [use("look", "a"), use("look", "b")]),
    ("evaluate", "strategy", s14_evaluate.Evaluation, "hi"),
    ("loop", "controller", s16_controllers.LoopController, "hi"),
    ("emit", "emitters", s17_emit.Emitter, "hi"),
    ("persist", "cadence", s20_persist.Cadence, "hi"),
    ("yield", "formatter", s21_yield.Formatter, "hi"),
]


@pytest.mark.parametrize(("stage", "slot", "base", "reply"), STRATEGIES)
def test_a_strategy_without_its_method_is_told_by_name(
    stage: str, slot: str, base: type[Any], reply: Any
) -> None:
    from lorimer.core.messages import ThinkingBlock
    from lorimer.stages import catalogue

    class Mine(base):  # type: ignore[misc]
        name = "mine"

    async def main(world: SimulatedWorld) -> None:
        known = catalogue()
        known.add_strategy(stage, slot, "mine", Mine)
        chain = slot in ("guards", "emitters")
        replies = [[ThinkingBlock("hm"), TextBlock("hi")]] if reply == "thought" else [reply]
        change = choose(stage, slot, ["mine"] if chain else "mine")
        if slot == "emitters":
            change = choose(stage, slot, ["mine"], mine={"target": "t"})
        pipeline = make(
            world,
            ScriptedModel(replies, price=Price(1, 1)),
            change=change,
            tools=[Do("look")],
            catalogue=known,
            bindings={"t": print},
            journal=SQLiteJournal(":memory:", world=world, threads=False),
        )
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_STAGE_FAILED
        assert "Mine has no " in result.error
        assert only(result.events, "run.end")["code"] == "exec.stage.failed"

    simulate(main)


class Wrapped(Strategy):
    """What a decorator, or one strategy in front of another, comes to."""

    name = "mine"

    async def _load(self, state: PipelineState) -> list[object]:
        return []

    def load(self, state: PipelineState) -> Awaitable[list[object]]:
        return self._load(state)


class Awaited(Strategy):
    name = "mine"

    async def format(self, state: PipelineState) -> str:
        return "never seen"


class Misspelt(Strategy):
    name = "mine"

    async def lood(self, state: PipelineState) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("stage", "slot", "mine", "why"),
    [
        ("yield", "formatter", Awaited, "Awaited.format must not be async: def format"),
        ("context", "strategy", Misspelt, "Misspelt has no method load: the stage calls async def"),
    ],
)
def test_a_strategy_that_cannot_be_called_is_refused_when_it_is_put_in(
    stage: str, slot: str, mine: type[Strategy], why: str
) -> None:
    pipeline = PipelinePresets.chat(model="scripted:echo")
    with pytest.raises(MutationError, match=re.escape(why)):
        pipeline.swap_strategy(stage, slot, mine)
    assert pipeline.run_sync("Hello").text == "Hello"


def test_a_strategy_may_give_something_to_await_by_a_plain_method() -> None:
    pipeline = PipelinePresets.chat(model="scripted:echo")
    pipeline.swap_strategy("context", "strategy", Wrapped)
    assert pipeline.run_sync("Hello", raise_on_error=False).success


@pytest.mark.parametrize(
    ("gives", "what"),
    [
        (None, "a NoneType"),
        ([{"role": "user", "content": "hi"}], "a list with a dict"),
        ("hi", "a list with a str"),
    ],
)
def test_a_context_strategy_that_gives_no_messages_is_told_by_name(gives: Any, what: str) -> None:
    class Mine(Strategy):
        name = "mine"

        async def load(self, state: PipelineState) -> Any:
            return gives

    pipeline = PipelinePresets.chat(model="scripted:echo")
    pipeline.swap_strategy("context", "strategy", Mine)
    with pytest.raises(StageError, match=f"Mine.load returned {what}, and not messages"):
        pipeline.run_sync("Hello")
