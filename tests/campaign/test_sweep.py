"""Every operation of every scenario, with everything that can go wrong there: the contract holds.

The suite plays most scenarios with most kinds of trouble, each at an operation drawn from a fixed
seed, and some drawn from a fresh one; with LORIMER_CAMPAIGN=1 all of it happens everywhere. A
failing play is played again with `LORIMER_SWEEP=<scenario>/<kind>/<operation>`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from random import Random

from tests.campaign.apart import quiet, side_by_side
from tests.campaign.sweep import AT_SEAMS, AT_WRITES, Strike, count, play
from tests.campaign.sweep_scenarios import SCENARIOS, Scenario
from tests.seeds import fresh

counted = cache(count)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SHOWN = 5


def trouble(scenario: Scenario, strike: Strike) -> str:
    """What is wrong when this happens there; "" when nothing is."""
    again = f"{scenario.name}/{strike.kind}/{strike.at}"
    try:
        struck, findings = play(scenario, strike)
    except Exception as error:  # noqa: BLE001 - told, and counted as a failure
        struck, findings = "?", [f"{type(error).__name__}: {error}"]
    if not findings:
        return ""
    head = f"{scenario.name!r}, {strike.kind} at operation {strike.at} ({struck})"
    broken = "\n".join(f"    {finding}" for finding in findings)
    return f"{head}; play it again with LORIMER_SWEEP={again!r}\n{broken}"


def troubles(plays: Iterable[tuple[Scenario, Strike]]) -> list[str]:
    with quiet():
        return [text for scenario, strike in plays if (text := trouble(scenario, strike))]


def all_troubles(names: Sequence[str]) -> list[str]:
    """How many plays there were, and what was wrong in them: of some scenarios, everywhere."""
    plays = [(BY_NAME[name], strike) for name in names for strike in count(BY_NAME[name]).strikes()]
    return [str(len(plays)), *troubles(plays)]


def drawn(dice: Random, share: float) -> list[tuple[Scenario, Strike]]:
    """A share of all pairs of a scenario and a kind of trouble, each at one operation."""
    plays: list[tuple[Scenario, Strike]] = []
    for scenario in SCENARIOS:
        strikes = list(counted(scenario).strikes())
        longer = scenario.below or scenario.kernel  # four times as long as others
        chance = share / 4 if longer else share
        for kind in (*AT_SEAMS, *AT_WRITES):
            fitting = [strike for strike in strikes if strike.kind == kind]
            if fitting and dice.random() < (chance / 4 if kind == "hang" else chance):
                plays.append((scenario, dice.choice(fitting)))
    return plays


def complain(found: Sequence[str], played: int) -> None:
    shown = "\n\n".join(found[:SHOWN])
    assert not found, f"{len(found)} of {played} plays failed\n\n{shown}"


def test_whatever_goes_wrong_wherever_every_promise_holds() -> None:
    chosen = os.environ.get("LORIMER_SWEEP", "")
    if chosen:
        name, kind, at = chosen.rsplit("/", 2)
        complain(troubles([(BY_NAME[name], Strike(kind, int(at)))]), 1)
        return
    if not os.environ.get("LORIMER_CAMPAIGN"):
        seed = fresh()
        print(f"\nfresh seed: {seed}")
        plays = [*drawn(Random(1), 0.3), *drawn(Random(seed), 0.1)]
        complain(troubles(plays), len(plays))
        return
    began = time.monotonic()
    found = side_by_side(__name__, "all_troubles", [[name] for name in BY_NAME])
    played = sum(int(text) for text in found if text.isdecimal())
    print(f"{len(SCENARIOS)} scenarios, {played} plays in {time.monotonic() - began:.0f} s")
    complain([text for text in found if not text.isdecimal()], played)


def test_the_scenarios_reach_what_they_are_meant_to_reach() -> None:
    """Every seam has operations, and the same scenario always has the same."""
    seams: Counter[str] = Counter()
    writes: Counter[str] = Counter()
    for scenario in SCENARIOS:
        operations = counted(scenario)
        seams.update(name.split()[0] for name in operations.seams)
        writes.update(operations.writes)
        assert len(operations.writes) > 10
    assert len(SCENARIOS) >= 30 and len(BY_NAME) == len(SCENARIOS)
    wanted = "model tool person append claim read put find release post posts sleep listener emit"
    assert seams.keys() >= {*wanted.split(), "stage", "reader"}
    assert writes.keys() >= {"write log", "sync log", "write file"}
    assert count(SCENARIOS[3]) == counted(SCENARIOS[3])
