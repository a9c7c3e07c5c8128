"""kill -9, over and over: nothing that is recorded is done again, and no unsafe effect twice.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment. Moments of real
processes are never the same twice: the seed gives the same agents and the same kind of kills.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import SystemRandom

from tests.campaign.killing import Kills
from tests.campaign.workers import Pace

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))


def chosen_seed() -> int:
    given = os.environ.get("LORIMER_SEED", "")
    return int(given) if given else SystemRandom().randrange(2**31)


def test_nothing_recorded_is_done_again_and_nothing_unsafe_twice(tmp_path: Path) -> None:
    seed = chosen_seed()
    plan = (
        Kills(seed, kills=1000, agents=100, effects=100_000, pace=Pace())
        if CAMPAIGN
        else Kills(seed, kills=50, agents=12, effects=500, pace=Pace((3, 9), (0.005, 0.1)), marks=(5, 90))
    )
    campaign = plan.run(tmp_path)
    runs = asyncio.run(campaign.evidence())
    report = campaign.audit(runs)
    print(f"\nseed {seed}: {plan.kills} kills, {plan.agents} agents, {campaign.seconds:.0f} s: {report}")
    report.require(
        f"Seed {seed}: play it again with LORIMER_SEED={seed}. Marks and journal: {tmp_path}"
    )
    assert report.total >= plan.effects
