"""Records runs and saves agents in one file. `python shared_writer.py PATH NAME`; says `begun` when
the first run is recorded."""

from __future__ import annotations

import asyncio
import sys

from lorimer.run.audit import AuditClose, AuditStart
from lorimer.run.audit_log import AuditLog
from lorimer.run.library import AgentLibrary
from lorimer.run.saved import SavedAgent
from lorimer.run.stores.sqlite_agents import SQLiteAgents
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.tools.policy.people import Person

EACH = 10


async def main(path: str, who: str) -> None:
    log, agents = AuditLog(SQLiteAudit(path)), AgentLibrary(SQLiteAgents(path))
    for number in range(EACH):
        run = await log.start(AuditStart(f"{who}{number}", caller_id=who))
        if not number:
            print("begun", flush=True)
        run.log("n", {"at": number})
        await agents.save(SavedAgent(name="a", prompt=f"{who}{number}"), Person("ann"))
        await run.close(AuditClose("ok"))
    await log.close()
    await agents.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
