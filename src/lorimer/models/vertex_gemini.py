"""Gemini at Vertex AI: Google's wire at another address, with another login."""

from __future__ import annotations

import httpx2

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.models.google import GoogleModel, path_of
from lorimer.models.vertex import AtVertex
from lorimer.models.wires.gemini_request import encode
from lorimer.models.wires.shared import counted_tokens, encode_body, writing

VERSION = "v1beta1"


class VertexGemini(AtVertex, GoogleModel):
    """A Gemini model, or another one that Google publishes there."""

    vendor = "google"

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """See `core.model.CountsTokens`: a separate request, free of charge."""
        with writing(self.provider):
            body = encode(request, self._effort).body
            asked: dict[str, JSON] = {
                name: body[name]
                for name in ("contents", "systemInstruction", "tools")
                if name in body
            }
            content = encode_body(asked)
        answer = await self._ask("post", path_of(request.model, "countTokens"), content, world)
        return counted_tokens(self.provider, answer.get("totalTokens"))

    async def list_models(self, *, world: World) -> list[str]:
        """Vertex has no such list. Raises APIError `exec.api.bad_request`."""
        raise APIError(
            f"{self.provider} lists no models.", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST
        )

    async def _send(
        self, method: str, path: str, content: bytes | None, world: World
    ) -> httpx2.Response:
        url = self._access.place.url(VERSION, "google", path)
        return await self._access.send(method, url, {}, content, world)
