"""Stage 21, Yield: what the caller gets."""

from __future__ import annotations

from typing import Final

from lorimer.core.stage import Slot, Stage, Strategy
from lorimer.core.state import FEEDBACK, SCORE, PipelineState

_JUDGED: Final = (SCORE, FEEDBACK)


class Formatter(Strategy):
    """Makes the output."""

    def format(self, state: PipelineState) -> object:
        """`result.output`."""
        raise TypeError(f"{type(self).__name__} has no format method")


class DefaultFormatter(Formatter):
    """What the parser made of the answer, else its text."""

    name = "default"
    description = "The parsed value if there is one, else the text."

    def format(self, state: PipelineState) -> object:
        return state.text if state.output is None else state.output


class StructuredFormatter(DefaultFormatter):
    """The answer with its circumstances."""

    name = "structured"
    description = (
        "A dict: text, output, model, iterations, usage, total_cost_usd; and, where stage 14 has "
        "judged it, evaluation_score and evaluation_feedback."
    )

    def format(self, state: PipelineState) -> object:
        return {
            "text": state.text,
            "output": super().format(state),
            "model": state.response.model if state.response is not None else "",
            "iterations": state.run.bounds.turns,
            "usage": state.usage.to_json(),
            "total_cost_usd": state.cost_usd,
            **{name: state.shared[name] for name in _JUDGED if name in state.shared},
        }


class YieldStage(Stage[object, object]):
    """Fills `state.output` and returns it."""

    name = "yield"
    order = 21
    category = "egress"

    formatter = Slot(
        Formatter,
        default="default",
        known={
            "default": "lorimer.stages.s21_yield:DefaultFormatter",
            "structured": "lorimer.stages.s21_yield:StructuredFormatter",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> object:
        state.output = self.formatter.format(state)
        if state.run.wants("yield.complete"):
            state.run.signal("yield.complete", {"text_length": len(state.text)})
        return state.output
