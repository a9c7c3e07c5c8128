"""Records runs and saves agents in one file, and says the name of each that has ended.
`python shared_writer.py PATH NAME COUNT`."""

from __future__ import annotations

import asyncio
import sys

from lorimer.run.audit.log import AuditLog
from lorimer.run.audit.port import AuditClose, AuditStart
from lorimer.run.saved.agent import SavedAgent
from lorimer.run.saved.library import AgentLibrary
from lorimer.run.stores.sqlite_agents import SQLiteAgents
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from lorimer.tools.policy.people import Person


async def main(path: str, who: str, count: int) -> None:
    log, agents = AuditLog(SQLiteAudit(path)), AgentLibrary(SQLiteAgents(path))
    for number in range(count):
        name = f"{who}{number}"
        run = await log.start(AuditStart(name, caller_id=who))
        run.log("n", {"at": number})
        await agents.save(SavedAgent(name="a", prompt=name), Person("ann"))
        await run.close(AuditClose("ok"))
        print(name, flush=True)
    await log.close()
    await agents.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
