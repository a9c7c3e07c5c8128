"""An answer that is cut, broken or reported as failed is an error, never an answer, and what was
released before is a beginning of it, once. What holds of every provider alike, the kit shows
(`test_conformance`); here are the answers to the byte, and what is ours alone."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.redaction import Redactor
from lorimer.core.request import Response, Usage
from lorimer.models import ProviderCredentials
from lorimer.models.wires.anthropic_answer import AnthropicAnswer
from lorimer.models.wires.chat_answer import ChatAnswer
from lorimer.models.wires.gemini_answer import GeminiAnswer
from lorimer.models.wires.responses_answer import ResponsesAnswer
from lorimer.models.wires.shared import exchange
from lorimer.testing.fake_server import FakeUsage, ToolCall, Turn, recorded_body
from lorimer.testing.faults import BrokenEvent, ErrorEvent, Fault
from tests.models.support import (
    MODEL,
    WIRES,
    Heard,
    NoWorld,
    Provider,
    Reply,
    Wire,
    ask,
    hear,
    models,
    request,
    spec,
    sse,
)

Code = ExecutorErrorCode
TURN = Turn(
    text=("One 🦄, ", "zwölf."),
    thinking=("Let me ", "think."),
    tool_calls=(ToolCall("c1", "read", {"p": "ü/a"}), ToolCall("c2", "ls")),
    usage=FakeUsage(20, 9, cache_read=4, cache_write=2),
)
CUT = httpx2.RemoteProtocolError("peer closed connection without sending complete message body")


def body(wire: Wire, *faults: Fault) -> bytes:
    turn = Turn(
        TURN.text,
        TURN.thinking,
        tool_calls=TURN.tool_calls,
        usage=TURN.usage,
        faults=faults,
    )
    return recorded_body(turn, wire, model=MODEL[wire])


def check_answer(answer: Response, wire: Wire) -> None:
    thinking, text, first, second = answer.content
    assert isinstance(thinking, ThinkingBlock)
    assert thinking.text == "Let me think."
    assert bool(thinking.signature) is (wire in ("anthropic", "responses"))
    origins = {"google": "google", "responses": "openai", "openai": "chat:openai"}
    assert thinking.origin == origins.get(wire, "")
    assert text == TextBlock("One 🦄, zwölf.")
    assert isinstance(first, ToolUse)
    assert bool(first.signature) is (wire == "google")
    assert first == ToolUse("c1", "read", {"p": "ü/a"}, signature=first.signature)
    assert second == ToolUse("c2", "ls", {})
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (20, 9)
    assert answer.usage.cache_read_input_tokens == 4


def check_beginning(heard: Heard) -> None:
    assert "One 🦄, zwölf.".startswith(heard.text)
    assert "Let me think.".startswith(heard.thinking)
    assert '{"p":"ü/a"}'.startswith(heard.arguments(0))
    assert "{}".startswith(heard.arguments(1))


ASSEMBLERS = {
    "anthropic": AnthropicAnswer,
    "openai": ChatAnswer,
    "responses": ResponsesAnswer,
    "google": GeminiAnswer,
}
TERMINATED: tuple[Wire, ...] = ("anthropic", "openai", "responses")
"""Wires with an event that ends the stream. Google's ends with its body."""


def free(usage: Usage, *, model: str = "") -> int:
    return 0


async def assemble(wire: Wire, response: httpx2.Response) -> Heard:
    """What becomes of a response, without the SDK that fetches it."""

    async def send() -> httpx2.Response:
        return response

    answer = ASSEMBLERS[wire](wire, ProviderCredentials())
    heard = Heard()
    try:
        async for item in exchange(wire, send, answer, free, streamed=True):
            heard.items.append(item)
    except APIError as error:
        heard.error = error
    return heard


@pytest.mark.parametrize("ending", ["clean", "reset"])
@pytest.mark.parametrize("wire", WIRES)
def test_cut_at_every_byte(wire: Wire, ending: str) -> None:
    whole = body(wire)
    tail = [] if ending == "clean" else [CUT]
    # how it ends makes no difference to the bytes before: there a third of them, all near its end
    near = max(0, len(whole) - 40)
    places = [at for at in range(len(whole)) if ending == "clean" or at % 3 == 0 or at >= near]
    provider = Provider(*[Reply([whole[:at], *tail]) for at in places])
    finished: list[int] = []

    async def go() -> None:
        for at in places:
            asked = httpx2.Request("POST", "http://fake.test")
            response = await provider.handle_async_request(asked)
            response.request = asked
            heard = await assemble(wire, response)
            check_beginning(heard)
            if heard.error is None:
                finished.append(at)
                check_answer(heard.answer, wire)
            else:
                assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE, at
                assert heard.error.code.is_recoverable
                assert not [item for item in heard.items if isinstance(item, Response)]

    asyncio.run(go())
    assert provider.closed == len(places)
    # A chat stream that ended properly, with the reason and the usage, lacks only its marker.
    marker = len(b"data: [DONE]\n\n") if wire == "openai" and ending == "clean" else 0
    assert finished == list(range(len(whole) - marker, len(whole)))


SAYS_NOTHING = {"openai": ('{"type":7}',), "google": ('{"type":7}', '{"choices":7}')}
"""Objects without anything that the wire knows: they are skipped."""
EVENTS = {wire: body(wire).count(b"\n\n") for wire in WIRES}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", Code.EXEC_API_SERVER_ERROR),
        ("rate_limit_error", Code.EXEC_API_RATE_LIMITED),
        ("invalid_request_error", Code.EXEC_API_BAD_REQUEST),
    ],
)
def test_an_error_event_at_every_position(wire: Wire, kind: str, code: Code) -> None:
    for after in range(EVENTS[wire] - 1):
        provider = Provider(Reply([body(wire, ErrorEvent(after, "Too much", kind))]))
        heard = ask(wire, provider)
        check_beginning(heard)
        assert heard.error is not None
        assert heard.error.code is code
        assert "Too much" in str(heard.error)


@pytest.mark.parametrize("data", [None, "null", "[]", '"x"', "{", '{"type":7}', '{"choices":7}'])
@pytest.mark.parametrize("wire", WIRES)
def test_a_broken_event_at_every_position(wire: Wire, data: str | None) -> None:
    # the last events carry no JSON that matters
    marks = {"anthropic": 1, "openai": 2, "responses": 0, "google": 0}
    for index in range(EVENTS[wire] - marks[wire]):
        heard = ask(wire, Provider(Reply([body(wire, BrokenEvent(index, data))])))
        if data in SAYS_NOTHING.get(wire, ()):
            continue
        check_beginning(heard)
        assert heard.error is not None
        assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE


@pytest.mark.parametrize("wire", ["anthropic", "responses"])
def test_a_stream_that_starts_again_is_no_answer(wire: Wire) -> None:
    whole = body(wire)
    half = whole[: whole.rindex(b"\n\n", 0, len(whole) // 2) + 2]
    heard = ask(wire, Provider(Reply([half, whole])))
    assert heard.error is not None
    assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE
    check_beginning(heard)


@pytest.mark.parametrize("wire", TERMINATED)
def test_nothing_after_the_end_counts(wire: Wire) -> None:
    whole = body(wire)
    heard = ask(wire, Provider(Reply([whole, whole])))
    check_answer(heard.answer, wire)
    assert heard.text == "One 🦄, zwölf."


@pytest.mark.parametrize("wire", TERMINATED)
def test_an_end_that_does_not_come_is_not_waited_for(wire: Wire) -> None:
    provider = Provider(Reply([body(wire), 3600.0]))
    check_answer(ask(wire, provider).answer, wire)
    assert provider.read_to_the_end == 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_client_that_somebody_closed_is_replaced(wire: Wire) -> None:
    provider = Provider(Reply([body(wire)]))
    world = NoWorld(provider)

    async def go() -> None:
        model = models(world).resolve(spec(wire, "m"))
        for _ in range(2):
            check_answer((await hear(model, request(wire), world)).answer, wire)
            await world.clients[-1].aclose()
        assert len(world.clients) == 2

    asyncio.run(go())


@pytest.mark.parametrize("wire", TERMINATED)
def test_a_connection_lost_after_the_end_does_no_harm(wire: Wire) -> None:
    check_answer(ask(wire, Provider(Reply([body(wire), CUT]))).answer, wire)


def test_a_stream_that_its_body_ends() -> None:
    whole = body("google")
    lost = ask("google", Provider(Reply([whole, CUT]))).error
    assert lost is not None
    assert lost.code is Code.EXEC_API_STREAM_INCOMPLETE
    assert lost.usage == Usage(20, 9, 0, 4)  # counted, though there is no answer
    reasons = whole.replace(b'"role":"model"}', b'"role":"model"},"finishReason":"STOP"')
    check_answer(ask("google", Provider(Reply([reasons]))).answer, "google")


# ---------------------------------------------------------------- in one piece


ONE: dict[str, object] = {
    "anthropic": {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [
            {"type": "thinking", "thinking": "Let me think.", "signature": "s=="},
            {"type": "text", "text": "One 🦄, zwölf."},
            {"type": "tool_use", "id": "c1", "name": "read", "input": {"p": "ü/a"}},
            {"type": "tool_use", "id": "c2", "name": "ls", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 20, "output_tokens": 9, "cache_read_input_tokens": 4},
    },
    "responses": {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5-2025-08-07",
        "status": "completed",
        "error": None,
        "output": [
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Let me think."}],
                "encrypted_content": "s==",
            },
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "One 🦄, zwölf.", "annotations": []}],
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "c1",
                "name": "read",
                "arguments": '{"p": "ü/a"}',
            },
            {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "ls", "arguments": ""},
        ],
        "usage": {
            "input_tokens": 24,
            "output_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
        },
    },
    "openai": {
        "id": "chatcmpl-1",
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "One 🦄, zwölf.",
                    "reasoning_content": "Let me think.",
                    "tool_calls": [
                        {"id": "c1", "function": {"name": "read", "arguments": '{"p": "ü/a"}'}},
                        {"id": "c2", "function": {"name": "ls", "arguments": ""}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 24,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    },
    "google": {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "Let me think.", "thought": True},
                        {"text": "One 🦄, zwölf."},
                        {
                            "functionCall": {"id": "c1", "name": "read", "args": {"p": "ü/a"}},
                            "thoughtSignature": "c2VhbA==",
                        },
                        {"functionCall": {"id": "c2", "name": "ls"}},
                    ],
                    "role": "model",
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 24,
            "candidatesTokenCount": 6,
            "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 4,
        },
    },
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_in_one_piece(wire: Wire, stream: bool) -> None:
    """Also where a stream was asked for and the server does not know how."""
    heard = ask(wire, Provider(Reply.of(ONE[wire])), request(wire, stream=stream))
    check_answer(heard.answer, wire)
    assert len(heard.items) == 1


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_web_page_is_told_from_an_answer(wire: Wire, stream: bool) -> None:
    """A wrong base URL often leads to one; only its label is no proof."""
    html = {"content-type": "text/html; charset=utf-8"}
    page = Provider(Reply([b"<html><p>data: of no use</html>"], headers=html))
    error = ask(wire, page, request(wire, stream=stream)).error
    assert error is not None
    assert error.code is Code.EXEC_API_STREAM_INCOMPLETE
    assert "is the base URL right?" in str(error)
    if stream:
        check_answer(ask(wire, Provider(Reply([body(wire)], headers=html))).answer, wire)


@pytest.mark.parametrize("wire", WIRES)
def test_one_piece_cut_at_every_byte(wire: Wire) -> None:
    whole = json.dumps(ONE[wire], ensure_ascii=False).encode()
    kind = {"content-type": "application/json"}
    provider = Provider(*[Reply([whole[:at]], headers=kind) for at in range(len(whole))])
    world = NoWorld(provider)

    async def go() -> None:
        resolver = models(world)
        model = resolver.resolve(spec(wire, "m"))
        for _ in range(len(whole)):
            heard = await hear(model, request(wire, stream=False), world)
            assert heard.error is not None
            assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE
        await resolver.aclose()

    asyncio.run(go())


def test_an_endless_body_in_one_piece_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorimer.models.wires.shared.MAX_BODY", 1000)
    provider = Provider(Reply([b" " * 600] * 10, headers={}))
    heard = ask("openai", provider, request("openai", stream=False))
    assert heard.error is not None
    assert "longer than 1000 bytes" in str(heard.error)
    assert provider.read_to_the_end == 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_failed_attempt_says_what_it_used(wire: Wire) -> None:
    whole = body(wire)
    heard = ask(wire, Provider(Reply([whole[: len(whole) * 2 // 3], CUT])))
    assert heard.error is not None
    if wire in ("anthropic", "google"):
        assert heard.error.usage is not None
        assert heard.error.usage.input_tokens == 20
        assert heard.usages[-1].usage == heard.error.usage
    else:
        assert heard.error.usage is None


def test_sse_helper() -> None:
    assert sse({"a": 1}, "[DONE]") == b'data: {"a": 1}\n\ndata: [DONE]\n\n'


def nested(levels: int) -> dict[str, object]:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return {"p": value}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("levels", [300, 600, 900])
def test_arguments_nested_so_deep_that_nobody_could_look_through_them(
    wire: Wire, levels: int
) -> None:
    turn = Turn(tool_calls=(ToolCall("c1", "read", nested(levels)),))
    heard = ask(wire, Provider(Reply((recorded_body(turn, wire, model=MODEL[wire]),))))
    if heard.error is not None:  # it was too much for the parser
        assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE
        return
    (call,) = heard.answer.tool_calls
    assert (call.input, len(call.raw) > 5 * levels) == ({}, True)
    answer = heard.answer.to_json()
    assert Redactor({"sk-0123456789": "KEY"}).json(answer) is answer


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_without_end_is_none(wire: Wire) -> None:
    # pings, so that the test is fast; an answer is as long when it is counted
    provider = Provider(Reply([b": " + b"x" * 1_000_000 + b"\n\n"] * 300))
    heard = ask(wire, provider)
    assert heard.error is not None
    assert heard.error.code is Code.EXEC_API_STREAM_INCOMPLETE
    assert "it is longer than 134217728 bytes" in str(heard.error)
    assert provider.read_to_the_end == 0
