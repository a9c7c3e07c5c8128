"""`lorimer runs receipts`: the messages that compaction hid from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Whole
from lorimer.cli.fail import Fault
from lorimer.cli.options import asynchronous, json_option, store_option
from lorimer.cli.run_names import run_argument

if TYPE_CHECKING:
    from lorimer.journal.receipts import Compaction


@click.command()
@run_argument()
@click.argument("number", required=False, type=Whole(min=1))
@json_option("One JSON object per line.")
@store_option
@asynchronous
async def receipts(run: str, number: int | None, as_json: bool, store: str | None) -> None:
    """List the compactions of a run; with NUMBER, show the messages that one hid.

    RUN is an id or its beginning. Compaction hides messages from the model, but never removes them
    from the conversation: here they are shown unchanged.
    """
    from lorimer.cli import reading
    from lorimer.cli.store import existing_store, opened
    from lorimer.journal.receipts import compactions
    from lorimer.journal.recording import recorded
    from lorimer.world import RealWorld

    async with opened(existing_store(store), RealWorld()) as journal:
        row = await reading.find(journal, run)
        found = compactions(await recorded(journal, row.run_id))
    if number is None:
        _list(found, as_json=as_json)
    elif number > len(found):
        raise Fault(
            f"run {row.run_id} was compacted {len(found)} times; there is no receipt {number}",
            hint=f"lorimer runs receipts {row.run_id}",
        )
    else:
        _bring_back(found[number - 1], as_json=as_json)


def _list(found: list[Compaction], *, as_json: bool) -> None:
    from lorimer.cli.story import compacted_text
    from lorimer.cli.text import print_json

    for number, each in enumerate(found, 1):
        if as_json:
            told = {"number": number, "iteration": each.iteration, "time": each.time}
            print_json({**told, **each.receipt.to_json()})
        else:
            what = compacted_text(each.receipt.to_json())
            click.echo(f"{number}  before turn {each.iteration + 1}: {what}")
    if not found and not as_json:
        click.echo("Nothing was taken out of the model's view in this run.", err=True)


def _bring_back(compaction: Compaction, *, as_json: bool) -> None:
    from lorimer.cli.text import print_json, visible
    from lorimer.core.outline import told_text

    for index, message in compaction.removed:
        if as_json:
            print_json({"number": index + 1, **message.to_json()})
        else:
            click.echo(click.style(f"{index + 1}  {message.role}", bold=True))
            for line in told_text(message).splitlines():
                click.echo(f"    {visible(line)}")
