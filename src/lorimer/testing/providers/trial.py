"""Common parts of the kit's cases: a model, a server that plays turns, and the outcome of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

import httpx2

from lorimer.core.alarm import Alarm
from lorimer.core.context import RunContext
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.history import History
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.limits import Limits
from lorimer.core.messages import ThinkingBlock, user_message
from lorimer.core.model import Model, Target
from lorimer.core.request import (
    Delta,
    Request,
    Response,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    ToolSpec,
    Usage,
    UsageDelta,
)
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.models.alone import alone
from lorimer.models.attempts import call
from lorimer.models.backoff import Backoff
from lorimer.models.caller import Caller
from lorimer.models.clocks import Clocks
from lorimer.models.health import Health
from lorimer.testing.fake_server import Script
from lorimer.testing.fake_turn import FakeUsage, SeenRequest, ToolCall, Turn, joined
from lorimer.testing.providers.transport import Played, Recorded, Recording, Reply
from lorimer.testing.simulation import SimulatedWorld, simulate
from lorimer.world.real import RealWorld

T = TypeVar("T")

KEY: Final = "sk-not-to-be-shown-4711"
CODE: Final = ExecutorErrorCode
STREAM: Final = "streamed"
TOOLS: Final = (
    ToolSpec("read", "Read.", {"type": "object", "properties": {"p": {"type": "string"}}}),
    ToolSpec("ls", "List.", {"type": "object"}),
)
TURN: Final = Turn(
    text=("One 🦄, ", "zwölf."),
    thinking=("Let me ", "think."),
    tool_calls=(ToolCall("c1", "read", {"p": "ü/a"}), ToolCall("c2", "ls")),
    usage=FakeUsage(20, 9, cache_read=4, cache_write=2),
)
"""An answer that contains everything."""


class LLMServer(Protocol):
    """The part of a fake provider that the kit needs; implemented by `FakeLLMServer`."""

    @property
    def url(self) -> str:
        """Its base URL."""
        ...

    @property
    def requests(self) -> Sequence[SeenRequest]:
        """Every request, including rejected ones."""
        ...

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed."""
        ...

    def __enter__(self) -> LLMServer: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass
class Heard:
    """The outcome of one call."""

    items: list[Delta | Response] = field(default_factory=list[Delta | Response])
    error: APIError | None = None
    asked: tuple[SeenRequest, ...] = ()
    """The requests to the server, if there was one."""

    @property
    def answer(self) -> Response:
        """The only response, which has to be the last item."""
        assert self.error is None, f"the call failed: {self.error!r}"
        assert self.items, "the stream gave nothing and raised nothing"
        last = self.items[-1]
        assert isinstance(last, Response), f"the last item is no Response: {last!r}"
        assert sum(isinstance(item, Response) for item in self.items) == 1
        return last

    @property
    def failure(self) -> APIError:
        """The expected error, without an answer."""
        assert self.error is not None, f"the call did not fail: {self.items!r:.500}"
        assert not [item for item in self.items if isinstance(item, Response)]
        return self.error

    @property
    def sent(self) -> str:
        """The bodies of its requests, as text."""
        return dumps([request.body for request in self.asked])

    @property
    def text(self) -> str:
        """All text deltas."""
        return "".join([item.text for item in self.items if isinstance(item, TextDelta)])

    @property
    def thinking(self) -> str:
        """All thinking deltas."""
        return "".join([item.text for item in self.items if isinstance(item, ThinkingDelta)])

    @property
    def inputs(self) -> list[ToolInputDelta]:
        """The deltas of arguments."""
        return [item for item in self.items if isinstance(item, ToolInputDelta)]

    @property
    def usages(self) -> list[UsageDelta]:
        """The intermediate counts."""
        return [item for item in self.items if isinstance(item, UsageDelta)]

    def arguments(self, index: int) -> str:
        """The JSON text of call number `index`, unchanged."""
        return "".join([item.partial_json for item in self.inputs if item.index == index])


class _World(RealWorld):
    """Closes its clients itself; their traffic can be recorded."""

    __slots__ = ("clients", "transport")

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__()
        self.transport = transport
        self.clients: list[httpx2.AsyncClient] = []

    def http(self) -> httpx2.AsyncClient:
        """A client with the kit's own transport."""
        transport = self.transport or Recorded(Recording())
        client = httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
        self.clients.append(client)
        return client

    async def aclose(self) -> None:
        """Close what was opened."""
        for client in self.clients:
            await client.aclose()


async def hear(stream: AsyncIterator[Delta | Response]) -> Heard:
    """Drain one call; an APIError is caught."""
    heard = Heard()
    try:
        async for item in stream:
            heard.items.append(item)  # items before an error count
    except APIError as error:
        heard.error = error
    return heard


async def timed(
    stream: AsyncIterator[Delta | Response], limits: Limits, *, streamed: bool = True
) -> AsyncGenerator[Delta | Response, None]:
    """The stream under the clocks of a run; closing it early closes both."""
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


async def closed(stream: AsyncIterator[Delta | Response]) -> None:
    """Leave a stream early."""
    assert isinstance(stream, AsyncGenerator), "a stream is an async generator: it can be closed"
    await stream.aclose()


class Trial:
    """One subject, in one case."""

    def __init__(
        self,
        model: Callable[[str, str], Model],
        serve: Callable[[Script], AbstractContextManager[LLMServer]],
        api: str,
    ) -> None:
        self._model = model
        self.serve = serve
        self._api = api

    def model(self, url: str = "http://provider.test") -> Model:
        """A new Model for that URL."""
        return self._model(url, KEY)

    def request(self, form: str = STREAM, text: str = "hi", **fields: Any) -> Request:
        """A small request; `form` is one of STREAMED."""
        fields.setdefault("messages", [user_message(text)])
        name = self.model().name
        return Request(name, api=self._api, stream=form == STREAM, **fields)

    def thoughtful(self, form: str = STREAM, **fields: Any) -> Request:
        """With tools and room for thinking."""
        return self.request(form, tools=TOOLS, thinking_tokens=2000, **fields)

    def over_wire(self, script: Script, go: Callable[[Model, World, LLMServer], Awaitable[T]]) -> T:
        """Let `go` call a server on a local port; everything is closed afterwards."""

        async def main(server: LLMServer) -> T:
            world = _World()
            try:
                return await go(self.model(server.url), world, server)
            finally:
                await world.aclose()

        with self.serve(script) as server:
            return asyncio.run(main(server))

    def ask(self, turn: Turn = TURN, request: Request | None = None) -> Heard:
        """One call over the wire."""
        asked = request or self.thoughtful()

        async def go(model: Model, world: World, server: LLMServer) -> Heard:
            heard = await hear(model.stream(asked, world=world))
            return replace(heard, asked=tuple(server.requests))

        return self.over_wire([turn], go)

    def call(
        self, turns: Sequence[Turn], request: Request
    ) -> tuple[Response, Sequence[SeenRequest]]:
        """One call as a run makes it, with its retries; and the requests."""

        async def go(
            model: Model, world: World, server: LLMServer
        ) -> tuple[Response, Sequence[SeenRequest]]:
            target = Target(request.model, model, place=request.model)
            caller = Caller((target,), Backoff(base_s=0), _free, b"", health=Health())

            async def ask(run: RunContext) -> Response:
                history = History(request.messages)
                state = PipelineState(run, history, None)
                return (await call(caller, replace(request, messages=history), state))[0]

            answer = await alone(ask, Limits(), world)
            return answer, tuple(server.requests)

        return self.over_wire(list(turns), go)

    def recorded(self, turn: Turn = TURN, request: Request | None = None) -> Reply:
        """The server's response to a turn, as bytes in one chunk."""
        asked, recording = request or self.thoughtful(), Recording()

        async def main(server: LLMServer) -> None:
            world = _World(Recorded(recording))
            try:
                await hear(self.model(server.url).stream(asked, world=world))
            finally:
                await world.aclose()

        with self.serve([turn]) as server:
            asyncio.run(main(server))
        assert recording.body, "nothing was recorded: does the model take its clients from world?"
        kept = ("content-type",)
        headers = {name: recording.headers[name] for name in kept if name in recording.headers}
        return Reply([bytes(recording.body)], 200, headers)

    def play(self, *replies: Reply | Exception, request: Request | None = None) -> list[Heard]:
        """One call for each reply, without a network. Every response is closed afterwards."""
        asked = request or self.thoughtful()
        world = _World()
        played = Played(*replies, world=world)
        world.transport = played

        async def main() -> list[Heard]:
            model, out = self.model(), list[Heard]()
            for reply in replies:
                before, closed_before = len(played.requests), played.closed
                out.append(await hear(model.stream(asked, world=world)))
                assert len(played.requests) == before + 1, "it asked more than once"
                opened = not isinstance(reply, Exception)
                assert played.closed == closed_before + opened, "a response was not closed"
            await world.aclose()
            return out

        return asyncio.run(main())

    def simulated(
        self, reply: Reply, go: Callable[[Model, SimulatedWorld, Played], Awaitable[T]]
    ) -> T:
        """Let `go` make calls in virtual time, each with the same reply."""
        late = _Late()

        async def main(world: SimulatedWorld) -> T:
            late.inner = played = Played(reply, world=world)
            return await go(self.model(), world, played)

        return simulate(main, transport=late)


def _free(usage: Usage, name: str, model: Model) -> int:
    return 0


class _Late(httpx2.AsyncBaseTransport):
    """A transport for the world that it is given to."""

    inner: Played | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert self.inner is not None
        return await self.inner.handle_async_request(request)


def whole(reply: Reply) -> bytes:
    """The single chunk of a recorded reply."""
    (chunk,) = reply.chunks
    assert isinstance(chunk, bytes)
    return chunk


def same(answer: Response, other: Response) -> bool:
    """Whether everything that the model said and was billed for is the same."""
    return (answer.content, answer.stop, answer.usage) == (other.content, other.stop, other.usage)


def says(answer: Response, turn: Turn) -> None:
    """Check that the answer is what the turn says."""
    thoughts = [block for block in answer.content if isinstance(block, ThinkingBlock)]
    assert "".join([block.text for block in thoughts]) == joined(turn.thinking)
    assert answer.text == joined(turn.text)
    calls = [(call.id, call.name, call.input, call.raw) for call in answer.tool_calls]
    assert calls == [(call.id, call.name, call.input, "") for call in turn.tool_calls]


def begins(heard: Heard, turn: Turn = TURN) -> None:
    """Check that what was released is a prefix of the turn, once."""
    assert joined(turn.text).startswith(heard.text)
    assert joined(turn.thinking).startswith(heard.thinking)
    for index, made in enumerate(turn.tool_calls):
        assert made.arguments.startswith(heard.arguments(index))


def dropped(answer: Response) -> list[JSON]:
    """The fields that were not sent, according to the answer."""
    named = answer.extra.get("dropped", [])
    assert isinstance(named, list), "extra['dropped'] is a list of names"
    return named
