"""`lorimer runs`: list, read and resume runs. Everything is read from the journal's facts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Group
from lorimer.cli.options import (
    Terms,
    asynchronous,
    execution_options,
    json_option,
    limit_option,
    store_option,
)
from lorimer.cli.run_names import run_argument
from lorimer.cli.runs.diff import diff
from lorimer.cli.runs.explain import explain
from lorimer.cli.runs.export import export
from lorimer.cli.runs.fork import fork
from lorimer.cli.runs.receipts import receipts
from lorimer.cli.runs.replay import replay
from lorimer.cli.runs.retention import compact, prune
from lorimer.cli.runs.tell import answer, cancel, change, send
from lorimer.cli.runs.verify import verify

if TYPE_CHECKING:
    from lorimer.core.journal import RunRow


@click.group(cls=Group)
def runs() -> None:
    """List, read, check and resume runs."""


for command in (explain, verify, diff, replay, fork, receipts, export, compact, prune):
    runs.add_command(command)


@runs.command("ls")
@limit_option
@json_option("One JSON object per line.")
@click.option("--all", "everything", is_flag=True, help="Runs of sub-agents too.")
@store_option
@asynchronous
async def ls(limit: int, as_json: bool, everything: bool, store: str | None) -> None:
    """List the latest runs. A run without an end is `running`, `waiting` for an answer, or
    `interrupted`: resume or cancel it. Until then the money it has reserved stays reserved. A
    `damaged` run cannot be read: see `lorimer runs verify`."""
    from lorimer.cli import reading
    from lorimer.cli.store import OF_THE_DEMO, existing_store, opened, store_path
    from lorimer.cli.text import print_json
    from lorimer.cli.timeline import print_rows
    from lorimer.journal.family import root_runs
    from lorimer.world import RealWorld

    none_yet = f"No runs yet. Try: lorimer run. {OF_THE_DEMO}"
    if store is None and not store_path(None).exists():
        if not as_json:
            click.echo(none_yet, err=True)
        return
    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        rows = await (journal.runs(limit=limit) if everything else root_runs(journal, limit))
        states = [await reading.status_of(journal, row, world) for row in rows]
        held = [0 if row.status else (await journal.balance(row.run_id)).reserved for row in rows]
    if as_json:
        for row, state, nano in zip(rows, states, held, strict=True):
            print_json(_plain(row, state, nano))
    elif rows:
        print_rows(rows, states, held, world.time())
    else:
        click.echo(none_yet, err=True)


@runs.command()
@run_argument(required=False)
@json_option("Print the facts as JSON, one per line.")
@click.option("--full", is_flag=True, help="Inputs and results of tools in full.")
@click.option(
    "-f",
    "--follow",
    "following",
    is_flag=True,
    help="Follow a run that a process executes, to its end.",
)
@store_option
@asynchronous
async def show(
    run: str | None, as_json: bool, full: bool, following: bool, store: str | None
) -> None:
    """Show a run from its facts. RUN is an id or its beginning; without it, the latest run."""
    from lorimer.cli import reading
    from lorimer.cli.call import Call
    from lorimer.cli.runs.follow import follow
    from lorimer.cli.store import existing_store, opened
    from lorimer.cli.text import print_json
    from lorimer.cli.timeline import Told, print_end, print_run
    from lorimer.core import mail
    from lorimer.journal.family import descendants
    from lorimer.journal.recording import readable_facts
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        following = following and await reading.status_of(journal, row, world) == "running"
        if following:
            await follow(journal, row, world, as_json=as_json)
            if as_json:
                return
            row = await reading.find(journal, row.run_id)
        facts, damage = await readable_facts(journal, row)
        if as_json:
            for fact in facts:
                print_json(fact.to_json())
            if damage is not None:
                raise damage
            return
        status = await reading.status_of(journal, row, world)
        damaged = damage is not None or status == "damaged"
        told = Told(
            row,
            facts,
            status,
            await reading.manifest_of(journal, facts),
            await Call.of(journal, row.run_id),
            await mail.questions(journal, row) if not row.status and not damaged else [],
            [each async for each in descendants(journal, facts, damaged=True)],
            damaged,
        )
    if following:
        print_end(told)
    else:
        print_run(told, world.time(), full=full)
    if damage is not None:
        raise damage


@runs.command()
@run_argument()
@execution_options
def resume(
    run: str,
    terms: Terms,
) -> int:
    """Resume an interrupted run. RUN is an id or its beginning.

    What its journal contains is not done again: no answer is paid for twice, no tool runs twice.
    The agent, its limits, the workspace and --base-url are those that the run was started with, and
    so are --sandbox and --permission-mode if they were stricter than usual. Permissions are not
    stored: give --allow, --network and similar options again, or be asked.
    """
    from lorimer.cli.foreground import resume as go_on

    return asyncio.run(go_on(run, terms))


for _command in (send, answer, change, cancel):
    runs.add_command(_command)


def _plain(row: RunRow, status: str, held_nano: int) -> dict[str, str | float | None]:
    return {
        "run_id": row.run_id,
        "session_id": row.stream,
        "status": status,
        "code": row.code,
        "started": row.started,
        "ended": row.ended,
        "iterations": row.iterations,
        "total_cost_usd": row.cost_nano / 1e9,
        "held_usd": held_nano / 1e9,
        "title": row.title,
    }
