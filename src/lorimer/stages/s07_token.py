"""Stage 7, Token: how tokens and costs are reported, and which prices apply.

Counting itself is done at the model call, so that failed attempts are included.
"""

from __future__ import annotations

from pydantic import Field

from lorimer.core.jsonable import JSON
from lorimer.core.model import Model
from lorimer.core.request import Response, Usage
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState


class Calculator(Strategy):
    """Calculates the cost of tokens."""

    def price(self, usage: Usage, name: str, model: Model) -> int | None:
        """Nano-dollars for `usage` of the model `name`, which answered; None: unknown."""
        raise TypeError(f"{type(self).__name__} has no price method")


class UnifiedPricing(Calculator):
    """The price table, for the model that actually answered."""

    name = "unified_pricing"
    description = "The shipped price table with the host's overrides."

    def price(self, usage: Usage, name: str, model: Model) -> int | None:
        return model.price(usage, model=name)


class CustomPricing(Calculator):
    """Two custom prices, for every model."""

    name = "custom_pricing"
    description = "Fixed dollars per million input and output tokens."

    class Config(Settings):
        input_per_million: float = Field(3.0, ge=0)
        output_per_million: float = Field(15.0, ge=0)

    config: Config

    def price(self, usage: Usage, name: str, model: Model) -> int | None:
        dollars = (
            usage.prompt_tokens * self.config.input_per_million
            + usage.output_tokens * self.config.output_per_million
        )
        return round(dollars * 1000)


class Tracker(Strategy):
    """Reports the usage of a reply."""

    def track(self, response: Response, state: PipelineState) -> None:
        """Called once per reply."""
        raise TypeError(f"{type(self).__name__} has no track method")


class DefaultTracker(Tracker):
    """The totals of the run, for listeners."""

    name = "default"
    description = "The run's totals, as the signal token.tracked."

    def track(self, response: Response, state: PipelineState) -> None:
        run = state.run
        if run.wants("token.tracked"):
            run.signal(
                "token.tracked",
                {
                    **response.usage.to_json(),
                    "cost_usd": response.cost_nano / 1e9,
                    "total_cost_usd": state.cost_usd,
                    "total_tokens": run.spend.usage.total,
                },
            )


class DetailedTracker(DefaultTracker):
    """Also a row per reply, in `state.shared["token_breakdown"]`."""

    name = "detailed"
    description = "Like default, and a row for every reply in shared['token_breakdown']."

    def track(self, response: Response, state: PipelineState) -> None:
        row: dict[str, JSON] = {
            "iteration": state.iteration,
            "model": response.model,
            "usage": response.usage.to_json(),
            "cost_usd": response.cost_nano / 1e9,
        }
        rows = state.shared.get("token_breakdown")
        state.shared["token_breakdown"] = [*rows, row] if isinstance(rows, list) else [row]
        super().track(response, state)


class TokenStage(Stage[object, object]):
    """Reports each reply; stage 6 uses its calculator for prices."""

    name = "token"
    order = 7
    category = "execution"

    calculator = Slot(
        Calculator,
        default="unified_pricing",
        known={
            "unified_pricing": "lorimer.stages.s07_token:UnifiedPricing",
            "custom_pricing": "lorimer.stages.s07_token:CustomPricing",
        },
    )
    tracker = Slot(
        Tracker,
        default="default",
        known={
            "default": "lorimer.stages.s07_token:DefaultTracker",
            "detailed": "lorimer.stages.s07_token:DetailedTracker",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.response is not None:
            self.tracker.track(state.response, state)
        return input
