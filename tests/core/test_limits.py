"""Every bound holds exactly, whatever model, tools and manifest do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import ConfigError
from lorimer.builder import PipelineBuilder
from lorimer.core.errors import APIError, ExecutorErrorCode, LimitError
from lorimer.core.jsonable import canonical
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock, ToolUse, canonical_message
from lorimer.core.model import Model
from lorimer.core.request import Delta, Request, Response, TextDelta, Usage
from lorimer.core.result import PipelineResult
from lorimer.core.spend import Spend
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from tests.core.support import Do, check_history, make, only, use

TICK = 1e-3
CODE = ExecutorErrorCode


# --- turns ------------------------------------------------------------------------------------


def test_max_turns_3_makes_exactly_3_calls_of_a_model_that_calls_tools_for_ever() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel.obedient("look")
        pipeline = make(world, model, tools=[look := Do("look")])
        with pytest.raises(LimitError) as caught:
            await pipeline.run("go", limits=Limits(max_turns=3))
        assert model.calls == 3
        assert len(look.calls) == 3
        result = caught.value.result
        assert result is not None
        assert result.status == "error"
        assert result.code is CODE.EXEC_LOOP_MAX_TURNS
        assert result.iterations == 3
        assert len(result.steps) == 3
        assert result.usage == Usage(30, 15)
        assert only(result.events, "run.end")["iterations"] == 3
        check_history(result.messages)
        assert [message.role for message in result.messages] == ["user", *["assistant", "user"] * 3]

    simulate(main)


def test_the_text_said_before_the_limit_is_kept() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = [[TextBlock(f"step {n}"), use("look")] for n in range(9)]
        pipeline = make(world, replies, tools=[Do("look")])
        result = await pipeline.run("go", limits=Limits(max_turns=2), raise_on_error=False)
        assert (result.text, result.output) == ("step 1", "step 1")

    simulate(main)


def test_minimal_makes_one_call_even_if_the_model_wants_tools() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel.obedient("look")
        pipeline = make(world, model, "minimal", tools=[look := Do("look")])
        result = await pipeline.run("go", raise_on_error=False)
        assert model.calls == 1
        assert not look.calls
        assert result.status == "ok"
        check_history(result.messages)

    simulate(main)


@pytest.mark.parametrize(("preset", "turns"), [("minimal", 1), ("chat", 20), ("agent", 50)])
def test_every_preset_is_bounded(preset: str, turns: int) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel.obedient("look")
        pipeline = make(world, model, preset, tools=[Do("look")])
        await pipeline.run("go", raise_on_error=False)
        assert model.calls == turns

    simulate(main)


def test_a_built_pipeline_is_bounded_by_what_it_was_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        for build, turns in (
            (lambda b: b, 1),
            (lambda b: b.with_loop(4), 4),
            (lambda b: b.with_loop().with_guard(max_iterations=2), 2),
        ):
            model = ScriptedModel.obedient("look")
            builder = PipelineBuilder(
                model="scripted:m",
                models=Models(providers={"scripted": model}),
                journal=MemoryJournal(world),
                world=world,
            ).with_tools([Do("look")])
            await build(builder).build().run("go", raise_on_error=False)
            assert model.calls == turns

    simulate(main)


def test_equal_limits_are_written_alike() -> None:
    whole = Limits(timeout_s=2, max_cost_usd=3, tool_timeout_s=4)
    assert whole == Limits(timeout_s=2.0, max_cost_usd=3.0, tool_timeout_s=4.0)
    assert (
        canonical(whole.to_json()) == b'{"max_cost_usd":3.0,"timeout_s":2.0,"tool_timeout_s":4.0}'
    )


def test_limits_of_one_run_do_not_stay() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel.obedient("look")
        pipeline = make(world, model, "chat", tools=[Do("look")])
        await pipeline.run("go", limits=Limits(max_turns=1), raise_on_error=False)
        assert model.calls == 1
        await pipeline.run("on", raise_on_error=False)
        assert model.calls == 21

    simulate(main)


# --- time -------------------------------------------------------------------------------------


class Silent:
    """A model that hangs: before anything, or in mid-answer."""

    provider = "scripted"
    name = "m"

    def __init__(self, *, said: bool) -> None:
        self.said = said
        self.closed = 0

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return None

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        try:
            if self.said:
                yield TextDelta("I th")
            await asyncio.get_running_loop().create_future()
        finally:
            self.closed += 1


async def swallowing(input: ToolInput, context: ToolContext) -> str:
    while True:
        try:
            await context.world.sleep(1000)
        except asyncio.CancelledError:
            continue


async def sleeping(input: ToolInput, context: ToolContext) -> str:
    await context.world.sleep(1000)
    return "late"


class Sleeping(Stage[object, object]):
    name = "sleeping"
    order = 9

    async def execute(self, input: object, state: PipelineState) -> object:
        await state.run.world.sleep(1000)
        return input


def _slow_model(world: World) -> Any:
    return make(world, ScriptedModel(["late"], latency_s=1000))


def _silent(world: World) -> Any:
    return make(world, Silent(said=False))


def _half_silent(world: World) -> Any:
    return make(world, Silent(said=True))


def _tool(act: Callable[..., Any], *, twice: bool = False) -> Callable[[World], Any]:
    def build(world: World) -> Any:
        calls = [use("do", "a"), use("do", "b")][: 1 + twice]
        return make(world, [calls, "late"], tools=[Do("do", act, safe=True)])

    return build


def _slow_stage(world: World) -> Any:
    pipeline = make(world, ["late"])
    pipeline.register_stage(Sleeping())
    return pipeline


HANGS = {
    "a slow model": _slow_model,
    "a silent model": _silent,
    "a model silent in mid-answer": _half_silent,
    "a sleeping tool": _tool(sleeping),
    "a tool that swallows its cancellation": _tool(swallowing),
    "two sleeping tools at once": _tool(sleeping, twice=True),
    "two swallowing tools at once": _tool(swallowing, twice=True),
    "a sleeping stage": _slow_stage,
}
GENEROUS = {"connect_timeout_s": 5e4, "idle_timeout_s": 5e4, "model_timeout_s": 5e4}


@pytest.mark.parametrize("what", HANGS)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_the_time_limit_ends_whatever_hangs_within_a_tick(what: str, streamed: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = HANGS[what](world)
        limits = Limits(timeout_s=7.25, tool_timeout_s=5e4, **GENEROUS)
        if streamed:
            events = [event async for event in pipeline.run_stream("go", limits=limits)]
            result = events[-1].data["result"]
        else:
            result = await pipeline.run("go", limits=limits, raise_on_error=False)
        assert result.status == "timeout"
        assert result.code is CODE.EXEC_LIMIT_TIMEOUT
        assert world.monotonic() == pytest.approx(7.25, abs=TICK)
        assert only(result.events, "run.end")["code"] == "exec.limit.timeout"
        check_history(result.messages)

    simulate(main)


def test_the_default_time_limit_is_half_an_hour() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel.obedient("do"), tools=[Do("do", sleeping)])
        result = await pipeline.run("go", limits=Limits(max_turns=1000), raise_on_error=False)
        assert result.status == "timeout"
        assert world.monotonic() == pytest.approx(1800, abs=TICK)

    simulate(main)


def test_a_model_that_never_waits_is_stopped_by_time_too() -> None:
    """The limit is looked at between turns: such a model never lets a timer fire."""

    class Ticking(SimulatedWorld):
        def monotonic(self) -> float:
            self.clock.advance(0.01)
            return self.clock.now

    async def main(_: SimulatedWorld) -> None:
        world = Ticking()
        model = ScriptedModel.obedient("look")
        pipeline = make(world, model, tools=[Do("look")])
        limits = Limits(timeout_s=5, max_turns=100_000)
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        assert result.status == "timeout"
        assert model.calls < 500

    simulate(main)


def test_a_retry_that_would_come_too_late_is_not_waited_for() -> None:
    async def main(world: SimulatedWorld) -> None:
        slow_down = APIError("wait", code=CODE.EXEC_API_RATE_LIMITED, retry_after_s=30)
        pipeline = make(world, model := ScriptedModel([slow_down, "never"]))
        result = await pipeline.run("go", limits=Limits(timeout_s=20), raise_on_error=False)
        assert result.code is CODE.EXEC_API_RATE_LIMITED
        assert world.monotonic() == 0
        assert model.calls == 1

    simulate(main)


class Closing(Stage[object, object]):
    """Hangs after the loop has ended well."""

    name = "closing"
    order = 18

    async def execute(self, input: object, state: PipelineState) -> object:
        await state.run.world.sleep(1000)
        return input


def test_cleanup_s_bounds_a_hanging_surface_stage_and_the_answer_is_kept() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["the answer"])
        pipeline.register_stage(Closing())
        result = await pipeline.run("go", limits=Limits(cleanup_s=3.5), raise_on_error=False)
        assert world.monotonic() == pytest.approx(3.5, abs=TICK)
        assert (result.status, result.text) == ("timeout", "the answer")
        assert "cleanup_s" in result.exception.hint  # type: ignore[union-attr]
        again = await pipeline.run("and now", limits=Limits(cleanup_s=1), raise_on_error=False)
        assert again.iterations == 1

    simulate(main)


def test_the_time_limit_does_not_cut_the_surface_stages_short() -> None:
    """Once the loop has ended well, `cleanup_s` counts and the run's own limit does not."""

    class Tidy(Closing):
        async def execute(self, input: object, state: PipelineState) -> object:
            await state.run.world.sleep(5)
            return input

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["fine"], latency_s=3))
        pipeline.register_stage(Tidy())
        result = await pipeline.run("go", limits=Limits(timeout_s=4, cleanup_s=6))
        assert result.status == "ok"
        assert world.monotonic() == pytest.approx(8, abs=TICK)

    simulate(main)


# --- money ------------------------------------------------------------------------------------


class Billing:
    """An honest provider: bills what it was sent, a token for every three bytes at most, as
    fresh or as written to a cache, and what it answers."""

    provider = "scripted"
    name = "m"

    def __init__(self, price: Price, bytes_per_token: float, answer: int, turns: int) -> None:
        self.table = ScriptedModel(price=price)
        self.bytes_per_token = bytes_per_token
        self.answer = answer
        self.turns = turns
        self.billed = 0
        self.calls = 0

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return self.table.price(usage)

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        self.calls += 1
        sent = sum(len(canonical_message(message)) for message in request.messages)
        sent += len(request.system.encode()) + sum(tool.size for tool in request.tools)
        prompt = int(sent / self.bytes_per_token)
        out = min(self.answer, request.max_tokens)
        cached = request.cache.system or request.cache.tools
        usage = Usage(
            input_tokens=0 if cached else prompt,
            output_tokens=out,
            cache_creation_input_tokens=prompt if cached else 0,
        )
        self.billed += self.table.price(usage) or 0
        calls = (ToolUse(f"c{self.calls}", "look", {}),) if self.calls < self.turns else ()
        yield Response((TextBlock("é" * out), *calls), usage=usage, model="m")


@settings(max_examples=60, deadline=None)
@given(
    prices=st.tuples(*[st.floats(0, 80, allow_nan=False) for _ in range(2)]),
    write=st.floats(1, 2),
    density=st.floats(3, 6),
    answer=st.integers(1, 400),
    ceiling=st.floats(0, 0.2),
    turns=st.integers(1, 12),
    parallel=st.booleans(),
)
def test_spent_never_exceeds_the_ceiling(
    prices: tuple[float, float],
    write: float,
    density: float,
    answer: int,
    ceiling: float,
    turns: int,
    parallel: bool,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        price = Price(*prices, cache_write_per_million=prices[0] * write)
        model = Billing(price, density, answer, turns)

        def change(manifest: EnvironmentManifest) -> None:
            manifest.model.max_tokens = 400
            manifest.stages["system"].config["prompt"] = "äöü " * 200

        journal = MemoryJournal(world)
        look = Do("look")
        look.description = "looks at something " * 40
        pipeline = make(world, model, change=change, tools=[look], journal=journal)
        limits = Limits(max_cost_usd=ceiling)
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        assert model.billed == result.cost_nano <= round(ceiling * 1e9)
        balance = await journal.balance(result.run_id)
        assert (balance.reserved, balance.spent) == (0, result.cost_nano)
        assert result.status in ("ok", "budget_exceeded")
        if result.status == "ok":
            assert model.calls == turns
        else:
            assert result.code is CODE.EXEC_LIMIT_COST
            assert "--max-cost-usd" in result.exception.hint  # type: ignore[union-attr]

    simulate(main)


def test_a_model_without_a_price_is_refused_under_a_cost_limit_unless_allowed() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, model := ScriptedModel(["one", "two"]), "chat")
        result = await pipeline.run("go", limits=Limits(max_cost_usd=1), raise_on_error=False)
        assert result.code is CODE.EXEC_API_UNPRICED
        assert result.status == "error"
        assert model.calls == 0
        assert result.messages == []
        allowed = Limits(max_cost_usd=1, allow_unpriced=True)
        assert (await pipeline.run("go", limits=allowed)).text == "one"
        assert (await pipeline.run("go")).text == "two"

    simulate(main)


class HalfPriced(ScriptedModel):
    """Nobody knows what its cache reads cost."""

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        return None if usage.cache_read_input_tokens else usage.total * 1000


def test_tokens_without_a_price_cost_what_was_set_aside_for_the_call() -> None:
    async def main(world: SimulatedWorld) -> None:
        used = Usage(10, 10, cache_read_input_tokens=500)
        journal = MemoryJournal(world)
        pipeline = make(world, HalfPriced(["one"], usage=used), "chat", journal=journal)
        result = await pipeline.run("go", limits=Limits(max_cost_usd=1))
        intent = next(fact for fact in result.events if fact.type == "model.intent")
        assert result.cost_nano == intent.data["reserve"] > 0
        balance = await journal.balance(result.run_id)
        assert (balance.reserved, balance.spent) == (0, result.cost_nano)

    simulate(main)


def test_failed_attempts_are_paid_for_and_count_against_the_ceiling() -> None:
    async def main(world: SimulatedWorld) -> None:
        cut = APIError("cut", code=CODE.EXEC_API_STREAM_INCOMPLETE)
        model = ScriptedModel(
            [[TextBlock("half"), cut], [TextBlock("half"), cut], "whole"],
            usage=Usage(1000, 10),
            price=Price(1, 1),
        )
        pipeline = make(world, model)
        result = await pipeline.run("go", limits=Limits(max_cost_usd=0.05))
        assert result.text == "whole"
        assert result.usage == Usage(3000, 12), "of each half that was said, an estimated token"
        assert result.cost_nano == 3_012_000

    simulate(main)


def test_a_call_that_just_fits_is_made_and_one_that_does_not_is_not() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def run(nano: int) -> PipelineResult:
            model = ScriptedModel(["hi"], price=Price(1, 1))
            limits = Limits(max_cost_usd=nano / 1e9)
            return await make(world, model).run("go", limits=limits, raise_on_error=False)

        asked = await run(10**9)
        reserve = int(str(asked.events[1].data["reserve"]))
        assert reserve > 8192 * 1000
        assert (await run(reserve)).status == "ok"
        assert (await run(reserve - 1)).status == "budget_exceeded"

    simulate(main)


def test_an_input_that_no_call_was_made_for_is_not_part_of_the_conversation() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["one", "two"], price=Price(1, 1))
        pipeline = make(world, model, "chat")
        await pipeline.run("first")
        refused = await pipeline.run("second", limits=Limits(max_cost_usd=0), raise_on_error=False)
        assert refused.status == "budget_exceeded"
        assert [message.text for message in refused.messages] == ["first", "one"]
        await pipeline.run("third")
        assert [m.text for m in model.requests[-1].messages] == ["first", "one", "third"]

    simulate(main)


def test_what_an_error_says_was_used_is_paid_for_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        failed = APIError("no", code=CODE.EXEC_API_SERVER_ERROR, usage=Usage(500, 20))
        model = ScriptedModel([failed, "whole"], usage=Usage(1000, 10), price=Price(1, 1))
        pipeline = make(world, model)
        result = await pipeline.run("go")
        assert result.usage == Usage(1500, 30)
        assert result.cost_nano == 1_530_000

    simulate(main)


# --- tool calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [False, True], ids=["one after the other", "at once"])
@pytest.mark.parametrize("most", [0, 1, 2, 3, 5])
def test_max_tool_calls_is_exact_and_cuts_no_neighbour_short(most: int, safe: bool) -> None:
    async def slowly(input: ToolInput, context: ToolContext) -> str:
        await context.world.sleep(1)
        return "done"

    async def main(world: SimulatedWorld) -> None:
        calls = [use("do", f"c{n}", n=n) for n in range(4)]
        tool = Do("do", slowly, effects=["write"], safe=safe)
        pipeline = make(world, [calls, calls, "late"], tools=[tool])
        limits = Limits(max_tool_calls=most)
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        assert (result.status, result.code) == ("error", CODE.EXEC_LIMIT_TOOL_CALLS)
        assert len(tool.calls) == most
        assert [step.content for step in result.steps] == ["done"] * most
        check_history(result.messages)
        told = [block for message in result.messages for block in message.content]
        assert sum("Not run" in str(block) for block in told) == (4 - most % 4)

    simulate(main)


def test_calls_beyond_max_calls_per_turn_are_answered_not_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        calls = [use("do", f"c{n}", n=n) for n in range(5)]
        tool = Do("do", safe=True)
        pipeline = make(world, [calls, "fine"], tools=[tool])
        result = await pipeline.run("go", limits=Limits(max_calls_per_turn=2))
        assert [call["n"] for call in tool.calls] == [0, 1]
        assert [step.content for step in result.steps[:2]] == ["do done", "do done"]
        for step in result.steps[2:]:
            assert step.is_error
            assert "exec.tool.not_run" in str(step.content)
            assert "may make 2 calls, this one made 5" in str(step.content)
        check_history(result.messages)
        assert len(result.steps) == 5

    simulate(main)


def test_max_parallel_tools_bounds_how_many_run_at_once() -> None:
    running, most = 0, 0

    async def counted(input: ToolInput, context: ToolContext) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await context.world.sleep(1)
        running -= 1
        return "done"

    async def main(world: SimulatedWorld) -> None:
        calls = [use("do", f"c{n}") for n in range(9)]
        pipeline = make(world, [calls, "fine"], tools=[Do("do", counted, safe=True)])
        await pipeline.run("go", limits=Limits(max_parallel_tools=3))
        assert most == 3
        assert world.monotonic() == pytest.approx(3, abs=TICK)

    simulate(main)


# --- the limits themselves --------------------------------------------------------------------

COUNTS = ("max_turns", "max_calls_per_turn", "max_parallel_tools", "max_result_chars")
SECONDS = tuple(field.name for field in fields(Limits) if field.name.endswith("_s"))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("bad", [0, -1])
def test_counts_are_at_least_one(name: str, bad: int) -> None:
    with pytest.raises(ConfigError, match=f"limits.{name}: must be at least 1"):
        Limits(**{name: bad})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_seconds_are_more_than_none_and_finite(name: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=f"limits.{name}: must be more than 0 s"):
        Limits(**{name: bad})


@pytest.mark.parametrize("bad", [-0.01, float("nan"), float("inf"), 1e300, 10**400])
def test_a_cost_limit_is_finite_and_not_negative(bad: float) -> None:
    with pytest.raises(ConfigError, match=r"limits\.max_cost_usd"):
        Limits(max_cost_usd=bad)
    assert Limits(max_cost_usd=0).max_cost_nano == 0
    assert Limits().max_cost_nano is None


def test_tool_calls_may_be_none_but_not_fewer() -> None:
    assert Limits(max_tool_calls=0).max_tool_calls == 0
    with pytest.raises(ConfigError, match=r"limits\.max_tool_calls: must not be negative"):
        Limits(max_tool_calls=-1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_turns": "3"}, "limits.max_turns: must be a whole number, not '3'"),
        ({"max_tool_calls": 2.5}, "limits.max_tool_calls: must be a whole number, not 2.5"),
        ({"max_depth": float("nan")}, "limits.max_depth: must be a whole number, not nan"),
        ({"timeout_s": "60"}, "limits.timeout_s: must be a number of seconds, not '60'"),
        ({"cleanup_s": None}, "limits.cleanup_s: must be a number of seconds, not None"),
        ({"max_cost_usd": "1"}, "limits.max_cost_usd: must be a number or None, not '1'"),
        ({"allow_unpriced": "no"}, "limits.allow_unpriced: must be True or False"),
    ],
)
def test_limits_of_the_wrong_kind_are_told_in_words(given: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**given)
    assert caught.value.problems == (told,)


def test_every_bad_limit_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(max_turns=0, timeout_s=0, max_cost_usd=-1, max_tool_calls=-1)
    assert len(caught.value.problems) == 4
    assert all(problem.startswith("limits.") for problem in caught.value.problems)


@given(
    st.builds(
        Limits,
        max_turns=st.integers(1, 10**6),
        timeout_s=st.floats(1e-3, 1e9),
        max_cost_usd=st.none() | st.floats(0, 1e6),
        allow_unpriced=st.booleans(),
        max_tool_calls=st.integers(0, 10**6),
        idle_timeout_s=st.floats(1e-3, 1e9),
    )
)
def test_limits_read_back_from_their_plain_form_are_the_same(limits: Limits) -> None:
    plain = limits.to_json()
    assert Limits.from_json(plain) == limits
    assert all(plain[name] != getattr(Limits(), name) for name in plain)
    assert set(plain) <= set(asdict(limits))


def test_the_default_limits_are_nothing_to_tell() -> None:
    assert Limits().to_json() == {}


@pytest.mark.parametrize("plain", [{"max_turn": 3}, {"max_turns": "many"}, {"timeout_s": -1}])
def test_bad_plain_limits_are_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="limits"):
        Limits.from_json(plain)


def test_a_model_is_what_the_port_says() -> None:
    models: list[Model] = [Silent(said=True), Billing(Price(1, 1), 3, 1, 1)]
    assert all(model.provider == "scripted" for model in models)


@pytest.mark.parametrize("how", ["ok", "error", "timeout", "cancelled", "streamed"])
def test_a_run_that_has_ended_leaves_no_timer(how: str) -> None:
    """One would keep all of the run alive until it fires."""

    async def main(world: SimulatedWorld) -> None:
        failing = APIError("no", code=CODE.EXEC_API_BAD_REQUEST)
        model = ScriptedModel([failing if how == "error" else "hi"], latency_s=5)
        pipeline = make(world, model, "chat")
        limits = Limits(timeout_s=3 if how == "timeout" else 60)
        if how == "cancelled":
            asyncio.get_running_loop().call_later(1, pipeline.cancel)
        if how == "streamed":
            assert [event async for event in pipeline.run_stream("go", limits=limits)]
        else:
            result = await pipeline.run("go", limits=limits, raise_on_error=False)
            assert result.status == how
        timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in timers if not timer.cancelled()] == []

    simulate(main)


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["settle", "settle unwritten", "give back", "write off"]),
        st.integers(0, 50),
        st.integers(0, 60),
    ),
    max_size=8,
)


@given(CALLS)
def test_of_a_ceiling_there_is_left_what_the_run_and_those_below_it_have_not_used(
    calls: list[tuple[str, int, int]],
) -> None:
    """Whatever becomes of the calls of a run that is part of one that is part of another."""
    ceiling = 2_000
    top = Spend("top", ceiling)
    middle = Spend("middle", None, top)
    below = Spend("below", None, middle)
    held = 0

    def left() -> None:
        rest = ceiling - top.nano - middle.nano - below.nano - held
        for account in (top, middle, below):
            with pytest.raises(LimitError):
                account.reserve(rest + 1)
            account.reserve(rest)
            account.give_back(rest)

    for what, most, cost in calls:
        below.reserve(most)
        held += most
        left()
        if what == "give back":
            below.give_back(most)
            held -= most
        elif what == "write off":  # what was set aside stays
            below.write_off({"cost": cost})
        else:
            below.settle(most, {"cost": cost})
            held -= most
            if what == "settle unwritten":
                below.undo(most, {"cost": cost})
                below.give_back(most)
        left()
    below.release()
    held = 0
    left()
    for ended, above in ((below, middle), (middle, top)):
        total, ended.nano = ended.nano, 0  # it is its parent's now
        above.remove_uncharged(total)
        above.settle(0, {"cost": total, "runs": ["one"]})
        left()
    spent = sum(cost for what, _, cost in calls if what in ("settle", "write off"))
    assert top.nano == spent
