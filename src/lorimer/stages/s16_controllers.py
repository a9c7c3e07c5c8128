"""Stage 16, controllers: whether there is another turn. The unconditional limits are in
`core/limits.py`; a controller can only stop earlier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from pydantic import Field

from lorimer.core.messages import user_message
from lorimer.core.request import StopReason
from lorimer.core.stage import Settings, Strategy
from lorimer.core.state import Decision, PipelineState

Verdict: TypeAlias = tuple[Decision, str]
"""What happens next, and why."""

_USED_UP: Final = "budget:"
_NEARLY: Final = "wrap_up:"
_CALLS: Final[Verdict] = (Decision.CONTINUE, "tool_calls")
_COMPLETE: Final = Decision.COMPLETE
_PAUSE: Final = StopReason.PAUSE


def note(text: str, state: PipelineState) -> None:
    """Tell the model something before its next turn, as a user message."""
    state.messages.append(user_message(f"[Note from the program that runs you: {text}.]"))


class LoopController(Strategy):
    """Decides if no earlier stage has."""

    def decide(self, state: PipelineState) -> Verdict:
        """Called once per iteration."""
        raise TypeError(f"{type(self).__name__} has no decide method")


class Standard(LoopController):
    """Continues as long as the model calls tools."""

    name = "standard"
    description = "Continues while the model calls tools; stops earlier at max_turns, if given."

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
    """Stops after one turn."""

    name = "single_turn"
    description = "One model call; its tools run, but the model does not get their results."

    def decide(self, state: PipelineState) -> Verdict:
        return Decision.COMPLETE, "single_turn"


class BudgetAware(Standard):
    """Like `standard`, but stops cleanly shortly before the cost limit."""

    name = "budget_aware"
    description = "Like standard; completes once cost_threshold_ratio of the cost limit is spent."

    class Config(Standard.Config):
        cost_threshold_ratio: float = Field(0.9, gt=0, le=1)

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def decide(self, state: PipelineState) -> Verdict:
        ceiling = state.run.bounds.limits.max_cost_usd
        if ceiling is not None and state.cost_usd >= ceiling * self.config.cost_threshold_ratio:
            return Decision.COMPLETE, "cost_threshold"
        return super().decide(state)


Dimension: TypeAlias = Literal["turns", "cost", "tokens", "wall_clock", "tool_calls"]


class MultiDimBudget(Standard):
    """Like `standard`, within a budget of several dimensions: the model is told when one of them is
    nearly exhausted, and the run completes with what it has when one is."""

    name = "multi_dim_budget"
    description = (
        "Like standard; completes when turns, cost, tokens, time or tool calls are used up."
    )

    class Config(Standard.Config):
        """A dimension without a budget of its own uses the run's limit, if there is one."""

        dimensions: list[Dimension] = Field(
            ["turns", "cost", "tokens", "wall_clock", "tool_calls"], min_length=1
        )
        """Active dimensions: `turns`, `cost`, `tokens`, `wall_clock`, `tool_calls`."""
        max_cost_usd: float | None = Field(None, gt=0)
        max_tokens: int | None = Field(None, ge=1)
        """Input and output tokens of all model calls."""
        max_seconds: float | None = Field(None, gt=0)
        """Duration of the run, without the time that it was suspended."""
        max_tool_calls: int | None = Field(None, ge=1)
        ratio: float = Field(0.9, gt=0, le=1)
        """The share of a budget at which the run completes."""
        warn_ratio: float = Field(0.75, gt=0, le=1)
        """The share of a budget at which the model is told to finish; once."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def decide(self, state: PipelineState) -> Verdict:
        if not state.calls:
            return super().decide(state)
        before = state.run.recorded("iteration.end")  # of a resumed run: time went on
        reason = self._reason(state) if before is None else str(before.data.get("reason"))
        if reason.startswith(_USED_UP):
            return Decision.COMPLETE, reason
        if reason.startswith(_NEARLY):
            state.shared[_NEARLY] = True
            note(
                f"the budget of this work ({reason.removeprefix(_NEARLY)}) is nearly used up: come "
                "to an end, and answer with what you have",
                state,
            )
            return Decision.CONTINUE, reason
        return _CALLS

    def _reason(self, state: PipelineState) -> str:
        shares = self._shares(state)
        for dimension, share in shares.items():
            if share >= self.config.ratio:
                return f"{_USED_UP}{dimension}"
        for dimension, share in shares.items():
            if share >= self.config.warn_ratio and _NEARLY not in state.shared:
                return f"{_NEARLY}{dimension}"
        return ""

    def _shares(self, state: PipelineState) -> Mapping[str, float]:
        """The used share of each budget."""
        run, config = state.run, self.config
        limits = run.bounds.limits
        took = run.bounds.used_s(run.world.monotonic())
        used: dict[Dimension, tuple[float, float | None]] = {
            "turns": (run.bounds.turns, config.max_turns or run.bounds.max_turns),
            "cost": (state.cost_usd, config.max_cost_usd or limits.max_cost_usd),
            "tokens": (state.usage.total, config.max_tokens),
            "wall_clock": (took, config.max_seconds or limits.timeout_s),
            "tool_calls": (run.bounds.tool_calls, config.max_tool_calls or limits.max_tool_calls),
        }
        return {
            name: used[name][0] / most
            for name in config.dimensions
            for most in (used[name][1],)
            if most
        }
