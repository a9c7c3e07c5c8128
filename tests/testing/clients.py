"""How the tests of the fake provider talk to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx2

from lorimer.testing.fake_responses_rules import SEALED
from lorimer.testing.fake_server import FakeLLMServer, ToolCall, Turn
from lorimer.testing.fake_turn import Wire
from lorimer.testing.faults import Fault

if TYPE_CHECKING:
    import anthropic
    import openai
    from anthropic.types import Message
    from google import genai
    from google.genai.types import GenerateContentResponse
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
else:
    from tests.sdks import anthropic, genai, openai

T = TypeVar("T")
WIRES: tuple[Wire, ...] = ("anthropic", "openai", "responses", "google")
HELLO = Turn(text=("Hel", "lo, ", "wörld"))
CALLS = Turn(
    text="Looking.",
    tool_calls=(
        ToolCall("call_1", "weather", {"city": "Zürich", "days": 3}),
        ToolCall("call_2", "clock", {}),
    ),
)
TOOLS: list[Any] = [
    {"name": name, "description": name, "input_schema": {"type": "object"}}
    for name in ("weather", "clock")
]
FUNCTIONS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "clock")
]


def ask_anthropic(
    server: FakeLLMServer, ask: Callable[[anthropic.AsyncAnthropic], Awaitable[T]]
) -> T:
    async def main() -> T:
        async with anthropic.AsyncAnthropic(
            api_key="key",
            base_url=server.url,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(verify=False),
        ) as client:
            return await ask(client)

    return asyncio.run(main())


def ask_openai(server: FakeLLMServer, ask: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T:
    async def main() -> T:
        async with openai.AsyncOpenAI(
            api_key="key",
            base_url=server.openai_url,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=False),
        ) as client:
            return await ask(client)

    return asyncio.run(main())


def claude(server: FakeLLMServer, *, stream: bool = True, **body: Any) -> Message:
    """One message through Anthropic's SDK, streamed or not."""
    body = {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}],
        **body,
    }

    async def ask(client: anthropic.AsyncAnthropic) -> Message:
        if not stream:
            return cast("Message", await client.messages.create(**body))
        async with client.messages.stream(**body) as streamed:
            return await streamed.get_final_message()

    return ask_anthropic(server, ask)


def gpt(server: FakeLLMServer, **body: Any) -> ChatCompletion:
    """One completion through OpenAI's SDK, not streamed."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}

    async def ask(client: openai.AsyncOpenAI) -> ChatCompletion:
        return cast("ChatCompletion", await client.chat.completions.create(**body))

    return ask_openai(server, ask)


def gpt_chunks(server: FakeLLMServer, **body: Any) -> list[ChatCompletionChunk]:
    """One completion through OpenAI's SDK as its chunks."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **body,
    }

    async def ask(client: openai.AsyncOpenAI) -> list[ChatCompletionChunk]:
        chunks = cast(
            "openai.AsyncStream[ChatCompletionChunk]", await client.chat.completions.create(**body)
        )
        return [chunk async for chunk in chunks]

    return ask_openai(server, ask)


def gemini_chunks(
    server: FakeLLMServer, *, stream: bool = True, **fields: Any
) -> list[GenerateContentResponse]:
    """The chunks of an answer through Google's SDK, or the one answer."""
    asked = {"model": "gemini-3.5-flash", "contents": "hi", **fields}

    async def main() -> list[GenerateContentResponse]:
        async with httpx2.AsyncClient(verify=False) as http:
            options = genai.types.HttpOptions(base_url=server.url, httpx_async_client=http)
            models = genai.Client(api_key="key", http_options=options).aio.models
            if not stream:
                return [await models.generate_content(**asked)]
            return [chunk async for chunk in await models.generate_content_stream(**asked)]

    return asyncio.run(main())


def plain_client() -> httpx2.Client:
    """Without certificates, which take longer to load than all else."""
    return httpx2.Client(timeout=5, verify=False)


def wire_request(wire: Wire, *, stream: bool = True) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Path, body and headers of a plain request."""
    if wire == "google":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        contents = [{"role": "user", "parts": [{"text": "hi"}]}]
        return f"/v1beta/models/fake-model:{verb}", {"contents": contents}, {}
    body: dict[str, Any] = {
        "model": "fake-model",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": stream,
    }
    if wire == "anthropic":
        return "/v1/messages", {**body, "max_tokens": 9}, {"anthropic-version": "2026-10-21"}
    if wire == "responses":
        body["input"] = body.pop("messages")
        extra = {"store": False, "include": [SEALED], "reasoning": {"summary": "auto"}}
        return "/v1/responses", {**body, **extra}, {}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return "/v1/chat/completions", body, {}


def post(
    server: FakeLLMServer, wire: Wire, *, stream: bool = True, client: httpx2.Client | None = None
) -> httpx2.Response:
    path, body, headers = wire_request(wire, stream=stream)
    if client is not None:
        return client.post(server.url + path, json=body, headers=headers)
    with plain_client() as fresh:
        return fresh.post(server.url + path, json=body, headers=headers)


def raw_request(wire: Wire) -> bytes:
    """A plain request as it goes over the wire."""
    path, body, headers = wire_request(wire)
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def dechunked(answer: bytes) -> tuple[bytes, bool]:
    """The body of a chunked answer that may be cut anywhere, and whether it is complete."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            return body, True
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body, False


def received(server: FakeLLMServer, wire: Wire) -> tuple[bytes, Exception | None]:
    """The bytes of a streamed body until it ended, and how it failed."""
    path, body, headers = wire_request(wire)
    got = b""
    with plain_client() as client:
        try:
            with client.stream("POST", server.url + path, json=body, headers=headers) as response:
                for piece in response.iter_raw():
                    got += piece
        except httpx2.TransportError as error:
            return got, error
    return got, None


@contextmanager
def playing(*turns: Turn, **options: Any) -> Generator[FakeLLMServer]:
    with FakeLLMServer(turns, **options) as server:
        yield server


def faulty(*faults: Fault) -> Turn:
    return Turn(text=("Hel", "lo, ", "wörld"), faults=faults)


def address(server: FakeLLMServer) -> tuple[str, int]:
    url = httpx2.URL(server.url)
    assert url.port
    return url.host, url.port
