"""What a model at OpenAI, or at a server that speaks its dialect, tells besides answers; and how
the credentials choose its wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
import pytest

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.model import CountsTokens, ListsModels, Model
from lorimer.core.request import ToolSpec
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.testing.simulation import SimulatedWorld, simulate
from tests.models.support import KEY, NoWorld, Provider, Reply, models, request

Code = ExecutorErrorCode
T = TypeVar("T")


def told(
    provider: Provider, look: Callable[[Model, NoWorld], Awaitable[T]], base_url: str = ""
) -> T:
    world = NoWorld(provider)

    async def go() -> T:
        resolver = models(world, base_url=base_url)
        try:
            return await look(resolver.resolve("openai:gpt-5"), world)
        finally:
            await resolver.aclose()

    try:
        return asyncio.run(go())
    finally:
        assert provider.closed == len(provider.requests)


async def counted(model: Model, world: NoWorld) -> int:
    assert isinstance(model, CountsTokens)
    tools = (ToolSpec("t", "T.", {"type": "object"}),)
    asked = request("responses", system="Be.", tools=tools, thinking_tokens=9, temperature=1)
    return await model.count_tokens(asked, world=world)


async def listed(model: Model, world: NoWorld) -> list[str]:
    assert isinstance(model, ListsModels)
    return await model.list_models(world=world)


def test_tokens_are_counted_there() -> None:
    provider = Provider(Reply.of({"object": "response.input_tokens", "input_tokens": 123}))
    assert told(provider, counted) == 123
    assert str(provider.requests[0].url) == "https://api.openai.com/v1/responses/input_tokens"
    assert set(provider.sent) == {"model", "input", "instructions", "tools", "reasoning"}


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "https://api.openai.com/v1/models"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/models"),
    ],
)
def test_models_are_listed(base_url: str, url: str) -> None:
    listing = {"object": "list", "data": [{"id": "gpt-5", "object": "model"}, {"id": "o3"}]}
    provider = Provider(Reply.of(listing))
    assert told(provider, listed, base_url) == ["gpt-5", "o3"]
    sent = provider.requests[0]
    assert (sent.method, str(sent.url)) == ("GET", url)
    assert sent.headers["authorization"] == f"Bearer {KEY}"


LOOKS = [counted, listed]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"[]", b"{}", b'{"input_tokens":"x"}', b'{"input_tokens":-1}'],
)
def test_nonsense_is_no_answer(look: Callable[..., Awaitable[object]], body: bytes) -> None:
    with pytest.raises(APIError) as caught:
        told(Provider(Reply([body])), look)
    assert caught.value.code is Code.EXEC_API_STREAM_INCOMPLETE


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply.of({"error": {"message": KEY}}, 401), Code.EXEC_API_AUTH_INVALID_KEY),
        (Reply.of({}, 404), Code.EXEC_API_BAD_REQUEST),
        (Reply.of({}, 429), Code.EXEC_API_RATE_LIMITED),
        (Reply.of({}, 503), Code.EXEC_API_SERVER_ERROR),
    ],
)
def test_refusals(look: Callable[..., Awaitable[object]], reply: Reply, code: Code) -> None:
    with pytest.raises(APIError) as caught:
        told(Provider(reply), look)
    assert caught.value.code is code
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("look", LOOKS)
def test_nobody_answers(look: Callable[..., Awaitable[object]]) -> None:
    provider = Provider(httpx2.ConnectError("no"))
    with pytest.raises(APIError) as caught:
        asyncio.run(look(models(NoWorld(provider)).resolve("openai:m"), NoWorld(provider)))
    assert caught.value.code is Code.EXEC_API_NETWORK


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_up_is_not_waited_for_for_ever(look: Callable[..., Awaitable[object]]) -> None:
    from lorimer.models.openai import LOOKUP_S

    async def go(world: SimulatedWorld) -> float:
        with pytest.raises(APIError) as caught:
            await look(models(world).resolve("openai:gpt-5"), world)
        assert caught.value.code is Code.EXEC_API_TIMEOUT
        return world.monotonic()

    assert simulate(go, transport=Provider(Reply([1e6]))) == pytest.approx(LOOKUP_S)


# ---------------------------------------------------------------- which wire


def wire(credentials: ProviderCredentials | None, env: dict[str, str], api: str = "") -> str:
    known = {} if credentials is None else {"openai": credentials}
    provider = Provider(Reply.of({}, 500))
    world = NoWorld(provider)

    async def go() -> None:
        resolver = Models(CredentialBundle(known, env={"OPENAI_API_KEY": KEY, **env}), world)
        stream = resolver.resolve("gpt-5").stream(request("responses", api=api), world=world)
        with pytest.raises(APIError):
            await anext(aiter(stream))
        await resolver.aclose()

    asyncio.run(go())
    return provider.requests[0].url.path.removeprefix("/v1")


CHAT, RESPONSES = "/chat/completions", "/responses"


def test_the_variable_and_the_credentials_choose_the_wire_and_a_request_overrules_them() -> None:
    key = ProviderCredentials(KEY)
    here = {"OPENAI_BASE_URL": "http://localhost:1/v1"}
    says_chat, says_responses = ({"LORIMER_OPENAI_API": api} for api in ("chat", "responses"))
    assert wire(None, {}) == RESPONSES
    assert wire(None, says_chat) == CHAT
    assert wire(key, says_chat) == CHAT
    assert wire(None, here) == CHAT
    assert wire(None, here | says_responses) == RESPONSES
    assert wire(ProviderCredentials(KEY, extras={"api": "chat"}), says_responses) == CHAT
    assert wire(None, says_chat, api="responses") == RESPONSES
    assert wire(None, here | says_responses, api="chat") == CHAT


def test_a_wire_that_does_not_exist() -> None:
    for env, api in (({"LORIMER_OPENAI_API": "respones"}, ""), ({}, "respones")):
        with pytest.raises(ConfigError, match=r"'respones'.*'responses' or 'chat'") as caught:
            wire(None, env, api)
        assert "LORIMER_OPENAI_API" in caught.value.hint


def test_the_name_of_the_wire_is_no_secret() -> None:
    credentials = ProviderCredentials(KEY, extras={"api": "responses", "token": "hush-hush"})
    shown = credentials.redact(f"responses of {KEY} hush-hush")
    assert shown == "responses of *** ***"
