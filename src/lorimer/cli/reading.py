"""Finds runs in the store, and whether a live process is executing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorimer.cli.fail import Fault
from lorimer.cli.owner import fate, pid_of
from lorimer.cli.text import short_id
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.journal import RunRow
from lorimer.core.jsonable import clean
from lorimer.core.mail import questions
from lorimer.core.manifest import EnvironmentManifest
from lorimer.journal import recording
from lorimer.journal.family import descendants, root_runs

if TYPE_CHECKING:
    from lorimer.core.world import World
    from lorimer.journal.sqlite.store import SQLiteJournal


async def find(journal: SQLiteJournal, run_id: str | None) -> RunRow:
    """The run with that id or unique beginning of one; None: the latest run that is not a child.
    Raises Fault."""
    if run_id is None:
        rows = await root_runs(journal, 1)
        if not rows:
            raise Fault("there are no runs yet", hint="lorimer run, or lorimer demo")
        return rows[0]
    row = await journal.find_run(clean(run_id))  # what was typed may be invalid Unicode
    if row is None:
        raise Fault(
            f"there is no run {run_id!r} in this store",
            code=ExecutorErrorCode.EXEC_RUN_UNKNOWN.value,
            hint="lorimer runs ls",
        )
    return row


async def manifest_of(journal: SQLiteJournal, facts: list[Event]) -> EnvironmentManifest | None:
    """The manifest that a run was started with; None: it is not in the store."""
    data = await recording.manifest_of(journal, facts[0]) if facts else None
    return EnvironmentManifest.from_dict(data) if data is not None else None


def no_manifest(run_id: str, hint: str) -> Fault:
    """The error for a run whose manifest is not in the store; `hint`: what to do instead."""
    return Fault(f"the manifest of run {short_id(run_id)} is not in this store", hint=hint)


async def status_of(journal: SQLiteJournal, row: RunRow, world: World) -> str:
    """The status of a run; of one without an end `running`, `waiting` (for an answer, and no
    process executes it), `interrupted`, or `damaged` if its facts cannot be read."""
    if row.status:
        return row.status
    if await _at_work(journal, row, world):
        return "running"
    try:
        return "waiting" if await questions(journal, row) else "interrupted"
    except JournalError:
        if not await journal.check(row.stream):
            raise
        return "damaged"


async def _at_work(journal: SQLiteJournal, row: RunRow, world: World) -> bool:
    holder = await journal.holder(row.stream)
    if holder is None:
        return False
    name, until = holder
    match fate(name):
        case "alive":
            return True
        case "gone":
            return False
        case "unknown":
            return until > world.time()


async def take_over_run(journal: SQLiteJournal, row: RunRow) -> None:
    """`take_over` for a run and all below it that have no end."""
    await take_over(journal, row.stream, f"run {row.run_id}")
    facts, _ = await recording.readable_facts(journal, row)
    async for _, _, below in descendants(journal, facts, damaged=True):
        if below is not None and not below.status:
            await take_over(journal, below.stream, f"run {below.run_id}")


async def take_over(journal: SQLiteJournal, stream: str, what: str) -> None:
    """Give back the claim of a process of this machine that is dead, so that nobody has to wait
    until it ends by itself. `what` is in the stream. Raises JournalError when the process lives."""
    holder = await journal.holder(stream)
    if holder is None:
        return
    name = holder[0]
    match fate(name):
        case "alive":
            raise JournalError(
                f"{what} is being worked on by process {pid_of(name)} of this machine",
                code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
                hint="Wait until it is done, or stop it first.",
            )
        case "gone":
            # in the dead one's name: whoever was quicker than us has a newer epoch, and keeps it
            await journal.release(stream, await journal.claim(stream, name, 1.0))
        case "unknown":
            pass  # the journal itself refuses while the claim is in force
