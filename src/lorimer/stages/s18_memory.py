"""Stage 18, Memory: what later runs can find of this one. It is written to the memory that the host
has bound, never to the conversation; stage 2's retriever reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from lorimer.core.bindings import MEMORY, Bindings
from lorimer.core.context import Safety
from lorimer.core.errors import ConfigError, MemoryFailed
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.memory import STRANGERS, Memory, MemoryItem
from lorimer.core.memory_calls import ask_memory
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState

_SHARE: Final = 0.9
"""The part of the time left for stages 17 to 21 that a memory may take; the rest is for them."""


class MemoryStrategy(Strategy):
    """Decides what to remember of a run."""

    least_cleanup_s: float = 0.0
    """The time in seconds that it needs out of that for stages 17 to 21."""

    async def learn(self, state: PipelineState) -> Sequence[MemoryItem]:
        """The items to keep, [] for none. Each has an id that stays the same when the run is
        resumed. External requests have to go through `state.run.effect`."""
        raise TypeError(f"{type(self).__name__} has no learn method")


class MemoryStage(Stage[object, object]):
    """Writes to the bound memory when a run has succeeded. Bypassed if there is none. Failures of
    the memory are reported by the signal `memory.failed`; the run still has its answer."""

    name = "memory"
    order = 18
    category = "finalize"
    bypass_reason = "no memory is bound to the pipeline"

    class Config(Settings):
        memory: str = MEMORY
        """The name under which the host bound it."""

    config: Config

    strategy = Slot(
        MemoryStrategy,
        default="append_only",
        known={
            "no_memory": "lorimer.stages.s18_strategies:NoMemory",
            "append_only": "lorimer.stages.s18_strategies:AppendOnly",
            "reflective": "lorimer.stages.s18_strategies:Reflective",
        },
    )

    def bind(self, bindings: Bindings) -> None:
        self.memory = bindings.memory(self.config.memory, "stages[18].config.memory")
        least = self.strategy.least_cleanup_s
        if self.memory is not None and bindings.limits.cleanup_s < least:
            raise ConfigError(
                f"limits.cleanup_s: stage 18's {self.strategy.name!r} asks a model, which takes "
                f"its time: at least {least:g} s"
            )

    def should_bypass(self, state: PipelineState) -> bool:
        return self.memory is None and not written(state, "learnt")

    async def execute(self, input: object, state: PipelineState) -> object:
        await remember(self.memory, "learnt", await self.strategy.learn(state), state)
        return input


def written(state: PipelineState, key: str) -> bool:
    """Whether writing to a memory is recorded: a replay needs no memory."""
    return state.run.recorded("effect", f"memory:{key}") is not None


async def remember(
    memory: Memory | None, key: str, items: Sequence[MemoryItem], state: PipelineState
) -> None:
    """Write items to a memory, once: an effect of the run, with a key of its own. They are tagged
    if the run has read untrusted content."""
    if not items:
        return
    run = state.run
    if run.strangers:
        items = [replace(item, tags=(*item.tags, STRANGERS)) for item in items]
    plain: list[JSON] = [item.to_json() for item in items]
    kept = [replace(item, tags=_on_one_line(item.tags)) for item in items]

    async def put() -> Mapping[str, JSON]:
        if memory is None:
            raise MemoryFailed("No memory is bound.")
        await ask_memory(partial(memory.put, kept), run, _SHARE * run.alarm.left_s)
        return {"kept": len(items)}

    try:
        await run.effect("memory", key, put, request=canonical(plain), safety=Safety.IDEMPOTENT)
    except MemoryFailed as error:
        run.signal("memory.failed", {"error": str(error), "code": error.code.value})
        return
    run.signal("memory.updated", {"count": len(items), "by": key})


def _on_one_line(tags: Sequence[str]) -> tuple[str, ...]:
    """As memories accept them: what is found in an answer may span lines, or be empty."""
    return tuple([line for tag in tags if (line := " ".join(tag.split()))])
