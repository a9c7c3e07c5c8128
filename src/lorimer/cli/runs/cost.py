"""`lorimer runs explain --cost`: where the money of a run went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.text import cost as price
from lorimer.cli.text import one_line, print_json, tokens

if TYPE_CHECKING:
    from rich.text import Text

    from lorimer.journal.explain.costs import Cost

_BAR: Final = 24
"""Characters of the longest bar."""
_WHO: Final = 40
_BAD: Final = ("failed attempt", "cut off")
"""Costs without a useful result."""


def print_costs(found: Sequence[Cost], *, as_json: bool) -> None:
    """Print a row for each cost, the totals by recipient, and the sum. If no price is known, bars
    and shares are those of tokens."""

    if as_json:
        for each in found:
            print_json(each.to_json())
    elif found:
        _print(found)
    else:
        click.echo("Nothing was paid for.", err=True)


def _print(found: Sequence[Cost]) -> None:
    from rich.table import Table
    from rich.text import Text

    from lorimer.cli.printing import print_table

    priced = any(each.nano for each in found)
    weights = [each.nano if priced else each.usage.total for each in found]
    most, whole = max(weights), sum(weights)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("turn", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("to", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("in", "cached", "out", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share", no_wrap=True)
    for each, weight in zip(found, weights, strict=True):
        style = "yellow" if each.what in _BAD else ""
        table.add_row(
            str(each.iteration + 1),
            Text(each.what, style=style),
            Text(one_line(each.who, _WHO)),
            *_figures([each]),
            _share(weight, most, whole, style),
        )
    groups: dict[tuple[str, str], list[int]] = {}
    for at, each in enumerate(found):
        kind = f"all {each.what}" if each.what in _BAD else "all"
        groups.setdefault((kind, each.who), []).append(at)
    for (kind, who), places in groups.items() if len(groups) > 1 else ():
        name = Text(one_line(who, _WHO), style="bold")
        part = sum([weights[at] for at in places])
        figures = _figures([found[at] for at in places])
        table.add_row("", kind, name, *figures, _share(part, whole, whole, ""))
    table.add_row("", Text("in all", style="bold"), "", *_figures(found), "")
    print_table(table, spare=("cached", "in", "out", "share"))


def _figures(group: Sequence[Cost]) -> list[str]:
    usage = group[0].usage
    for other in group[1:]:
        usage = usage + other.usage
    cached = usage.cache_read_input_tokens
    return [
        tokens(usage.prompt_tokens),
        tokens(cached) if cached else "–",
        tokens(usage.output_tokens),
        price(sum([each.nano for each in group]), usage.total),
    ]


def _share(part: int, most: int, whole: int, style: str) -> Text:
    from rich.text import Text

    bar = "█" * round(_BAR * part / most) if most else ""
    percent = f"{100 * part / whole:.0f} %" if whole else ""
    return Text.assemble((bar or "▏", style or "cyan"), f" {percent}")
