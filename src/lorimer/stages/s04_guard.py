"""Stage 4, Guard: policy before every model call. The bounds that always hold are in
`core/limits.py`; a guard may only stop earlier."""

from __future__ import annotations

from pydantic import Field

from lorimer.core.errors import GuardRejectError
from lorimer.core.stage import Chain, Settings, Stage, Strategy
from lorimer.core.state import PipelineState


class Guard(Strategy):
    """One reason not to call the model."""

    def check(self, state: PipelineState) -> str:
        """Why the call must not be made; "" when it may. Must be cheap."""
        raise TypeError(f"{type(self).__name__} has no check method")


class TokenBudget(Guard):
    """Stops before the context window is full."""

    name = "token_budget"
    description = "Stops when less than min_remaining_tokens of the context window are left."

    class Config(Settings):
        context_window: int = Field(200_000, ge=1)
        """Tokens."""
        min_remaining_tokens: int = Field(10_000, ge=0)

    config: Config

    def check(self, state: PipelineState) -> str:
        used = (state.context_size + len(state.system)) // 4
        left = self.config.context_window - used
        if left >= self.config.min_remaining_tokens:
            return ""
        return f"about {used:,} tokens of a window of {self.config.context_window:,} are used"


class CostBudget(Guard):
    """Stops once so much is spent."""

    name = "cost_budget"
    description = "Stops when the run has spent max_cost_usd."

    class Config(Settings):
        max_cost_usd: float = Field(ge=0)

    config: Config

    def check(self, state: PipelineState) -> str:
        if state.cost_usd < self.config.max_cost_usd:
            return ""
        return f"${state.cost_usd:.4f} of ${self.config.max_cost_usd:.4f} are spent"


class Iteration(Guard):
    """Stops after so many model calls."""

    name = "iteration"
    description = "Stops after max_iterations model calls."

    class Config(Settings):
        max_iterations: int = Field(ge=1)

    config: Config

    def check(self, state: PipelineState) -> str:
        if state.iteration < self.config.max_iterations:
            return ""
        return f"{state.iteration} model calls were made, the most allowed"


class GuardStage(Stage[object, object]):
    """Asks every guard, in order; the first one that says no ends the run as `rejected`."""

    name = "guard"
    order = 4
    category = "pre_flight"
    every_call = True

    guards = Chain(
        Guard,
        default=("token_budget",),
        known={
            "token_budget": "lorimer.stages.s04_guard:TokenBudget",
            "cost_budget": "lorimer.stages.s04_guard:CostBudget",
            "iteration": "lorimer.stages.s04_guard:Iteration",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        return not self.guards

    async def execute(self, input: object, state: PipelineState) -> object:
        for guard in self.guards:
            problem = guard.check(state)
            if state.run.wants("guard.check"):
                state.run.signal(
                    "guard.check",
                    {"guard_name": guard.name, "passed": not problem, "message": problem},
                )
            if problem:
                raise GuardRejectError(
                    f"The guard {guard.name!r} stopped the run: {problem}.", guard_name=guard.name
                )
        return input
