"""`lorimer runs verify`: whether records are as they were written, and all guarantees were kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lorimer.cli.fail import FAILED, OK, Fault
from lorimer.cli.options import asynchronous, json_option, store_option
from lorimer.cli.run_names import run_argument

if TYPE_CHECKING:
    from lorimer.journal.contract import Finding
    from lorimer.journal.sqlite.store import SQLiteJournal


@click.command()
@run_argument(required=False)
@click.option("--all", "everything", is_flag=True, help="Every conversation of the store.")
@json_option("One JSON object for each finding.")
@store_option
@asynchronous
async def verify(run: str | None, everything: bool, as_json: bool, store: str | None) -> int:
    """Check the integrity of a run, or with --all of every run, and that all guarantees were kept.

    RUN is an id or its beginning, or the id of a session. For each finding, shows the fact, the
    rule that it breaks, and what is wrong. Nothing is changed, no model is called. Exit codes: 0
    nothing is wrong, 1 something is, 2 there is no such run."""
    if (run is None) != everything:
        raise Fault("name a run, or give --all", hint="lorimer runs ls")
    from lorimer.cli.progress import Gauge
    from lorimer.cli.store import existing_store, opened
    from lorimer.cli.text import count, short_id
    from lorimer.core.errors import ExecutorErrorCode, PipelineError
    from lorimer.journal.verify import PurseCheck
    from lorimer.journal.verify import verify as check
    from lorimer.world import RealWorld

    wrong, world = 0, RealWorld()
    async with opened(existing_store(store), world) as journal:
        purses = PurseCheck(journal)
        names = [run] if run is not None else await _streams(journal)
        with Gauge(world) as gauge:
            for number, name in enumerate(names, 1):
                gauge.count("checking conversation", number, len(names))
                try:
                    found = await check(journal, name, purses)
                except PipelineError as error:
                    if run is None and error.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN:
                        continue  # it was removed meanwhile
                    raise
                if found:
                    gauge.clear()
                    _tell(name, found, as_json)
                wrong += len(found)
    if not as_json:
        what = short_id(run) if run is not None else count(len(names), "conversation")
        if wrong:
            click.echo(click.style(f"✗ {what}: {count(wrong, 'finding')}", fg="red", bold=True))
        else:
            click.echo(click.style(f"✓ {what}: nothing is wrong", fg="green"))
    return FAILED if wrong else OK


def _tell(name: str, found: Sequence[Finding], as_json: bool) -> None:
    from lorimer.cli.text import print_json, short_id, visible

    for finding in found:
        if as_json:
            print_json({"in": name, **finding.to_json()})
            continue
        where = short_id(finding.run_id or name)
        mark = click.style("✗", fg="red")
        what = visible(finding.what)
        click.echo(f"{mark} {where} #{finding.seq}  {finding.rule}  {what}")


async def _streams(journal: SQLiteJournal) -> list[str]:
    from lorimer.core.journal import ALL_RUNS

    rows = await journal.runs(limit=ALL_RUNS)
    return list(dict.fromkeys([row.stream for row in reversed(rows)]))
