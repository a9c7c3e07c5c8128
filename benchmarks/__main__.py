"""`python -m benchmarks`: measure the budgets and print one table. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from benchmarks.budgets import LINES, Line
from benchmarks.measure import Outcome, Spread, measure

HEADERS = ("row", "what", "unit", "ours", "floors", "ratio", "budget", "within")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: every budget that was measured holds; 1: one does not, or a case failed."""
    options = _options(arguments)
    lines = [line for line in LINES if _wanted(line, options)]
    scale = "smoke" if options.smoke else "quick" if options.quick else "full"
    rounds = options.rounds or (3 if options.quick else 5)
    outcomes = measure(lines, rounds, scale, _tell)
    outcomes += [
        Outcome(line, skipped="ask for it with --full")
        for line in LINES
        if line.downloads and not options.rows and not options.full
    ]
    _tell("")
    if options.json:
        print(json.dumps([_to_json(outcome) for outcome in outcomes], indent=2))
    else:
        _show(outcomes)
    failed = any(outcome.within is False or outcome.failed for outcome in outcomes)
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = sorted({line.row for line in LINES})
    parser.add_argument("--rows", type=_rows, default=[], help=f"some of {known}, e.g. 1,2,5")
    parser.add_argument("--rounds", type=int, default=0, help="default 5, or 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="smaller batches")
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help="also what downloads packages (row 11)")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    options = parser.parse_args(arguments)
    unknown = set(options.rows) - set(known)
    if unknown:
        parser.error(f"there is no row {sorted(unknown)[0]}; the rows are {known}")
    return options


def _wanted(line: Line, options: argparse.Namespace) -> bool:
    if options.rows:
        return line.row in options.rows
    return options.full or not line.downloads


def _rows(text: str) -> list[int]:
    return [int(row) for row in text.split(",")]


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _show(outcomes: Sequence[Outcome]) -> None:
    cells = [_cells(outcome) for outcome in outcomes]
    if not (sys.stdout.isatty() and _show_rich(cells)):
        widths = [max(len(row[at]) for row in (HEADERS, *cells)) for at in range(len(HEADERS))]
        for row in (HEADERS, *cells):
            padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            print("  ".join(padded).rstrip())
    judged = [outcome.within for outcome in outcomes if outcome.within is not None]
    print(f"\n{judged.count(True)} of {len(judged)} budgets that were measured hold.")
    busy = os.getloadavg()
    load = ", ".join(f"{value:.1f}" for value in busy)
    print(f"CPU of all threads; median [min-max] over the rounds. Load average: {load}.")
    if busy[0] > (os.cpu_count() or 1):
        print("The machine is busy: compare ratios, the times are longer than they would be.")


def _show_rich(cells: Sequence[tuple[str, ...]]) -> bool:
    """Whether it fits: a table with broken cells is harder to read than a plain one."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for header in HEADERS:
        table.add_column(header, no_wrap=True)
    for row in cells:
        table.add_row(*[Text(cell) for cell in row], style="red" if row[-1] == "NO" else None)
    console = Console()
    wide = console.options.update(width=10_000)
    fits = console.measure(table, options=wide).maximum <= console.width
    if fits:
        console.print(table)
    return fits


def _cells(outcome: Outcome) -> tuple[str, ...]:
    line = outcome.line
    within = {True: "yes", False: "NO", None: "-"}[outcome.within]
    floors = ", ".join(f"{name} {_number(s.median)}" for name, s in outcome.floors.items())
    ours = _spread(outcome.ours) if outcome.ours is not None else "-"
    if outcome.failed:
        ours = f"FAILED: {outcome.failed}"
    elif outcome.skipped:
        ours = f"skipped: {outcome.skipped}"
    ratio = "" if outcome.ratio is None else f"x{_spread(outcome.ratio)}"
    return (str(line.row), line.what, line.unit, ours, floors, ratio, _budget(line), within)


def _budget(line: Line) -> str:
    if line.most is not None:
        return _number(line.most)
    return "-" if line.most_times is None else f"x{line.most_times:g}"


def _spread(spread: Spread) -> str:
    low, high = min(spread.values), max(spread.values)
    return f"{_number(spread.median)} [{_number(low)}-{_number(high)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _to_json(outcome: Outcome) -> dict[str, object]:
    line = outcome.line
    return {
        "row": line.row,
        "what": line.what,
        "unit": line.unit,
        "ours": _values(outcome.ours),
        "floors": {name: _values(spread) for name, spread in outcome.floors.items()},
        "ratio": _values(outcome.ratio),
        "budget": line.most,
        "budget_ratio": line.most_times,
        "within": outcome.within,
        "failed": outcome.failed,
        "skipped": outcome.skipped,
    }


def _values(spread: Spread | None) -> dict[str, object] | None:
    return None if spread is None else {"median": spread.median, "rounds": spread.values}


if __name__ == "__main__":
    sys.exit(main())
