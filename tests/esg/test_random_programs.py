"""Replay equals a full re-execution, for random programs and edits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorimer.esg import StepExecutor
from tests.esg.alike import picture, plain
from tests.esg.random_programs import BEGIN, begin_again, breaking, runs, step, whole

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
EXAMPLES = 5_000 if CAMPAIGN else 50


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True
)
@given(st.randoms(use_true_random=False))
def test_a_replay_ends_where_running_everything_again_ends(dice: Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs, about their own doings
        _play(dice)


def _play(dice: Random) -> None:
    begin_again()
    sources = [*BEGIN, "import tests.esg.shelf as m"]
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
        if dice.random() < 0.15:
            _break(dice, session, f"broken{number}")
        sources = _edit(dice, session, sources, number)
        replay = session.replay()
        assert replay.ok, [session.results[each].failure for each in replay.failed]
        _equal(session, sources)
        assert session.replay().ran == (), "nothing is stale after a replay"


def _edit(dice: Random, session: StepExecutor, sources: list[str], number: int) -> list[str]:
    """One edit, or some before one replay; the program runs afterwards."""
    done = list[Callable[[], object]]()
    edited, ids = [*sources], [*session.graph.steps]
    for part in range(dice.choice((1, 1, 1, 2, 3))):
        place = dice.randrange(1, len(edited))
        kind = dice.choice(("edit", "edit", "edit", "insert", "delete", "move", "rename"))
        each, before = ids[place], ids[place - 1]
        if kind == "edit":
            edited[place] = source = step(dice)
            done.append(partial(session.graph.edit_step, each, source))
        elif kind == "insert":
            source, new = step(dice), f"n{number}.{part}"
            edited.insert(place, source)
            ids.insert(place, new)
            done.append(partial(session.graph.add_step, new, source, after=before))
        elif kind == "delete":
            del edited[place], ids[place]
            done.append(partial(session.graph.delete_step, each))
        elif kind == "rename":
            ids[place] = new = f"r{number}.{part}"
            done.append(partial(session.graph.rename_step, each, new))
        else:
            there = dice.randrange(1, len(edited))
            edited.insert(there, edited.pop(place))
            ids.insert(there, ids.pop(place))
            if there != place:
                done.append(partial(session.graph.move_step, each, after=ids[there - 1]))
        if len(edited) < 3:
            break
    if not runs(edited):
        return sources
    for change in done:
        change()
    return edited


def _break(dice: Random, session: StepExecutor, name: str) -> None:
    """A step that raises comes and goes."""
    session.graph.add_step(name, breaking(dice), after=dice.choice(session.graph.steps))
    assert name in session.replay().failed
    session.graph.delete_step(name)


def _equal(session: StepExecutor, sources: list[str]) -> None:
    graph = session.graph
    assert [graph.source(each) for each in graph.steps] == sources
    names, printed = whole(sources)
    assert [plain(session.results[each].stdout) for each in graph.steps] == printed
    assert picture(session.namespace()) == names


@pytest.mark.parametrize("seed", range(200 if CAMPAIGN else 6))
def test_the_same_program_with_the_same_edits_runs_the_same_steps(seed: int) -> None:
    orders = set[tuple[str, ...]]()
    for _ in range(2):
        dice = Random(seed)
        begin_again()
        session = StepExecutor()
        for number, source in enumerate([*BEGIN, *(step(dice) for _ in range(8))]):
            session.execute(f"s{number}", source)
        session.graph.edit_step("s2", f"b = {dice.randint(10, 20)}")
        orders.add(session.replay().ran)
    assert len(orders) == 1
