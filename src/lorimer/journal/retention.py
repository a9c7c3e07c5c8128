"""Compacts and removes old conversations, each as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeAlias

from lorimer.core.journal import ALL_RUNS, Journal, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.journal.family import root_of


@record
class Pruned:
    """What `prune` removed, or would remove."""

    sessions: int
    runs: int
    documents: int
    """Manifests and other documents that no run refers to any more; 0 in a dry run: unknown."""
    unfinished: int
    """Sessions that are old enough but stay, because a run in them has not ended."""
    in_use: int
    """Sessions that are old enough but stay, because a process has them."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return asdict(self)


@record
class Compacted:
    """What `compact` did."""

    sessions: int
    """Sessions that were compressed."""
    runs: int
    """Runs in these."""
    saved: int
    """Bytes saved."""
    unfinished: int
    """Sessions that are old enough but unchanged, because a run in them has not ended."""
    in_use: int
    """Sessions that are old enough but unchanged, because a process has them."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return asdict(self)


Watcher: TypeAlias = Callable[[str, int, int], None]
"""Is notified of what is being done, with which of how many sessions (from 1)."""


async def compact(journal: Journal, *, before: float, watcher: Watcher | None = None) -> Compacted:
    """Store the facts of the sessions whose last run ended before `before` (wall clock, seconds) in
    less space. Nothing else changes: they can be read, verified, replayed, exported, and continued.

    Skips sessions with an unfinished run, and those that a process has. May be interrupted at any
    time without damage. `watcher` is notified of each session. Raises JournalError.
    """
    old, done = _settled(await journal.runs(limit=ALL_RUNS), before)
    names = _watched("compacting", [*reversed(done)], watcher)
    saved = {name: await journal.compact(name, before=before) for name in names}
    smaller = [name for name, gained in saved.items() if gained]
    return Compacted(
        sessions=len(smaller),
        runs=sum([len(done[name]) for name in smaller]),
        saved=sum([gained or 0 for gained in saved.values()]),
        unfinished=len(old) - len(done),
        in_use=sum([gained is None for gained in saved.values()]),
    )


async def prune(
    journal: Journal,
    *,
    before: float,
    keep: int = 0,
    dry_run: bool = False,
    watcher: Watcher | None = None,
) -> Pruned:
    """Remove the sessions whose last run ended before `before` (wall clock, seconds), except those
    of the `keep` latest runs; then the documents that no run refers to any more. The runs of
    sub-agents are removed with the session that they are part of, and never before it: a run that
    is resumed or replayed looks up how its children ended.

    Never removes a session with an unfinished run, or one that a process has. Each session is
    removed in its own transaction, so live runs hardly wait. `watcher` is notified of each session,
    twice. Raises JournalError.
    """
    rows = await journal.runs(limit=ALL_RUNS)  # newest first
    latest = {row.stream for row in rows[:keep]}
    parents: dict[str, RunRow | None] = {}
    latest |= {(await root_of(journal, row, parents)).stream for row in rows[:keep]}
    old, done = _settled([row for row in rows if row.stream not in latest], before)
    names = _watched("looking at", [*reversed(done)], watcher)
    homes = {name: (await root_of(journal, done[name][-1], parents)).stream for name in names}
    own = [name for name, home in homes.items() if name == home]

    async def dropped(names: Sequence[str]) -> list[str]:
        if dry_run:
            return [*names]
        each = _watched("removing", names, watcher)
        return [name for name in each if await journal.drop(name, before=before)]

    gone = await dropped(own)
    roots = set(gone)
    parts = [name for name, home in homes.items() if name != home and home in roots]
    left = await dropped(parts)
    return Pruned(
        sessions=len(gone) + len(left),
        runs=sum(len(done[name]) for name in (*gone, *left)),
        documents=0 if dry_run else await journal.sweep(),
        unfinished=len(old) - len(done),
        in_use=len(own) + len(parts) - len(gone) - len(left),
    )


def _watched(what: str, names: Sequence[str], watcher: Watcher | None) -> Iterator[str]:
    for number, name in enumerate(names, 1):
        if watcher is not None:
            watcher(what, number, len(names))
        yield name


_Sessions: TypeAlias = dict[str, list[RunRow]]


def _settled(rows: Sequence[RunRow], before: float) -> tuple[_Sessions, _Sessions]:
    """The sessions of these runs in which nothing happened since `before`; and those among them
    without an unfinished run."""
    streams: _Sessions = {}
    for row in rows:
        streams.setdefault(row.stream, []).append(row)
    old = {name: runs for name, runs in streams.items() if _last(runs) < before}
    done = {name: runs for name, runs in old.items() if all(run.ended is not None for run in runs)}
    return old, done


def _last(runs: Sequence[RunRow]) -> float:
    """When the last of these runs began or ended."""
    return max([run.started if run.ended is None else run.ended for run in runs])
