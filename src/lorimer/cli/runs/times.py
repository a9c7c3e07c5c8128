"""`lorimer runs explain --time`: where the time of a run went, as bars on one axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.story import call_text
from lorimer.cli.text import duration, one_line, print_json
from lorimer.core.fact_data import Object, use_at, uses_of
from lorimer.core.request import MOST

if TYPE_CHECKING:
    from lorimer.core.events import Event

_WHAT: Final = 32
"""Most columns of what was done."""
_BAR: Final = (20, 100)
"""Fewest and most columns of the axis."""
_BESIDE: Final = 19
"""Columns of the turn, the duration, and what separates the columns."""
_STYLES: Final[Mapping[str, str]] = {"model": "cyan", "tool": "green", "person": "magenta"}
_OPEN: Final[Mapping[str, str]] = {"person": "no answer"}
_PEOPLE: Final = ("approval", "question")


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time: a model call, a tool call, or a person's answer."""

    iteration: int
    kind: str
    what: str
    begin_s: float
    """Seconds that the run had been running, without the time between interruptions."""
    end_s: float
    problem: str = ""
    """`failed`; or `no result`, of a person `no answer`: nothing is recorded of its end."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s


def spans_of(facts: Sequence[Event]) -> list[Span]:
    """What took time, in the order of its beginning. A call that only reads has no fact at its
    beginning: it counts from the reply that made it."""
    found: list[Span] = []
    begun: dict[str, tuple[float, str, str]] = {}
    origin, replied, at, turn = facts[0].time, 0.0, 0.0, 0
    uses: Sequence[Object] = ()

    def end(key: str, kind: str, what: str, *, begin: float, failed: bool) -> None:
        problem = "failed" if failed else ""
        since = begun.pop(key, (begin, "", ""))[0]
        found.append(Span(turn, kind, what, since, at, problem))

    for fact in facts:
        data, turn = fact.data, fact.iteration
        used = data.get("used_s")
        if (
            isinstance(used, int | float) and 0 <= used < MOST
        ):  # the first fact after an interruption
            origin = fact.time - max(used, at)  # it does not count how long a person was asked
        at, key = max(fact.time - origin, at), str(data.get("key"))
        if fact.type == "model.intent":
            if "model" in begun:  # its process was ended
                found.append(Span(turn, "model", "model", begun["model"][0], at, "no result"))
            begun["model"] = (at, "model", "model")
        elif fact.type == "model.reply":
            name = f"model {data.get('model') or ''}".rstrip()
            end("model", "model", name, begin=at, failed="error" in data)
            uses, replied = uses_of(data), at
        elif fact.type == "tool.intent":
            begun[key] = (at, "tool", _call(uses, key))
        elif fact.type == "tool.result":
            failed = data.get("is_error") is True
            end(key, "tool", _call(uses, key), begin=replied, failed=failed)
        elif fact.type == "effect.intent" and _asks(key):
            begun[key] = (at, "person", "a person")
        elif fact.type == "effect" and _asks(key) and key in begun:
            end(key, "person", "a person", begin=at, failed=False)
    for since, kind, what in begun.values():
        found.append(Span(turn, kind, what, since, at, _OPEN.get(kind, "no result")))
    return sorted(found, key=lambda span: span.begin_s)


def _asks(key: str) -> bool:
    return key.partition(":")[0] in _PEOPLE


def _call(uses: Sequence[Object], key: str) -> str:
    return call_text(use_at(uses, key) or {"name": "?"})


def print_times(spans: Sequence[Span], *, as_json: bool) -> None:
    """Print a row for each span, with a bar on an axis that all share, and the sums."""
    if as_json:
        for span in spans:
            print_json(
                {
                    "iteration": span.iteration,
                    "kind": span.kind,
                    "what": span.what,
                    "begin_s": round(span.begin_s, 6),
                    "end_s": round(span.end_s, 6),
                    "problem": span.problem,
                }
            )
    elif spans:
        _print(spans)
    else:
        click.echo("Nothing took time.", err=True)


def _print(spans: Sequence[Span]) -> None:
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    from lorimer.cli.printing import console, print_table, truncated

    out = console()
    room = (out.width if out.is_terminal else 80) - _BESIDE
    wide = min(max(room - _BAR[0], 8), _WHAT)
    names = [truncated(one_line(span.what, 2 * _WHAT), wide) for span in spans]
    columns = min(max(room - max(map(cell_len, names)), _BAR[0]), _BAR[1])
    first, last = spans[0].begin_s, max([span.end_s for span in spans])
    scale = columns / ((last - first) or 1.0)
    left, right = duration(first), duration(last)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("turn", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column(Text(f"{left}{right:>{columns - len(left)}}", style="dim"), no_wrap=True)
    before = -1
    for span, name in zip(spans, names, strict=True):
        failed = span.problem == "failed"
        style = "red" if failed else "yellow" if span.problem else _STYLES[span.kind]
        begin = min(int((span.begin_s - first) * scale), columns - 1)
        long = min(round(span.seconds * scale), columns - begin)
        table.add_row(
            str(span.iteration + 1) if span.iteration != before else "",
            Text(name, style=style if span.problem else ""),
            duration(span.seconds),
            Text.assemble(
                " " * begin,
                ("█" * long if long else "▏", style),
                ("" if failed else f" {span.problem}", style),
            ),
        )
        before = span.iteration
    print_table(table)
    click.echo(f"{duration(last - first)}: {', '.join(_sums(spans))}")


def _sums(spans: Sequence[Span]) -> Iterator[str]:
    """The time of each kind; what ran at once counts once."""
    for kind, told in (("model", "models"), ("tool", "tools"), ("person", "people")):
        total = until = 0.0
        chosen = [span for span in spans if span.kind == kind]
        for span in chosen:
            total += max(span.end_s - max(span.begin_s, until), 0.0)
            until = max(until, span.end_s)
        if chosen:
            yield f"{told} {duration(total)}"
