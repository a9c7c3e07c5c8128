"""One file of the kernel's stores, used by two processes at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from lorimer.run.audit import AuditClose
from lorimer.run.audit_log import AuditLog
from lorimer.run.stores.sqlite_agents import SQLiteAgents
from lorimer.run.stores.sqlite_audit import SQLiteAudit
from tests.run import shared_writer
from tests.run.shared_writer import EACH


def test_row_89_two_processes_write_one_chain_and_unique_versions(tmp_path: Path) -> None:
    path = tmp_path / "kernel.db"
    words = [sys.executable, shared_writer.__file__, str(path), "a"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"begun\n"
        asyncio.run(shared_writer.main(str(path), "b"))
    assert other.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600

    async def main() -> None:
        log = AuditLog(SQLiteAudit(path))
        assert (await log.verify()).records == 2 * 3 * EACH
        for name in "ab":
            runs = await log.runs(caller_id=name)
            assert [each.start.run_id for each in runs] == [
                f"{name}{number}" for number in reversed(range(EACH))
            ]
            assert all(each.close == AuditClose("ok") for each in runs)
        await log.close()

    asyncio.run(main())
    store = SQLiteAgents(path)
    found = store.versions("ann", "a", 100)
    assert [each.version for each in found] == [*range(2 * EACH, 0, -1)]
    saved = {f"{who}{number}" for who in "ab" for number in range(EACH)}
    assert {each.prompt for each in found} == saved
    assert found[0] == store.get("ann", "a")
    store.close()
