"""Undo, branches, values of any place; how many bytes copies may take."""

from __future__ import annotations

import pytest

from lorimer.esg import StepExecutor
from lorimer.esg.questions import StepError


def _session(*sources: str) -> StepExecutor:
    session = StepExecutor()
    for number, source in enumerate(sources):
        result = session.execute(f"s{number}", source)
        assert result.ok, result.failure
    return session


def _program(session: StepExecutor) -> list[tuple[str, str]]:
    return [(each, session.graph.source(each)) for each in session.graph.steps]


def test_row_41_an_edit_is_undone_and_only_what_it_concerned_runs() -> None:
    session = _session("xs = [1]", "k = 2", "xs.append(k)", "total = sum(xs)", "other = 1")
    session.graph.edit_step("s1", "k = 5")
    session.replay()
    assert session.namespace()["total"] == 6
    assert session.undo().ran == ("s1", "s2", "s3")
    assert session.namespace()["total"] == 3
    assert session.undo().ran == (), "the last step went, as it was the last change"
    assert session.graph.steps == ("s0", "s1", "s2", "s3")


def test_row_41_what_has_not_run_yet_is_taken_back_without_a_run() -> None:
    session = _session("a = 1", "b = a", "c = b")
    before = _program(session)
    session.graph.delete_step("s1")
    session.graph.add_step("new", "d = 1", after="")
    session.graph.move_step("s2", after="")
    session.graph.edit_step("s0", "a = 2")
    session.undo()
    assert _program(session) == before
    assert session.namespace() == {"a": 1, "b": 1, "c": 1}


def test_row_41_nothing_is_left_to_undo() -> None:
    with pytest.raises(StepError, match="no earlier program"):
        _session("a = 1").undo()


def test_row_41_branches() -> None:
    session = _session("a = 1", "b = a + 1", "c = 7")
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
    with pytest.raises(StepError, match="is there already"):
        session.branch("main")


def test_row_41_values_of_any_place_run_nothing() -> None:
    session = _session("xs = [1]", "xs.append(2)", "ys = xs", "ys.clear()")
    assert [session.namespace(f"s{n}").get("xs") for n in range(4)] == [[1], [1, 2], [1, 2], []]
    assert session.namespace()["xs"] == []
    assert session.replay().ran == ()
