"""What the tests of models share: a world without an outside, and providers in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import httpx2

from lorimer.core.alarm import Alarm
from lorimer.core.errors import APIError
from lorimer.core.limits import Limits
from lorimer.core.messages import (
    Delta,
    Request,
    Response,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    UsageDelta,
    user_message,
)
from lorimer.core.model import Model
from lorimer.core.world import Finished, ProcessLimits, World
from lorimer.models import CredentialBundle, Models, Price, Prices, ProviderCredentials
from lorimer.models.clocks import Clocks

KEY: Final = "sk-not-to-be-shown-4711"
LIMITS: Final = ProcessLimits()
Wire = Literal["anthropic", "openai", "responses", "google"]
WIRES: Final[tuple[Wire, ...]] = ("anthropic", "openai", "responses", "google")
MODEL: Final[Mapping[str, str]] = {
    "anthropic": "claude-haiku-4-5",
    "openai": "gpt-4o",
    "responses": "gpt-5",
    "google": "gemini-3.5-flash",
}
PROVIDER: Final[Mapping[str, str]] = {wire: wire for wire in WIRES} | {"responses": "openai"}
API: Final[Mapping[str, str]] = {"openai": "chat", "responses": "responses"}
"""What a request asks for to go by that wire."""


@dataclass
class Reply:
    """One HTTP response. A chunk may be an exception to raise, or seconds to wait."""

    chunks: Sequence[bytes | Exception | float] = ()
    status: int = 200
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "text/event-stream"}
    )

    @classmethod
    def of(cls, body: object, status: int = 200, **headers: str) -> Reply:
        """A JSON body in one piece."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(
            [json.dumps(body).encode()], status, {"content-type": "application/json", **named}
        )


class _Body(httpx2.AsyncByteStream):
    def __init__(self, provider: Provider, chunks: Sequence[bytes | Exception | float]) -> None:
        self._provider = provider
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            if isinstance(chunk, bytes):
                yield chunk
            else:
                await asyncio.sleep(chunk)
        self._provider.read_to_the_end += 1

    async def aclose(self) -> None:
        self._provider.closed += 1


class Provider(httpx2.AsyncBaseTransport):
    """Plays replies in order; the last one again and again."""

    def __init__(self, *replies: Reply | Exception) -> None:
        self.replies = list(replies)
        self.requests: list[httpx2.Request] = []
        self.closed = 0
        self.read_to_the_end = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx2.Response(
            reply.status, headers=reply.headers, stream=_Body(self, reply.chunks)
        )

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request."""
        return json.loads(self.requests[-1].content)


class NoWorld:
    """A world in which nothing is reachable but what the test hands in."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.transport = transport
        self.slept: list[float] = []
        self.now = 1_700_000_000.0
        self.clients: list[httpx2.AsyncClient] = []
        self.ids = 0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def new_id(self, prefix: str) -> str:
        self.ids += 1
        return f"{prefix}_new{self.ids}"

    def dice(self, seed: int | str | None = None) -> Random:
        return Random(seed or 1)

    def http(self) -> httpx2.AsyncClient:
        client = httpx2.AsyncClient(transport=self.transport, timeout=None)
        self.clients.append(client)
        return client

    def guarded_http(self, reach: object = None) -> httpx2.AsyncClient:
        raise NotImplementedError

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limits: ProcessLimits = LIMITS,
    ) -> Finished:
        raise NotImplementedError

    def outside(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Heard:
    """What one call gave."""

    items: list[Delta | Response] = field(default_factory=list[Delta | Response])
    error: APIError | None = None

    @property
    def answer(self) -> Response:
        """The one response, which has to be the last item."""
        assert self.error is None, self.error
        last = self.items[-1]
        assert isinstance(last, Response)
        assert [item for item in self.items if isinstance(item, Response)] == [last]
        return last

    @property
    def text(self) -> str:
        return "".join([item.text for item in self.items if isinstance(item, TextDelta)])

    @property
    def thinking(self) -> str:
        return "".join([item.text for item in self.items if isinstance(item, ThinkingDelta)])

    @property
    def usages(self) -> list[UsageDelta]:
        return [item for item in self.items if isinstance(item, UsageDelta)]

    def arguments(self, index: int) -> str:
        """The JSON text of call number `index`, as it came."""
        return "".join(
            [
                item.partial_json
                for item in self.items
                if isinstance(item, ToolInputDelta) and item.index == index
            ]
        )


def models(world: World, *, base_url: str = "") -> Models:
    """All wires in the given world."""
    credentials = {provider: ProviderCredentials(KEY, base_url) for provider in PROVIDER.values()}
    return Models(CredentialBundle(credentials, env={}), world, Prices({"priced": Price(1, 2)}))


def request(wire: Wire = "anthropic", text: str = "hi", **fields: Any) -> Request:
    """A small request to a model of that wire, by that wire."""
    fields.setdefault("api", API.get(wire, ""))
    return Request(fields.pop("model", MODEL[wire]), [user_message(text)], **fields)


def spec(wire: Wire, model: str = "") -> str:
    """The spec of a model, by default of the wire's own."""
    return f"{PROVIDER[wire]}:{model or MODEL[wire]}"


async def hear(model: Model, asked: Request, world: NoWorld) -> Heard:
    """One call, drained; an APIError is caught."""
    heard = Heard()
    try:
        async for item in model.stream(asked, world=world):
            heard.items.append(item)  # what came before an error counts
    except APIError as error:
        heard.error = error
    return heard


def ask(
    wire: Wire,
    provider: Provider,
    asked: Request | None = None,
    *,
    base_url: str = "",
    model: str = "",
) -> Heard:
    """One call over a provider in this process; afterwards the connection is closed."""
    asked = asked or request(wire)
    world = NoWorld(provider)

    async def go() -> Heard:
        resolver = models(world, base_url=base_url)
        heard = await hear(resolver.resolve(model or spec(wire, asked.model)), asked, world)
        await resolver.aclose()
        return heard

    heard = asyncio.run(go())
    assert provider.closed == len(provider.requests)
    return heard


async def timed(
    stream: AsyncIterator[Delta | Response], limits: Limits, *, streamed: bool = True
) -> AsyncGenerator[Delta | Response, None]:
    """The stream under our clocks; closing it early closes both."""
    alarm = Alarm(1e9, lambda: None)
    alarm.start()
    clocks = Clocks(alarm, limits, streamed=streamed)
    try:
        while (item := await clocks.next(stream)) is not None:
            yield item
    finally:
        clocks.close()
        alarm.stop()
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def sse(*events: object) -> bytes:
    """Events as a body; a string is written as it is."""
    out: list[bytes] = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        out.append(f"data: {data}\n\n".encode())
    return b"".join(out)
