"""Presets: functions that write manifests, and pipelines made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Unpack

from lorimer.assembly import PipelineOptions, ToolSource
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    DEFAULT_MODEL,
    EnvironmentManifest,
    ToolsConfig,
)
from lorimer.pipeline import Pipeline
from lorimer.stages.catalogue import CATALOGUE

MINIMAL: Final = ("input", "api", "parse", "yield")
CHAT: Final = (
    "input",
    "context",
    "system",
    "guard",
    "cache",
    "api",
    "token",
    "parse",
    "tool",
    "loop",
    "yield",
)
AGENT: Final = tuple(CATALOGUE)


def minimal_manifest(*, model: str = DEFAULT_MODEL) -> EnvironmentManifest:
    """Input, API, Parse, Yield: one question, one answer, nothing remembered."""
    return _manifest("minimal", MINIMAL, model, "")


def chat_manifest(
    *, model: str = DEFAULT_MODEL, system_prompt: str = "", max_turns: int = 20
) -> EnvironmentManifest:
    """A conversation that is remembered, with tools if there are any."""
    return _manifest("chat", CHAT, model, system_prompt, max_turns)


def agent_manifest(
    *, model: str = DEFAULT_MODEL, system_prompt: str = "", max_turns: int = 50
) -> EnvironmentManifest:
    """Every stage there is: an agent that works on its own with tools."""
    manifest = _manifest("agent", AGENT, model, system_prompt, max_turns)
    manifest.stages["cache"].strategies["strategy"] = "aggressive_cache"
    # builds and test suites take their time; the model asks for more than 2 minutes itself
    manifest.limits = replace(manifest.limits, tool_timeout_s=600.0)
    return manifest


PRESETS: Final[Mapping[str, Callable[..., EnvironmentManifest]]] = {
    "minimal": minimal_manifest,
    "chat": chat_manifest,
    "agent": agent_manifest,
}
"""Name to the function that writes its manifest."""


def preset_manifest(name: str, *, model: str = DEFAULT_MODEL) -> EnvironmentManifest:
    """The manifest of a preset by name. Raises ConfigError with the nearest names."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name](model=model)


class PipelinePresets:
    """Ready pipelines. Every one takes the options of `Pipeline` too."""

    @staticmethod
    def minimal(*, model: str = DEFAULT_MODEL, **options: Unpack[PipelineOptions]) -> Pipeline:
        """One question, one answer, one model call; nothing is remembered."""
        return Pipeline(minimal_manifest(model=model), **options)

    @staticmethod
    def chat(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        tools: ToolSource | None = None,
        max_turns: int = 20,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """A conversation: every run remembers those before it."""
        manifest = chat_manifest(model=model, system_prompt=system_prompt, max_turns=max_turns)
        return Pipeline(manifest, tools=tools, **options)

    @staticmethod
    def agent(
        *,
        system_prompt: str = "",
        model: str = DEFAULT_MODEL,
        tools: ToolSource | None = None,
        built_in: str | tuple[str, ...] = (),
        max_turns: int = 50,
        **options: Unpack[PipelineOptions],
    ) -> Pipeline:
        """An agent with tools, in a conversation. `built_in` names shipped tools; they are asked
        about, or need rules, where they change something."""
        manifest = agent_manifest(model=model, system_prompt=system_prompt, max_turns=max_turns)
        named = [built_in] if isinstance(built_in, str) else list(built_in)
        if named:
            manifest.tools = ToolsConfig(built_in=named)
        return Pipeline(manifest, tools=tools, **options)


def _manifest(
    preset: str,
    stages: tuple[str, ...],
    model: str,
    system_prompt: str,
    max_turns: int = 1,
) -> EnvironmentManifest:
    # as one piece: each part that is made by itself has a validator of its own built for it
    manifest = EnvironmentManifest.model_validate(
        {
            "metadata": {"name": preset, "base_preset": preset},
            "model": {"model": model},
            "limits": Limits(max_turns=max_turns),
            "stages": [{"order": CATALOGUE[name][0], "name": name} for name in stages],
        }
    )
    if system_prompt:
        manifest.stages["system"].config["prompt"] = system_prompt
    return manifest
