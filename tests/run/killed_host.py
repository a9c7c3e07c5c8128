"""A host whose runs are kept in files. As a program (`python -m tests.run.killed_host FOLDER`) it
begins the run R, and is killed with -9 when the audit was told of that and the journal was not;
with `waits` behind it, it says that it is there, and waits for a line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry
from lorimer.journal import SQLiteJournal
from lorimer.run import (
    AuditLog,
    Executor,
    FolderInputFiles,
    InputFile,
    Invocation,
    Ports,
    RunnableAgent,
)
from lorimer.run.delivery import Delivery, Target
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.world.files import RootedFiles
from tests.run.support import executor_of

AGENT = RunnableAgent("alone")
ASKED = Invocation(
    run_id="R",
    caller_id="ann",
    delivery=Target("chat", "7"),
    input_files=(InputFile("a.txt", b"inside"),),
)


class Dies(SQLiteJournal):
    """Of which the process dies when a run is to begin."""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


class Waits(SQLiteJournal):
    """Of which each run has to wait for a line, before it begins."""

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        if facts[0].type == "run.start":
            print("about to begin", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
        return await super().append(stream, epoch, facts, sync=sync, ledger=ledger)


def host(
    folder: Path, journal: SQLiteJournal, delivery: Delivery | None = None, owner: str = "host"
) -> tuple[Executor, AuditLog]:
    log = AuditLog(SQLiteAudit(folder / "audit.db"))
    files = FolderInputFiles(RootedFiles([folder]))
    ports = Ports(audit=log, delivery=delivery, input_files=files)
    return executor_of(["end"], journal=journal, ports=ports, owner=owner), log


async def main(folder: Path, kind: type[SQLiteJournal]) -> None:
    async with kind(folder / "runs.db") as journal:
        executor, log = host(folder, journal)
        await executor.run(AGENT, "go", ASKED)
        await log.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Waits if sys.argv[2:] == ["waits"] else Dies))
