"""What a loss of power leaves: everything before the last synced append, and no damage. With live
runs: `tests/campaign/test_power_cuts.py`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import apsw
import pytest

from lorimer.core.journal import LedgerEntry
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import transactions
from tests.journal.power import Power, Quick
from tests.journal.support import Clock, facts_of, note, start
from tests.seeds import fresh

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
SEEDS = [*range(1, 100 if CAMPAIGN else 4), fresh()]


@pytest.mark.parametrize("seed", SEEDS, ids=[*map(str, SEEDS[:-1]), "fresh"])
def test_what_was_synced_survives_any_cut(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CHECKPOINT_PAGES", 24)
    dice, clock = Random(seed), Clock()
    path = tmp_path / "journal.db"
    synced = begun = 0
    power = Power(dice, 0.08, lambda: (synced, begun))

    async def live() -> None:
        nonlocal synced, begun
        journal = SQLiteJournal(path, world=clock, threads=False, vfs=power.name)
        epoch = await journal.claim("s", "me", 30)
        for number in range(1, 121):
            sync = dice.random() < 0.3
            row = [note(str(number))] if number > 1 else [start()]
            begun = number
            entry = LedgerEntry("a", 1) if dice.random() < 0.3 else None
            await journal.append("s", epoch, row, sync=sync, ledger=entry)
            if sync:
                synced = number
        await journal.close()

    asyncio.run(live())
    power.unregister()
    assert len(power.pictures) > 20
    quick = Quick()
    for index, picture in enumerate(power.pictures):
        cut = tmp_path / str(index)
        picture.develop(cut, dice)
        asyncio.run(check(cut / path.name, *picture.known, clock, quick.name))
    quick.unregister()


async def check(path: Path, synced: int, begun: int, clock: Clock, vfs: str) -> None:
    journal = SQLiteJournal(path, world=clock, threads=False, vfs=vfs)
    seqs = [fact.seq for fact in await facts_of(journal, "s")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert synced <= len(seqs) <= begun
    await journal.close()
    db = apsw.Connection(str(path))
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
