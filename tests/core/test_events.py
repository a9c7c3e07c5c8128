"""Facts and signals: their order is a contract, and nobody who listens can hurt a run."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest

from lorimer import PipelinePresets
from lorimer.core import bus as bus_module
from lorimer.core import facts as facts_module
from lorimer.core import signals as signals_module
from lorimer.core.bus import QUEUE_EVENTS, STREAM_EVENTS, Bus
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock, ThinkingBlock
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from lorimer.tools.base import ToolInput
from tests.core.support import Do, kinds, make, use

ONE_RUN = """
    run.start session.start pipeline.start

    stage.enter:input input.normalized stage.exit:input
    stage.enter:context context.built stage.exit:context
    stage.enter:system system.built stage.exit:system
    stage.enter:guard guard.check stage.exit:guard
    stage.enter:cache cache.applied stage.exit:cache

    stage.enter:api api.request model.intent
    thinking.delta text.delta text.delta tool.input_delta
    model.reply api.response stage.exit:api
    stage.enter:token token.tracked stage.exit:token
    stage.enter:think think.processed stage.exit:think
    stage.enter:parse parse.complete stage.exit:parse
    stage.enter:tool tool.execute_start
    tool.call_start tool.intent tool.progress tool.result tool.call_complete
    tool.execute_complete stage.exit:tool
    stage.bypass:tool_review
    stage.bypass:agent
    stage.bypass:task_registry
    stage.bypass:evaluate
    stage.bypass:hitl
    stage.enter:loop loop.continue stage.exit:loop

    stage.enter:context context.built stage.exit:context
    stage.enter:system system.built stage.exit:system
    stage.enter:guard guard.check stage.exit:guard
    stage.enter:cache cache.applied stage.exit:cache

    stage.enter:api api.request iteration.end model.intent
    text.delta
    model.reply api.response stage.exit:api
    stage.enter:token token.tracked stage.exit:token
    stage.bypass:think
    stage.enter:parse parse.complete stage.exit:parse
    stage.bypass:tool
    stage.bypass:tool_review
    stage.bypass:agent
    stage.bypass:task_registry
    stage.enter:evaluate evaluate.complete stage.exit:evaluate
    stage.bypass:hitl
    stage.enter:loop loop.complete stage.exit:loop

    stage.bypass:emit
    stage.bypass:memory
    stage.bypass:summarize
    stage.bypass:persist
    stage.enter:yield yield.complete stage.exit:yield

    iteration.end run.end pipeline.complete
""".split()


def told(input: ToolInput, context: ToolContext) -> str:
    context.progress("half way")
    return "written"


def one_run(world: World, **options: Any) -> Any:
    first = [ThinkingBlock("hm"), TextBlock("Let me"), use("write", n=1)]
    tools = [Do("write", told, effects=["write"])]
    return make(world, [first, "Done."], "agent", tools=tools, **options)


def told_as(event: Event) -> str:
    return f"{event.type}:{event.stage}" if event.type.startswith("stage.") else event.type


# --- the order --------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["heard", "streamed"])
def test_the_events_of_one_run_come_in_exactly_this_order(streamed: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = one_run(world)
        seen: list[Event] = []
        if streamed:
            seen = [event async for event in pipeline.run_stream("go")]
        else:
            pipeline.on("*", seen.append)
            await pipeline.run("go")
        assert [told_as(event) for event in seen] == ONE_RUN
        assert _iterations_are_right(seen)
        assert {event.run_id for event in seen} == {seen[0].run_id}

    simulate(main)


def _iterations_are_right(seen: list[Event]) -> bool:
    """Of the first turn until it has ended; its `iteration.end` is told with the next intent."""
    second = next(at for at, event in enumerate(seen) if event.iteration == 1)
    return all(
        event.iteration == int(at >= second and event.seq != 6) for at, event in enumerate(seen)
    )


def test_facts_have_consecutive_numbers_and_signals_none() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = one_run(world, journal=journal)
        events = [event async for event in pipeline.run_stream("go")]
        facts = [event for event in events if event.is_fact]
        assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
        assert all((event.seq is None) == (event.type not in FACT_KINDS) for event in events)
        result = events[-1].data["result"]
        assert isinstance(result, PipelineResult)
        assert result.events == facts
        assert [fact async for fact in journal.read(result.session_id)] == facts
        again = await pipeline.run("and", limits=Limits(max_turns=1), raise_on_error=False)
        assert again.events[0].seq == len(facts) + 1, "numbers go on in the conversation"

    simulate(main)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("text.detla", "no event is called 'text.detla'; did you mean 'text.delta'"),
        ("run.ends", "did you mean 'run.end'"),
        ("tol.*", "did you mean 'tool.*'"),
        ("text.delta", ""),
        ("model.*", ""),
        ("*", ""),
        ("my_stage.has_looked", ""),
    ],
)
def test_a_name_that_is_almost_an_events_is_noted(
    name: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    PipelinePresets.minimal(model="scripted:echo").on(name, print)
    assert (told in caplog.text) if told else not caplog.text


def test_text_and_result_of_events_are_typed() -> None:
    async def main(world: SimulatedWorld) -> None:
        events = [event async for event in one_run(world).run_stream("go")]
        said = "".join([event.text for event in events if event.type == "text.delta"])
        *others, last = events
        assert last.result is last.data["result"]
        assert last.result is not None
        assert said.endswith(last.result.text)
        assert [event for event in others if event.result is not None] == []
        assert {event.text for event in others if "text" not in event.data} == {""}

    simulate(main)


def test_the_last_event_is_made_of_run_end_and_alone_carries_an_object() -> None:
    async def main(world: SimulatedWorld) -> None:
        events = [event async for event in one_run(world).run_stream("go")]
        *others, last = events
        result = last.data["result"]
        assert isinstance(result, PipelineResult)
        end = others[-1]
        assert (end.type, last.type) == ("run.end", "pipeline.complete")
        for name in ("status", "iterations", "usage"):
            assert last.data[name] == end.data[name]
        assert last.data["run_id"] == result.run_id == end.run_id
        assert "result" not in last.to_json()["data"]  # type: ignore[operator]
        assert all(json.dumps(event.to_json()) for event in events)
        called = next(event for event in others if event.type == "tool.call_complete")
        assert called.to_json()["data"]["result"] == "written"  # type: ignore[index, call-overload]

    simulate(main)


def test_a_failed_run_tells_the_stage_that_failed_and_ends_with_pipeline_error() -> None:
    async def main(world: SimulatedWorld) -> None:
        denied = APIError("no", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST)
        events = [e async for e in make(world, [denied], "minimal").run_stream("go")]
        assert [told_as(event) for event in events] == [
            *("run.start", "pipeline.start"),
            *("stage.enter:input", "input.normalized", "stage.exit:input"),
            *("stage.enter:api", "api.request", "model.intent", "model.reply", "stage.error:api"),
            *("run.end", "pipeline.error"),
        ]

    simulate(main)


def test_a_retry_tells_of_each_attempt() -> None:
    async def main(world: SimulatedWorld) -> None:
        busy = APIError("busy", code=ExecutorErrorCode.EXEC_API_SERVER_ERROR)
        events = [e async for e in make(world, [busy, "fine"], "minimal").run_stream("go")]
        api = [event for event in events if event.stage == "api" or event.type.startswith("model.")]
        assert [told_as(event) for event in api] == [
            *("stage.enter:api", "api.request", "model.intent", "model.reply", "api.retry"),
            *("api.request", "model.intent", "text.delta", "model.reply", "api.response"),
            "stage.exit:api",
        ]
        assert [e.data["attempt"] for e in events if e.type == "api.request"] == [1, 2]

    simulate(main)


def test_a_resumed_run_tells_only_what_is_new() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        whole = await one_run(world, journal=MemoryJournal(world)).run("go")
        kept = whole.events[:5]
        epoch = await journal.claim("s", "dead", 0)
        copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in kept]
        await journal.append("s", epoch, copies, sync=True)
        await journal.release("s", epoch)
        pipeline = make(world, ["Done."], tools=[Do("write", told, effects=["write"])])
        pipeline = make(
            world, ["Done."], tools=[Do("write", told, effects=["write"])], journal=journal
        )
        events = [event async for event in pipeline.resume_stream(whole.run_id)]
        assert events[0].type == "run.resumed"
        assert events[0].data == {"facts": 5}
        assert [event.seq for event in events if event.is_fact] == [6, 7, 8, 9, 10]
        assert "pipeline.start" not in kinds(events)
        assert kinds(events).count("model.reply") == 1
        result = events[-1].data["result"]
        assert isinstance(result, PipelineResult)
        assert [fact.seq for fact in result.events] == list(range(1, 11))

    simulate(main)


# --- listening --------------------------------------------------------------------------------


def test_exact_names_prefixes_and_all() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = one_run(world)
        seen: dict[str, list[str]] = {}
        for pattern in ("*.end", "t*"):
            with pytest.raises(ConfigError, match="matches nothing"):
                pipeline.on(pattern, print)
        for pattern in ("run.end", "tool.*", "*", "tool", "run.*"):
            seen[pattern] = []
            pipeline.on(pattern, lambda event, to=seen[pattern]: to.append(event.type))
        await pipeline.run("go")
        every = seen["*"]
        assert [told_as_type(name) for name in ONE_RUN] == every
        assert seen["run.end"] == ["run.end"]
        assert seen["run.*"] == ["run.start", "run.end"]
        assert seen["tool.*"] == [name for name in every if name.startswith("tool.")]
        assert seen["tool"] == []

    simulate(main)


def told_as_type(name: str) -> str:
    return name.split(":")[0]


def test_longer_prefixes_count_too_and_a_handler_hears_an_event_once_a_subscription() -> None:
    bus = Bus()
    heard: list[str] = []
    for pattern in ("my.own.event", "my.own.*", "my.*", "*", "my.own", "my.other.*"):
        bus.on(pattern, lambda event, name=pattern: heard.append(name))
    for handler in bus.handlers("my.own.event"):
        handler(Event("my.own.event", {}))
    assert heard == ["my.own.event", "my.own.*", "my.*", "*"]


def test_on_is_a_decorator_and_a_call_that_gives_the_way_to_stop() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["one", "two", "three", "four"], "chat")
        heard: list[str] = []

        @pipeline.on("api.response")
        def decorated(event: Event) -> None:
            heard.append("decorated")

        assert decorated.__name__ == "decorated"
        stop = pipeline.on("api.response", lambda event: heard.append("called"))
        twin = pipeline.on("api.response", decorated)
        await pipeline.run("go")
        assert heard == ["decorated", "called", "decorated"]
        stop()
        stop()
        heard.clear()
        await pipeline.run("go")
        assert heard == ["decorated", "decorated"]
        twin()
        twin()
        heard.clear()
        await pipeline.run("go")
        assert heard == ["decorated"]

    simulate(main)


def test_a_handler_may_stop_listening_or_begin_to_in_mid_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = one_run(world)
        heard: list[str] = []

        def once(event: Event) -> None:
            stop()
            heard.append(event.type)
            pipeline.on("loop.*", lambda event: heard.append(event.type))

        stop = pipeline.on("stage.enter", once)
        await pipeline.run("go")
        assert heard == ["stage.enter", "loop.continue", "loop.complete"]

    simulate(main)


def test_who_begins_to_listen_hears_also_what_nobody_wanted_before() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["one", "two"], "chat")
        heard: list[str] = []
        pipeline.on("run.end", lambda event: heard.append(event.type))
        await pipeline.run("go")
        pipeline.on("loop.complete", lambda event: heard.append(event.type))
        await pipeline.run("go")
        assert heard == ["run.end", "loop.complete", "run.end"]

    simulate(main)


def test_who_begins_to_listen_when_nobody_did_hears_from_the_next_turn_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        heard: list[tuple[str, int]] = []

        def listen(input: ToolInput, context: ToolContext) -> str:
            pipeline.on("stage.enter", lambda e: heard.append((e.stage, e.iteration)))
            return "listening"

        pipeline = make(world, [[use("listen")], "done"], "chat", tools=[Do("listen", listen)])
        await pipeline.run("go")
        assert heard[0] == ("context", 1)
        assert ("yield", 1) in heard

    simulate(main)


@dataclass(eq=True)
class Unhashable:
    """A handler that cannot be the key of a dict."""

    seen: list[str] = field(default_factory=list[str])

    async def later(self, event: Event) -> None:
        self.seen.append(event.type)

    def __call__(self, event: Event) -> Any:
        return self.later(event)


def test_every_kind_of_callable_is_a_handler() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = one_run(world)
        plain: list[Event] = []
        unhashable = Unhashable()

        async def named(to: list[str], event: Event) -> None:
            to.append(event.type)

        partly: list[str] = []
        pipeline.on("stage.enter", plain.append)
        pipeline.on("stage.enter", unhashable)
        pipeline.on("stage.enter", partial(named, partly))
        pipeline.on("stage.exit", unhashable.later)
        await pipeline.run("go")
        entered = [name for name in ONE_RUN if name.startswith("stage.enter")]
        exited = [name for name in ONE_RUN if name.startswith("stage.exit")]
        assert len(plain) == len(partly) == len(entered)
        assert Counter(unhashable.seen) == {
            "stage.enter": len(entered),
            "stage.exit": len(exited),
        }

    simulate(main)


# --- handlers that misbehave ------------------------------------------------------------------


class Worse(BaseException):
    pass


def raising(event: Event) -> None:
    raise ValueError(event.type)


async def raising_later(event: Event) -> None:
    await asyncio.sleep(0)
    raise ValueError(event.type)


def cancelling(event: Event) -> None:
    raise asyncio.CancelledError


async def cancelling_later(event: Event) -> None:
    raise asyncio.CancelledError


async def hanging(event: Event) -> None:
    await asyncio.get_running_loop().create_future()


async def stubborn(event: Event) -> None:
    for _ in range(30):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize(
    "handler",
    [raising, raising_later, cancelling, cancelling_later, hanging, stubborn],
    ids=lambda handler: handler.__name__,
)
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_no_handler_changes_what_becomes_of_a_run(
    handler: Callable[[Event], Any], streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "lorimer.events")

    async def main(world: SimulatedWorld) -> None:
        expected = (await one_run(world).run("go")).events
        pipeline = one_run(world)
        pipeline.on("*", handler)
        if streamed:
            last = [event async for event in pipeline.run_stream("go")][-1]
            result = last.data["result"]
            assert isinstance(result, PipelineResult)
        else:
            result = await pipeline.run("go")
        assert result.text == "Done."
        assert kinds(result.events) == kinds(expected)
        assert result.events[-1].data == expected[-1].data
        if handler is not stubborn:
            assert asyncio.all_tasks() == {asyncio.current_task()}
        else:
            await world.sleep(300)

    simulate(main)


def test_what_a_handler_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        pipeline.on("run.end", raising)
        pipeline.on("run.start", raising_later)
        await pipeline.run("go")

    simulate(main)
    messages = [record.getMessage() for record in caplog.records if record.name == "lorimer.events"]
    assert sorted(messages) == [
        "a handler of 'run.end' failed",
        "a handler of 'run.start' failed",
    ]


# --- slow handlers ----------------------------------------------------------------------------


class Chatty(Stage[object, object]):
    """Sends a great many signals."""

    name = "chatty"
    order = 8
    count = 3 * QUEUE_EVENTS

    async def execute(self, input: object, state: PipelineState) -> object:
        for number in range(self.count):
            state.run.signal("chat.word", {"n": number})
        return input


def test_a_slow_handler_loses_the_oldest_is_told_and_gets_the_last_event() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        pipeline.register_stage(Chatty())
        seen: list[Event] = []

        @pipeline.on("*")
        async def slow(event: Event) -> None:
            seen.append(event)
            await asyncio.sleep(0)

        result = await pipeline.run("go")
        assert seen[-1].type == "pipeline.complete"
        dropped = [event for event in seen if event.type == "events.dropped"]
        assert dropped
        assert all(event.run_id == result.run_id for event in seen)
        words = [event.data["n"] for event in seen if event.type == "chat.word"]
        assert words == sorted(words)  # type: ignore[type-var]
        assert words[-1] == Chatty.count - 1
        total = len(await _all_events(world))
        lost = sum(int(str(event.data["count"])) for event in dropped)
        assert len(seen) - len(dropped) + lost == total

    async def _all_events(world: World) -> list[Event]:
        twin = make(world, ["hi"], "minimal")
        twin.register_stage(Chatty())
        everything: list[Event] = []
        twin.on("*", everything.append)
        await twin.run("go")
        return everything

    simulate(main)


@pytest.mark.parametrize("seconds", [0.5, 10.0, 1e6])
def test_a_handler_slower_than_the_end_of_the_run_still_gets_the_last_event(
    seconds: float,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = one_run(world)
        seen: list[Event] = []

        @pipeline.on("*")
        async def slow(event: Event) -> None:
            seen.append(event)
            await world.sleep(seconds)

        await pipeline.run("go")
        assert world.monotonic() <= 3 * bus_module.DRAIN_S + 0.1
        assert seen[-1].type == "pipeline.complete"
        lost = sum(int(str(e.data["count"])) for e in seen if e.type == "events.dropped")
        assert lost + sum(e.type != "events.dropped" for e in seen) == len(ONE_RUN)
        assert lost > 0

    simulate(main)


def test_a_slow_handler_does_not_hold_up_the_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["hi"], latency_s=5), "minimal")
        ended: list[float] = []
        pipeline.on("run.end", lambda event: ended.append(world.monotonic()))

        @pipeline.on("*")
        async def slow(event: Event) -> None:
            await world.sleep(3)

        await pipeline.run("go")
        assert ended == [5.0]

    simulate(main)


# --- a slow reader ----------------------------------------------------------------------------


def test_a_slow_reader_of_the_stream_slows_the_run_and_loses_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        words = [TextBlock(" ".join(["word"] * 2000))]
        pipeline = make(world, ScriptedModel([words]), "minimal")
        sent = 0

        def count(event: Event) -> None:
            nonlocal sent
            sent += 1

        pipeline.on("*", count)
        read, ahead, deltas = 0, 0, 0
        async for event in pipeline.run_stream("go"):
            read += 1
            ahead = max(ahead, sent - read)
            deltas += event.type == "text.delta"
            if read % 50 == 0:
                await world.sleep(1)
        assert read == sent
        assert deltas == 2000
        assert ahead <= STREAM_EVENTS + 1
        assert event.type == "pipeline.complete"

    simulate(main)


def test_a_reader_that_went_away_does_not_hold_up_the_clean_up() -> None:
    class Closing(Stage[object, object]):
        name = "closing"
        order = 18

        async def execute(self, input: object, state: PipelineState) -> object:
            for number in range(3 * STREAM_EVENTS):
                state.run.signal("chat.word", {"n": number})
            return input

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        pipeline.register_stage(Closing())
        events = pipeline.run_stream("go")
        async for event in events:
            if event.type == "chat.word":
                break
        await events.aclose()
        assert world.monotonic() == 0
        [row] = await pipeline.journal.runs()
        assert row.status == "ok", "the loop had ended well before the reader left"

    simulate(main)


def test_a_tool_that_floods_the_stream_with_progress_is_bounded() -> None:
    """It reports without waiting, so nothing can slow it."""

    async def main(world: SimulatedWorld) -> None:
        def flood(input: ToolInput, context: ToolContext) -> str:
            for number in range(20_000):
                context.progress(str(number))
            return "done"

        pipeline = make(world, [[use("flood")], "the answer"], tools=[Do("flood", flood)])
        sent, read, lost = 0, 0, 0

        def count(event: Event) -> None:
            nonlocal sent
            sent += 1

        pipeline.on("*", count)
        seen: list[Event] = []
        async for event in pipeline.run_stream("go"):
            seen.append(event)
            if event.type == "events.dropped":
                lost += int(str(event.data["count"]))
            else:
                read += 1
        assert read + lost == sent > 20_000
        kept = [event for event in seen if event.type == "tool.progress"]
        assert 500 < len(kept) <= QUEUE_EVENTS
        result = seen[-1].data["result"]
        assert isinstance(result, PipelineResult)
        assert [event for event in seen if event.is_fact] == result.events

    simulate(main)


def test_a_slow_reader_slows_a_run_of_many_short_turns_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel.obedient("look"), tools=[Do("look")])
        sent = 0

        def count(event: Event) -> None:
            nonlocal sent
            sent += 1

        pipeline.on("*", count)
        read, ahead = 0, 0
        async for _ in pipeline.run_stream("go"):
            read += 1
            ahead = max(ahead, sent - read)
            await world.sleep(0.01)
        assert read == sent > 4 * STREAM_EVENTS
        assert ahead <= STREAM_EVENTS + 10, "what one stage tells"

    simulate(main)


def test_a_model_that_never_waits_leaves_others_their_turn() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel.obedient("look"), tools=[Do("look")])
        running = asyncio.create_task(
            pipeline.run("go", limits=Limits(max_turns=1000), raise_on_error=False)
        )
        turns = 0
        while not running.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 20

    simulate(main)


def test_the_end_of_an_iteration_tells_how_long_each_stage_took() -> None:
    async def nap(input: ToolInput, context: ToolContext) -> str:
        await context.world.sleep(2)
        return "slept"

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([[use("nap")], "done"], latency_s=3)
        pipeline = make(world, model, tools=[Do("nap", nap)])
        result = await pipeline.run("go")
        first, second = [
            fact.data["times"] for fact in result.events if fact.type == "iteration.end"
        ]
        names = [
            str(stage["name"]) for stage in pipeline.describe() if int(str(stage["order"])) < 17
        ]
        again = [name for name in names if name != "input"]
        assert isinstance(first, list)
        assert isinstance(second, list)
        assert dict(zip(names, first, strict=True)) == {
            **dict.fromkeys(names, 0),
            "api": 3_000_000,
            "tool": 2_000_000,
            "think": None,
            "tool_review": None,
            "agent": None,
            "task_registry": None,
            "evaluate": None,
            "hitl": None,
        }
        assert dict(zip(again, second, strict=True)) == {
            **dict.fromkeys(again, 0),
            "api": 3_000_000,
            "think": None,
            "tool": None,
            "tool_review": None,
            "agent": None,
            "task_registry": None,
            "hitl": None,
        }

    simulate(main)


# --- what nobody hears is not made ------------------------------------------------------------


def _counting(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    made: Counter[str] = Counter()

    class Counted(Event):
        __slots__ = ()

        def __init__(self, type: str, *args: Any, **kwargs: Any) -> None:
            made[type] += 1
            super().__init__(type, *args, **kwargs)

    monkeypatch.setattr(facts_module, "Event", Counted)
    monkeypatch.setattr(signals_module, "Event", Counted)
    return made


def test_without_listeners_no_signal_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _counting(monkeypatch)

    async def main(world: SimulatedWorld) -> PipelineResult:
        return await one_run(world).run("go")  # type: ignore[no-any-return]

    result = simulate(main)
    assert made == Counter(kinds(result.events))


def test_only_what_somebody_listens_to_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _counting(monkeypatch)

    async def main(world: SimulatedWorld) -> PipelineResult:
        pipeline = one_run(world)
        pipeline.on("loop.*", lambda event: None)
        pipeline.on("tool.progress", lambda event: None)
        return await pipeline.run("go")  # type: ignore[no-any-return]

    result = simulate(main)
    signals = made - Counter(kinds(result.events))
    assert signals == Counter({"loop.continue": 1, "loop.complete": 1, "tool.progress": 1})


# --- the event itself -------------------------------------------------------------------------


@pytest.mark.parametrize(("type", "name"), [("tool.result", "content"), ("run.start", "input")])
def test_pictures_are_not_packed_because_the_conversation_has_them(type: str, name: str) -> None:
    picture = "A" * 1_000
    event = Event(type, {name: [{"type": "image", "data": picture}], "key": "0"})
    event.pack()
    block = cast("list[dict[str, JSON]]", event.data[name])[0]
    assert block["data"] is picture


@pytest.mark.parametrize(
    "data",
    [
        {"times": [1, None, 3], "usage": {"input_tokens": 7}, "reason": "\U0001f600 ä"},
        {},
        {"content": ["half a pair: \ud83d"]},
        {"deep": [[[[{"n": -0.5e-7, "big": 2**80}]]]]},
    ],
    ids=["nested", "empty", "no JSON", "numbers"],
)
def test_a_packed_event_says_the_same(data: dict[str, JSON]) -> None:
    plain, packed = Event("effect", data, "r", 1, 2.0), Event("effect", data, "r", 1, 2.0)
    packed.pack()
    packed.pack()
    assert packed == plain
    assert packed.to_json() == plain.to_json()
    assert repr(packed) == repr(plain)
    assert packed.data == data


def test_what_is_nested_in_facts_in_memory_is_shared_with_nobody() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        epoch = await journal.claim("s", "me", 30)
        given: list[JSON] = ["one"]
        await journal.append("s", epoch, [Event("effect", {"key": "k", "n": given})], sync=False)
        given.append("two")
        [fact] = [fact async for fact in journal.read("s")]
        cast("list[JSON]", fact.data["n"]).append("three")
        assert fact.data["n"] == ["one"]

    simulate(main)


def test_an_event_has_a_plain_form_and_is_compared_by_what_it_says() -> None:
    fact = Event("run.end", {"status": "ok", "result": 1}, "run_1", 2, 3.5, "loop", 7)
    assert fact.to_json() == {
        "type": "run.end",
        "run_id": "run_1",
        "iteration": 2,
        "stage": "loop",
        "time": 3.5,
        "seq": 7,
        "data": {"status": "ok", "result": 1},
    }
    twin = Event("run.end", {"status": "ok", "result": 1}, "run_1", 2, 3.5, "", 7)
    assert fact == twin
    assert fact != Event("run.end", {"status": "no"}, "run_1", 2, 3.5, "", 7)
    assert fact != "run.end"
    assert "run.end #7" in repr(fact)
    assert "#" not in repr(Event("x", {}))
    with pytest.raises(TypeError, match="unhashable"):
        hash(fact)


def test_the_kinds_of_fact_are_only_ever_added_to() -> None:
    """Journals keep a kind as its place in this list."""
    assert FACT_KINDS[:14] == (
        *("run.start", "model.intent", "model.reply", "tool.intent", "tool.result", "effect"),
        *("decision", "mutated", "child", "compacted", "iteration.end", "run.suspended"),
        *("run.end", "effect.intent"),
    )


def test_a_plain_function_that_gives_an_awaitable_is_called_once_an_event() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        pipeline.register_stage(Chatty())
        called: list[str] = []
        ended: list[str] = []

        def as_coroutine(event: Event) -> Any:
            called.append(event.type)

            async def later() -> None:
                await asyncio.sleep(0)
                ended.append(event.type)

            return later()

        def as_future(event: Event) -> Any:
            done = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(done.set_result, None)
            done.add_done_callback(lambda _: ended.append(event.type))
            return done

        pipeline.on("stage.*", as_coroutine)
        pipeline.on("run.*", as_future)
        pipeline.on("chat.word", as_coroutine)
        await pipeline.run("go")
        assert called[0] == "stage.enter"
        assert sorted(called) == sorted(name for name in ended if not name.startswith("run."))
        assert [name for name in ended if name.startswith("run.")] == ["run.start", "run.end"]
        dropped = Chatty.count - called.count("chat.word")
        assert dropped > 0
        assert "events.dropped" in called

    simulate(main)


def test_what_cannot_be_called_cannot_listen() -> None:
    with pytest.raises(ConfigError, match="must be a function, not int"):
        Bus().on("run.end", 3)  # type: ignore[call-overload]


def test_what_a_handler_returns_besides_an_awaitable_is_its_own_affair() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "minimal")
        called: list[str] = []

        def moody(event: Event) -> Any:
            called.append(event.type)
            return asyncio.sleep(0) if len(called) == 1 else len(called)

        pipeline.on("*", moody)
        pipeline.on("run.end", lambda event: "noted")
        result = await pipeline.run("go")
        assert result.status == "ok"
        assert called[-1] == "pipeline.complete"

    simulate(main)
