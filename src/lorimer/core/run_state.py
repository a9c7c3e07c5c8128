"""The progress and limits of a live run, for its tools to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorimer.core.record import record
from lorimer.core.request import Usage

if TYPE_CHECKING:
    from lorimer.core.context import RunContext


@record
class RunState:
    """A snapshot. For the limit of each figure see `Limits`."""

    run_id: str
    turns: int
    """Model calls with their tool calls, including the current one."""
    max_turns: int
    tool_calls: int
    """Tool calls, including the one that asks."""
    max_tool_calls: int
    usage: Usage
    """Tokens so far, including failed attempts and ended sub-agents."""
    cost_usd: float
    max_cost_usd: float | None
    """None: there is no limit."""
    elapsed_s: float
    """Seconds of the run's own time, including those before it was resumed."""
    timeout_s: float

    @classmethod
    def of(cls, run: RunContext) -> RunState:
        """The state of a live run."""
        bounds, limits, spend = run.bounds, run.bounds.limits, run.spend
        return cls(
            run.id,
            bounds.turns,
            bounds.max_turns,
            bounds.tool_calls,
            limits.max_tool_calls,
            spend.usage,
            spend.nano / 1e9,
            limits.max_cost_usd,
            bounds.used_s(run.world.monotonic()),
            limits.timeout_s,
        )
