"""The chat wire of OpenAI and of those who speak it: what is sent, what is made of the answer."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import (
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
from lorimer.models.wires import chat_request, responses_request
from lorimer.models.wires.chat_request import encode, endpoint
from lorimer.testing.fake_server import FakeUsage, ToolCall, Turn, recorded_body
from tests.models.support import KEY, Heard, Provider, Reply, ask, request, sse

ELSEWHERE = "http://localhost:8000/v1"
READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {}})


def wire(asked: Request, effort: str = "", base_url: str = "") -> dict[str, Any]:
    target = endpoint(base_url, asked.model)
    return json.loads(json.dumps(encode(asked, effort, target).body))


def req(model: str = "gpt-4o", **fields: Any) -> Request:
    return request("openai", model=model, **fields)


def turns(*messages: Message, system: str = "") -> list[dict[str, Any]]:
    return wire(Request("gpt-4o", messages, system=system))["messages"]


def hear(*events: object) -> Heard:
    return ask("openai", Provider(Reply([sse(*events)])))


def play(turn: Turn, **fields: Any) -> Response:
    body = recorded_body(turn, "openai", model="gpt-4o")
    return ask("openai", Provider(Reply([body])), req(**fields)).answer


# ---------------------------------------------------------------- requests


def test_a_plain_request() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "openai")]))
    ask("openai", provider, req(system="Be.", max_tokens=7, temperature=0.5, stop_sequences=("X",)))
    assert provider.sent == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "stop": ["X"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent = provider.requests[0]
    assert str(sent.url) == "https://api.openai.com/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"


def test_without_a_stream() -> None:
    body = wire(req(stream=False))
    assert "stream" not in body
    assert "stream_options" not in body


@pytest.mark.parametrize(
    ("model", "base_url", "role", "limit"),
    [
        ("gpt-4o", "", "system", "max_tokens"),
        ("gpt-4.1", "", "system", "max_tokens"),
        ("o3", "", "developer", "max_completion_tokens"),
        ("o4-mini", "https://eu.api.openai.com/v1", "developer", "max_completion_tokens"),
        ("gpt-5", "", "developer", "max_completion_tokens"),
        ("gpt-5-chat-latest", "", "developer", "max_completion_tokens"),
        ("gpt-6.1-sol", "", "developer", "max_completion_tokens"),
        ("gpt-12", "", "developer", "max_completion_tokens"),
        ("ft:o4-mini:acme::1", "", "developer", "max_completion_tokens"),
        ("gpt-5", ELSEWHERE, "system", "max_tokens"),
        ("llama", ELSEWHERE, "system", "max_tokens"),
        ("o3", "https://notopenai.com/v1", "system", "max_tokens"),
    ],
)
def test_old_and_new_models(model: str, base_url: str, role: str, limit: str) -> None:
    body = wire(req(model, system="S", max_tokens=9), base_url=base_url)
    assert body["messages"][0]["role"] == role
    assert body[limit] == 9


@pytest.mark.parametrize(
    ("model", "base_url", "limit", "dropped"),
    [
        ("o3", "", 109, []),
        ("gpt-4o", "", 9, ["thinking_tokens"]),
        ("gpt-5-chat-latest", "", 9, ["thinking_tokens"]),
        ("qwen", ELSEWHERE, 109, ["thinking_tokens"]),
        ("o3", ELSEWHERE, 109, []),
    ],
)
@pytest.mark.parametrize("dialect", [chat_request, responses_request])
def test_a_budget_for_thinking(
    dialect: ModuleType, model: str, base_url: str, limit: int, dropped: list[str]
) -> None:
    """There is room for thoughts where there may be some; a budget no model here takes, so it is
    named where no effort says as much."""
    asked = req(model, max_tokens=9, thinking_tokens=100)
    encoded = dialect.encode(asked, "", endpoint(base_url, model))
    sent = [encoded.body[name] for name in encoded.body if name.startswith("max_")]
    assert sent == [max(limit, 16 if dialect is responses_request else 0)]
    assert encoded.dropped == dropped


@pytest.mark.parametrize(("base_url", "sent"), [("", 4), (ELSEWHERE, 6)])
def test_as_many_stop_sequences_as_are_taken(base_url: str, sent: int) -> None:
    asked = req("gpt-4o", stop_sequences=tuple("abcdef"))
    encoded = chat_request.encode(asked, "", endpoint(base_url, "gpt-4o"))
    assert encoded.body["stop"] == list("abcdef")[:sent]
    assert encoded.dropped == (["stop_sequences"] if sent < 6 else [])


def test_a_document_that_is_only_an_address_is_named() -> None:
    at = Message("user", (DocumentBlock("application/pdf", url="https://a.test/d.pdf"),))
    encoded = chat_request.encode(Request("gpt-5", [at]), "", endpoint("", "gpt-5"))
    assert encoded.dropped == ["documents"]
    assert "https://a.test/d.pdf" in str(encoded.body)


@pytest.mark.parametrize(
    ("model", "base_url", "fields", "spec", "sent"),
    [
        ("o3", "", {}, "", None),
        ("o3", "", {}, "low", "low"),
        ("o3", "", {"effort": "high"}, "low", "high"),
        ("o3", "", {"thinking_tokens": 4999}, "", "low"),
        ("o3", "", {"thinking_tokens": 5000}, "", "medium"),
        ("o3", "", {"thinking_tokens": 20_000}, "", "medium"),
        ("gpt-5", "", {"thinking_tokens": 20_001}, "", "high"),
        ("gpt-4o", "", {"thinking_tokens": 20_001}, "high", None),
        ("gpt-5-chat-latest", "", {"effort": "low"}, "", None),
        ("qwen", ELSEWHERE, {"effort": "low"}, "", "low"),
        ("qwen", ELSEWHERE, {"thinking_tokens": 9000}, "", None),
    ],
)
def test_effort(
    model: str, base_url: str, fields: dict[str, Any], spec: str, sent: str | None
) -> None:
    assert wire(req(model, **fields), spec, base_url).get("reasoning_effort") == sent


def test_what_reasoning_models_refuse_is_dropped_and_told() -> None:
    asked = req("o3", temperature=0.1, top_p=0.2, top_k=3, stop_sequences=("x",))
    encoded = encode(asked, "", endpoint("", "o3"))
    assert encoded.dropped == ["temperature", "top_p", "top_k", "stop_sequences"]
    assert encode(req(top_k=3), "", endpoint(ELSEWHERE, "gpt-4o")).body["top_k"] == 3
    assert play(Turn("x"), top_k=3).extra == {"dropped": ["top_k"]}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("any", "required"),
        ("none", "none"),
        ("read", {"type": "function", "function": {"name": "read"}}),
    ],
)
def test_tools(choice: str, sent: object) -> None:
    body = wire(req(tools=(READ,), tool_choice=choice))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "read",
                "description": "Read a file.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]
    assert body.get("tool_choice") == sent
    assert "tool_choice" not in wire(req(tool_choice=choice))


def _sent(id: str, name: str, arguments: str) -> object:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_results_come_right_after_their_calls_and_pictures_after_all_results() -> None:
    picture = ImageBlock("image/png", "AA")
    sent = turns(
        user_message("go"),
        Message("assistant", (ThinkingBlock("hm"), TextBlock("ok"), ToolUse("1", "a", {"x": "ü"}))),
        Message("assistant", (ToolUse("2", "b", {}, raw="{bad"),)),
        Message("user", (TextBlock("and"), ToolResultBlock("1", (TextBlock("r"), picture)))),
        Message("user", (ToolResultBlock("2", "nope", is_error=True),)),
    )
    assert sent[1:] == [
        {
            "role": "assistant",
            "content": "ok",
            "tool_calls": [
                _sent("1", "a", '{"x":"ü"}'),
                _sent("2", "b", "{}"),
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "r"},
        {"role": "tool", "tool_call_id": "2", "content": "nope"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Images in the result of call 1:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "text", "text": "and"},
            ],
        },
    ]


def test_parts() -> None:
    sent = turns(
        Message(
            "user",
            (
                TextBlock("t"),
                ImageBlock(url="https://x.test/a.png"),
                DocumentBlock("application/pdf", "BB"),
                DocumentBlock("application/pdf", "BB", title="my.pdf"),
                DocumentBlock(url="https://x.test/a.pdf", title="A"),
            ),
        ),
        Message("assistant", (ThinkingBlock("nothing else"),)),
        Message("assistant", (TextBlock("a"), TextBlock("b"))),
        Message("assistant", (ToolUse("1", "t", {}),)),
    )
    assert sent[0]["content"][1:] == [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,BB"},
        },
        {
            "type": "file",
            "file": {"filename": "my.pdf", "file_data": "data:application/pdf;base64,BB"},
        },
        {"type": "text", "text": "[A: https://x.test/a.pdf]"},
    ]
    assert sent[1]["content"] == "a\nb"
    assert turns(Message("assistant", (ToolUse("1", "t", {}),)))[0]["content"] is None


def test_an_id_that_is_too_long_for_openai_is_shortened() -> None:
    """vLLM's have 46 characters; this wire takes 40."""
    for given in ("call_" + "x" * 35, "chatcmpl-tool-" + "0" * 32):
        calls = Message("assistant", (ToolUse(given, "t", {}),))
        sent = turns(calls, Message("user", (ToolResultBlock(given, "r"),)))
        short = sent[0]["tool_calls"][0]["id"]
        assert len(short) <= 40
        assert (short == given) is (len(given) <= 40)
        assert sent[1]["tool_call_id"] == short


def test_a_document_of_plain_text_is_sent_as_text() -> None:
    text = DocumentBlock.from_bytes("a;b\n1;ü".encode(), "text/csv").data
    for title in ("", "n.csv"):
        sent = turns(Message("user", (DocumentBlock("text/csv", text, title=title),)))
        assert sent[0]["content"] == f"[{title or 'document'}:]\na;b\n1;ü"


def test_what_json_cannot_hold() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "openai")]))
    messages = [Message("assistant", (ToolUse("1", "t", {"x": float("nan")}),))]
    error = ask("openai", provider, Request("gpt-4o", messages)).error
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
    assert provider.requests == []


# ---------------------------------------------------------------- answers


def chunk(finish: str | None = None, index: int = 0, **delta: object) -> dict[str, object]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "model": "gpt-4o-2024-08-06", "choices": [choice]}


USAGE: dict[str, object] = {
    "id": "c",
    "choices": [],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 15},
    },
}


def test_usage_is_split() -> None:
    heard = hear(chunk(content="x"), chunk("stop"), USAGE, "[DONE]")
    assert heard.answer.usage == Usage(30, 20, 10, 60, 15)
    assert heard.usages[-1].usage == heard.answer.usage
    assert heard.answer.model == "gpt-4o-2024-08-06"
    assert heard.answer.id == "c"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 5, "completion_tokens": 2},
        {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        {"prompt_tokens": 5.0, "completion_tokens": 2, "prompt_tokens_details": {}},
    ],
)
def test_usage_with_gaps(usage: object) -> None:
    heard = hear(chunk("stop", content="x"), {"choices": [], "usage": usage}, "[DONE]")
    assert heard.answer.usage == Usage(5, 2)


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": 10**18, "completion_tokens": -2}, {"prompt_tokens": 1e300}]
)
def test_usage_that_nobody_tells_or_that_cannot_be_is_estimated_and_flagged(usage: object) -> None:
    told = [] if usage is None else [{"choices": [], "usage": usage}]
    made = hear(chunk("stop", content="x" * 400), *told, "[DONE]").answer
    assert made.extra == {"usage_estimated": True}
    assert made.usage.output_tokens >= 100
    assert made.cost_nano > 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", StopReason.END_TURN),
        ("length", StopReason.MAX_TOKENS),
        ("content_filter", StopReason.REFUSAL),
        ("tool_calls", StopReason.END_TURN),
        ("eos", StopReason.END_TURN),
    ],
)
def test_stop_reasons(said: str, reason: StopReason) -> None:
    made = hear(chunk(said, content="x"), USAGE, "[DONE]").answer
    assert made.stop is reason
    assert ("stop_reason" in made.extra) is (said == "eos")


def test_a_refusal_is_text_with_its_own_stop() -> None:
    heard = hear(chunk(refusal="I can"), chunk(refusal="not."), chunk("stop"), USAGE, "[DONE]")
    assert heard.text == heard.answer.text == "I cannot."
    assert heard.answer.stop is StopReason.REFUSAL


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thinking_is_kept(field: str) -> None:
    h, m = [chunk(None, 0, **{field: text}) for text in "hm"]
    heard = hear(h, m, chunk("stop", content="x"), USAGE)
    assert heard.thinking == "hm"
    thought = ThinkingBlock("hm", origin="chat:openai", id=field)
    assert heard.answer.content == (thought, TextBlock("x"))


def call(index: int | None, id: str | None, name: str | None, text: object) -> dict[str, object]:
    function = {"name": name, "arguments": text}
    piece: dict[str, object] = {"function": function}
    if index is not None:
        piece["index"] = index
    if id is not None:
        piece["id"] = id
    return piece


def calls_of(*pieces: dict[str, object] | list[dict[str, object]]) -> list[ToolUse]:
    chunks = [chunk(tool_calls=piece if isinstance(piece, list) else [piece]) for piece in pieces]
    heard = hear(*chunks, chunk("tool_calls"), USAGE, "[DONE]")
    for number, made in enumerate(heard.answer.tool_calls):
        assert json.loads(heard.arguments(number) or "{}") == made.input
    assert heard.answer.stop is StopReason.TOOL_USE
    return heard.answer.tool_calls


A, B = ToolUse("1", "a", {"x": 1}), ToolUse("2", "b", {"y": 2})


def test_parallel_calls() -> None:
    assert calls_of(
        call(0, "1", "a", ""), call(0, None, None, '{"x":'), call(0, None, None, "1}"),
        call(1, "2", "b", '{"y"'), call(1, None, None, ":2}"),
    ) == [A, B]  # fmt: skip


def test_parallel_calls_interleaved_and_in_one_chunk() -> None:
    assert calls_of(
        [call(0, "1", "a", ""), call(1, "2", "b", "")],
        [call(1, None, None, '{"y":'), call(0, None, None, '{"x":')],
        [call(0, None, None, "1}"), call(1, None, None, "2}")],
    ) == [A, B]


@pytest.mark.parametrize("index", [0, None])
def test_servers_that_do_not_count_their_calls(index: int | None) -> None:
    assert calls_of(call(index, "1", "a", '{"x":1}'), call(index, "2", "b", '{"y":2}')) == [A, B]
    pieces = [
        call(index, "1", "a", '{"x"'), call(index, None, None, ":1}"),
        call(index, "2", "b", '{"y"'), call(index, None, None, ":2}"),
    ]  # fmt: skip
    assert calls_of(*pieces) == [A, B]


def test_brackets_and_quotes_within_texts_do_not_end_a_call() -> None:
    """Of servers that send neither numbers nor ids, which may repeat the name."""
    odd = {"x": 'a "}{" \\'}
    text = json.dumps(odd)
    cut = text.index("}{") + 1  # what comes then looks like the beginning of another
    parts = [("a", text[:cut]), ("a", text[cut:]), ("a", text), ("b", "{}")]
    pieces = [call(0, None, name, part) for name, part in parts]
    assert [(made.name, made.input) for made in calls_of(*pieces)] == [
        ("a", odd),
        ("a", odd),
        ("b", {}),
    ]


def test_servers_that_repeat_the_id_or_send_it_late_or_send_objects() -> None:
    assert calls_of(call(0, "1", "a", '{"x"'), call(0, "1", None, ":1}")) == [A]
    assert calls_of(call(0, "1", "a", '{"x"'), call(0, "1", "a", ":1}")) == [A]
    assert calls_of(call(0, None, "a", '{"x"'), call(0, "1", None, ":1}")) == [A]
    assert calls_of(call(0, "1", "a", {"x": 1})) == [A]


def test_arguments_that_are_closed_and_no_json_do_not_end_a_call() -> None:
    """Of servers that do not count: what is not an object yet may go on."""
    bad = hear(
        chunk(tool_calls=[call(0, None, "a", '{"x": }')]),
        chunk(tool_calls=[call(0, None, "b", '{"y":2}')]),
        chunk("tool_calls"),
        USAGE,
    )
    assert bad.answer.tool_calls == [ToolUse("", "a", {}, raw='{"x": }{"y":2}')]


@pytest.mark.parametrize("field", ["content", "reasoning", "refusal"])
def test_a_surrogate_pair_cut_in_two(field: str) -> None:
    pieces = [chunk(None, 0, **{field: text}) for text in ("a", "\ud83e", "\udd84b")]
    heard = hear(*pieces, chunk("stop"), USAGE)
    assert heard.thinking + heard.text == "a🦄b"


def test_ids_come_as_they_were_sent_also_bad_ones() -> None:
    made = calls_of(call(0, None, "a", '{"x":1}'), call(1, "1", "a", "{}"), call(2, "1", "b", "{}"))
    assert [one.id for one in made] == ["", "1", "1"]


def test_a_stop_of_stop_after_calls() -> None:
    heard = hear(chunk("stop", tool_calls=[call(0, "1", "a", '{"x":1}')]), USAGE, "[DONE]")
    assert heard.answer.stop is StopReason.TOOL_USE
    assert heard.answer.tool_calls == [A]


@pytest.mark.parametrize("stop", ["max_tokens", "refusal"])
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


def test_other_choices_are_skipped() -> None:
    heard = hear(chunk(content="a"), chunk("stop", index=1, content="b"), chunk("stop"), USAGE)
    assert heard.text == "a"


def test_the_end() -> None:
    """Complete: a reason, and either the marker or the usage."""
    whole = [chunk("stop", content="x"), USAGE, "[DONE]"]
    assert hear(*whole).answer.text == "x"
    assert hear(*whole[:2]).answer.text == "x"
    assert hear(whole[0], "[DONE]").answer.text == "x"
    for events in ([whole[0]], [USAGE, "[DONE]"], [chunk(content="x"), USAGE], ["[DONE]"]):
        error = hear(*events).error
        assert error is not None
        assert error.code is ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"error": {"message": "Busy", "code": 503}}, ExecutorErrorCode.EXEC_API_SERVER_ERROR),
        ({"error": "Busy"}, ExecutorErrorCode.EXEC_API_SERVER_ERROR),
        ({"error": {"message": "Busy", "code": 429}, "choices": []},
         ExecutorErrorCode.EXEC_API_RATE_LIMITED),
    ],
)  # fmt: skip
def test_errors_in_mid_stream(event: object, code: ExecutorErrorCode) -> None:
    heard = hear(chunk(content="x"), event)
    assert heard.error is not None
    assert heard.error.code is code
    assert heard.text == "x" or heard.text == ""


def test_an_event_named_error_and_a_reason_of_error() -> None:
    body = sse(chunk(content="x")) + b'event: error\ndata: {"message": "Busy"}\n\n'
    for reply in (Reply([body]), Reply([sse(chunk("error"), USAGE, "[DONE]")])):
        error = ask("openai", Provider(reply)).error
        assert error is not None
        assert error.code is ExecutorErrorCode.EXEC_API_SERVER_ERROR


def test_the_cost_is_in_the_answer() -> None:
    made = play(Turn("x", usage=FakeUsage(1000, 10, cache_read=100)))
    assert made.cost_nano == 1000 * 2500 + 10 * 10_000 + 100 * 1250


def test_an_output_schema_and_a_seed() -> None:
    form = OutputSchema("answer", {"type": "object"})
    body = wire(req(output=form, seed=7))
    named = {"name": "answer", "schema": {"type": "object"}}
    assert body["response_format"] == {"type": "json_schema", "json_schema": named}
    assert body["seed"] == 7
