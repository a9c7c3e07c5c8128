"""One file of the kernel's stores, used by two processes at once, of which one is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from lorimer.run.audit.log import AuditLog
from lorimer.run.audit.port import AuditClose
from lorimer.run.stores.sqlite_agents import SQLiteAgents
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from tests.run import shared_writer

EACH = 10


def test_row_89_two_processes_write_one_chain_and_unique_versions(tmp_path: Path) -> None:
    path = tmp_path / "kernel.db"
    words = [sys.executable, shared_writer.__file__, str(path), "a", "1000000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        told = [other.stdout.readline().strip()]
        asyncio.run(shared_writer.main(str(path), "b", EACH))
        other.kill()
        told += other.stdout.read().split()
    assert path.stat().st_mode & 0o777 == 0o600

    async def main() -> None:
        log = AuditLog(SQLiteAudit(path))
        verdict = await log.verify()
        assert verdict.ok and verdict.records >= 3 * (EACH + len(told))
        runs = {each.start.run_id: each for each in await log.runs(limit=100_000)}
        ended = [*told, *[f"b{number}" for number in range(EACH)]]
        assert all(runs[name].close == AuditClose("ok") for name in ended)
        assert len(runs) <= len(ended) + 1  # what it was doing, or had not told yet
        await log.close()

    asyncio.run(main())
    store = SQLiteAgents(path)
    found = store.versions("ann", "a", 100_000)
    assert [each.version for each in found] == [*range(len(found), 0, -1)]
    prompts = [each.prompt for each in found]
    assert len({*prompts}) == len(prompts) >= EACH + len(told)
    assert found[0] == store.get("ann", "a")
    store.close()
