"""Faults planted into programs: is the right cause found first, and is it mended without a model?

A planted fault is judged by what was planted and by what the program prints without it, never by
the rule that found it (`tests/esg/faults`). The table by category is printed (`pytest -s`).
"""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.esg.faults.plants import CATEGORIES, FRAME_CATEGORIES
from tests.esg.faults.playing import Played, campaign, table
from tests.esg.faults.programs import FRAMES, PROGRAMS

FULL = bool(os.environ.get("LORIMER_CAMPAIGN"))
EACH = 6 if FULL else 1
"""Faults of a category: 40 categories."""
SEEDS = (1, 2, 3, 4, 5) if FULL else (2,)
SLOWEST_MS = 20.0


def judged(done: list[Played]) -> None:
    print(f"\n{table(done)}")
    count = len(done)
    right, same = sum(each.right for each in done), sum(each.same for each in done)
    times = sorted(each.milliseconds for each in done)
    mean = sum(times) / count
    print(f"a fault's slowest diagnosis: {mean:.1f} ms of CPU on average, {times[-1]:.1f} at most")
    assert right >= 0.9 * count, [each for each in done if not each.right]
    assert same >= 0.7 * count, [each for each in done if not each.same]
    assert sum(each.broke for each in done) == 0
    assert times[int(0.95 * count)] <= SLOWEST_MS


@pytest.mark.parametrize("seed", SEEDS)
def test_row_53_54_the_cause_of_planted_faults_is_found_and_mended(seed: int) -> None:
    done = campaign(PROGRAMS, CATEGORIES, EACH, seed)
    assert len(done) >= (200 if FULL else 35)
    judged(done)


@pytest.mark.skipif(
    not FULL or importlib.util.find_spec("pandas") is None, reason="needs pandas, in the campaign"
)
def test_row_53_54_faults_in_programs_with_arrays_and_frames() -> None:
    judged(campaign(FRAMES, FRAME_CATEGORIES, 3, 1))
