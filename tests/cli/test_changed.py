"""A run whose manifest was changed on the way, killed with -9: resumed, replayed, shown."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from lorimer.core.events import Event
from tests.cli.support import invoke
from tests.core.changed_process import agent

HERE = Path(__file__).parents[2]


def test_it_is_changed_again_after_a_kill_and_the_store_tells_of_it(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    died = subprocess.run(
        [sys.executable, "-m", "tests.core.changed_process", store], cwd=HERE, check=False
    )
    assert died.returncode == -signal.SIGKILL
    pipeline, model = agent(store)

    async def resume() -> tuple[str, list[Event]]:
        async with pipeline:
            [row] = await pipeline.journal.runs(limit=10)
            result = await pipeline.resume(row.run_id)
            assert (await pipeline.replay(row.run_id)).divergence is None
            return row.run_id, list(result.events)

    run, facts = asyncio.run(resume())
    assert [fact.iteration for fact in facts if fact.type == "mutated"] == [2]
    assert [request.system for request in model.requests] == ["Changed.", "Changed."]
    assert Path(f"{store}.paper").read_text() == "0\n1\n2\n", "no unsafe call was made twice"

    place = ("--store", store)
    shown = invoke("runs", "show", run, *place)
    assert shown.exit_code == 0, shown.output
    [first] = [line for line in shown.stdout.splitlines() if "update_stage_config" in line]
    assert first.startswith("changed: ")
    assert '"prompt":"Changed."' in first
    assert "changed: set_stage_active" in shown.stdout
    assert invoke("runs", "verify", run, *place).exit_code == 0
    exported = invoke("runs", "export", run, *place)
    assert '"type":"mutated"' in exported.stdout.replace(": ", ":")
