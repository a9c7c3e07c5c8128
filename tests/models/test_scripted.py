"""The scripted model does what it is told."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from lorimer import PipelinePresets, tool
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
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
from lorimer.models import Models, Price, ScriptedModel
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from tests.models.support import NoWorld, timed


def ask(
    model: ScriptedModel,
    text: str = "hi",
    *,
    stream: bool = True,
    messages: list[Message] | None = None,
) -> list[Delta | Response]:
    async def go() -> list[Delta | Response]:
        request = Request("m", messages or [user_message(text)], stream=stream)
        return [item async for item in model.stream(request, world=NoWorld())]

    return asyncio.run(go())


def answer(model: ScriptedModel, text: str = "hi") -> Response:
    last = ask(model, text, stream=False)[-1]
    assert isinstance(last, Response)
    return last


CALL = ToolUse("call_1", "bolts", {})


@tool(effects=["read"])
def bolts() -> int:
    """How many there are."""
    return 240


def script(*replies: Any) -> Models:
    return Models(providers={"scripted": ScriptedModel(replies)})


def test_what_a_reply_raises_is_raised_where_the_stream_is_read() -> None:
    def fails(request: Request) -> Response:
        raise KeyError("mine")

    async def go() -> None:
        stream = ScriptedModel(fails).stream(Request("m", []), world=NoWorld())
        with pytest.raises(KeyError, match="mine"):
            await anext(stream)

    asyncio.run(go())


def test_the_stream_of_a_whole_answer_ends_after_it() -> None:
    async def go() -> None:
        whole = Response((TextBlock("whole"),))
        model = ScriptedModel([whole], deltas=False)
        stream = aiter(model.stream(Request("m", []), world=NoWorld()))
        assert await anext(stream) is whole
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(go())


def test_every_kind_of_reply() -> None:
    prepared = Response((TextBlock("whole"),), usage=Usage(1, 1))
    model = ScriptedModel(
        [
            "text",
            prepared,
            [TextBlock("a"), ToolUse("1", "t", {})],
            lambda request: request.messages[-1].text.upper(),
            APIError("no", code=ExecutorErrorCode.EXEC_API_RATE_LIMITED),
        ]
    )
    assert answer(model).text == "text"
    assert answer(model) is prepared
    both = answer(model)
    assert both.stop is StopReason.TOOL_USE and len(both.tool_calls) == 1
    assert answer(model, "loud").text == "LOUD"
    with pytest.raises(APIError, match="no"):
        answer(model)
    with pytest.raises(APIError, match="used up") as caught:
        answer(model)
    assert caught.value.code is ExecutorErrorCode.EXEC_API_TERMINAL
    assert model.calls == len(model.requests) == 6


@pytest.mark.parametrize("text", ["", " ", "one", "  two words\n\n and  more ", "a\tb\n"])
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_deltas_join_to_the_answer(text: str, chunk: int) -> None:
    items = ask(ScriptedModel([text], chunk=chunk))
    assert isinstance(items[0], UsageDelta)
    assert "".join([item.text for item in items if isinstance(item, TextDelta)]) == text
    assert isinstance(items[-1], Response) and items[-1].text == text


def test_deltas_of_thinking_and_calls() -> None:
    items = ask(ScriptedModel([[ThinkingBlock("hm m"), ToolUse("1", "t", {"a": 1})]]))
    assert items[1:-1] == [
        ThinkingDelta("hm"),
        ThinkingDelta(" m"),
        ToolInputDelta(0, '{"a":1}', "t"),
    ]
    assert len(ask(ScriptedModel(["x y"], deltas=False))) == 1
    assert len(ask(ScriptedModel(["x y"]), stream=False)) == 1


def test_an_error_in_the_middle() -> None:
    model = ScriptedModel([[TextDelta("par"), APIError("cut")], [TextBlock("x"), APIError("cut")]])
    seen: list[Delta | Response] = []

    async def go() -> None:
        async for item in model.stream(Request("m", [user_message("x")]), world=NoWorld()):
            seen.append(item)

    for expected in ("par", "x"):
        seen.clear()
        with pytest.raises(APIError, match="cut"):
            asyncio.run(go())
        assert [item.text for item in seen if isinstance(item, TextDelta)] == [expected]
        assert not [item for item in seen if isinstance(item, Response)]


def test_a_lone_string_is_one_reply() -> None:
    assert answer(ScriptedModel("hello")).text == "hello"


def test_a_lone_block_is_a_reply() -> None:
    models = script(CALL, "There are 240.")
    agent = PipelinePresets.agent(model="scripted:m", tools=[bolts], models=models)
    result = agent.run_sync("How many?")
    assert ([step.content for step in result.steps], result.text) == (["240"], "There are 240.")
    lone = ScriptedModel(TextBlock("hello"))  # type: ignore[arg-type]  # pyright: ignore
    assert answer(lone).text == "hello"


@pytest.mark.parametrize("reply", [{"text": "hello"}, 3, [CALL, "text"]])
def test_what_is_no_reply_is_told(reply: Any) -> None:
    agent = PipelinePresets.minimal(model="scripted:m", models=script(reply))
    with pytest.raises(ConfigError, match="a scripted reply must be a text, a block or a list"):
        agent.run_sync("Hi")


def test_prices() -> None:
    model = ScriptedModel(["x", "y"], usage=Usage(1000, 10), price=Price(1, 2))
    assert model.price(answer(model).usage) == 1_020_000
    assert model.price(Usage(1)) == 1000
    assert ScriptedModel().price(Usage(1)) is None


def test_latency_is_on_the_runs_clock() -> None:
    world = NoWorld()

    async def go() -> None:
        model = ScriptedModel(["a b"], latency_s=3, delta_s=2)
        async for _ in model.stream(Request("m", [user_message("x")]), world=world):
            pass

    asyncio.run(go())
    assert world.slept == [3, 2, 2]


def test_a_slow_model_has_answered_all_the_same() -> None:
    async def go(world: SimulatedWorld) -> float:
        model = ScriptedModel(["a"], latency_s=200)
        request = Request("m", [user_message("x")])
        items = [item async for item in timed(model.stream(request, world=world), Limits())]
        assert isinstance(items[-1], Response)
        return world.monotonic()

    assert simulate(go) == 200


def test_requests_keep_the_messages_as_they_were() -> None:
    model = ScriptedModel(["x"])
    history = [user_message("one")]
    ask(model, messages=history)
    history.append(user_message("two"))
    assert len(model.requests[0].messages) == 1
    silent = ScriptedModel(["x"], record=False)
    ask(silent)
    assert silent.requests == [] and silent.calls == 1


def test_obedient_calls_its_tool_for_ever() -> None:
    model = ScriptedModel.obedient("read", {"path": "x"})
    for _ in range(5):
        call = answer(model).tool_calls[0]
        assert (call.name, call.input) == ("read", {"path": "x"})


def test_obedient_does_what_it_reads() -> None:
    model = ScriptedModel.obedient()
    told = 'Please\nCALL write {"path": "a"}\nCALL bash\nCALL bad {"a":\nnot CALL this {}'
    calls = answer(model, told).tool_calls
    assert [(c.name, c.input, c.raw) for c in calls] == [
        ("write", {"path": "a"}, ""),
        ("bash", {}, ""),
        ("bad", {}, '{"a":'),
    ]
    assert len({call.id for call in calls}) == 3
    assert answer(model, "nothing to do").text == "done"
    for content in ("CALL x {}", (TextBlock("CALL x {}"), ImageBlock("image/png", "AA"))):
        result = Message("user", (ToolResultBlock("1", content),))
        last = ask(model, messages=[user_message("CALL old {}"), result], stream=False)[-1]
        assert isinstance(last, Response)
        assert [call.name for call in last.tool_calls] == ["x"]


def test_a_function_answers_threads_at_once() -> None:
    model = ScriptedModel(lambda request: "x")
    request, failed = Request("m", [user_message("hi")]), list[Exception]()

    async def go() -> None:
        for _ in range(1500):
            async for _ in model.stream(request, world=NoWorld()):
                pass

    def work() -> None:
        try:
            asyncio.run(go())
        except ValueError as error:
            failed.append(error)

    before = sys.getswitchinterval()
    if sys.gettrace() is None:  # Python cannot be switched while a thread gets its tracer
        sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []
