"""`lorimer manifest stages`: what a manifest can choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from lorimer.cli.options import json_option
from lorimer.cli.text import one_line, print_json, visible
from lorimer.core.jsonable import JSON, fields_of

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("stage", required=False)
@json_option("One JSON list; with STAGE, one object.")
def stages(stage: str | None, as_json: bool) -> None:
    """List what a manifest can choose from: stages, their slots, the strategies of each, including
    those of installed packages. With STAGE, only that one, with everything that can be configured.

    \b
    Example:
      lorimer manifest stages context
    """
    from lorimer.cli.printing import paged, print_table
    from lorimer.core.introspect import introspect, introspect_stage
    from lorimer.stages.catalogue import catalogue

    known = catalogue()
    told = introspect(known) if stage is None else [introspect_stage(known, stage)]
    if as_json:
        print_json(told if stage is None else told[0])
        return
    with paged():
        print_table(_table(told, in_full=stage is not None))


def table_of_stages() -> Table:
    """A table without rows. Stage and slot share a column, so that a terminal of 80 columns has
    room for the descriptions."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", justify="right", style="dim")
    table.add_column("stage and slot", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    table.add_column("what it does")
    return table


def add_stage(table: Table, order: int, name: str, what: str, style: str = "") -> None:
    """A row for a stage."""
    from rich.text import Text

    table.add_row(str(order), Text(visible(name), "bold"), "", Text(visible(what)), style=style)


def add_strategy(table: Table, slot: str, name: str, what: str, style: str = "") -> None:
    """A row for a strategy; `slot` is "" if the row above has named it."""
    from rich.text import Text

    shown = Text(f"  {slot}" if slot else "", "cyan")
    table.add_row("", shown, Text(visible(name)), Text(visible(what)), style=style)


def _table(told: list[dict[str, JSON]], *, in_full: bool) -> Table:
    from rich.text import Text

    table = table_of_stages()
    for stage in told:
        what = str(stage.get("broken") or stage.get("about", ""))
        add_stage(table, int(str(stage["order"])), str(stage["name"]), what)
        for line in _fields(stage) if in_full else ():
            table.add_row("", "", "", Text(line, style="dim"))
        for slot, of in fields_of(stage.get("slots")).items():
            if not isinstance(of, Mapping):
                continue
            default, strategies = of["default"], of["strategies"]
            named = slot + (" (list)" if of["chain"] else "")
            for name, one in fields_of(strategies).items():
                if not isinstance(one, Mapping):
                    continue
                mark = " *" if isinstance(default, list) and name in default else ""
                what = str(one.get("broken") or one.get("about", ""))
                add_strategy(table, named, name + mark, what)
                named = ""
                for line in _fields(one) if in_full else ():
                    table.add_row("", "", "", Text(line, style="dim"))
    return table


def _fields(told: Mapping[str, JSON]) -> list[str]:
    """A line for each field of a configuration, and one for what it is for."""
    schema = told.get("config_schema")
    if not isinstance(schema, Mapping):
        return []
    properties, required = schema.get("properties"), schema.get("required")
    lines: list[str] = []
    for name, field in fields_of(properties).items():
        if isinstance(field, Mapping):
            default = f" = {_shown(field['default'])}" if "default" in field else ""
            if isinstance(required, Sequence) and name in required:
                default = ", required"
            lines.append(one_line(f"{name}: {_kind(field)}{default}", 100))
            if note := field.get("description"):
                lines.append(f"  {one_line(str(note), 300)}")
    return lines


def _shown(default: JSON) -> str:
    return '""' if default == "" else str(default)


def _kind(field: JSON) -> str:
    """The type of a field, in a few words."""
    if not isinstance(field, Mapping):
        return "any"
    either, words = field.get("anyOf"), field.get("enum")
    if isinstance(words, Sequence):
        return " or ".join([str(word) for word in words])
    if isinstance(either, Sequence):
        return " or ".join([_kind(each) for each in either])
    return str(field.get("type") or "any")
