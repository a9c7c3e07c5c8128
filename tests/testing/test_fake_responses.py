"""The fake's Responses wire: written as the vendor writes it, and as strict as the vendor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from lorimer.testing.fake_responses_rules import SEALED
from lorimer.testing.fake_server import FakeLLMServer, FakeUsage, ToolCall, Turn, recorded_body
from lorimer.testing.fake_turn import seal
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Status
from tests.testing.clients import HELLO, ask_openai, plain_client, playing

if TYPE_CHECKING:
    import openai
    from openai.types.responses import Response, ResponseStreamEvent
else:
    from tests.sdks import openai

FULL = Turn(
    text=("a", "b"),
    thinking=("t", "u"),
    tool_calls=(ToolCall("c1", "f", {"x": 1}), ToolCall("c2", "g")),
    usage=FakeUsage(10, 5, cache_read=3, cache_write=2, reasoning=4),
)
ASKING = {"store": False, "include": [SEALED], "reasoning": {"summary": "auto"}}


def whole(server: FakeLLMServer, **body: Any) -> Response:
    """One response through the SDK."""

    async def ask(client: openai.AsyncOpenAI) -> Response:
        return await client.responses.create(**{"model": "gpt-5", "input": "hi", **ASKING, **body})

    return ask_openai(server, ask)


def streamed(server: FakeLLMServer, **body: Any) -> list[ResponseStreamEvent]:
    """One response through the SDK, as its events."""

    async def ask(client: openai.AsyncOpenAI) -> list[ResponseStreamEvent]:
        asked = {"model": "gpt-5", "input": "hi", "stream": True, **ASKING, **body}
        return [event async for event in await client.responses.create(**asked)]

    return ask_openai(server, ask)


# ---------------------------------------------------------------- as the vendor writes


def test_the_sdk_reads_an_answer() -> None:
    with playing(FULL) as server:
        answer = whole(server)
    assert [item.type for item in answer.output] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    assert answer.output_text == "ab"
    assert (answer.status, answer.error, answer.incomplete_details) == ("completed", None, None)
    thought, _, first, second = answer.output
    assert thought.type == "reasoning"
    assert (thought.summary[0].text, thought.encrypted_content) == ("tu", seal("tu"))
    assert first.type == second.type == "function_call"
    assert (first.call_id, first.name, first.arguments) == ("c1", "f", '{"x":1}')
    assert len({item.id for item in answer.output}) == 4
    usage = answer.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (15, 5, 20)
    assert usage.input_tokens_details.cached_tokens == 3
    assert usage.input_tokens_details.cache_write_tokens == 2
    assert usage.output_tokens_details.reasoning_tokens == 4


def test_the_sdk_reads_a_stream() -> None:
    with playing(FULL) as server:
        events = streamed(server)
    item = ["response.output_item.added", "response.output_item.done"]
    calls = (
        ["response.function_call_arguments.delta"] * 2,
        ["response.function_call_arguments.delta"],
    )
    assert [event.type for event in events] == [
        *("response.created", "response.in_progress"),
        *(item[0], "response.reasoning_summary_part.added"),
        *("response.reasoning_summary_text.delta",) * 2,
        *("response.reasoning_summary_text.done", "response.reasoning_summary_part.done", item[1]),
        *(item[0], "response.content_part.added"),
        *("response.output_text.delta",) * 2,
        *("response.output_text.done", "response.content_part.done", item[1]),
        *(item[0], *calls[0], "response.function_call_arguments.done", item[1]),
        *(item[0], *calls[1], "response.function_call_arguments.done", item[1]),
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    added, done = (
        [event for event in events if event.type == kind and event.output_index == 0]
        for kind in item
    )
    assert added[0].item.encrypted_content == "incomplete"  # type: ignore[union-attr]
    assert done[0].item.encrypted_content == seal("tu")  # type: ignore[union-attr]


def test_every_event_is_named_as_its_data_says() -> None:
    lines = recorded_body(FULL, "responses").decode().split("\n")
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data: list[Any] = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in data]
    number = recorded_body(FULL, "responses", number=12345)
    assert len(number) == len(recorded_body(FULL, "responses"))


def test_thoughts_come_as_they_were_asked_for() -> None:
    turn = Turn(thinking="t", text="a")
    with playing(turn, turn) as server:
        silent = whole(server, reasoning={"effort": "low"}).output[0]
        bare = whole(server, include=[]).output[0]
    assert silent.type == bare.type == "reasoning"
    assert (silent.summary, silent.encrypted_content) == ([], seal("t"))
    assert (bare.summary[0].text, bare.encrypted_content) == ("t", None)


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("context_overflow", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_it_stops(stop: str, status: str, reason: str | None) -> None:
    turn = Turn("abc", stop=stop)
    with playing(turn, turn) as server:
        answers = [whole(server), streamed(server)[-1].response]  # type: ignore[union-attr]
    for answer in answers:
        assert answer.status == status
        details = answer.incomplete_details
        assert (details.reason if details else None) == reason
        assert answer.output[-1].status == status  # type: ignore[union-attr]


def test_a_refusal() -> None:
    with playing(Turn("no", stop="refusal")) as server:
        events = streamed(server)
    assert "response.refusal.delta" in [event.type for event in events]
    part = events[-1].response.output[0].content[0]  # type: ignore[union-attr]
    assert (part.type, part.refusal) == ("refusal", "no")  # type: ignore[union-attr]


def test_faults() -> None:
    broken = Turn("abcdefgh", faults=(ErrorEvent(4, "busy"),))
    statuses = Turn(faults=(Status(429, "slow", {"retry-after": "3"}),))
    too_long = Turn(faults=(ContextOverflow(),))
    with playing(broken, statuses, too_long) as server:
        last = streamed(server)[-1]
        assert (last.type, last.message) == ("error", "busy")  # type: ignore[union-attr]
        with pytest.raises(openai.RateLimitError) as caught:
            whole(server)
        assert caught.value.response.headers["retry-after"] == "3"
        with pytest.raises(openai.BadRequestError) as caught_too:
            whole(server)
    assert caught_too.value.code == "context_length_exceeded"


# ---------------------------------------------------------------- as strict as the vendor

CALL = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "a", "output": "ok"}
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hm", "annotations": []}],
}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "t"}],
    "encrypted_content": seal("t"),
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "string"}}}
STRICT = {**SCHEMA, "required": ["x"], "additionalProperties": False}
DEFAULTING = {**STRICT, "properties": {"x": {"type": "string", "default": "y"}}}
CHOICE = {"type": "function", "name": "weather"}
TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}


def body(*items: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "input": [USER, *items], "store": False, **fields}


def form(schema: object = SCHEMA, **fields: Any) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "name": "n", "schema": schema, **fields}}


MISSING = "missing_required_parameter"
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "m", "store": False}, "'input'", MISSING),
    ({"input": "hi", "store": False}, "'model'", MISSING),
    (body(messages=[]), "moved to 'input'", "unsupported_parameter"),
    (body(max_tokens=9), "moved to 'max_output_tokens'", "unsupported_parameter"),
    (body(response_format={}), "moved to 'text.format'", "unsupported_parameter"),
    (body(reasoning_effort="low"), "moved to 'reasoning.effort'", "unsupported_parameter"),
    (body(stop=["x"]), "'stop'", "unknown_parameter"),
    (body(seed=1), "'seed'", "unknown_parameter"),
    (body(max_output_tokens=15), ">= 16", "integer_below_min_value"),
    (body(store=True), "'store' has to be false", "invalid_value"),
    (body(instructions=7), "'instructions'", "invalid_type"),
    (body(stream_options={}), "only allowed when 'stream'", "invalid_value"),
    (body(temperature=1), "not supported with this model", "unsupported_parameter"),
    (body(top_p=1), "not supported with this model", "unsupported_parameter"),
    (body(model="gpt-4o", include=[SEALED]), "Encrypted content is not", "invalid_value"),
    # tools and forms
    (body(tools=[]) | {"tool_choice": "required"}, "with 'tools'", "invalid_value"),
    (body(tools=[{"type": "function", "function": TOOL}]), "tools[0].name", MISSING),
    (body(tools=[{**TOOL, "name": "a b"}]), "does not match", "invalid_value"),
    (body(tools=[{**TOOL, "parameters": None}]), "parameters", "invalid_type"),
    (body(tools=[{**TOOL, "parameters": {}}]), "of 'type:", "invalid_function_parameters"),
    (body(tools=[{**TOOL, "strict": None}]), "'additionalProp", "invalid_function_parameters"),
    (body(tools=[TOOL], tool_choice="any"), "Invalid value: 'any'", "invalid_value"),
    (
        body(tools=[TOOL], tool_choice={**CHOICE, "name": "x"}),
        "not found",
        "invalid_value",
    ),
    (
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "weather"}}),
        "tool_choice.name",
        MISSING,
    ),
    (
        body(
            tools=[TOOL],
            tool_choice={**CHOICE, "function": {"name": "weather"}},
        ),
        "tool_choice.function",
        "unknown_parameter",
    ),
    (body(text=form(strict=True)), "'additionalProperties'", "invalid_json_schema"),
    (
        body(text=form({**SCHEMA, "additionalProperties": False}, strict=True)),
        "Missing 'x'",
        "invalid_json_schema",
    ),
    (
        body(text=form({**STRICT, "$defs": {"d": {}}}, strict=True)),
        "must have a 'type' key",
        "invalid_json_schema",
    ),
    (
        body(text=form(DEFAULTING, strict=True)),
        "'default' is not permitted",
        "invalid_json_schema",
    ),
    (body(text=form({"type": "array"})), "of 'type:", "invalid_json_schema"),
    (body(text=form(None)), "text.format.schema", MISSING),
    # items
    (body(input=[]), "Missing required parameter: 'input'", MISSING),
    (body(input=["x"]), "'input[0]'", "invalid_type"),
    (body({"type": "x"}), "Invalid value: 'x'", "invalid_value"),
    (body({"role": "robot", "content": "x"}), "'robot'", "invalid_value"),
    (body({"role": "user", "content": []}), "empty array", "empty_array"),
    (body({**USER, "content": SAID["content"]}), "Supported values are: 'input_t", "invalid_value"),
    (body({**SAID, "content": USER["content"]}), "Supported values are: 'output_", "invalid_value"),
    (body({**USER, "content": [{"type": "input_image"}]}), "image_url", MISSING),
    (body({**SAID, "id": "x_1"}), "begins with 'msg'", "invalid_value"),
    (body(SAID, SAID), "Duplicate item found with id msg_1", "invalid_value"),
    # calls
    (body(CALL), "No tool output found for function call a", "invalid_value"),
    (body(OUTPUT), "No tool call found", "invalid_value"),
    (body(CALL, OUTPUT, OUTPUT), "No tool call found", "invalid_value"),
    (body(CALL, CALL, OUTPUT), "Duplicate function call", "invalid_value"),
    (body(CALL, USER, OUTPUT), "No tool output found", "invalid_value"),
    (body({**CALL, "call_id": ""}, OUTPUT), "empty string", "invalid_value"),
    (body({**CALL, "call_id": "x" * 65}), "string too long", "string_above_max_length"),
    (body({**CALL, "id": "call_1"}, OUTPUT), "begins with 'fc'", "invalid_value"),
    (body({**CALL, "name": None}, OUTPUT), "name", MISSING),
    (body({**CALL, "arguments": {}}, OUTPUT), "arguments", "invalid_type"),
    (body(CALL, {**OUTPUT, "output": {}}), "output", "invalid_type"),
    # thoughts
    (body({**THOUGHT, "summary": None}, SAID), "summary", MISSING),
    (body({**THOUGHT, "encrypted_content": "x"}, SAID), "verified", "invalid_encrypted_content"),
    (
        body({**THOUGHT, "summary": [{"type": "summary_text", "text": "u"}]}, SAID),
        "verified",
        "invalid_encrypted_content",
    ),
    (body({**THOUGHT, "id": "x"}, SAID), "begins with 'rs'", "invalid_value"),
    (body(THOUGHT), "without its required following item", "invalid_value"),
    (body(THOUGHT, USER), "without its required following item", "invalid_value"),
    (
        body(THOUGHT, {"role": "assistant", "content": "hm"}),
        "without its required following item",
        "invalid_value",
    ),
]


def post(server: FakeLLMServer, body: Mapping[str, Any]) -> httpx2.Response:
    with plain_client() as client:
        return client.post(f"{server.openai_url}/responses", json=body)


@pytest.mark.parametrize(("body", "complaint", "code"), REFUSED)
def test_refused(body: Mapping[str, Any], complaint: str, code: str) -> None:
    with playing(HELLO) as server:
        response = post(server, body)
        assert server.turns_played == 0
    error: Any = response.json()["error"]
    assert response.status_code == 400
    assert complaint in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize(
    "item", [{**THOUGHT, "encrypted_content": None}, {"type": "item_reference"}]
)
def test_what_is_not_stored_is_not_found(item: Mapping[str, Any]) -> None:
    with playing(HELLO) as server:
        response = post(server, body(item, SAID))
    assert response.status_code == 404
    assert "not found" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "input": "hi", "store": False},
        body(SAID, USER),
        body(THOUGHT, SAID, CALL, OUTPUT, USER),
        body(CALL, {**CALL, "call_id": "b"}, OUTPUT, {**OUTPUT, "call_id": "b"}),
        body(CALL, {**OUTPUT, "output": USER["content"]}),
        body({"role": "assistant", "content": "x"}, {"role": "developer", "content": "y"}),
        body(tools=[{**TOOL, "parameters": STRICT, "strict": True}], tool_choice="required"),
        body(
            tools=[TOOL, {"type": "web_search"}],
            tool_choice=CHOICE,
        ),
        body(text=form(STRICT, strict=True)),
        body(text=form()),
        body(prompt_cache_key="k", max_output_tokens=16),
        body(model="gpt-4o", temperature=0.5),
        body(model="gpt-5-chat-latest", temperature=0.5),
    ],
)
def test_accepted(body: Mapping[str, Any]) -> None:
    with playing(HELLO) as server:
        response = post(server, body)
    assert response.status_code == 200, response.text


def test_a_thought_comes_back_as_it_was_given_before_what_followed_it() -> None:
    turn = Turn(thinking="t", text="Looking.", tool_calls=(ToolCall("a", "weather"),))
    with playing(turn, HELLO) as server:
        output = [item.to_dict() for item in whole(server).output]
        thought, said, call = output
        for wrong in ([thought, call, OUTPUT], [said, thought, call, OUTPUT]):
            refused = post(server, body(*wrong))
            assert "required following item" in refused.json()["error"]["message"]
        changed = {**thought, "summary": []}
        refused = post(server, body(changed, said, call, OUTPUT))
        assert refused.json()["error"]["code"] == "invalid_encrypted_content"
        assert post(server, body(*output, OUTPUT)).status_code == 200
