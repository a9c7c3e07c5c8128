"""The 60 features that an execution state graph is to have: each has tests, or a reason why not.

A test says which row it is for: in its name (`test_row_29_...`, `test_29_...`) or in the id of its
case ("row 18 late globals"). `python -m tests.esg.test_rows` prints the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lorimer.esg import StepExecutor

ROWS: Final[Mapping[int, str]] = {
    1: "get_reads, get_writes",
    2: "infer_edges",
    3: "add_step, add_edge, get_node, graph()",
    4: "record_output",
    5: "get_ancestors(step, names)",
    6: "get_subgraph_from",
    7: "mark_stale returns what is stale",
    8: "replay_from returns the order",
    9: "execute gives a StepResult with the namespace",
    10: "isolated namespaces",
    11: "diagnose",
    12: "generate_patch",
    13: "deterministic replay",
    14: "redefinition by later steps",
    15: "x += 1 replays once",
    16: "what may be written hides no read",
    17: "class bodies, comprehensions, nested scopes",
    18: "late globals of functions",
    19: "del as a write of absence",
    20: "changes of attributes, items, by methods",
    21: "alias groups",
    22: "numpy views, pandas column sharing",
    23: "reads by exec, eval, globals(), query",
    24: "import *",
    25: "walrus, match, f-strings, decorators, annotations, PEP 695",
    26: "global writes in functions",
    27: "top-level await",
    28: "magics are refused",
    29: "early cut-off",
    30: "comments and layout are no edit",
    31: "dynamic re-planning",
    32: "insert, delete, move, rename",
    33: "a failed step changes nothing; what needs it is blocked",
    34: "files",
    35: "random states",
    36: "environment, folder, clock, network",
    37: "output of skipped steps is kept",
    38: "versioned store with a byte budget",
    39: "copy on first write",
    40: "what cannot be copied is made again",
    41: "checkout, undo, branches",
    42: "fork checkpoints",
    43: "sessions saved and opened elsewhere",
    44: "dry run with reasons",
    45: "explain, why_stale, lineage",
    46: "slices as scripts",
    47: "parallel replay",
    48: "sandbox levels",
    49: "limits of time, memory, output",
    50: "a crashed worker is recovered",
    51: "zygote with preloaded modules",
    52: "names that nobody makes, before a run",
    53: "diagnosis that knows history",
    54: "rules for typos, imports, awaits, keys, files, arguments, None",
    55: "patches as diff, blocks, JSON",
    56: "patches verified in a fork, rolled back",
    57: "feedback in words to the steps it concerns",
    58: "notebooks, percent scripts, marimo",
    59: "events in order",
    60: "10,000 steps within the goal",
}

NAMED: Final[Mapping[int, tuple[str, str]]] = {
    42: ("tests/esg/test_confined.py", "test_without_an_heir_steps_run_again"),
    48: ("tests/esg/test_escapes.py", "test_a_step_cannot_reach"),
    49: ("tests/esg/test_confined.py", "test_what_does_not_end_well_has_changed_nothing"),
    50: ("tests/esg/test_confined.py", "test_a_replay_goes_on_after_a_step_that_ends_its_worker"),
    51: ("tests/esg/test_confined.py", "test_a_session_outlives_its_zygote"),
    60: ("benchmarks/budgets.py", "10,000 steps added"),
}
"""Tests that are called otherwise, and measurements: file and what stands in it."""

NOT_BUILT: Final[Mapping[int, str]] = {
    47: "steps run one after the other: most share objects, and threads of one interpreter wait",
}
"""Rows that have no test: why."""

_ROOT: Final = Path(__file__).parents[2]
_IN_NAME: Final = re.compile(r"def (test_(?:row_)?(\d+(?:_\d+)*)_\w+)")
_IN_CASE: Final = re.compile(r"\"(row (\d+) [^\"]*)\"")


def by_row() -> dict[int, list[str]]:
    """Row -> what tests it."""
    found: dict[int, list[str]] = {row: [] for row in ROWS}
    folders = ("esg", "cli", "campaign")
    for path in sorted(path for each in folders for path in (_ROOT / "tests" / each).rglob("*.py")):
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        if "lorimer.esg" not in text and "steps" not in path.name:
            continue
        where = path.relative_to(_ROOT / "tests")
        for pattern in (_IN_NAME, _IN_CASE):
            for name, numbers in pattern.findall(text):
                for number in numbers.split("_"):
                    found.get(int(number), []).append(f"{where}: {name}")
    for row, (file, part) in NAMED.items():
        path = _ROOT / file
        if path.exists() and part in path.read_text(encoding="utf-8"):
            found[row].append(f"{file}: {part}")
    found[24].append("esg/test_rows.py: " + test_row_24_what_a_star_import_binds.__name__)
    return found


def table() -> str:
    lines = list[str]()
    for row, tests in by_row().items():
        more = f" (and {len(tests) - 1} more)" if len(tests) > 1 else ""
        told = tests[0] + more if tests else f"not built, because {NOT_BUILT[row]}"
        lines.append(f"{row:2}  {ROWS[row]:62} {told}")
    return "\n".join(lines)


def test_each_row_has_a_test_or_a_reason() -> None:
    found = by_row()
    assert [*found] == [*range(1, 61)]
    assert [row for row, tests in found.items() if not tests and row not in NOT_BUILT] == []


def test_row_24_what_a_star_import_binds() -> None:
    session = StepExecutor()
    texts = ("from math import *", "root = floor(sqrt(17))", "other = 3")
    for number, source in enumerate(texts):
        assert session.execute(f"s{number}", source).ok
    assert session.graph.makers("s1") == {"floor": "s0", "sqrt": "s0"}
    session.graph.edit_step("s0", "from math import *\nsqrt = abs")
    assert session.replay().ran == ("s0", "s1")
    assert session.namespace()["root"] == 17


if __name__ == "__main__":
    print(table())
