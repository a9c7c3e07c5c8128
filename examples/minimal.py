"""The smallest agent: one tool, one question. Needs ANTHROPIC_API_KEY."""

from lorimer import PipelinePresets, tool


@tool
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


agent = PipelinePresets.agent(tools=[add], max_turns=5)
result = agent.run_sync("What is 1234.5 + 8765.25? Use the tool.")
print(result.text)
print(f"{result.iterations} turns, {result.usage.total} tokens, ${result.total_cost_usd:.4f}")
