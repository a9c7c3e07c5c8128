"""OpenAI's Responses wire: what is sent, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lorimer import PipelinePresets, tool
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.request import OutputSchema, Request, Response, StopReason, ToolSpec, Usage
from lorimer.journal import MemoryJournal
from lorimer.models import CredentialBundle, ProviderCredentials
from lorimer.models.wires.chat_request import endpoint
from lorimer.models.wires.responses_request import encode
from lorimer.models.wires.strict import closed
from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_server import FakeUsage, ToolCall, Turn, recorded_body
from tests.models.support import KEY, Heard, Provider, Reply, ask, request, sse

Code = ExecutorErrorCode
ELSEWHERE = "http://localhost:8000/v1"
READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {}})
THOUGHT = ThinkingBlock("I ponder.", "sealed==", origin="openai", id="rs_1")


@tool(effects=["read"])
async def read() -> str:
    """Read."""
    return "x"


def wire(asked: Request, effort: str = "", base_url: str = "") -> dict[str, Any]:
    target = endpoint(base_url, asked.model)
    return json.loads(json.dumps(encode(asked, effort, target).body))


def req(model: str = "gpt-5", **fields: Any) -> Request:
    return request("responses", model=model, **fields)


def items(*messages: Message) -> list[dict[str, Any]]:
    return wire(Request("gpt-5", messages))["input"]


def said(*blocks: Block) -> Message:
    return Message("assistant", blocks)


def hear(*events: object) -> Heard:
    return ask("responses", Provider(Reply([sse(*events)])))


def play(turn: Turn, **fields: Any) -> Response:
    body = recorded_body(turn, "responses", model="gpt-5")
    return ask("responses", Provider(Reply([body])), req(**fields)).answer


# ---------------------------------------------------------------- requests


def test_a_plain_request() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "responses")]))
    ask("responses", provider, req("gpt-4o", system="Be.", max_tokens=70, temperature=0.5))
    assert provider.sent == {
        "model": "gpt-4o",
        "instructions": "Be.",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            }
        ],
        "max_output_tokens": 70,
        "temperature": 0.5,
        "store": False,
        "stream": True,
    }
    sent = provider.requests[0]
    assert str(sent.url) == "https://api.openai.com/v1/responses"
    assert sent.headers["authorization"] == f"Bearer {KEY}"


def test_without_a_stream() -> None:
    assert "stream" not in wire(req(stream=False))


@pytest.mark.parametrize(
    ("limit", "thinking", "sent"), [(100, None, 100), (100, 50, 150), (1, None, 16)]
)
def test_the_limit_holds_the_thinking_too(limit: int, thinking: int | None, sent: int) -> None:
    asked = req(max_tokens=limit, thinking_tokens=thinking)
    assert wire(asked)["max_output_tokens"] == sent


@pytest.mark.parametrize(
    ("model", "base_url", "fields", "spec", "sent"),
    [
        ("o3", "", {}, "", None),
        ("o3", "", {}, "low", {"effort": "low"}),
        ("o3", "", {"effort": "high"}, "low", {"effort": "high"}),
        ("gpt-5", "", {"thinking_tokens": 4999}, "", {"effort": "low", "summary": "auto"}),
        ("gpt-5", "", {"thinking_tokens": 9000}, "", {"effort": "medium", "summary": "auto"}),
        ("gpt-5", "", {"thinking_tokens": 20_001}, "", {"effort": "high", "summary": "auto"}),
        ("gpt-4o", "", {"thinking_tokens": 20_001}, "high", None),
        ("gpt-5-chat-latest", "", {"effort": "low"}, "", None),
        ("qwen", ELSEWHERE, {"effort": "low"}, "", {"effort": "low"}),
        ("qwen", ELSEWHERE, {"thinking_tokens": 9000}, "", None),
    ],
)
def test_effort(model: str, base_url: str, fields: dict[str, Any], spec: str, sent: object) -> None:
    assert wire(req(model, **fields), spec, base_url).get("reasoning") == sent


def test_thoughts_are_asked_for_where_there_are_any() -> None:
    assert wire(req("gpt-5"))["include"] == ["reasoning.encrypted_content"]
    assert "include" not in wire(req("gpt-4o"))  # which refuses it


def test_what_the_model_would_refuse_is_dropped_and_told() -> None:
    fields = {"temperature": 0.1, "top_p": 0.2, "top_k": 3, "stop_sequences": ("x",), "seed": 7}
    encoded = encode(req("o3", **fields), "", endpoint("", "o3"))
    assert encoded.dropped == ["temperature", "top_p", "top_k", "stop_sequences", "seed"]
    assert not encoded.body.keys() & {*fields, "stop"}
    encoded = encode(req("gpt-4o", thinking_tokens=9, **fields), "low", endpoint("", "gpt-4o"))
    assert encoded.dropped == ["effort", "thinking_tokens", "top_k", "stop_sequences", "seed"]
    assert (encoded.body["temperature"], encoded.body["top_p"]) == (0.1, 0.2)
    assert encode(req("qwen", top_k=3), "", endpoint(ELSEWHERE, "qwen")).body["top_k"] == 3
    assert play(Turn("x"), seed=3).extra == {"dropped": ["seed"]}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("any", "required"),
        ("none", "none"),
        ("read", {"type": "function", "name": "read"}),
    ],
)
def test_tools(choice: str, sent: object) -> None:
    body = wire(req(tools=(READ,), tool_choice=choice))
    assert body["tools"] == [
        {
            "type": "function",
            "name": "read",
            "description": "Read a file.",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]
    assert body.get("tool_choice") == sent
    assert "tool_choice" not in wire(req(tool_choice=choice))


def test_a_turn_goes_back_item_by_item() -> None:
    picture = ImageBlock("image/png", "AA")
    second = ThinkingBlock("", "more==", origin="openai", id="rs_2")
    sent = items(
        user_message("go"),
        said(THOUGHT, TextBlock("ok"), ToolUse("1", "a", {"x": "ü"})),
        said(second, ToolUse("2", "b", {})),
        Message("user", (TextBlock("and"), ToolResultBlock("1", (TextBlock("r"), picture)))),
        Message("user", (ToolResultBlock("2", "nope", is_error=True),)),
    )
    assert sent[1:] == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "I ponder."}],
            "encrypted_content": "sealed==",
        },
        {
            "type": "message",
            "id": "msg_2",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "ok", "annotations": []}],
        },
        {"type": "function_call", "call_id": "1", "name": "a", "arguments": '{"x":"ü"}'},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "more=="},
        {"type": "function_call", "call_id": "2", "name": "b", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [
                {"type": "input_text", "text": "r"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,AA",
                    "detail": "auto",
                },
            ],
        },
        {"type": "function_call_output", "call_id": "2", "output": "nope"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and"}]},
    ]


def test_the_phase_of_a_text_goes_back_to_this_wire_only() -> None:
    """Through a journal, too, whose facts have it as plain data."""
    calls = (ToolCall("1", "read"),)
    with FakeLLMServer(
        [Turn("I look.", phase="commentary", tool_calls=calls), Turn("Done.", phase="final_answer")]
        + [Turn("Well.")] * 2
    ) as server:
        known = {
            "openai": ProviderCredentials("k", server.url + "/v1", extras={"api": "responses"}),
            "anthropic": ProviderCredentials("k", server.url),
        }
        journal = MemoryJournal()

        def run(model: str, text: str) -> None:
            chat = PipelinePresets.agent(
                model=model,
                tools=[read],
                credentials=CredentialBundle(known, env={}),
                journal=journal,
                session_id="one",
                owner="me",
            )
            limits: dict[str, JSON] = {"allow_unpriced": True}
            assert chat.run_sync(text, limits=limits).status == "ok"

        for model in ("openai:gpt-5", "openai:gpt-5", "anthropic:claude-haiku-4-5"):
            run(model, "go")
        bodies = [request.body for request in server.requests]
    phases = [
        [item.get("phase") for item in body["input"] if item.get("role") == "assistant"]
        for body in bodies[:3]
    ]
    assert phases == [[], ["commentary"], ["commentary", "final_answer"]]
    assert "I look." in str(bodies[3])
    assert "phase" not in str(bodies[3])


FOREIGN = [
    ThinkingBlock("hm", "signature"),
    ThinkingBlock("hm", "signature", origin="google"),
    ThinkingBlock(redacted="data"),
    ThinkingBlock("hm", origin="openai"),
    ThinkingBlock("hm"),
]


@pytest.mark.parametrize("thought", FOREIGN, ids=repr)
def test_only_thoughts_sealed_here_go_back(thought: ThinkingBlock) -> None:
    assert [item["type"] for item in items(said(thought, TextBlock("x")))] == ["message"]


@pytest.mark.parametrize(
    "blocks", [(THOUGHT,), (THOUGHT, TextBlock("")), (TextBlock("x"), THOUGHT)], ids=len
)
def test_a_thought_that_nothing_follows_stays_here(blocks: Sequence[Block]) -> None:
    sent = items(user_message("a"), said(*blocks), user_message("b"))
    assert "reasoning" not in [item["type"] for item in sent]


def test_ids_are_each_its_own() -> None:
    turn = [user_message("a"), said(THOUGHT, TextBlock("x"), TextBlock("y"))]
    sent = items(*turn, user_message("b"), said(TextBlock("z")))
    ids = [item["id"] for item in sent if "id" in item]
    assert len(ids) == len({*ids}) == 4


def test_a_call_s_id_that_the_api_would_refuse() -> None:
    call, result = "x" * 99, ToolResultBlock("x" * 99, "r")
    sent = items(said(ToolUse(call, "a b", {})), Message("user", (result,)))
    assert sent[0]["call_id"] == sent[1]["call_id"]
    assert len(sent[0]["call_id"]) <= 64
    assert sent[0]["name"] == "a_b"


def test_parts() -> None:
    blocks = (
        TextBlock("t"),
        ImageBlock(url="https://x.test/a.png"),
        DocumentBlock("application/pdf", "BB"),
        DocumentBlock("application/pdf", "BB", title="my.pdf"),
        DocumentBlock(url="https://x.test/a.pdf", title="A"),
    )
    data = "data:application/pdf;base64,BB"
    assert items(Message("user", blocks))[0]["content"] == [
        {"type": "input_text", "text": "t"},
        {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "auto"},
        {"type": "input_file", "filename": "document.pdf", "file_data": data},
        {"type": "input_file", "filename": "my.pdf", "file_data": data},
        {"type": "input_file", "file_url": "https://x.test/a.pdf"},
    ]


def test_what_json_cannot_hold() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "responses")]))
    asked = Request("gpt-5", [said(ToolUse("1", "t", {"x": float("nan")}))], api="responses")
    error = ask("responses", provider, asked).error
    assert error is not None
    assert error.code is Code.EXEC_API_BAD_REQUEST
    assert provider.requests == []


CLOSED: dict[str, JSON] = {
    "type": "object",
    "properties": {"a": {"type": ["string", "null"]}, "b": {"$ref": "#/$defs/B"}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"B": {"type": "array", "items": {"anyOf": [{"type": "integer"}]}}},
}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"title": "T", "description": "d"}, True),
        ({"additionalProperties": True}, False),
        ({"required": ["a"]}, False),
        ({"required": ["a", "b", "c"]}, False),
        ({"anyOf": []}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({"type": None}, False),
        ({"properties": {"a": {}, "b": {"type": "null"}}}, False),
        ({"properties": {"a": {"type": "object"}, "b": {"type": "null"}}}, False),
        ({"properties": {"a": {"type": ["object", "null"]}, "b": {"type": "null"}}}, False),
        ({"properties": {"a": {"type": "array"}, "b": {"type": "null"}}}, False),
        ({"properties": {"a": {"type": "string", "default": ""}, "b": {"type": "null"}}}, False),
        ({"properties": {"a": {"type": "string", "format": "uri"}, "b": True}}, False),
        ({"properties": {"a": {"$ref": "#", "description": "d"}, "b": {"$ref": "#"}}}, False),
        ({"properties": {"a": {"type": "string", "format": "date"}, "b": {"$ref": "#"}}}, True),
        ({"$defs": {"B": {"type": "object"}}}, False),
        ({"patternProperties": {}}, False),
    ],
)
def test_a_form_is_held_to_strictly_where_the_api_can(change: dict[str, JSON], fits: bool) -> None:
    schema = {**CLOSED, **change}
    assert closed(schema) is fits
    sent = wire(req(output=OutputSchema("answer", schema)))["text"]
    form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": fits}
    assert sent == {"format": form}


# ---------------------------------------------------------------- which wire


def went_to(base_url: str = "", api: str = "") -> str:
    provider = Provider(Reply.of({}, 500))
    ask("responses", provider, req(api=api), base_url=base_url)
    return provider.requests[0].url.path


@pytest.mark.parametrize(
    ("base_url", "api", "path"),
    [
        ("", "", "/v1/responses"),
        ("", "chat", "/v1/chat/completions"),
        ("", "responses", "/v1/responses"),
        ("https://api.openai.com/v1", "", "/v1/responses"),
        ("https://eu.api.openai.com/v1", "", "/v1/responses"),
        (ELSEWHERE, "", "/v1/chat/completions"),
        ("https://notopenai.com/v1", "", "/v1/chat/completions"),
        (ELSEWHERE, "responses", "/v1/responses"),
    ],
)
def test_which_wire(base_url: str, api: str, path: str) -> None:
    assert went_to(base_url, api) == path


# ---------------------------------------------------------------- what can be left out


def refusal(**error: str) -> Reply:
    return Reply.of({"error": {"type": "invalid_request_error", "message": "no", **error}}, 400)


OTHERS_SEAL = refusal(code="invalid_encrypted_content")
NOT_VERIFIED = refusal(code="unsupported_value", param="reasoning.summary")


def test_a_conversation_sealed_elsewhere_goes_on_without_its_thoughts() -> None:
    provider = Provider(OTHERS_SEAL, Reply([recorded_body(Turn("hi"), "responses")]))
    asked = req()
    asked.messages = [user_message("a"), said(THOUGHT, TextBlock("b")), user_message("c")]
    heard = ask("responses", provider, asked)
    assert heard.answer.text == "hi"
    assert heard.answer.extra["dropped"] == ["messages.thinking"]
    assert [item["type"] for item in provider.sent["input"]] == ["message"] * 3
    assert len(provider.requests) == 2


def test_an_organization_without_summaries_gets_none() -> None:
    provider = Provider(NOT_VERIFIED, Reply([recorded_body(Turn("hi"), "responses")]))
    heard = ask("responses", provider, req(thinking_tokens=100))
    assert heard.answer.extra["dropped"] == ["thinking_tokens.summary"]
    assert provider.sent["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize("refused", [OTHERS_SEAL, NOT_VERIFIED, refusal(), Reply.of([], 400)])
def test_what_cannot_be_left_out_is_refused_once(refused: Reply) -> None:
    provider = Provider(refused)
    error = ask("responses", provider).error
    assert error is not None
    assert error.code is Code.EXEC_API_BAD_REQUEST
    assert len(provider.requests) == 1


def test_each_thing_is_left_out_once() -> None:
    provider = Provider(NOT_VERIFIED)
    error = ask("responses", provider, req(thinking_tokens=100)).error
    assert error is not None
    assert len(provider.requests) == 2


# ---------------------------------------------------------------- answers


def added(index: int, **item: object) -> dict[str, object]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, **item: object) -> dict[str, object]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, index: int, text: str, **fields: object) -> dict[str, object]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **fields}


def end(status: str = "completed", **fields: object) -> dict[str, object]:
    response = {"id": "resp_1", "model": "gpt-5-2025-08-07", "status": status, "output": []}
    return {"type": f"response.{status}", "response": {**response, **fields}}


def message(index: int, text: str) -> list[dict[str, object]]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return [
        added(index, type="message", content=[]),
        delta("output_text", index, text),
        done(index, type="message", content=[part]),
    ]


USAGE = {
    "input_tokens": 100,
    "output_tokens": 20,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens_details": {"reasoning_tokens": 15},
}


def test_usage_is_split() -> None:
    heard = hear(*message(0, "x"), end(usage=USAGE))
    assert heard.answer.usage == Usage(30, 20, 10, 60, 15)
    assert heard.usages[-1].usage == heard.answer.usage
    assert (heard.answer.id, heard.answer.model) == ("resp_1", "gpt-5-2025-08-07")


def test_usage_with_gaps_and_without() -> None:
    gaps = {"input_tokens": 5.0, "output_tokens": 2, "input_tokens_details": None}
    assert hear(*message(0, "x"), end(usage=gaps)).answer.usage == Usage(5, 2)
    made = hear(*message(0, "x" * 400), end(usage=None)).answer
    assert made.extra == {"usage_estimated": True}
    assert made.usage.output_tokens >= 100
    assert made.cost_nano > 0


def test_a_thought_is_sealed_by_its_last_event() -> None:
    """The vendor: what `added` brings of the sealed content may be incomplete."""
    heard = hear(
        added(0, type="reasoning", id="rs_1", summary=[], encrypted_content="half"),
        delta("reasoning_summary_text", 0, "One.", summary_index=0),
        delta("reasoning_summary_text", 0, "Tw", summary_index=1),
        delta("reasoning_summary_text", 0, "o.", summary_index=1),
        done(
            0,
            type="reasoning",
            id="rs_1",
            summary=[{"type": "summary_text", "text": text} for text in ("One.", "Two.")],
            encrypted_content="whole",
        ),
        *message(1, "x"),
        end(usage=USAGE),
    )
    assert heard.thinking == "One.\n\nTwo."
    thought = ThinkingBlock("One.\n\nTwo.", "whole", origin="openai", id="rs_1")
    assert heard.answer.content == (thought, TextBlock("x"))


@pytest.mark.parametrize(
    "item",
    [
        {"summary": [], "encrypted_content": None},
        {"summary": [], "encrypted_content": "cut", "status": "incomplete"},
        {"summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    ],
)
def test_a_thought_without_a_whole_seal_is_only_text(item: dict[str, object]) -> None:
    """It says whose it is, so that no other provider is sent it as its own."""
    heard = hear(
        added(0, type="reasoning", id="rs_1", summary=[]),
        delta("reasoning_text", 0, "hm", content_index=0),
        done(0, type="reasoning", id="rs_1", **item),
        *message(1, "x"),
        end(usage=USAGE),
    )
    assert heard.thinking == "hm"
    assert heard.answer.content == (ThinkingBlock("hm", origin="openai"), TextBlock("x"))


def test_items_of_the_provider_s_own_tools_are_kept_out_with_their_thoughts() -> None:
    heard = hear(
        added(0, type="reasoning", id="rs_1", summary=[]),
        done(0, type="reasoning", id="rs_1", summary=[], encrypted_content="s1"),
        added(1, type="web_search_call", id="ws_1", status="in_progress"),
        {"type": "response.web_search_call.searching", "output_index": 1, "item_id": "ws_1"},
        done(1, type="web_search_call", id="ws_1", status="completed", action={}),
        added(2, type="reasoning", id="rs_2", summary=[]),
        done(2, type="reasoning", id="rs_2", summary=[], encrypted_content="s2"),
        *message(3, "x"),
        end(usage=USAGE),
    )
    kept = ThinkingBlock("", "s2", origin="openai", id="rs_2")
    assert heard.answer.content == (kept, TextBlock("x"))


def test_parallel_calls_interleaved() -> None:
    def call(index: int, arguments: str = "") -> dict[str, object]:
        name = "ab"[index]
        return {"type": "function_call", "call_id": name, "name": name, "arguments": arguments}

    kind = "function_call_arguments"
    heard = hear(
        added(0, **call(0)),
        added(1, **call(1)),
        delta(kind, 1, '{"y"'),
        delta(kind, 0, '{"x":'),
        delta(kind, 0, "1}"),
        delta(kind, 1, ":2}"),
        done(0, **call(0, '{"x":1}')),
        done(1, **call(1, '{"y":2}')),
        end(usage=USAGE),
    )
    assert heard.answer.stop is StopReason.TOOL_USE
    assert heard.answer.tool_calls == [ToolUse("a", "a", {"x": 1}), ToolUse("b", "b", {"y": 2})]
    assert (heard.arguments(0), heard.arguments(1)) == ('{"x":1}', '{"y":2}')


def test_servers_that_stream_whole_items_or_none() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "a", "arguments": {"x": 1}}
    part = {"type": "output_text", "text": "hi"}
    output = [{"type": "message", "content": [part]}, call]
    whole = [make(n, **item) for n, item in enumerate(output) for make in (added, done)]
    for events in (whole, []):
        heard = hear(*events, end(usage=USAGE, output=output))
        assert heard.answer.content == (TextBlock("hi"), ToolUse("a", "a", {"x": 1}))
        assert heard.text == "hi"
        assert heard.arguments(0) == '{"x":1}'


def test_an_end_that_is_told_twice_and_items_that_say_nothing() -> None:
    heard = hear(
        *(make(0, type="web_search_call", id="ws_1") for make in (added, done)),
        *message(1, "x"),
        done(1, type="message", content=[{"type": "output_text", "text": "other"}]),
        *message(2, ""),
        *(make(3, type="reasoning", id="rs_1", summary=[]) for make in (added, done)),
        end(usage=USAGE),
    )
    assert heard.text == "x"
    assert heard.answer.content == (TextBlock("x"),)


def test_a_surrogate_pair_cut_in_two() -> None:
    def halves(index: int, kind: str) -> list[dict[str, object]]:
        return [delta(kind, index, text) for text in ("a", "\ud83e", "\udd84b")]

    call = {"type": "function_call", "call_id": "1", "name": "t"}
    heard = hear(
        added(0, type="reasoning", id="rs_1", summary=[]),
        *halves(0, "reasoning_text"),
        done(0, type="reasoning", id="rs_1", summary=[]),
        added(1, type="message", content=[]),
        *halves(1, "output_text"),
        done(1, type="message", content=[{"type": "output_text", "text": "a🦄b"}]),
        added(2, **call, arguments=""),
        *(delta("function_call_arguments", 2, text) for text in ('{"x":"\ud83e', '\udd84"}')),
        done(2, **call, arguments='{"x":"🦄"}'),
        end(usage=USAGE),
    )
    assert (heard.thinking, heard.text, heard.arguments(0)) == ("a🦄b", "a🦄b", '{"x":"🦄"}')
    assert heard.answer.tool_calls == [ToolUse("1", "t", {"x": "🦄"})]


def test_the_end_of_an_item_counts_more_than_its_deltas() -> None:
    heard = hear(
        added(0, type="message", content=[]),
        delta("output_text", 0, "zw\ufffd"),
        delta("output_text", 0, "lf"),
        done(0, type="message", content=[{"type": "output_text", "text": "zwölf"}]),
        end(usage=USAGE),
    )
    assert heard.answer.text == "zwölf"


def test_a_last_event_that_does_not_say_its_status_is_called_by_it() -> None:
    last = end("incomplete", usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
    del last["response"]["status"]  # type: ignore[attr-defined]
    assert hear(*message(0, "x"), last).answer.stop is StopReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("reason", "stop", "told"),
    [
        ("max_output_tokens", StopReason.MAX_TOKENS, False),
        ("content_filter", StopReason.REFUSAL, False),
        ("max_messages", StopReason.MAX_TOKENS, True),
        (None, StopReason.MAX_TOKENS, True),
    ],
)
def test_an_incomplete_answer(reason: str | None, stop: StopReason, told: bool) -> None:
    details = {"reason": reason}
    made = hear(*message(0, "x"), end("incomplete", usage=USAGE, incomplete_details=details)).answer
    assert (made.text, made.stop) == ("x", stop)
    assert ("stop_reason" in made.extra) is told


def test_a_refusal_is_text_with_its_own_stop() -> None:
    turn = Turn("I cannot.", stop="refusal")
    streamed = ask("responses", Provider(Reply([recorded_body(turn, "responses")])))
    part = {"type": "refusal", "refusal": "I cannot."}
    output = [{"type": "message", "content": [part]}]
    whole = ask("responses", Provider(Reply.of(end(output=output, usage=USAGE)["response"])))
    for heard in (streamed, whole):
        assert heard.answer.text == "I cannot."
        assert heard.answer.stop is StopReason.REFUSAL
    assert streamed.text == "I cannot."


@pytest.mark.parametrize("stop", ["max_tokens", "content_filter"])
@pytest.mark.parametrize("raw", ['{"path": "/etc/pa', "", "{}"])
def test_a_call_that_was_cut_cannot_be_run(stop: str, raw: str) -> None:
    calls = (ToolCall("1", "read", {"a": 1}), ToolCall("2", "write", raw=raw))
    whole, cut = play(Turn(tool_calls=calls, stop=stop)).tool_calls
    assert (whole.input, whole.raw) == ({"a": 1}, "")
    assert (cut.input, cut.raw) == ({}, raw or "{")


@pytest.mark.parametrize("raw", ["{", "[1]", '"x"', '"{"', '{"a": NaN}', "nonsense"])
def test_arguments_that_are_no_object_are_kept_as_text(raw: str) -> None:
    made = play(Turn(tool_calls=(ToolCall("1", "t", raw=raw),))).tool_calls[0]
    assert (made.input, made.raw) == ({}, raw)


FAILURES = [
    ({"code": "server_error", "message": "Oops"}, Code.EXEC_API_SERVER_ERROR),
    ({"code": "rate_limit_exceeded", "message": "Oops"}, Code.EXEC_API_RATE_LIMITED),
    ({"code": "invalid_prompt", "message": "Oops"}, Code.EXEC_API_BAD_REQUEST),
    ({"code": "image_too_large", "message": "Oops"}, Code.EXEC_API_BAD_REQUEST),
    ({"code": "context_length_exceeded", "message": "Oops"}, Code.EXEC_API_TOKEN_LIMIT),
    ({"code": "insufficient_quota", "message": "Oops"}, Code.EXEC_API_TERMINAL),
    ({"code": "something_new", "message": "Oops"}, Code.EXEC_API_SERVER_ERROR),
]


@pytest.mark.parametrize(("error", "code"), FAILURES)
def test_a_failure_is_an_error_in_whatever_form_it_comes(error: dict[str, str], code: Code) -> None:
    failed = end("failed", error=error, usage=USAGE)
    streams = [failed, {"type": "error", **error}, {"type": "error", "error": error}]
    told = [hear(*message(0, "x"), event).error for event in streams]
    told.append(ask("responses", Provider(Reply.of(failed["response"]))).error)
    for one in told:
        assert one is not None
        assert one.code is code
        assert "Oops" in str(one)
    assert told[0] is not None
    assert told[0].usage == Usage(30, 20, 10, 60, 15)  # what was used is told


def test_a_cancelled_response_and_one_that_is_not_over() -> None:
    cancelled = ask("responses", Provider(Reply.of(end("cancelled")["response"]))).error
    assert cancelled is not None
    assert cancelled.code is Code.EXEC_API_SERVER_ERROR
    for status in ("in_progress", "queued"):
        begun = ask("responses", Provider(Reply.of(end(status)["response"]))).error
        assert begun is not None
        assert begun.code is Code.EXEC_API_STREAM_INCOMPLETE


@pytest.mark.parametrize(
    "events",
    [
        [added(0, type="message", content=[]), added(0, type="message", content=[])],
        [{"type": "response.created", "response": {"id": "resp_1"}}] * 2,
        [delta("output_text", 0, "x")],
        [done(0, type="message", content=[])],
        [added(0, type="function_call", name=7)],
        [
            added(0, type="function_call", call_id="a", name="rm", arguments=""),
            delta("function_call_arguments", 0, "{}"),
        ],
    ],
)
def test_events_that_make_no_sense(events: list[dict[str, object]]) -> None:
    error = hear(*events, end(usage=USAGE)).error
    assert error is not None
    assert error.code is Code.EXEC_API_STREAM_INCOMPLETE


def test_the_cost_is_in_the_answer() -> None:
    body = recorded_body(Turn("x", usage=FakeUsage(1000, 10, cache_read=100)), "responses")
    made = ask("responses", Provider(Reply([body])), req("gpt-4o")).answer
    assert made.cost_nano == 1000 * 2500 + 10 * 10_000 + 100 * 1250
