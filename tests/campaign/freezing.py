"""Freezes the owner of live runs, lets another process take them over, and wakes it up again.

The first process (life 0) does not know that it was gone. Its claims have run out, and the second
(life 1) has made them its own: from then on nothing that the first one says may be recorded, and
it may begin nothing but what it had announced before.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import apsw

from lorimer.journal.sqlite.faults import LOCKED
from lorimer.testing.audit import Report, Seen, audit
from lorimer.testing.marks import Mark, read_marks
from tests.campaign.killing import evidence, wrong_answers
from tests.campaign.processes import PATIENCE_S, Parent
from tests.campaign.worker_process import Order
from tests.campaign.workers import Pace

CLAIM_S = 0.3
AGENTS = 6
PACE = Pace(turns=(3, 9), model_s=(0.005, 0.06), slow=0.2)


@dataclass
class Frozen:
    """What trials have shown."""

    reports: list[Report] = field(default_factory=list[Report])
    taken_over: int = 0
    """Runs."""
    in_commit: int = 0
    """Times that the owner was frozen while it wrote: nobody else could write then, so it was let
    go on and frozen again."""
    late: Counter[str] = field(default_factory=Counter[str])
    """Effects that the first owner began after it had lost the run, by safety class."""

    def add(self, other: Frozen) -> None:
        self.reports += other.reports
        self.taken_over += other.taken_over
        self.in_commit += other.in_commit
        self.late += other.late


def trial(seed: int, first: Parent, second: Parent, folder: Path) -> Frozen:
    """One owner frozen at a moment drawn from the seed. Its report may hold violations."""
    dice = Random(seed)
    log = folder / "marks"
    log.touch()
    out = Frozen()
    order = Order(str(folder), 0, seed, AGENTS, PACE, "first", CLAIM_S)
    first.start(order)
    marks = dice.randint(10, 250)
    _until(lambda: _lines(log) >= marks, first)
    time.sleep(dice.uniform(0, 0.005))
    with frozen(first, folder / "journal.db", dice) as tries:
        out.in_commit = tries
        (folder / "enough").touch()
        second.start(Order(str(folder), 1, seed, AGENTS, PACE, "second", CLAIM_S))
        if dice.random() < 0.5:  # wake up in the middle of the other's work
            _until(lambda: b'"resumed"' in log.read_bytes() or second.status is not None, second)
            time.sleep(dice.uniform(0, 0.2))
        else:
            assert second.wait() == 0, second.said()
    assert first.wait() == 0, first.said()
    assert second.wait() == 0, second.said()
    _look(folder, read_marks(log), out)
    return out


def _look(folder: Path, marks: list[Mark], out: Frozen) -> None:
    runs = asyncio.run(evidence(folder / "journal.db"))
    taken = {mark.run: int(mark.effect) for mark in marks if mark.edge == "resumed"}
    out.taken_over = len(taken)
    seen = Seen()
    for run in sorted(runs, key=lambda run: run.facts[0].seq or 0):
        head = run.facts[-1].seq or 0
        seen.note(0, {run.stream: head})
        if run.run in taken:
            seen.forget(run.stream)
            seen.note(0, {run.stream: (run.facts[0].seq or 0) - 1 + taken[run.run]})
            seen.note(1, {run.stream: head})
    report = audit(runs, marks, seen)
    for run in runs:
        report.violations += wrong_answers(run)
    lost: set[str] = set()
    for mark in marks:
        if mark.edge == "resumed":
            lost.add(mark.run)
        elif mark.edge == "begin" and mark.life == 0 and mark.run in lost:
            out.late[mark.safety] += 1
    out.reports.append(report)


@contextmanager
def frozen(parent: Parent, journal: Path, dice: Random) -> Iterator[int]:
    """The worker stands still, but not while it holds the file's lock; yields how often that was
    so at first."""
    tries = 0
    while True:
        parent.freeze()
        if _writable(journal):
            break
        tries += 1
        parent.signal(signal.SIGCONT)
        time.sleep(dice.uniform(0, 0.01))
    try:
        yield tries
    finally:
        parent.signal(signal.SIGCONT)


def _writable(journal: Path) -> bool:
    db = apsw.Connection(str(journal))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
    except LOCKED:
        return False
    finally:
        db.close()
    return True


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")


def _until(true: Callable[[], bool], parent: Parent) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert parent.status is None, f"a worker ended too early: {parent.said()}"
        assert time.monotonic() < until, "a worker makes no progress"
        time.sleep(0.001)
