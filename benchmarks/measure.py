"""Runs cases in processes of their own, in turn, round after round."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

from benchmarks.budgets import Case, Line
from benchmarks.scale import Figures, NotHere

ROOT: Final = Path(__file__).parent.parent

Found: TypeAlias = dict[Case, list[Figures]]
"""The figures of each case, one for each round."""


class CaseFailed(Exception):
    """A case raised, or did not do what it should have; its traceback went to standard error."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to go by."""
        return median(self.values)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a line came to."""

    line: Line
    ours: Spread | None = None
    floors: dict[str, Spread] = field(default_factory=dict[str, Spread])
    ratio: Spread | None = None
    """To the last floor, round by round: what both shared of the machine's noise cancels out."""
    failed: str = ""
    """What went wrong."""
    skipped: str = ""
    """Why it was not measured."""

    @property
    def within(self) -> bool | None:
        """Within the budget; None: there is no figure or no budget."""
        line = self.line
        if self.ours is None:
            return None
        if line.most is not None:
            return self.ours.median <= line.most
        if line.most_times is not None and self.ratio is not None:
            return self.ratio.median <= line.most_times
        return None


class Worker:
    """A process that measures what it is told to; see worker.py."""

    def __init__(self, scale: str) -> None:
        source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", scale],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, case: Case) -> Figures:
        """Raises CaseFailed, and NotHere where the case cannot be measured."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(f"{case.function}\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise CaseFailed(f"{case.function} failed")
        figures = json.loads(answer)
        if isinstance(figures, str):
            raise NotHere(figures)
        return dict[str, float](figures)

    def close(self) -> None:
        """End the process."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def measure(
    lines: Sequence[Line], rounds: int, scale: str, tell: Callable[[str], None]
) -> list[Outcome]:
    """Measure the lines, group after group. `tell` hears what is being done."""
    # as an installed package has it; else row 9 is how long it takes to compile
    compileall.compile_dir(ROOT / "src", quiet=2)
    outcomes: list[Outcome] = []
    for group in dict.fromkeys(line.group for line in lines):
        of_group = [line for line in lines if line.group == group]
        try:
            found = _rounds(of_group, 1 if of_group[0].downloads else rounds, scale, tell)
        except CaseFailed as failure:
            outcomes += [Outcome(line, failed=str(failure)) for line in of_group]
        except NotHere as reason:
            outcomes += [Outcome(line, skipped=str(reason)) for line in of_group]
        else:
            outcomes += [_outcome(line, found) for line in of_group]
    return sorted(outcomes, key=lambda outcome: lines.index(outcome.line))


def _rounds(lines: Sequence[Line], rounds: int, scale: str, tell: Callable[[str], None]) -> Found:
    cases = list(dict.fromkeys(case for line in lines for case in (line.ours, *line.floors)))
    found: Found = {case: [] for case in cases}
    workers: dict[str, Worker] = {}
    try:
        for number in range(rounds):
            for case in cases:
                tell(f"round {number + 1} of {rounds}: {case.function}")
                if case.fresh:
                    worker = Worker(scale)
                    try:
                        found[case].append(worker.measure(case))
                    finally:
                        worker.close()
                else:
                    if case.by not in workers:
                        workers[case.by] = Worker(scale)
                    found[case].append(workers[case.by].measure(case))
    finally:
        for worker in workers.values():
            worker.close()
    return found


def _outcome(line: Line, found: Found) -> Outcome:
    def spread(case: Case) -> Spread:
        return Spread(tuple(figures[line.figure] for figures in found[case]))

    ours = spread(line.ours)
    floors = {case.by: spread(case) for case in line.floors}
    if not floors:
        return Outcome(line, ours)
    last = floors[line.floors[-1].by]
    ratios = [own / floor for own, floor in zip(ours.values, last.values, strict=True)]
    return Outcome(line, ours, floors, Spread(tuple(ratios)))
