"""Failover in the middle of a conversation, from each wire to each: what one provider said, another
takes, and the first one takes it back; over real sockets, against the strict fake servers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.events import Event
from lorimer.core.messages import ImageBlock, TextBlock
from lorimer.core.model import Model
from lorimer.journal import MemoryJournal
from lorimer.models import CredentialBundle, ModelSpec, ProviderContext, ProviderCredentials
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing.fake_server import FakeLLMServer, ToolCall, Turn
from lorimer.testing.faults import Cut, Status
from lorimer.tools import ToolResult
from lorimer.world.real import RealWorld
from tests.core.support import Do, check_history

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


@dataclass(frozen=True)
class Wire:
    """How one provider is reached at a fake server."""

    name: str
    provider: str
    factory: str
    model: str
    path: str = ""
    extras: Mapping[str, str] = field(default_factory=dict[str, str])
    reasoning_field: str = "reasoning"

    def server(self, script: list[Turn]) -> FakeLLMServer:
        return FakeLLMServer(script, reasoning_field=self.reasoning_field)

    def at(self, server: FakeLLMServer) -> Any:
        """A factory of its models there."""
        module, _, name = self.factory.partition(":")
        make = getattr(import_module(module), name)
        url = server.url + self.path

        def factory(spec: ModelSpec, context: ProviderContext) -> Model:
            known = ProviderCredentials("key", url, extras=self.extras)
            bundle = CredentialBundle({self.provider: known}, env={})
            return make(
                ModelSpec(self.provider, spec.model, spec.effort),
                ProviderContext(bundle, context.prices, context.http),
            )

        return factory


WIRES = [
    Wire("anthropic", "anthropic", "lorimer.models.anthropic:AnthropicModel", "claude-haiku-4-5"),
    Wire("chat", "openai", "lorimer.models.openai:OpenAIModel", "gpt-4o", "/v1", {"api": "chat"}),
    Wire(
        "vllm",
        "openai",
        "lorimer.models.openai:OpenAIModel",
        "Qwen/Qwen3-32B",
        "/v1",
        {"api": "chat"},
        "reasoning_content",
    ),
    Wire(
        "responses",
        "openai",
        "lorimer.models.openai:OpenAIModel",
        "gpt-5",
        "/v1",
        {"api": "responses"},
    ),
    Wire("google", "google", "lorimer.models.google:GoogleModel", "gemini-3.5-flash"),
]


def calls(*names: str) -> tuple[ToolCall, ...]:
    return tuple([ToolCall(name, "look", {"at": name}) for name in names])


@pytest.mark.parametrize(
    ("source", "target"), list(product(WIRES, WIRES)), ids=lambda wire: wire.name
)
def test_a_conversation_goes_to_another_provider_and_back(source: Wire, target: Wire) -> None:
    there = [
        Turn(text="I look.", thinking="Both at once.", tool_calls=calls("a", "b")),
        Turn(text="I l", faults=(Cut(-40),)),
        Turn(faults=(Status(503),)),
        Turn(text="Again.", thinking="I am back.", tool_calls=calls("d")),
        Turn(text="Done.", thinking="That is all."),
    ]
    elsewhere = [
        # its own call has an id that the first provider gave out before
        Turn(text="I go on.", thinking="What was that?", tool_calls=calls("a", "c")),
    ]

    async def main(one: FakeLLMServer, two: FakeLLMServer) -> None:
        world = RealWorld()
        models = Models(providers={"one": source.at(one), "two": target.at(two)}, world=world)
        manifest = preset_manifest("agent", model=f"one:{source.model},two:{target.model}")
        manifest.model.thinking_enabled = True
        manifest.model.thinking_budget_tokens = 2000
        manifest.stages["input"].strategies["normalizer"] = "multimodal"
        manifest.stages["api"].strategy_configs["retry"] = {"base_delay_s": 0.0}
        seen = ToolResult([TextBlock("a picture:"), ImageBlock("image/png", PIXEL)])
        pipeline = Pipeline(
            manifest,
            tools=[Do("look", lambda *_: seen)],
            models=models,
            journal=MemoryJournal(world),
            world=world,
        )

        def back(event: Event) -> None:
            if event.data.get("content") and event.iteration == 1:
                models.health.unbench(f"one:{source.model}")

        pipeline.on("model.reply", back)
        given = {"text": "What is it?", "images": [{"media_type": "image/png", "data": PIXEL}]}
        result = await pipeline.run(given)
        await models.aclose()
        assert result.text == "Done."
        assert [f.data.get("target", "") for f in result.events if f.type == "model.intent"] == [
            *("", "", "", f"two:{target.model}"),
            *("", ""),
        ]
        check_history(result.messages)
        ids = [use.id for message in result.messages for use in message.tool_uses]
        assert len(ids) == len(set(ids)) == 5
        replayed = await pipeline.replay(result.run_id)
        assert replayed.divergence is None

    with source.server(there) as one, target.server(elsewhere) as two:
        asyncio.run(main(one, two))
        # what is refused uses up no turn
        assert (len(one.requests), one.turns_played) == (5, 5)
        assert (len(two.requests), two.turns_played) == (1, 1)
        heard = [str(request.body) for request in (*one.requests, *two.requests)]
        assert all(PIXEL in text for text in heard)
        assert "I look." in str(two.requests[0].body)
        assert "I go on." in str(one.requests[-1].body)
