"""The rules that the facts of a stream obey, whoever wrote them: the part of the design contract
(C1 to C10) that can be checked on facts. Pure functions; `verify.py` reads the stream and the rest
of the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.fact_data import uses_of
from lorimer.core.facts import ABANDONED
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.limits import Limits
from lorimer.core.raised import RAISED, raised
from lorimer.core.record import record
from lorimer.core.request import MOST
from lorimer.core.spend import whole
from lorimer.journal.fold import Fold


@record
class Finding:
    """One violation."""

    seq: int
    """The fact where it shows; 0: none."""
    rule: str
    """`C1` to `C10`, or `rows`, `order`, `list`, `ledger`, `manifest`, `snapshot`."""
    run_id: str
    what: str

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return {"seq": self.seq, "rule": self.rule, "run_id": self.run_id, "what": self.what}


class Contract:
    """Reads the facts of one stream in order; `found` has the violations."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.runs: dict[str, RunFacts] = {}
        """What was seen of each run, by id."""
        self.fold = Fold()
        self._open: RunFacts | None = None
        self._seq = 0
        self._fits = True
        """The facts could be folded so far."""

    def take(self, fact: Event) -> None:
        """Check the next fact."""
        seq = fact.seq or 0
        if self._seq and seq != self._seq + 1:
            self._tell(fact, "rows", f"it comes after fact {self._seq}")
        self._seq = seq
        if fact.type == "run.start":
            self._begin(fact)
        elif fact.type == "forked":
            if seq != 1:
                self._tell(fact, "order", "a conversation can only begin with another's history")
        elif self._belongs(fact) and self._open is not None:
            for rule, what in self._open.take(fact):
                self._tell(fact, rule, what)
            if fact.type == "run.end":
                self._open = None
        if self._fits:
            try:
                self.fold.apply(fact)
            except JournalError as error:
                self._fits = False
                self._tell(fact, "C5", f"no conversation can be made of it: {error}")

    def _begin(self, fact: Event) -> None:
        if self._open is not None:
            self._tell(fact, "C1", f"run {self._open.run_id} has no end, and another begins")
        if fact.run_id in self.runs:
            self._tell(fact, "C1", "this run has begun before")
        self._open = self.runs[fact.run_id] = RunFacts(fact)

    def _belongs(self, fact: Event) -> bool:
        run = self._open
        if run is not None and run.run_id == fact.run_id:
            return True
        if fact.run_id in self.runs:
            what = "a second end" if fact.type == "run.end" else f"a {fact.type}"
            self._tell(fact, "C1", f"{what} of a run that is over")
        else:
            self._tell(fact, "order", "its run has not begun")
        return False

    def _tell(self, fact: Event, rule: str, what: str) -> None:
        self.found.append(Finding(fact.seq or 0, rule, fact.run_id, what))


class RunFacts:
    """What the facts of one run have said so far."""

    def __init__(self, start: Event) -> None:
        self.run_id = start.run_id
        self.start = start
        self.end: Event | None = None
        self.cost_nano = 0
        self.below_nano = 0
        """The part of it that child runs have spent."""
        self._usage: dict[str, int] = {}
        self.turns = 0
        """Iterations with a model call."""
        self._raised: list[Mapping[str, JSON]] = []
        self._iteration = 0
        self._over = False
        """Whether the iteration has ended."""
        self._calls = 0
        """Tool calls of the iteration's reply."""
        self._seen: set[tuple[str, str]] = set()
        """Kind and key of the iteration's facts."""

    @classmethod
    def of(cls, facts: Sequence[Event]) -> RunFacts:
        """Take all facts of a run, the first of them its run.start, whatever is wrong with them."""
        self = cls(facts[0])
        for fact in facts[1:]:
            list(self.take(fact))
        return self

    def take(self, fact: Event) -> Iterator[tuple[str, str]]:
        """The violations of the next fact of the run, each with its rule."""
        data = fact.data
        yield from self._place(fact)
        if fact.type != "run.end":
            self._count(data)
        key = str(data.get("key", ""))
        if fact.type not in ("run.suspended", "run.end") and not key.startswith(ABANDONED):
            if (fact.type, key) in self._seen:
                yield "C3", f"a second {fact.type} of {_named(fact.type, key)}"
            self._seen.add((fact.type, key))
        match fact.type:
            case "model.intent":
                self.turns = max(self.turns, fact.iteration + 1)
            case "model.reply":
                if ("model.intent", key) not in self._seen:
                    yield "C2", "a reply to a model call that no intent tells of"
                if "error" not in data:
                    self._calls = len(uses_of(data))
            case "tool.intent" | "tool.result":
                if not key.isdecimal() or len(key) > 9 or int(key) >= self._calls:
                    yield "C3", f"the reply of its turn has no call {key!r}"
                elif fact.type == "tool.result" and not self._announced(key, data):
                    yield "C2", f"a result of call {key} that no intent tells of"
            case "effect" if key.startswith(RAISED):
                self._raised.append(data)
            case "run.end":
                self.end = fact
                yield from self._sums(data)
            case _:
                pass

    def raised(self, limits: Limits) -> Limits:
        """The limits that it began with, including raises."""
        for data in self._raised:
            limits = raised(limits, data)
        return limits

    @property
    def tokens(self) -> dict[str, JSON]:
        """The usage of all of them, in the form of run.end."""
        return {name: number for name, number in self._usage.items() if number}

    def _announced(self, key: str, data: Mapping[str, JSON]) -> bool:
        # read-only and refused calls have their hash in the result instead
        not_run = data.get("error") == ExecutorErrorCode.EXEC_TOOL_NOT_RUN.value
        return ("tool.intent", key) in self._seen or "hash" in data or not_run

    def _place(self, fact: Event) -> Iterator[tuple[str, str]]:
        if fact.iteration not in (self._iteration, self._iteration + 1):
            yield "order", f"turn {fact.iteration + 1} comes after turn {self._iteration + 1}"
        if fact.iteration != self._iteration:
            self._iteration = fact.iteration
            self._seen.clear()
            self._calls, self._over = 0, False
        if self._over and fact.type.startswith(("model.", "tool.")):
            yield "order", f"a {fact.type} after the end of its turn"
        self._over = self._over or fact.type == "iteration.end"

    def _count(self, data: Mapping[str, JSON]) -> None:
        cost, usage = whole(data.get("cost")), data.get("usage")
        self.cost_nano += cost
        self.below_nano += cost if "runs" in data else 0
        for name, number in fields_of(usage).items():
            if isinstance(number, int) and 0 <= number < MOST:
                self._usage[name] = self._usage.get(name, 0) + number

    def _sums(self, data: Mapping[str, JSON]) -> Iterator[tuple[str, str]]:
        if data.get("cost") != self.cost_nano:
            yield "C10", f"cost {data.get('cost')}, its facts come to {self.cost_nano}"
        if data.get("usage") != self.tokens:
            yield "C10", f"usage {data.get('usage')}, its facts come to {self.tokens}"
        turns = data.get("iterations")
        if not isinstance(turns, int) or not self.turns <= turns <= self._iteration + 1:
            yield "C10", f"{turns} turns, its facts tell of {self.turns}"


def _named(kind: str, key: str) -> str:
    if kind == "iteration.end":
        return "one turn"
    return f"call {key}" if key.isdecimal() else repr(key)
