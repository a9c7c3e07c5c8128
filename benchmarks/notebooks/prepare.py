"""From a notebook to steps that run from start to end, offline, within the time."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.notebooks.place import Place
from benchmarks.notebooks.plain import Full, full

_TIMED = re.compile(r"^(\s*)%time(?:it)?\s+(?:-\S+\s+\d*\s*)*")
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Notebook:
    """The steps that are left of a notebook, and a full run of them."""

    path: Path
    steps: list[str]
    dropped: int
    run: Full


def prepare(path: Path, place: Place, limit_s: float) -> Notebook | str:
    """Drop what is no Python and the cells that fail until a run is clean; or why it cannot be."""
    cells = _cells(path)
    steps = [text for cell in cells if (text := _python(cell)).strip()]
    for _ in range(_ROUNDS):
        if len(steps) < max(5, len(cells) / 2):
            return f"only {len(steps)} of {len(cells)} cells are left"
        place.fresh()
        run = full(steps, place, limit_s)
        if isinstance(run, str):
            return run
        if not run.failed:
            return Notebook(path, steps, len(cells) - len(steps), run)
        steps = [each for number, each in enumerate(steps) if number not in run.failed]
    return "cells go on failing"


def _cells(path: Path) -> list[str]:
    """The code cells; those whose stored output is an error are left out."""
    found = list[str]()
    for cell in json.loads(path.read_text(encoding="utf-8")).get("cells", []):
        outputs = cell.get("outputs", [])
        if cell.get("cell_type") == "code" and not any(
            one.get("output_type") == "error" for one in outputs
        ):
            source = cell.get("source", "")
            found.append(source if isinstance(source, str) else "".join(source))
    return found


def _python(cell: str) -> str:
    """Without magics: of timed lines and cells the body is kept. Empty if it is no Python."""
    lines = cell.split("\n")
    head = lines[0].strip()
    if head.startswith("%%"):
        if not head.startswith(("%%time", "%%capture")):
            return ""
        lines = lines[1:]
    kept = list[str]()
    for line in lines:
        text = _TIMED.sub(r"\1", line)
        bare = text.strip()
        if not (bare.startswith(("%", "!", "?")) or bare.endswith("?")):
            kept.append(text)
    found = "\n".join(kept)
    found = re.sub(r"(['\"])seaborn-(?!v0_8)", r"\1seaborn-v0_8-", found)
    try:
        tree = ast.parse(found)
    except (SyntaxError, ValueError):
        return ""
    return found if tree.body else ""
