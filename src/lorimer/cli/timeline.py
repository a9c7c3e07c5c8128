"""Prints runs for people: a list, or one run from its facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lorimer.cli.changes import changes_in, refused_in, told_refusal
from lorimer.cli.changes import told as told_change
from lorimer.cli.error_context import named_store
from lorimer.cli.printing import console, paged, print_answer, print_lines, print_table
from lorimer.cli.shape import Shape
from lorimer.cli.story import GOOD, REFUSED, Line, Story, call_text, summary
from lorimer.cli.text import (
    ago,
    cost,
    duration,
    flow,
    moment,
    money,
    on_line,
    one_line,
    seen,
    short_id,
    tokens,
    visible,
)
from lorimer.core.errors import JournalError, error_from_json
from lorimer.core.events import Event
from lorimer.core.fact_data import nano_of, result_text, text_of, usage_of, use_at, uses_of
from lorimer.core.jsonable import JSON, dumps, fields_of, items_of
from lorimer.core.purse import purses_of
from lorimer.core.spend import whole

if TYPE_CHECKING:
    from lorimer.cli.call import Call
    from lorimer.core.journal import RunRow
    from lorimer.core.mail import Question
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.journal.explain.in_force import ManifestInForce
    from lorimer.journal.family import ChildRecord

COLOURS: Final[Mapping[str, str]] = {
    "ok": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "waiting": "magenta",
    "suspended": "yellow",
    "unfinished": "yellow",
    "not begun": "dim",
    "cancelled": "yellow",
}
"""Colours of statuses; others are red."""

_TOLD_US: Final = 1000
"""The times of stages that took fewer microseconds are not shown."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one run."""

    row: RunRow
    facts: list[Event]
    status: str
    manifest: EnvironmentManifest | None
    call: Call
    questions: Sequence[Question] = ()
    """Its unanswered questions."""
    family: Sequence[tuple[int, ChildRecord, RunRow | None]] = ()
    """Its descendants with their depth, each followed by its own descendants."""
    damaged: bool = False
    """It has further facts that cannot be read."""


def print_rows(
    rows: Sequence[RunRow], states: Sequence[str], held: Sequence[int], now: float
) -> None:
    """The list of runs. `held`: nano-dollars that each unfinished run has reserved."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True, min_width=12)  # a truncated id would be useless
    for name in ("when", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("took", "turns", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    with_codes = any(row.code for row in rows)
    if with_codes:
        table.add_column("code", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=1)
    for row, state, nano in zip(rows, states, held, strict=True):
        ended = row.ended is not None
        until = row.ended if row.ended is not None else now if state == "running" else None
        open_cost = f"holds {money(nano)}" if nano else ""
        table.add_row(
            short_id(row.run_id),
            Text(ago(now - row.started), style="dim"),
            Text(one_line(state, 40), style=COLOURS.get(state, "red")),
            duration(until - row.started) if until is not None else "",
            str(row.iterations) if ended else "",
            money(row.cost_nano) if row.cost_nano else "–" if ended else open_cost,
            *([Text(one_line(row.code, 40), style="dim")] if with_codes else []),
            Text(one_line(row.title)),  # `Text`, so that brackets are not taken for markup
        )
    print_table(table, spare=("code", "turns", "took", "when", "cost"))


def print_run(told: Told, now: float, *, full: bool) -> None:
    """One run, from its first fact to its last."""
    with paged():
        print_lines((*_head(told, now), *_turns(told, full=full)), cut=(GOOD, REFUSED))
        _print_tree(told)
        print_end(told)


def print_end(told: Told) -> None:
    """Its outcome, and what to do next."""
    answer = _answer(told.facts) if told.status == "ok" else ""
    shown = bool(answer) and console().is_terminal
    if shown:
        print_answer(answer)
    elif answer:
        print_lines(([], [(answer, "")]))
    print_lines(_end(told, gap=not shown))


def _head(told: Told, now: float) -> Iterator[Line]:
    row, facts = told.row, told.facts
    yield [
        (on_line(row.run_id), "bold"),
        ("  ", ""),
        (on_line(told.status), f"bold {COLOURS.get(told.status, 'red')}"),
    ]
    began = moment(row.started)
    last = max([fact.time for fact in facts], default=row.started)
    took = duration((row.ended or last) - row.started)
    yield _field("began", f"{began}, {ago(now - row.started)}; took {took}")
    if facts:
        yield _field("task", one_line(str(_input(facts[0].data)), 300))
        parent = facts[0].data.get("parent")
        if isinstance(parent, Mapping):
            turn = whole(parent.get("iteration")) + 1
            if "agent" in parent:
                yield _field("part", f"of {parent.get('run')}, as {parent.get('agent')}")
            else:
                yield _field("forked", f"of {parent.get('run')} after turn {turn}")
    if told.manifest is not None:
        name = told.manifest.metadata.name
        own = [tool.name for tool in told.manifest.tools.ad_hoc]
        tools = ", ".join([*told.manifest.tools.built_in, *own])
        with_tools = f"; tools: {tools}" if tools else ""
        yield _field("agent", f"{name} on {told.manifest.model.model}{with_tools}")
    if told.call.workspace:
        yield _field("where", told.call.workspace)
    story = Story.of(facts)
    used = summary(row.run_id, story.turns, story.calls, story.usage, story.cost_nano, None)
    yield _field("used", used.rpartition(" · ")[0])
    for name, text in Shape.of(facts).lines():
        yield _field(name, text)
    try:
        for purse in purses_of(facts[0].data) if facts else ():
            yield _field("budget", f"{purse.name}, of {money(purse.ceiling_nano)}")
    except JournalError as error:
        yield _field("budget", str(error))


def _field(name: str, text: str) -> Line:
    return [(f"  {name:<7}", "dim"), (on_line(text), "")]


def _input(start: Mapping[str, JSON]) -> JSON:
    given = start.get("input") or start.get("title", "")
    return given.get("text", "") if isinstance(given, Mapping) else given


def _turns(told: Told, *, full: bool) -> Iterator[Line]:
    from lorimer.journal.explain.in_force import ManifestInForce
    from lorimer.stages.catalogue import catalogue

    story = Story(recorded=True)
    manifest = None if told.manifest is None else told.manifest.to_dict()
    in_force = ManifestInForce(manifest, catalogue(), told.facts[0].data if told.facts else {})
    asked = 0.0
    uses: list[Mapping[str, JSON]] = []
    for fact in told.facts:
        data = fact.data
        if fact.type == "model.intent":
            asked = fact.time
        elif fact.type == "model.reply":
            yield []
            yield _turn_head(fact, fact.time - asked)
            uses = uses_of(data)
        elif fact.type == "iteration.end":
            times = _times(data.get("times"), in_force, first=fact.iteration == 0)
            if times:
                yield [(f"    {times}", "dim")]
        elif fact.type == "mutated":
            changes = changes_in(fact)
            yield []
            yield from [told_change(change) for change in changes]
            yield from [told_refusal(each) for each in refused_in(fact)]
            in_force = in_force.after(changes)
        use = use_at(uses, data.get("key")) if full and fact.type == "tool.result" else None
        if use is not None:
            story.count(fact)
            yield from _in_full(use, data)
        else:
            yield from story.tell(fact)
    yield from story.unfinished(at_work=told.status == "running")


def _turn_head(fact: Event, seconds: float) -> Line:
    data = fact.data
    usage = usage_of(data)
    spent = cost(nano_of(data), usage.total)
    parts = [
        on_line(str(data.get("model") or "no answer")),
        duration(seconds),
        flow(usage),
        spent,
    ]
    cached = usage.cache_read_input_tokens
    if cached:
        parts.insert(3, f"{tokens(cached)} from cache")
    return [(f"turn {fact.iteration + 1}", "bold"), (f"  {' · '.join(parts)}", "dim")]


def _in_full(use: Mapping[str, JSON], data: Mapping[str, JSON]) -> Iterator[Line]:
    bad = data.get("is_error") is True
    mark = ("  ✗ ", "red") if bad else ("  ✓ ", "green")
    yield [mark, (one_line(call_text(use), 200), "bold")]
    for name, value in fields_of(use.get("input")).items():
        text = value if isinstance(value, str) else dumps(value)
        yield [(f"      {name}: ", "cyan"), (_indented(text), "")]
    yield [("      → ", "dim"), (_indented(result_text(data.get("content"))), "red" if bad else "")]


def _indented(text: str) -> str:
    return visible(text).rstrip().replace("\n", "\n        ")


def _print_tree(told: Told) -> None:
    """The runs of its sub-agents."""
    from rich.table import Table
    from rich.text import Text

    if not told.family:
        return
    print_lines(([], [("sub-agents", "bold")]))
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("agent", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("took", "cost"):
        table.add_column(name, justify="right", no_wrap=True, style="dim")
    table.add_column("run", no_wrap=True, style="dim")
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=1)
    for depth, born, row in told.family:
        status = "not begun" if row is None else row.status or "unfinished"
        named = f"{born.agent} ({born.task})" if born.task else born.agent
        ended = None if row is None else row.ended
        table.add_row(
            Text(f"{'  ' * depth}{one_line(named, 60)}"),
            Text(one_line(status, 40), style=COLOURS.get(status, "red")),
            duration(ended - row.started) if row is not None and ended is not None else "",
            money(row.cost_nano) if row is not None and row.cost_nano else "–",
            short_id(born.run_id),
            Text(one_line(row.title if row is not None else born.input)),
        )
    print_table(table, spare=("took",))


def _end(told: Told, *, gap: bool) -> Iterator[Line]:
    last = told.facts[-1] if told.facts else None
    if gap:
        yield []
    if told.damaged:
        yield [("the rest of it is damaged", "bold red")]
        return
    if last is not None and last.type == "run.end":
        data = last.data
        if data.get("code"):
            error = error_from_json(data)
            yield [("error: ", "bold red"), (f"{one_line(str(error), 300)} ({error.code})", "")]
            hint = str(data.get("hint", ""))
            if hint:
                yield [("hint: ", "cyan"), (hint, "")]
        else:
            yield [("ended ", "dim"), ("ok", "green")]
        return
    for question in told.questions:
        yield from _question(question)
    if told.questions:
        words = told.questions[0].wants == "text"
        # by name: a "yes" must not be for the next question, which nobody has seen
        named = len(told.questions) > 1 or not words
        which = f" --question {one_line(told.questions[0].name)}" if named else ""
        said = "'YOUR ANSWER'" if words else "yes"
        run = f"{short_id(told.row.run_id)} {said}{which}{named_store()}"
        more = [] if words else [(" (or no)", "dim")]
        yield [("answer with: ", ""), (f"lorimer runs answer {run}", "bold"), *more]
    run = told.call.resume_command(told.row.run_id)
    if told.status != "running":
        head = "then go on with: " if told.questions else "go on with: "
        yield [(f"{told.status}; ", "yellow"), (head, ""), (visible(run), "bold")]
    else:
        yield [("still running", "cyan")]


def _question(question: Question) -> Iterator[Line]:
    if question.wants == "text":
        yield [("asks: ", "bold magenta"), (_indented(question.reason), "bold")]
        for at, option in enumerate(question.options, 1):
            yield [(f"  {at}. {_indented(option)}", "")]
        return
    why = f" ({on_line(seen(question.reason))})"
    yield [("asks: ", "bold magenta"), (one_line(question.tool), "bold"), (why, "dim")]
    yield [(f"  {seen(question.input)}", "")]


def _answer(facts: Sequence[Event]) -> str:
    """The text of the last reply, if it called no tool."""
    for fact in reversed(facts):
        if fact.type == "model.reply":
            return text_of(fact.data).strip()
    return ""


def _times(times: JSON, in_force: ManifestInForce, *, first: bool) -> str:
    """`api 1.2 s · tool 40 ms`: where the time of an iteration went."""
    spent = items_of(times)
    told = [
        f"{entry.name} {duration(whole(micros) / 1e6)}"
        for entry, micros in zip(in_force.turn(len(spent), first=first), spent, strict=False)
        if whole(micros) >= _TOLD_US
    ]
    return " · ".join(told)
