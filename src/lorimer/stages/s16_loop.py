"""Stage 16, Loop: whether there is another turn. The unconditional limits are in `core/limits.py`;
the strategies can only stop earlier. Controllers: `s16_controllers.py`; guards: `s16_guards.py`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.errors import LimitError
from lorimer.core.stage import Chain, Settings, Slot, Stage
from lorimer.core.state import Decision, PipelineState, decided
from lorimer.core.trail import Trail
from lorimer.stages.s16_controllers import LoopController, note
from lorimer.stages.s16_guards import LoopGuard

_CONTINUE: Final = Decision.CONTINUE


class LoopStage(Stage[object, object]):
    """Lets its controller decide, unless an earlier stage has. If the run would continue, the
    guards examine the last turns: each one warns the model once, and then ends the run with its own
    code."""

    name = "loop"
    order = 16
    category = "decision"

    class Config(Settings):
        polling_tools: list[str] = Field([])
        """Tools that are intentionally called repeatedly, in addition to those declared as such:
        only `error_streak` counts their calls."""

        early_stop_on: list[Literal["continue", "complete", "blocked", "error", "delegate"]] = (
            Field([])
        )
        """Signals of the model (stage 9's detector) that complete the run, even if it called
        tools."""

    config: Config

    guards = Chain(
        LoopGuard,
        default=("identical", "alternating", "no_progress", "error_streak"),
        known={
            "identical": "lorimer.stages.s16_guards:Identical",
            "alternating": "lorimer.stages.s16_guards:Alternating",
            "no_progress": "lorimer.stages.s16_guards:NoProgress",
            "error_streak": "lorimer.stages.s16_guards:ErrorStreak",
        },
    )

    controller = Slot(
        LoopController,
        default="standard",
        known={
            "standard": "lorimer.stages.s16_controllers:Standard",
            "single_turn": "lorimer.stages.s16_controllers:SingleTurn",
            "budget_aware": "lorimer.stages.s16_controllers:BudgetAware",
            "multi_dim_budget": "lorimer.stages.s16_controllers:MultiDimBudget",
        },
    )

    def bind(self, bindings: Bindings) -> None:
        self._tools = bindings.tools
        self._polling = frozenset(self.config.polling_tools)
        self._always = any(guard.always for guard in self.guards)

    async def execute(self, input: object, state: PipelineState) -> object:
        decision = state.decision
        if decision is None:
            if state.signal and state.signal in self.config.early_stop_on:
                decision, state.reason = Decision.COMPLETE, f"signal:{state.signal}"
            else:
                decision, state.reason = self.controller.decide(state)
            if decision is _CONTINUE and state.calls and self.guards:
                decision = self._guarded(state)
            state.decision = decision
        elif type(decision) is not Decision:
            decision = state.decision = decided(decision)
        if state.run.has_listeners:
            told = {"reason": state.reason, "pending_tools": len(state.calls)}
            state.run.signal(f"loop.{decision.value}", told)
        return input

    def _guarded(self, state: PipelineState) -> Decision:
        """Whether to continue, given the guards."""
        trail = state.trail
        if trail is None:
            trail = state.trail = Trail()
        trail.add(state.calls, state.results, self._polls())
        if trail.advances and not trail.warned and not self._always:  # nearly always
            return _CONTINUE
        for guard in self.guards:
            count, config = guard.count(trail), guard.config
            if count < config.warn_after:
                trail.warned.discard(guard.name)
                continue
            what = guard.warning(count)
            if config.stop_after is not None and count >= config.stop_after:
                self._tell(guard, "stop", what, state)
                state.reason = guard.name
                state.failure = LimitError(
                    f"Stopped by the loop guard {guard.name!r}: {what}.",
                    code=guard.code,
                    hint="Narrow the task, correct the tool, or change stage 16's guards.",
                )
                return Decision.ERROR
            if guard.name not in trail.warned:
                trail.warned.add(guard.name)
                self._tell(guard, "warn", what, state)
                note(
                    f"{what}. Doing that again will not help: try something else, or answer with "
                    "what you have and say what is missing",
                    state,
                )
        return _CONTINUE

    def _polls(self) -> frozenset[str]:
        tools = self._tools
        if tools is None:
            return self._polling
        return self._polling | tools.polling if self._polling else tools.polling

    def _tell(self, guard: LoopGuard, action: str, what: str, state: PipelineState) -> None:
        if state.run.wants("loop.guard"):
            told = {"guard": guard.name, "action": action, "message": what}
            state.run.signal("loop.guard", told)
