"""Every case still runs, does what it should (the cases check themselves) and gives its figures;
what they are is nothing for a test."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import httpx2
import pytest

from benchmarks.__main__ import main
from benchmarks.budgets import LINES, Case, Line
from benchmarks.measure import measure
from benchmarks.provider import provider
from benchmarks.scale import SCALES, Figures, NotHere
from benchmarks.server import heard, script
from lorimer.testing import FakeLLMServer


@dataclass
class Here:
    """A provider in this process: each of their own takes half a second to begin."""

    server: FakeLLMServer

    @property
    def url(self) -> str:
        return self.server.url

    def heard(self) -> dict[str, int]:
        return heard(self.server)


@contextmanager
def here(kind: str, count: int) -> Iterator[Here]:
    with FakeLLMServer(script(kind, count)) as server:
        yield Here(server)


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("benchmarks.rows.wire", "benchmarks.floors.sdk"):
        monkeypatch.setattr(f"{module}.provider", here)


def test_a_provider_in_a_process_of_its_own_tells_what_it_heard() -> None:
    with provider("deltas", 3) as server:
        httpx2.post(f"{server.url}/v1/chat/completions", json={"model": "m", "messages": []})
        assert server.heard() == {"requests": 1, "bytes": len('{"model": "m", "messages": []}')}


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
