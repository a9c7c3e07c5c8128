"""`lorimer runs diff`: two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.fail import FAILED, OK
from lorimer.cli.options import asynchronous, json_option, store_option
from lorimer.cli.run_names import run_argument
from lorimer.cli.story import Line
from lorimer.cli.text import cost, duration, flow, one_line, print_json, short_id, visible
from lorimer.core.jsonable import JSON, dumps, fields_of
from lorimer.core.linediff import unified

if TYPE_CHECKING:
    from lorimer.journal.diff import Comparison, Difference, Figures

_MOST_LINES: Final = 12
"""Most lines of one difference that are shown without --full."""


@click.command()
@run_argument("left")
@run_argument("right")
@json_option("One JSON object.")
@click.option("--full", is_flag=True, help="Texts and inputs in full.")
@store_option
@asynchronous
async def diff(left: str, right: str, as_json: bool, full: bool, store: str | None) -> int:
    """Compare two runs: inputs, the model's answers and calls, results, and cost. LEFT and RIGHT
    are ids or their beginnings.

    Ids, times and hashes are not compared. Exit codes: 0 the same, 1 different, 2 no such run.
    """
    from lorimer.cli import reading
    from lorimer.cli.printing import paged
    from lorimer.cli.store import existing_store, opened
    from lorimer.journal.diff import diff as compare
    from lorimer.journal.recording import recorded
    from lorimer.world import RealWorld

    async with opened(existing_store(store), RealWorld()) as journal:
        rows = [await reading.find(journal, name) for name in (left, right)]
        runs = [await recorded(journal, row.run_id) for row in rows]
    found = compare(*runs)
    if as_json:
        print_json(found.to_json())
    else:
        with paged():
            _print(found, full=full)
    return FAILED if found.differences else OK


def _print(found: Comparison, *, full: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from lorimer.cli.printing import print_lines, print_table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", short_id(found.left.run_id), short_id(found.right.run_id)):
        table.add_column(name, no_wrap=True)
    for (name, ours), (_, theirs) in zip(_rows(found.left), _rows(found.right), strict=True):
        style = "" if ours == theirs else "yellow"
        table.add_row(Text(name, style="dim"), Text(ours), Text(theirs, style=style))
    print_table(table)
    for difference in found.differences:
        print_lines(_told(difference, full=full))
    if not found.differences:
        print_lines([[("They are the same.", "green")]])


def _rows(run: Figures) -> Iterator[tuple[str, str]]:
    yield "status", one_line(" ".join([run.status or "unfinished", run.code]))
    yield "turns", str(run.turns)
    yield "tool calls", str(run.tool_calls)
    yield "tokens", flow(run.usage)
    yield "cost", cost(run.cost_nano, run.usage.total)
    yield "time", duration(run.seconds)


def _told(difference: Difference, *, full: bool) -> Iterator[Line]:
    where = difference.kind
    if difference.kind not in ("manifest", "limits", "input"):
        where = f"turn {difference.iteration + 1} {where}"
    key = difference.key
    if key.isdecimal():
        key = str(int(key) + 1)
    yield [(one_line(f"{where} {key}", 200), "bold")]
    ours, theirs = [_text(difference.kind, side) for side in (difference.left, difference.right)]
    lines = list(_changes(ours, theirs))
    most = len(lines) if full else _MOST_LINES
    for sign, line in islice(lines, most):
        text = visible(line) if full else one_line(line, 200)
        style = {"-": "red", "+": "green"}.get(sign, "dim")
        yield [(f"  {sign} ", style), (text, style)]
    if len(lines) > most:
        yield [(f"    ... {len(lines) - most} more lines (--full)", "dim")]


def _changes(ours: str | None, theirs: str | None) -> Iterator[tuple[str, str]]:
    before, after = [(text or "").splitlines() for text in (ours, theirs)]
    changes = unified(before, after, "", context=1, end="")
    for line in islice(changes, 2, None):  # skip the header with file names
        if not line.startswith("@@"):
            yield line[0], line[1:]


def _text(kind: str, value: JSON) -> str | None:
    """One side of a difference as text; None: it has no text."""
    if value is None or isinstance(value, str):
        return value
    if kind == "call" and isinstance(value, Mapping):
        more = fields_of(value.get("input")).items()
        fields = [f"{k}: {v if isinstance(v, str) else dumps(v)}" for k, v in more]
        return "\n".join([str(value.get("name")), *fields])
    if kind == "end" and isinstance(value, Sequence):
        return " ".join([str(word) for word in value])
    return dumps(value)
