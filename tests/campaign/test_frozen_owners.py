"""An owner that is frozen loses its runs to another process, and can do no harm when it wakes."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.campaign.freezing import Frozen, trial
from tests.campaign.processes import Parent
from tests.seeds import chosen, chosen_or_fresh

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
TRIALS = 200 if CAMPAIGN else 7
PAIRS = 2 if CAMPAIGN else 1  # each process takes a second to import what it needs


def trials(seeds: range, folder: Path) -> Frozen:
    """One after the other, with one pair of processes."""
    folder.mkdir()
    out = Frozen()
    with Parent(folder / "first") as first, Parent(folder / "second") as second:
        for seed in seeds:
            mine = folder / str(seed)
            mine.mkdir()
            found = trial(seed, first, second, mine)
            out.add(found)
            found.reports[0].require(
                f"Play it again with LORIMER_SEED={seed}. Marks and journal: {mine}"
            )
    return out


def test_a_frozen_owner_does_nothing_that_it_had_not_announced(tmp_path: Path) -> None:
    seed = chosen_or_fresh()
    count = TRIALS if chosen() is None else 1
    began = time.monotonic()
    parts = [range(seed + at, seed + count, PAIRS) for at in range(min(PAIRS, count))]
    out = Frozen()
    with ThreadPoolExecutor(PAIRS) as pool:
        for part in pool.map(lambda at: trials(parts[at], tmp_path / str(at)), range(len(parts))):
            out.add(part)
    late = ", ".join(f"{n} {kind}" for kind, n in sorted(out.late.items())) or "none"
    unknown = sum(report.unknown for report in out.reports)
    effects = sum(report.total for report in out.reports)
    print(
        f"\nseeds {seed} to {seed + count - 1}: {len(out.reports)} owners frozen (also "
        f"{out.in_commit} times in the middle of a commit), {out.taken_over} runs taken over, "
        f"{effects} effects in {time.monotonic() - began:.0f} s; begun by an owner that had lost "
        f"its run: {late}; {unknown} outcomes told as unknown"
    )
    assert out.taken_over >= count
