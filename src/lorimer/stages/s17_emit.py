"""Stage 17, Emit: pass the final answer to the host's receivers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from lorimer.core.bindings import Bindings
from lorimer.core.context import Safety
from lorimer.core.jsonable import JSON
from lorimer.core.stage import Chain, Settings, Stage, Strategy
from lorimer.core.state import PipelineState


class Emitter(Strategy):
    """One receiver of the answer. At least once: after a crash it may be called again."""

    class Config(Settings):
        target: str
        """The name under which the host bound the function."""

    config: Config

    def bind(self, bindings: Bindings) -> None:
        where = f"stages[17].strategy_configs.emitters.{self.name}.target"
        self._target = bindings.function(self.config.target, where)

    def payload(self, state: PipelineState) -> JSON:
        """The argument of the function."""
        raise TypeError(f"{type(self).__name__} has no payload method")

    async def emit(self, state: PipelineState) -> Mapping[str, JSON]:
        """Call the function; it may be async."""
        waiting = self._target(self.payload(state))
        if inspect.isawaitable(waiting):
            await waiting
        return {}


class TextEmitter(Emitter):
    """The text."""

    name = "text"
    description = "Calls target(text)."

    def payload(self, state: PipelineState) -> JSON:
        return state.text


class RecordEmitter(Emitter):
    """The text with its cost."""

    name = "record"
    description = "Calls target({run_id, text, iterations, usage, total_cost_usd})."

    def payload(self, state: PipelineState) -> JSON:
        return {
            "run_id": state.run.id,
            "text": state.text,
            "iterations": state.run.bounds.turns,
            "usage": state.usage.to_json(),
            "total_cost_usd": state.cost_usd,
        }


class EmitStage(Stage[object, object]):
    """Calls every emitter, in order. Bypassed when there are none."""

    name = "emit"
    order = 17
    category = "egress"
    bypass_reason = "no emitter is chosen"
    bypass_path = "strategies.emitters"

    emitters = Chain(
        Emitter,
        known={
            "text": "lorimer.stages.s17_emit:TextEmitter",
            "record": "lorimer.stages.s17_emit:RecordEmitter",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        return not self.emitters

    async def execute(self, input: object, state: PipelineState) -> object:
        for emitter in self.emitters:
            await state.run.effect(
                "emit",
                emitter.name,
                lambda emitter=emitter: emitter.emit(state),
                request=state.text.encode("utf-8", "surrogatepass"),
                safety=Safety.READ_ONLY,
            )
        state.run.signal("emit.complete", {"channels": [e.name for e in self.emitters]})
        return input
