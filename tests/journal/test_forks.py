"""A journal file in processes that are forked from one another, as those of a server are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORKING = """
import asyncio, os, signal, sys
from lorimer import PipelinePresets
from lorimer.core.errors import LorimerError
from lorimer.journal import SQLiteJournal
from lorimer.models import Models
from lorimer.run.stores import SQLiteAudit
from lorimer.testing import ScriptedModel

def in_child(work):
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        try:
            print(work(), flush=True)
        except LorimerError as error:
            print(error.code.value, error, "-", error.hint, flush=True)
        finally:
            os._exit(0)
    return pid

def wait(pid):
    print("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

models = Models(providers={"scripted": ScriptedModel(lambda request: "Fine.")})
journal = SQLiteJournal("runs.db")
"""

OPEN = """
agent = PipelinePresets.minimal(model="scripted:m", models=models, journal=journal)
agent.run_sync("Hello")
kernel = SQLiteAudit("kernel.db")
kernel.head()
asyncio.run(journal.runs())

def beside():
    async def work():
        async with SQLiteJournal("other.db") as other:
            await other.claim("s", "me", 30)
            os.unlink("other.db")
            await other.runs()
    return asyncio.run(work())

wait(in_child(lambda: agent.run_sync("Hello").status))
wait(in_child(lambda: asyncio.run(SQLiteJournal("runs.db").runs())))
wait(in_child(lambda: kernel.head()))
wait(in_child(lambda: asyncio.run(journal.runs())))
wait(in_child(lambda: (asyncio.run(journal.close()), kernel.close(), "left alone")[-1]))
wait(in_child(beside))
print(agent.run_sync("Hello").status, flush=True)
asyncio.run(journal.close())
wait(in_child(lambda: len(asyncio.run(SQLiteJournal("runs.db").runs()))))
"""

NOT_OPEN = """
there, here = os.pipe()


slow = Models(providers={"scripted": ScriptedModel(lambda request: "Fine.", latency_s=20)})
chat = PipelinePresets.chat(model="scripted:m", models=slow, journal=journal, session_id="alice")
chat.on("model.intent", lambda event: os.write(here, b"x"))
first = in_child(lambda: chat.run_sync("Hello").status)
os.read(there, 1)
wait(in_child(lambda: chat.run_sync("Hello").status))
os.kill(first, signal.SIGKILL)
"""


def _said(script: str, folder: Path) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-c", FORKING + script]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_file_that_was_open_is_refused_in_the_child(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    what = "was open when this process was forked: SQLite allows it on one side only"
    said = _said(OPEN, tmp_path)
    refused = [line.split(" - Open it after the fork")[0] for line in said if "forked" in line]
    assert refused == [
        f"exec.journal.failed the journal {path} {what}",
        f"exec.journal.failed the journal {path} {what}",
        f"exec.store.failed the store kernel.db {what}",
        f"exec.journal.failed the journal {path} {what}",
    ]
    told = ("ok", "2", "left alone")
    assert [line for line in said if line in told or "exit" in line or "other" in line] == [
        "exit 0",
        "exit 0",
        "exit 0",
        "exit 0",
        "left alone",
        "exit 0",
        f"exec.journal.failed the journal {tmp_path / 'other.db'} cannot be opened (unable to open "
        "database file) - Check that the directory exists and that this user may write to it.",
        "exit 0",
        "ok",
        "2",
        "exit 0",
    ]


def test_a_pipeline_made_before_the_fork_has_an_owner_in_each_child(tmp_path: Path) -> None:
    first, *_, last = _said(NOT_OPEN, tmp_path)
    assert first.startswith("exec.journal.conflict ")
    assert last == "exit 0"
