"""`python -m benchmarks.notebooks DIR`: replays after edits of the notebooks in a folder, held
against full runs. Their code is run, with all that you may do: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.notebooks.measure import Edit, Measured

_LIBRARIES = (
    "numpy pandas matplotlib.pyplot scipy.stats sklearn.linear_model seaborn sympy "
    "marimo._ast.compiler"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: every edit of every notebook came out as a full run does."""
    options = _options(arguments)
    os.environ |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name in _LIBRARIES.split():  # once, for all forks
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from benchmarks.notebooks.measure import measure
    from benchmarks.notebooks.place import Place
    from benchmarks.notebooks.prepare import prepare

    found: dict[str, Measured] = {}
    for path in sorted(options.dir.rglob("*.ipynb")):
        name = str(path.relative_to(options.dir))
        if "checkpoint" in name or (options.only and not any(o in name for o in options.only)):
            continue
        with TemporaryDirectory(prefix="lorimer-notebook-") as root:
            place = Place(path.parent, Path(root))
            book = prepare(path, place, options.limit)
            if isinstance(book, str):
                _tell(f"- {name}: left out, {book}")
                continue
            told = measure(book, place, options.edits, options.seed, options.limit)
        if isinstance(told, str):
            _tell(f"- {name}: left out, {told}")
            continue
        found[name] = told
        _tell(_line(name, len(book.steps), book.dropped, told))
    if not found:
        _tell("no notebook could be measured")
        return 1
    _summary(list(found.values()))
    ok = all(edit.sound["lorimer"] for one in found.values() for edit in one.edits)
    return 0 if ok and not any(one.unfaithful for one in found.values()) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notebooks", description=__doc__)
    parser.add_argument("dir", type=Path, help="a folder; notebooks are looked for below it")
    parser.add_argument("--edits", type=int, default=10, help="of each notebook; default 10")
    parser.add_argument("--seed", type=int, default=7, help="of the choice of edits; default 7")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a run; default 60")
    parser.add_argument("--only", action="append", help="part of a path; may be given twice")
    return parser.parse_args(arguments)


def _line(name: str, steps: int, dropped: int, told: Measured) -> str:
    ratios = [edit.executed["lorimer"] / edit.minimal for edit in told.edits]
    sound = sum(edit.sound["lorimer"] for edit in told.edits)
    lines = [
        f"{name}: {steps} steps ({dropped} cells dropped, {told.excluded} left out of the "
        f"comparison), {len(told.edits)} edits, {sound} sound, "
        f"executed/minimal {mean(ratios) if ratios else 1:.2f}"
    ]
    lines += [f"    trouble: {each}" for each in told.trouble]
    if told.unfaithful:
        lines.append(f"    without an edit: {told.unfaithful}")
    for edit in told.edits:
        if edit.wrong:
            lines.append(f"    UNSOUND step {edit.at}: {edit.wrong}")
        if edit.surplus:
            lines.append(
                f"    surplus step {edit.at}: {edit.surplus} beyond {edit.minimal}, "
                f"unavoidable {edit.unavoidable}"
            )
    return "\n".join(lines)


def _summary(found: list[Measured]) -> None:
    edits = [edit for one in found for edit in one.edits]
    _tell(f"\n{len(found)} notebooks, {len(edits)} edits")
    _tell("| strategy | sound edits | executed / minimal: mean, median, p95 | always sound |")
    _tell("|---|---|---|---|")
    for name in edits[0].executed if edits else ():
        ratios = sorted(edit.executed[name] / edit.minimal for edit in edits)
        sound = sum(edit.sound[name] for edit in edits)
        whole = sum(all(edit.sound[name] for edit in one.edits) for one in found)
        _tell(
            f"| {name} | {sound}/{len(edits)} = {sound / len(edits):.0%} | {mean(ratios):.2f}, "
            f"{median(ratios):.2f}, {ratios[int(0.95 * len(ratios))]:.2f} | {whole}/{len(found)} |"
        )
    if edits:
        _unavoidable(edits)


def _unavoidable(edits: list[Edit]) -> None:
    ratios = sorted(edit.executed["lorimer"] / edit.unavoidable for edit in edits)
    _tell(
        f"\nlorimer, executed / unavoidable: mean {mean(ratios):.2f}, median {median(ratios):.2f}, "
        f"p95 {ratios[int(0.95 * len(ratios))]:.2f}"
    )


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
