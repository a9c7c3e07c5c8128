"""Stage 16, Loop: another turn or not. The bounds that always hold are in `core/limits.py`; a
controller may only stop earlier."""

from __future__ import annotations

from typing import Final, TypeAlias

from pydantic import Field

from lorimer.core.messages import StopReason
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import Decision, PipelineState

Verdict: TypeAlias = tuple[Decision, str]
"""What happens next, and why."""

_CALLS: Final[Verdict] = (Decision.CONTINUE, "tool_calls")
_COMPLETE: Final = Decision.COMPLETE
_PAUSE: Final = StopReason.PAUSE


class LoopController(Strategy):
    """Decides when no stage before it has."""

    def decide(self, state: PipelineState) -> Verdict:
        """Called once an iteration."""
        raise TypeError(f"{type(self).__name__} has no decide method")


class Standard(LoopController):
    """As long as the model calls tools."""

    name = "standard"
    description = "Goes on while the model calls tools; stops earlier at max_turns, if given."

    class Config(Settings):
        max_turns: int | None = Field(None, ge=1)

    config: Config

    def decide(self, state: PipelineState) -> Verdict:
        response = state.response
        if state.calls:
            most = self.config.max_turns
            if most is not None and state.iteration + 1 >= most:
                return Decision.COMPLETE, "controller_max_turns"
            return _CALLS
        if response is not None and response.stop is _PAUSE:
            return Decision.CONTINUE, "pause"
        return _COMPLETE, str(response.stop) if response is not None else "no_response"


class SingleTurn(LoopController):
    """Never again."""

    name = "single_turn"
    description = "One model call; its tools run, nobody reads their results."

    def decide(self, state: PipelineState) -> Verdict:
        return Decision.COMPLETE, "single_turn"


class BudgetAware(Standard):
    """As standard, but stops cleanly shortly before the money is used up."""

    name = "budget_aware"
    description = "As standard; completes once cost_threshold_ratio of the cost limit is spent."

    class Config(Standard.Config):
        cost_threshold_ratio: float = Field(0.9, gt=0, le=1)

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def decide(self, state: PipelineState) -> Verdict:
        ceiling = state.run.bounds.limits.max_cost_usd
        if ceiling is not None and state.cost_usd >= ceiling * self.config.cost_threshold_ratio:
            return Decision.COMPLETE, "cost_threshold"
        return super().decide(state)


class LoopStage(Stage[object, object]):
    """Lets its controller decide, unless a stage before has."""

    name = "loop"
    order = 16
    category = "decision"

    controller = Slot(
        LoopController,
        default="standard",
        known={
            "standard": "lorimer.stages.s16_loop:Standard",
            "single_turn": "lorimer.stages.s16_loop:SingleTurn",
            "budget_aware": "lorimer.stages.s16_loop:BudgetAware",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> object:
        decision = state.decision
        if decision is None:
            decision, state.reason = self.controller.decide(state)
            state.decision = decision
        if state.run.heard:
            told = {"reason": state.reason, "pending_tools": len(state.calls)}
            state.run.signal(f"loop.{decision.value}", told)
        return input
