"""Why a step failed, and what mends it: a fault in realistic steps for each rule."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from lorimer.esg.graph.questions import StepError
from lorimer.esg.repair.trying import can_fork
from tests.quick import quick


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
    Fault("syntax", 4, (*SALES, "import math\nfrom __future__ import annotations")),
    Fault("syntax", 4, (*SALES, "x = 1\nreturn x")),
    Fault(
        "annotation_not_put_off",
        0,
        ("from __future__ import annotations", "class P:\n    next: P | None = None"),
        "class P:\n    next: 'P | None' = None",
    ),
    Fault("magic", 4, (*SALES, "%time total")),
    Fault("magic", 4, (*SALES, "files = !ls")),
    Fault("name_typo", 0, ("amonut = 3", "print(amount)", "y = amount + 1"), "amount = 3"),
    Fault("other_language", 4, (*SALES, "done = true"), "done = True"),
    Fault("other_language", 4, (*SALES, "display(rows)"), "print(rows)"),
    Fault("missing_quotes", 4, (*SALES, "print(rows[0][city])"), "print(rows[0]['city'])"),
    Fault(
        "missing_self",
        0,
        (
            "class A:\n    def __init__(self):\n        self.n = 1\n"
            "    def f(self):\n        return n",
            "print(A().f())",
        ),
        "class A:\n    def __init__(self):\n        self.n = 1\n    def f(self):\n"
        "        return self.n",
    ),
    Fault(
        "missing_self",
        0,
        ("class A:\n    def f(n):\n        return n", "print(A().f(3))"),
        "class A:\n    def f(self, n):\n        return n",
    ),
    Fault(
        "local_before_bound",
        4,
        (*SALES, "def more():\n    total += 1\n    return total", "print(more())"),
        "def more():\n    global total\n    total += 1\n    return total",
    ),
    Fault("key_as_attribute", 4, (*SALES, "print(rows[0].city)"), "print(rows[0]['city'])"),
    Fault("other_language", 4, (*SALES, "n = rows.length"), "n = len(rows)"),
    Fault("attribute_typo", 4, (*SALES, "rows.push(3)"), "rows.append(3)"),
    Fault("key_typo", 4, (*SALES, "key = 'citty'", "print(rows[0][key])"), "key = 'city'"),
    Fault("index_range", 3, (*SALES, "print(cities[2 + 3])")),
    Fault(
        "index_range",
        4,
        (*SALES, "i = 0\nwhile i <= len(cities):\n    print(cities[i])\n    i += 1"),
        "i = 0\nwhile i < len(cities):\n    print(cities[i])\n    i += 1",
    ),
    Fault(
        "missing_argument", 4, (*SALES, "t = total_of(start=2)"), "t = total_of(start=2, rows=rows)"
    ),
    Fault("too_many_arguments", 4, (*SALES, "t = total_of(rows, 3)"), "t = total_of(rows)"),
    Fault(
        "too_many_arguments", 4, (*SALES, "t = total_of(3, rows=rows)"), "t = total_of(rows=rows)"
    ),
    Fault(
        "argument_typo",
        4,
        (*SALES, "s = sorted(cities, revers=True)"),
        "s = sorted(cities, reverse=True)",
    ),
    Fault("called_not_indexed", 4, (*SALES, "print(cities(0))"), "print(cities[0])"),
    Fault(
        "not_called",
        4,
        (*SALES, "n = [k for k in rows[0].keys]"),
        "n = [k for k in rows[0].keys()]",
    ),
    Fault(
        "module_called",
        4,
        (*SALES, "import datetime\nd = datetime(2020, 1, 1)"),
        "import datetime\nd = datetime.datetime(2020, 1, 1)",
    ),
    Fault("not_a_method", 4, (*SALES, "d = (3).real()"), "d = (3).real"),
    Fault("unpack_count", 4, (*SALES, "a, b, c = cities"), "a, b = cities"),
    Fault(
        "items_of_dict",
        4,
        (*SALES, "for k, v in rows[0]:\n    print(k, v)"),
        "for k, v in rows[0].items():\n    print(k, v)",
    ),
    Fault(
        "enumerate",
        4,
        (*SALES, "for i, n in [7, 8]:\n    print(i, n)"),
        "for i, n in enumerate([7, 8]):\n    print(i, n)",
    ),
    Fault(
        "no_return",
        0,
        ("def f(x):\n    y = x + 1", "z = f(3)", "print(z + 1)"),
        "def f(x):\n    y = x + 1\n    return y",
    ),
    Fault(
        "none_from_get",
        4,
        (*SALES, "c = rows[0].get('citi')", "print(c.upper())"),
        "c = rows[0].get('city')",
    ),
    Fault("nothing_to_await", 4, (*SALES, "n = await len(rows)"), "n = len(rows)"),
    Fault(
        "type_mismatch", 2, (*SALES, "print('total: ' + total)"), "print('total: ' + str(total))"
    ),
    Fault("type_mismatch", 4, (*SALES, "n = '4'", "m = n * 1.5"), "m = int(n) * 1.5"),
    Fault(
        "type_mismatch", 4, (*SALES, "ns = ['4', '5.5']", "m = sum(ns)"), "m = sum(map(float, ns))"
    ),
    Fault(
        "join_of_others",
        4,
        (*SALES, "ns = [1, 2]", "t = ', '.join(ns)"),
        "t = ', '.join(map(str, ns))",
    ),
    Fault(
        "not_iterable", 2, (*SALES, "for i in total:\n    pass"), "for i in range(total):\n    pass"
    ),
    Fault(
        "unhashable",
        4,
        (*SALES, "seen = {}\nseen[cities] = 1"),
        "seen = {}\nseen[tuple(cities)] = 1",
    ),
    Fault("index_type", 4, (*SALES, "i = '1'", "print(cities[i])"), "print(cities[int(i)])"),
    Fault("no_number", 4, (*SALES, "t = '1,200'", "n = int(t)"), "n = int(t.replace(',', ''))"),
    Fault("nan", 4, (*SALES, "x = float('nan')", "n = int(x)")),
    Fault("division_by_zero", 4, (*SALES, "n = 0", "m = total / n")),
    Fault("recursion", 4, (*SALES, "def f(n):\n    return f(n - 1)", "f(3)")),
    Fault("memory", 4, (*SALES, "raise MemoryError")),
    Fault("time", 4, (*SALES, "raise TimeoutError")),
    Fault(
        "overwritten",
        4,
        (*SALES, "cities = len(cities)", "print(cities[0])"),
        "cities_2 = len(cities)",
    ),
    Fault(
        "shadowed",
        5,
        (*SALES, "import json", "json = json.dumps(rows)", "t = json.loads('1')"),
        "json_2 = json.dumps(rows)",
    ),
    Fault("indentation", 4, (*SALES, "if total:\nprint(total)"), "if total:\n    print(total)"),
    Fault("open_quote", 4, (*SALES, "print('a)"), "print('a')"),
    Fault("missing_comma", 4, (*SALES, "p = (1 2)"), "p = (1, 2)"),
    Fault(
        "keyword_typo",
        4,
        (*SALES, "fro c in cities:\n    print(c)"),
        "for c in cities:\n    print(c)",
    ),
    Fault("extra_bracket", 4, (*SALES, "print(total))"), "print(total)"),
    Fault(
        "assigned_not_compared",
        4,
        (*SALES, "if total = 8:\n    print(1)"),
        "if total == 8:\n    print(1)",
    ),
    Fault("print_statement", 4, (*SALES, "print total"), "print(total)"),
    Fault(
        "member_typo",
        4,
        (*SALES, "from collections import Conter"),
        "from collections import Counter",
    ),
    Fault(
        "member_of_another",
        4,
        (*SALES, "from itertools import reduce"),
        "from functools import reduce",
    ),
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


def test_row_53_a_value_that_has_another_name_since_an_edit() -> None:
    session = StepExecutor()
    for number, source in enumerate(("total = 3", "print(total)")):
        assert session.execute(f"s{number}", source).ok
    session.graph.edit_step("s0", "grand = 3")
    session.replay()
    report = diagnose(session.results["s1"], session.graph)
    assert str(report.cause).startswith("Finding(rule='renamed', message=\"s0 calls it 'grand'")
    assert session.repair(generate_patch(report, session.graph), "s1")
    assert session.results["s1"].stdout == "3\n"


def test_row_53_a_key_that_was_changed_where_it_is_made() -> None:
    session = StepExecutor()
    for number, source in enumerate(("row = {'city': 'Ulm'}", "x = 1", "print(row['city'])")):
        assert session.execute(f"s{number}", source).ok
    session.graph.edit_step("s0", "row = {'citi': 'Ulm'}")
    session.replay()
    report = diagnose(session.results["s2"], session.graph)
    assert report.cause is not None
    assert (report.cause.rule, report.cause.step) == ("key_changed", "s0")
    assert session.repair(generate_patch(report, session.graph), "s2")
    assert session.graph.source("s0") == "row = {'city': 'Ulm'}"


def test_row_53_a_step_that_never_ran_is_named_and_no_text_is_changed() -> None:
    session = StepExecutor()
    session.graph.add_step("s0", "total = 3")
    result = session.execute("s1", "print(total)")
    report = diagnose(result, session.graph)
    assert report.cause is not None
    assert (report.cause.rule, report.cause.step) == ("producer_stale", "s0")
    assert not generate_patch(report, session.graph)


def test_a_diagnosis_of_a_text_that_was_edited_since_gives_no_patch() -> None:
    session, result = played(("total = 3", "print(totl)"))
    report = diagnose(result, session.graph)
    session.graph.edit_step("s1", "# more\nprint(totl)")
    assert not generate_patch(report, session.graph)


def test_what_python_looks_at_to_suggest_a_name_is_no_read() -> None:
    session = StepExecutor()
    session.execute("s0", "total = 3\nother = 4")
    assert session.execute("s1", "print(totl)").reads == ("print", "totl")


def test_nothing_of_a_value_runs_for_a_diagnosis() -> None:
    steps = (
        "class Loud:\n    ran = 0\n    def __getattr__(self, name):\n"
        "        Loud.ran += 1\n        raise AttributeError(name)\n"
        "    def __eq__(self, other):\n        Loud.ran += 1\n        return False\n"
        "    def __len__(self):\n        Loud.ran += 1\n        return 3",
        "loud = Loud()\nmany = [loud, loud]",
        "total = loud + many[0]",
    )
    session, result = played(steps)
    kind = result.namespace["Loud"]
    before = vars(kind)["ran"]  # type: ignore[arg-type]
    diagnose(result, session.graph)
    assert vars(kind)["ran"] == before  # type: ignore[arg-type]


APART = r"""
import os, sys, tempfile
os.chdir(tempfile.mkdtemp())
from lorimer.esg import StepExecutor, diagnose, generate_patch
from lorimer.esg.patching.patches import Edit, patch_of
from lorimer.esg.repair.trying import can_fork
assert can_fork()
session = StepExecutor()
session.execute("s0", "numbers = iter([1, 2, 3])")
session.execute("s1", "first = next(numbers)")
session.execute("s2", "print(frist)")
before = {name: id(value) for name, value in session.namespace().items()}

def text(new):
    return patch_of([Edit("s2", 0, len(session.graph.source("s2")), new)], "", session.graph)

pid = os.getpid()
for bad in ("import os\nos.abort()", "while True: pass", "1 / 0", "import os\nos._exit(0)"):
    assert not session.repair(text(bad), "s2", timeout_s=0.5), bad
    assert session.graph.source("s2") == "print(frist)"
    assert {name: id(value) for name, value in session.namespace().items()} == before
assert os.getpid() == pid
patch = generate_patch(diagnose(session.results["s2"], session.graph), session.graph)
assert session.repair(patch, "s2")
assert session.results["s2"].stdout == "1\n", session.results["s2"]
assert session.namespace()["first"] == 1
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process is copied on Linux only")
def test_row_56_a_patch_that_fails_hangs_or_crashes_leaves_no_trace() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APART],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("no child is left\n", "")


@contextmanager
def another_thread() -> Iterator[None]:
    """With one alive no copy of this process is made."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert not can_fork()
        yield
    finally:
        done.set()
        other.join()


def test_row_56_with_threads_a_patch_is_tried_here_and_put_back() -> None:
    steps = ("xs = [3, 1]", "ordered = xs.sort()", "kind = str(ordered).index('None')")
    session = StepExecutor()
    for number, source in enumerate(steps):
        assert session.execute(f"s{number}", source).ok
    result = session.execute("s3", "first = ordered[0]")
    patch = generate_patch(diagnose(result, session.graph), session.graph)
    with another_thread():
        assert not session.repair(patch, "s3")
    assert [session.graph.source(each) for each in session.graph.steps][:3] == [*steps]
    assert session.namespace()["kind"] == 0


@pytest.mark.parametrize("where", [nullcontext, another_thread], ids=["copy", "here"])
def test_row_56_steps_that_were_moved_in_vain_are_back(
    where: Callable[[], AbstractContextManager[None]],
) -> None:
    session = StepExecutor()
    texts = {"s0": "x = 1", "s1": "print(late, nobody)", "s2": "y = 2", "s3": "late = y"}
    for step, source in texts.items():
        session.graph.add_step(step, source)
    session.replay()
    report = diagnose(session.results["s1"], session.graph)
    patch = generate_patch(report, session.graph)
    assert [str(each.step) for each in patch.moves] == ["s2", "s3"]
    with where():
        assert not session.repair(patch, "s1"), "nobody makes `nobody`"
    assert session.graph.steps == tuple(texts)


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


@pytest.mark.parametrize("padding", [" ", "#", "\t", "x", "x "])
def test_long_lines_take_no_long_time(padding: str) -> None:
    """What takes the square of it would take more than an hour."""
    long = padding * 500_000
    session, result = played((f"a = 1  # {long}", f"if a  # {long}\n    pass"))
    assert "missing_colon" in str(diagnose(result, session.graph))
    session, result = played((f"a = 1  # {long}'", f"if a  # {long}'\n    pass"))
    assert "expected ':'" in str(diagnose(result, session.graph))


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


def test_causes_that_differ_in_their_edits_alone_are_told_once() -> None:
    session = StepExecutor()
    session.execute("sum", "x = [1]\nprint(sum((x))")
    report = diagnose(session.results["sum"], session.graph)
    assert len({each.edits for each in report.findings}) == len(report.findings) == 2
    assert report.messages == ("'(' of line 2 is not closed",)
    assert str(report).count("is not closed") == 1


LONG = "a" * 20_000
MADE_TO_BE_SLOW = {
    "a key": f"d = {{{LONG!r} + x: 1 for x in 'bcde'}}\nd[{LONG!r}]",
    "a name": "\n".join([f"{LONG}{x} = 1" for x in "bcde"]) + f"\n{LONG}",
    "an attribute": (
        f"class A: pass\nfor x in 'bcde': setattr(A, {LONG!r} + x, 1)\ngetattr(A, {LONG!r})"
    ),
    "names that are much alike": (
        "globals().update({'a' * 90 + f'{n:05}': 1 for n in range(10_000)})\n" + "a" * 90 + "0000x"
    ),
    "a float": "raise ValueError('could not convert string to float' * 50_000)",
    "an int": "raise ValueError('invalid literal for int()' * 50_000)",
}


@pytest.mark.parametrize("source", MADE_TO_BE_SLOW.values(), ids=MADE_TO_BE_SLOW)
def test_errors_made_to_be_slow_to_explain_are_not(source: str) -> None:
    session, result = played((source,))
    with quick():
        generate_patch(diagnose(result, session.graph), session.graph)


def test_of_a_long_message_the_end_is_read_too() -> None:
    session, result = played((f"float({'x' * 5_000!r} + ' end')",))
    cause = diagnose(result, session.graph).cause
    assert cause is not None
    assert cause.rule == "no_number"
    assert "xxx..." in cause.message and cause.message.endswith(" end' is no number")


def test_a_warning_that_counts_as_an_error_is_no_slip_of_the_pen() -> None:
    session = StepExecutor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.execute("s0", "x = '\\d'.find('a1')")
    report = diagnose(session.results["s0"], session.graph)
    assert [(each.rule, each.edits) for each in report.findings] == [("warning", ())]
    assert "line 1" in report.findings[0].message


def test_whatever_an_object_raises_a_failed_step_is_told_and_examined() -> None:
    session = StepExecutor()
    session.execute(
        "odd",
        "class Odd(dict):\n"
        "    def keys(self): raise RuntimeError('keys')\n"
        "    def __repr__(self): raise RuntimeError('repr')\n"
        "odd = Odd()",
    )
    looked_up = session.execute("look up", "odd['zz']")
    raised = session.execute("raise", "raise KeyError(odd)")

    assert diagnose(looked_up, session.graph).error == "KeyError: 'zz'"
    assert raised.failure is not None and raised.failure.type == "KeyError"
    assert diagnose(raised, session.graph).error == "KeyError: <exception str() failed>"
