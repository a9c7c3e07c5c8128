"""Every case still runs, does what it should (the cases check themselves) and gives its figures;
what they are is nothing for a test."""

import asyncio
import json
from importlib import import_module

import pytest

from benchmarks.__main__ import main
from benchmarks.budgets import LINES, Case, Line
from benchmarks.measure import measure
from benchmarks.scale import SCALES, Figures, NotHere

MEASURED = [line for line in LINES if not line.downloads]
ALONE = {case for line in MEASURED if line.row != 6 for case in (line.ours, *line.floors)}


def run(case: Case) -> Figures:
    module, _, function = case.function.partition(":")
    return asyncio.run(getattr(import_module(f"benchmarks.{module}"), function)(SCALES["smoke"]))


@pytest.mark.parametrize("case", sorted(ALONE, key=str), ids=lambda case: case.function)
def test_a_case_gives_its_figures(case: Case) -> None:
    wanted = {line.figure for line in MEASURED if case in (line.ours, *line.floors)}
    try:
        figures = run(case)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert set(figures) >= wanted
    assert all(figure >= 0 for figure in figures.values())


@pytest.mark.parametrize(
    "line", [line for line in MEASURED if line.row == 6], ids=lambda line: line.what
)
def test_lorimer_and_the_sdk_ask_for_the_same(line: Line) -> None:
    ours, sdk = run(line.ours), run(line.floors[0])
    assert ours["bytes"] == pytest.approx(sdk["bytes"], rel=0.1)
    assert ours["ms"] > 0
    assert sdk["ms"] > 0


def test_the_table_has_a_line_for_each_budget_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--rows", "1,2", "--rounds", "2", "--smoke", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [line["row"] for line in found] == [line.row for line in LINES if line.row in (1, 2)]
    assert [len(line["ours"]["rounds"]) for line in found] == [2] * len(found)
    assert code == (1 if any(line["within"] is False for line in found) else 0)


def test_no_line_is_there_twice() -> None:
    """By what it measures: under two names it would be measured twice."""
    measured = [(line.ours, line.figure) for line in LINES]
    assert len(set(measured)) == len(measured)


def test_a_case_that_fails_is_told_and_fails_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    line = Line(1, "nothing", "us", "us", Case("support:no_such_case"))
    outcome = measure([line], 1, "smoke", lambda what: None)[0]
    assert outcome.failed
    assert outcome.ours is None
    assert "no_such_case" in capfd.readouterr().err
