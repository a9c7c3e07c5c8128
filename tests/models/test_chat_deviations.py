"""Answers of servers with OpenAI's chat API that differ from OpenAI's: usage, calls, errors."""

# ruff: noqa: E501 - what servers say stands here as they say it

from __future__ import annotations

import json

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.request import StopReason, Usage
from tests.models.support import Heard, Provider, Reply, ask, sse

Code = ExecutorErrorCode


def chunk(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"id": "c", "model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


def hear(*events: object) -> Heard:
    return ask("openai", Provider(Reply([sse(*events, "[DONE]")])))


def usage(**counts: object) -> dict[str, object]:
    return {"choices": [], "usage": counts}


TEXT = chunk("stop", content="ok")


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        # xAI, and gateways to Gemini: thoughts are apart from the completion
        ([usage(prompt_tokens=37, completion_tokens=5, total_tokens=275,
                completion_tokens_details={"reasoning_tokens": 233})], Usage(37, 238, 0, 0, 233)),
        ([usage(prompt_tokens=21, completion_tokens=0, total_tokens=81,
                completion_tokens_details={"reasoning_tokens": 60})], Usage(21, 60, 0, 0, 60)),
        # Google: they are in the total alone
        ([usage(prompt_tokens=20, completion_tokens=151, total_tokens=553)], Usage(20, 533, 0, 0, 382)),
        # the usual: they are part of the completion
        ([usage(prompt_tokens=20, completion_tokens=151, total_tokens=171,
                completion_tokens_details={"reasoning_tokens": 100})], Usage(20, 151, 0, 0, 100)),
        # a prompt that was counted without what was cached
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=125,
                prompt_tokens_details={"cached_tokens": 100})], Usage(0, 5, 0, 100)),
        # a total that is missing or cannot be
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=None)], Usage(20, 5)),
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=7)], Usage(20, 5)),
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=10**18)], Usage(20, 5)),
        # DeepSeek's and Kimi's own fields for what was cached
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=25,
                prompt_cache_hit_tokens=16, prompt_cache_miss_tokens=4)], Usage(4, 5, 0, 16)),
        ([usage(prompt_tokens=20, completion_tokens=5, total_tokens=25, cached_tokens=16)],
         Usage(4, 5, 0, 16)),
        # with zeros after it
        ([usage(prompt_tokens=20, completion_tokens=5), usage(prompt_tokens=0, completion_tokens=0)],
         Usage(20, 5)),
    ],
    ids=range(11),
)  # fmt: skip
def test_all_tokens_are_counted(told: list[object], counted: Usage) -> None:
    heard = hear(TEXT, *told)
    assert heard.answer.usage == counted
    assert heard.usages[-1].usage == counted
    assert "usage_estimated" not in heard.answer.extra


def test_usage_in_a_choice() -> None:
    """Where Kimi has it."""
    counts = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "cached_tokens": 4,
              "prompt_tokens_details": {"cached_tokens": 4}}  # fmt: skip
    last = {"choices": [{"delta": {}, "finish_reason": "stop", "usage": counts}]}
    assert hear(chunk(content="ok"), last).answer.usage == Usage(5, 2, 0, 4)


def test_the_cost_that_a_gateway_tells_is_kept() -> None:
    """OpenRouter's; what a run is charged is the table's price."""
    heard = hear(TEXT, usage(prompt_tokens=9, completion_tokens=2, cost=0.0125))
    assert heard.answer.extra["total_cost_usd"] == 0.0125
    assert "total_cost_usd" not in hear(TEXT, usage(prompt_tokens=9, cost="0.1")).answer.extra


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("STOP", StopReason.END_TURN),
        ("MAX_TOKENS", StopReason.MAX_TOKENS),
        ("SAFETY", StopReason.REFUSAL),
        ("sensitive", StopReason.REFUSAL),
        ("model_length", StopReason.CONTEXT_OVERFLOW),
        ("model_context_window_exceeded", StopReason.CONTEXT_OVERFLOW),
    ],
)
def test_other_words_for_an_end(word: str, stop: StopReason) -> None:
    assert hear(chunk(word, content="x"), usage(prompt_tokens=1)).answer.stop is stop


@pytest.mark.parametrize(
    "word",
    [
        "insufficient_system_resource",
        "network_error",
        "function_call_filter: MALFORMED_FUNCTION_CALL",
    ],
)
def test_an_answer_that_a_server_gave_up_is_none(word: str) -> None:
    error = hear(chunk(content="I beg"), chunk(word), usage(prompt_tokens=1)).error
    assert error is not None
    assert error.code is Code.EXEC_API_SERVER_ERROR
    assert word in str(error)


@pytest.mark.parametrize("times", [2, 3])
def test_arguments_that_are_sent_again_as_a_whole(times: int) -> None:
    """Gateways that translate from another wire, and local servers with GLM."""
    text = '{"path": "a}{b", "n": [1]}'
    pieces = [("c", "f", text[:9]), ("c", None, text[9:]), *[("c", None, text)] * (times - 1)]
    [call] = hear(*[piece(*each) for each in pieces], chunk("tool_calls")).answer.tool_calls
    assert (call.input, call.raw) == ({"path": "a}{b", "n": [1]}, "")
    [other] = hear(piece("c", "f", '{"n": 1}{"n": 2}'), chunk("tool_calls")).answer.tool_calls
    assert (other.input, other.raw) == ({}, '{"n": 1}{"n": 2}')


@pytest.mark.parametrize("streamed", [True, False])
def test_why_a_gateway_gave_an_answer_up_is_told(streamed: bool) -> None:
    """OpenRouter: once it has begun to answer, the provider's error is in the choice."""
    why = {"code": 400, "message": "prompt is too long: 200001 tokens > 200000 maximum"}
    end = {"index": 0, "finish_reason": "error", "error": why}
    whole = {"choices": [{**end, "message": {"role": "assistant", "content": ""}}]}
    body = sse(chunk(content="x"), {"choices": [{**end, "delta": {}}]}, "[DONE]")
    error = ask("openai", Provider(Reply([body]) if streamed else Reply.of(whole))).error
    assert error is not None
    assert error.code is Code.EXEC_API_TOKEN_LIMIT
    assert "200001 tokens" in str(error)


def piece(id: str, name: str | None, text: str) -> dict[str, object]:
    """A part of a call of a server that does not count its calls."""
    return chunk(tool_calls=[{"id": id, "function": {"name": name, "arguments": text}}])


@pytest.mark.parametrize(
    "pieces",
    [
        # by turns, told apart by the ids alone
        [("a", "f", ""), ("b", "g", ""), ("a", None, '{"x":'), ("b", None, '{"y":'),
         ("b", None, "2}"), ("a", None, "1}")],
        # the name with every piece
        [("a", "f", '{"x":'), ("a", "f", "1}"), ("b", "g", '{"y":'), ("b", "g", "2}")],
    ],
    ids=range(2),
)  # fmt: skip
def test_calls_without_an_index(pieces: list[tuple[str, str | None, str]]) -> None:
    heard = hear(*[piece(*one) for one in pieces], chunk("tool_calls"), usage(prompt_tokens=1))
    calls = [(call.id, call.name, call.input) for call in heard.answer.tool_calls]
    assert calls == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]
    assert [json.loads(heard.arguments(at)) for at in (0, 1)] == [{"x": 1}, {"y": 2}]


def test_calls_of_a_message_are_as_many_as_it_holds() -> None:
    """Whatever their ids and numbers are."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    choice = {"message": {"tool_calls": [call, call]}, "finish_reason": "tool_calls"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    heard = ask("openai", Provider(Reply.of(body)))
    assert [call.name for call in heard.answer.tool_calls] == ["f", "f"]


def behind(raw: object) -> dict[str, object]:
    """As OpenRouter passes on what the provider behind it said."""
    metadata = {"raw": raw, "provider_name": "X"}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}}


REFUSALS = [
    # the reason is what the provider behind a gateway said
    (400, behind('{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum"}}'),
     Code.EXEC_API_TOKEN_LIMIT, "Provider returned error: prompt is too long"),
    (400, behind({"message": "Bad schema"}), Code.EXEC_API_BAD_REQUEST, "error: Bad schema"),
    (429, behind("Slow down"), Code.EXEC_API_RATE_LIMITED, "error: Slow down"),
    (502, behind("<html>gone</html>"), Code.EXEC_API_SERVER_ERROR, "Provider returned error"),
    # filters
    (400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "code": "content_filter", "status": 400}},
     Code.EXEC_API_REFUSED, "filtered"),
    (403, {"error": {"message": "m requires moderation on X. Your input was flagged for \"violence\".", "code": 403}},
     Code.EXEC_API_REFUSED, "flagged"),
    (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, Code.EXEC_API_REFUSED, "Risk"),
    # Groq: the model's mistake, not the request's
    (400, {"error": {"message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": "<function=f>"}},
     Code.EXEC_API_SERVER_ERROR, "Failed to call"),
    # what waiting does not cure
    (429, {"error": {"message": "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000. The input or output tokens must be reduced in order to run successfully.", "type": "tokens", "code": "rate_limit_exceeded"}},
     Code.EXEC_API_TOKEN_LIMIT, "Request too large"),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}},
     Code.EXEC_API_TERMINAL, "Insufficient"),
    (429, {"error": {"message": "check your plan and billing details", "type": "exceeded_current_quota_error"}},
     Code.EXEC_API_TERMINAL, "plan"),
    # what it does
    (400, {"message": "Too many tokens, please wait before trying again."}, Code.EXEC_API_BAD_REQUEST, "wait"),
    # too long
    (400, {"error": {"message": "Invalid request: Your request exceeded model token limit: 262144 (requested: 271430)"}}, Code.EXEC_API_TOKEN_LIMIT, "262144"),
    (400, {"code": "x", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}, Code.EXEC_API_TOKEN_LIMIT, "131072"),
    (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, Code.EXEC_API_TOKEN_LIMIT, "max length"),
    (400, {"error": {"message": "Range of input length should be [1, 129024]"}}, Code.EXEC_API_TOKEN_LIMIT, "129024"),
    (400, {"error": {"message": "prompt token count of 140000 exceeds the limit of 128000"}}, Code.EXEC_API_TOKEN_LIMIT, "128000"),
    (422, {"error": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097."}}, Code.EXEC_API_TOKEN_LIMIT, "4097"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code", "told"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_a_refusal_means(status: int, body: object, code: Code, told: str) -> None:
    error = ask("openai", Provider(Reply.of(body, status))).error
    assert error is not None
    assert error.code is code
    assert told in str(error)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 2.3s. Visit", 2.3),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 7m12s.", 432),
        ("Please try again in 2m.", 120),
        ("Please retry in 35.5s.", 35.5),
        ("try again in a while", None),
        ("Please try again in 99m.", None),
        ("try again in 3 days", None),
    ],
)
def test_a_delay_in_words(words: str, seconds: float | None) -> None:
    """Gateways drop the header, and pass on the message."""
    body = {"error": {"message": f"Rate limit reached. {words}"}}
    error = ask("openai", Provider(Reply.of(body, 429))).error
    assert error is not None
    assert error.retry_after_s == seconds
    told = ask("openai", Provider(Reply.of(body, 429, retry_after="4"))).error
    assert told is not None
    assert told.retry_after_s == 4


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "message": "no channel is free"},
        {"code": 1113, "msg": "no channel is free"},
    ],
    ids=range(2),
)
def test_an_error_of_a_gateway_with_status_200(body: object) -> None:
    error = ask("openai", Provider(Reply.of(body))).error
    assert error is not None
    assert error.code is Code.EXEC_API_SERVER_ERROR
    assert "no channel is free" in str(error)


def test_what_an_answer_without_choices_cost_is_counted() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
    error = ask("openai", Provider(Reply.of(body))).error
    assert error is not None
    assert error.usage == Usage(7, 1)
