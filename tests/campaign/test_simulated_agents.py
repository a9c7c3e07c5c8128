"""Thousands of simulated agents, each drawn from one seed, with faults, limits, cancellations and
crashes: the same seed gives the same facts, and what the contract promises holds for all of them.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment.
"""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections.abc import Iterable, Sequence
from functools import cache

import pytest

from tests.campaign.agent_player import AT_SEAMS, AT_WRITES, Played, play
from tests.campaign.agents import draw
from tests.campaign.apart import elsewhere, quiet, side_by_side
from tests.seeds import chosen, fresh

FULL = bool(os.environ.get("LORIMER_CAMPAIGN"))
FIXED = 900
FRESH = 100
CHOSEN = chosen()
PARTS = 4
"""Tests that the seeds of the suite are dealt to: they run side by side."""
TWICE = 20 if CHOSEN is None and not FULL else 1
"""Of so many seeds one is played twice: that the same seed gives the same facts."""
CAMPAIGN = 20_000
KNOWN = 120
SHOWN = 3
CHUNK = 500


@cache
def known(seed: int) -> Played:
    """How one of the seeds that are always played went."""
    return play(seed)


def trouble(seed: int) -> str:
    """What is wrong with the case of a seed; "" when nothing is."""
    try:
        first = known(seed) if seed < KNOWN else play(seed)
        if seed % TWICE:
            return ""
        second = play(seed)
        if first.lines() == second.lines():
            return ""
        reason = f"the same seed gave other facts\n{first.lines()}\n--- and then\n{second.lines()}"
    except BaseException:  # noqa: BLE001 - told, and counted as a failure
        reason = traceback.format_exc()
    return f"seed {seed} (play it again with LORIMER_SEED={seed}): {draw(seed)}\n{reason}"


def troubles(seeds: Iterable[int]) -> list[str]:
    with quiet():
        return [text for seed in seeds if (text := trouble(seed))]


def new(count: int) -> Sequence[int]:
    base = fresh()
    print(f"\nfresh seeds: {base} to {base + count - 1}")
    return range(base, base + count)


def complain(found: Sequence[str], played: int) -> None:
    shown = "\n\n".join(found[:SHOWN])
    assert not found, f"{len(found)} of {played} seeds failed\n\n{shown}"


@pytest.mark.skipif(
    FULL or CHOSEN is not None, reason="the campaign plays them all, or the one asked for"
)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_same_seed_gives_the_same_facts(part: int) -> None:
    seeds = [*range(part, FIXED, PARTS), *new(FRESH // PARTS)]
    complain(troubles(seeds), len(seeds))


@pytest.mark.skipif(not FULL and CHOSEN is None, reason="the campaign, or LORIMER_SEED")
def test_the_same_seed_gives_the_same_facts_and_every_promise_holds() -> None:
    if CHOSEN is not None:
        complain(troubles([CHOSEN]), 1)
        return
    seeds = [*range(FIXED), *new(CAMPAIGN - FIXED)]
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    began = time.monotonic()
    found = side_by_side(__name__, "troubles", [list(chunk) for chunk in chunks])
    seconds = time.monotonic() - began
    print(f"{len(seeds)} simulated agents, each played twice: {len(seeds) / seconds:.0f} a second")
    complain(found, len(seeds))


def test_another_process_with_other_hashes_gives_the_same_facts() -> None:
    """What is iterated in the order of a set or of addresses would show here."""
    program = "from tests.campaign.test_simulated_agents import digest; print(digest(range(30)))"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    assert elsewhere(program, PYTHONHASHSEED=other).strip() == digest(range(30))


def test_the_cases_are_worth_playing() -> None:
    """The dice reach what they are meant to reach: ends of all kinds, resumed runs, retries."""
    with quiet():
        played = [known(seed) for seed in range(KNOWN)]
    statuses = {str(one.facts[-1].data["status"]) for one in played}
    assert statuses >= {"ok", "error", "timeout", "cancelled"}
    facts = [fact for one in played for fact in one.facts]
    assert {fact.type for fact in facts} >= {"run.suspended", "tool.intent", "effect"}
    assert sum(one.crashes for one in played) > 20
    assert sum(one.lives > 1 for one in played) > 20
    assert any(str(fact.data.get("key")) == "1" for fact in facts if fact.type == "model.intent")
    assert max(fact.iteration for fact in facts) >= 6
    struck = {text.split()[0] for one in played for text in one.struck}
    assert struck >= {*AT_SEAMS, *AT_WRITES}


def digest(seeds: Iterable[int]) -> str:
    """One hash over the facts of many seeds."""
    with quiet():
        text = "\n".join(known(seed).lines() for seed in seeds)
    return hashlib.sha256(text.encode()).hexdigest()
