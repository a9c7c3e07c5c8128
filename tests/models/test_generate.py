"""`generate_as`: a value of a type from any model, alone and in the middle of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from lorimer import Pipeline
from lorimer.core.errors import (
    APIError,
    ConfigError,
    ExecutorErrorCode,
    LimitError,
    PipelineError,
)
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.messages import Message, TextBlock, ToolUse, user_message
from lorimer.core.model import Capabilities
from lorimer.core.request import Response, StopReason, Usage
from lorimer.journal import MemoryJournal
from lorimer.journal.verify import verify
from lorimer.models import (
    Models,
    Partial,
    Price,
    count_tokens,
    generate_as,
    generate_as_stream,
    generate_as_sync,
)
from lorimer.presets import preset_manifest
from lorimer.testing import FakeLLMServer, ScriptedModel, SimulatedWorld, simulate
from lorimer.testing.fake_server import ToolCall, Turn
from lorimer.testing.faults import Cut, Status
from lorimer.tools import ToolContext, ToolInput
from tests.core.support import Do, held, kinds, use
from tests.models.chains import cut, down
from tests.models.support import WIRES, Wire, spec
from tests.models.test_live import bundle

CODE = ExecutorErrorCode
USED = Usage(input_tokens=1000, output_tokens=1000)


class City(BaseModel):
    name: str
    people: int


ULM = City(name="Ulm", people=126_000)
TEXT = ULM.model_dump_json()


class Able(ScriptedModel):
    """A scripted model that takes only some things."""

    capabilities = Capabilities()


def able(replies: Any, **can: bool) -> Able:
    model = Able(replies)
    model.capabilities = replace(Capabilities(), **can)
    return model


def test_held_to_a_schema_where_the_model_can() -> None:
    model = ScriptedModel([TEXT])
    assert generate_as_sync(City, "Ulm?", model=model, system="Be exact.") == ULM
    [request] = model.requests
    assert request.output is not None
    assert request.output.name == "City"
    assert not request.tools
    assert request.system.startswith("Be exact.\n\nAnswer with one JSON object")


def test_else_by_a_forced_tool() -> None:
    model = able([[ToolUse("1", "answer", ULM.model_dump())]], output_schema=False)
    assert generate_as_sync(City, "Ulm?", model=model) == ULM
    [request] = model.requests
    assert (request.output, request.tool_choice, request.system) == (None, "answer", "")


def test_else_in_words() -> None:
    model = able([f"Here: {TEXT}"], output_schema=False, tool_choice=False)
    assert generate_as_sync(City, "Ulm?", model=model) == ULM
    [request] = model.requests
    assert (request.output, request.tools) == (None, ())
    assert '"people":{"type":"integer"}' in request.system


def test_a_form_without_an_end_goes_by_a_tool() -> None:
    model = ScriptedModel([[ToolUse("1", "answer", {"a": 1})]])
    assert generate_as_sync(dict[str, int], "?", model=model) == {"a": 1}


@pytest.mark.parametrize(
    "wrong", ['{"name": "Ulm"}', "No.", [ToolUse("7", "answer", {"name": "Ulm"})]]
)
def test_what_does_not_fit_is_told_once(wrong: Any) -> None:
    model = ScriptedModel([wrong, TEXT])
    assert generate_as_sync(City, "Ulm?", model=model) == ULM
    first, second = model.requests
    assert len(second.messages) == len(first.messages) + 2
    assert "That does not fit: " in str(second.messages[-1])


def test_the_second_time_is_the_last_and_the_error_names_the_model() -> None:
    model = ScriptedModel(["No.", '{"name": 1}', TEXT], name="m")
    with pytest.raises(APIError, match=r"'m' is no City.*name: .*people: ") as caught:
        generate_as_sync(City, "Ulm?", model=model)
    assert caught.value.code is CODE.EXEC_API_OUTPUT_INVALID
    assert model.calls == 2


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (StopReason.MAX_TOKENS, CODE.EXEC_API_OUTPUT_INVALID),
        (StopReason.REFUSAL, CODE.EXEC_API_REFUSED),
    ],
)
def test_what_asking_again_does_not_help_is_not_asked_again(
    stop: StopReason, code: ExecutorErrorCode
) -> None:
    model = ScriptedModel([Response((TextBlock('{"name": "U'),), stop)])
    with pytest.raises(APIError) as caught:
        generate_as_sync(City, "Ulm?", model=model)
    assert (caught.value.code, model.calls) == (code, 1)


def test_not_inside_of_a_loop() -> None:
    async def main() -> None:
        generate_as_sync(City, "?", model=ScriptedModel([TEXT]))

    with pytest.raises(PipelineError, match="event loop is running"):
        asyncio.run(main())


# --- limits, retries, chains ------------------------------------------------------------------


def test_failures_are_retried_and_waited_for() -> None:
    async def main(world: SimulatedWorld) -> float:
        model = ScriptedModel([down(), down(CODE.EXEC_API_RATE_LIMITED, retry_after_s=7.0), TEXT])
        assert await generate_as(City, "?", model=model, world=world) == ULM
        return world.monotonic()

    assert 8.0 <= simulate(main) < 10.0


def test_the_next_of_a_chain_answers_and_its_sinks_are_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        told: list[str] = []

        class Sink:
            def record_usage(self, call: Any) -> None:
                told.append(f"{call.target} {call.code}")

        one = ScriptedModel(lambda _: down(), name="m")
        two = ScriptedModel([TEXT], name="m")
        models = Models(providers={"one": one, "two": two}, usage_sink=Sink())
        got = await generate_as(City, "?", model="one:m,two:m", models=models, world=world)
        assert got == ULM
        assert told[-1] == "two:m "
        assert told[0] == "one:m exec.api.server_error"

    simulate(main)


def test_its_time_is_limited() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([TEXT], latency_s=50.0)
        with pytest.raises(LimitError) as caught:
            await generate_as(City, "?", model=model, world=world, limits=Limits(timeout_s=20.0))
        assert caught.value.code is CODE.EXEC_LIMIT_TIMEOUT
        assert world.monotonic() == pytest.approx(20.0)

    simulate(main)


def test_its_cost_is_limited_and_a_repair_counts() -> None:
    model = ScriptedModel(["No.", TEXT], usage=USED, price=Price(1, 2))
    with pytest.raises(LimitError) as caught:
        generate_as_sync(City, "?", model=model, max_tokens=1000, limits=Limits(max_cost_usd=0.004))
    assert caught.value.code is CODE.EXEC_LIMIT_COST
    assert model.calls == 1


def test_whoever_cancels_the_caller_ends_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([TEXT], latency_s=50.0)
        task = asyncio.ensure_future(generate_as(City, "?", model=model, world=world))
        await world.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    simulate(main)


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_shows_what_there_is_and_ends_with_the_value() -> None:
    async def main(world: SimulatedWorld) -> list[Any]:
        model = ScriptedModel([TEXT], chunk=4, delta_s=0.1)
        stream = generate_as_stream(City, "?", model=model, world=world)
        return [item async for item in stream]

    items = simulate(main)
    assert items[-1] == ULM
    parts = [item.data for item in items[:-1] if isinstance(item, Partial)]
    assert len(parts) == len(items) - 1 > 3
    assert parts[-1] == ULM.model_dump()
    assert {"name": "Ul"} in parts or {"name": "Ulm"} in parts


def test_a_stream_begins_anew_after_a_failure() -> None:
    async def main(world: SimulatedWorld) -> list[Any]:
        model = ScriptedModel([cut('{"name": "Never to be seen'), TEXT], chunk=4, delta_s=0.1)
        return [item async for item in generate_as_stream(City, "?", model=model, world=world)]

    items = simulate(main)
    assert items[-1] == ULM
    assert any("Never" in str(item) for item in items)
    assert items[-2] == Partial(ULM.model_dump())


def test_leaving_a_stream_ends_the_call() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([TEXT], chunk=1, delta_s=10.0)
        stream = generate_as_stream(City, "?", model=model, world=world)
        async with aclosing(stream):
            async for _ in stream:
                break
        assert world.monotonic() < 100

    simulate(main)  # and nothing is left behind


# --- over real wires ----------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "openai"])
def test_over_each_wire(wire: Wire) -> None:
    script = [
        Turn(faults=(Status(529 if wire == "anthropic" else 503, headers={"retry-after": "0"}),)),
        Turn("No."),
        Turn(TEXT),
    ]
    with FakeLLMServer(script) as server:
        models = Models(bundle(server))
        assert generate_as_sync(City, "?", model=spec(wire), models=models) == ULM
        assert len(server.requests) == 3
        assert "additionalProperties" in str(server.requests[-1].body)


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "openai"])
def test_by_a_tool_over_each_wire(wire: Wire) -> None:
    call = ToolCall("call_1", "answer", {"a": 1})
    with FakeLLMServer([Turn(tool_calls=(call,))]) as server:
        models = Models(bundle(server))
        got = generate_as_sync(dict[str, int], "?", model=spec(wire), models=models)
        assert got == {"a": 1}


def test_a_claude_from_before_schemas_is_asked_by_a_tool() -> None:
    call = ToolCall("call_1", "answer", ULM.model_dump())
    with FakeLLMServer([Turn(tool_calls=(call,))]) as server:
        models = Models(bundle(server))
        got = generate_as_sync(City, "?", model="anthropic:claude-sonnet-4-0", models=models)
        assert got == ULM
        assert "output_config" not in server.requests[0].body


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "openai"])
def test_a_stream_over_each_wire(wire: Wire) -> None:
    async def main() -> list[Any]:
        models = Models(bundle(server))
        try:
            stream = generate_as_stream(City, "?", model=spec(wire), models=models)
            return [item async for item in stream]
        finally:
            await models.aclose()

    broken = Turn(('{"name":', '"Nev'), faults=(Cut(-40),))
    with FakeLLMServer([broken, Turn((TEXT[:6], TEXT[6:20], TEXT[20:]))]) as server:
        items = asyncio.run(main())
    assert items[-1] == ULM
    assert len(items) > 1


# --- in a run -----------------------------------------------------------------------------------


class Inner:
    """A run whose tools ask a model of their own."""

    def __init__(
        self,
        world: SimulatedWorld,
        *,
        journal: MemoryJournal | None = None,
        tools: int = 1,
        streamed: bool = False,
    ) -> None:
        self.world = world
        self.streamed = streamed
        self.shown: list[object] = []
        self.outer = ScriptedModel(
            [[use("look", f"c{n}", n=n) for n in range(tools)], "done"] if tools else ["done"],
            usage=USED,
            price=Price(1, 1),
        )
        self.inner = ScriptedModel(self._replies(), usage=USED, price=Price(1, 1))
        self.told: list[object] = []
        self.journal = journal or MemoryJournal(world)
        manifest = preset_manifest("agent", model="scripted:outer")
        self.pipeline = Pipeline(
            manifest,
            models=Models(providers={"scripted": self.outer}),
            journal=self.journal,
            world=world,
            tools=[Do("look", self._look, safe=True)],
        )

    def _replies(self) -> Iterator[Any]:
        while True:
            yield "No."
            yield down()
            yield TEXT

    async def _look(self, input: ToolInput, context: ToolContext) -> str:
        assert context.run is not None
        if self.streamed:
            city = ULM
            async for item in generate_as_stream(City, "Ulm?", model=self.inner, run=context.run):
                self.shown.append(item)
                city = item if isinstance(item, City) else city
        else:
            city = await generate_as(City, "Ulm?", model=self.inner, run=context.run)
        self.told.append(city)
        return city.name


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_asks_a_model_and_the_run_pays(streamed: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        made = Inner(world, streamed=streamed)
        heard: list[Event] = []
        made.pipeline.on("text.delta", heard.append)
        result = await made.pipeline.run("go")
        assert made.told == [ULM]
        assert made.inner.calls == 3
        # two of the outer model, two of the inner one: a failed attempt that told nothing is free
        assert result.usage == Usage(4 * 1000, 4 * 1000)
        asides = [fact for fact in result.events if fact.type.startswith("effect")]
        assert kinds(asides) == ["effect.intent", "effect"] * 3
        assert all(str(fact.data["key"]).startswith("generate:") for fact in asides)
        assert "".join(str(event.data["text"]) for event in heard) == "done"
        assert (await made.pipeline.replay(result.run_id)).divergence is None
        assert await verify(made.journal, result.run_id) == []
        assert made.shown[-1:] == [ULM] * streamed
        assert any(isinstance(item, Partial) for item in made.shown) == streamed

    simulate(main)


def test_leaving_a_stream_in_a_run_ends_its_call_and_its_cost_is_kept() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def look(input: ToolInput, context: ToolContext) -> str:
            stream = generate_as_stream(City, "Ulm?", model=inner, run=context.run)
            async with aclosing(stream):
                async for item in stream:
                    return str(item)
            return "nothing"

        inner = ScriptedModel([TEXT], chunk=8, delta_s=1.0, usage=USED, price=Price(1, 1))
        outer = ScriptedModel([[use("look")], "done"])
        journal = MemoryJournal(world)
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:x"),
            models=Models(providers={"scripted": outer}),
            journal=journal,
            world=world,
            tools=[Do("look", look)],
        )
        result = await pipeline.run("go")
        assert (result.status, result.text) == ("ok", "done")
        assert "Partial" in result.steps[0].content
        assert not any(fact.type == "effect" and "error" in fact.data for fact in result.events)
        assert await verify(journal, result.run_id) == []
        assert world.monotonic() < len(TEXT) / 8

    simulate(main)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_that_is_resumed_asks_nothing_twice_and_pays_the_same(streamed: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await Inner(world, streamed=streamed).pipeline.run("go")
        assert len(whole.events) > 10
        for last in range(2, len(whole.events)):
            known = whole.events[:last]
            journal = await held(world, known)
            made = Inner(world, journal=journal, streamed=streamed)
            answered = len([f for f in known if f.type == "effect"])
            made.inner.calls = 0
            script = made._replies()
            for _ in range(answered):
                next(script)
            made.inner._next = script
            outer = [fact for fact in known if fact.type == "model.reply"]
            for _ in outer:
                next(made.outer._next)
            result = await made.pipeline.resume(whole.run_id)
            assert made.inner.calls == 3 - answered, last
            assert (result.usage, result.cost_nano) == (whole.usage, whole.cost_nano), last
            assert (await made.pipeline.replay(whole.run_id)).divergence is None
            found = await verify(journal, whole.run_id)
            assert {finding.rule for finding in found} <= {
                "manifest",
                "ledger",
            }  # only facts were kept

    simulate(main)


def test_what_a_recorded_tool_had_asked_is_paid_before_the_run_goes_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        limits = {"max_cost_usd": 0.0135}
        whole = await Inner(world).pipeline.run("go", limits=limits, raise_on_error=False)
        assert whole.status == "budget_exceeded"
        done = next(n for n, fact in enumerate(whole.events) if fact.type == "tool.result")
        made = Inner(world, journal=await held(world, whole.events[: done + 1]))
        made.outer._next = iter(["done"])
        result = await made.pipeline.resume(whole.run_id, raise_on_error=False)
        assert (result.status, result.cost_nano) == (whole.status, whole.cost_nano)
        assert made.inner.calls == made.outer.calls == 0

    simulate(main)


def test_tools_side_by_side_that_ask_the_same() -> None:
    async def main(world: SimulatedWorld) -> None:
        made = Inner(world, tools=4)
        made.inner._next = iter([TEXT] * 4)
        result = await made.pipeline.run("go")
        assert made.told == [ULM] * 4
        assert result.usage == Usage(6 * 1000, 6 * 1000)
        assert await verify(made.journal, result.run_id) == []

    simulate(main)


def test_the_runs_ceiling_holds_for_what_its_tools_ask() -> None:
    async def main(world: SimulatedWorld) -> None:
        made = Inner(world)
        result = await made.pipeline.run(
            "go", limits={"max_cost_usd": 0.0095}, raise_on_error=False
        )
        assert result.cost_nano <= 9_500_000
        assert made.told == []
        assert made.inner.calls == 0

    simulate(main)


def test_a_models_clocks_run_in_a_tool_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        made = Inner(world)
        made.inner.latency_s = 1000.0
        limits = {"tool_timeout_s": 5000.0, "idle_timeout_s": 10.0}
        result = await made.pipeline.run("go", limits=limits)
        first = next(fact.data for fact in result.events if fact.type == "effect")
        assert "25 s without content" in str(first["error"])
        assert result.text == "done"

    simulate(main)


def test_the_limits_of_a_run_are_its_own() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def look(input: ToolInput, context: ToolContext) -> str:
            with pytest.raises(ConfigError, match="are the run's"):
                await generate_as(
                    City, "?", model=ScriptedModel([]), run=context.run, limits=Limits()
                )
            return "refused"

        outer = ScriptedModel([[use("look")], "done"])
        pipeline = Pipeline(
            preset_manifest("agent", model="scripted:x"),
            models=Models(providers={"scripted": outer}),
            world=world,
            tools=[Do("look", look)],
        )
        assert "refused" in str((await pipeline.run("go")).messages)

    simulate(main)


def test_a_prompt_may_be_a_conversation() -> None:
    said = [
        user_message("Where is it?"),
        Message("assistant", (TextBlock("In Ulm."),)),
        user_message("As a city."),
    ]
    model = ScriptedModel([TEXT])
    assert asyncio.run(generate_as(City, said, model=model)) == ULM
    assert list(model.requests[0].messages) == said


@pytest.mark.parametrize("ask", [generate_as, count_tokens])
def test_a_prompt_or_a_model_of_the_wrong_kind_is_told(ask: Any) -> None:
    asked = partial(ask, City) if ask is generate_as else ask
    model = ScriptedModel(["x"])
    with pytest.raises(ConfigError, match="prompt must be text, or a list of Messages, not int"):
        asyncio.run(asked(7, model=model))
    with pytest.raises(ConfigError, match="each message of a prompt must be a Message, not dict"):
        asyncio.run(asked([{"role": "user", "content": "hi"}], model=model))
    with pytest.raises(ConfigError, match="model must be a Model, and a NoneType has no"):
        asyncio.run(asked("hi", model=None))
