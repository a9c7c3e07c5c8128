"""Why a step failed, and what mends it: a fault in realistic steps for each rule."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from lorimer.esg import (
    ExecutionStateGraph,
    StepExecutor,
    StepResult,
    diagnose,
    generate_patch,
)
from lorimer.esg.questions import StepError


class Fault(NamedTuple):
    """Steps of which the last one fails; what is to be found, where, and what mends it."""

    rule: str
    evidence: int
    steps: tuple[str, ...]
    mended: str = ""
    """The text of the step that is edited, after it; empty: there is no edit."""


SALES = (
    "rows = [{'city': 'Ulm', 'amount': 3}, {'city': 'Bonn', 'amount': 5}]",
    "def total_of(rows, *, start=0):\n    return start + sum(row['amount'] for row in rows)",
    "total = total_of(rows)",
    "cities = [row['city'] for row in rows]",
)

FAULTS = (
    Fault("name_typo", 2, (*SALES, "print(totl * 2)"), "print(total * 2)"),
    Fault("name_typo", 3, (*SALES, "n = len(citis) + len(citis)"), "n = len(cities) + len(cities)"),
    Fault("name_typo", 4, (*SALES, "pritn(total)"), "print(total)"),
    Fault("deleted", 4, (*SALES, "del total", "print(total)"), "pass"),
    Fault("deleted", 4, (*SALES, "del total\nn = 1", "print(total)"), "n = 1"),
    Fault("deleted", 4, (*SALES, "del total, rows", "print(total)"), "del rows"),
    Fault("made_later", -1, (*SALES, "print(average)"), "(moved)"),
    Fault(
        "missing_import", 4, (*SALES, "r = math.sqrt(total)"), "import math\nr = math.sqrt(total)"
    ),
    Fault(
        "missing_import",
        4,
        (*SALES, "c = Counter(cities)"),
        "from collections import Counter\nc = Counter(cities)",
    ),
    Fault("attribute_typo", 4, (*SALES, "cities.apend('Kiel')"), "cities.append('Kiel')"),
    Fault(
        "attribute_typo", 4, (*SALES, "s = ' '.join(cities).uper()"), "s = ' '.join(cities).upper()"
    ),
    Fault(
        "none_from_in_place",
        4,
        (*SALES, "ordered = cities.sort()", "first = ordered.copy()"),
        "cities.sort()\nordered = cities",
    ),
    Fault(
        "none_from_in_place",
        4,
        (*SALES, "ordered = cities.sort()", "first = ordered[0]"),
        "cities.sort()\nordered = cities",
    ),
    Fault(
        "key_typo",
        0,
        ("row = {'city': 'Ulm', 'amount': 3}", "print(row['ammount'])"),
        "print(row['amount'])",
    ),
    Fault("missing_key", 0, ("row = {'city': 'Ulm'}", "print(row['zip'])")),
    Fault(
        "module_typo",
        4,
        (*SALES, "import jsno\nt = jsno.dumps(rows)"),
        "import json\nt = json.dumps(rows)",
    ),
    Fault("missing_package", 4, (*SALES, "import sklearn_not_there")),
    Fault(
        "argument_typo", 4, (*SALES, "t = total_of(rows, strat=2)"), "t = total_of(rows, start=2)"
    ),
    Fault("shadowed", 4, (*SALES, "sum = 3", "t = sum([1, 2])"), "sum_2 = 3"),
    Fault(
        "missing_colon",
        4,
        (*SALES, "for c in cities\n    print(c)"),
        "for c in cities:\n    print(c)",
    ),
    Fault("open_bracket", 4, (*SALES, "n = len(cities"), "n = len(cities)"),
    Fault("magic", 4, (*SALES, "%time total")),
    Fault("producer_failed", 4, (*SALES, "share = total / 0", "print(share)")),
)


def played(steps: tuple[str, ...]) -> tuple[StepExecutor, StepResult]:
    session = StepExecutor()
    result = [session.execute(f"s{number}", source) for number, source in enumerate(steps)][-1]
    assert not result.ok
    return session, result


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.rule}: {fault.steps[-1]}")
def test_row_11_53_54_the_cause_is_found_first_and_mended(fault: Fault) -> None:
    session, result = played(fault.steps)
    if fault.rule == "made_later":
        session.graph.add_step("later", "average = total / 2")
    report = diagnose(result, session.graph)
    assert report.cause is not None
    assert report.cause.rule == fault.rule
    if fault.rule != "made_later":
        assert report.cause.step == f"s{fault.evidence}"
    patch = generate_patch(report, session.graph)
    assert bool(patch) is bool(fault.mended)
    if patch:
        assert session.repair(patch, result.step_id)
        if patch.moves:
            assert session.graph.steps[-2:] == ("later", "s4")
            return
        edited = session.graph.source(patch.edits[0].step)
        assert edited == fault.mended
        assert session.graph.stale() == []


def test_a_coroutine_that_was_not_awaited() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own words about it
        session, result = played(("async def f():\n    return 4", "x = f()", "y = x + 1"))
        report = diagnose(result, session.graph)
        patch = generate_patch(report, session.graph)
        assert session.repair(patch, "s2")
        value, source = session.namespace()["y"], session.graph.source("s1")
        del session, result
        gc.collect()
    assert report.cause is not None
    assert (report.cause.rule, report.cause.step) == ("not_awaited", "s1")
    assert (source, value) == ("x = await f()", 5)


def test_row_12_55_a_patch_is_a_diff_and_guarded_by_a_hash() -> None:
    session, result = played(("total = 3", "x = 1\nprint(totl)"))
    patch = generate_patch(diagnose(result, session.graph), session.graph)
    assert patch.diff == "--- s1\n+++ s1\n@@ -1,2 +1,2 @@\n x = 1\n-print(totl)\n+print(total)\n"
    assert patch.reason == "'totl' is probably 'total'"
    session.graph.edit_step("s1", "print(totl, 1)")
    with pytest.raises(StepError, match="not as it was"):
        patch.apply(session.graph)
    assert session.graph.source("s1") == "print(totl, 1)"


def test_row_56_a_patch_that_breaks_another_step_leaves_no_trace() -> None:
    steps = ("xs = [3, 1]", "ordered = xs.sort()", "kind = str(ordered).index('None')")
    session = StepExecutor()
    for number, source in enumerate(steps):
        assert session.execute(f"s{number}", source).ok
    result = session.execute("s3", "first = ordered[0]")
    patch = generate_patch(diagnose(result, session.graph), session.graph)
    assert patch
    assert not session.repair(patch, "s3"), "s2 rests on the None"
    assert [session.graph.source(each) for each in session.graph.steps][:3] == [*steps]
    assert session.namespace()["kind"] == 0
    assert session.graph.status("s2") == "fresh"


def test_a_file_that_is_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("1")
    session, result = played(
        (f"folder = {str(tmp_path)!r}", "t = open(folder + '/sale.csv').read()")
    )
    report = diagnose(result, session.graph)
    assert report.cause is not None
    assert report.cause.rule == "file_typo"
    patch = generate_patch(report, session.graph)
    assert "sales.csv" in patch.diff


def test_a_step_that_ran_has_nothing_to_mend() -> None:
    session = StepExecutor()
    report = diagnose(session.execute("s0", "x = 1"), session.graph)
    assert (str(report), report.cause) == ("s0 ran", None)
    assert not generate_patch(report, session.graph)


def test_an_error_that_no_rule_knows_is_told() -> None:
    session, result = played(("x = 1", "raise RuntimeError('no')"))
    report = diagnose(result, session.graph)
    assert str(report) == "s1: RuntimeError: no"
    assert generate_patch(report, session.graph).reason == "no rule knows this error"


def test_the_readme_of_the_seed() -> None:
    esg = ExecutionStateGraph()
    step_id = esg.add_step("step_0", "x = 5\ny = x + 3")
    executor = StepExecutor(namespace={})
    result = executor.execute(step_id, "x = 5\ny = x + 3")
    esg.record_output(step_id, result.namespace)
    esg.add_step("step_1", "z = y * 2")
    esg.add_edge("step_0", "step_1")
    diagnosis = diagnose(result, esg)
    patch = generate_patch(diagnosis, esg)
    assert not patch
    assert esg.mark_stale("step_0") == ["step_0", "step_1"]
    assert esg.replay_from("step_0") == ["step_0", "step_1"]
    assert esg.get_ancestors("step_1", {"y"}) == ["step_0"]
    assert esg.get_subgraph_from("step_1") == ["step_1"]
    assert esg.get_node("step_0")["outputs"] == {"x": 5, "y": 8}
