"""All wires over real sockets, through the official SDKs, against the strict fake server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import Message, user_message
from lorimer.core.model import ImageLimits, Model
from lorimer.core.request import CacheMarks, Request, Response, TextDelta, ToolSpec
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.images import ANTHROPIC, GOOGLE, OPENAI, limits_of
from lorimer.testing.fake_server import FakeLLMServer, FakeUsage, ToolCall, Turn
from lorimer.testing.faults import (
    Fault,
    Hang,
    Pieces,
    Pings,
    Refuse,
    Status,
)
from lorimer.world.real import RealWorld
from tests.models.support import API, MODEL, WIRES, Wire, spec, timed

Code = ExecutorErrorCode
TOOLS = (
    ToolSpec("read", "Read.", {"type": "object", "properties": {"path": {"type": "string"}}}),
    ToolSpec("ls", "List.", {"type": "object"}),
)
TURN = Turn(
    text="I shall look.",
    thinking="Hm, zwölf 🦄.",
    tool_calls=(ToolCall("call_1", "read", {"path": "a"}), ToolCall("call_2", "ls")),
    usage=FakeUsage(50, 20, cache_read=5, reasoning=8),
)


def bundle(server: FakeLLMServer) -> CredentialBundle:
    return CredentialBundle(
        {
            "anthropic": ProviderCredentials("k", server.url),
            "openai": ProviderCredentials("k", server.openai_url),
            "google": ProviderCredentials("k", server.url),
        },
        env={},
    )


def asked(wire: Wire, *messages: Message, model: str = "") -> Request:
    return Request(
        model or MODEL[wire],
        messages or (user_message("hi"),),
        system="Be brief.",
        tools=TOOLS,
        thinking_tokens=2000,
        cache=CacheMarks(system=True, tools=True, message=0),
        api=API.get(wire, ""),
    )


def talk(
    wire: Wire, server: FakeLLMServer, go: Callable[[Model, RealWorld], Awaitable[None]]
) -> None:
    async def main() -> None:
        world = RealWorld()
        models = Models(bundle(server), world)
        await go(models.resolve(spec(wire)), world)
        await models.aclose()

    asyncio.run(main())
    server.wait_until(lambda seen: seen.open_connections == 0)


async def answer(model: Model, request: Request, world: RealWorld) -> Response:
    last = [item async for item in model.stream(request, world=world)][-1]
    assert isinstance(last, Response)
    return last


def failure(
    wire: Wire, *faults: Fault, limits: Limits | None = None, stream: bool = True
) -> tuple[APIError, str]:
    """The error of a call that goes wrong, and the text that was released."""
    turn = replace(TURN, faults=faults)
    caught: list[APIError] = []
    texts: list[str] = []

    async def go(model: Model, world: RealWorld) -> None:
        request = asked(wire)
        request.stream = stream
        items = model.stream(request, world=world)
        try:
            async for item in timed(items, limits or Limits(), streamed=stream):
                assert not isinstance(item, Response)
                if isinstance(item, TextDelta):
                    texts.append(item.text)
        except APIError as error:
            caught.append(error)

    with FakeLLMServer([turn]) as server:
        talk(wire, server, go)
    assert TURN.text
    assert str(TURN.text).startswith("".join(texts))
    return caught[0], "".join(texts)


@pytest.mark.parametrize("wire", WIRES)
def test_nobody_answers(wire: Wire) -> None:
    assert failure(wire, Refuse())[0].code is Code.EXEC_API_NETWORK

    async def go(model: Model, world: RealWorld) -> None:
        with pytest.raises(APIError) as caught:
            await answer(model, asked(wire), world)
        assert caught.value.code is Code.EXEC_API_NETWORK

    with FakeLLMServer([]) as server:
        gone = server
    talk(wire, gone, go)


SOON = {
    "connect": Limits(connect_timeout_s=0.1, idle_timeout_s=9, model_timeout_s=9),
    "idle": Limits(connect_timeout_s=9, idle_timeout_s=0.1, model_timeout_s=9),
    "total": Limits(connect_timeout_s=9, idle_timeout_s=9, model_timeout_s=0.2),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("fault", "clock"),
    [
        (Hang(), "connect"),
        (Hang(after=2), "idle"),
        (Pings(after=2), "idle"),
        (Hang(after=8), "idle"),
        (Pieces(size=50, delay_s=0.02), "total"),
    ],
)
def test_our_clocks(wire: Wire, fault: Fault, clock: str) -> None:
    error, _ = failure(wire, fault, limits=SOON[clock])
    assert error.code is Code.EXEC_API_TIMEOUT
    assert f"({clock})" in str(error)


@pytest.mark.parametrize("wire", WIRES)
def test_a_wrong_key(wire: Wire) -> None:
    async def go(model: Model, world: RealWorld) -> None:
        with pytest.raises(APIError) as caught:
            await answer(model, asked(wire), world)
        assert caught.value.code is Code.EXEC_API_AUTH_INVALID_KEY

    with FakeLLMServer([TURN], api_key="another") as server:
        talk(wire, server, go)


def test_two_loops_one_resolver() -> None:
    """`asyncio.run` twice: the second loop gets connections of its own."""
    with FakeLLMServer(lambda _: TURN) as server:
        world = RealWorld()
        models = Models(bundle(server), world)

        async def once() -> None:
            model = models.resolve(spec("anthropic"))
            assert (await answer(model, asked("anthropic"), world)).text == TURN.text
            await models.aclose()

        asyncio.run(once())
        asyncio.run(once())


# What nobody closes says so when it goes: here it has to go.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_many_loops_leave_no_connections() -> None:
    """`asyncio.run` for each request, as in a web application, and nothing is ever closed."""
    with FakeLLMServer(lambda _: Turn("Here.")) as server:
        pipeline = PipelinePresets.minimal(api_key="k", base_url=server.url)
        for _ in range(8):
            assert asyncio.run(pipeline.run("hi")).text == "Here."
        gc.collect()
        server.wait_until(lambda server: server.open_connections <= 1)  # that of the last loop
        del pipeline
        gc.collect()
        server.wait_until(lambda server: not server.open_connections)


@pytest.mark.parametrize(
    ("model", "given", "asked"),
    [
        ("claude-haiku-4-5", "/v1", "/v1/v1/messages"),
        ("openai:gpt-4o", "/v1/chat/completions/", "/v1/chat/completions/chat/completions"),
        ("google:gemini-2.5-flash", "/v1beta", "/v1beta/v1beta/models/gemini-2.5-flash:"),
    ],
)
def test_a_wrong_base_url_shows_what_was_asked(model: str, given: str, asked: str) -> None:
    with FakeLLMServer([Turn(faults=(Status(404, body=b"Not Found"),))]) as server:
        pipeline = PipelinePresets.minimal(model=model, api_key="k", base_url=server.url + given)
        with pytest.raises(APIError) as caught:
            pipeline.run_sync("hi")
    assert f" answered 404 at {server.url}{asked}" in caught.value.message


def test_a_proxy_is_asked_where_the_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind one, the error of who does not say so tells how."""
    for name in ("ALL_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeLLMServer([]) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        away: dict[str, Any] = {"api_key": "k", "base_url": "http://api.invalid"}
        with pytest.raises(APIError) as caught:
            PipelinePresets.minimal(**away).run_sync("hi", limits={"timeout_s": 5})
        assert "HTTP_PROXY is set: proxies are asked only by" in caught.value.hint
        world = RealWorld(proxies_from_environment=True)
        with pytest.raises(APIError) as caught:  # the fake server is no proxy, but it was asked
            PipelinePresets.minimal(world=world, **away).run_sync("hi")
        assert "answered 404 at http://api.invalid/v1/messages" in caught.value.message


def test_a_keyless_server() -> None:
    with FakeLLMServer([TURN]) as server:
        credentials = {"openai": ProviderCredentials(base_url=server.openai_url)}
        models = Models(CredentialBundle(credentials, env={}))

        async def go() -> None:
            await answer(models.resolve("openai:llama"), asked("openai"), RealWorld())
            await models.aclose()

        asyncio.run(go())
        assert server.requests[0].api_key == "none"


@pytest.mark.parametrize(
    ("name", "limits"), [("anthropic", ANTHROPIC), ("openai", OPENAI), ("google", GOOGLE)]
)
def test_each_vendor_has_its_limits_of_pictures(name: str, limits: ImageLimits) -> None:
    models = Models(CredentialBundle({name: ProviderCredentials("k")}, env={}))
    assert limits_of(models.resolve(f"{name}:any")) is limits
