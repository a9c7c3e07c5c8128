"""Stage 5, Cache: where prompt cache breakpoints are set. Providers without them ignore this."""

from __future__ import annotations

from pydantic import Field

from lorimer.core.request import NO_MARKS, CacheMarks
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState


class CacheStrategy(Strategy):
    """Sets the breakpoints."""

    def marks(self, state: PipelineState) -> CacheMarks:
        """Where the prefix of the next request is stable."""
        raise TypeError(f"{type(self).__name__} has no marks method")


class NoCache(CacheStrategy):
    """No breakpoints."""

    name = "no_cache"
    description = "No breakpoints."

    def marks(self, state: PipelineState) -> CacheMarks:
        return NO_MARKS


class SystemCache(CacheStrategy):
    """After the tools and the system prompt."""

    name = "system_cache"
    description = "Breakpoints after tools and system prompt."

    def marks(self, state: PipelineState) -> CacheMarks:
        return CacheMarks(system=bool(state.system), tools=bool(state.tools))


class AggressiveCache(CacheStrategy):
    """After the tools, the system prompt, and the conversation except for its newest messages."""

    name = "aggressive_cache"
    description = "Like system_cache, and one stable_history_offset messages from the end."

    class Config(Settings):
        stable_history_offset: int = Field(1, ge=1)
        """Where the stable prefix ends, counted in messages from the end; 1: includes the
        newest."""

    config: Config

    def marks(self, state: PipelineState) -> CacheMarks:
        index = len(state.context) - self.config.stable_history_offset
        return CacheMarks(
            system=bool(state.system),
            tools=bool(state.tools),
            message=index if index >= 0 else None,
        )


class CacheStage(Stage[object, object]):
    """Fills `state.cache` before every model call."""

    name = "cache"
    order = 5
    category = "pre_flight"
    every_call = True

    strategy = Slot(
        CacheStrategy,
        default="system_cache",
        known={
            "no_cache": "lorimer.stages.s05_cache:NoCache",
            "system_cache": "lorimer.stages.s05_cache:SystemCache",
            "aggressive_cache": "lorimer.stages.s05_cache:AggressiveCache",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> object:
        state.cache = self.strategy.marks(state)
        if state.run.wants("cache.applied"):
            state.run.signal("cache.applied", {"strategy": self.strategy.name})
        return input
