"""The Anthropic Messages wire, through the official SDK, whose types do not leave this module.

The SDK does addressing, authentication and sending. Its retries, timeouts, tracing and models of
requests and events are not used: `anthropic_request` writes, `anthropic_answer` reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

import anthropic
import httpx2

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.model import Capabilities, ImageLimits
from lorimer.core.request import Delta, Request, Response
from lorimer.core.world import World
from lorimer.models.credentials import VARIABLES, ProviderCredentials
from lorimer.models.errors import NETWORK_ERRORS, network_error, refused
from lorimer.models.hosted import HostedModel
from lorimer.models.images import ANTHROPIC
from lorimer.models.wires.anthropic_answer import AnthropicAnswer
from lorimer.models.wires.anthropic_request import abilities, encode, leave_out
from lorimer.models.wires.shared import (
    counted_tokens,
    encode_body,
    exchange,
    read_json,
    writing,
)

OFFICIAL_URL = "https://api.anthropic.com"
MESSAGES: Final = "/v1/messages"
COUNT: Final = "/v1/messages/count_tokens"
COUNTED: Final = ("model", "messages", "system", "tools", "tool_choice", "thinking")
"""The parts of a request that `/v1/messages/count_tokens` accepts and that cost tokens."""
MAX_TRIES: Final = 3
"""How often a request is sent, with what was rejected left out."""


class _Client(anthropic.AsyncAnthropic):
    def __init__(
        self, credentials: ProviderCredentials, http: httpx2.AsyncClient, *, usual: bool
    ) -> None:
        """`usual`: it connects to Anthropic, or to the URL in Anthropic's own variable."""
        super().__init__(
            api_key=credentials.api_key.reveal(),
            base_url=credentials.base_url or OFFICIAL_URL,
            default_headers=credentials.default_headers,
            http_client=http,
            max_retries=0,
            timeout=None,
            open_telemetry=False,
        )
        if not usual:
            # ANTHROPIC_CUSTOM_HEADERS in the environment, which may contain keys, is for Anthropic
            # and must not reach other servers.
            self._custom_headers = dict(credentials.default_headers)
        # otherwise the first request looks it up in a thread, invisible to virtual time
        self._platform = "Unknown"
        self.http = http


class AnthropicModel(HostedModel):
    """A Claude model, at Anthropic or at a base URL with the same API."""

    image_limits: ImageLimits | None = ANTHROPIC
    _client: _Client | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Derived from the version in its name."""
        return Capabilities(output_schema=abilities(self.name).form)

    def stream(self, request: Request, *, world: World) -> AsyncGenerator[Delta | Response, None]:
        """One request to `/v1/messages`; see `core.model.Model.stream`."""
        answer = AnthropicAnswer(self.provider, self._credentials)

        async def send() -> httpx2.Response:
            with writing(self.provider):
                encoded = encode(request, self._effort)
            tries = MAX_TRIES
            while True:
                with writing(self.provider):
                    content = self._encoded(encoded.body, MESSAGES)
                answer.dropped = encoded.dropped
                answer.sent = len(content)
                try:
                    return await self._post(encoded.body, content, encoded.headers, world, MESSAGES)
                except APIError as error:
                    tries -= 1
                    refused = error.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
                    if not (tries and refused and leave_out(encoded, str(error))):
                        raise

        return exchange(self.provider, send, answer, self.price, streamed=request.stream)

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """See `core.model.CountsTokens`: a separate request, free of charge."""
        with writing(self.provider):
            encoded = encode(request, self._effort)
            body = {name: encoded.body[name] for name in COUNTED if name in encoded.body}
            content = self._encoded(body, COUNT)
        found = await read_json(self.provider, await self._post(body, content, {}, world, COUNT))
        counted = found.get("input_tokens") if isinstance(found, dict) else None
        return counted_tokens(self.provider, counted)

    def _encoded(self, body: Mapping[str, JSON], path: str) -> bytes:
        """The bytes to send to a path of the wire."""
        return encode_body(body)

    async def _post(
        self,
        body: Mapping[str, JSON],
        content: bytes,
        headers: dict[str, str],
        world: World,
        path: str,
    ) -> httpx2.Response:
        """Send `body`, encoded as `content`, to a path of the wire."""
        try:
            response = await self._sdk(world).post(
                path,
                content=content,
                cast_to=httpx2.Response,
                options={"headers": headers} if headers else {},
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        except anthropic.APIStatusError as error:
            now, tools = world.time(), body.get("tools")
            told = refused(self.provider, error.response, self._credentials, now, tools)
            raise told from None  # the SDK's error contains the request, and with it the key
        except (anthropic.AnthropicError, *NETWORK_ERRORS) as error:
            cause = error.__cause__ or error
            raise network_error(self.provider, cause, self._credentials) from cause
        # with this cast_to the SDK returns the response itself, whatever its types say
        assert isinstance(response, httpx2.Response)
        return response

    def _sdk(self, world: World) -> _Client:
        http = self._context.http.get((self.provider, self._credentials.base_url), world)
        if self._client is None or self._client.http is not http:
            url, bundle = self._credentials.base_url, self._context.credentials
            own = self.provider == "anthropic" and bundle.variable(VARIABLES["anthropic"][1])
            usual = not url or url == str(own).rstrip("/")
            self._client = _Client(self._credentials, http, usual=usual)
        return self._client
