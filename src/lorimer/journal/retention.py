"""Removes old conversations from a journal, whole ones only: what is left is as it was written."""

from __future__ import annotations

from collections.abc import Sequence

from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.record import record

_ALL = 2**31


@record
class Pruned:
    """What `prune` removed, or would."""

    sessions: int
    runs: int
    documents: int
    """Manifests and the like that no run names any more; 0 in a dry run: nobody knows yet."""
    unfinished: int
    """Sessions that are old enough and stay, because a run in them has no end."""
    in_use: int
    """Sessions that are old enough and stay, because somebody holds them."""

    def to_json(self) -> dict[str, JSON]:
        """A plain form for other programs."""
        return {
            "sessions": self.sessions,
            "runs": self.runs,
            "documents": self.documents,
            "unfinished": self.unfinished,
            "in_use": self.in_use,
        }


async def prune(journal: Journal, *, before: float, keep: int = 0, dry_run: bool = False) -> Pruned:
    """Remove the sessions whose last run ended before `before` (wall clock, seconds), but for those
    of the `keep` latest runs; then the documents that no run names any more.

    Never removes a session with an unfinished run, or one that somebody holds. Each session goes in
    a transaction of its own, so runs that are going on hardly wait. Raises JournalError.
    """
    rows = await journal.runs(limit=_ALL)  # newest first
    latest = {row.stream for row in rows[:keep]}
    streams: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.stream not in latest:
            streams.setdefault(row.stream, []).append(row)
    old = {name: runs for name, runs in streams.items() if _last(runs) < before}
    done = {name: runs for name, runs in old.items() if all(run.ended is not None for run in runs)}
    gone = [name for name in reversed(done) if dry_run or await journal.drop(name, before=before)]
    return Pruned(
        sessions=len(gone),
        runs=sum(len(done[name]) for name in gone),
        documents=0 if dry_run else await journal.sweep(),
        unfinished=len(old) - len(done),
        in_use=len(done) - len(gone),
    )


def _last(runs: Sequence[RunRow]) -> float:
    """When anything of these runs began or ended last."""
    return max([run.started if run.ended is None else run.ended for run in runs])
