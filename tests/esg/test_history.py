"""Undo, branches, values of any place; how many bytes copies may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.esg import StepExecutor
from lorimer.esg.graph.questions import StepError
from tests.esg.sessions import session_of


def _program(session: StepExecutor) -> list[tuple[str, str]]:
    return [(each, session.graph.source(each)) for each in session.graph.steps]


def test_row_41_an_edit_is_undone_and_only_what_it_concerned_runs() -> None:
    session = session_of("xs = [1]", "k = 2", "xs.append(k)", "total = sum(xs)", "other = 1")
    session.graph.edit_step("s1", "k = 5")
    session.replay()
    assert session.namespace()["total"] == 6
    assert session.undo().ran == ("s1", "s2", "s3")
    assert session.namespace()["total"] == 3
    assert session.undo().ran == (), "the last step went, as it was the last change"
    assert session.graph.steps == ("s0", "s1", "s2", "s3")


def test_row_41_what_has_not_run_yet_is_taken_back_without_a_run() -> None:
    session = session_of("a = 1", "b = a", "c = b")
    before = _program(session)
    session.graph.delete_step("s1")
    session.graph.add_step("new", "d = 1", after="")
    session.graph.move_step("s2", after="")
    session.graph.edit_step("s0", "a = 2")
    session.undo()
    assert _program(session) == before
    assert session.namespace() == {"a": 1, "b": 1, "c": 1}


def test_row_41_nothing_is_left_to_undo() -> None:
    with pytest.raises(StepError, match="nothing to undo"):
        session_of("a = 1").undo()


def test_row_41_branches() -> None:
    session = session_of("a = 1", "b = a + 1", "c = 7")
    session.branch("other")
    session.graph.edit_step("s0", "a = 10")
    session.graph.add_step("s3", "d = b", after="s1")
    assert session.replay().ran == ("s0", "s1", "s3")
    assert session.switch("main").ran == ("s0", "s1")
    assert session.namespace() == {"a": 1, "b": 2, "c": 7}
    assert session.branches == ("main", "other")
    assert session.switch("other").ran == ("s0", "s1", "s3")
    assert session.namespace() == {"a": 10, "b": 11, "c": 7, "d": 11}
    assert session.undo().ran == ("s0", "s1"), "each branch has its own past"
    assert session.namespace() == {"a": 1, "b": 2, "c": 7}
    with pytest.raises(StepError, match="no branch .mian.; did you mean .main."):
        session.switch("mian")
    with pytest.raises(StepError, match="already exists"):
        session.branch("main")


@given(st.lists(st.tuples(st.sampled_from("aaaedmnrruuu"), st.integers(0, 50)), max_size=25))
def test_row_41_undo_goes_back_through_all_that_ran(changes: list[tuple[str, int]]) -> None:
    session = StepExecutor()
    graph, past = session.graph, list[list[tuple[str, str]]]()

    def note() -> None:
        if (past or len(graph)) and past[-1:] != [_program(session)]:
            past.append(_program(session))

    for number, (kind, at) in enumerate(changes):
        steps = graph.steps
        each = steps[at % len(steps)] if steps else ""
        if kind == "a" or not steps:
            session.execute(f"s{number}", f"x{at} = {at}")
        elif kind == "e":
            graph.edit_step(each, f"y = {number}")
        elif kind == "d":
            graph.delete_step(each)
        elif kind == "m":
            after = steps[at // 2 % len(steps)]
            graph.move_step(each, after="" if after == each else after)
        elif kind == "n":
            graph.add_step(f"n{number}", "z = 1", after=each)
        elif kind == "r":
            session.replay()
        elif past and (past[-1] != _program(session) or len(past) > 1):
            if past[-1] == _program(session):
                past.pop()
            session.undo()
            assert _program(session) == past[-1]
        if kind in "ar" or not steps:
            note()
    session.replay()
    note()
    while len(past) > 1:
        past.pop()
        session.undo()
        assert _program(session) == past[-1]


def test_row_41_values_of_any_place_run_nothing() -> None:
    session = session_of("xs = [1]", "xs.append(2)", "ys = xs", "ys.clear()")
    assert [session.namespace(f"s{n}").get("xs") for n in range(4)] == [[1], [1, 2], [1, 2], []]
    assert session.namespace()["xs"] == []
    assert session.replay().ran == ()
