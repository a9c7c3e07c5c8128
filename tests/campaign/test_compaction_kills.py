"""kill -9 while ended runs are compacted and others go on: nothing is lost, all fits together, and
what was compacted is read, resumed and gone on with as before.

A failing seed is played again with `LORIMER_SEED=<seed>`, as in `test_kills.py`.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from tests.campaign.killing import Kills
from tests.campaign.test_kills import CAMPAIGN
from tests.campaign.workers import Pace
from tests.seeds import chosen_or_fresh


def test_nothing_is_lost_while_what_has_ended_is_compacted(tmp_path: Path) -> None:
    seed = chosen_or_fresh()
    pace = Pace(turns=(2, 5), model_s=(0.002, 0.02), runs=2, rest_s=0.05, slow_ms=(2, 20))
    plan = Kills(seed, 400, 20, 20_000, pace, marks=(20, 400), writes=40, compact=True)
    if not CAMPAIGN:
        plan = Kills(seed, 20, 8, 250, pace, marks=(20, 200), writes=40, compact=True)
    campaign = plan.run(tmp_path)
    report = campaign.audit()
    db = apsw.Connection(str(tmp_path / "journal.db"))
    pressed = db.execute("SELECT count(*) FROM blocks").get
    streams = db.execute("SELECT count(DISTINCT at>>32) FROM blocks").get
    db.close()
    print(f"\nseed {seed}: {campaign.summary(report)}")
    print(f"{pressed} blocks of {streams} sessions; {campaign.copy.gone_on} had been gone on with")
    report.require(f"Play it again with LORIMER_SEED={seed}. Marks and journal: {tmp_path}")
    assert report.total >= plan.effects
    assert pressed > streams > 0
    assert campaign.copy.gone_on > 0 or not CAMPAIGN
