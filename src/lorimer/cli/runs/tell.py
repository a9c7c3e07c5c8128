"""`lorimer runs send|answer|change|cancel`: send a message to a run, whichever process executes
it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.error_context import named_store
from lorimer.cli.fail import Fault
from lorimer.cli.options import asynchronous, store_option
from lorimer.cli.run_names import run_argument
from lorimer.cli.text import short_id, visible
from lorimer.core.errors import ExecutorErrorCode

if TYPE_CHECKING:
    from lorimer.core.journal import RunRow
    from lorimer.core.mail import Question
    from lorimer.core.world import World
    from lorimer.journal.sqlite.store import SQLiteJournal

STOPPED_WITHIN_S: Final = 15.0
"""Seconds that `cancel` waits for the other process to end the run."""

TAKEN_WITHIN_S: Final = 3.0
"""Seconds that `change` waits for the other process to make the change."""


@click.command()
@run_argument()
@click.argument("text")
@store_option
@asynchronous
async def send(run: str, text: str, store: str | None) -> None:
    """Add TEXT to the conversation of RUN before its next model call; if it is not live, when it is
    resumed."""
    from lorimer.cli import reading
    from lorimer.cli.store import existing_store, opened
    from lorimer.core import mail
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        await mail.send(journal, row.run_id, text, id=world.new_id("message"))
        at_work = await reading.status_of(journal, row, world) == "running"
    when = "before its next call" if at_work else "when it is resumed"
    click.echo(f"sent: run {short_id(row.run_id)} reads it {when}")


@click.command()
@run_argument()
@click.argument("words", metavar="ANSWER")
@click.option("--question", metavar="ID", default="", help="Which question, if there are several.")
@store_option
@asynchronous
async def answer(run: str, words: str, question: str, store: str | None) -> None:
    """Answer a question of RUN, which `lorimer runs show` shows: yes or no if a call needs
    approval; a text, or the number of an option, if the agent asks."""
    from lorimer.cli import reading
    from lorimer.cli.approve import chosen
    from lorimer.cli.call import Call
    from lorimer.cli.store import existing_store, opened
    from lorimer.core import mail
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        asked = {found.name: found for found in await mail.questions(journal, row)}
        about = asked.get(question or (next(iter(asked), "") if len(asked) == 1 else ""))
        said: bool | str = words == "yes"
        if about is not None and about.wants == "text":
            said = chosen(words.strip(), about.options)
        elif about is not None and words not in ("yes", "no"):
            raise Fault(
                f"the answer to {_call(about)} is yes or no, not {words!r}",
                code=ExecutorErrorCode.EXEC_INPUT_INVALID.value,
            )
        exactly = question if about is None else about.name
        if not await mail.answer(journal, row.run_id, said, question=exactly):
            raise Fault(
                f"run {short_id(row.run_id)} was just answered by somebody else: that counts",
                code="exec.input.invalid",
            )
        at_work = await reading.status_of(journal, row, world) == "running"
        call = await Call.of(journal, row.run_id)
    if about is not None:
        shown = said if isinstance(said, str) else words
        click.echo(f"answered {visible(shown)}: {_call(about)}")
    if not at_work:
        click.echo(f"go on with: {call.resume_command(row.run_id)}")


@click.command()
@run_argument()
@click.option(
    "--set",
    "values",
    metavar="PATH=VALUE",
    multiple=True,
    help="What the manifest says there from then on, e.g. --set model.temperature=0 or "
    "--set stages[system].config.prompt='Be brief.'; the value is JSON, else text. May be given "
    "several times. `lorimer manifest explain` shows every path.",
)
@click.option(
    "--change",
    "changes",
    metavar="JSON",
    multiple=True,
    help='Any other change, e.g. \'{"kind": "remove_stage", "stage": "think"}\'.',
)
@store_option
@asynchronous
async def change(
    run: str, values: tuple[str, ...], changes: tuple[str, ...], store: str | None
) -> None:
    """Change the manifest of RUN, and of no other run, before its next model call: all of the
    changes, or none. A run that is not live is changed when it is resumed.

    Limits, sub-agents and memory cannot be changed; a sub-agent keeps its tools and rules. Changes
    are recorded, and apply again when the run is resumed or replayed.
    """
    from lorimer.cli import reading
    from lorimer.cli.changes import asked, refused_in
    from lorimer.cli.store import existing_store, opened
    from lorimer.core import mail
    from lorimer.world import RealWorld

    if not values and not changes:
        raise Fault("there is nothing to change", hint="Add e.g. --set model.temperature=0.")
    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        made = await asked(journal, row, values, changes)
        post, name = world.new_id("message"), short_id(row.run_id)
        await mail.change(journal, row.run_id, made, id=post)
        until, fact = world.monotonic() + TAKEN_WITHIN_S, None
        at_work = await reading.status_of(journal, row, world) == "running"
        while at_work and fact is None and world.monotonic() < until:
            fact = await mail.taken(journal, row, post)
            await world.sleep(0.05)
    if fact is None:
        when = "before its next model call" if at_work else "when it is resumed"
        see = f"lorimer runs show {name}{named_store()}"
        click.echo(f"sent: run {name} is changed {when}; see it: {see}")
        return
    for each in refused_in(fact):
        if each.get("post") == post:
            raise Fault(f"run {name}: {each.get('why')}", code=str(each.get("code")))
    if fact.type == "run.end":
        raise Fault(
            f"run {name} ended before the change was made",
            code=ExecutorErrorCode.EXEC_RUN_ENDED.value,
        )
    click.echo(f"changed: run {name}, from turn {fact.iteration + 1} on")


@click.command()
@run_argument()
@store_option
@asynchronous
async def cancel(run: str, store: str | None) -> None:
    """Cancel RUN: at once if no process executes it, else through the process that does. What was
    done until then stays done."""
    from lorimer.cli import reading
    from lorimer.cli.store import existing_store, opened
    from lorimer.world import RealWorld

    world = RealWorld()
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        if row.status:
            raise Fault(
                f"run {short_id(row.run_id)} has ended ({row.status})",
                hint=f"lorimer runs show {short_id(row.run_id)}",
                code=ExecutorErrorCode.EXEC_RUN_ENDED.value,
            )
        if await reading.status_of(journal, row, world) == "running":
            await _ask_to_stop(journal, row, world)
        else:
            await _give_up(journal, row, world)
    click.echo(f"cancelled: run {short_id(row.run_id)}; what was done until then stays done")


def _call(question: Question) -> str:
    given = question.input if len(question.input) <= 200 else f"{question.input[:199]}…"
    return " ".join(visible(f"{question.tool} {given}").split())


async def _ask_to_stop(journal: SQLiteJournal, row: RunRow, world: World) -> None:
    from lorimer.core import mail

    await mail.cancel(journal, row.run_id)
    until = world.monotonic() + STOPPED_WITHIN_S
    while world.monotonic() < until:
        found = await journal.find_run(row.run_id)
        if found is not None and found.status:
            return
        await world.sleep(0.05)
    raise Fault(
        f"run {short_id(row.run_id)} was told to stop and has not ended in {STOPPED_WITHIN_S:g} s",
        hint=f"Look again: lorimer runs show {short_id(row.run_id)}",
    )


async def _give_up(journal: SQLiteJournal, row: RunRow, world: World) -> None:
    from lorimer.cli.owner import own_name
    from lorimer.cli.reading import take_over_run
    from lorimer.core.bus import Bus
    from lorimer.launch.claims import Claims, Owner
    from lorimer.launch.interrupted import Interrupted
    from lorimer.launch.roster import Roster

    await take_over_run(journal, row)
    claims = Claims(journal, world, Bus(), owner=Owner(world, own_name()))
    await Interrupted(journal, world, claims, Roster()).end(row, wait_s=0.0)
