"""Claude at Vertex AI: Anthropic's wire, with the model in the URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import httpx2

from lorimer.core.jsonable import JSON
from lorimer.core.world import World
from lorimer.models.anthropic import COUNT, AnthropicModel
from lorimer.models.registry import ProviderContext
from lorimer.models.spec import ModelSpec
from lorimer.models.vertex import AtVertex
from lorimer.models.wires.shared import encode_body

ANTHROPIC_VERSION: Final = "2026-10-21"
"""As sent there by Anthropic's SDK."""


class VertexClaude(AtVertex, AnthropicModel):
    """A Claude model, by its name at Vertex: `claude-sonnet-4-6`, `claude-haiku-4-5@20251001`."""

    vendor = "anthropic"

    def __init__(self, spec: ModelSpec, context: ProviderContext) -> None:
        super().__init__(spec, context)
        self._sold = spec.model.replace("@", "-")

    def _encoded(self, body: Mapping[str, JSON], path: str) -> bytes:
        kept = {name: part for name, part in body.items() if path == COUNT or name != "model"}
        return encode_body({"anthropic_version": ANTHROPIC_VERSION, **kept})

    async def _post(
        self,
        body: Mapping[str, JSON],
        content: bytes,
        headers: dict[str, str],
        world: World,
        path: str,
    ) -> httpx2.Response:
        verb = "streamRawPredict" if body.get("stream") else "rawPredict"
        name = "count-tokens" if path == COUNT else quote(str(body["model"]), safe="@")
        url = self._access.place.url("v1", "anthropic", f"models/{name}:{verb}")
        return await self._access.send("post", url, headers, content, world)
