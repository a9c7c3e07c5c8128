"""What a host finds when another process was killed before a run had begun, and when it lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

import pytest

from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.journal import SQLiteJournal
from lorimer.run.delivery import Artifact, Target
from tests.run.killed_host import AGENT, ASKED, host

ROOT = Path(__file__).parents[2]


class Posted:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        self.told.append(output)
        return "1"

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        self.told.append(error.code.value)


@pytest.mark.anyio
async def test_the_audit_of_a_run_that_was_killed_before_it_began_is_closed(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-m", "tests.run.killed_host", str(tmp_path)]
    died = subprocess.run(words, cwd=ROOT, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    posted = Posted()
    async with SQLiteJournal(tmp_path / "runs.db") as journal:
        executor, log = host(tmp_path, journal, posted)
        (left,) = await log.runs(unfinished=True)
        assert (left.start.run_id, left.start.caller_id) == ("R", "ann")
        assert await journal.runs() == []

        told = await executor.finish(AGENT, "R", ASKED)
        assert told.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
        assert await log.runs(unfinished=True) == []
        (closed,) = await log.runs()
        assert closed.close is not None
        assert (closed.close.status, closed.close.code) == ("error", "exec.run.unknown")
        assert posted.told == []

        again = await executor.run(AGENT, "go", ASKED)  # asked for again, under its id
        assert again.output == "end"
        assert posted.told == ["end"]
        assert not list(tmp_path.glob("inputs/*"))
        (ended,) = await log.runs()
        assert ended.close is not None and ended.close.status == "ok"
        await executor.aclose()
        await log.close()


@pytest.mark.anyio
async def test_a_run_that_another_process_is_about_to_begin_is_left_to_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.run.killed_host", str(tmp_path), "waits"]
    begins = subprocess.Popen(words, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)
    try:
        assert begins.stdout is not None
        assert begins.stdout.readline() == "about to begin\n"
        posted = Posted()
        async with SQLiteJournal(tmp_path / "runs.db") as journal:
            executor, log = host(tmp_path, journal, posted, owner="another")
            told = await executor.finish(AGENT, "R", ASKED)
            assert told.code is ExecutorErrorCode.EXEC_RUN_BUSY
            assert [each.kind for each in await log.records()] == ["start"]
            assert list(tmp_path.glob("inputs/*"))

            begins.communicate("go on\n", timeout=60)
            assert begins.returncode == 0
            assert (await executor.result("R")).output == "end"
            kinds = [each.kind for each in await log.records()]
            assert (kinds.count("start"), kinds.count("close")) == (1, 1)
            assert posted.told == []
            await executor.aclose()
            await log.close()
    finally:
        begins.kill()
        begins.wait()
