"""Rows 1 to 4 and 8 for raw and raw21, measured exactly as Lorimer is."""

from __future__ import annotations

import asyncio
from statistics import median
from time import process_time_ns

from benchmarks.floors.loops import Loop, Message, Script, Sleepy, Work, raw, raw21
from benchmarks.memory import peak_rss_kib, rss_kib
from benchmarks.scale import Figures, Scale
from benchmarks.support import WARM_UP, costs, expect, growth, per_unit_us
from benchmarks.task import CROWD_CALLS, TOOL_CALLS


async def raw_one_run(scale: Scale) -> Figures:
    """Row 1."""
    return await _one_run(raw, scale)


async def raw21_one_run(scale: Scale) -> Figures:
    """Row 1."""
    return await _one_run(raw21, scale)


async def raw_tool_runs(scale: Scale) -> Figures:
    """Row 2."""
    return await _tool_runs(raw, scale)


async def raw21_tool_runs(scale: Scale) -> Figures:
    """Row 2."""
    return await _tool_runs(raw21, scale)


async def raw_long_runs(scale: Scale) -> Figures:
    """Rows 3 and 4."""
    return await _long_runs(raw, scale)


async def raw21_long_runs(scale: Scale) -> Figures:
    """Rows 3 and 4."""
    return await _long_runs(raw21, scale)


async def raw_chat(scale: Scale) -> Figures:
    """Row 3."""
    return await _chat(raw, scale)


async def raw21_chat(scale: Scale) -> Figures:
    """Row 3."""
    return await _chat(raw21, scale)


async def raw_crowd(scale: Scale) -> Figures:
    """Row 8; in a process of its own."""
    return await _crowd(raw, scale)


async def raw21_crowd(scale: Scale) -> Figures:
    """Row 8; in a process of its own."""
    return await _crowd(raw21, scale)


async def _one_run(loop: Loop, scale: Scale) -> Figures:
    return {"us": await _batches(loop, scale.batches, scale.runs, 0)}


async def _tool_runs(loop: Loop, scale: Scale) -> Figures:
    return {"us": await _batches(loop, scale.batches, scale.tool_runs, TOOL_CALLS)}


async def _batches(loop: Loop, batches: int, runs: int, calls: int) -> float:
    found: list[float] = []
    for _ in range(batches):
        model, work = Script(calls), Work()
        messages: list[Message] = []

        async def run(
            model: Script = model, work: Work = work, messages: list[Message] = messages
        ) -> None:
            await loop(model, work, messages)

        for _ in range(WARM_UP):
            await run()
        found.append(await per_unit_us(run, runs, calls + 1))
        expect("model calls", model.calls, (runs + WARM_UP) * (calls + 1))
        expect("tool calls", work.calls, (runs + WARM_UP) * calls)
    return median(found)


async def _long_runs(loop: Loop, scale: Scale) -> Figures:
    await loop(Script(scale.warm), Work(), [])
    figures: Figures = {}
    for name, iterations in zip(("short", "long"), scale.iterations, strict=True):
        stamps: list[int] = []
        model, work = Script(iterations, stamps), Work()
        began = process_time_ns()
        await loop(model, work, [])
        figures[f"{name}_ms"] = (process_time_ns() - began) / 1e6
        figures[f"{name}_growth"] = growth(costs(stamps), iterations, scale.window)
        expect("model calls", model.calls, iterations + 1)
        expect("tool calls", work.calls, iterations)
    return figures


async def _chat(loop: Loop, scale: Scale) -> Figures:
    model, work = Script(0), Work()
    messages: list[Message] = []
    for _ in range(scale.warm):
        await loop(model, work, [])
    stamps = [process_time_ns()]
    for _ in range(scale.turns[1] + scale.window):
        await loop(model, work, messages)
        stamps.append(process_time_ns())
    expect("model calls", model.calls, len(stamps) - 1 + scale.warm)
    spent = costs(stamps)
    return {
        f"{name}_growth": growth(spent, turn, scale.window)
        for name, turn in zip(("short", "long"), scale.turns, strict=True)
    }


async def _crowd(loop: Loop, scale: Scale) -> Figures:
    model, work = Sleepy(CROWD_CALLS, scale.latency_s), Work()
    await loop(model, work, [])
    before, began = rss_kib(), process_time_ns()
    await asyncio.gather(*[loop(model, work, []) for _ in range(scale.crowd)])
    spent = process_time_ns() - began
    expect("model calls", model.calls, (scale.crowd + 1) * (CROWD_CALLS + 1))
    expect("tool calls", work.calls, (scale.crowd + 1) * CROWD_CALLS)
    return {"s": spent / 1e9, "kib": (peak_rss_kib() - before) / scale.crowd}
