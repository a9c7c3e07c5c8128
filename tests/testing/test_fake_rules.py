"""What the fake provider refuses, as its vendors do, and what it has to take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.testing.clients import FUNCTIONS, HELLO, TOOLS, claude, plain_client, playing


def good_history() -> list[Any]:
    return [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "weather", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "content": "ok"}],
        },
    ]


def edited(*path: Any, value: Any) -> dict[str, Any]:
    """A good body with one place changed; value ... removes it."""
    body: Any = {
        "model": "m",
        "max_tokens": 100,
        "stream": False,
        "tools": json.loads(json.dumps(TOOLS)),
        "messages": good_history(),
    }
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return body


CALL: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
PICTURE = {"type": "image", "source": {"type": "url", "url": "https://a.test/i.png"}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "ok"}
MARK = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (edited("model", value=...), "model: Field required"),
        (edited("max_tokens", value=...), "max_tokens: Field required"),
        (edited("max_tokens", value="9"), "max_tokens: Input should be a valid integer"),
        (edited("max_tokens", value=-1), "max_tokens: Input should be greater"),
        (edited("messages", value=...), "messages: Field required"),
        (edited("messages", value=[]), "messages: at least one message is required"),
        (edited("messages", value="hi"), "messages: Input should be a valid list"),
        (edited("messages", 0, value="hi"), "messages.0: Input should be an object"),
        (edited("messages", 0, "role", value="robot"), "messages.0.role"),
        (edited("messages", 0, "role", value="tool"), "messages.0.role"),
        (edited("messages", 0, "name", value="x"), "messages.0.name: Extra inputs"),
        (edited("messages", 0, "content", value=""), "non-empty content"),
        (edited("messages", 0, "content", value=None), "content: Input should be a valid list"),
        (edited("messages", 0, "content", value=["x"]), "content.0: Input should be an object"),
        (edited("messages", 0, "content", value=[{"type": "hm"}]), "Input tag 'hm'"),
        (
            edited("messages", 0, "content", value=[{"type": "text", "text": ""}]),
            "must be non-empty",
        ),
        (
            edited("messages", 0, "content", value=[{"type": "text", "text": " "}]),
            "non-whitespace",
        ),
        (
            edited("messages", 0, "content", value=[{"type": "text", "text": 1}]),
            "text.text: Input should be a valid string",
        ),
        (edited("messages", 0, "role", value="assistant"), "first message must use"),
        (edited("messages", value=good_history()[:2]), "messages.1: `tool_use` ids were found"),
        (
            edited("messages", 2, "content", value="done"),
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately",
        ),
        (
            edited("messages", 2, "content", value=[{"type": "text", "text": "x"}, RESULT]),
            "messages.1: `tool_use` ids were found",
        ),
        (
            edited("messages", 1, "content", value=[CALL, {**CALL, "id": "b"}]),
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after:"
            " b.",
        ),
        (edited("messages", 1, "content", value="no call"), "unexpected `tool_use_id`"),
        (edited("messages", 2, "content", 0, "tool_use_id", value="b"), "unexpected"),
        (
            edited("messages", 2, "content", 0, "tool_use_id", value=7),
            "tool_result.tool_use_id: Input should be a valid string",
        ),
        (edited("messages", 2, "content", value=[RESULT, RESULT]), "must have a single result"),
        (edited("messages", 1, "content", value=[CALL, CALL]), "ids must be unique"),
        (edited("messages", 1, "content", 0, "input", value="x"), "valid dictionary"),
        (edited("messages", 1, "content", 0, "input", value=...), "input: Field required"),
        (edited("messages", 1, "content", 0, "id", value="a b"), "should match pattern"),
        (edited("messages", 1, "content", 0, "raw", value="x"), "raw: Extra inputs"),
        (edited("messages", 0, "content", value=[CALL]), "can only be in `assistant`"),
        (edited("messages", 1, "content", value=[RESULT]), "can only be in `user`"),
        (
            edited("messages", 2, "content", value=[{**RESULT, "content": "", "is_error": True}]),
            "cannot be empty if `is_error`",
        ),
        (
            edited(
                "messages", 2, "content", value=[{**RESULT, "content": [PICTURE], "is_error": True}]
            ),
            "all content must be type `text` if `is_error` is true",
        ),
        (
            {**edited("model", value="claude-haiku-4-5"), "temperature": 0.5, "top_p": 0.9},
            "cannot both be specified",
        ),
        (edited("stop_sequences", value=["x", "\n"]), "must contain non-whitespace"),
        (
            edited("messages", value=[*good_history(), {"role": "assistant", "content": "So "}]),
            "trailing whitespace",
        ),
        (edited("messages", 0, "content", value=[MARK] * 5), "maximum of 4 blocks"),
        (edited("tools", 0, "name", value="clock"), "Tool names must be unique"),
        (edited("tools", 0, "name", value="a.b"), "tools.0.custom.name"),
        (edited("tools", 0, "input_schema", value=...), "input_schema: Field required"),
        (edited("tools", 0, "input_schema", value={}), "input_schema.type"),
        (edited("tool_choice", value={"type": "tool", "name": "x"}), "Tool 'x' not found"),
        (
            {**edited("tools", value=...), "tool_choice": {"type": "any"}},
            "only be specified while providing tools",
        ),
        (edited("max_completion_tokens", value=5), "Extra inputs are not permitted"),
        (edited("thinking", value={"type": "on"}), "Input tag 'on'"),
        (edited("thinking", value={"type": "enabled"}), "budget_tokens: Field required"),
        (edited("thinking", value={"type": "enabled", "budget_tokens": 9}), "equal to 1024"),
        (
            edited("thinking", value={"type": "enabled", "budget_tokens": 1024}),
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        (
            {
                **edited("thinking", value={"type": "enabled", "budget_tokens": 1024}),
                "max_tokens": 1024,
            },
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        ({**edited("thinking", value={"type": "adaptive"}), "temperature": 0.5}, "temperature"),
        ({**edited("thinking", value={"type": "adaptive"}), "top_k": 5}, "top_k"),
        (
            {**edited("thinking", value={"type": "adaptive"}), "tool_choice": {"type": "any"}},
            "forces tool use",
        ),
    ],
)
def test_anthropic_refuses(body: Mapping[str, Any], complaint: str) -> None:
    with playing(HELLO) as server, plain_client() as client:
        response = client.post(
            f"{server.url}/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"}
        )
        assert server.turns_played == 0
        assert len(server.requests) == 1
    answer: Any = response.json()
    assert (response.status_code, answer["type"]) == (400, "error")
    assert answer["error"]["type"] == "invalid_request_error"
    assert complaint in answer["error"]["message"]
    assert answer["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    "body",
    [
        edited("stream", value=False),
        edited("max_tokens", value=0),
        edited("thinking", value={"type": "disabled"}),
        edited("messages", 0, "content", value=[MARK] * 4),
        edited("messages", 2, "content", value=[RESULT, {"type": "text", "text": "and?"}]),
        edited("messages", 2, "content", 0, "content", value=[{"type": "text", "text": "ok"}]),
        edited("messages", value=[*good_history(), {"role": "assistant", "content": []}]),
        edited("messages", value=[*good_history(), {"role": "system", "content": "Be brief."}]),
        edited("messages", 0, "content", value=[{"type": "container_upload", "file_id": "f"}]),
        edited("tools", value=[{"type": "bash_20250124", "name": "bash"}]),
    ],
)
def test_anthropic_accepts(body: Mapping[str, Any]) -> None:
    with playing(HELLO) as server, plain_client() as client:
        response = client.post(
            f"{server.url}/v1/messages?beta=true",
            json=body,
            headers={"anthropic-version": "2023-06-01"},
        )
    assert response.status_code == 200, response.text


def test_anthropic_wants_its_version_header() -> None:
    with playing() as server, plain_client() as client:
        response = client.post(f"{server.url}/v1/messages", json={})
    assert response.status_code == 400
    assert "anthropic-version" in response.text


def test_a_large_thinking_budget_is_fine_with_interleaved_thinking() -> None:
    with playing(HELLO) as server:
        claude(
            server,
            thinking={"type": "enabled", "budget_tokens": 5000},
            extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14"},
        )


FUNCTION_CALL: dict[str, Any] = {
    "id": "a",
    "type": "function",
    "function": {"name": "weather", "arguments": "{}"},
}
OTHER_CALL = {**FUNCTION_CALL, "id": "b"}


def openai_history() -> list[Any]:
    call = json.loads(json.dumps(FUNCTION_CALL))
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
    ]


def openai_edited(*path: Any, value: Any) -> dict[str, Any]:
    body: Any = {"model": "m", "tools": json.loads(json.dumps(FUNCTIONS))}
    body["messages"] = openai_history()
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return body


@pytest.mark.parametrize(
    ("body", "complaint", "code"),
    [
        (openai_edited("model", value=...), "must provide a model", "invalid_value"),
        (openai_edited("messages", value=...), "'messages'", "missing_required_parameter"),
        (openai_edited("messages", value=[]), "Invalid 'messages': empty array", "empty_array"),
        (openai_edited("messages", value="x"), "expected an array", "invalid_type"),
        (openai_edited("messages", 0, value="x"), "'messages[0]'", "invalid_type"),
        (openai_edited("messages", 0, "role", value="robot"), "'robot'", "invalid_value"),
        (openai_edited("messages", 0, "content", value=None), "got null", "invalid_value"),
        (openai_edited("messages", 0, "content", value=[]), "empty array", "empty_array"),
        (openai_edited("messages", 0, "content", value=[{}]), "content[0].type", "invalid_type"),
        (
            openai_edited("messages", value=openai_history()[::2]),
            "messages with role 'tool' must be a response",
            "invalid_value",
        ),
        (
            openai_edited("messages", value=openai_history()[:2]),
            "did not have response messages: a",
            "invalid_value",
        ),
        (
            openai_edited("messages", 2, value={"role": "user", "content": "well?"}),
            "did not have response messages: a",
            "invalid_value",
        ),
        (
            openai_edited("messages", 1, "tool_calls", value=[FUNCTION_CALL, OTHER_CALL]),
            "did not have response messages: b",
            "invalid_value",
        ),
        (
            openai_edited("messages", 2, "tool_call_id", value="b"),
            "'tool_call_id' of 'b' not found",
            "invalid_value",
        ),
        (openai_edited("messages", 2, "tool_call_id", value=...), "tool_call_id", "invalid_type"),
        (openai_edited("messages", 1, "tool_calls", value=[]), "tool_calls", "empty_array"),
        (
            openai_edited("messages", 1, "tool_calls", 0, "function", "arguments", value={}),
            "function.arguments",
            "invalid_type",
        ),
        (
            openai_edited("messages", 1, "tool_calls", 0, "function", "name", value="a b"),
            "function.name",
            "invalid_value",
        ),
        (
            openai_edited("messages", 1, "tool_calls", 0, "type", value=None),
            "Invalid value",
            "invalid_value",
        ),
        (openai_edited("tools", 0, "function", value=...), "tools[0].function", "invalid_type"),
        (openai_edited("tools", 0, "type", value="x"), "Invalid value: 'x'", "invalid_value"),
        (openai_edited("tools", value=[]), "Invalid 'tools': empty array", "empty_array"),
        (
            {**openai_edited("tools", value=...), "tool_choice": "auto"},
            "only allowed when 'tools'",
            "invalid_value",
        ),
        (openai_edited("stream_options", value={}), "only allowed when 'stream'", "invalid_value"),
        (openai_edited("max_tokens", value=0), "'max_tokens'", "integer_below_min_value"),
        (
            {**openai_edited("max_tokens", value=1), "max_completion_tokens": 1},
            "at the same time",
            "invalid_parameter_combination",
        ),
    ],
)
def test_openai_refuses(body: Mapping[str, Any], complaint: str, code: str) -> None:
    with playing(HELLO) as server, plain_client() as client:
        response = client.post(f"{server.openai_url}/chat/completions", json=body)
        assert server.turns_played == 0
    error: Any = response.json()["error"]
    assert response.status_code == 400
    assert complaint in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize(
    "body",
    [
        openai_edited("n", value=1),
        openai_edited("messages", 0, "role", value="developer"),
        openai_edited("messages", value=[*openai_history(), {"role": "assistant", "content": "x"}]),
        openai_edited("tools", 0, value={"type": "custom", "custom": {"name": "grep"}}),
        openai_edited("messages", 0, "content", value=[{"type": "text", "text": "hi"}]),
        openai_edited("chat_template_kwargs", value={"thinking": True}),
        openai_edited("messages", 1, "tool_calls", 0, value={"id": "a", "type": "custom"}),
    ],
)
def test_openai_accepts(body: Mapping[str, Any]) -> None:
    with playing(HELLO) as server, plain_client() as client:
        response = client.post(f"{server.openai_url}/chat/completions", json=body)
    assert response.status_code == 200, response.text
