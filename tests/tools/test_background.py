"""Commands in the background: watched, stopped, and none outlives its run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorimer import Limits, PipelinePresets
from lorimer.core.events import Event
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.model import Request
from lorimer.core.redaction import Redactor
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import builtin_tools
from lorimer.tools.builtin.background import MAX_COMMANDS, BackgroundCommands
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset
from tests.world.levels import needs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def living(word: str, root: Path) -> list[int]:
    """Processes with this word among their arguments that began in `root`: not another test's."""
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                where = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if word.encode() in words and where == str(root):
                found.append(int(entry))
    return found


def started(word: str, root: Path) -> list[int]:
    give_up = time.monotonic() + 5
    while not (found := living(word, root)) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert found
    return found


async def gone(word: str, root: Path) -> bool:
    give_up = time.monotonic() + 10
    while living(word, root):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(0.02)
    return True


class Calls:
    """Bash and Monitor in one run."""

    def __init__(self, bench: Bench, root: Path) -> None:
        self.bench = bench
        self.tools = toolset(*builtin_tools(["shell"]), files=RootedFiles([root]))
        self.count = 0

    async def bash(self, command: str) -> str:
        content = await self.call("Bash", {"command": command, "run_in_background": True})
        assert content.startswith("It runs in the background as bash_")
        return content.split()[6].rstrip(".")

    async def monitor(self, id: str, seconds: float = 5, **more: Any) -> str:
        return await self.call("Monitor", {"id": id, "duration_seconds": seconds, **more})

    async def call(self, name: str, input: dict[str, Any]) -> str:
        self.count += 1
        block = await self.bench.call(self.tools, name, input, index=self.count)
        return str(block.content)


def in_a_run(root: Path, main: Callable[[Calls], Any]) -> Any:
    async def whole() -> Any:
        bench = await Bench.make()
        try:
            return await main(Calls(bench, root))
        finally:
            await bench.context.owned.end()

    return run(whole)


def test_what_it_writes_and_how_it_ends(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        name = await calls.bash("echo one; until [ -e go ]; do sleep 0.02; done; echo two; exit 3")
        assert await calls.monitor(name, 0.3) == "one\n[it runs]"
        assert (await calls.monitor("b1")).endswith(f"Known: {name}. Each ends with its run.")
        assert await calls.monitor(name, 0) == "[it runs]"
        (tmp_path / "go").touch()
        assert await calls.monitor(name) == "two\n[exit code 3]"
        assert await calls.monitor(name) == "[exit code 3]"
        (kept,) = (tmp_path / ".lorimer/results").iterdir()
        assert kept.read_text() == "one\ntwo\n"

    in_a_run(tmp_path, main)


def test_why_it_failed_is_told_at_each_look(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        name = await calls.bash("echo 'MemoryError: no' && exit 1")
        told = "[exec.tool.out_of_memory: it wanted more memory than there is]\n[exit code 1]"
        assert await calls.monitor(name) == f"MemoryError: no\n{told}"
        assert await calls.monitor(name) == told
        assert calls.bench.facts[-1][1]["error"] == "exec.tool.out_of_memory"

    in_a_run(tmp_path, main)


def test_a_secret_is_not_told_in_two_halves(tmp_path: Path) -> None:
    secret = "tr0ub4dor-and-3-tr0ub"
    first, rest = secret[:9], secret[9:]

    async def main(calls: Calls) -> None:
        calls.bench.context.redactor = Redactor({secret: "WORD"})
        name = await calls.bash(
            f"echo {secret}; printf is{first}; until [ -e go ]; do sleep 0.02; done; echo {rest}; "
            f"printf {first}"
        )
        told = ""
        while "is" not in told:
            told += await calls.monitor(name, 0.1)
        assert told.replace("[it runs]", "") == "[redacted:WORD]\nis\n"
        assert first not in told
        (tmp_path / "go").touch()
        assert await calls.monitor(name) == f"[redacted:WORD]\n{first}\n[exit code 0]"

    in_a_run(tmp_path, main)


def test_it_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        name = await calls.bash("(trap '' TERM; sleep 4711) & setsid sleep 4711 & wait")
        await calls.monitor(name, 0.2)
        began = time.monotonic()
        assert await calls.monitor(name, stop=True) == "[stopped]"
        assert time.monotonic() - began < 4
        assert await gone("4711", tmp_path)

    in_a_run(tmp_path, main)


def test_what_cannot_be_started_says_so_at_once(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        name = await calls.bash("no-such-command-anywhere")
        assert "command not found\n[exit code 127]" in await calls.monitor(name)
        content = await calls.call("Bash", {"command": "echo a\0b", "run_in_background": True})
        assert content.startswith("bash could not be started")

    in_a_run(tmp_path, main)


def test_their_number_is_bounded(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        names = [await calls.bash("sleep 4712") for _ in range(MAX_COMMANDS)]
        content = await calls.call("Bash", {"command": "true", "run_in_background": True})
        assert f"{MAX_COMMANDS} commands run in the background already" in content
        await calls.monitor(names[0], stop=True)
        await calls.bash("true")

    in_a_run(tmp_path, main)


def test_an_unknown_one_is_told_with_the_nearest(tmp_path: Path) -> None:
    async def main(calls: Calls) -> None:
        name = await calls.bash("sleep 4713")
        assert f"did you mean {name!r}" in await calls.monitor(name[:-1] + "x")

    in_a_run(tmp_path, main)


def test_one_from_before_an_interruption_has_an_unknown_outcome(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make()
        calls = Calls(bench, tmp_path)
        name = await calls.bash("echo begun; sleep 4714")
        await calls.monitor(name, 1.5)
        commands = BackgroundCommands.of(bench.context)
        await bench.context.owned.end()
        after = Calls(await bench.again(), tmp_path)
        assert await after.bash("echo begun; sleep 4714") == name  # answered from the journal
        assert await after.monitor(name, 1.5) == "begun\n[it runs]"  # recorded as well
        content = await after.monitor(name)
        assert content.startswith("ERROR exec.tool.outcome_unknown: ")
        path = content.split(" is in ")[1].rstrip(".")
        assert (tmp_path / path).read_text() == "begun\n"
        assert commands.ids == [name]

    run(main)


def agent(root: Path, replies: Any, **options: Any) -> Any:
    return PipelinePresets.agent(
        built_in="shell",
        workspace=root,
        rules=["Bash"],
        model="scripted:m",
        models=Models(providers={"scripted": ScriptedModel(replies)}),
        **options,
    )


def background(command: str) -> ToolUse:
    return ToolUse("c1", "Bash", {"command": command, "run_in_background": True})


@pytest.mark.parametrize("end", ["ok", "failed", "cancelled", "time is over"])
def test_none_is_left_when_the_end_of_the_run_is_visible(tmp_path: Path, end: str) -> None:
    seen: list[list[int]] = []
    word = "4720"

    async def main() -> str:
        def reply(request: Request) -> Any:
            if len(request.messages) == 1:
                return [background(f"(trap '' TERM; sleep {word}) & setsid sleep {word} & wait")]
            started(word, tmp_path)
            if end == "cancelled":
                pipeline.cancel()
            if end == "failed":
                raise ValueError("a bug")
            if end == "time is over":
                return [ToolUse("c2", "Bash", {"command": "sleep 9"})]
            return "done"

        limits = Limits(timeout_s=1.5 if end == "time is over" else 60)
        pipeline = agent(tmp_path, reply, journal=Watching(seen, word))
        result = await pipeline.run("go", limits=limits, raise_on_error=False)
        assert await gone(word, tmp_path)
        return result.status

    from lorimer.journal.memory import MemoryJournal
    from lorimer.world.real import RealWorld

    class Watching(MemoryJournal):
        """Looks for processes when the last fact is written."""

        def __init__(self, seen: list[list[int]], word: str) -> None:
            super().__init__(RealWorld())
            self.seen, self.word = seen, word

        async def append(self, *args: Any, **options: Any) -> int:
            if any(isinstance(a, list) and any(_is_end(f) for f in a) for a in args):
                self.seen.append(living(self.word, tmp_path))
            return await super().append(*args, **options)

    def _is_end(fact: object) -> bool:
        return isinstance(fact, Event) and fact.type == "run.end"

    status = asyncio.run(main())
    assert seen == [[]]
    assert (
        status
        == {
            "ok": "ok",
            "failed": "error",
            "cancelled": "cancelled",
            "time is over": "timeout",
        }[end]
    )


CRASHER = """
import asyncio, sys
from pathlib import Path
from lorimer.journal import SQLiteJournal
from tests.tools.test_background import agent, background

def reply(request):
    if len(request.messages) == 1:
        return [background("echo begun; sleep 4730")]
    print("ready", flush=True)
    __import__("time").sleep(60)

async def main():
    root = Path(sys.argv[1])
    async with agent(root, reply, journal=SQLiteJournal(root / "runs.db"), claim_s=1.0) as made:
        await made.run("go")

asyncio.run(main())
"""


def test_after_a_kill_9_the_resumed_run_knows_that_it_is_lost(tmp_path: Path) -> None:
    needs("L2")
    child = subprocess.Popen(
        [sys.executable, "-c", CRASHER, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        started("4730", tmp_path)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout and child.stdout.close()

    async def main() -> str:
        assert await gone("4730", tmp_path)
        told: list[str] = []

        def reply(request: Request) -> Any:
            block = request.messages[-1].content[0]
            assert isinstance(block, ToolResultBlock)
            content = str(block.content)
            if content.startswith("It runs"):
                name = content.split()[6].rstrip(".")
                return [ToolUse("c2", "Monitor", {"id": name})]
            told.append(content)
            return "done"

        journal = SQLiteJournal(tmp_path / "runs.db")
        async with agent(tmp_path, reply, journal=journal) as made:
            run_id = (await journal.runs())[0].run_id
            result = await made.resume(run_id, wait_s=5)
            assert result.text == "done"
        return told[0]

    assert asyncio.run(main()).startswith("ERROR exec.tool.outcome_unknown: bash_")
