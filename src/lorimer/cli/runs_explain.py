"""`lorimer runs explain`: why a run went as it did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.fail import Fault, OneOf
from lorimer.cli.options import store_option
from lorimer.cli.text import count, one_line, short_id

if TYPE_CHECKING:
    from lorimer.cli.story import Line
    from lorimer.journal.explain import Explanation

_KINDS: Final = (
    "start limit resume change stage compaction model failover retry tool hook person child turn "
    "suspended end"
).split()
"""As `journal/explain/reason.py` has them, which is loaded when somebody asks."""
_STYLES: Final = {"tool": "bold", "hook": "magenta", "person": "magenta", "end": "bold"}
_USUAL: Final = ("stage", "model")
"""Told again only in a turn where they are not as in the one before."""
_WHAT, _WHY = 110, 160


@click.command(no_args_is_help=True)
@click.argument("run")
@click.option("--turn", type=click.IntRange(min=1), metavar="N", help="Only this turn, from 1.")
@click.option(
    "--decision",
    "kinds",
    type=OneOf(tuple(_KINDS)),
    multiple=True,
    help="Only decisions of this kind, all of them; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each decision.")
@store_option
def explain(
    run: str, turn: int | None, kinds: tuple[str, ...], as_json: bool, store: str | None
) -> None:
    """Tell why a run went as it did: each decision, its reason, and where that was said: a path of
    the manifest, a rule, a limit, the caller, a person.

    RUN is an id or its beginning. Stages and models are told where they are not as in the turn
    before; --decision and --json tell them all. Nothing is changed, no model is called.
    """
    asyncio.run(_explain(run, turn, kinds, as_json, store))


async def _explain(
    run: str, turn: int | None, kinds: Sequence[str], as_json: bool, store: str | None
) -> None:
    from lorimer.cli import reading
    from lorimer.cli.store import existing_store, opened, store_words
    from lorimer.core.jsonable import dumps
    from lorimer.journal.explain import explain as reasons
    from lorimer.journal.recording import recorded
    from lorimer.stages.catalogue import catalogue
    from lorimer.world import RealWorld

    async with opened(existing_store(store), RealWorld()) as journal:
        row = await reading.find(journal, run, store_words(store))
        found = reasons(await recorded(journal, row.run_id), catalogue())
    turns = max([each.iteration for each in found]) + 1
    if turn is not None and turn > turns:
        raise Fault(
            f"run {short_id(row.run_id)} has {count(turns, 'turn')}; there is no turn {turn}",
            hint=f"lorimer runs show {short_id(row.run_id)}{store_words(store)}",
        )
    chosen = [
        each
        for each in found
        if (turn is None or each.iteration == turn - 1) and (not kinds or each.kind in kinds)
    ]
    if as_json:
        for each in chosen:
            click.echo(dumps(each.to_json()))
    elif chosen:
        _print(chosen, whole=bool(kinds))
    else:
        click.echo("Nothing of that kind was decided.", err=True)


def _print(found: Sequence[Explanation], *, whole: bool) -> None:
    from rich.text import Text

    from lorimer.cli.timeline import console

    out = console()
    before: set[tuple[str, str]] = set()
    for iteration, group in groupby(found, lambda each: each.iteration):
        told = list(group)
        out.print(Text(f"turn {iteration + 1}", style="bold"))
        usual = {(each.kind, each.what) for each in told if each.kind in _USUAL}
        for line in _lines(told, before if not whole else set(), whole=whole):
            out.print(Text.assemble(*line), soft_wrap=True)
        before = usual


def _lines(
    found: Sequence[Explanation], before: set[tuple[str, str]], *, whole: bool
) -> Iterator[Line]:
    entered = [
        each
        for each in found
        if each.kind == "stage" and each.what.startswith("entered ") and not whole
    ]
    known = {name for kind, name in before if kind == "stage"}
    same = known == {each.what for each in found if each.kind == "stage"}
    for each in found:
        if each.kind == "stage" and not whole:
            if same or (each.what in known and each not in entered):
                continue
            if each in entered:
                if each is entered[0]:
                    names = ", ".join([one.what.removeprefix("entered ") for one in entered])
                    yield _line("stage", f"entered {names}", "", "")
                continue
        elif each.kind in _USUAL and (each.kind, each.what) in before:
            continue
        about = f" {each.about}" if each.about else ""
        yield _line(each.kind, f"{each.what}{about}", each.why, str(each.origin))


def _line(kind: str, what: str, why: str, origin: str) -> Line:
    """All of it may hold foreign text."""
    line = [(f"  {kind:<11}", "dim"), (one_line(what, _WHAT), _STYLES.get(kind, ""))]
    if why:
        line.append((f": {one_line(why, _WHY)}", ""))
    if origin:
        line.append((f"  [{one_line(origin, _WHY)}]", "cyan"))
    return line
