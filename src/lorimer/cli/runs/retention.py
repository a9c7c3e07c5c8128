"""`lorimer runs compact` and `prune`: compress old runs, or remove them from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Whole
from lorimer.cli.options import Span, asynchronous, json_option, store_option
from lorimer.cli.progress import Gauge
from lorimer.cli.text import count, print_json
from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.world import World
    from lorimer.journal.retention import Compacted, Pruned, Watcher
    from lorimer.journal.sqlite.store import SQLiteJournal

_vacuum_option = click.option(
    "--vacuum",
    is_flag=True,
    help="Then write the file anew without its free room. Whoever writes to it meanwhile waits, and"
    " fails after 5 s; it takes as much room again while it lasts.",
)
_json_option = json_option("One JSON object.")


@click.command()
@click.option(
    "--older-than",
    "age",
    type=Span(),
    metavar="TIME",
    help="Only sessions whose last run ended longer ago: e.g. 30d, 12h. Default: all that ended.",
)
@_vacuum_option
@_json_option
@store_option
@asynchronous
async def compact(age: float | None, vacuum: bool, as_json: bool, store: str | None) -> None:
    """Compress ended runs, by whole sessions. Nothing is lost: they can be shown, verified,
    replayed, forked, exported and continued as before.

    Sessions with an unfinished run, or in use by a process, are not changed. The freed space in the
    file is used by new runs; --vacuum returns it to the disk.
    """
    from lorimer.cli.store import existing_store, opened
    from lorimer.journal.retention import compact as press
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        before, _ = await journal.space()
        with Gauge(world) as gauge:
            since = world.time() - (age or 0)
            compacted = await press(journal, before=since, watcher=_sessions(gauge))
        if not as_json:
            _tell_compacted(compacted)
        await _room(journal, world, before, compacted.to_json(), vacuum, as_json)


@click.command()
@click.option(
    "--older-than",
    "age",
    type=Span(),
    required=True,
    metavar="TIME",
    help="Remove sessions whose last run ended longer ago: e.g. 30d, 12h.",
)
@click.option(
    "--keep",
    type=Whole(min=0),
    default=0,
    metavar="N",
    help="Whatever their age, keep the sessions of the N latest runs.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@_vacuum_option
@_json_option
@store_option
@asynchronous
async def prune(
    age: float, keep: int, dry_run: bool, vacuum: bool, as_json: bool, store: str | None
) -> None:
    """Remove old runs from the store, by whole sessions.

    Sessions with an unfinished run, or in use by a process, are kept. The freed space in the file
    is used by new runs; --vacuum returns it to the disk."""
    from lorimer.cli.store import existing_store, opened
    from lorimer.journal.retention import prune as remove
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        before, _ = await journal.space()
        with Gauge(world) as gauge:
            pruned = await remove(
                journal,
                before=world.time() - age,
                keep=keep,
                dry_run=dry_run,
                watcher=_sessions(gauge),
            )
        if not as_json:
            _tell_pruned(pruned, dry_run)
        if as_json or not dry_run:
            done = {"dry_run": dry_run, **pruned.to_json()}
            await _room(journal, world, before, done, vacuum and not dry_run, as_json)


def _sessions(gauge: Gauge) -> Watcher:
    return lambda what, number, of: gauge.count(f"{what} session", number, of)


async def _room(
    journal: SQLiteJournal,
    world: World,
    before: int,
    done: dict[str, JSON],
    vacuum: bool,
    as_json: bool,
) -> None:
    """Vacuum if requested, and report the size of the file, which was `before` bytes."""
    if vacuum:
        with Gauge(world) as gauge:
            gauge.say("rewriting the file")
            await journal.vacuum()
    size, free = await journal.space()
    if as_json:
        print_json({**done, "bytes": size, "free": free, "given_back": before - size})
    elif vacuum:
        click.echo(f"the file is {_size(size)}; {_size(before - size)} were returned to the disk")
    else:
        hint = "; --vacuum returns it to the disk" if free else ""
        click.echo(f"the file is {_size(size)}, of which {_size(free)} is free for new runs{hint}")


def _tell_compacted(compacted: Compacted) -> None:
    what = f"{count(compacted.sessions, 'session')} with {count(compacted.runs, 'run')}"
    click.echo(f"compacted {what}: {_size(compacted.saved)} less")
    _tell_left(compacted)


def _tell_pruned(pruned: Pruned, dry_run: bool) -> None:
    what = f"{count(pruned.sessions, 'session')} with {count(pruned.runs, 'run')}"
    documents = f", {count(pruned.documents, 'document')} that no run uses any more"
    click.echo(f"would remove {what}" if dry_run else f"removed {what}{documents}")
    _tell_left(pruned)


def _tell_left(done: Compacted | Pruned) -> None:
    if done.unfinished:
        stay = count(done.unfinished, "old session")
        click.echo(f"{stay} with an unfinished run stay: lorimer runs ls, lorimer runs resume")
    if done.in_use:
        click.echo(f"{count(done.in_use, 'old session')} stay: they are in use")


def _size(size: int) -> str:
    return f"{size / 1024:.0f} KB" if size < 2**20 else f"{size / 2**20:.1f} MB"
