"""`lorimer audit`: reads who ran which agent from an audit file, and verifies the file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Group
from lorimer.cli.fail import FAILED, OK, Fault
from lorimer.cli.options import asynchronous, json_option, limit_option

if TYPE_CHECKING:
    from lorimer.run.audit.log import AuditLog

_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False))
_JSON = json_option("One JSON object per line.")


@click.group(cls=Group)
def audit() -> None:
    """Read and verify the audit of a host's runs."""


@audit.command()
@_FILE
@limit_option
@click.option("--caller", default="", help="Only runs of this caller.")
@click.option("--subject", default="", help="Only runs of this saved agent.")
@click.option("--unfinished", is_flag=True, help="Only runs without an end.")
@_JSON
@asynchronous
async def ls(
    file: str, limit: int, caller: str, subject: str, unfinished: bool, as_json: bool
) -> None:
    """List the newest runs. One without an end is still running, or its process died."""
    from lorimer.cli.text import ago, count, duration, money, one_line, print_json, visible
    from lorimer.world import RealWorld

    now = RealWorld().time()
    async with _opened(file) as log:
        runs = await log.runs(caller_id=caller, subject=subject, unfinished=unfinished, limit=limit)
    for run in runs:
        start, close = run.start, run.close
        if as_json:
            print_json({**start.to_json(), "close": close and close.to_json()})
            continue
        end = "no end"
        if close is not None:
            calls = count(close.tool_calls, "call")
            spent = f"{duration(close.runtime_s)}, {calls}, {money(close.cost_nano)}"
            end = f"{close.status} ({spent})"
        who = one_line(f"{start.name or start.subject or '-'} for {start.caller_id or '-'}", 60)
        click.echo(visible(f"{start.run_id}  {ago(now - start.time)}  {who}  {end}"))
    if not runs and not as_json:
        click.echo("No runs.", err=True)


@audit.command()
@_FILE
@click.argument("run")
@_JSON
@asynchronous
async def show(file: str, run: str, as_json: bool) -> None:
    """Show what was recorded of a run, its parents and its children. RUN is an id."""
    from lorimer.cli.text import on_line, one_line, print_json
    from lorimer.core.jsonable import dumps

    async with _opened(file) as log:
        records = await log.records(run)
        if not records:
            raise Fault(f"nothing is recorded of a run {run!r}", hint=f"lorimer audit ls {file}")
        above, below = await log.ancestors(run), await log.children(run)
    for each in records:
        if as_json:
            print_json({"kind": each.kind, "time": each.time, "data": each.data})
        else:
            since = each.time - records[0].time
            kind = one_line(each.kind, 20)
            click.echo(f"{since:9.3f} s  {kind:<6} {one_line(dumps(each.data), 160)}")
    if not as_json:
        for what, runs in (("part of", above), ("began", below)):
            for found in runs:
                click.echo(
                    f"{what} {on_line(found.start.run_id)}  {one_line(found.start.name, 60)}"
                )


@audit.command()
@_FILE
@click.option("--key-env", default="", help="The variable that holds the key of the audit.")
@click.option(
    "--head", default="", help="A head printed earlier, count:hash: the file has to continue it."
)
@json_option("One JSON object.")
@asynchronous
async def verify(file: str, key_env: str, head: str, as_json: bool) -> int:
    """Check that no record was changed, removed, swapped or added, and print the head of the chain.

    Exit codes: 0 the file is as it was written, 1 it is not: the first bad record is named.
    """
    from lorimer.cli.text import count, on_line, print_json

    key = os.environ.get(key_env, "").encode() if key_env else None
    if key == b"":
        raise Fault(
            f"the variable {key_env} is not set", hint=f"{key_env}=... lorimer audit verify ..."
        )
    async with _opened(file, key) as log:
        verdict = await log.verify(head)
        last = await log.head()
    if as_json:
        print_json({"ok": verdict.ok, **asdict(verdict), "head": last and last.told()})
        return OK if verdict.ok else FAILED
    if not verdict.ok:
        click.echo(click.style(f"✗ {on_line(verdict.what)}", fg="red", bold=True))
        if key is None and not verdict.bad:  # the head itself
            click.echo("hint: if it was made with a key, name its variable: --key-env", err=True)
        return FAILED
    click.echo(click.style(f"✓ {count(verdict.records, 'record')}: nothing is wrong", fg="green"))
    if last is not None:
        click.echo(f"head {last.told()}")
    return OK


@asynccontextmanager
async def _opened(file: str, key: bytes | None = None) -> AsyncGenerator[AuditLog, None]:
    from lorimer.run.audit.log import AuditLog
    from lorimer.run.stores.sqlite_audit import SQLiteAudit

    log = AuditLog(SQLiteAudit(file), key=key)
    try:
        yield log
    finally:
        await log.close()
