"""`lorimer runs show --follow`: shows a run while another process executes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.progress import screen_for
from lorimer.cli.story import Story, call_text, summary
from lorimer.cli.text import one_line, print_json, short_id
from lorimer.core.fact_data import use_at, uses_of

if TYPE_CHECKING:
    from lorimer.core.events import Event
    from lorimer.core.journal import RunRow
    from lorimer.core.world import World
    from lorimer.journal.sqlite.store import SQLiteJournal

_LOOK_S: Final = 0.2
"""Seconds between two looks at the journal."""


async def follow(journal: SQLiteJournal, row: RunRow, world: World, *, as_json: bool) -> None:
    """Show its facts as they are recorded, until it ends or no process executes it any more. Claims
    nothing, so the executing process is not disturbed."""
    if as_json:
        async with aclosing(_facts(journal, row, world)) as facts:
            async for fact in facts:
                print_json(fact.to_json())
        return
    story, last = Story(recorded=True), row.started
    screen = screen_for(story, world, quiet=False, since_s=world.time() - row.started)
    screen.line([("run ", "bold"), (short_id(row.run_id), ""), (f"  {one_line(row.title)}", "dim")])
    screen.open()
    try:
        async with aclosing(_facts(journal, row, world)) as facts:
            async for fact in facts:
                for line in story.tell(fact):
                    screen.line(line)
                story.doing = _doing(fact) or story.doing
                last = fact.time
        sums = (story.turns, story.calls, story.usage, story.cost_nano, last - row.started)
        screen.line([(summary(row.run_id, *sums), "dim")])
    except asyncio.CancelledError:
        screen.close()
        click.echo(f"the run goes on; end it: lorimer runs cancel {short_id(row.run_id)}", err=True)
        raise
    finally:
        screen.close()


async def _facts(journal: SQLiteJournal, row: RunRow, world: World) -> AsyncGenerator[Event]:
    """The recorded facts, and then new ones."""
    from lorimer.cli import reading

    after = row.first - 1
    while True:
        now = await journal.find_run(row.run_id) or row
        at_work = await reading.status_of(journal, now, world) == "running"
        # read after that: nothing written before it can be missed
        async with aclosing(journal.read(row.stream, after)) as stream:
            async for fact in stream:
                if fact.run_id != row.run_id:
                    return  # the next run of this conversation
                after = fact.seq or after
                yield fact
        if not at_work:
            return
        await world.sleep(_LOOK_S)


def _doing(fact: Event) -> str:
    """What the run is doing after this fact; "": the same as before."""
    match fact.type:
        case "model.intent":
            return "the model is thinking"
        case "model.reply":
            uses = uses_of(fact.data)
            if not uses:
                return "finishing"
            more = f" and {len(uses) - 1} more" if len(uses) > 1 else ""
            return f"{one_line(call_text(use_at(uses, '0') or {}), 60)}{more}"
        case _:
            return ""
