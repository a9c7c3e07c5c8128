"""The Anthropic wire: what is sent, and what is made of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import dumps
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
from lorimer.core.request import (
    CacheMarks,
    OutputSchema,
    Request,
    Response,
    StopReason,
    ToolInputDelta,
    ToolSpec,
    Usage,
)
from lorimer.models.wires.anthropic_request import abilities, encode
from lorimer.testing.fake_server import FakeLLMServer, FakeUsage, ToolCall, Turn, recorded_body
from tests.models.support import KEY, Provider, Reply, ask, request, sse

READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {}})
LIST = ToolSpec("ls", "List.", {"type": "object"})


def wire(asked: Request, effort: str = "") -> dict[str, Any]:
    return json.loads(json.dumps(encode(asked, effort).body))


def turns(*messages: Message) -> list[dict[str, Any]]:
    return wire(Request("claude-haiku-4-5", messages))["messages"]


def answer(*events: object, **fields: Any) -> Response:
    return ask("anthropic", Provider(Reply([sse(*events)])), request(**fields)).answer


def play(turn: Turn, **fields: Any) -> Response:
    return ask(
        "anthropic", Provider(Reply([recorded_body(turn, "anthropic")])), request(**fields)
    ).answer


# ---------------------------------------------------------------- requests


def test_a_plain_request() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "anthropic")]))
    ask("anthropic", provider, request(system="Be.", max_tokens=7, stop_sequences=("X",)))
    assert provider.sent == {
        "model": "claude-haiku-4-5",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "system": "Be.",
        "stop_sequences": ["X"],
        "stream": True,
    }
    sent = provider.requests[0]
    assert str(sent.url) == "https://api.anthropic.com/v1/messages"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert "anthropic-version" in sent.headers


def test_a_base_url_of_its_own() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "anthropic")]))
    ask("anthropic", provider, base_url="http://proxy.test/anthropic/")
    assert str(provider.requests[0].url) == "http://proxy.test/anthropic/v1/messages"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("any", {"type": "any"}),
        ("none", {"type": "none"}),
        ("read", {"type": "tool", "name": "read"}),
    ],
)
def test_tools(choice: str, sent: object) -> None:
    body = wire(request(tools=(READ, LIST), tool_choice=choice))
    assert body["tools"][0] == READ.to_json()
    assert body.get("tool_choice") == sent
    assert "tool_choice" not in wire(request(tool_choice=choice))


def test_cache_marks() -> None:
    mark = {"type": "ephemeral"}
    messages = [
        user_message("a"),
        Message("assistant", (TextBlock("b"), ThinkingBlock("t", "s"))),
        user_message("c"),
    ]
    body = wire(
        Request(
            "claude-x-1",
            messages,
            system="S",
            tools=(READ, LIST),
            cache=CacheMarks(system=True, tools=True, message=1),
        )
    )
    assert body["system"] == [{"type": "text", "text": "S", "cache_control": mark}]
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, mark]
    marks = [[block.get("cache_control") for block in m["content"]] for m in body["messages"]]
    assert marks == [[None], [mark, None], [None]]
    only_thought = [user_message("a"), Message("assistant", (THOUGHT,))]
    none = wire(Request("claude-x-1", only_thought, cache=CacheMarks(message=1)))
    assert "cache_control" not in json.dumps(none)
    far = wire(Request("claude-x-1", messages, cache=CacheMarks(message=7)))
    assert "cache_control" not in json.dumps(far)


@pytest.mark.parametrize(
    ("model", "adaptive", "sampling", "effort"),
    [
        ("claude-3-5-haiku-latest", False, True, False),
        ("claude-3-7-sonnet-20250219", False, True, False),
        ("claude-sonnet-4-20250514", False, True, False),
        ("claude-opus-4-5-20251101", False, True, True),
        ("claude-haiku-4-5", False, True, False),
        ("claude-sonnet-4-6", False, True, True),
        ("claude-opus-4-7", True, False, True),
        ("us.anthropic.claude-opus-4-8-v1:0", True, False, True),
        ("claude-sonnet-5", True, False, True),
        ("claude-fable-5-1", True, False, True),
        ("claude-mythos-preview", True, False, True),
        ("glm-4.6", False, True, False),
    ],
)
def test_what_models_take(model: str, adaptive: bool, sampling: bool, effort: bool) -> None:
    able = abilities(model)
    assert (able.adaptive, able.sampling, able.effort) == (adaptive, sampling, effort)


def test_thinking_is_added_to_the_limit_and_drops_sampling() -> None:
    asked = request(max_tokens=500, thinking_tokens=2000, temperature=0.5, top_p=0.9, top_k=3)
    encoded = encode(asked, "")
    assert encoded.body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert encoded.body["max_tokens"] == 2500
    assert encoded.dropped == ["temperature", "top_p", "top_k"]
    assert not {"temperature", "top_p", "top_k"} & set(encoded.body)


@pytest.mark.parametrize(
    ("max_tokens", "thinking", "sent"),
    [(8000, 100, 1024), (500, 600, 1024), (400, 600, None), (8000, 0, None), (8000, None, None)],
)
def test_a_small_budget(max_tokens: int, thinking: int | None, sent: int | None) -> None:
    body = wire(request(max_tokens=max_tokens, thinking_tokens=thinking))
    assert body.get("thinking", {}).get("budget_tokens") == sent
    assert body["max_tokens"] == max_tokens + ((thinking or 0) if sent else 0)


@pytest.mark.parametrize(
    ("model", "dropped"),
    [
        ("claude-haiku-4-5", ["top_p"]),
        ("claude-opus-4-1-20250805", ["top_p"]),
        ("claude-sonnet-4-20250514", []),
        ("claude-3-7-sonnet-latest", []),
        ("claude-opus-4-8", ["temperature", "top_p"]),
    ],
)
def test_of_temperature_and_top_p_newer_models_take_one(model: str, dropped: list[str]) -> None:
    both = Request(model, [user_message("hi")], temperature=0.5, top_p=0.9)
    assert encode(both, "").dropped == dropped
    alone = Request(model, [user_message("hi")], top_p=0.9)
    assert encode(alone, "").dropped == (["top_p"] if "temperature" in dropped else [])


def test_a_stop_sequence_of_blanks_is_left_out() -> None:
    asked = request(stop_sequences=("\n\n", "END", " "))
    encoded = encode(asked, "")
    assert (encoded.body["stop_sequences"], encoded.dropped) == (["END"], ["stop_sequences"])
    asked = request(stop_sequences=("\n",))
    assert "stop_sequences" not in encode(asked, "").body


def test_a_forced_call_does_not_think() -> None:
    encoded = encode(request(tools=(READ,), tool_choice="any", thinking_tokens=2000), "")
    assert "thinking" not in encoded.body
    assert encoded.dropped == ["thinking_tokens"]


CALL = ToolUse("1", "t", {})
RESULT = Message("user", (ToolResultBlock("1", "r"),))
THOUGHT = ThinkingBlock("hm", "s")


@pytest.mark.parametrize(
    ("messages", "thinks"),
    [
        ([Message("assistant", (THOUGHT, CALL)), RESULT], True),
        ([Message("assistant", (ThinkingBlock(redacted="x"), CALL)), RESULT], True),
        ([Message("assistant", (THOUGHT, CALL)), RESULT, Message("assistant", (CALL,)), RESULT],
         True),
        ([Message("assistant", (TextBlock("x"), CALL)), RESULT], False),
        ([Message("assistant", (ThinkingBlock("unsigned"), CALL)), RESULT], False),
        ([Message("assistant", (CALL,)), RESULT, Message("assistant", (THOUGHT, CALL)), RESULT],
         False),
        ([Message("assistant", (CALL,)), RESULT, Message("assistant", (TextBlock("x"),)),
          user_message("go")], True),
    ],
)  # fmt: skip
def test_thinking_waits_for_a_turn_that_began_with_it(
    messages: list[Message], thinks: bool
) -> None:
    asked = Request("claude-haiku-4-5", [user_message("a"), *messages], thinking_tokens=2000)
    encoded = encode(asked, "")
    assert ("thinking" in encoded.body) is thinks
    assert encoded.body["max_tokens"] == asked.max_tokens + (2000 if thinks else 0)
    asked.model = "claude-opus-5"
    assert "thinking" in encode(asked, "").body


def test_a_history_that_begins_within_a_turn_is_judged_by_what_it_begins_with() -> None:
    for first, thinks in ((THOUGHT, True), (TextBlock("x"), False)):
        messages = [Message("assistant", (first, CALL)), RESULT]
        body = encode(Request("claude-haiku-4-5", messages, thinking_tokens=2000), "").body
        assert ("thinking" in body) is thinks


def test_calls_in_the_history_need_tools() -> None:
    body = wire(Request("claude-haiku-4-5", [user_message("a"), Message("assistant", (CALL,))]))
    assert body["tools"] == [{"name": "t", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(("budget", "effort"), [(2000, "low"), (9000, "medium"), (30_000, "high")])
def test_the_newest_models_think_as_they_like(budget: int, effort: str) -> None:
    body = wire(request(model="claude-opus-5", thinking_tokens=budget))
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": effort}
    asked = request(model="claude-opus-5", thinking_tokens=budget, effort="high")
    assert wire(asked, "low")["output_config"] == {"effort": "high"}


def test_effort() -> None:
    assert wire(request(model="claude-sonnet-4-6"), "low")["output_config"] == {"effort": "low"}
    assert encode(request(effort="low"), "").dropped == ["effort"]


def test_sampling_goes_with_the_version_that_takes_it() -> None:
    encoded = encode(request(temperature=0.0, top_k=5), "")
    assert (encoded.body["temperature"], encoded.body["top_k"]) == (0.0, 5)
    assert encoded.headers == {"anthropic-version": "2023-06-01"}
    provider = Provider(Reply([recorded_body(Turn("hi"), "anthropic")]))
    ask("anthropic", provider, request(temperature=0.0))
    assert provider.requests[0].headers.get_list("anthropic-version") == ["2023-06-01"]
    new = encode(request(model="claude-opus-5", temperature=0.0), "")
    assert new.dropped == ["temperature"]
    assert new.headers == {}


def test_what_was_dropped_is_told() -> None:
    assert play(Turn("x"), model="claude-opus-5", temperature=0.3).extra == {
        "dropped": ["temperature"]
    }


def test_messages_of_one_role_are_merged_results_first() -> None:
    sent = turns(
        user_message("a"),
        user_message("b"),
        Message("assistant", (TextBlock("c"), ToolUse("1", "read", {"x": 1}))),
        Message("assistant", (ToolUse("2", "ls", {}),)),
        user_message("by the way"),
        Message("user", (ToolResultBlock("1", "one"), ToolResultBlock("2", "", is_error=True))),
    )
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"][1:] == [
        {"type": "tool_use", "id": "1", "name": "read", "input": {"x": 1}},
        {"type": "tool_use", "id": "2", "name": "ls", "input": {}},
    ]
    assert sent[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "2", "is_error": True, "content": "(no output)"},
        {"type": "text", "text": "by the way"},
    ]


def test_every_block() -> None:
    blocks: tuple[Block, ...] = (
        TextBlock("t"),
        ImageBlock("image/png", "AAAA"),
        ImageBlock(url="https://x.test/a.png"),
        DocumentBlock("application/pdf", "BBBB", title="T"),
        DocumentBlock(url="https://x.test/a.pdf"),
        ToolResultBlock("1", (TextBlock("r"), ImageBlock("image/png", "CC"), TextBlock(" "))),
        ToolResultBlock("2", ""),
        TextBlock("  \n"),
    )
    assert turns(Message("user", blocks))[0]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "1",
            "content": [
                {"type": "text", "text": "r"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "CC"},
                },
            ],
        },
        {"type": "tool_result", "tool_use_id": "2"},
        {"type": "text", "text": "t"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
            "title": "T",
        },
        {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
    ]


def test_foreign_things_are_made_fit() -> None:
    sent = turns(
        user_message("a"),
        Message(
            "assistant",
            (ThinkingBlock("another vendor's"), ToolUse("call.1:x", "functions.read/it", {})),
        ),
        Message("user", (ToolResultBlock("call.1:x", "ok"),)),
        Message("assistant", (ThinkingBlock("only"),)),
        Message("assistant", (TextBlock("An answer to go on with \n"),)),
    )
    call = sent[1]["content"][0]
    assert call["type"] == "tool_use"
    assert call["name"] == "functions_read_it"
    assert call["id"] == sent[2]["content"][0]["tool_use_id"]
    assert call["id"].startswith("id_")
    assert sent[3]["content"] == [{"type": "text", "text": "An answer to go on with"}]
    assert len(sent) == 4


def test_what_json_cannot_hold() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "anthropic")]))
    messages = [Message("assistant", (ToolUse("1", "t", {"x": float("nan")}),))]
    heard = ask_nothing(provider, Request("claude-haiku-4-5", messages))
    assert heard.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
    ask("anthropic", provider, request(text="lone \ud83e surrogate"))
    assert provider.sent["messages"][0]["content"][0]["text"] == "lone ? surrogate"


def ask_nothing(provider: Provider, asked: Request) -> APIError:
    error = ask("anthropic", provider, asked).error
    assert error is not None
    assert provider.requests == []
    return error


# ---------------------------------------------------------------- answers


def test_thinking_goes_back_byte_for_byte() -> None:
    text, signature = 'thöught 🦄 \\ " \n\u2028 end', "Sig+/==\u00e9"
    made = play(Turn("t", thinking=text, signature=signature, redacted_thinking="Enc+/=="))
    assert made.content[:2] == (
        ThinkingBlock(text, signature),
        ThinkingBlock(redacted="Enc+/=="),
    )
    provider = Provider(Reply([recorded_body(Turn("hi"), "anthropic")]))
    messages = [user_message("a"), made.message, user_message("b")]
    ask("anthropic", provider, Request("claude-haiku-4-5", messages))
    assert provider.sent["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": text, "signature": signature},
        {"type": "redacted_thinking", "data": "Enc+/=="},
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", StopReason.END_TURN),
        ("max_tokens", StopReason.MAX_TOKENS),
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("pause", StopReason.PAUSE),
        ("refusal", StopReason.REFUSAL),
        ("context_overflow", StopReason.CONTEXT_OVERFLOW),
        ("brand_new", StopReason.END_TURN),
    ],
)
def test_stop_reasons(said: str, reason: StopReason) -> None:
    made = play(Turn("x", stop=said))
    assert made.stop is reason
    assert (made.extra.get("stop_reason") == "brand_new") is (said == "brand_new")
    assert ("stop_details" in made.extra) is (said == "refusal")


@pytest.mark.parametrize("stop", ["max_tokens", "context_overflow", "refusal"])
@pytest.mark.parametrize("raw", ['{"path": "/etc/pa', "", "{}", '{"path": "/"}'])
def test_a_call_that_was_cut_cannot_be_run(stop: str, raw: str) -> None:
    calls = (ToolCall("1", "read", {"a": 1}), ToolCall("2", "write", raw=raw))
    whole, cut = play(Turn(tool_calls=calls, stop=stop)).tool_calls
    assert (whole.input, whole.raw) == ({"a": 1}, "")
    assert cut.input == {}
    assert cut.raw == (raw or "{")


@pytest.mark.parametrize(
    "raw", ["{", "[1]", '"x"', "7", '"{"', '{"a": NaN}', '{"a": 1e999}', "nonsense", "[" * 50_000]
)
def test_arguments_that_are_no_object_are_kept_as_text(raw: str) -> None:
    call = play(Turn(tool_calls=(ToolCall("1", "t", raw=raw),))).tool_calls[0]
    assert (call.input, call.raw) == ({}, raw)


def test_arguments() -> None:
    def first(raw: str) -> ToolUse:
        return play(Turn(tool_calls=(ToolCall("1", "t", raw=raw),))).tool_calls[0]

    assert first("") == first("  ") == first("null") == ToolUse("1", "t", {})
    assert first('"{\\"a\\": 1}"') == ToolUse("1", "t", {"a": 1})  # an object as a JSON text
    assert first('"{\\"a\\": \\"\\\\ud83e\\"}"').input == {"a": "\ufffd"}
    assert first('{"a":1,"a":2}').input == {"a": 2}
    assert first('{"a":"\\ud83e\\udd84 \\ud83e"}').input == {"a": "🦄 \ufffd"}


def test_ids_come_as_they_were_sent_also_bad_ones() -> None:
    given = ["", "a", "a", "b"]
    calls = tuple(ToolCall(name, "t", {"n": n}) for n, name in enumerate(given))
    body = recorded_body(Turn(tool_calls=calls), "anthropic")
    made = ask("anthropic", Provider(Reply([body])), request()).answer
    assert [call.id for call in made.tool_calls] == given
    assert [call.input["n"] for call in made.tool_calls] == [0, 1, 2, 3]


START = {
    "type": "message_start",
    "message": {
        "id": "m",
        "model": "claude-x",
        "usage": {
            "input_tokens": 7,
            "output_tokens": 1,
            "cache_read_input_tokens": None,
            "cache_creation_input_tokens": 3,
        },
    },
}
STOP = {"type": "message_stop"}


def final(**usage: object) -> dict[str, object]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def block(index: int, start: object, *deltas: object) -> list[object]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *[{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": index},
    ]


def test_usage_is_cumulative_and_may_be_null() -> None:
    provider = Provider(
        Reply(
            [
                sse(
                    START,
                    final(output_tokens=5, input_tokens=None, cache_read_input_tokens=4),
                    final(output_tokens=9, output_tokens_details={"thinking_tokens": 6}),
                    STOP,
                )
            ]
        )
    )
    heard = ask("anthropic", provider)
    assert [delta.usage for delta in heard.usages[1:]] == [
        Usage(7, 1, 3, 0),
        Usage(7, 5, 3, 4),
        Usage(7, 9, 3, 4, 6),
    ]
    assert heard.answer.usage == Usage(7, 9, 3, 4, 6)


def test_a_prompt_that_is_counted_at_the_beginning_is_not_free() -> None:
    """Other servers with this API count it as 0 at the end."""
    made = answer(
        START, final(output_tokens=5, input_tokens=0, cache_creation_input_tokens=0), STOP
    )
    assert made.usage == Usage(7, 5, 3)


def test_a_prompt_of_which_only_the_end_says_what_was_cached_is_counted_once() -> None:
    """vLLM's server: the first count of the prompt knows nothing of its cache."""
    whole = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 100}}}
    end = final(output_tokens=5, input_tokens=12, cache_read_input_tokens=88)
    assert answer(whole, end, STOP).usage == Usage(12, 5, 0, 88)


@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_in_the_form_of_a_gateway(streamed: bool) -> None:
    said = {"error": {"message": "upstream is gone", "code": "500"}}
    reply = Reply([sse(START, said)]) if streamed else Reply.of(said)
    error = ask("anthropic", Provider(reply)).error
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_SERVER_ERROR
    assert "upstream is gone" in str(error)


def test_usage_that_nobody_tells_is_estimated_and_flagged() -> None:
    made = play(Turn("word " * 40, usage=None))
    assert made.extra["usage_estimated"] is True
    assert made.usage.input_tokens > 10
    assert 40 < made.usage.output_tokens < 80


def test_the_cost_is_in_the_answer() -> None:
    turn = Turn("x", usage=FakeUsage(1000, 10), model="priced")
    assert play(turn).cost_nano == 1_020_000
    assert play(Turn("x", model="claude-haiku-4-5")).cost_nano == 10 * 1000 + 5 * 5000
    assert play(Turn("x", model="unheard-of"), model="unheard-of").cost_nano == 0


def test_blocks_that_come_whole_and_blocks_of_the_future() -> None:
    made = answer(
        START,
        *block(0, {"type": "text", "text": "be"}, {"type": "text_delta", "text": "gin"}),
        *block(1, {"type": "server_tool_use", "id": "s"}, {"type": "new_delta", "x": 1}),
        *block(2, {"type": "tool_use", "id": "1", "name": "t", "input": {"a": 1}}),
        *block(3, {"type": "thinking", "thinking": "hm", "signature": "s"}),
        *block(
            4,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "signature_delta", "signature": "a="},
            {"type": "signature_delta", "signature": "b="},
        ),
        final(output_tokens=1),
        STOP,
    )
    assert made.content == (
        TextBlock("begin"),
        ToolUse("1", "t", {"a": 1}),
        ThinkingBlock("hm", "s"),
        ThinkingBlock("", "a=b="),
    )
    assert made.stop is StopReason.TOOL_USE


def test_a_surrogate_pair_cut_in_two() -> None:
    provider = Provider(
        Reply(
            [
                sse(
                    START,
                    *block(
                        0,
                        {"type": "text", "text": ""},
                        {"type": "text_delta", "text": "a\ud83e"},
                        {"type": "text_delta", "text": "\udd84b"},
                        {"type": "text_delta", "text": "c\ud83e"},
                    ),
                    final(output_tokens=1),
                    STOP,
                )
            ]
        )
    )
    heard = ask("anthropic", provider)
    assert heard.text == "a🦄bc"
    assert heard.answer.content == (TextBlock("a🦄bc\ufffd"),)
    heard.text.encode()


def test_a_call_is_announced_before_its_arguments() -> None:
    body = recorded_body(Turn(tool_calls=(ToolCall("1", "t", {"a": 1}),)), "anthropic")
    heard = ask("anthropic", Provider(Reply([body])))
    deltas = [item for item in heard.items if isinstance(item, ToolInputDelta)]
    assert deltas[0] == ToolInputDelta(0, "", "t")
    assert not any(delta.name for delta in deltas[1:])


def test_an_empty_answer_is_an_answer() -> None:
    made = answer(START, final(output_tokens=0), STOP)
    assert made.content == ()
    assert made.text == ""


@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        [START, STOP],
        [START, START, final(), STOP],
        [START, *block(0, {"type": "text", "text": ""}), *block(0, {"type": "text"})],
        [START, {"type": "content_block_delta", "index": 9, "delta": {"type": "text_delta"}}],
        [START, *block(0, {"type": "text", "text": 7})],
        [START, *block(0, {"type": "tool_use", "id": "1"})],
        [{"type": "message_start", "message": None}],
    ],
)
def test_an_order_that_makes_no_sense(events: list[object]) -> None:
    error = ask("anthropic", Provider(Reply([sse(*events)]))).error
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE


def test_an_output_schema_and_a_seed() -> None:
    form = OutputSchema("answer", {"type": "object", "additionalProperties": False})
    body = wire(request(model="claude-sonnet-4-6", output=form), "low")
    config = {"format": {"type": "json_schema", "schema": form.schema}, "effort": "low"}
    assert body["output_config"] == config
    assert encode(request(seed=7), "").dropped == ["seed"]


def test_a_model_that_is_held_to_no_schema_is_told_of_it_in_words() -> None:
    form = OutputSchema("answer", {"type": "object", "additionalProperties": False})
    encoded = encode(request(model="claude-3-5-haiku-latest", output=form, system="Be kind."), "")
    assert encoded.dropped == ["output"]
    assert "output_config" not in encoded.body
    told = str(encoded.body["system"])
    assert told.startswith("Be kind.\n\nAnswer with one JSON object and nothing else")
    assert told.endswith(f"this JSON Schema:\n{dumps(form.schema)}")


BOUNDED: Any = {"type": "integer", "minimum": 0}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": False, "properties": {"n": BOUNDED}},
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {"n": {"type": "array", "items": BOUNDED}},
        },
        *(
            {"type": "object", "additionalProperties": False, "properties": {"n": each}}
            for each in (
                {"anyOf": [BOUNDED, {"type": "null"}]},
                {"type": "array", "items": {"type": "integer"}, "minItems": 2},
                {"type": "string", "format": "uri"},
                {"enum": [[1]]},
            )
        ),
    ],
)
def test_a_schema_that_claude_cannot_be_held_to_is_told_in_words(schema: Any) -> None:
    """The API answers it with 400, which an agent would end with."""
    turns = [Turn("{}")]
    with FakeLLMServer(turns) as server:
        agent = PipelinePresets.agent(
            model="anthropic:claude-sonnet-4-6",
            api_key="key",
            base_url=server.url,
            output_schema=schema,
        )
        result = agent.run_sync("go")
    assert (result.status, result.output) == ("ok", {}), result.error
    assert "JSON Schema" in str(server.requests[0].body["system"])
    held = {**schema, "additionalProperties": False}
    held["properties"] = {"n": {"type": "integer"}}
    form = OutputSchema("answer", held)
    assert encode(request(model="claude-sonnet-4-6", output=form), "").dropped == []


def test_the_thoughts_of_other_providers_are_left_out() -> None:
    sealed = ThinkingBlock("hm", "sealed", origin="openai", id="rs_1")
    hidden = ThinkingBlock(redacted="data", origin="google")
    history = (Message("assistant", (sealed, hidden, TextBlock("So."))), user_message("and?"))
    assert turns(*history)[0]["content"] == [{"type": "text", "text": "So."}]


def thinking_in(provider: Provider, number: int) -> list[object]:
    """The thoughts of the model's turn in a request."""
    body = json.loads(provider.requests[number].content)
    blocks = body["messages"][1]["content"]
    return [block for block in blocks if "thinking" in block["type"]]


WHOLE = recorded_body(Turn("ok"), "anthropic")


@pytest.mark.parametrize("thinking", [None, 2000])
def test_thoughts_that_another_server_signed_are_left_out(thinking: int | None) -> None:
    """After a failover from a server with the same API: such a signature cannot be told before."""
    said = "messages.1.content.0: Invalid `signature` in `thinking` block"
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    provider = Provider(Reply.of(refusal, 400), Reply([WHOLE]))
    messages = [user_message("go"), Message("assistant", (THOUGHT, CALL)), RESULT]
    asked = Request("claude-haiku-4-5", messages, thinking_tokens=thinking)
    made = ask("anthropic", provider, asked).answer
    assert [len(thinking_in(provider, number)) for number in (0, 1)] == [1, 0]
    assert "thinking" not in provider.sent
    gone = ["messages.thinking"] + (["thinking_tokens"] if thinking else [])
    assert made.extra["dropped"] == gone


def test_a_server_that_demands_thoughts_nobody_had_gets_blank_ones() -> None:
    said = "The `content[].thinking` in the thinking mode must be passed back to the API."
    refusal = Reply.of({"error": {"type": "invalid_request_error", "message": said}}, 400)
    messages = [user_message("go"), Message("assistant", (CALL,)), RESULT]
    provider = Provider(refusal, Reply([WHOLE]))
    assert ask("anthropic", provider, Request("deepseek-v4", messages)).answer.text == "ok"
    assert [len(thinking_in(provider, number)) for number in (0, 1)] == [0, 1]
    again = Provider(refusal, refusal, refusal)
    error = ask("anthropic", again, Request("deepseek-v4", messages)).error
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
    assert len(again.requests) == 2


def test_thoughts_of_a_model_that_signs_none_go_back() -> None:
    unsigned = ThinkingBlock("hm")
    messages = [user_message("go"), Message("assistant", (unsigned, CALL)), RESULT]
    for model, kept in (("kimi-k2", 1), ("claude-haiku-4-5", 0)):
        provider = Provider(Reply([WHOLE]))
        ask("anthropic", provider, Request(model, messages))
        assert len(thinking_in(provider, 0)) == kept


def test_a_document_of_plain_text_is_sent_as_text() -> None:
    text = DocumentBlock.from_bytes("a;b\n1;ü".encode(), "text/csv")
    (sent,) = turns(Message("user", (text,)))[0]["content"]
    assert sent["source"] == {"type": "text", "media_type": "text/plain", "data": "a;b\n1;ü"}
