"""Rows 3 and 4: whether the last iteration costs what the first ones did, compacted or not."""

from __future__ import annotations

from statistics import fmean
from time import process_time_ns
from typing import Final

from benchmarks.rows.agents import Work, check, manifest, pipeline, script
from benchmarks.scale import Figures, Scale
from benchmarks.support import costs, expect, growth
from lorimer.presets import chat_manifest


async def long_runs(scale: Scale) -> Figures:
    """One run of each length: what it took, and how its last iterations compare to the tenth."""
    check(await pipeline(script(scale.warm), Work()).run("hi"), scale.warm)
    figures: Figures = {}
    for name, iterations in zip(("short", "long"), scale.iterations, strict=True):
        stamps: list[int] = []
        model, work = script(iterations, stamps=stamps), Work()
        agent = pipeline(model, work)
        began = process_time_ns()
        result = await agent.run("hi")
        figures[f"{name}_ms"] = (process_time_ns() - began) / 1e6
        figures[f"{name}_growth"] = growth(costs(stamps), iterations, scale.window)
        check(result, iterations)
        expect("model calls", model.calls, iterations + 1)
        expect("tool calls", work.calls, iterations)
    return figures


async def chat(scale: Scale) -> Figures:
    """One chat: how late turns compare to the tenth."""
    of = chat_manifest(model="scripted:x")
    of.stages["context"].config["window"] = 10**9
    of.stages["guard"].strategy_configs = manifest().stages["guard"].strategy_configs
    model = script(0)
    warm = pipeline(model, of=of)
    for _ in range(scale.warm):
        check(await warm.run("hi"), 0)
    agent = pipeline(model, of=of)
    stamps = [process_time_ns()]
    for _ in range(scale.turns[1] + scale.window):
        result = await agent.run("hi")
        stamps.append(process_time_ns())
        check(result, 0)
    expect("model calls", model.calls, len(stamps) - 1 + scale.warm)
    spent = costs(stamps)
    return {
        f"{name}_growth": growth(spent, turn, scale.window)
        for name, turn in zip(("short", "long"), scale.turns, strict=True)
    }


async def compacted(scale: Scale) -> Figures:
    """One long run with each compactor, its compactions included: what the last fifth costs, as a
    multiple of the second fifth."""
    iterations = scale.iterations[1]
    figures: Figures = {}
    for rule in ("none", "truncate", "sliding_window", "summary", "llm_summary"):
        stamps: list[int] = []
        model, work = script(iterations, stamps=stamps, recap=_RECAP), Work()
        of = manifest()
        of.stages["context"].config["window"] = 1_000 if iterations < 1_000 else 20_000
        of.stages["context"].strategies["compactor"] = rule
        result = await pipeline(model, work, of=of).run("hi")
        check(result, iterations)
        expect("tool calls", work.calls, iterations)
        expect(f"it was compacted, {rule}", bool(result.receipts), rule != "none")
        spent = costs(stamps)
        fifth = len(spent) // 5
        figures[rule] = fmean(spent[-fifth:]) / fmean(spent[fifth : 2 * fifth])
    return figures


_RECAP: Final = '{"recap": "It works on and on.", "facts": ["so far nothing"]}'
