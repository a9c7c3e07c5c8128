"""Tell a run how far it has come."""

from __future__ import annotations

from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult


class RunStatus(Tool):
    """What the run has used and what it may: turns, tool calls, tokens, money, time."""

    name = "run_status"
    description = (
        "What you have used of this run until now, and what you may: turns, tool calls, tokens, "
        "money, time. To see whether there is enough left for what you plan."
    )
    effects = frozenset[str]()
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. Outside of a run it is an error result."""
        state = context.run_state()
        if state is None:
            return ToolResult("This call belongs to no run.", is_error=True)
        most = f" of ${state.max_cost_usd:.2f}" if state.max_cost_usd is not None else ""
        usage = state.usage
        return ToolResult(
            f"turns: {state.turns} of {state.max_turns}\n"
            f"tool calls: {state.tool_calls} of {state.max_tool_calls}\n"
            f"tokens: {usage.input_tokens} in, {usage.output_tokens} out\n"
            f"cost: ${state.cost_usd:.4f}{most}\n"
            f"time: {state.elapsed_s:.1f} s of {state.timeout_s:g} s"
        )
