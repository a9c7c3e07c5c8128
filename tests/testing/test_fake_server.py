"""The fake provider, through the vendors' SDKs and byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any

import httpx2
import pytest

from lorimer.testing.fake_server import (
    FakeLLMServer,
    FakeUsage,
    SeenRequest,
    ToolCall,
    Turn,
    recorded_body,
)
from lorimer.testing.fake_turn import Wire
from lorimer.testing.faults import BrokenEvent, ContextOverflow, Hang, Pings, Status
from tests.sdks import anthropic, openai
from tests.testing.clients import (
    CALLS,
    HELLO,
    TOOLS,
    WIRES,
    address,
    claude,
    faulty,
    gpt,
    gpt_chunks,
    plain_client,
    playing,
    post,
    raw_request,
    wire_request,
)

# ---------------------------------------------------------------- Anthropic


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic_text_and_usage(stream: bool) -> None:
    usage = FakeUsage(11, 7, cache_read=100, cache_write=20, reasoning=3)
    with playing(Turn(text="Hello, wörld", usage=usage)) as server:
        message = claude(server, stream=stream, model="claude-x")
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hello, wörld"}
    ]
    assert (message.model, message.stop_reason) == ("claude-x", "end_turn")
    assert message.usage.input_tokens == 11
    assert message.usage.output_tokens == 7
    assert message.usage.cache_read_input_tokens == 100
    assert message.usage.cache_creation_input_tokens == 20
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 3


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic_parallel_tools_and_thinking_go_round(stream: bool) -> None:
    first = Turn(
        thinking=("Let me ", "see."), tool_calls=CALLS.tool_calls, redacted_thinking="opaque"
    )
    with playing(first, Turn(text="Sunny.")) as server:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        options: dict[str, Any] = {
            "max_tokens": 2000,
            "thinking": thinking,
            "tools": TOOLS,
            "stream": stream,
        }
        answer = claude(server, **options)
        assert [block.type for block in answer.content] == [
            "thinking",
            "redacted_thinking",
            "tool_use",
            "tool_use",
        ]
        thought = answer.content[0]
        assert isinstance(thought, anthropic.types.ThinkingBlock)
        assert thought.thinking == "Let me see."
        assert thought.signature
        calls = [
            block for block in answer.content if isinstance(block, anthropic.types.ToolUseBlock)
        ]
        assert [(call.id, call.name, call.input) for call in calls] == [
            ("call_1", "weather", {"city": "Zürich", "days": 3}),
            ("call_2", "clock", {}),
        ]
        assert answer.stop_reason == "tool_use"
        history: list[Any] = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [block.to_dict() for block in answer.content]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": call.id, "content": "ok"}
                    for call in calls
                ],
            },
        ]
        assert claude(server, **options, messages=history).stop_reason == "end_turn"
        for change, complaint in (
            ({"thinking": "Let me lie."}, "messages.1.content.0: Invalid `signature`"),
            ({"signature": "forged"}, "messages.1.content.0: Invalid `signature`"),
        ):
            changed = json.loads(json.dumps(history))
            changed[1]["content"][0] |= change
            with pytest.raises(anthropic.BadRequestError, match=complaint):
                claude(server, **options, messages=changed)
        changed = json.loads(json.dumps(history))
        del changed[1]["content"][0]["signature"]
        with pytest.raises(anthropic.BadRequestError, match="thinking.signature: Field required"):
            claude(server, **options, messages=changed)
        changed = json.loads(json.dumps(history))
        del changed[1]["content"][:2]
        with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
            claude(server, **options, messages=changed)
        assert server.turns_played == 2


def test_a_thinking_signature_made_by_another_server_is_known() -> None:
    with playing(Turn(thinking="Hm.", text="yes")) as server:
        content = [block.to_dict() for block in claude(server).content]
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "more"},
    ]
    with playing(HELLO) as server:
        assert claude(server, messages=history).stop_reason == "end_turn"


def test_the_anthropic_stream_is_written_as_the_vendor_writes_it() -> None:
    turn = Turn(
        text=("a", "b"), thinking="t", signature="s", tool_calls=(ToolCall("c", "f", {"x": 1}),)
    )
    lines = recorded_body(turn, "anthropic").decode().split("\n")
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data: list[Any] = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in data]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert names == [
        *("message_start", "ping"),
        *(block[0], block[1], block[1], block[2]),
        *(block[0], block[1], block[1], block[2]),
        *(block[0], block[1], block[1], block[1], block[2]),
        *("message_delta", "message_stop"),
    ]
    assert [event["delta"]["type"] for event in data if event["type"] == block[1]] == [
        *("thinking_delta", "signature_delta", "text_delta", "text_delta"),
        *("input_json_delta",) * 3,
    ]
    assert data[0]["message"]["usage"]["output_tokens"] == 1
    assert data[-2]["delta"]["stop_reason"] == "tool_use"
    assert data[-2]["usage"]["output_tokens"] == 5


@pytest.mark.parametrize(
    ("stop", "anthropics", "openais"),
    [
        ("max_tokens", "max_tokens", "length"),
        ("stop_sequence", "stop_sequence", "stop"),
        ("refusal", "refusal", "content_filter"),
        ("pause", "pause_turn", "stop"),
        ("context_overflow", "model_context_window_exceeded", "length"),
        ("new_reason", "new_reason", "new_reason"),
    ],
)
def test_stop_reasons(stop: str, anthropics: str, openais: str) -> None:
    turn = Turn(text="x", stop=stop)
    with playing(turn, turn) as server:
        answer = claude(server, stop_sequences=["END"])
        assert answer.stop_reason == anthropics
        assert answer.stop_sequence == ("END" if stop == "stop_sequence" else None)
        assert gpt(server).choices[0].finish_reason == openais


def test_an_empty_answer_and_an_answer_without_usage() -> None:
    with playing(Turn(usage=None), Turn(usage=None)) as server:
        answer: Any = post(server, "anthropic", stream=False).json()
        assert answer["content"] == []
        assert "usage" not in answer
        assert b"usage" not in post(server, "anthropic").content
    assert json.loads(recorded_body(Turn(usage=None), "openai").split(b"\n\n")[-3][6:])["choices"]


# ---------------------------------------------------------------- OpenAI


def test_openai_answers_whole() -> None:
    usage = FakeUsage(11, 7, cache_read=100, cache_write=20, reasoning=3)
    turn = Turn("Looking.", thinking="Hm.", tool_calls=CALLS.tool_calls, usage=usage, model="other")
    with playing(turn) as server:
        answer = gpt(server)
    message = answer.choices[0].message
    assert (answer.model, message.content) == ("other", "Looking.")
    assert message.to_dict()["reasoning"] == "Hm."
    calls: Any = message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "weather", '{"city":"Zürich","days":3}'),
        ("call_2", "clock", "{}"),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (131, 138)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 100
    assert answer.usage.prompt_tokens_details.cache_write_tokens == 20
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


def test_openai_streams() -> None:
    turn = Turn(("Look", "ing."), thinking="Hm.", tool_calls=CALLS.tool_calls)
    with playing(turn, turn, reasoning_field="reasoning_content") as server:
        chunks = gpt_chunks(server)
        plain = gpt_chunks(server, stream_options=None)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    assert all(chunk.usage is None for chunk in [*chunks[:-1], *plain])
    assert [chunk.choices for chunk in chunks[:-1]] == [chunk.choices for chunk in plain]
    deltas = [chunk.choices[0].delta for chunk in plain]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas if delta.content] == ["Look", "ing."]
    reasoning: list[Any] = [delta.to_dict().get("reasoning_content") for delta in deltas]
    assert "".join(filter(None, reasoning)) == "Hm."
    names: dict[int, tuple[str | None, str | None]] = {}
    arguments = ["", ""]
    for delta in deltas:
        for call in delta.tool_calls or []:
            assert call.function is not None
            if call.id:
                names[call.index] = (call.id, call.function.name)
            arguments[call.index] += call.function.arguments or ""
    assert names == {0: ("call_1", "weather"), 1: ("call_2", "clock")}
    assert [json.loads(text) for text in arguments] == [{"city": "Zürich", "days": 3}, {}]
    assert [chunk.choices[0].finish_reason for chunk in plain[-2:]] == [None, "tool_calls"]
    assert recorded_body(turn, "openai").endswith(b"\n\ndata: [DONE]\n\n")


def test_arguments_that_are_no_object_go_out_as_they_are() -> None:
    turn = Turn(tool_calls=(ToolCall("a", "f", raw='{"x": 1, "y'),), stop="max_tokens")
    array = Turn(tool_calls=(ToolCall("a", "f", {"x": 2}, raw="[1]"),))
    with playing(turn, turn, array, turn) as server:
        calls: Any = gpt(server).choices[0].message.tool_calls
        assert calls[0].function.arguments == '{"x": 1, "y'
        pieces = [
            json.loads(line[6:])["delta"]["partial_json"]
            for line in post(server, "anthropic").text.splitlines()
            if line.startswith("data: ") and "partial_json" in line
        ]
        assert "".join(pieces) == '{"x": 1, "y'
        answer: Any = post(server, "anthropic", stream=False).json()
        assert answer["content"][0]["input"] == [1]
        answer = post(server, "anthropic", stream=False).json()
        assert answer["content"][0]["input"] == {}


# ---------------------------------------------------------------- errors, keys, script


@pytest.mark.parametrize(
    ("status", "anthropics", "openais", "type"),
    [
        (400, "BadRequestError", "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "AuthenticationError", "authentication_error"),
        (403, "PermissionDeniedError", "PermissionDeniedError", "permission_error"),
        (404, "NotFoundError", "NotFoundError", "not_found_error"),
        (413, "ContentTooLargeError", "APIStatusError", "request_too_large"),
        (429, "RateLimitError", "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "InternalServerError", "api_error"),
        (503, "ServiceUnavailableError", "InternalServerError", "api_error"),
        (504, "GatewayTimeoutError", "InternalServerError", "timeout_error"),
        (529, "OverloadedError", "InternalServerError", "overloaded_error"),
    ],
)
def test_each_status_is_the_sdks_own_error(
    status: int,
    anthropics: str,
    openais: str,
    type: str,
) -> None:
    turn = faulty(Status(status, "no", {"Retry-After": "-1", "retry-after-ms": "1e9"}))
    with playing(turn, turn) as server:
        with pytest.raises(getattr(anthropic, anthropics)) as caught:
            claude(server)
        with pytest.raises(getattr(openai, openais)) as caught_too:
            gpt(server)
    assert (caught.value.status_code, caught.value.type) == (status, type)
    assert caught.value.api_message == "no"
    assert caught.value.request_id == "req_fake0000000000000001"
    assert caught.value.response.headers["retry-after"] == "-1"
    assert caught.value.response.headers["retry-after-ms"] == "1e9"
    assert caught_too.value.status_code == status
    assert "no" in caught_too.value.message
    assert caught_too.value.request_id == "req_fake0000000000000002"


def test_a_status_with_a_body_of_its_own() -> None:
    page = Status(502, body=b"<html>bad gateway</html>", headers={"content-type": "text/html"})
    quota = Status(429, kind="insufficient_quota", code="insufficient_quota")
    with playing(faulty(page), faulty(quota)) as server:
        response = post(server, "openai")
        assert (response.status_code, response.text) == (502, "<html>bad gateway</html>")
        assert response.headers["content-type"] == "text/html"
        with pytest.raises(openai.RateLimitError) as caught:
            gpt(server)
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")


def test_context_overflow_as_each_vendor_says_it() -> None:
    turn = faulty(ContextOverflow(tokens=9, limit=8))
    with playing(turn, turn) as server:
        with pytest.raises(anthropic.BadRequestError, match="too long: 9 tokens > 8 maximum"):
            claude(server)
        with pytest.raises(openai.BadRequestError) as caught:
            gpt(server)
    assert caught.value.code == "context_length_exceeded"


def test_only_the_right_key_in_either_header() -> None:
    with playing(HELLO, HELLO, HELLO, api_key="key") as server:
        claude(server)
        gpt(server)
        path, body, headers = wire_request("anthropic")
        with plain_client() as client:
            assert client.post(server.url + path, json=body, headers=headers).status_code == 401
            right = client.post(
                server.url + path, json=body, headers={**headers, "x-api-key": "key"}
            )
            assert right.status_code == 200
    with playing(api_key="other") as server:
        with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
            claude(server)
        with pytest.raises(openai.AuthenticationError) as caught:
            gpt(server)
        assert caught.value.code == "invalid_api_key"
        assert [request.api_key for request in server.requests] == ["key", "key"]


def test_requests_are_recorded_and_a_function_can_answer_them() -> None:
    def answer(request: SeenRequest) -> Turn:
        return Turn(text=f"{request.number} {request.wire} {request.model} {request.stream}")

    with FakeLLMServer(answer) as server:
        assert claude(server).content[0].to_dict()["text"] == "1 anthropic m True"
        assert gpt(server).choices[0].message.content == "2 openai m False"
        seen = server.requests[0]
        assert (seen.path, seen.body["max_tokens"]) == ("/v1/messages", 100)
        assert seen.headers["anthropic-version"]


def test_an_exhausted_script_says_so() -> None:
    with playing(HELLO) as server:
        claude(server)
        with pytest.raises(anthropic.InternalServerError, match="exhausted: it has 1 turns"):
            claude(server)


def test_what_a_script_raises_comes_out_of_close() -> None:
    def answer(request: SeenRequest) -> Turn:
        raise LookupError(request.model)

    server = FakeLLMServer(answer).start()
    with pytest.raises(anthropic.InternalServerError, match="The script failed"):
        claude(server)
    with pytest.raises(LookupError, match="m"):
        server.close()
    broken = FakeLLMServer([faulty(BrokenEvent(99))]).start()
    assert post(broken, "openai").status_code == 500
    with pytest.raises(IndexError):
        broken.close()


def test_what_the_body_raises_comes_before_what_the_script_raises() -> None:
    def body() -> None:
        with playing(faulty(BrokenEvent(99))) as server:
            post(server, "openai")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


def test_what_is_not_on_the_menu() -> None:
    with playing() as server, plain_client() as client:
        assert client.post(f"{server.url}/v1/completions", json={}).json()["error"]["code"]
        vendor = {"anthropic-version": "x"}
        unknown = client.get(f"{server.url}/v1/models", headers=vendor)
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
        assert client.head(f"{server.url}/api/hello").status_code == 404
        assert client.get(f"{server.url}/v1/messages").status_code == 405
        for broken in (b"{", b"[]", b'{"a":NaN}', b"\xff"):
            assert client.post(f"{server.url}/v1/messages", content=broken).status_code == 400
        chunked = client.post(f"{server.url}/v1/messages", content=iter([b"{}"]))
        assert chunked.status_code == 411
        large = client.post(f"{server.url}/v1/messages", content=b" " * 33_554_433)
        assert large.status_code == 413
        long = client.get(f"{server.url}/", headers={"x": "y" * 70_000})
        assert long.status_code == 431
        assert server.requests == []


@pytest.mark.parametrize(
    "text", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\r\n\r\n"]
)
def test_what_is_not_http(text: bytes) -> None:
    with playing() as server, socket.create_connection(address(server), 5) as raw:
        raw.sendall(text)
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
    with playing() as server, socket.create_connection(address(server), 5) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")


# ---------------------------------------------------------------- connections and lifetime


@pytest.mark.parametrize("wire", WIRES)
def test_connections_are_kept_alive(wire: Wire) -> None:
    with playing(*[HELLO] * 4) as server, plain_client() as client:
        for stream in (True, False, True, False):
            assert post(server, wire, stream=stream, client=client).status_code == 200
            assert server.open_connections == 1
        client.close()
        server.wait_until(lambda server: server.open_connections == 0)


def read_all(raw: socket.socket) -> None:
    while raw.recv(1000):
        pass


def test_it_ends_what_it_started() -> None:
    before = threading.active_count()
    with playing(faulty(Hang()), faulty(Pings(1)), HELLO) as server:
        at = address(server)
        clients = [socket.create_connection(at, 5) for _ in range(4)]
        path, body, headers = wire_request("openai")
        text = json.dumps(body).encode()
        for raw in clients[:2]:
            raw.sendall(
                b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(text))
            )
            raw.sendall(text)
        server.wait_until(lambda server: len(server.requests) == 2)
        server.wait_until(lambda server: server.open_connections == 4)
        assert headers == {}
    assert threading.active_count() == before
    assert server.open_connections == 0
    for raw in clients:
        with raw, pytest.raises(ConnectionResetError):
            read_all(raw)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(at, 5)
    server.close()
    with pytest.raises(RuntimeError, match="started once"):
        server.start()
    with pytest.raises(RuntimeError, match="not been started"):
        assert FakeLLMServer([]).url
    FakeLLMServer([]).close()


def test_it_is_an_async_context_manager_too() -> None:
    async def main() -> bytes:
        async with FakeLLMServer([HELLO]) as server, httpx2.AsyncClient(verify=False) as client:
            path, body, headers = wire_request("openai")
            return (await client.post(server.url + path, json=body, headers=headers)).content

    assert asyncio.run(main()) == recorded_body(HELLO, "openai")


def test_many_clients_at_once() -> None:
    limits = httpx2.Limits(max_connections=50)

    async def main(url: str) -> list[int]:
        path, body, headers = wire_request("anthropic")
        async with httpx2.AsyncClient(verify=False, limits=limits) as client:

            async def one() -> int:
                return (await client.post(url + path, json=body, headers=headers)).status_code

            return await asyncio.gather(*[one() for _ in range(100)])

    with FakeLLMServer(lambda request: faulty(Hang(3, seconds=0.05))) as server:
        assert asyncio.run(main(server.url)) == [200] * 100
        assert sorted(request.number for request in server.requests) == list(range(1, 101))


def test_clients_that_leave_in_the_middle_do_no_harm() -> None:
    request = raw_request("anthropic")
    with playing(Turn(text="x" * 10_000_000), HELLO) as server:
        for part in (b"", request[:20], request[:-5], request):
            with socket.create_connection(address(server), 5) as raw:
                raw.sendall(part)
                if part == request:
                    assert raw.recv(1)
        server.wait_until(lambda server: server.open_connections == 0)
        assert (server.turns_played, len(server.requests)) == (1, 1)
        assert post(server, "anthropic").status_code == 200


def test_a_script_that_blocks_is_named_and_can_be_closed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def answer(request: SeenRequest) -> Turn:
        go_on.wait(5)
        return HELLO

    monkeypatch.setattr("lorimer.testing.fake_server._JOIN_S", 0.01)
    server = FakeLLMServer(answer).start()
    with socket.create_connection(address(server), 5) as raw:
        raw.sendall(raw_request("openai"))
        server.wait_until(lambda server: len(server.requests) == 1)
        with pytest.raises(RuntimeError, match="script's function block"):
            server.close()
        go_on.set()
        monkeypatch.undo()
        server.close()


def test_what_goes_wrong_in_the_server_comes_out_of_close(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeLLMServer([faulty(Status(429, headers={"retry-after": "€"}))]).start()
    with pytest.raises(httpx2.TransportError):
        post(server, "openai")
    with pytest.raises(UnicodeEncodeError):
        server.close()

    async def no_port(*_: object, **__: object) -> None:
        raise OSError("no port")

    run = asyncio.run

    def lingering(serve: Coroutine[object, None, None]) -> None:
        run(serve)
        time.sleep(0.02)  # its loop is closed, and its thread is not over yet

    monkeypatch.setattr("asyncio.start_server", no_port)
    monkeypatch.setattr("asyncio.run", lingering)
    server = FakeLLMServer([])
    with pytest.raises(OSError, match="no port"):
        server.start()
    server.close()


def test_waiting_in_vain_is_a_timeout() -> None:
    with playing() as server, pytest.raises(TimeoutError):
        server.wait_until(lambda server: len(server.requests) == 1, timeout_s=0.01)
