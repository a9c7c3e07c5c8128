"""`lorimer runs export`: a run, or its session, as JSON lines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp

import click

from lorimer.cli.fail import Fault
from lorimer.cli.options import store_option
from lorimer.cli.run_names import run_argument


@click.command()
@run_argument()
@click.option("--session", is_flag=True, help="Every run of its session, not only this one.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, completely or not at all. Default: stdout.",
)
@store_option
def export(run: str, session: bool, output: Path | None, store: str | None) -> None:
    """Write a run as JSON lines: a header with its manifest, then its facts.

    RUN is an id or its beginning. The lines contain the run's input, every answer of the model, and
    the input and result of every tool call. Secrets that were known to the run are replaced by
    their names."""
    if output is None:
        asyncio.run(_export(run, session, store, click.echo))
        return
    try:
        handle, part = mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise Fault(f"{output} cannot be written: {error.strerror}") from error
    try:
        with open(handle, "w", encoding="utf-8") as file:

            def write(line: str) -> None:
                file.write(line + "\n")

            asyncio.run(_export(run, session, store, write))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, output)
    except BaseException:
        os.unlink(part)
        raise


async def _export(run: str, session: bool, store: str | None, write: Callable[[str], None]) -> None:
    from lorimer.cli import reading
    from lorimer.cli.store import existing_store, opened
    from lorimer.cli.text import harmless
    from lorimer.journal.export import export as lines_of
    from lorimer.world import RealWorld

    async with opened(existing_store(store), RealWorld()) as journal:
        row = await reading.find(journal, run)
        async for line in lines_of(journal, row.run_id, session=session):
            write(harmless(line))
