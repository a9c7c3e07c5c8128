"""Row 9: from the start of the interpreter to the end of the first run. Each case in a process of
its own."""

from __future__ import annotations

import sys
from time import process_time

from benchmarks.memory import peak_rss_kib
from benchmarks.scale import Figures, Scale


async def first_run(scale: Scale) -> Figures:
    """`import lorimer`, build an agent, run it once."""
    import lorimer

    agent = lorimer.PipelinePresets.agent(model="scripted:echo")
    result = await agent.run("hi")
    return _figures(result.text, "hi")


async def first_tool_run(scale: Scale) -> Figures:
    """The same with a decorated function that the model calls."""
    import lorimer
    from lorimer.core.messages import ToolUse
    from lorimer.models.registry import Models
    from lorimer.models.scripted import ScriptedModel

    @lorimer.tool
    def work(n: int) -> str:
        """Does a piece of work."""
        return "ok" * n

    model = ScriptedModel([[ToolUse("call_1", "work", {"n": 1})], "done"])
    agent = lorimer.PipelinePresets.agent(
        model="scripted:x", models=Models(providers={"scripted": model}), tools=[work]
    )
    result = await agent.run("hi")
    return _figures(f"{result.text} after {model.calls}", "done after 2")


def _figures(answer: str, expected: str) -> Figures:
    spent = process_time()
    if answer != expected:
        raise RuntimeError(f"expected {expected!r}, got {answer!r}")
    return {"s": spent, "mib": peak_rss_kib() / 1024, "modules": float(len(sys.modules))}
