"""Pipelines on a chain of scripted models, each of another provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lorimer import Pipeline
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models import Models, Price
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool

CODE = ExecutorErrorCode
NAMES = ("one", "two", "three")
USED = Usage(input_tokens=10, output_tokens=5)


def down(code: ExecutorErrorCode = CODE.EXEC_API_SERVER_ERROR, **details: Any) -> APIError:
    """A failure, each time a new one."""
    return APIError(f"{code.value} as asked", code=code, **details)


def cut(text: str, **details: Any) -> list[Any]:
    """An answer that breaks off after this text."""
    return [TextBlock(text), down(CODE.EXEC_API_STREAM_INCOMPLETE, **details)]


class Chain:
    """A pipeline on `one:m,two:m,...`; `models` are the scripted ones, in order."""

    def __init__(
        self,
        world: World,
        *scripts: Any,
        preset: str = "agent",
        after_release: str = "stop",
        retry: dict[str, Any] | None = None,
        heard: bool = False,
        prices: Sequence[Price | None] = (),
        tools: Sequence[Tool] = (),
        journal: Journal | None = None,
        models: Models | None = None,
        change: Callable[[EnvironmentManifest], None] | None = None,
        **options: Any,
    ) -> None:
        names = NAMES[: len(scripts)]
        self.models = [
            ScriptedModel(
                script,
                provider=name,
                name="m",
                usage=USED,
                price=prices[index] if prices else None,
            )
            for index, (name, script) in enumerate(zip(names, scripts, strict=True))
        ]
        self.resolver = models or Models(providers=dict(zip(names, self.models, strict=True)))
        self.journal = journal or MemoryJournal(world)
        self.manifest = preset_manifest(preset, model=",".join([f"{name}:m" for name in names]))
        api = self.manifest.stages["api"]
        if after_release != "stop":
            api.config["after_release"] = after_release
        api.strategy_configs["retry"] = {"jitter": 0.0, **(retry or {})}
        if change is not None:
            change(self.manifest)
        self.pipeline = Pipeline(
            self.manifest,
            models=self.resolver,
            journal=self.journal,
            world=world,
            tools=list(tools),
            **options,
        )
        self.signals: list[Event] = []
        self.shown = ""
        """What a listener has, if it does as it is told."""
        self.said: list[str] = []
        """All that it was ever given."""
        for kind in ("api.retry", "api.model_routed", "api.stream_restart"):
            self.pipeline.on(kind, self.hear)
        if heard:
            self.pipeline.on("text.delta", self.hear)

    def hear(self, event: Event) -> None:
        if event.type == "text.delta":
            self.shown += str(event.data["text"])
            self.said.append(str(event.data["text"]))
            return
        self.signals.append(event)
        if event.type == "api.stream_restart":
            self.shown = ""

    async def run(self, text: str = "go", **options: Any) -> PipelineResult:
        return await self.pipeline.run(text, raise_on_error=False, **options)

    @property
    def calls(self) -> list[int]:
        return [model.calls for model in self.models]

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.signals]


def facts(result: PipelineResult, type: str) -> list[dict[str, Any]]:
    return [dict(fact.data) for fact in result.events if fact.type == type]


def asked(result: PipelineResult) -> list[str]:
    """Who was asked, by the facts; "" is the first."""
    return [fact.get("target", "") for fact in facts(result, "model.intent")]
