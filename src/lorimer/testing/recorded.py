"""Rules that hold for every finished run in a journal, whatever happened to it: they examine only
its facts, its entry in the list of runs and its ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.fact_data import usage_of
from lorimer.core.journal import Balance, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.purse import purses_of
from lorimer.core.raised import RAISED, raised
from lorimer.core.request import Usage
from lorimer.core.result import STATUSES

NOT_RUN: Final = ExecutorErrorCode.EXEC_TOOL_NOT_RUN.value
_CODES: Final = frozenset(code.value for code in ExecutorErrorCode)
_ABANDONED: Final = "abandoned:"
_INTENT_OF: Final[Mapping[str, str]] = {
    "model.reply": "model.intent",
    "tool.result": "tool.intent",
    "effect": "effect.intent",
}


@dataclass
class Evidence:
    """What is known about one run at the end."""

    run: str
    stream: str
    facts: Sequence[Event]
    """All facts of the run, in order."""
    balance: Balance
    row: RunRow | None = None
    """Its entry in the list of runs; None: not checked."""
    limits: Limits = field(default_factory=Limits)
    """The limits that apply if its run.start names none."""
    shares: Mapping[str, Balance] | None = None
    """Its balance in each purse that its run.start names; None: not checked."""


Rule = Callable[[Evidence], Iterator[str]]


def one_end(run: Evidence) -> Iterator[str]:
    """It begins once and ends once."""
    kinds = Counter(fact.type for fact in run.facts)
    if kinds["run.start"] != 1 or run.facts[0].type != "run.start":
        yield f"it has {kinds['run.start']} starts, and begins with {run.facts[0].type}"
    if kinds["run.end"] != 1:
        yield f"it has {kinds['run.end']} ends: {_kinds(run)}"
    elif run.facts[-1].type != "run.end":
        yield f"it goes on after its end: {_kinds(run)}"


def end_makes_sense(run: Evidence) -> Iterator[str]:
    """Status and code are consistent, and the list of runs agrees."""
    end = run.facts[-1].data
    if run.facts[-1].type != "run.end":
        return
    status, code = end.get("status"), end.get("code", "")
    if status not in STATUSES or status == "suspended":
        yield f"it ended as {status!r}"
    if (status == "ok") != (not code) or (code and code not in _CODES):
        yield f"it ended as {status!r} with the code {code!r}"
    row = run.row
    if row is not None and (row.status, row.code, row.cost_nano) != (status, code, end.get("cost")):
        yield f"it is listed as {row}, and ended with {dict(end)}"


def in_order(run: Evidence) -> Iterator[str]:
    """Its facts are numbered consecutively; times and iterations do not decrease."""
    first = run.facts[0].seq or 0
    if [fact.seq for fact in run.facts] != list(range(first, first + len(run.facts))):
        yield "its facts are not numbered one after the other"
    if _goes_back([fact.time for fact in run.facts]):
        yield f"its times go back: {_kinds(run)}"
    if _goes_back([fact.iteration for fact in run.facts]):
        yield f"its iterations go back: {_kinds(run)}"
    if unknown := {fact.type for fact in run.facts} - {*FACT_KINDS}:
        yield f"it has facts of the kinds {sorted(unknown)}"


def recorded_once(run: Evidence) -> Iterator[str]:
    """Nothing is recorded twice in one place."""
    seen: set[tuple[str, int, str]] = set()
    for fact in run.facts:
        if "key" not in fact.data or str(fact.data["key"]).startswith(_ABANDONED):
            continue  # a call may be interrupted in each life
        place = place_of(fact)
        if place in seen:
            yield f"{place} is recorded twice"
        seen.add(place)


def intents_first(run: Evidence) -> Iterator[str]:
    """What was done was announced."""
    intents: set[tuple[str, int, str]] = set()
    for fact in run.facts:
        kind, iteration, key = place_of(fact)
        if kind in _INTENT_OF.values():
            intents.add((kind, iteration, key))
        elif (
            kind in _INTENT_OF
            and not _needs_none(fact)
            and (_INTENT_OF[kind], iteration, key) not in intents
        ):
            yield f"it has a {kind} {key!r} and no intent before it"


def _needs_none(fact: Event) -> bool:
    """Calls that only read have no intent; calls that were never run have neither."""
    key = str(fact.data.get("key", ""))
    noted = key.startswith((_ABANDONED, "reconcile:"))
    return "hash" in fact.data or fact.data.get("error") == NOT_RUN or noted


def honest_money(run: Evidence) -> Iterator[str]:
    """Facts, end and ledger agree on money and tokens, and nothing stays reserved."""
    spent, usage = used(run.facts)
    end = run.facts[-1]
    if end.type != "run.end":
        return
    if run.balance.reserved:
        yield f"{run.balance.reserved} nano-dollars stay reserved for ever"
    if run.balance.spent != spent:
        yield f"the ledger says that it spent {run.balance.spent}, its facts say {spent}"
    if end.data.get("cost") != spent:
        yield f"its end says that it spent {end.data.get('cost')}, its other facts say {spent}"
    if end.data.get("usage") != usage.to_json():
        yield f"its end says {end.data.get('usage')}, its other facts say {usage}"


def honest_purses(run: Evidence) -> Iterator[str]:
    """Each purse that pays for it is charged with its own spending, without sub-agents, and holds
    no reservation for it."""
    if run.shares is None or run.facts[-1].type != "run.end":
        return
    own, _ = used([fact for fact in run.facts if "runs" not in fact.data])
    for purse in purses_of(run.facts[0].data):
        share = run.shares.get(purse.name, Balance())
        if share != Balance(0, own):
            yield f"budget {purse.name} has {share} for it, its facts say that it spent {own}"


def used(facts: Sequence[Event]) -> tuple[int, Usage]:
    """Nano-dollars and tokens according to the facts before a run's end."""
    spent, total = 0, Usage()
    for fact in facts:
        if fact.type != "run.end":
            spent += whole(fact.data.get("cost"))
            total += usage_of(fact.data)
    return spent, total


def bounded(run: Evidence) -> Iterator[str]:
    """It kept within its limits."""
    given = run.facts[0].data.get("limits")
    limits = Limits.from_json(given) if isinstance(given, Mapping) else run.limits
    for fact in run.facts:
        if fact.type == "effect" and str(fact.data.get("key", "")).startswith(RAISED):
            limits = raised(limits, fact.data)
    end = run.facts[-1].data
    if whole(end.get("iterations")) > limits.max_turns:
        yield f"it made {end.get('iterations')} turns of {limits.max_turns}"
    ceiling = limits.max_cost_nano
    if ceiling is not None and whole(end.get("cost")) > ceiling:
        yield f"it spent {end.get('cost')} of {ceiling}"
    ran = [
        fact.iteration
        for fact in run.facts
        if fact.type == "tool.result" and fact.data.get("error") != NOT_RUN
    ]
    if len(ran) > limits.max_tool_calls:
        yield f"it made {len(ran)} tool calls of {limits.max_tool_calls}"
    if (most := max(Counter(ran).values(), default=0)) > limits.max_calls_per_turn:
        yield f"it made {most} calls in a turn, of {limits.max_calls_per_turn}"


RULES: Final[Mapping[str, Rule]] = {
    "one end": one_end,
    "an end that makes sense": end_makes_sense,
    "facts in order": in_order,
    "each fact once": recorded_once,
    "intents before effects": intents_first,
    "honest cost": honest_money,
    "honest budgets": honest_purses,
    "bounded": bounded,
}


def place_of(fact: Event) -> tuple[str, int, str]:
    """Kind, iteration and key: the place of a fact in its run."""
    return fact.type, fact.iteration, str(fact.data.get("key", ""))


def whole(value: JSON) -> int:
    """An amount; 0 for anything else."""
    return value if isinstance(value, int) else 0


def _goes_back(values: Sequence[float]) -> bool:
    return any(later < earlier for earlier, later in pairwise(values))


def _kinds(run: Evidence) -> str:
    return " ".join(fact.type for fact in run.facts)
