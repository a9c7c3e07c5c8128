"""The progress of a run and its limits, as its tools may read them while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorimer.core.record import record
from lorimer.core.request import Usage

if TYPE_CHECKING:
    from lorimer.core.context import RunContext


@record
class RunState:
    """At one moment. Each figure has beside it what the run may come to: see `Limits`."""

    run_id: str
    turns: int
    """Model calls with their tool calls, the one at hand included."""
    max_turns: int
    tool_calls: int
    """The one that asks included."""
    max_tool_calls: int
    usage: Usage
    """Tokens until now, those of failed attempts and ended sub-agents included."""
    cost_usd: float
    max_cost_usd: float | None
    """None: there is no ceiling."""
    elapsed_s: float
    """Of the run's own time, earlier lives of a resumed run included."""
    timeout_s: float

    @classmethod
    def of(cls, run: RunContext) -> RunState:
        """Of a run that goes on."""
        bounds, limits, spend = run.bounds, run.bounds.limits, run.spend
        left = bounds.deadline - run.world.monotonic()
        return cls(
            run.id,
            bounds.turns,
            bounds.max_turns,
            bounds.tool_calls,
            limits.max_tool_calls,
            spend.usage,
            spend.nano / 1e9,
            limits.max_cost_usd,
            limits.timeout_s - left,
            limits.timeout_s,
        )
