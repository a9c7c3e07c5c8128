"""kill -9, over and over: nothing that is recorded is done again, and no unsafe effect twice.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment. Moments of real
processes are never the same twice: the seed gives the same agents and the same kind of kills.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.campaign.killing import Kills
from tests.campaign.workers import Pace
from tests.seeds import chosen_or_fresh

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))


def test_nothing_recorded_is_done_again_and_nothing_unsafe_twice(tmp_path: Path) -> None:
    seed = chosen_or_fresh()
    plan = Kills(seed, kills=1000, agents=100, effects=100_000, pace=Pace(slow_ms=(2, 20)))
    if not CAMPAIGN:
        pace = Pace(turns=(3, 9), model_s=(0.005, 0.1))
        plan = Kills(seed, 50, agents=12, effects=500, pace=pace, marks=(5, 90))
    campaign = plan.run(tmp_path)
    report = campaign.audit()
    print(f"\nseed {seed}, {plan.agents} agents: {campaign.summary(report)}")
    report.require(f"Play it again with LORIMER_SEED={seed}. Marks and journal: {tmp_path}")
    assert report.total >= plan.effects
