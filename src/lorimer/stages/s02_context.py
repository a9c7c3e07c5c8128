"""Stage 2, Context: choose what of the conversation goes to the model."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from lorimer.core.messages import Message
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.wellformed import repaired


class ContextStrategy(Strategy):
    """Decides which messages the model sees."""

    async def load(self, state: PipelineState) -> Sequence[Message]:
        """The messages for the next call. Must not change the history; its cost must not grow
        with it. What does not fit together in them is mended afterwards. What it fetches from
        outside goes through `state.run.effect`."""
        raise TypeError(f"{type(self).__name__} has no load method")


class SimpleLoad(ContextStrategy):
    """All of the conversation."""

    name = "simple_load"
    description = "The whole conversation."

    async def load(self, state: PipelineState) -> Sequence[Message]:
        return state.messages


class Hybrid(ContextStrategy):
    """The first message and the most recent turns."""

    name = "hybrid"
    description = "The first message and the last max_recent_turns turns of the user."

    class Config(Settings):
        max_recent_turns: int = Field(20, ge=1)

    config: Config

    async def load(self, state: PipelineState) -> Sequence[Message]:
        start = state.messages.turn(self.config.max_recent_turns)
        if start <= 1:
            return state.messages
        return [state.messages[0], *state.messages.since(start)]


class ContextStage(Stage[object, object]):
    """Fills `state.context` before every model call."""

    name = "context"
    order = 2
    category = "ingress"
    every_call = True

    class Config(Settings):
        """A pipeline with this stage remembers the runs before, unless it is stateless."""

        stateless: bool = False
        """Every run begins anew."""

    config: Config

    strategy = Slot(
        ContextStrategy,
        default="simple_load",
        known={
            "simple_load": "lorimer.stages.s02_context:SimpleLoad",
            "hybrid": "lorimer.stages.s02_context:Hybrid",
        },
    )

    @property
    def remembers(self) -> bool:
        """Unless it is stateless."""
        return not self.config.stateless

    async def execute(self, input: object, state: PipelineState) -> object:
        context = await self.strategy.load(state)
        state.context = context if context is state.messages else repaired(context)
        if state.run.wants("context.built"):
            state.run.signal(
                "context.built",
                {
                    "message_count": len(state.context),
                    "estimated_tokens": state.context_size // 4,
                },
            )
        return input
