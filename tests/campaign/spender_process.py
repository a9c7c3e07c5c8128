"""Processes that spend the same money: each begins runs that share a purse in one journal file.
The last one goes on with what the others, who were killed, have left."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from lorimer.core.manifest import EnvironmentManifest, SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.purse import Purse
from lorimer.core.request import Request, Usage
from lorimer.journal import SQLiteJournal
from lorimer.journal.family import root_runs
from lorimer.models import Models
from lorimer.models.pricing import Price
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.world import RealWorld
from tests.campaign.forks import serve

CENT: Final = 9_994_240
"""Nano-dollars, as near to a cent as 8,192 tokens come: what each call costs, and what is set aside
for it, because the most that it may answer is what it does answer."""
WINDOW_S: Final = 3600.0


@dataclass
class Spending:
    """What one process is to do."""

    folder: str
    ceiling: int
    """Calls that all runs of all processes may make together."""
    runs: int
    """At once; 0: go on with those that have no end, or give them up."""
    callers: int
    """Who begin them in turn, each with a purse of an equal part within a window."""
    latency_s: float
    helpers: int
    """Sub-agents of each run."""
    seed: int
    log: str = "calls"
    """The file that has a byte for each call that was made."""


def purses(order: Spending, run: int) -> list[Purse]:
    found = [Purse("job:all", order.ceiling * CENT)]
    if order.callers:
        part = order.ceiling * CENT // order.callers
        found.append(Purse(f"caller:{run % order.callers}", part, WINDOW_S))
    return found


def pipeline(order: Spending, journal: SQLiteJournal, calls: Path, world: RealWorld) -> Pipeline:
    """Of a run that has its helpers work, and then answers. Its conversation is its own."""

    def reply(request: Request) -> Any:
        with calls.open("ab", buffering=0) as log:
            log.write(b".")  # before it is answered: paid for, whatever is recorded
        if "helper" in request.system or len(request.messages) > 1 or not order.helpers:
            return "done"
        work = {"subagent_type": "helper", "prompt": "help"}
        return [ToolUse(f"c{n}", "Agent", work) for n in range(order.helpers)]

    model = ScriptedModel(
        reply, usage=Usage(0, 8192), price=Price(0, 1.22), latency_s=order.latency_s, record=False
    )
    manifest = preset_manifest("agent" if order.helpers else "minimal", model="scripted:x")
    if order.helpers:
        manifest.agents = [SubAgent(name="helper", description="Helps.", prompt="A helper.")]
        manifest.stages["context"].config["stateless"] = True
    return Pipeline(
        EnvironmentManifest.from_dict(manifest.to_dict()),
        models=Models(providers={"scripted": model}),
        journal=journal,
        world=world,
        owner="spender",  # so that no claim of a dead one has to run out
    )


async def spend(order: Spending) -> None:
    world = RealWorld()
    dice = Random(order.seed)
    async with SQLiteJournal(Path(order.folder, "journal.db"), world=world) as journal:
        host = pipeline(order, journal, Path(order.folder, order.log), world)

        async def one(run: int) -> None:
            await host.run("go", budgets=purses(order, run), raise_on_error=False)

        await asyncio.gather(*[one(run) for run in range(order.runs)])
        if not order.runs:
            for row in await root_runs(journal, 1_000_000):
                if row.status:
                    continue
                if dice.random() < 0.5:
                    await host.resume(row.run_id, raise_on_error=False)
                else:
                    await host.abandon(row.run_id)


def main() -> None:
    def live(order: dict[str, Any]) -> None:
        asyncio.run(spend(Spending(**order)))
        os._exit(0)  # what is imported need not be taken down

    with TemporaryDirectory() as folder:  # whatever a run loads when it needs it is there then
        asyncio.run(spend(Spending(folder, 9, 1, callers=1, latency_s=0, helpers=1, seed=0)))
    serve(live)


if __name__ == "__main__":
    main()
