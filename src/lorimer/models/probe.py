"""One tiny live request to a model, to check that it answers: the implementation of `lorimer models
check`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode, LorimerError
from lorimer.core.messages import user_message
from lorimer.core.model import Model
from lorimer.core.request import Request, Response, ToolSpec, Usage
from lorimer.core.world import World
from lorimer.models.credentials import LOCAL, VERTEX
from lorimer.models.errors import CHECK_URL
from lorimer.models.provider_info import ProviderStatus, provider_status
from lorimer.models.redirected import WIRES
from lorimer.models.registry import Models
from lorimer.models.reserving import FRAME, TOOL_FRAME

CEILING_USD: Final = 0.01
"""Maximum cost of one check."""
MAX_TOKENS: Final = 256
_MIN_TOKENS: Final = 16
_ASK: Final = "Call the tool `ready` with ok set to true. If you have no tools, answer: ok."
_VENDORS: Final = (*WIRES, VERTEX)
"""Providers whose paths differ in form from OpenAI's."""
_TOOL: Final = ToolSpec(
    "ready",
    "Says that you are ready.",
    {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
)
_ASKED: Final = FRAME + len(_ASK)
_OFFERED: Final = TOOL_FRAME + _TOOL.size
"""Maximum tokens of the prompt: the question and the tool."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome of a check."""

    spec: str
    error: LorimerError | None = None
    """Why there is no answer."""
    advice: str = ""
    """What to do about the error."""
    model: str = ""
    """The model that answered, according to the provider."""
    tools: str = ""
    """`work`, `were not used`, `off` (not offered, as they are not configured) or `were not
    offered` (they would cost more than a cent)."""
    seconds: float = 0.0
    cost_nano: int | None = 0
    """None: its price is unknown."""

    @property
    def ok(self) -> bool:
        """Whether there was an answer."""
        return self.error is None


async def probe(
    models: Models,
    spec: str,
    world: World,
    *,
    timeout_s: float = 60.0,
    allow_unpriced: bool = False,
) -> Probe:
    """Ask the model of one spec a tiny question. Costs at most a cent by the price table: a request
    that could cost more is not sent, nor one to a model without a price, unless the server is the
    user's own (its address is private) or `allow_unpriced` is set. Errors are returned, not
    raised."""
    held: ProviderStatus | None = None
    started = world.monotonic()
    try:
        held = provider_status(models, models.parse(spec).provider)
        model = models.resolve(spec)
        request = _question(model, held, allow_unpriced=allow_unpriced)
        answer = await _answer(model, request, world, timeout_s)
    except LorimerError as error:
        return Probe(spec, error, advice(error, held))
    dropped = answer.extra.get("dropped")
    used = "work" if answer.tool_calls else "were not used"
    if not request.tools:
        used = "were not offered"
    off = isinstance(dropped, list | tuple) and "tools" in dropped
    return Probe(
        spec,
        model=answer.model or model.name,
        tools="off" if off else used,
        seconds=world.monotonic() - started,
        cost_nano=model.price(answer.usage, model=answer.model),
    )


async def _answer(model: Model, request: Request, world: World, timeout_s: float) -> Response:
    stream = model.stream(request, world=world)
    try:
        async with asyncio.timeout(timeout_s):
            async for item in stream:
                if isinstance(item, Response):
                    return item
    except TimeoutError:
        raise APIError(
            f"{model.provider} did not answer within {timeout_s:g} s",
            code=ExecutorErrorCode.EXEC_API_TIMEOUT,
        ) from None
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
    raise APIError(
        f"the answer of {model.provider} is incomplete",
        code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE,
    )


def _question(model: Model, held: ProviderStatus, *, allow_unpriced: bool) -> Request:
    """With the tool, if it costs no more than a cent. Raises ConfigError `exec.api.unpriced`."""
    each = model.price(Usage(output_tokens=1000))
    for tools, prompt in (((_TOOL,), _ASKED + _OFFERED), ((), _ASKED)):
        asked = model.price(Usage(input_tokens=prompt))
        if asked is None or each is None:
            if not (allow_unpriced or held.provider in LOCAL or _is_private(held.base_url)):
                raise ConfigError(
                    "it was not asked: its price is not known",
                    code=ExecutorErrorCode.EXEC_API_UNPRICED,
                    hint="Give its price in the host file, or add --allow-unpriced.",
                )
            asked = each = 0
        left = round(CEILING_USD * 1e9) - asked
        most = min(MAX_TOKENS, left * 1000 // each) if each else MAX_TOKENS
        if most >= _MIN_TOKENS:
            question = [user_message(_ASK)]
            return Request(model.name, question, tools=tools, max_tokens=most, stream=False)
    raise ConfigError(
        f"it was not asked: it could cost more than ${CEILING_USD:g}",
        code=ExecutorErrorCode.EXEC_API_UNPRICED,
        hint="Nothing is wrong with it; a model that dear is not checked.",
    )


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def advice(error: LorimerError, held: ProviderStatus | None) -> str:
    """What to do about an error of a model call; "": no advice."""
    variable = held.variable if held is not None else ""
    url = held.base_url if held is not None else ""
    where = f" {url}" if url else ""
    match error.code:
        case ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY | ExecutorErrorCode.EXEC_API_AUTH_EXPIRED:
            if not variable:
                return "It wants a key: name its variable as key_env in the host file."
            told = f"Check {variable} and what the key may use."
            return error.hint if variable in error.hint else told
        case ExecutorErrorCode.EXEC_API_NETWORK:
            return f"Check the network, and the address{where}."
        case ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE if url:
            return f"Try again. Does the base URL{where} speak this provider's language?"
        case _ if error.hint == CHECK_URL and held is not None:
            added = "what begins with /v1 is added to it"
            usual = "an OpenAI-compatible one mostly ends in /v1"
            return f"Check the base URL{where}: {added if held.provider in _VENDORS else usual}."
        case _:
            return error.hint
