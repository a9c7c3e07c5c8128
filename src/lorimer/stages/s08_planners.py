"""Stage 8, budget planners: how many tokens a model may think. Stage 6 calls them before each model
call."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from lorimer.core.messages import ToolResultBlock
from lorimer.core.stage import Settings, Strategy
from lorimer.core.state import PipelineState

_STEP_CHARS: Final = 4000


class BudgetPlanner(Strategy):
    """Plans the thinking of each call, if thinking is enabled for the manifest's model."""

    def budget(self, given: int, state: PipelineState) -> int:
        """Tokens, at least 1024; `given` is the manifest's value. Must be fast and deterministic
        for a given state: the plan is not recorded."""
        raise TypeError(f"{type(self).__name__} has no budget method")


class StaticBudget(BudgetPlanner):
    """The manifest's value."""

    name = "static"
    description = "model.thinking_budget_tokens, for every call."

    def budget(self, given: int, state: PipelineState) -> int:
        return given


class AdaptiveBudget(BudgetPlanner):
    """More for long conversations, for tools, and after errors."""

    name = "adaptive"
    description = "Between min_budget and max_budget, by length, tools and failed calls."

    class Config(Settings):
        base_budget: int = Field(4000, ge=1024)
        """Tokens to start with."""
        min_budget: int = Field(2000, ge=1024)
        max_budget: int = Field(24_000, ge=1024)
        tools_bonus: int = Field(4000, ge=0)
        """Additional tokens if there are tools."""
        reflection_bonus: int = Field(4000, ge=0)
        """Additional tokens after a turn with a failed call, and for an answer that was sent
        back."""
        length_bonus: int = Field(2000, ge=0)
        """Additional tokens for every 4,000 characters of the conversation."""

    config: Config

    def budget(self, given: int, state: PipelineState) -> int:
        config = self.config
        tokens = config.base_budget + config.length_bonus * (state.context_size // _STEP_CHARS)
        if state.tools:
            tokens += config.tools_bonus
        last = state.messages[-1].content if state.messages else ()
        results = [block for block in last if isinstance(block, ToolResultBlock)]
        failed = any(result.is_error for result in results)
        if failed or (state.iteration and not results):
            tokens += config.reflection_bonus
        return max(config.min_budget, min(tokens, config.max_budget))
