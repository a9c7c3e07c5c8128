"""`lorimer sessions`: the conversations of a store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Group
from lorimer.cli.fail import Fault
from lorimer.cli.options import asynchronous, json_option, limit_option, store_option
from lorimer.cli.standard_input import is_typed
from lorimer.cli.text import ago, count, money, one_line, print_json, short_id

if TYPE_CHECKING:
    from lorimer.session import SessionInfo


@click.group(cls=Group, no_args_is_help=True)
def sessions() -> None:
    """List and delete conversations."""


@sessions.command("ls")
@limit_option
@json_option("One JSON object per line.")
@store_option
@asynchronous
async def ls(limit: int, as_json: bool, store: str | None) -> None:
    """List the latest conversations. To continue one: lorimer chat --session ID."""
    from lorimer.cli.store import existing_store, opened, store_path
    from lorimer.session import stored_sessions
    from lorimer.world import RealWorld

    found: list[SessionInfo] = []
    world = RealWorld()
    if store is not None or store_path(None).exists():
        async with opened(existing_store(store), world) as journal:
            found = await stored_sessions(journal, world, limit=limit)
    if as_json:
        for info in found:
            print_json(asdict(info))
    elif found:
        _print(found, world.time())
    else:
        click.echo("No conversations yet. Try: lorimer chat", err=True)


@sessions.command("delete")
@click.argument("session")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@store_option
@asynchronous
async def delete(session: str, yes: bool, store: str | None) -> None:
    """Remove everything stored of SESSION, an id or its beginning. This cannot be undone."""
    from lorimer.cli.store import existing_store, opened
    from lorimer.session import FreshnessPolicy
    from lorimer.session.info import remove, stored_session
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        info = await stored_session(journal, session, world, FreshnessPolicy())
        what = f"{short_id(info.session_id)}, {count(info.message_count, 'message')}"
        if not yes and not is_typed():
            raise Fault(
                f"nobody can be asked whether to delete {what}", hint="Answer in advance: --yes"
            )
        if not yes and not click.confirm(f"Delete {what}: {one_line(info.title, 60)!r}?", err=True):
            raise click.Abort
        await remove(journal, info.session_id)
    click.echo(f"deleted {what}", err=True)


def _print(found: list[SessionInfo], now: float) -> None:
    from rich.table import Table
    from rich.text import Text

    from lorimer.cli.printing import print_table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("session", no_wrap=True, min_width=16)  # a truncated id would be useless
    table.add_column("used", no_wrap=True)
    for name in ("messages", "cost"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("began with", no_wrap=True, overflow="ellipsis", ratio=1)
    for info in found:
        title = one_line(info.title, 60)
        table.add_row(
            Text(short_id(info.session_id)),
            Text(ago(now - info.last_used), style="dim"),
            Text(str(info.message_count)),
            Text(money(round(info.total_cost_usd * 1e9)) if info.total_cost_usd else "–"),
            Text.assemble(
                # first, because a narrow terminal cuts off the end
                ("(damaged)  ", "red") if info.damaged else "",
                ("(interrupted)  ", "yellow") if info.unfinished else "",
                title,
            ),
        )
    print_table(table, spare=("messages", "used"))
