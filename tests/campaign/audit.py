"""What must hold of any runs, whatever happened to them: a pure function from what is left (facts,
ledger, and what was seen outside of the process) to findings.

It asks nothing about how the runs were played, so simulations and real processes share it: they
bring an `Evidence`. C1 to C10 are the contract of `docs/durability.md`'s promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lorimer.core.context import Safety
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.journal import Balance, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.messages import Usage
from lorimer.core.result import STATUSES
from lorimer.journal import fold
from tests.campaign.vendors import refused

CODES = frozenset(code.value for code in ExecutorErrorCode)
ABANDONED = "abandoned:"
NOT_RUN = ExecutorErrorCode.EXEC_TOOL_NOT_RUN.value


@dataclass(frozen=True)
class Mark:
    """Something that happened outside of the process, noted where its death does not reach."""

    kind: str
    """`effect` of a tool or a stage, `asked` (a model), or another call (`approval`, `emit`)."""
    what: str
    """Of an effect: unique to what was wanted, such as "change 3"; the same again is the same
    effect again. Of `asked`: the first words of the conversation."""
    life: int
    """Which life of the process, counted from 0, a process that took over included."""
    safety: Safety = Safety.UNSAFE
    call: str = ""
    """The idempotency key of a tool's call."""
    hash: str = ""
    """Of the request, as the facts have it, where it was not a tool's call."""
    turn: int = 0
    """Of `asked`: how many replies the conversation had."""


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
    return [Finding(name, what) for name, rule in RULES.items() for what in rule(evidence)]


def one_end(evidence: Evidence) -> Iterator[str]:
    for run, facts in evidence.runs.items():
        kinds = Counter(fact.type for fact in facts)
        if kinds["run.start"] != 1 or facts[0].type != "run.start":
            yield f"{run} has {kinds['run.start']} run.start, and begins with {facts[0].type}"
        if kinds["run.end"] != 1 and not (run in evidence.given_up and not kinds["run.end"]):
            yield f"{run} has {kinds['run.end']} run.end: {_kinds(facts)}"
        elif kinds["run.end"] and facts[-1].type != "run.end":
            yield f"{run} goes on after its end: {_kinds(facts)}"


def ends_make_sense(evidence: Evidence) -> Iterator[str]:
    rows = {row.run_id: row for row in evidence.rows}
    if rows.keys() != evidence.runs.keys():
        yield f"the store lists {sorted(rows)}, its facts are of {sorted(evidence.runs)}"
    for run, facts in evidence.runs.items():
        end = facts[-1].data
        if facts[-1].type != "run.end" or run not in rows:
            continue
        status, code = end.get("status"), end.get("code", "")
        if status not in STATUSES or status == "suspended":
            yield f"{run} ended as {status!r}"
        if (status == "ok") != (not code) or (code and code not in CODES):
            yield f"{run} ended as {status!r} with the code {code!r}"
        row = rows[run]
        if (row.status, row.code, row.cost_nano) != (status, code, end.get("cost")):
            yield f"{run} is listed as {row}, and ended with {dict(end)}"


def in_order(evidence: Evidence) -> Iterator[str]:
    for stream, facts in evidence.facts.items():
        seqs = [fact.seq for fact in facts]
        if seqs != list(range(1, len(seqs) + 1)):
            yield f"{stream} has the numbers {seqs}"
        times = [fact.time for fact in facts]
        if times != sorted(times):
            yield f"the times of {stream} go back"
        if unknown := {fact.type for fact in facts} - {*FACT_KINDS}:
            yield f"{stream} has facts of the kinds {unknown}"
    for run, facts in evidence.runs.items():
        turns = [fact.iteration for fact in facts]
        if turns != sorted(turns):
            yield f"the iterations of {run} go back: {_kinds(facts)}"


def recorded_once(evidence: Evidence) -> Iterator[str]:
    for run, facts in evidence.runs.items():
        seen: set[tuple[str, int, str]] = set()
        for fact in facts:
            if "key" not in fact.data or str(fact.data["key"]).startswith(ABANDONED):
                continue  # a call may be broken off in each life
            place = (fact.type, fact.iteration, str(fact.data["key"]))
            if place in seen:
                yield f"{run} has {place} twice"
            seen.add(place)


RESULT_OF = {"model.reply": "model.intent", "tool.result": "tool.intent", "effect": "effect.intent"}


def intents_first(evidence: Evidence) -> Iterator[str]:
    begun: set[str] = set()
    for run, facts in evidence.runs.items():
        intents: set[tuple[str, int, str]] = set()
        for fact in facts:
            key = str(fact.data.get("key", ""))
            if fact.type in RESULT_OF.values():
                intents.add((fact.type, fact.iteration, key))
                begun.add(f"{run}-{fact.iteration}-{key}")
                begun.add(str(fact.data.get("hash")))
            elif (
                fact.type in RESULT_OF
                and not _needs_none(fact)
                and (RESULT_OF[fact.type], fact.iteration, key) not in intents
            ):
                yield f"{run} has a {fact.type} {key!r} and no intent before it"
    for mark in evidence.marks:
        unsafe = mark.kind == "effect" and mark.safety is Safety.UNSAFE
        if unsafe and (mark.call or mark.hash) not in begun:
            yield f"{mark.what!r} happened in life {mark.life}, and no intent tells of it"


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


def _needs_none(fact: Event) -> bool:
    """Calls that only read have no intent; what was never run has neither."""
    key = str(fact.data.get("key", ""))
    noted = key.startswith((ABANDONED, "reconcile:"))
    return "hash" in fact.data or fact.data.get("error") == NOT_RUN or noted


def unsafe_once(evidence: Evidence) -> Iterator[str]:
    decided = {
        f"{fact.run_id}-{fact.iteration}-{fact.data.get('key')}"
        for facts in evidence.facts.values()
        for fact in facts
        if fact.type == "decision"
    }
    effects = [mark for mark in evidence.marks if mark.kind == "effect"]
    unsafe = [mark for mark in effects if mark.safety is Safety.UNSAFE and mark.call not in decided]
    for what, count in Counter(mark.what for mark in unsafe).items():
        if count > 1:
            lives = [mark.life for mark in unsafe if mark.what == what]
            yield f"the unsafe effect {what!r} happened {count} times, in the lives {lives}"
    calls: dict[tuple[str, str], str] = {}
    whats: dict[str, str] = {}
    for mark in effects:
        if not mark.call:
            continue
        run = mark.call.partition("-")[0]
        if (key := calls.setdefault((run, mark.what), mark.call)) != mark.call:
            yield f"{mark.what!r} ran under two keys of one run, {key} and {mark.call}"
        if (what := whats.setdefault(mark.call, mark.what)) != mark.what:
            yield f"{what!r} and {mark.what!r} ran under one key, {mark.call}"


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
            if mark.kind == "asked":
                if mark.turn < replies[mark.what]:
                    yield (
                        f"reply {mark.turn} of {mark.what!r} was recorded, and the model was asked "
                        f"for it again in life {life}"
                    )
            elif (mark.call or mark.hash) in done:
                yield f"{mark.what!r} was recorded, and happened again in life {life}"


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


def honest_money(evidence: Evidence) -> Iterator[str]:
    total = Usage()
    for run, facts in evidence.runs.items():
        spent, used = 0, Usage()
        for fact in facts:
            if fact.type == "run.end":
                continue
            spent += _int(fact.data.get("cost"))
            usage = fact.data.get("usage")
            used = used + Usage.from_json(usage if isinstance(usage, Mapping) else {})
        total = total + used
        end = facts[-1]
        if end.type != "run.end":
            continue
        balance = evidence.balances[run]
        if balance.reserved:
            yield f"{balance.reserved} nano-dollars of {run} stay reserved for ever"
        if balance.spent != spent:
            yield f"the ledger says that {run} spent {balance.spent}, its facts say {spent}"
        if end.data.get("cost") != spent:
            yield f"the end of {run} says {end.data.get('cost')}, its other facts say {spent}"
        if end.data.get("usage") != used.to_json():
            yield f"the end of {run} says {end.data.get('usage')}, its other facts say {used}"
    if evidence.used is not None:
        told, known = evidence.used.to_json(), total.to_json()
        if evidence.exact and told != known:
            yield f"the provider tells of {told}, the facts of {known}"
        if any(count > told.get(name, 0) for name, count in known.items()):
            yield f"the provider tells of {told}, the facts of more: {known}"


def bounded(evidence: Evidence) -> Iterator[str]:
    for run, facts in evidence.runs.items():
        given = facts[0].data.get("limits")
        limits = Limits.from_json(given) if isinstance(given, Mapping) else evidence.limits
        end = facts[-1].data
        if _int(end.get("iterations")) > limits.max_turns:
            yield f"{run} made {end.get('iterations')} turns of {limits.max_turns}"
        ceiling = limits.max_cost_nano
        if ceiling is not None and _int(end.get("cost")) > ceiling:
            yield f"{run} spent {end.get('cost')} of {ceiling}"
        ran = [
            fact.iteration
            for fact in facts
            if fact.type == "tool.result" and fact.data.get("error") != NOT_RUN
        ]
        if len(ran) > limits.max_tool_calls:
            yield f"{run} made {len(ran)} tool calls of {limits.max_tool_calls}"
        if (most := max(Counter(ran).values(), default=0)) > limits.max_calls_per_turn:
            yield f"{run} made {most} calls in a turn, of {limits.max_calls_per_turn}"


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
    "C1 one end": one_end,
    "C1 an end that makes sense": ends_make_sense,
    "C2 intents before effects": intents_first,
    "C3 nothing recorded is repeated": nothing_again,
    "C3 no unsafe effect twice": unsafe_once,
    "C3 each message is taken once": taken_once,
    "C4 acknowledged is durable": acknowledged,
    "C5 valid history": valid_history,
    "C6 bounded": bounded,
    "C8 one writer: facts in order": in_order,
    "C8 one writer: each fact once": recorded_once,
    "C10 honest cost": honest_money,
}


def _kinds(facts: Sequence[Event]) -> str:
    return " ".join(fact.type for fact in facts)


def _int(value: JSON) -> int:
    return value if isinstance(value, int) else 0
