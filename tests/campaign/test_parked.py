"""Runs that wait for an answer: how much each costs while it waits, and how soon it goes on.
10,000 in the campaign, 300 in the suite."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from statistics import median

from lorimer.attend import Attendant
from lorimer.core import mail
from lorimer.core.result import PipelineResult
from lorimer.journal import SQLiteJournal
from lorimer.world import RealWorld
from tests.test_attend import asking

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
RUNS = 10_000 if CAMPAIGN else 300
WOKEN = 200 if CAMPAIGN else 20


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _main(path: Path) -> None:
    world = RealWorld()
    mine, theirs = SQLiteJournal(path, world=world), SQLiteJournal(path, world=world)
    pipeline, tool = asking(world, mine)
    slots = asyncio.Semaphore(100)
    ids: list[str] = []

    async def park() -> None:
        async with slots:
            result = await pipeline.run("go", raise_on_error=False)
        assert result.status == "suspended"
        ids.append(result.run_id)

    await asyncio.gather(*[park() for _ in range(RUNS)])
    woken: dict[str, float] = {}

    async def resume(run_id: str) -> PipelineResult:
        woken[run_id] = time.monotonic()
        return await pipeline.resume(run_id, raise_on_error=False)

    before = _rss()
    async with Attendant(mine, resume) as attendant:
        each = (_rss() - before) / RUNS
        assert len(attendant) == RUNS
        while asyncio.all_tasks() != {asyncio.current_task()}:  # else this ends at the time-out
            await asyncio.sleep(0.001)  # the first look at the inbox has a task of its own
        waited: list[float] = []
        for run_id in ids[:WOKEN]:
            await mail.answer(theirs, run_id, True)
            answered = time.monotonic()
            while run_id not in woken:
                await asyncio.sleep(0.001)
            waited.append(woken[run_id] - answered)
        while len(attendant) > RUNS - WOKEN:
            await asyncio.sleep(0.01)
    assert len(tool.calls) == WOKEN
    print(
        f"\n{RUNS} runs wait, no task; resident memory grew by {each:.0f} bytes for each; woken "
        f"after {median(waited) * 1e3:.0f} ms, at most {max(waited) * 1e3:.0f} ms"
    )
    await theirs.close()
    await mine.close()


def test_parked_runs_hold_no_task_and_each_goes_on_when_it_is_answered(tmp_path: Path) -> None:
    asyncio.run(_main(tmp_path / "runs.db"))
