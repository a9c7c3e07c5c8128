"""The audit finds what it is there for: an honest record, and one broken promise at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from lorimer.core.events import Event
from lorimer.core.journal import Balance
from lorimer.core.limits import Limits
from lorimer.core.request import Usage
from lorimer.testing.marks import MODEL, Mark
from tests.campaign.audit import Evidence, audit
from tests.campaign.sweep import Play
from tests.campaign.sweep_scenarios import SCENARIOS

STREAM = "talk 0"


@cache
def honest() -> Evidence:
    """Of a run with a call of each safety, one begun anew after it, in one conversation."""
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == "tool loop"]
    played = Play(scenario, None)
    assert played.run() == []
    return played.left


def facts() -> list[Event]:
    return list(honest().facts[STREAM])


def first(type: str) -> int:
    return [fact.type for fact in facts()].index(type)


def with_facts(change: Callable[[list[Event]], object]) -> Evidence:
    """The facts after a change, numbered anew."""
    kept = [copied(fact) for fact in facts()]
    change(kept)
    for number, fact in enumerate(kept, 1):
        fact.seq = number
    return replace(honest(), facts={STREAM: kept})


def copied(fact: Event, **data: Any) -> Event:
    return Event(
        fact.type, {**fact.data, **data}, fact.run_id, fact.iteration, fact.time, seq=fact.seq
    )


def without(type: str, nth: int = 0) -> Evidence:
    places = [index for index, fact in enumerate(facts()) if fact.type == type]
    return with_facts(lambda kept: kept.pop(places[nth]))


def twice(type: str) -> Evidence:
    return with_facts(lambda kept: kept.insert(first(type), copied(kept[first(type)])))


def altered(type: str, **data: Any) -> Evidence:
    def change(kept: list[Event]) -> None:
        kept[first(type)] = copied(kept[first(type)], **data)

    return with_facts(change)


def also(mark: Mark) -> Evidence:
    return replace(honest(), marks=[*honest().marks, mark])


def mark(tool: str) -> Mark:
    return next(mark for mark in honest().marks if mark.effect.startswith(tool))


def run_id() -> str:
    return facts()[0].run_id


def ledger(**amounts: int) -> Evidence:
    kept = honest().balances[run_id()]
    changed = Balance(amounts.get("reserved", kept.reserved), kept.spent + amounts.get("more", 0))
    return replace(honest(), balances={**honest().balances, run_id(): changed})


def told(**change: Any) -> Evidence:
    one = next(one for one in honest().told if one.status)
    return replace(honest(), told=[replace(one, **change)])


def repeated_id() -> Evidence:
    replies = [fact for fact in facts() if fact.type == "model.reply"]
    return altered_at(facts().index(replies[1]), content=replies[0].data["content"])


def altered_at(index: int, **data: Any) -> Evidence:
    return with_facts(lambda kept: kept.__setitem__(index, copied(kept[index], **data)))


def backwards(name: str) -> Evidence:
    def change(kept: list[Event]) -> None:
        middle = kept[len(kept) // 2]
        setattr(middle, name, getattr(kept[0], name) - 1)

    return with_facts(change)


def of_the_last_run() -> list[Event]:
    return [fact for fact in facts() if fact.run_id == facts()[-1].run_id]


def listed_otherwise() -> Evidence:
    rows = [replace(row, cost_nano=row.cost_nano + 1) for row in honest().rows]
    return replace(honest(), rows=rows)


BROKEN: Mapping[str, tuple[str, Callable[[], Evidence]]] = {
    "no end": ("one end", lambda: without("run.end")),
    "two ends": ("one end", lambda: twice("run.end")),
    "two starts": ("one end", lambda: twice("run.start")),
    "no status": ("an end that makes sense", lambda: altered("run.end", status="fine")),
    "a code of nobody's": (
        "an end that makes sense",
        lambda: altered("run.end", status="error", code="exec.nonesuch"),
    ),
    "a run listed otherwise": ("an end that makes sense", listed_otherwise),
    "a stream with a gap": (
        "C8 one writer: streams in order",
        lambda: replace(honest(), facts={STREAM: of_the_last_run()}),
    ),
    "a run not listed": (
        "C1 all are listed",
        lambda: replace(honest(), rows=honest().rows[1:]),
    ),
    "no intent": ("intents before effects", lambda: without("tool.intent")),
    "no model intent": ("intents before effects", lambda: without("model.intent")),
    "an effect nobody intended": (
        "C2 effects that were intended",
        lambda: also(mark("change")._replace(key="run_x-0-0", effect="change 9")),
    ),
    "an unsafe effect twice": ("C3 no unsafe effect twice", lambda: also(mark("change"))),
    "under another key": (
        "C3 no unsafe effect twice",
        lambda: also(mark("put")._replace(key=mark("put").key + "0")),
    ),
    "two under one key": (
        "C3 no unsafe effect twice",
        lambda: also(mark("put")._replace(effect="put 9")),
    ),
    "a recorded call again": (
        "C3 nothing recorded is repeated",
        lambda: also(mark("look")._replace(life=1)),
    ),
    "a recorded reply again": (
        "C3 nothing recorded is repeated",
        lambda: also(Mark("begin", 1, MODEL, iteration=1, effect="go")),
    ),
    "a message twice": (
        "C3 each message is taken once",
        lambda: with_facts(lambda kept: kept.insert(-1, copied(kept[-1], posts=["a", "a"]))),
    ),
    "told otherwise": ("C4 acknowledged is durable", lambda: told(status="error")),
    "told of nothing": ("C4 acknowledged is durable", lambda: told(run_id="run_x")),
    "an id twice": ("C5 valid history", repeated_id),
    "refused by a vendor": ("C5 valid history", lambda: replace(honest(), refused=["no"])),
    "too many turns": ("bounded", lambda: altered("run.start", limits={"max_turns": 1})),
    "too many calls": ("bounded", lambda: altered("run.start", limits={"max_tool_calls": 1})),
    "too much money": ("bounded", lambda: altered("run.start", limits={"max_cost_usd": 1e-6})),
    "turns of a default": (
        "bounded",
        lambda: replace(altered("run.start", limits=None), limits=Limits(max_turns=1)),
    ),
    "a fact lost": (
        "facts in order",
        lambda: replace(honest(), facts={STREAM: facts()[:3] + facts()[4:]}),
    ),
    "time goes back": ("facts in order", lambda: backwards("time")),
    "turns go back": ("facts in order", lambda: backwards("iteration")),
    "a result twice": ("each fact once", lambda: twice("tool.result")),
    "money set aside for ever": ("honest cost", lambda: ledger(reserved=5)),
    "a ledger of its own": ("honest cost", lambda: ledger(more=1)),
    "an end of its own": ("honest cost", lambda: altered("run.end", cost=1)),
    "tokens of its own": ("honest cost", lambda: altered("run.end", usage={})),
    "not all is told": (
        "C10 the provider agrees",
        lambda: replace(honest(), used=honest().used + Usage(1)),  # type: ignore[operator]
    ),
    "more than was used": (
        "C10 the provider agrees",
        lambda: replace(honest(), used=Usage(1), exact=False),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found_and_named(name: str) -> None:
    assert audit(honest()) == []
    rule, broken = BROKEN[name]
    found = audit(broken())
    assert rule in {finding.rule for finding in found}
    assert all(finding.what for finding in found)


def test_a_decision_allows_an_unsafe_effect_again() -> None:
    run, turn, key = mark("change").key.split("-")

    def change(kept: list[Event]) -> None:
        kept.insert(-1, Event("decision", {"key": key}, run, int(turn), kept[-1].time))

    evidence = with_facts(change)
    evidence = replace(evidence, marks=[*evidence.marks, mark("change")])
    assert "C3 no unsafe effect twice" not in {finding.rule for finding in audit(evidence)}
