"""Stage 8, Think: what is kept of the model's reasoning. Reads the reply without changing it:
signatures must go back unchanged. How much thinking is allowed: `s08_planners.py`, called by stage
6."""

from __future__ import annotations

from pydantic import Field

from lorimer.core.messages import ThinkingBlock
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.stages.s08_planners import BudgetPlanner


class ThinkProcessor(Strategy):
    """Chooses which reasoning is kept for people to read."""

    def process(self, texts: list[str]) -> list[str]:
        """The texts to keep in `state.thinking`."""
        raise TypeError(f"{type(self).__name__} has no process method")


class Store(ThinkProcessor):
    """All of it."""

    name = "store"
    description = "Keeps every reasoning text."

    def process(self, texts: list[str]) -> list[str]:
        return texts


class Filter(ThinkProcessor):
    """All except what mentions certain phrases."""

    name = "filter"
    description = "Drops reasoning that contains one of exclude_patterns."

    class Config(Settings):
        exclude_patterns: list[str] = Field([])
        """Phrases, ignoring case."""

    config: Config

    def process(self, texts: list[str]) -> list[str]:
        phrases = [phrase.casefold() for phrase in self.config.exclude_patterns]
        return [text for text in texts if not any(phrase in text.casefold() for phrase in phrases)]


class ThinkStage(Stage[object, object]):
    """Keeps the reasoning of each reply in `state.thinking`. Bypassed when there is none."""

    name = "think"
    order = 8
    category = "execution"
    bypass_reason = "the reply holds no thinking"

    processor = Slot(
        ThinkProcessor,
        default="store",
        known={
            "store": "lorimer.stages.s08_think:Store",
            "filter": "lorimer.stages.s08_think:Filter",
        },
    )

    budget_planner = Slot(
        BudgetPlanner,
        default="static",
        known={
            "static": "lorimer.stages.s08_planners:StaticBudget",
            "adaptive": "lorimer.stages.s08_planners:AdaptiveBudget",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        response = state.response
        if response is not None:
            for block in response.content:
                if isinstance(block, ThinkingBlock):
                    return False
        return True

    async def execute(self, input: object, state: PipelineState) -> object:
        blocks = state.response.content if state.response is not None else ()
        texts = [b.text for b in blocks if isinstance(b, ThinkingBlock) and b.text]
        state.thinking.extend(self.processor.process(texts))
        if state.run.wants("think.processed"):
            state.run.signal("think.processed", {"thinking_block_count": len(texts)})
        return input
