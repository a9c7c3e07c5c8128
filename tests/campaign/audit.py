"""What must hold of any runs, whatever happened to them: a pure function from what is left (facts,
ledger, and what was seen outside of the process) to findings.

Marks are those of `lorimer.testing.marks`. The `effect` of one is unique to what was wanted, such
as "change 3": the same again is the same effect again; of a model call it is the first words of
the conversation, and its `iteration` how many replies that had. Where it was no tool's call, the
`key` is the hash of what was asked, as its fact has it. An `edge` besides: `approval`, `emit`.

What one run's facts must show is the library's to say (`lorimer.testing.recorded`). Here is what
only these harnesses know: whole streams, what providers were sent and charged for, what callers
were told, and effects by what was wanted, not by the call that did it, so that two calls that do
the same are found, which `lorimer.testing.audit` cannot. C1 to C10 are the promises of
`docs/durability.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lorimer.core.context import Safety
from lorimer.core.events import Event
from lorimer.core.journal import Balance, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.request import Usage
from lorimer.journal import fold
from lorimer.testing import recorded
from lorimer.testing.marks import MODEL, Mark
from lorimer.tools.asking import AGAIN
from tests.campaign.vendors import refused


@dataclass(frozen=True)
class Told:
    """What a caller was told when a run was over; or, with no `status`, only that it began."""

    run_id: str
    status: str = ""
    cost_nano: int = 0
    iterations: int = 0
    stored: bool = True
    """False: the run failed because the store did, so what it says of itself is not recorded."""


@dataclass(frozen=True)
class Finding:
    """One promise that was broken."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass
class Evidence:
    """What is left when everything is over and each run was resumed to its end."""

    facts: Mapping[str, Sequence[Event]]
    """All of the store, by stream, in order."""
    rows: Sequence[RunRow]
    """All runs as the store lists them."""
    balances: Mapping[str, Balance]
    """By run."""
    marks: Sequence[Mark] = ()
    begins: Sequence[Mapping[str, int]] = ()
    """For each life, how many facts each stream had when it began."""
    told: Sequence[Told] = ()
    limits: Limits = field(default_factory=Limits)
    """Of runs whose run.start names none."""
    refused: Sequence[str] = ()
    """Why a vendor would not have taken what its model was sent."""
    used: Usage | None = None
    """What the provider says was used, all attempts together."""
    exact: bool = False
    """No process died and no store failed: then the facts tell of all that was used."""
    given_up: frozenset[str] = frozenset()
    """Runs that were begun and never told of, because the store failed just then: their
    conversation may have gone on without them."""

    @cached_property
    def runs(self) -> dict[str, list[Event]]:
        """The facts of each run."""
        out: dict[str, list[Event]] = {}
        for facts in self.facts.values():
            for fact in facts:
                out.setdefault(fact.run_id, []).append(fact)
        return out


Rule = Callable[[Evidence], Iterator[str]]


def audit(evidence: Evidence) -> list[Finding]:
    """Every promise that these facts and marks break."""
    found = [Finding(name, what) for name, rule in RULES.items() for what in rule(evidence)]
    rows = {row.run_id: row for row in evidence.rows}
    for run_id, facts in evidence.runs.items():
        if run_id in evidence.given_up and facts[-1].type != "run.end":
            continue
        run = recorded.Evidence(
            run_id, "", facts, evidence.balances[run_id], rows.get(run_id), evidence.limits
        )
        found += [
            Finding(name, f"{run_id}: {what}")
            for name, rule in recorded.RULES.items()
            for what in rule(run)
        ]
    return found


def all_listed(evidence: Evidence) -> Iterator[str]:
    listed = {row.run_id for row in evidence.rows}
    if listed != evidence.runs.keys():
        yield f"the store lists {sorted(listed)}, its facts are of {sorted(evidence.runs)}"


def in_order(evidence: Evidence) -> Iterator[str]:
    for stream, facts in evidence.facts.items():
        seqs = [fact.seq for fact in facts]
        if seqs != list(range(1, len(seqs) + 1)):
            yield f"{stream} has the numbers {seqs}"
        times = [fact.time for fact in facts]
        if times != sorted(times):
            yield f"the times of {stream} go back"


def intended(evidence: Evidence) -> Iterator[str]:
    begun: set[str] = set()
    for run, facts in evidence.runs.items():
        for fact in facts:
            if fact.type.endswith(".intent"):
                begun.add(f"{run}-{fact.iteration}-{fact.data.get('key', '')}")
                begun.add(str(fact.data.get("hash")))
    for mark in evidence.marks:
        unsafe = mark.edge == "begin" and mark.safety == Safety.UNSAFE.value
        if unsafe and mark.key not in begun:
            yield f"{mark.effect!r} happened in life {mark.life}, and no intent tells of it"


def taken_once(evidence: Evidence) -> Iterator[str]:
    for stream, facts in evidence.facts.items():
        taken: Counter[str] = Counter()
        for fact in facts:
            posts = fact.data.get("posts")
            if isinstance(posts, list | tuple):
                taken.update(map(str, posts))
        for post, count in taken.items():
            if count > 1:
                yield f"the message {post!r} to {stream} was taken {count} times"


def unsafe_once(evidence: Evidence) -> Iterator[str]:
    """But for what a person has agreed to be done again: once for each time."""
    agreed = Counter(
        f"{fact.run_id}-{fact.iteration}-{str(fact.data.get('key')).split(':')[1]}"
        for facts in evidence.facts.values()
        for fact in facts
        if fact.type == "effect"
        and str(fact.data.get("key")).startswith(f"{AGAIN}:")
        and fact.data.get("approved") is True
    )
    decided = {
        f"{fact.run_id}-{fact.iteration}-{fact.data.get('key')}"
        for facts in evidence.facts.values()
        for fact in facts
        if fact.type == "decision"
    }
    effects = [mark for mark in evidence.marks if mark.edge == "begin" and mark.safety != MODEL]
    unsafe = [
        mark for mark in effects if mark.safety == Safety.UNSAFE.value and mark.key not in decided
    ]
    for what, count in Counter(mark.effect for mark in unsafe).items():
        again = sum([agreed[key] for key in {mark.key for mark in unsafe if mark.effect == what}])
        if count > 1 + again:
            lives = [mark.life for mark in unsafe if mark.effect == what]
            yield f"the unsafe effect {what!r} happened {count} times, in the lives {lives}"
    calls: dict[tuple[str, str], str] = {}
    whats: dict[str, str] = {}
    for mark in effects:
        if not mark.call:
            continue
        if (key := calls.setdefault((mark.run, mark.effect), mark.key)) != mark.key:
            yield f"{mark.effect!r} ran under two keys of one run, {key} and {mark.key}"
        if (what := whats.setdefault(mark.key, mark.effect)) != mark.effect:
            yield f"{what!r} and {mark.effect!r} ran under one key, {mark.key}"


def nothing_again(evidence: Evidence) -> Iterator[str]:
    """What was recorded when a life began is not asked, run or done in it."""
    for life, begin in enumerate(evidence.begins):
        done: set[str] = set()
        replies: Counter[str] = Counter()
        for stream, facts in evidence.facts.items():
            known = facts[: begin.get(stream, 0)]
            asked: dict[str, JSON] = {}
            for fact in known:
                call = f"{fact.run_id}-{fact.iteration}-{fact.data.get('key')}"
                if fact.type == "tool.result":
                    done.add(call)
                elif fact.type == "effect.intent":
                    asked[call] = fact.data.get("hash")
                elif fact.type == "effect":
                    done.add(str(fact.data.get("hash", asked.get(call))))
            replies[_conversation(facts)] = sum(
                fact.type == "model.reply" and "error" not in fact.data for fact in known
            )
        for mark in evidence.marks:
            if mark.life != life:
                continue
            if mark.safety == MODEL:
                if mark.iteration < replies[mark.effect]:
                    yield (
                        f"reply {mark.iteration} of {mark.effect!r} was recorded, and the model "
                        f"was asked for it again in life {life}"
                    )
            elif mark.key in done:
                yield f"{mark.effect!r} was recorded, and happened again in life {life}"


def _conversation(facts: Sequence[Event]) -> str:
    """The first words of a stream, as its model got them; "" when it got none."""
    for fact in facts:
        if fact.type == "model.intent":
            match fact.data.get("messages"):
                case [{"content": [{"text": str(text)}, *_]}, *_]:
                    return text
                case _:
                    return ""
    return ""


def valid_history(evidence: Evidence) -> Iterator[str]:
    for why in evidence.refused:
        yield f"a model was sent what is refused: {why}"
    for stream, facts in evidence.facts.items():
        messages = fold(facts).messages
        if why := refused(messages):
            yield f"{stream} is refused: {why}"


def provider_agrees(evidence: Evidence) -> Iterator[str]:
    if evidence.used is None:
        return
    total, guessed = Usage(), Usage()
    for facts in evidence.runs.values():
        # what a run is charged for others is told by their own facts
        own = [fact for fact in facts if "runs" not in fact.data]
        total = total + recorded.used(own)[1]
        # what an attempt had said that nobody counted: its facts may tell of more
        guessed = guessed + recorded.used([fact for fact in own if _estimated(fact)])[1]
    told, known, unsure = (each.to_json() for each in (evidence.used, total, guessed))
    names = told.keys() | known.keys()
    if evidence.exact and any(
        not known.get(name, 0) - unsure.get(name, 0) <= told.get(name, 0) <= known.get(name, 0)
        for name in names
    ):
        yield f"the provider tells of {told}, the facts of {known}"
    if any(count - unsure.get(name, 0) > told.get(name, 0) for name, count in known.items()):
        yield f"the provider tells of {told}, the facts of more: {known}"


def _estimated(fact: Event) -> bool:
    extra = fact.data.get("extra")
    return isinstance(extra, Mapping) and extra.get("usage_estimated") is True


def acknowledged(evidence: Evidence) -> Iterator[str]:
    ends = {run: facts[-1] for run, facts in evidence.runs.items()}
    for told in evidence.told:
        end = ends.get(told.run_id)
        if end is None:
            yield f"{told.run_id} was told of, and is not there"
        elif told.stored and told.status and told.status != "suspended":
            wanted = (told.status, told.cost_nano, told.iterations)
            there = tuple([end.data.get(name) for name in ("status", "cost", "iterations")])
            if end.type != "run.end" or there != wanted:
                yield f"{told.run_id} was told as {wanted}, and {end.type} says {there}"


RULES: Mapping[str, Rule] = {
    "C1 all are listed": all_listed,
    "C2 effects that were intended": intended,
    "C3 nothing recorded is repeated": nothing_again,
    "C3 no unsafe effect twice": unsafe_once,
    "C3 each message is taken once": taken_once,
    "C4 acknowledged is durable": acknowledged,
    "C5 valid history": valid_history,
    "C8 one writer: streams in order": in_order,
    "C10 the provider agrees": provider_agrees,
}
"""Beside `recorded.RULES`, which look at one run and its facts."""
