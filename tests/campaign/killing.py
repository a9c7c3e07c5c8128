"""Kills a process of agents again and again, at moments drawn from a seed, and keeps what can be
audited afterwards: the marks, and a copy of what the journal held after each death."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from lorimer.core.context import Safety
from lorimer.core.events import Event
from lorimer.journal import SQLiteJournal
from lorimer.journal.codec import length
from lorimer.journal.sqlite.schema import STREAM_BITS
from lorimer.journal.verify import verify
from lorimer.testing.audit import Report, Seen, audit
from lorimer.testing.marks import Mark, read_marks
from lorimer.testing.recorded import Evidence
from tests.campaign.processes import PATIENCE_S, Parent
from tests.campaign.worker_process import Order
from tests.campaign.workers import Pace

MARK_BYTES = 110
"""Of a line in the log, about."""


class Copy:
    """What the journal held after each death, read past the journal's own code."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[int, str] = {}
        self._heads: dict[int, int] = {}
        self.seen = Seen()
        self.gone_on = 0
        """Sessions that had compacted rows and new ones at a death."""

    def take(self, life: int) -> None:
        """Read what is new since the last time."""
        if not self._path.exists():
            return
        db = apsw.Connection(str(self._path))
        # what the dead process left in the log is for the next one to find, not for us to tidy up
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        heads: dict[str, int] = {}
        begun = db.execute("SELECT 1 FROM sqlite_schema WHERE name='streams'").fetchall()
        streams = db.execute("SELECT id, name FROM streams").fetchall() if begun else []
        for stream, name in streams:
            low = stream << STREAM_BITS
            last = self._heads.get(stream, low)
            new = rows_of(db, last + 1, low + (1 << STREAM_BITS) - 1)
            if new:
                self.rows.update(new)
                at, body = new[-1]
                self._heads[stream] = at
                first = at - low
                heads[name] = first - 1 + length(body, first, name)
        if begun:
            self.gone_on += db.execute(
                "SELECT count(DISTINCT at>>32) FROM facts"
                " WHERE at>>32 IN (SELECT at>>32 FROM blocks)"
            ).get
        db.close()
        self.seen.note(life, heads)

    def compare(self) -> None:
        """Nothing of what was there has gone or changed."""
        db = apsw.Connection(str(self._path))
        assert db.execute("PRAGMA integrity_check").get == "ok"
        rows = rows_of(db, 0, 2**63 - 1)
        there = dict(rows)
        assert len(there) == len(rows), "a row is there twice: in a block, and plain"
        db.close()
        lost = [at for at, body in self.rows.items() if there.get(at) != body]
        assert not lost, f"{len(lost)} rows of facts were there and are not: {lost[:10]}"


def rows_of(db: apsw.Connection, first: int, last: int) -> list[tuple[int, str]]:
    """The rows of facts between two places, those in blocks too, in order."""
    rows = db.execute("SELECT at, body FROM facts WHERE at BETWEEN ? AND ?", (first, last))
    found: list[tuple[int, str]] = rows.fetchall()
    query = "SELECT at, body FROM blocks WHERE last>=? AND at<=?"
    for at, body in db.execute(query, (first, last)):
        counts, *lines = zlib.decompress(body).decode().split("\n")
        for facts, line in zip(json.loads(counts), lines, strict=True):
            if first <= at <= last:
                found.append((at, line))
            at += facts
    return sorted(found)


@dataclass
class Kills:
    """How often, and how."""

    seed: int
    kills: int
    agents: int
    effects: int
    """Of tools, at least."""
    pace: Pace
    marks: tuple[int, int] = (20, 3000)
    """After how many marks of a life it is killed, where it is not killed at its start."""
    writes: int = 16
    """At which write or sync of its journal's files after that it is killed, at most, where it is
    to die in the middle of a commit."""
    compact: bool = False
    """What is over is compacted meanwhile, and it dies in the middle of that, too."""

    def run(self, folder: Path) -> Campaign:
        """Kill, until all kills are made, and let the last process bring all to an end."""
        dice = Random(self.seed)
        copy = Copy(folder / "journal.db")
        log = folder / "marks"
        log.touch()
        began = time.monotonic()
        kinds: list[str] = []
        with Parent(folder / "errors") as parent:
            for life in range(self.kills):
                kinds.append(dice.choices(*self._kinds())[0])
                self._one(kinds[life], dice, parent, life, folder)
                copy.take(life)
            self._finish(parent, folder)
        copy.take(self.kills)
        copy.compare()
        return Campaign(folder, copy, read_marks(log), kinds, time.monotonic() - began)

    def _kinds(self) -> tuple[Sequence[str], Sequence[float]]:
        if self.compact:
            return ("start", "work", "commit", "compact"), (0.1, 0.25, 0.15, 0.5)
        return ("start", "work", "commit"), (0.15, 0.55, 0.3)

    def _one(self, kind: str, dice: Random, parent: Parent, life: int, folder: Path) -> None:
        log = folder / "marks"
        marks, at = dice.randint(*self.marks), dice.randint(1, self.writes)
        size = log.stat().st_size + marks * MARK_BYTES
        order = self._order(folder, life)
        if kind == "commit":  # a third of them while it begins
            order.die_after, order.die_at = marks * (dice.random() > 0.3), at
        elif kind == "compact":
            order.die_compacting = at
        parent.start(order)
        if kind == "start":
            time.sleep(dice.uniform(0, 0.25))
        elif kind == "work":
            until = time.monotonic() + PATIENCE_S
            while parent.status is None and log.stat().st_size < size:
                assert time.monotonic() < until, f"process {life} makes no progress"
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.003))
        else:
            parent.wait()
        assert parent.status in (None, -signal.SIGKILL), f"process {life}: {parent.said()}"
        parent.kill()

    def _finish(self, parent: Parent, folder: Path) -> None:
        parent.start(self._order(folder, self.kills))
        until = time.monotonic() + PATIENCE_S
        while _ended(folder / "marks") < self.effects:
            assert parent.status is None, f"the last process: {parent.said()}"
            assert time.monotonic() < until, "the last process makes no progress"
            time.sleep(0.2)
        (folder / "enough").touch()
        assert parent.wait() == 0, f"the last process did not end well: {parent.said()}"

    def _order(self, folder: Path, life: int) -> Order:
        return Order(str(folder), life, self.seed, self.agents, self.pace, compact=self.compact)


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
    kinds: Sequence[str]
    """How each process died: at its `start`, in its `work`, in the middle of a `commit`."""
    seconds: float

    def audit(self) -> Report:
        runs = asyncio.run(evidence(self.folder / "journal.db"))
        report = audit(runs, self.marks, self.copy.seen)
        for run in runs:
            report.violations += wrong_answers(run)
        report.violations += asyncio.run(unverified(self.folder / "journal.db"))
        report.violations += begun_twice(self.marks)
        return report

    def summary(self, report: Report) -> str:
        """The figures, with the re-runs of idempotent effects by the kind of death."""
        lines = [f"{len(self.kinds)} kills in {self.seconds:.0f} s; {report}"]
        rerun = [mark for mark in report.repeated if mark.safety == Safety.IDEMPOTENT.value]
        for kind in sorted(set(self.kinds)):
            mine = [mark for mark in rerun if self.kinds[mark.life] == kind]
            ended = sum(mark.edge == "end" for mark in mine)
            done = sum(
                mark.edge == "begin" and bool(mark.key) and self._died(mark.life) == kind
                for mark in self.marks
            )
            lines.append(
                f"killed in {kind} ({self.kinds.count(kind)} times): of {done} effects "
                f"{len(mine)} idempotent ones were run again ({len(mine) / max(done, 1):.3%}), "
                f"{ended} of them although they had ended ({ended / max(done, 1):.3%})"
            )
        share = len(rerun) / max(report.total, 1)
        each = len(rerun) / max(len(self.kinds), 1)
        lines.append(
            f"all together: {len(rerun)} of {report.total} effects ({share:.3%}), {each:.2f} a kill"
        )
        return "\n  ".join(lines)

    def _died(self, life: int) -> str:
        return self.kinds[life] if life < len(self.kinds) else ""


async def evidence(path: Path) -> list[Evidence]:
    """Every run in a journal that nobody writes any more."""
    streams: dict[str, list[Event]] = {}
    found: list[Evidence] = []
    async with SQLiteJournal(path) as journal:
        for row in await journal.runs(limit=1_000_000):
            if row.stream not in streams:
                streams[row.stream] = [fact async for fact in journal.read(row.stream)]
            facts = [fact for fact in streams[row.stream] if fact.run_id == row.run_id]
            balance = await journal.balance(row.run_id)
            found.append(Evidence(row.run_id, row.stream, facts, balance, row))
    return found


async def unverified(path: Path) -> list[str]:
    """What `verify` finds in a journal: marks that do not fit, for instance."""
    async with SQLiteJournal(path) as journal:
        latest = {row.stream: row for row in await journal.runs(limit=1_000_000)}
        return [
            f"{row.stream}: {finding}"
            for row in latest.values()
            for finding in await verify(journal, row.run_id)
        ]


def wrong_answers(run: Evidence) -> list[str]:
    """Results that answer another call than their own: each names what it was asked."""
    asked: dict[tuple[int, int], str] = {}
    wrong: list[str] = []
    for fact in run.facts:
        if fact.type == "model.reply":
            calls = [block for block in fact.data["content"] if block["type"] == "tool_use"]  # type: ignore[union-attr,index,call-overload]
            for index, call in enumerate(calls):
                asked[fact.iteration, index] = call["input"]["n"]  # type: ignore[index,call-overload]
        elif fact.type == "tool.result":
            n = asked[fact.iteration, int(str(fact.data["key"]))]
            content = str(fact.data["content"])
            told = "exec.tool.outcome_unknown" in content
            if not told and not content.endswith((f"done {n}", f"no {n}")):
                wrong.append(f"run {run.run}: {n} was answered with {content!r}")
    return wrong


def begun_twice(marks: Sequence[Mark]) -> list[str]:
    """Unsafe effects that were begun more than once, by their arguments: each has its own."""
    unsafe = [m.effect for m in marks if m.edge == "begin" and m.safety == Safety.UNSAFE.value]
    counts = Counter(unsafe).items()
    return [f"unsafe, and begun {count} times: {what}" for what, count in counts if count > 1]
