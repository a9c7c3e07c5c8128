"""`lorimer runs receipts`: what compaction took out of the model's view, and it again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.world import RealWorld
from tests.cli.support import invoke, lines


async def compacted(path: Path) -> tuple[str, str]:
    """The ids of a run that was compacted, and of one before it that was not."""
    manifest = preset_manifest("chat", model="scripted:m")
    manifest.stages["context"].config["window"] = 1000
    manifest.stages["context"].strategy_configs["compactor"] = {"keep_recent": 2}
    journal = SQLiteJournal(path, world=RealWorld())
    model = ScriptedModel(lambda _: "Well, " + "and so on " * 30)
    pipeline = Pipeline(manifest, models=Models(providers={"scripted": model}), journal=journal)
    first = await pipeline.run("hello")
    result = first
    while not result.receipts:
        result = await pipeline.run("What is in \x1b[31m the box? " + "tell me " * 30)
    await pipeline.aclose()
    await journal.close()
    return result.run_id, first.run_id


def test_receipts_are_listed_and_bring_back_what_was_taken_out(own_place: Path) -> None:
    store = ("--store", str(own_place / "it.db"))
    run, before = asyncio.run(compacted(own_place / "it.db"))
    listed = invoke("runs", "receipts", run, *store)
    assert listed.exit_code == 0, listed.stderr
    assert listed.stdout.startswith("1  before turn 1: ")
    assert "of the conversation out of view, by summary: " in listed.stdout
    told = invoke("runs", "receipts", run, "1", *store).stdout
    assert told.startswith("2  assistant\n    Well, and so on")
    assert "3  user\n    What is in" in told
    assert "\x1b[31m" not in told
    [receipt] = lines(invoke("runs", "receipts", run, "--json", *store).stdout)
    removed = lines(invoke("runs", "receipts", run, "1", "--json", *store).stdout)
    assert [each["number"] for each in removed] == list(range(2, int(str(receipt["end"])) + 1))
    assert "out of view, by summary" in invoke("runs", "show", run, *store).stdout
    nothing = invoke("runs", "receipts", before, *store)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    missing = invoke("runs", "receipts", run, "2", *store)
    assert missing.exit_code == 2
    assert "was compacted 1 times; there is no receipt 2" in missing.stderr
