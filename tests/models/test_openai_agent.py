"""An agent on OpenAI's Responses wire, over real sockets: it thinks, calls tools, goes on after
being cut off anywhere, and every thought goes back byte for byte before what followed it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import dumps
from lorimer.journal import MemoryJournal
from lorimer.presets import preset_manifest
from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_server import FakeUsage, SeenRequest, ToolCall, Turn
from lorimer.testing.fake_turn import seal
from lorimer.testing.faults import Cut, ErrorEvent, Status
from lorimer.tools import Tool, ToolContext, ToolResult

THOUGHTS = ("Hm, zwölf 🦄.", "And\n\nthen?", "That is all.")
SCRIPT = (
    Turn("Looking.", THOUGHTS[0], tool_calls=(ToolCall("c1", "look", {"n": 1}),)),
    Turn(
        thinking=THOUGHTS[1],
        tool_calls=(ToolCall("c2", "look", {"n": 2}), ToolCall("c3", "change", {"n": 3})),
        usage=FakeUsage(20, 9, cache_read=4, reasoning=3),
    ),
    Turn("All done.", THOUGHTS[2]),
)
STAGE: dict[int, int] = {0: 0, 1: 1, 3: 2}
"""How many results have come → which turn is due."""


def play(request: SeenRequest) -> Turn:
    """What the model says to a conversation, wherever it comes from."""
    items: Any = request.body["input"]
    return SCRIPT[STAGE[sum(item["type"] == "function_call_output" for item in items)]]


class Count(Tool):
    """Counts what it did."""

    description = "counts"
    input_schema = {"type": "object", "properties": {"n": {"type": "integer"}}}  # noqa: RUF012

    def __init__(self, name: str, effect: str, done: list[object]) -> None:
        self.name = name
        self.effects = frozenset([effect])
        self.done = done

    async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
        self.done.append(input["n"])
        return ToolResult(f"{self.name} {input['n']}")


def agent(
    server: FakeLLMServer, journal: Journal, done: list[object], *, stream: bool = True
) -> Pipeline:
    made = preset_manifest("agent", model="openai:gpt-5")
    made.model.api = "responses"
    made.model.thinking_enabled = True
    made.stages["api"].config["stream"] = stream
    made.stages["api"].strategy_configs["retry"] = {"base_delay_s": 0.0}
    tools = [Count("look", "read", done), Count("change", "write", done)]
    return Pipeline(made, tools=tools, api_key="k", base_url=server.openai_url, journal=journal)


def thoughts(request: SeenRequest) -> list[Any]:
    items: Any = request.body["input"]
    return [item for item in items if item["type"] == "reasoning"]


def nameless(request: SeenRequest) -> dict[str, Any]:
    """The body without the ids of thoughts, in which the fake counts its requests."""
    body: Any = json.loads(dumps(request.body))
    for item in body["input"]:
        if item["type"] == "reasoning":
            del item["id"]
    return body


def check(last: SeenRequest) -> None:
    """The whole turn is there, item by item, each thought as the provider sealed it."""
    items: Any = last.body["input"]
    assert [item["type"] for item in items] == [
        *("message", "reasoning", "message", "function_call", "function_call_output"),
        *("reasoning", "function_call", "function_call"),
        *("function_call_output", "function_call_output"),
    ]
    assert [item["encrypted_content"] for item in thoughts(last)] == [*map(seal, THOUGHTS[:2])]
    assert [item["summary"][0]["text"] for item in thoughts(last)] == [*THOUGHTS[:2]]


@pytest.mark.parametrize("stream", [True, False])
def test_a_run_with_thinking_and_tools(stream: bool) -> None:
    done: list[object] = []

    async def go() -> list[Event]:
        async with agent(server, MemoryJournal(), done, stream=stream) as pipeline:
            result = await pipeline.run("go")
        assert result.text == "All done."
        assert result.usage.cache_read_input_tokens == 4
        assert result.usage.reasoning_tokens == 3
        return result.events

    with FakeLLMServer(play) as server:
        facts = asyncio.run(go())
        server.wait_until(lambda seen: seen.open_connections == 0)
    assert done == [1, 2, 3]
    assert {request.wire for request in server.requests} == {"responses"}
    check(server.requests[-1])
    assert facts[-1].type == "run.end"


def test_a_conversation_goes_on_with_its_thoughts() -> None:
    answers = [*SCRIPT, Turn("You are welcome.")]

    async def go() -> None:
        async with agent(server, MemoryJournal(), []) as pipeline:
            await pipeline.run("go")
            assert (await pipeline.run("thanks")).text == "You are welcome."

    with FakeLLMServer(answers) as server:
        asyncio.run(go())
    last = thoughts(server.requests[-1])
    assert [item["encrypted_content"] for item in last] == [*map(seal, THOUGHTS)]


def test_a_run_cut_after_any_fact_goes_on_with_the_same_request() -> None:
    async def whole() -> list[Event]:
        async with agent(first, MemoryJournal(), []) as pipeline:
            return (await pipeline.run("go")).events

    async def resumed(kept: Sequence[Event], server: FakeLLMServer) -> list[object]:
        journal = MemoryJournal()
        epoch = await journal.claim("session_x", "dead", 0.0)
        start = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in kept]
        await journal.append("session_x", epoch, start, sync=True)
        await journal.release("session_x", epoch)
        done: list[object] = []
        async with agent(server, journal, done) as pipeline:
            result = await pipeline.resume(kept[0].run_id)
        assert result.text == "All done."
        return done

    with FakeLLMServer(play) as first:
        facts = asyncio.run(whole())
    for cut in range(1, len(facts)):
        kept = facts[:cut]
        with FakeLLMServer(play) as server:  # another one: it knows seals, not what it said
            done = asyncio.run(resumed(kept, server))
        asked = sum(fact.type == "model.reply" for fact in kept)
        assert len(server.requests) == len(SCRIPT) - asked
        begun = kept[-1].type == "tool.intent"
        assert len(done) == 3 - sum(fact.type == "tool.result" for fact in kept) - begun
        if server.requests:
            check(server.requests[-1])
            if not begun:
                assert nameless(server.requests[-1]) == nameless(first.requests[-1])


def test_failed_attempts_are_repeated_and_leave_nothing_behind() -> None:
    faults = [(Status(429, headers={"retry-after": "0"}),), (Cut(-200),), (ErrorEvent(6),)]
    failing = [Turn("Looking.", THOUGHTS[0], faults=faults) for faults in faults]

    async def go() -> None:
        journal, done = MemoryJournal(), list[object]()
        async with agent(server, journal, done) as pipeline:
            result = await pipeline.run("go")
        assert result.text == "All done."
        assert done == [1, 2, 3]

    with FakeLLMServer([*failing, *SCRIPT]) as server:
        asyncio.run(go())
    assert len(server.requests) == len(failing) + len(SCRIPT)
    check(server.requests[-1])


def test_text_that_was_shown_is_not_shown_again() -> None:
    async def go() -> None:
        async with agent(server, MemoryJournal(), []) as pipeline:
            events = [event async for event in pipeline.run_stream("go")]
        shown = [event.data["text"] for event in events if event.type == "text.delta"]
        assert "".join(map(str, shown)) == "Looking."
        last = events[-1]
        assert last.type == "pipeline.error"
        assert last.data["code"] == ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE.value

    cut = Turn("Looking.", THOUGHTS[0], faults=(Cut(-40),))
    with FakeLLMServer([cut, *SCRIPT]) as server:
        asyncio.run(go())
    assert len(server.requests) == 1


def test_a_conversation_begun_elsewhere_leaves_its_thoughts_there() -> None:
    async def go() -> None:
        async with agent(server, MemoryJournal(), []) as pipeline:
            result = await pipeline.run("go")
        content = [
            block
            for fact in result.events
            if fact.type == "model.reply"
            for block in fact.data["content"]  # type: ignore[union-attr]
        ]
        assert [block["type"] for block in content].count("thinking") == 3  # type: ignore[index]

    # The key's organization has changed: its server knows none of the seals.
    turns = [
        Turn("Looking.", "a", signature="of another", tool_calls=SCRIPT[0].tool_calls),
        Turn(faults=(Status(400, "could not be verified", code="invalid_encrypted_content"),)),
        *SCRIPT[1:],
    ]
    with FakeLLMServer(turns) as server:
        asyncio.run(go())
    assert [len(thoughts(request)) for request in server.requests] == [0, 1, 0, 2]
