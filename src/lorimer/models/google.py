"""Google's Gemini wire, through the official SDK, whose types do not leave this module.

The SDK does addressing and authentication (key, version, its own headers). It has no public way to
return a raw response, so its request is sent by our client; its retries, its transport and its
models of requests and events are not used: `gemini_request` writes, `gemini_answer` reads.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import quote

import httpx2
from google.genai._api_client import BaseApiClient, EphemeralTokenAPIKeyError
from google.genai.types import HttpOptions

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.model import ImageLimits
from lorimer.core.request import Delta, Request, Response
from lorimer.core.world import World
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.errors import NETWORK_ERRORS, incomplete, network_error, refused
from lorimer.models.hosted import HostedModel
from lorimer.models.images import GOOGLE
from lorimer.models.wires.gemini_answer import GeminiAnswer
from lorimer.models.wires.gemini_request import (
    encode,
    listed,
    model_path,
    rejects_seals,
    without_seals,
)
from lorimer.models.wires.shared import (
    counted_tokens,
    encode_body,
    exchange,
    read_json,
    writing,
)

OFFICIAL_URL: Final = "https://generativelanguage.googleapis.com"
VERSION: Final = "v1beta"
"""The version with all fields; `v1`, the SDK's default, lags behind."""
MAX_PAGES: Final = 20
"""Pages of the list of models, with 1,000 each."""
MAX_TOKEN: Final = 2_000
"""Maximum length of a page token, in characters."""


class _Client(BaseApiClient):
    def __init__(self, credentials: ProviderCredentials, http: httpx2.AsyncClient) -> None:
        # otherwise it reads the system's certificates, twice, for clients that are never used
        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__(
            vertexai=False,  # explicit, or a variable decides
            api_key=credentials.api_key.reveal(),
            http_options=HttpOptions(
                base_url=credentials.base_url or OFFICIAL_URL,
                api_version=VERSION,
                headers=dict(credentials.default_headers),
                httpx_async_client=http,
                client_args={"verify": unused},
                async_client_args={"ssl": unused},
            ),
        )
        self.http = http

    def request_to(self, method: str, path: str, content: bytes | None) -> httpx2.Request:
        signed = self._build_request(method, path, {})
        return self.http.build_request(
            method, signed.url, content=content, headers=signed.headers, timeout=None
        )


class GoogleModel(HostedModel):
    """A Gemini model, at Google or at a base URL with the same API."""

    image_limits: ImageLimits | None = GOOGLE
    _client: _Client | None = None

    def stream(self, request: Request, *, world: World) -> AsyncGenerator[Delta | Response, None]:
        """One request to `generateContent`; see `core.model.Model.stream`."""
        answer = GeminiAnswer(self.provider, self._credentials)

        async def send() -> httpx2.Response:
            verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
            asked = request
            while True:
                with writing(self.provider):
                    encoded = encode(asked, self._effort)
                    content = encode_body(encoded.body)
                if asked is not request:
                    encoded.dropped.append("messages.thinking")
                answer.dropped = encoded.dropped
                answer.sent = len(content)
                try:
                    return await self._send("post", path_of(request.model, verb), content, world)
                except APIError as error:
                    bare = without_seals(asked) if rejects_seals(str(error)) else asked
                    if bare is asked:
                        raise
                    asked = bare

        return exchange(self.provider, send, answer, self.price, streamed=request.stream)

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """Tokens of the prompt, including tools and system, as counted by Google: a separate
        request, free of charge. Raises APIError."""
        with writing(self.provider):
            body: dict[str, JSON] = {"model": model_path(request.model)}
            body |= encode(request, self._effort).body
            content = encode_body({"generateContentRequest": body})
        path = path_of(request.model, "countTokens")
        answer = await self._ask("post", path, content, world)
        return counted_tokens(self.provider, answer.get("totalTokens"))

    async def list_models(self, *, world: World) -> list[str]:
        """The names of the models that can generate content. Raises APIError."""
        pages: list[JSON] = []
        token = ""
        while len(pages) < MAX_PAGES:
            after = f"&pageToken={quote(token, safe='')}" if token else ""
            page = await self._ask("get", f"models?pageSize=1000{after}", None, world)
            pages.append(page)
            more = page.get("nextPageToken") or ""
            if not isinstance(more, str) or len(more) > MAX_TOKEN or not more.isascii():
                raise incomplete(self.provider, "it is not a list of models")
            if not (token := more):
                break
        return listed(pages)

    async def _ask(
        self, method: str, path: str, content: bytes | None, world: World
    ) -> dict[str, JSON]:
        answer = await read_json(self.provider, await self._send(method, path, content, world))
        if not isinstance(answer, dict):
            raise incomplete(self.provider, "it is no JSON object")
        return answer

    async def _send(
        self, method: str, path: str, content: bytes | None, world: World
    ) -> httpx2.Response:
        """The response, with a status of 2xx and its body not read yet."""
        client = self._sdk(world)
        try:
            request = client.request_to(method, path, content)
            response = await client.http.send(request, stream=True, follow_redirects=False)
            if response.is_success:
                return response
            await response.aread()
        except EphemeralTokenAPIKeyError as error:
            raise APIError(
                str(error), code=ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY, cause=error
            ) from error
        except NETWORK_ERRORS as error:
            raise network_error(self.provider, error, self._credentials) from error
        raise refused(self.provider, response, self._credentials, world.time())

    def _sdk(self, world: World) -> _Client:
        http = self._context.http.get((self.provider, self._credentials.base_url), world)
        if self._client is None or self._client.http is not http:
            self._client = _Client(self._credentials, http)
        return self._client


def path_of(model: str, verb: str) -> str:
    """The path of a method of the model."""
    kind, _, name = model_path(model).partition("/")
    return f"{kind}/{quote(name, safe='')}:{verb}"
