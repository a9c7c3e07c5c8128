"""`python -m benchmarks.notebooks` on a notebook of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    "%matplotlib inline\nrows = [3, 1, 2]",
    "factor = 10",
    "rows.sort()",
    "factor = factor + 1",
    "this fails",
    "raise SystemExit",
    "print([row * factor for row in rows])",
    "[open('data.txt').read(), len(rows)]",
    "total = sum(rows) > 100",
    "total",
]


def test_replays_are_held_against_full_runs(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": each, "outputs": []} for each in CELLS]
    (tmp_path / "own.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "data.txt").write_text("data")
    words = [sys.executable, "-m", "benchmarks.notebooks", str(tmp_path), "--edits", "9"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    assert "own.ipynb: 8 steps (2 cells dropped, 0 left out of the comparison), 6 edits" in told
    assert "| lorimer | 6/6 = 100% | " in told
    assert "| ast.walk, live | " in told and "| ast.walk, live | 6/6" not in told
