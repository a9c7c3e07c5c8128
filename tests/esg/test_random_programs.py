"""Replay equals a full re-execution, for random programs and edits."""

from __future__ import annotations

import os
import warnings
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorimer.esg import StepExecutor
from tests.esg.alike import picture, plain
from tests.esg.random_programs import BEGIN, runs, step, whole

EXAMPLES = 5_000 if os.environ.get("LORIMER_CAMPAIGN") else 100


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True
)
@given(st.randoms(use_true_random=False))
def test_a_replay_ends_where_running_everything_again_ends(dice: Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs, about their own doings
        _play(dice)


def _play(dice: Random) -> None:
    sources = [*BEGIN]
    for _ in range(dice.randint(3, 14)):
        source = step(dice)
        if runs([*sources, source]):
            sources.append(source)
    session = StepExecutor()
    for number, source in enumerate(sources):
        result = session.execute(f"s{number}", source)
        assert result.ok, result.failure
    _equal(session, sources)
    for number in range(4):
        place = dice.randrange(1, len(sources))
        kind = dice.choice(("edit", "edit", "edit", "insert", "delete", "move"))
        edited = [*sources]
        there = dice.randrange(1, len(sources))
        if kind == "edit":
            edited[place] = step(dice)
        elif kind == "insert":
            edited.insert(place, step(dice))
        elif kind == "delete":
            del edited[place]
        else:
            edited.insert(there, edited.pop(place))
        if not runs(edited):
            continue
        ids = session.graph.steps
        if kind == "edit":
            session.graph.edit_step(ids[place], edited[place])
        elif kind == "insert":
            session.graph.add_step(f"n{number}", edited[place], after=ids[place - 1])
        elif kind == "delete":
            session.graph.delete_step(ids[place])
        elif there != place:
            others = [each for each in ids if each != ids[place]]
            session.graph.move_step(ids[place], after=others[there - 1])
        sources = edited
        replay = session.replay()
        assert replay.ok, [session.results[each].failure for each in replay.failed]
        _equal(session, sources)
        assert session.replay().ran == (), "nothing is stale after a replay"


def _equal(session: StepExecutor, sources: list[str]) -> None:
    graph = session.graph
    assert [graph.source(each) for each in graph.steps] == sources
    names, printed = whole(sources)
    assert [plain(session.results[each].stdout) for each in graph.steps] == printed
    assert picture(session.namespace()) == names


@pytest.mark.parametrize("seed", range(20))
def test_the_same_program_with_the_same_edits_runs_the_same_steps(seed: int) -> None:
    orders = set[tuple[str, ...]]()
    for _ in range(2):
        dice = Random(seed)
        session = StepExecutor()
        for number, source in enumerate([*BEGIN, *(step(dice) for _ in range(8))]):
            session.execute(f"s{number}", source)
        session.graph.edit_step("s2", f"b = {dice.randint(10, 20)}")
        orders.add(session.replay().ran)
    assert len(orders) == 1
