"""The table: a line for each figure, a column for each contender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from benchmarks.killed.contenders import Contender
from benchmarks.killed.count import Count

Columns: TypeAlias = Sequence[tuple[Contender, Count]]
_Line: TypeAlias = tuple[str, Callable[[Count], str]]


def _of_calls(repeats: int, calls: int) -> str:
    return f"{repeats} of {calls}"


LINES: Final[Sequence[_Line]] = (
    ("Kills", lambda c: str(c.kills)),
    (
        "- in a model call, after its answer, in a tool call, after its result",
        lambda c: ", ".join(str(number) for number in c.places.values()),
    ),
    ("Runs that ended right", lambda c: f"{c.right} of {c.runs}"),
    ("Starts that ended with an error", lambda c: str(c.failures)),
    (
        "Model calls made again, of all",
        lambda c: _of_calls(c.model_settled + c.model_answered + c.model_cut, c.model_calls),
    ),
    ("- answered and acted on before", lambda c: str(c.model_settled)),
    ("- answered just before the kill", lambda c: str(c.model_answered)),
    ("- cut off by the kill", lambda c: str(c.model_cut)),
    (
        "Tool calls begun again, of all",
        lambda c: _of_calls(c.tool_settled + c.tool_ended + c.tool_cut, c.tool_calls),
    ),
    ("- ended, and the model knew the result", lambda c: str(c.tool_settled)),
    ("- ended just before the kill", lambda c: str(c.tool_ended)),
    ("- cut off by the kill", lambda c: str(c.tool_cut)),
    (
        "Tool calls reported to the model as unknown",
        lambda c: str(c.told_ended + c.told_cut + c.told_unbegun),
    ),
    (
        "- that had ended, were cut off, never began",
        lambda c: f"{c.told_ended}, {c.told_cut}, {c.told_unbegun}",
    ),
    ("Tool calls that never began, and nobody said so", lambda c: str(c.lost)),
)


def plain(columns: Columns) -> str:
    """For a terminal."""
    rows = [["", *[one.name for one, _ in columns]], ["", *[one.setting for one, _ in columns]]]
    rows += [[name, *[figure(counted) for _, counted in columns]] for name, figure in LINES]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(columns: Columns) -> str:
    """For a page."""
    rows = [["", *[f"{one.name}: {one.setting}" for one, _ in columns]]]
    rows += [["---"] * (len(columns) + 1)]
    rows += [[name, *[figure(counted) for _, counted in columns]] for name, figure in LINES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
