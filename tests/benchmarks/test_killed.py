"""The harness that kills agents: that ours still runs in it and keeps its promise, and that each
kind of repeat is counted as what it is. Other frameworks never run in tests."""

import json
from pathlib import Path

import pytest

from benchmarks.killed.__main__ import main
from benchmarks.killed.count import Count, count
from benchmarks.killed.kills import Story
from benchmarks.killed.work import Work, answer_of, final_of, marks_of, result_of

BEGIN, END = "begin", "end"


def test_lorimer_is_killed_and_repeats_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "Lorimer", "--kills", "2", "--turns", "3", "--markdown"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["Kills"] == ["2", "2"]
    assert cells["- answered and acted on before"] == ["0", "0"]
    assert cells["Tool calls begun again, of all"][0].startswith("0 of ")


def test_a_contender_without_an_environment_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "langgraph", "--environments", str(tmp_path)]) == 1
    assert "langgraph has no environment: make peers" in capsys.readouterr().err


def counted(folder: Path, *marks: tuple[str, str, int], kills: list[int], turns: int = 2) -> Count:
    """What is counted from these marks of a run that gave its answer."""
    lines = [{"life": 1, "what": what, "phase": phase, "n": n} for what, phase, n in marks]
    marks_of(folder).write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer_of(folder).write_text(final_of(turns))
    return count([Story(folder, kills)], turns)


WHOLE = [
    (what, phase, n)
    for n in range(2)
    for what, phase in (("model", BEGIN), ("model", END), ("tool", BEGIN), ("tool", END))
]
LAST = [("model", BEGIN, 2), ("model", END, 2)]


def test_a_run_without_a_kill_repeats_nothing(tmp_path: Path) -> None:
    found = counted(tmp_path, *WHOLE, *LAST, kills=[])
    assert (found.right, found.model_calls, found.tool_calls) == (1, 3, 2)
    assert repeats(found) == {}


@pytest.mark.parametrize(
    ("at", "again", "kind", "place"),
    [
        (1, 0, "model_cut", "in a model call"),
        (2, 0, "model_answered", "after its answer"),
        (3, 2, "tool_cut", "in a tool call"),
        (4, 2, "tool_ended", "after its result"),
    ],
)
def test_what_begins_again_at_once(
    tmp_path: Path, at: int, again: int, kind: str, place: str
) -> None:
    found = counted(tmp_path, *WHOLE[:at], *WHOLE[again:], *LAST, kills=[at])
    assert repeats(found) == {kind: 1}
    assert found.places[place] == 1
    assert found.right == 1


def test_what_begins_again_although_it_was_settled(tmp_path: Path) -> None:
    found = counted(tmp_path, *WHOLE[:5], *WHOLE, *LAST, kills=[5])
    assert repeats(found) == {"model_settled": 1, "tool_settled": 1, "model_cut": 1}


def test_a_call_that_never_began_is_silent_or_reported(tmp_path: Path) -> None:
    without = [mark for mark in WHOLE if mark[0] == "model" or mark[2] == 0]
    silent = counted(tmp_path, *without, *LAST, kills=[])
    assert (silent.told_unbegun, silent.lost, silent.right) == (0, 1, 0)
    marks_of(tmp_path).unlink()
    work = Work([str(tmp_path), "", "2", "0"])
    for results in ([], [result_of(0)], [result_of(0), "unknown"]):
        with work.model_call(results) as n:
            pass
        if n == 0:
            with work.tool_call(n):
                pass
    told = count([Story(tmp_path)], 2)
    assert (told.told_unbegun, told.lost, told.right) == (1, 0, 1)
    assert told.told_ended == told.told_cut == 0


@pytest.mark.parametrize(("marks", "kind"), [(4, "told_ended"), (3, "told_cut")])
def test_a_call_that_is_not_run_again_but_reported(tmp_path: Path, marks: int, kind: str) -> None:
    counted(tmp_path, *WHOLE[:marks], kills=[marks], turns=1)
    with Work([str(tmp_path), "", "1", "0"]).model_call(["unknown"]):
        pass
    found = count([Story(tmp_path, [marks])], 1)
    assert getattr(found, kind) == 1
    assert found.told_ended + found.told_cut + found.told_unbegun == found.right == 1
    assert repeats(found) == {}


def test_a_wrong_answer_is_trouble(tmp_path: Path) -> None:
    found = counted(tmp_path, *WHOLE, *LAST, kills=[])
    answer_of(tmp_path).write_text("something else")
    wrong = count([Story(tmp_path)], 2)
    assert found.troubles == []
    assert wrong.troubles == ["ended with another answer: something else"]
    assert wrong.right == 0


def repeats(found: Count) -> dict[str, int]:
    kinds = ("settled", "answered", "ended", "cut")
    values = {
        f"{what}_{kind}": getattr(found, f"{what}_{kind}", 0)
        for what in ("model", "tool")
        for kind in kinds
    }
    return {name: value for name, value in values.items() if value}
