"""One notebook: edits, each replayed and held against a full run of the edited steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.notebooks.edits import edits
from benchmarks.notebooks.place import Place, apart
from benchmarks.notebooks.plain import Full, difference, full
from benchmarks.notebooks.prepare import Notebook
from benchmarks.notebooks.strategies import After, Live, Tracked, analyses

OURS = "lorimer"
_PLAIN = 4
"""Plain runs: what differs between them is not compared."""


@dataclass(slots=True)
class Edit:
    """One edit, and what each strategy made of it."""

    at: int
    text: str
    minimal: int
    sound: dict[str, bool] = field(default_factory=dict[str, bool])
    executed: dict[str, int] = field(default_factory=dict[str, int])
    wrong: str = ""
    """What ours got wrong."""
    unavoidable: int = 1
    """As `minimal`, with later steps that read a name whose value is another."""
    surplus: list[int] = field(default_factory=list[int])
    """Steps that ours ran although a full run shows no difference in them."""


@dataclass(slots=True)
class Measured:
    """A notebook."""

    edits: list[Edit] = field(default_factory=list[Edit])
    unfaithful: str = ""
    """What the session's first run, without any edit, shows otherwise than a plain run."""
    excluded: int = 0
    """Outputs and names that differ between plain runs."""
    trouble: list[str] = field(default_factory=list[str])
    cpu_plain_s: float = 0.0


def measure(book: Notebook, place: Place, count: int, seed: int, limit_s: float) -> Measured | str:
    """So many edits; those whose full run raises are passed over."""
    truth = _Truth(book.run)
    for _ in range(_PLAIN - 1):
        place.fresh()
        again = full(book.steps, place, limit_s)
        if isinstance(again, str):
            return again
        truth.compare(again)
    found = Measured(excluded=truth.excluded, cpu_plain_s=book.run.cpu_s)
    chosen = list[tuple[Edit, Full]]()
    for at, text in edits(book.steps, seed)[: 3 * count]:
        if len(chosen) == count:
            break
        place.fresh()
        run = full([*book.steps[:at], text, *book.steps[at + 1 :]], place, limit_s)
        if not isinstance(run, str) and not run.failed:
            chosen.append((Edit(at, text, 1 + len(truth.later(at, run))), run))
    makers: dict[str, Callable[[], Tracked | Live]] = {OURS: lambda: Tracked(book.steps)}
    for name, analysis in analyses().items():
        makers[name] = lambda analysis=analysis: Live(book.steps, analysis)
    for name, make in makers.items():
        told = _replays(name, make, chosen, truth, place, limit_s)
        if isinstance(told, str):
            found.trouble.append(f"{name}: {told}")
            for edit, _ in chosen:
                edit.sound[name], edit.executed[name] = False, len(book.steps)
        elif name == OURS:
            found.unfaithful = told["unfaithful"]
    found.edits = [edit for edit, _ in chosen]
    return found


def _replays(
    name: str,
    make: Callable[[], Tracked | Live],
    chosen: list[tuple[Edit, Full]],
    truth: _Truth,
    place: Place,
    limit_s: float,
) -> dict[str, str] | str:
    """Fill in what a strategy makes of the edits: one full run, then each edit in a fork of it."""

    def work() -> dict[str, object]:
        strategy = make()
        place.keep()
        unfaithful = ""
        if isinstance(strategy, Tracked):
            now = apart(lambda: asdict(strategy.now()), place, limit_s)
            unfaithful = now if isinstance(now, str) else truth.wrong(After(**now), truth.run)
        told = list[object]()
        for edit, _ in chosen:
            place.again()
            told.append(apart(lambda e=edit: asdict(strategy.edited(e.at, e.text)), place, limit_s))
        return {"unfaithful": unfaithful, "told": told}

    place.fresh()
    found = apart(work, place, limit_s * (2 + len(chosen)))
    if isinstance(found, str):
        return found
    for (edit, run), told in zip(chosen, found["told"], strict=True):
        if isinstance(told, str):
            wrong, executed = told, [edit.at]
        else:
            after = After(**told)
            wrong, executed = truth.wrong(after, run), after.executed
        executed = [each for each in executed if each == edit.at or each not in truth.unsteady]
        edit.sound[name], edit.executed[name] = not wrong, len(executed)
        if name == OURS:
            edit.wrong = wrong
            needed = {edit.at, *truth.later(edit.at, run)}
            edit.unavoidable = len(needed | truth.fed(edit.at, run, told)) if not wrong else 1
            edit.surplus = [each for each in executed if each not in needed]
    return {"unfaithful": found["unfaithful"]}


class _Truth:
    """A plain run, without what other plain runs do otherwise."""

    def __init__(self, run: Full) -> None:
        self.run = run
        self._outputs, self._names = set[int](), set[str]()
        self.unsteady = set[int]()
        """Steps that do not do the same in each run: who knows if they have to run again."""

    def compare(self, again: Full) -> None:
        """Another plain run."""
        run = self.run
        self._outputs |= {n for n, text in enumerate(run.outputs) if text != again.outputs[n]}
        self._names |= {name for name, d in run.final.items() if again.final.get(name) != d}
        for one, two in zip(run.changed, again.changed, strict=True):
            self._names |= {
                name for name in one.keys() | two.keys() if one.get(name) != two.get(name)
            }
        self.unsteady = self._outputs | {
            n for n, changed in enumerate(run.changed) if not self._names.isdisjoint(changed)
        }

    @property
    def excluded(self) -> int:
        """Outputs and names that are not compared."""
        return len(self._outputs) + len(self._names)

    def later(self, at: int, edited: Full) -> list[int]:
        """Steps after the edited one whose output or changed values are others."""
        return [
            n
            for n in range(at + 1, len(self.run.outputs))
            if n not in self.unsteady
            and (
                edited.outputs[n] != self.run.outputs[n] or edited.changed[n] != self.run.changed[n]
            )
        ]

    def fed(self, at: int, edited: Full, told: dict[str, Any]) -> set[int]:
        """Steps after the edited one that read a name whose value is another there."""
        was, is_, found = dict[str, str](), dict[str, str](), set[int]()
        for n, (one, two) in enumerate(zip(self.run.changed, edited.changed, strict=True)):
            other = {name for name in difference(was, is_) if name not in self._names}
            if n > at and n not in self.unsteady and not other.isdisjoint(told["reads"][n]):
                found.add(n)
            was.update(one)
            is_.update(two)
        return found

    def wrong(self, after: After, right: Full) -> str:
        """What is not as in the full run; empty: nothing."""
        outputs = [
            f"output of {n}: {text[:200]!r}, not {right.outputs[n][:200]!r}"
            for n, text in enumerate(after.outputs)
            if text != right.outputs[n] and n not in self._outputs
        ]
        is_, should = self._kept(after.final), self._kept(right.final)
        names = [n for n in sorted(is_.keys() | should.keys()) if is_.get(n) != should.get(n)]
        detail = f" ({is_['=']} not {should['=']})" if "=" in names else ""
        return "; ".join(outputs[:3] + ([f"names: {names}{detail}"] if names else []))

    def _kept(self, digests: dict[str, str]) -> dict[str, str]:
        return {name: each for name, each in digests.items() if name not in self._names}
