"""The table of what providers do wrong names checks and tests that exist, and that run on every
wire."""

from __future__ import annotations

import ast
import re

import pytest

from lorimer.testing.providers import CASES
from tests.docs.pages import ROOT
from tests.models.subjects import SUBJECTS

PAGE = ROOT / "docs" / "testing.md"
ROWS = dict(re.findall(r"^\| (P\d+) \| .* \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.M))
CHECKS = {case.name.partition("[")[0] for case in CASES}
PER_WIRE = ("wire", "provider", "source")
"""Arguments of a test that is made for every wire."""


def test_all_rows_are_there() -> None:
    assert list(ROWS) == [f"P{number}" for number in range(1, 18)]


@pytest.mark.parametrize("row", ROWS)
def test_what_a_row_names_exists_and_holds_on_every_wire(row: str) -> None:
    names = re.findall(r"`([^`]+)`", ROWS[row])
    every_wire: list[str] = []
    for name in names:
        path, _, test = name.partition("::")
        if not path.endswith(".py"):
            assert name in CHECKS
            lacking = [one for one, subject in SUBJECTS.items() if name in subject.lacks]
            every_wire += [] if lacking else [name]
            continue
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        if not test:
            continue
        found = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        taken = [argument.arg for argument in found[test].args.args]
        if set(taken) & set(PER_WIRE) or path.startswith("tests/campaign"):
            every_wire.append(name)
    assert every_wire, f"nothing in row {row} runs on every wire"
