"""`lorimer runs explain`: why a run went as it did."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.click_types import Whole
from lorimer.cli.fail import Fault, OneOf
from lorimer.cli.options import asynchronous, json_option, store_option
from lorimer.cli.run_names import run_argument
from lorimer.cli.text import count, one_line, print_json, short_id

if TYPE_CHECKING:
    from lorimer.cli.story import Line
    from lorimer.journal.explain import Explanation

_KINDS: Final = (
    "start limit resume change message stage compaction model failover retry tool hook person "
    "child turn suspended end"
).split()
"""The same as in `journal/explain/reason.py`, which is imported only when needed."""
_STYLES: Final = {"tool": "bold", "hook": "magenta", "person": "magenta", "end": "bold"}
_USUAL: Final = ("stage", "model")
"""Kinds that are shown again only if they differ from the turn before."""
_ENTERED: Final = "entered "
_ABOUT, _WHAT, _WHY = 60, 110, 160
"""Most characters that are shown of each part."""


@click.command()
@run_argument()
@click.option("--turn", type=Whole(min=1), metavar="N", help="Only this turn, from 1.")
@click.option(
    "--decision",
    "kinds",
    type=OneOf(tuple(_KINDS)),
    multiple=True,
    help="Only decisions of this kind, all of them; may be given again.",
)
@click.option("--cost", is_flag=True, help="Where the money went instead: call by call, with bars.")
@click.option(
    "--time", "times", is_flag=True, help="Where the time went instead: call by call, with bars."
)
@json_option("One JSON object for each.")
@store_option
@asynchronous
async def explain(
    run: str,
    turn: int | None,
    kinds: tuple[str, ...],
    cost: bool,
    times: bool,
    as_json: bool,
    store: str | None,
) -> None:
    """Explain the course of a run: each decision, its reason, and where that comes from: a path of
    the manifest, a rule, a limit, the caller, a person.

    RUN is an id or its beginning. Stages and models are shown where they differ from the turn
    before; --decision and --json show them all. Nothing is changed, no model is called.
    """
    if cost + times + bool(kinds) > 1:
        raise Fault(
            "--cost shows what was paid for, --time what took time, --decision what was decided:"
            " give one of them"
        )
    from lorimer.cli import reading
    from lorimer.cli.printing import paged
    from lorimer.cli.runs.cost import print_costs
    from lorimer.cli.runs.times import print_times, spans_of
    from lorimer.cli.store import existing_store, opened
    from lorimer.journal.explain import explain as reasons
    from lorimer.journal.explain.costs import costs
    from lorimer.journal.recording import recorded
    from lorimer.stages.catalogue import catalogue
    from lorimer.world import RealWorld

    async with opened(existing_store(store), RealWorld()) as journal:
        row = await reading.find(journal, run)
        recording = await recorded(journal, row.run_id)
    turns = recording.facts[-1].iteration + 1
    if turn is not None and turn > turns:
        raise Fault(
            f"run {short_id(row.run_id)} has {count(turns, 'turn')}; there is no turn {turn}",
            hint=f"lorimer runs show {short_id(row.run_id)}",
        )
    if cost:
        paid = [c for c in costs(recording, catalogue()) if turn is None or c.iteration == turn - 1]
        with paged():
            print_costs(paid, as_json=as_json)
        return
    if times:
        took = [s for s in spans_of(recording.facts) if turn is None or s.iteration == turn - 1]
        with paged():
            print_times(took, as_json=as_json)
        return
    chosen = [
        each
        for each in reasons(recording, catalogue())
        if (turn is None or each.iteration == turn - 1) and (not kinds or each.kind in kinds)
    ]
    if as_json:
        for each in chosen:
            print_json(each.to_json())
    elif chosen:
        with paged():
            _print(chosen, whole=bool(kinds))
    else:
        click.echo("Nothing of that kind was decided.", err=True)


def _print(found: Sequence[Explanation], *, whole: bool) -> None:
    """`whole`: show the stages and models of every turn, even if nothing is new."""
    from lorimer.cli.printing import print_lines

    before: set[str] = set()
    for iteration, group in groupby(found, lambda each: each.iteration):
        told = list(group)
        lines = [_line(each) for each in told] if whole else _news(told, before)
        print_lines([[(f"turn {iteration + 1}", "bold")], *lines])
        before = {each.what for each in told if each.kind in _USUAL}


def _news(told: Sequence[Explanation], before: Collection[str]) -> Iterator[Line]:
    """The lines of a turn: one for all stages that it entered, and none for stages and models that
    are as in the turn before."""
    entered = [e.what for e in told if e.kind == "stage" and e.what.startswith(_ENTERED)]
    is_new = set(entered) != {what for what in before if what.startswith(_ENTERED)}
    for each in told:
        if each.what in entered and each.kind == "stage":
            if is_new and each.what == entered[0]:
                names = ", ".join([what.removeprefix(_ENTERED) for what in entered])
                yield [_head("stage"), (one_line(f"{_ENTERED}{names}", 2 * _WHY), "")]
        elif each.kind not in _USUAL or each.what not in before:
            yield _line(each)


def _head(kind: str) -> tuple[str, str]:
    return (f"  {kind:<11}", "dim")


def _line(each: Explanation) -> Line:
    """The line, escaped: all of it may contain untrusted text."""
    return [
        _head(each.kind),
        (one_line(each.what, _WHAT), _STYLES.get(each.kind, "")),
        (f" {one_line(each.about, _ABOUT)}" if each.about else "", "dim"),
        (f": {one_line(each.why, _WHY)}", ""),
        (f"  [{one_line(str(each.origin), _WHY)}]", "cyan"),
    ]
