"""Compares a journal with what really happened, as shown by the marks of its effects.

A journal that loses a result still ends every run properly: only counting effects reveals it. So
this examines both, and the contents of the journal after each death of the process (`Seen`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from lorimer.core.context import Safety
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.fact_data import uses_of
from lorimer.testing.marks import MODEL, Mark
from lorimer.testing.recorded import RULES, Evidence, place_of
from lorimer.tools.asking import AGAIN
from lorimer.tools.base import NOT_DONE

UNKNOWN: Final = ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value
SHOWN: Final = 10
"""Violations printed by a failed audit."""


class Seen:
    """Which facts the journal contained when process number 0, 1, 2 ... had died."""

    def __init__(self) -> None:
        self._grown: dict[str, tuple[list[int], list[int]]] = {}

    def note(self, life: int, heads: Mapping[str, int]) -> None:
        """Note after a process's death: the last fact's number of each stream that has grown since
        the previous one. To be called in order of lives."""
        for stream, seq in heads.items():
            seqs, lives = self._grown.setdefault(stream, ([], []))
            seqs.append(seq)
            lives.append(life)

    def forget(self, stream: str) -> None:
        """Drop what was noted about a stream."""
        self._grown.pop(stream, None)

    def life(self, stream: str, seq: int) -> int:
        """The first process after whose death that fact was there. Raises LookupError if it never
        was."""
        seqs, lives = self._grown[stream]
        return lives[bisect_left(seqs, seq)]


@dataclass
class Report:
    """The counts of an audit, and the violations."""

    violations: list[str] = field(default_factory=list[str])
    runs: int = 0
    effects: Counter[str] = field(default_factory=Counter[str])
    """Distinct effects that were begun, by safety class (and `model`)."""
    repeated: list[Mark] = field(default_factory=list[Mark])
    """For each start that had to be repeated: the last mark before its process died. With the edge
    `end` the effect was complete, and only its result was not recorded yet."""
    unknown: int = 0
    """Unsafe effects that were reported to the model as having an unknown outcome."""
    never_begun: int = 0
    """Those of them that had only been announced."""

    @property
    def total(self) -> int:
        """Effects of tools."""
        return sum(self.effects.values()) - self.effects[MODEL]

    def add(self, other: Report) -> None:
        """Add the counts of another report."""
        self.violations += other.violations
        self.runs += other.runs
        self.effects += other.effects
        self.repeated += other.repeated
        self.unknown += other.unknown
        self.never_begun += other.never_begun

    def require(self, hint: str) -> None:
        """Raises AssertionError with the first violations, if there are any, and the hint."""
        if self.violations:
            shown = "\n  ".join(self.violations[:SHOWN])
            raise AssertionError(f"{len(self.violations)} violations\n  {shown}\n{hint}")

    def __str__(self) -> str:
        again = Counter((mark.safety, mark.edge) for mark in self.repeated)
        counted = "; ".join(
            f"{kind}: {count} effects, {again[kind, 'begin']} begun again when cut short, "
            f"{again[kind, 'end']} when ended but not recorded"
            for kind, count in sorted(self.effects.items())
        )
        return (
            f"{self.runs} runs; {counted}; {self.unknown} outcomes told as unknown, "
            f"{self.never_begun} of them never begun"
        )


def audit(
    runs: Iterable[Evidence],
    marks: Sequence[Mark],
    seen: Seen,
    *,
    statuses: Sequence[str] = ("ok",),
    power: bool = False,
) -> Report:
    """Check the contract of docs/durability.md against marks and journal. Every process but the
    last was killed; all runs are over. `power`: they died of a power failure, so only what was
    synced had to survive."""
    report = Report()
    by_run: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        by_run[mark.run].append(mark)
    complain = report.violations.append
    known: set[str] = set()
    for evidence in runs:
        known.add(evidence.run)
        report.runs += 1
        run = _Run(evidence, by_run[evidence.run], seen, report, power)
        for problem in run.problems(statuses):
            complain(f"run {evidence.run}: {problem}")
    for run_id in by_run.keys() - known - {""}:
        complain(f"run {run_id}: its marks are there, but the journal does not know it")
    return report


class _Run:
    """One run under audit."""

    def __init__(
        self,
        evidence: Evidence,
        marks: Sequence[Mark],
        seen: Seen,
        report: Report,
        power: bool,
    ) -> None:
        self.evidence = evidence
        self.marks = marks
        self.report = report
        self.power = power
        self.seen: dict[tuple[str, int, str], int] = {}
        """Kind, iteration and key of each fact → the process after whose death it was there."""
        self.facts: dict[tuple[str, int, str], Event] = {}
        for fact in evidence.facts:
            self.facts[place_of(fact)] = fact
            self.seen[place_of(fact)] = seen.life(evidence.stream, fact.seq or 0)

    def problems(self, statuses: Sequence[str]) -> Iterator[str]:
        for name, rule in RULES.items():
            yield from (f"{name}: {what}" for what in rule(self.evidence))
        end = self.evidence.facts[-1]
        if end.type == "run.end" and end.data.get("status") not in statuses:
            yield f"it ended as {dict(end.data)}"
        yield from self.acknowledged()
        yield from self.results()
        yield from self.effects()

    def acknowledged(self) -> Iterator[str]:
        """What was confirmed to a caller still exists afterwards."""
        promised = {"accepted": "run.start", "over": "run.end"}
        for mark in self.marks:
            kind = promised.get(mark.edge)
            if kind is None:
                continue
            lives = [life for place, life in self.seen.items() if place[0] == kind]
            if not lives or lives[0] > mark.life:
                yield f"process {mark.life} told that it was {mark.edge}; {kind} was not there"

    def results(self) -> Iterator[str]:
        """Each call of a reply has one result, under its own number."""
        for (fact_kind, iteration, _), reply in self.facts.items():
            if fact_kind != "model.reply":
                continue
            calls = uses_of(reply.data)
            told = {key for kind, at, key in self.facts if (kind, at) == ("tool.result", iteration)}
            if told != {str(index) for index in range(len(calls))}:
                yield f"turn {iteration} made {len(calls)} calls and has results {sorted(told)}"

    def effects(self) -> Iterator[str]:
        begins: dict[tuple[int, str, str], list[Mark]] = defaultdict(list)
        ended: set[tuple[int, str, str, int]] = set()
        for mark in self.marks:
            place = (mark.iteration, mark.call, mark.safety)
            if mark.edge == "begin":
                begins[place].append(mark)
            elif mark.edge == "end":
                ended.add((*place, mark.life))
        for place, begun in begins.items():
            yield from self.began(begun)
            self.report.effects[place[2]] += 1
            for before in begun[:-1]:
                edge = "end" if (*place, before.life) in ended else "begin"
                self.report.repeated.append(before._replace(edge=edge))
        found = {
            (mark.iteration, mark.call, mark.life) for mark in self.marks if mark.edge == "found"
        }
        yield from self.unknown(begins, found)
        yield from self.no_key_twice(begins)

    def began(self, begun: Sequence[Mark]) -> Iterator[str]:
        """All starts of one effect."""
        mark = begun[0]
        where = f"{mark.effect or 'model call'} (turn {mark.iteration}, call {mark.call})"
        model = mark.safety == MODEL
        result = ("model.reply" if model else "tool.result", mark.iteration, mark.call)
        recorded = self.seen.get(result)
        for one in begun:
            if recorded is not None and recorded < one.life:
                yield (
                    f"{where}: its result was recorded when process {recorded} died, "
                    f"and process {one.life} ran it again"
                )
            yield from self.covered(one, where)
        if not model:
            lives = Counter(one.life for one in begun)
            yield from (
                f"{where}: process {life} ran it {count} times"
                for life, count in lives.items()
                if count > 1
            )
        unsafe = mark.safety == Safety.UNSAFE.value and not self.not_done(begun)
        if unsafe and len(begun) > 1 + self.agreed(mark.iteration, mark.call):
            yield f"{where}: unsafe, and begun by processes {[one.life for one in begun]}"
        if len({(one.key, one.effect) for one in begun}) > 1:
            yield f"{where}: not the same each time: {[(one.key, one.effect) for one in begun]}"

    def not_done(self, begun: Sequence[Mark]) -> bool:
        """Whether the tool was asked, and reported that it had not taken effect, before it was
        repeated. That is recorded once, however often it was asked."""
        mark = begun[0]
        place = ("effect", mark.iteration, f"reconcile:{mark.call}")
        fact = self.facts.get(place)
        said = fact is not None and fact.data.get("outcome") == NOT_DONE.value
        return said and all(self.seen[place] <= one.life for one in begun[1:])

    def agreed(self, iteration: int, call: str) -> int:
        """How often a person agreed to repeat an interrupted call."""
        return sum(
            kind == "effect"
            and at == iteration
            and key.startswith(f"{AGAIN}:{call}:")
            and fact.data.get("approved") is True
            for (kind, at, key), fact in self.facts.items()
        )

    def covered(self, mark: Mark, where: str) -> Iterator[str]:
        """What an effect depends on is in the journal before the effect begins: its own intent, the
        reply that requested it, and all results before it."""
        if self.power and mark.safety != Safety.UNSAFE.value:
            return
        needed = [("run.start", 0, "")]
        if mark.safety == MODEL:
            needed.append(("model.intent", mark.iteration, mark.call))
            at = mark.iteration - 1
            needed += [
                p for p in self.facts if p[1] == at and p[0] in ("model.reply", "tool.result")
            ]
        else:
            needed.append(("model.reply", mark.iteration, "0"))
            if mark.safety != Safety.READ_ONLY.value:
                needed.append(("tool.intent", mark.iteration, mark.call))
        for place in needed:
            life = self.seen.get(place)
            if life is None or life > mark.life:
                yield (
                    f"{where}: process {mark.life} began it, and {place} was not in the journal "
                    "when that process died"
                )

    def unknown(
        self,
        begins: Mapping[tuple[int, str, str], Sequence[Mark]],
        found: Set[tuple[int, str, int]],
    ) -> Iterator[str]:
        """An unsafe effect without its result is reported to the model as unknown, and no other is;
        if its tool determined the outcome (in a process), that is reported."""
        for place, fact in self.facts.items():
            if place[0] != "tool.result":
                continue
            _, iteration, key = place
            begun = begins.get((iteration, key, Safety.UNSAFE.value), ())
            told = fact.data.get("error") == UNKNOWN
            cut_off = bool(begun) and self.seen[place] > begun[-1].life
            self.report.unknown += told
            self.report.never_begun += told and not begun
            intent = self.seen.get(("tool.intent", iteration, key))
            looked = (iteration, key, self.seen[place]) in found
            dead = intent is not None and intent < self.seen[place]
            if cut_off and not told and not looked:
                yield f"turn {iteration}, call {key}: cut short, and told as {fact.data}"
            if told and not dead:
                yield f"turn {iteration}, call {key}: told as unknown, and no process died in it"

    def no_key_twice(self, begins: Mapping[tuple[int, str, str], Sequence[Mark]]) -> Iterator[str]:
        keys = Counter(begun[0].key for (_, _, kind), begun in begins.items() if kind != MODEL)
        shared = [(key, count) for key, count in keys.items() if count > 1]
        yield from (f"{count} effects had the key {key}" for key, count in shared)
