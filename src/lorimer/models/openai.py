"""OpenAI's two wires, at OpenAI or at any base URL that supports one, through the official SDK,
whose types do not leave this module.

The SDK does addressing, authentication and sending. Its retries, timeouts and models of requests
and events are not used: `wires/responses_*` and `wires/chat_*` write and read. Only
`OpenAIModel.api` decides which of the two is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import httpx2
import openai

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.jsonable import JSON, clean
from lorimer.core.model import ImageLimits
from lorimer.core.request import Delta, Request, Response
from lorimer.core.world import World
from lorimer.models.credentials import OPENAI_API, ProviderCredentials
from lorimer.models.errors import NETWORK_ERRORS, incomplete, network_error, refused
from lorimer.models.hosted import HostedModel
from lorimer.models.images import OPENAI
from lorimer.models.registry import ProviderContext
from lorimer.models.spec import ModelSpec
from lorimer.models.wires import chat_request, responses_request
from lorimer.models.wires.chat_answer import ChatAnswer
from lorimer.models.wires.chat_request import endpoint
from lorimer.models.wires.responses_answer import ResponsesAnswer
from lorimer.models.wires.shared import (
    Encoded,
    array,
    counted_tokens,
    encode_body,
    exchange,
    mapping,
    read_json,
    string,
    writing,
)

if TYPE_CHECKING:
    from lorimer.models.wires.openai_refusal import Workaround

Api: TypeAlias = Literal["responses", "chat"]

OFFICIAL_URL = "https://api.openai.com/v1"
PATHS: Final = {"responses": "/responses", "chat": "/chat/completions"}

LOOKUP_S: Final = 30.0
"""Seconds that counting tokens and listing models may take."""


class _Client(openai.AsyncOpenAI):
    def __init__(self, credentials: ProviderCredentials, http: httpx2.AsyncClient) -> None:
        super().__init__(
            api_key=credentials.api_key.reveal(),
            base_url=credentials.base_url or OFFICIAL_URL,
            default_headers=credentials.default_headers,
            http_client=http,
            max_retries=0,
            timeout=None,
        )
        if credentials.base_url:
            # OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS in the environment, which
            # may contain keys, are for OpenAI and must not reach other servers.
            self.organization = self.project = None
            self._custom_headers = dict(credentials.default_headers)
        # otherwise the first request looks it up in a thread, invisible to virtual time
        self._platform = "Unknown"
        self.http = http


class OpenAIModel(HostedModel):
    """A model at OpenAI, or at a server with a compatible API.

    Raises ConfigError when the credentials name an unknown wire.
    """

    image_limits: ImageLimits | None = OPENAI
    _client: _Client | None = None

    def __init__(self, spec: ModelSpec, context: ProviderContext) -> None:
        super().__init__(spec, context)
        self._official = endpoint(self._credentials.base_url, spec.model).official
        self._api: Api | None = _known(self._credentials.extras.get("api", ""))
        self._workarounds: dict[Api, dict[str, Workaround]] = {"chat": {}, "responses": {}}
        """What its server's refusals called for, by name."""

    def api(self, request: Request) -> Api:
        """The wire for a request: the one that it names itself (`model.api` of a manifest); else
        that of the credentials (`extras["api"]`, or the variable LORIMER_OPENAI_API); else
        Responses at OpenAI and Chat at any other base URL. Raises ConfigError for an unknown
        name."""
        usual: Api = "responses" if self._official else "chat"
        return _known(request.api) or self._api or usual

    def stream(self, request: Request, *, world: World) -> AsyncGenerator[Delta | Response, None]:
        """One request; see `core.model.Model.stream`."""
        api = self.api(request)
        assembler = ResponsesAnswer if api == "responses" else ChatAnswer
        answer = assembler(self.provider, self._credentials)

        async def send() -> httpx2.Response:
            with writing(self.provider):
                encoded = self._encode(request, api)
            used: set[str] = set()
            while True:
                with writing(self.provider):
                    content = encode_body(encoded.body)
                answer.dropped = encoded.dropped
                answer.sent = len(content)
                try:
                    return await self._send(PATHS[api], content, world)
                except openai.APIStatusError as error:
                    told = self._refused(error, world)
                    # any other, such as one for a rate limit, is for the attempt loop
                    bad = told.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
                    if not (bad and self._mended(encoded, api, error.response.content, used)):
                        # not chained: the SDK's error contains the request, and with it the key
                        raise told from None

        return exchange(self.provider, send, answer, self.price, streamed=request.stream)

    def _mended(self, encoded: Encoded, api: Api, refusal: bytes, used: set[str]) -> bool:
        """Change a rejected request into one that may be accepted; returns whether there was
        anything to change. `used`: the workarounds that it contains."""
        if api == "responses" and responses_request.leave_out(encoded, refusal):
            return True
        from lorimer.models.wires.openai_refusal import workarounds  # compiles many patterns

        fitting = workarounds(refusal, chat=api == "chat")
        found = [one for one in fitting if one.name not in used and one.mend(encoded)]
        self._workarounds[api] |= {one.name: one for one in found if one.lasting}
        used |= {one.name for one in found}
        return bool(found)

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """See `core.model.CountsTokens`; uses `/responses/input_tokens`, which most other servers
        lack: their answer is then `exec.api.bad_request`. At most LOOKUP_S seconds."""
        with writing(self.provider):
            body = self._encode(request, "responses").body
            wanted = {name: body[name] for name in responses_request.COUNTED if name in body}
            content = encode_body(wanted)
        found = await self._look_up("/responses/input_tokens", content, world)
        counted = found.get("input_tokens") if isinstance(found, dict) else None
        return counted_tokens(self.provider, counted)

    async def list_models(self, *, world: World) -> list[str]:
        """See `core.model.ListsModels`; uses `/models`. At most LOOKUP_S seconds."""
        found = await self._look_up("/models", None, world)
        try:
            return [clean(string(mapping(one)["id"])) for one in array(mapping(found)["data"])]
        except (TypeError, KeyError) as error:
            raise incomplete(self.provider, "it is not a list of models", cause=error) from error

    def _encode(self, request: Request, api: Api) -> Encoded:
        target = endpoint(self._credentials.base_url, request.model, self.provider)
        wire = responses_request if api == "responses" else chat_request
        encoded = wire.encode(request, self._effort, target)
        for workaround in self._workarounds[api].values():
            workaround.mend(encoded)
        return encoded

    async def _look_up(self, path: str, content: bytes | None, world: World) -> JSON:
        try:
            async with asyncio.timeout(LOOKUP_S):
                return await read_json(self.provider, await self._send(path, content, world))
        except openai.APIStatusError as error:
            raise self._refused(error, world) from None
        except TimeoutError as error:
            raise APIError(
                f"{self.provider} did not answer within {LOOKUP_S:g} s",
                code=ExecutorErrorCode.EXEC_API_TIMEOUT,
                cause=error,
            ) from error

    async def _send(self, path: str, content: bytes | None, world: World) -> httpx2.Response:
        """POST the content, or GET if None. Raises APIError, and the SDK's APIStatusError."""
        client = self._sdk(world)
        try:
            send = client.get if content is None else partial(client.post, content=content)
            response = await send(
                path,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[object],
            )
        except openai.APIStatusError:
            raise
        except (openai.OpenAIError, *NETWORK_ERRORS) as error:
            cause = error.__cause__ or error
            raise network_error(self.provider, cause, self._credentials) from cause
        # with this cast_to the SDK returns the response itself, whatever its types say
        assert isinstance(response, httpx2.Response)
        return response

    def _refused(self, error: openai.APIStatusError, world: World) -> APIError:
        return refused(self.provider, error.response, self._credentials, world.time())

    def _sdk(self, world: World) -> _Client:
        http = self._context.http.get((self.provider, self._credentials.base_url), world)
        if self._client is None or self._client.http is not http:
            self._client = _Client(self._credentials, http)
        return self._client


def _known(api: str) -> Api | None:
    """The wire of that name; None for an empty name. Raises ConfigError."""
    match api:
        case "":
            return None
        case "responses":
            return "responses"
        case "chat":
            return "chat"
        case _:
            raise ConfigError(
                f"OpenAI has no wire {api!r}: it is 'responses' or 'chat'",
                hint=f"Look at model.api, extras['api'] of the credentials, and {OPENAI_API}.",
            )
