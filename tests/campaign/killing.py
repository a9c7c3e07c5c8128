"""Kills a process of agents again and again, at moments drawn from a seed, and keeps what can be
audited afterwards: the marks, and a copy of what the journal held after each death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import apsw

from lorimer.core.events import Event
from lorimer.journal import SQLiteJournal
from lorimer.journal.codec import length
from lorimer.journal.schema import STREAM_BITS
from lorimer.testing.audit import Evidence, Report, Seen, audit
from lorimer.testing.marks import Mark, read_marks
from tests.campaign.worker_process import Order
from tests.campaign.workers import Pace

ROOT = Path(__file__).parents[2]
MARK_BYTES = 110
"""Of a line in the log, about."""
PATIENCE_S = 120.0


class Spawned:
    """A process that is ready to work, and is told when and on what."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        with errors.open("ab") as sink:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.campaign.worker_process"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
            )

    def go(self, order: Order) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdout.readline()  # it has imported what it needs
        self._child.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        self._child.stdin.flush()

    @property
    def over(self) -> bool:
        return self.status is not None

    @property
    def status(self) -> int | None:
        return self._child.poll()

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self._child.kill()
        self.wait()

    def wait(self, seconds: float = PATIENCE_S) -> int:
        try:
            return self._child.wait(seconds)
        finally:
            if self._child.poll() is not None:
                for pipe in (self._child.stdin, self._child.stdout):
                    if pipe is not None:
                        pipe.close()


class Copy:
    """What the journal held after each death, read past the journal's own code."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[int, str] = {}
        self._heads: dict[int, int] = {}
        self.seen = Seen()

    def take(self, life: int) -> None:
        """Read what is new. Raises AssertionError for a file that is damaged."""
        db = apsw.Connection(str(self._path))
        # what the dead process left in the log is for the next one to find, not for us to tidy up
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        heads: dict[str, int] = {}
        for stream, name in db.execute("SELECT id, name FROM streams").fetchall():
            low = stream << STREAM_BITS
            last = self._heads.get(stream, low)
            new = db.execute(
                "SELECT at, body FROM facts WHERE at>? AND at<? ORDER BY at",
                (last, low + (1 << STREAM_BITS)),
            ).fetchall()
            if new:
                self.rows.update(new)
                at, body = new[-1]
                self._heads[stream] = at
                first = at - low
                heads[name] = first - 1 + length(body, first, name)
        db.close()
        self.seen.note(life, heads)

    def compare(self) -> None:
        """Nothing of what was there has gone or changed."""
        db = apsw.Connection(str(self._path))
        assert db.execute("PRAGMA integrity_check").get == "ok"
        there = dict(db.execute("SELECT at, body FROM facts").fetchall())
        db.close()
        lost = [at for at, body in self.rows.items() if there.get(at) != body]
        assert not lost, f"{len(lost)} rows of facts were there and are not: {lost[:10]}"


@dataclass
class Kills:
    """How often, and how."""

    seed: int
    kills: int
    agents: int
    effects: int
    """Of tools, at least."""
    pace: Pace
    marks: tuple[int, int] = (20, 2000)
    """After how many marks of a life it is killed, where it is not killed at its start."""

    def run(self, folder: Path) -> Campaign:
        """Kill, until all kills are made, and let the last process bring all to an end."""
        dice = Random(self.seed)
        copy = Copy(folder / "journal.db")
        spare = Spawned(folder / "errors")
        log = folder / "marks"
        log.touch()
        began = time.monotonic()
        for life in range(self.kills):
            child, spare = spare, Spawned(folder / "errors")
            try:
                kind = dice.choices(("start", "work", "commit"), (0.15, 0.5, 0.35))[0]
                if life == 0:
                    kind = "work"
                self._one(kind, dice, child, life, folder)
            except BaseException:
                child.kill()
                spare.kill()
                raise
            copy.take(life)
        try:
            self._finish(spare, folder)
        finally:
            spare.kill()
        copy.take(self.kills)
        copy.compare()
        return Campaign(folder, copy, read_marks(log), time.monotonic() - began)

    def _one(self, kind: str, dice: Random, child: Spawned, life: int, folder: Path) -> None:
        log = folder / "marks"
        size = log.stat().st_size + dice.randint(*self.marks) * MARK_BYTES
        die_at = 2 + int(2 ** dice.uniform(0, 10)) if kind == "commit" else 0
        child.go(self._order(folder, life, die_at))
        if kind == "start":
            time.sleep(dice.uniform(0, 0.25))
            return child.kill()
        until = time.monotonic() + PATIENCE_S
        while not child.over and (kind == "commit" or log.stat().st_size < size):
            assert time.monotonic() < until, f"process {life} makes no progress"
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.003))
        assert child.status in (None, -signal.SIGKILL), f"process {life} failed: {_said(folder)}"
        return child.kill()

    def _finish(self, child: Spawned, folder: Path) -> None:
        child.go(self._order(folder, self.kills, 0))
        until = time.monotonic() + PATIENCE_S
        while _ended(folder / "marks") < self.effects:
            assert time.monotonic() < until and not child.over, f"no progress: {_said(folder)}"
            time.sleep(0.2)
        (folder / "enough").touch()
        assert child.wait() == 0, f"the last process did not end well: {_said(folder)}"

    def _order(self, folder: Path, life: int, die_at: int) -> Order:
        pace = [self.pace.turns, self.pace.model_s, self.pace.runs, self.pace.slow]
        return Order(str(folder), life, self.seed, self.agents, pace, die_at=die_at)


def _said(folder: Path) -> str:
    """The last words of a process that should not have had any."""
    return (folder / "errors").read_text()[-1500:]


def _ended(log: Path) -> int:
    """Tool calls that ended, so far."""
    lines = log.read_bytes().splitlines()
    return sum(line.startswith(b'["end"') and b'"model"' not in line for line in lines)


@dataclass
class Campaign:
    """What is left when all is over."""

    folder: Path
    copy: Copy
    marks: Sequence[Mark]
    seconds: float

    async def evidence(self) -> list[Evidence]:
        """Every run, as the journal has it."""
        journal = SQLiteJournal(self.folder / "journal.db")
        streams: dict[str, list[Event]] = {}
        found: list[Evidence] = []
        try:
            for row in await journal.runs(limit=1_000_000):
                if row.stream not in streams:
                    streams[row.stream] = [fact async for fact in journal.read(row.stream)]
                facts = [fact for fact in streams[row.stream] if fact.run_id == row.run_id]
                balance = await journal.balance(row.run_id)
                found.append(Evidence(row.run_id, row.stream, facts, balance))
        finally:
            await journal.close()
        return found

    def audit(self, runs: Sequence[Evidence]) -> Report:
        report = audit(runs, self.marks, self.copy.seen)
        for evidence in runs:
            report.violations += wrong_answers(evidence)
        twice = _twice(self.marks)
        report.violations += [f"unsafe, and begun {n} times: {what}" for what, n in twice]
        return report


def wrong_answers(evidence: Evidence) -> list[str]:
    """Results that answer another call than their own: each names what it was asked."""
    asked: dict[tuple[int, int], str] = {}
    wrong: list[str] = []
    for fact in evidence.facts:
        if fact.type == "model.reply":
            calls = [block for block in fact.data["content"] if block["type"] == "tool_use"]  # type: ignore[union-attr,index,call-overload]
            for index, call in enumerate(calls):
                asked[fact.iteration, index] = call["input"]["n"]  # type: ignore[index,call-overload]
        elif fact.type == "tool.result":
            n = asked[fact.iteration, int(str(fact.data["key"]))]
            content = str(fact.data["content"])
            told = "exec.tool.outcome_unknown" in content
            if not told and not content.endswith((f"done {n}", f"no {n}")):
                wrong.append(f"run {evidence.run}: {n} was answered with {content!r}")
    return wrong


def _twice(marks: Sequence[Mark]) -> list[tuple[str, int]]:
    """Unsafe effects that were begun more than once, by their arguments: each has its own."""
    counts: dict[str, int] = {}
    for mark in marks:
        if mark.edge == "begin" and mark.safety == "unsafe":
            counts[mark.effect] = counts.get(mark.effect, 0) + 1
    return [(what, n) for what, n in counts.items() if n > 1]
