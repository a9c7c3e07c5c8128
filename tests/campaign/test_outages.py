"""Simulated outages with schedules drawn from seeds: no text is released twice, usage is what the
servers counted, breakers open and close as specified, and every run is replayed.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter

from tests.campaign.apart import quiet
from tests.campaign.outages import Seen, play
from tests.seeds import chosen, fresh

FIXED = 35
FRESH = 15
CAMPAIGN = 1_000


def seeds() -> list[int]:
    asked = chosen()
    if asked is not None:
        return [asked]
    count = CAMPAIGN - FIXED if os.environ.get("LORIMER_CAMPAIGN") else FRESH
    base = fresh()
    print(f"\nfresh seeds: {base} to {base + count - 1}")
    return [*range(FIXED), *range(base, base + count)]


def test_outages_release_nothing_twice_and_cost_what_was_billed() -> None:
    played: list[Seen] = []
    failed: list[str] = []
    chosen = seeds()
    with quiet():
        for seed in chosen:
            try:
                played.append(play(seed))
            except Exception:  # noqa: BLE001 - told, and counted as a failure
                failed.append(f"seed {seed} (LORIMER_SEED={seed}):\n{traceback.format_exc()}")
    shown = "\n\n".join(failed[:3])
    assert not failed, f"{len(failed)} of {len(chosen)} seeds failed\n\n{shown}"
    if len(chosen) == 1:
        return
    ends = Counter(status for seen in played for status in seen.statuses)
    sums = {
        name: sum(getattr(seen, name) for seen in played)
        for name in ("attempts", "routed", "restarts", "continued", "opened", "closed")
    }
    print(f"{len(played)} outages: {dict(ends)}, {sums}")
    assert all(sums.values()), f"the schedules do not show everything: {sums}"
    assert {"ok", "exec.api.unavailable"} <= set(ends), ends
