"""The power is cut in the middle of several live runs: what was synced is there, the journal opens,
and the runs go on from what it holds, with nothing unsafe done twice.

Deterministic: virtual time, and a simulated disk. `LORIMER_SEED=<seed>` plays one seed again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import apsw
import pytest

from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import transactions
from lorimer.testing import SimulatedWorld, simulate_in
from lorimer.testing.audit import Report, Seen, audit
from lorimer.testing.marks import Mark
from tests.campaign.killing import begun_twice, evidence, wrong_answers
from tests.campaign.workers import Pace, Workers
from tests.journal.power import Picture, Power, Quick
from tests.seeds import chosen, chosen_or_fresh

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
CUTS = 200 if CAMPAIGN else 10
OF_ONE = 5
"""Cuts of one simulation."""
AGENTS = 4
PACE = Pace(turns=(2, 6), slow=0.3)

Known = tuple[dict[str, int], int]
"""What of each stream is synced, and how many marks there are."""


class Promises(SQLiteJournal):
    """Remembers what has been promised to outlive a loss of power."""

    def __init__(self, path: Path, world: SimulatedWorld, vfs: str) -> None:
        super().__init__(path, world=world, threads=False, vfs=vfs)
        self.visible: dict[str, int] = {}
        self.synced: dict[str, int] = {}

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        last = await super().append(stream, epoch, facts, sync=sync, ledger=ledger)
        self.visible[stream] = last
        if sync:  # it, and everything before it
            self.synced = dict(self.visible)
        return last


class Cut:
    """A picture of the disk, as a cut leaves it, and the marks made until then."""

    def __init__(
        self, picture: Picture[Known], marks: list[Mark], folder: Path, seed: int, vfs: str
    ) -> None:
        self.synced, made = picture.known
        self.marks = marks[:made]
        self.path = folder / "journal.db"
        self.seed = seed
        self.vfs = vfs
        picture.develop(folder, Random(seed))

    def survived(self) -> Report:
        """Look at what is left, go on with it, and audit the whole."""
        before = self._streams()
        for stream, last in self.synced.items():
            left = len(before.get(stream, ()))
            assert left >= last, f"{stream}: {last} facts were synced, {left} are left"
        simulate_in(SimulatedWorld(f"{self.seed}/after"), self._go_on)
        after = self._streams()
        for stream, facts in before.items():
            assert after[stream][: len(facts)] == facts, f"{stream}: facts have changed"
        seen = Seen()
        for life, streams in enumerate((before, after)):
            seen.note(life, {name: len(facts) for name, facts in streams.items() if facts})
        runs = asyncio.run(evidence(self.path))
        report = audit(runs, self.marks, seen, power=True)
        for run in runs:
            report.violations += wrong_answers(run)
        report.violations += begun_twice(self.marks)
        return report

    async def _go_on(self, world: SimulatedWorld) -> None:
        await world.sleep(1000)
        async with SQLiteJournal(self.path, world=world, threads=False, vfs=self.vfs) as journal:
            await workers(journal, world, self.marks, 1, self.seed, 0.0).work()

    def _streams(self) -> dict[str, list[Event]]:
        """Every fact there is, in a file that is sound."""
        db = apsw.Connection(str(self.path))
        assert db.execute("PRAGMA integrity_check").get == "ok"
        begun = db.execute("SELECT 1 FROM sqlite_schema WHERE name='streams'").fetchall()
        rows = db.execute("SELECT name FROM streams").fetchall() if begun else []
        db.close()
        return asyncio.run(self._read([str(row[0]) for row in rows]))

    async def _read(self, names: Sequence[str]) -> dict[str, list[Event]]:
        world = SimulatedWorld(0)
        async with SQLiteJournal(self.path, world=world, threads=False, vfs=self.vfs) as journal:
            return {name: [fact async for fact in journal.read(name)] for name in names}


def live(seed: int, path: Path) -> tuple[list[Picture[Known]], list[Mark]]:
    """Several agents at work on one journal, and pictures of its disk."""
    marks: list[Mark] = []
    journals: list[Promises] = []

    def known() -> Known:
        return dict(journals[0].synced) if journals else {}, len(marks)

    power = Power(Random(seed), 0.01, known)

    async def main(world: SimulatedWorld) -> None:
        journals.append(Promises(path, world, power.name))
        async with journals[0] as journal:
            await workers(journal, world, marks, 0, seed, 6.0).work()

    try:
        simulate_in(SimulatedWorld(seed), main)
    finally:
        power.unregister()
    return power.pictures, marks


def workers(
    journal: SQLiteJournal,
    world: SimulatedWorld,
    marks: list[Mark],
    life: int,
    seed: int,
    seconds: float,
) -> Workers:
    until = world.monotonic() + seconds
    return Workers(
        journal=journal,
        world=world,
        notes=marks,
        life=life,
        owner="me",
        seed=seed,
        agents=AGENTS,
        pace=PACE,
        enough=lambda: world.monotonic() >= until,
        take_over=False,
    )


def cuts_of(seed: int, folder: Path) -> list[Report]:
    """What becomes of OF_ONE moments of one simulation."""
    folder.mkdir()
    pictures, marks = live(seed, folder / "journal.db")
    quick = Quick()
    reports: list[Report] = []
    for at, picture in enumerate(Random(seed).sample(pictures, OF_ONE)):
        report = Cut(picture, marks, folder / str(at), seed, quick.name).survived()
        report.require(f"Play it again with LORIMER_SEED={seed}. What the cut left: {folder}/{at}")
        reports.append(report)
    quick.unregister()
    return reports


def test_live_runs_survive_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 24)
    seed = chosen_or_fresh()
    seeds = range(seed, seed + (CUTS if chosen() is None else OF_ONE) // OF_ONE)
    reports = [report for one in seeds for report in cuts_of(one, tmp_path / str(one))]
    again = sum(len(report.repeated) for report in reports)
    unknown = sum(report.unknown for report in reports)
    total = sum(report.total for report in reports)
    print(
        f"\nseeds {seed} to {seeds[-1]}: {len(reports)} cuts, {total} effects, {again} begun "
        f"again, {unknown} outcomes told as unknown"
    )
