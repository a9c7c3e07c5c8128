"""Row 5: a run whose every step is on disk before the next one."""

from __future__ import annotations

from pathlib import Path
from time import process_time_ns

from benchmarks.durability import Spent, measured
from benchmarks.rows.agents import Work, check, pipeline, script
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.world import RealWorld


async def long_runs(scale: Scale) -> Figures:
    """Runs of a tool that writes: its intent is synced before each call."""
    return await measured(_run, scale)


async def _run(path: Path, iterations: int) -> Spent:
    stamps: list[int] = []
    model, work = script(iterations), Work({"write"}, stamps)
    journal = SQLiteJournal(path, world=RealWorld())
    agent = pipeline(model, work, journal=journal)
    began = process_time_ns()
    result = await agent.run("hi")
    spent = process_time_ns() - began
    await agent.aclose()
    await journal.close()
    check(result, iterations)
    expect("model calls", model.calls, iterations + 1)
    expect("tool calls", work.calls, iterations)
    return Spent(spent, stamps)
