"""One tiny live request to a model, to see whether it answers: what `lorimer models check` does."""

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
from lorimer.models.credentials import LOCAL
from lorimer.models.errors import CHECK_URL
from lorimer.models.redirected import WIRES
from lorimer.models.registry import Models
from lorimer.models.standing import Standing, standing

CEILING_USD: Final = 0.01
"""What one check may cost."""
MAX_TOKENS: Final = 256
_MIN_TOKENS: Final = 16
_PROMPT_TOKENS: Final = 400
"""More than the question and the tool have."""
_ASK: Final = "Call the tool `ready` with ok set to true. If you have no tools, answer: ok."
_TOOL: Final = ToolSpec(
    "ready",
    "Says that you are ready.",
    {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of it."""

    spec: str
    error: LorimerError | None = None
    """Why there is no answer."""
    advice: str = ""
    """What to do about it."""
    model: str = ""
    """Who answered, as the provider says."""
    tools: str = ""
    """`work`, `were not used`, or `off`: not offered, as they are not configured."""
    seconds: float = 0.0
    cost_nano: int = 0

    @property
    def ok(self) -> bool:
        """There was an answer."""
        return self.error is None


async def probe(
    models: Models,
    spec: str,
    world: World,
    *,
    timeout_s: float = 60.0,
    allow_unpriced: bool = False,
) -> Probe:
    """Ask the model of one spec a tiny question. Costs at most a cent by the price table: what
    could cost more is not asked, nor is a model without a price, unless it is a server of one's
    own (its address is private) or `allow_unpriced`. Errors are told, not raised."""
    held: Standing | None = None
    started = world.monotonic()
    try:
        held = standing(models, models.parse(spec).provider)
        model = models.resolve(spec)
        request = Request(
            model.name,
            [user_message(_ASK)],
            tools=(_TOOL,),
            max_tokens=_affordable(model, held, allow_unpriced=allow_unpriced),
            stream=False,
        )
        answer = await _answer(model, request, world, timeout_s)
    except LorimerError as error:
        return Probe(spec, error, advice(error, held))
    dropped = answer.extra.get("dropped")
    used = "work" if answer.tool_calls else "were not used"
    off = isinstance(dropped, list | tuple) and "tools" in dropped
    return Probe(
        spec,
        model=answer.model or model.name,
        tools="off" if off else used,
        seconds=world.monotonic() - started,
        cost_nano=answer.cost_nano,
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


def _affordable(model: Model, held: Standing, *, allow_unpriced: bool) -> int:
    """How many tokens the answer may have. Raises ConfigError `exec.api.unpriced`."""
    prompt = model.price(Usage(input_tokens=_PROMPT_TOKENS))
    each = model.price(Usage(output_tokens=1000))
    if prompt is None or each is None:
        if allow_unpriced or held.provider in LOCAL or _is_private(held.base_url):
            return MAX_TOKENS
        raise ConfigError(
            "it was not asked: its price is not known",
            code=ExecutorErrorCode.EXEC_API_UNPRICED,
            hint="Give its price in the host file, or add --allow-unpriced.",
        )
    left = round(CEILING_USD * 1e9) - prompt
    tokens = MAX_TOKENS if not each else min(MAX_TOKENS, left * 1000 // each)
    if tokens < _MIN_TOKENS:
        raise ConfigError(
            f"it was not asked: it could cost more than ${CEILING_USD:g}",
            code=ExecutorErrorCode.EXEC_API_UNPRICED,
            hint="Nothing is wrong with it; a model that dear is not checked.",
        )
    return tokens


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def advice(error: LorimerError, held: Standing | None) -> str:
    """What to do about an error of a model call; "" when there is nothing to say."""
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
        case ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE:
            return f"Does the base URL{where} speak this provider's language?"
        case _ if error.hint == CHECK_URL:
            usual = (
                "what begins with /v1 is added to it"
                if held is not None and (held.provider in WIRES)
                else "an OpenAI-compatible one mostly ends in /v1"
            )
            return f"Check the base URL{where}: {usual}."
        case _:
            return error.hint
