"""Rows 12 to 14: many durable runs at once, and runs that go on after an interruption."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns, process_time_ns

from benchmarks.rows.agents import FINAL, PRICE, Work, call, check, manifest, pipeline
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from lorimer.core.cancel import Reason
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.request import Request, Response
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.models.scripted import ScriptedModel
from lorimer.pipeline import Pipeline
from lorimer.tools import ToolContext, ToolResult
from lorimer.tools.base import ToolInput
from lorimer.world import RealWorld


async def synced_effects(scale: Scale) -> Figures:
    """A hundred runs at once of a tool that writes: how long one synced call takes of the clock
    on the wall, and of the CPU."""
    runs, calls = 100, scale.synced
    with TemporaryDirectory(prefix="lorimer-bench-") as folder:
        journal = SQLiteJournal(Path(folder, "runs.db"), world=RealWorld())
        work = Work({"write"})
        agent = pipeline(_model(calls), work, of=_stateless(), journal=journal)
        check(await agent.run("hi"), calls)
        began, cpu = perf_counter_ns(), process_time_ns()
        results = await asyncio.gather(*[agent.run("hi") for _ in range(runs)])
        took, spent = perf_counter_ns() - began, process_time_ns() - cpu
        for result in results:
            check(result, calls)
        expect("tool calls", work.calls, (runs + 1) * calls)
        await journal.close()
    effects = runs * calls * 1_000
    return {"us": took / effects, "cpu_us": spent / effects}


async def long_resume(scale: Scale) -> Figures:
    """From `resume` of a run of 1,000 iterations, in a process that has not seen it, to the first
    call that is not answered from the journal."""
    done = scale.resumed
    with TemporaryDirectory(prefix="lorimer-bench-") as folder:
        path = Path(folder, "runs.db")
        [run_id] = await _interrupted(path, 1, done)
        journal = SQLiteJournal(path, world=RealWorld())
        work = Live()
        agent = pipeline(_model(done + 1), work, of=_stateless(), journal=journal)
        began, cpu = perf_counter_ns(), process_time_ns()
        check(await agent.resume(run_id), done + 1)
        expect("tool calls", work.calls, 1)
        await journal.close()
    return {"ms": (work.at[0] - began) / 1e6, "cpu_ms": (work.cpu[0] - cpu) / 1e6}


async def pending_runs(scale: Scale) -> Figures:
    """Interrupted runs of five iterations, all resumed at once: until the last one goes on."""
    with TemporaryDirectory(prefix="lorimer-bench-") as folder:
        path = Path(folder, "runs.db")
        ids = await _interrupted(path, scale.pending, 5)
        journal = SQLiteJournal(path, world=RealWorld())
        work = Live()
        agent = pipeline(_model(6), work, of=_stateless(), journal=journal)
        began = perf_counter_ns()
        rows = await journal.runs(limit=scale.pending, unfinished=True)
        results = await asyncio.gather(*[agent.resume(row.run_id) for row in rows])
        for result in results:
            check(result, 6)
        expect("runs", len(rows), len(ids))
        expect("tool calls", work.calls, len(ids))
        await journal.close()
    return {"s": (work.at[-1] - began) / 1e9}


def _stateless() -> EnvironmentManifest:
    of = manifest()
    of.stages["context"].config["stateless"] = True
    return of


class Live(Work):
    """Notes when it was called, on the wall's clock and the CPU's."""

    def __init__(self) -> None:
        super().__init__({"write"})
        self.at: list[int] = []
        self.cpu: list[int] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.at.append(perf_counter_ns())
        self.cpu.append(process_time_ns())
        return await super().execute(input, context)


def _model(calls: int) -> ScriptedModel:
    """Asks for `calls` calls in each run, then answers."""

    def answer(request: Request) -> Response:
        asked = len(request.messages)
        return call(asked) if asked // 2 < calls else FINAL

    return ScriptedModel(answer, price=PRICE, deltas=False, record=False)


async def _interrupted(path: Path, runs: int, calls: int) -> list[str]:
    """Runs that were shut down after `calls` calls, and given back."""
    journal = SQLiteJournal(path, world=RealWorld())

    def answer(request: Request) -> Response:
        asked = len(request.messages)
        if asked // 2 == calls:
            agents[0].cancel(Reason.SHUTDOWN)
        return call(asked)

    model = ScriptedModel(answer, price=PRICE, deltas=False, record=False)
    agents: list[Pipeline] = []
    ids: list[str] = []
    for _ in range(runs):
        agents[:] = [pipeline(model, Work({"write"}), of=_stateless(), journal=journal)]
        result = await agents[0].run("hi", raise_on_error=False)
        expect("status", result.status, "suspended")
        ids.append(result.run_id)
    await journal.close()
    return ids
