"""A pipeline on a scripted model and in memory, for runs under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lorimer import Pipeline
from lorimer.core.events import Event
from lorimer.core.journal import Journal, LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message, ToolResultBlock, ToolUse
from lorimer.core.model import Model
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool, ToolContext, ToolResult
from lorimer.tools.base import ToolInput

Change = Callable[[EnvironmentManifest], None]


def make(
    world: World,
    model: Model | Iterable[Any],
    preset: str = "agent",
    *,
    change: Change | None = None,
    tools: Sequence[Tool] = (),
    journal: Journal | None = None,
    **options: Any,
) -> Pipeline:
    """A preset's pipeline whose model is `model`, or a scripted one with these replies; `change`
    may change the manifest first."""
    if isinstance(model, str | list | tuple):
        model = ScriptedModel(model)
    manifest = preset_manifest(preset, model="scripted:m")
    if "loop" in manifest.stages:  # scripted models go round in circles on purpose
        manifest.stages["loop"].strategies["guards"] = []
    if change is not None:
        change(manifest)
    return Pipeline(
        manifest,
        tools=tools,
        models=Models(providers={"scripted": model}),  # type: ignore[dict-item]
        journal=journal or MemoryJournal(world),
        world=world,
        **options,
    )


def use(name: str, id: str = "", **input: JSON) -> ToolUse:
    """A call; its id is the tool's name unless given."""
    return ToolUse(id or name, name, input)


class Do(Tool):
    """A tool that runs a function of its own, for one test."""

    description = "does something"
    input_schema = {"type": "object"}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        act: Callable[[ToolInput, ToolContext], Any] | None = None,
        *,
        effects: Iterable[str] = ("read",),
        safe: bool = False,
        idempotent: bool = False,
    ) -> None:
        self.name = name
        self.effects = frozenset(effects)
        self.concurrency_safe = safe
        self.idempotent = idempotent
        self.calls: list[ToolInput] = []
        self._act = act

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.calls.append(input)
        if self._act is None:
            return ToolResult(f"{self.name} done")
        given = self._act(input, context)
        if asyncio.iscoroutine(given):
            given = await given
        return given if isinstance(given, ToolResult) else ToolResult(given)


class Watched(MemoryJournal):
    """`before` is told of the stream, the facts and whether they are synced, ahead of each append;
    what it raises is what that fails with."""

    def __init__(
        self, before: Callable[[str, Sequence[Event], bool], None], world: World | None = None
    ) -> None:
        super().__init__(world)
        self._before = before

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        self._before(stream, facts, sync)
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


class SlowJournal(MemoryJournal):
    """Takes its time as a store with a thread does; what is cancelled meanwhile is written."""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        cancelled: asyncio.CancelledError | None = None
        last = 0
        for step in range(3):
            if step == 1:
                last = await super().append(stream, epoch, facts, sync=sync, ledger=ledger)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return last


class Older(MemoryJournal):
    """Takes a run.start while another run is open in its stream, as stores did once."""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        last = 0
        for fact in facts:
            if fact.type == "run.start":
                self._streams[stream].run = ""
            last = await super().append(stream, epoch, [fact], sync=sync, ledger=ledger)
        return last


async def held(world: World, facts: Iterable[Event], stream: str = "session_1") -> MemoryJournal:
    """A journal as a process leaves it that died after these facts."""
    journal = Older(world)
    epoch = await journal.claim(stream, "the dead", 0)
    copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in facts]
    await journal.append(stream, epoch, copies, sync=True)
    await journal.release(stream, epoch)
    return journal


def kinds(facts: Iterable[Event]) -> list[str]:
    return [fact.type for fact in facts]


def only(facts: Iterable[Event], type: str) -> Mapping[str, JSON]:
    """The data of the one fact of that kind."""
    [fact] = [fact for fact in facts if fact.type == type]
    return fact.data


def check_history(messages: Sequence[Message]) -> None:
    """Every provider takes these messages: each call is answered at once, completely, in order."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        assert message.content or message.role == "assistant", f"message {index} is empty"
        results = [b.tool_use_id for b in message.content if isinstance(b, ToolResultBlock)]
        assert results == waiting, f"message {index} answers {results}, not {waiting}"
        waiting = [call.id for call in message.tool_uses]
        assert not (waiting and message.role == "user")
    assert not waiting, f"{waiting} are never answered"
    assert not messages or messages[0].role == "user"
