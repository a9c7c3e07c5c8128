"""Stage 4, Guard: policy before every model call. The unconditional limits are in `core/limits.py`;
a guard can only stop earlier."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.errors import GuardRejectError
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import ToolBinding
from lorimer.core.stage import Chain, Settings, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.models.windows import SMALLEST_WINDOW, USUAL_WINDOW, WindowRoom
from lorimer.stages.s06_api import spec_in


class Guard(Strategy):
    """One reason not to call the model."""

    def check(self, state: PipelineState) -> str:
        """The reason why the call must not be made; "" if it may. Must be cheap."""
        raise TypeError(f"{type(self).__name__} has no check method")


class TokenBudget(Guard):
    """Stops before the context window is full."""

    name = "token_budget"
    description = "Stops when less than min_remaining_tokens of the context window are left."

    class Config(Settings):
        context_window: int | None = Field(None, ge=1)
        """Tokens; None: the smallest window among the models of the chain, if known, else
        200,000."""
        min_remaining_tokens: int = Field(10_000, ge=0)
        """At most a tenth of the model's own window."""

    config: Config

    def bind(self, bindings: Bindings) -> None:
        self._room = WindowRoom(bindings.models)
        self._spec = spec_in(bindings)

    def check(self, state: PipelineState) -> str:
        used = (state.context_size + len(state.system)) // 4
        window, least = self.config.context_window, self.config.min_remaining_tokens
        if window is None:
            if used < SMALLEST_WINDOW // 2:  # looking up the window is not worth it
                return ""
            known, run = self._room.of(state.models or self._spec), state.run
            # what was asked is not asked again; a replay without keys may not know the window
            asked = run.recorded("model.intent", "0") is not None
            if asked and (known is None or not run.compares):
                return ""
            window = known or USUAL_WINDOW
            least = min(least, window // 10)
        if window - used >= least:
            return ""
        return f"about {used:,} tokens of a window of {window:,} are used"


class CostBudget(Guard):
    """Stops once a given amount has been spent."""

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
    """Stops after a given number of model calls."""

    name = "iteration"
    description = "Stops after max_iterations model calls."

    class Config(Settings):
        max_iterations: int = Field(ge=1)

    config: Config

    def check(self, state: PipelineState) -> str:
        if state.iteration < self.config.max_iterations:
            return ""
        return f"{state.iteration} model calls were made, the most allowed"


class Permission(Guard):
    """Which tools the model may use. `toolkit.py` combines it with the `tool_binding` of stage 10,
    and the stricter of the two applies: other tools are not shown, and a call of one is answered
    with an error, for the agent and for the sub-agents in its manifest. Other tools offered by a
    stage of the host's stop the run here, before the model has seen them."""

    name = "permission"
    description = "The model has only allowed_tools, and none of blocked_tools."

    class Config(Settings):
        allowed_tools: list[str] = Field([])
        """Names of tools; if empty, all except the blocked ones."""
        blocked_tools: list[str] = Field([])
        """Names of tools; overrides `allowed_tools`."""

    config: Config

    binding: ToolBinding
    """The same in the form of stage 10's binding."""

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        allowed, blocked = self.config.allowed_tools, self.config.blocked_tools
        self.binding = ToolBinding(allowed=allowed or None, blocked=blocked)

    def check(self, state: PipelineState) -> str:
        admits = self.binding.admits
        outside = [spec.name for spec in state.tools if not admits(spec.name)]
        return f"a stage offers the model {', '.join(outside)}" if outside else ""


class GuardStage(Stage[object, object]):
    """Consults every guard, in order; the first refusal ends the run as `rejected`."""

    name = "guard"
    order = 4
    category = "pre_flight"
    bypass_reason = "no guard is chosen"
    bypass_path = "strategies.guards"
    every_call = True

    guards = Chain(
        Guard,
        default=("token_budget",),
        known={
            "token_budget": "lorimer.stages.s04_guard:TokenBudget",
            "cost_budget": "lorimer.stages.s04_guard:CostBudget",
            "iteration": "lorimer.stages.s04_guard:Iteration",
            "permission": "lorimer.stages.s04_guard:Permission",
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
