"""What the tests of models share: a world without an outside, and providers in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import httpx2

from lorimer.core.messages import user_message
from lorimer.core.model import Model
from lorimer.core.request import Request
from lorimer.core.world import Finished, ProcessLimits, World
from lorimer.models import CredentialBundle, Models, Price, Prices, ProviderCredentials
from lorimer.testing.providers.transport import Played, Reply
from lorimer.testing.providers.trial import KEY, Heard, timed
from lorimer.testing.providers.trial import hear as drained
from lorimer.world.real import RealWorld

__all__ = [
    "KEY",
    "Heard",
    "Provider",
    "Reply",
    "ask",
    "hear",
    "models",
    "request",
    "spec",
    "sse",
    "timed",
]

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


class Provider(Played):
    """Plays replies in real time."""

    def __init__(self, *replies: Reply | Exception) -> None:
        super().__init__(*replies, world=RealWorld())


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
    return await drained(model.stream(asked, world=world))


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


def sse(*events: object) -> bytes:
    """Events as a body; a string is written as it is."""
    out: list[bytes] = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        out.append(f"data: {data}\n\n".encode())
    return b"".join(out)
