"""REPL: an interpreter that stays, is bounded, and does not outlive its run."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.cancel import Reason
from lorimer.core.messages import ToolUse
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import builtin_tools
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, going_on, run, toolset
from tests.tools.test_background import gone, living
from tests.world.levels import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Cells:
    def __init__(self, bench: Bench, root: Path, **options: Any) -> None:
        self.bench = bench
        self.tools = toolset(*builtin_tools(["REPL"]), files=RootedFiles([root]), **options)
        self.count = 0
        self.failed = False

    async def __call__(self, code: str, **more: Any) -> str:
        self.count += 1
        arguments = {"expression": code, **more}
        block = await self.bench.call(self.tools, "REPL", arguments, index=self.count)
        self.failed = block.is_error
        return str(block.content)


def in_a_run(root: Path, main: Callable[[Cells], Any], **options: Any) -> Any:
    async def whole() -> Any:
        bench = await Bench.make()
        try:
            return await main(Cells(bench, root, **options))
        finally:
            await bench.context.owned.end()

    return run(whole)


NEW = "[a new interpreter: nothing is defined in it yet]"
ANEW = "[a new interpreter: what was defined before is gone]"
LOST = "[the interpreter has ended, and what was defined in it is gone]"


def test_what_is_defined_stays(tmp_path: Path) -> None:
    async def main(cell: Cells) -> None:
        assert await cell("x = 20\ndef f(): return x + 1") == NEW
        assert await cell("f()") == "21"
        assert await cell("import json; print('é', end=''); f() * 2") == "é42"
        assert await cell("json.dumps(None)") == "'null'"
        assert await cell("x") == "20"
        assert await cell("None") == "[no output]"

    in_a_run(tmp_path, main)


def test_an_exception_is_told_and_leaves_the_rest(tmp_path: Path) -> None:
    async def main(cell: Cells) -> None:
        await cell("y = 5")
        told = await cell("def g():\n    raise ValueError('no')\ng()")
        assert told.startswith("Traceback (most recent call last):\n")
        assert "repl_worker" not in told
        assert "    raise ValueError('no')" in told
        assert told.endswith("ValueError: no")
        assert cell.failed
        assert "SyntaxError" in await cell("1 +")
        assert "KeyboardInterrupt" in await cell("raise KeyboardInterrupt")
        assert await cell("y") == "5"
        assert not cell.failed

    in_a_run(tmp_path, main)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", "[exit code 3]"),
        ("import os; os._exit(4)", "[exit code 4]"),
        ("import os, signal; os.kill(os.getpid(), 11)", "[ended by signal 11]"),
    ],
)
def test_its_end_is_told_and_so_is_the_new_one(tmp_path: Path, code: str, told: str) -> None:
    async def main(cell: Cells) -> None:
        await cell("z = 1")
        assert (await cell(code)).endswith(f"{told}\n{LOST}")
        assert cell.failed
        content = await cell("'z' in globals()")
        assert content == f"False\n{ANEW}"

    in_a_run(tmp_path, main)


def test_at_its_time_out_all_is_ended(tmp_path: Path) -> None:
    code = (
        "import subprocess, time\n"
        "subprocess.Popen(['sh', '-c', \"trap '' TERM; sleep 4740\"], start_new_session=True)\n"
        "print('begun')\ntime.sleep(4740)"
    )

    async def main(cell: Cells) -> None:
        began = time.monotonic()
        told = await cell(code, timeout_seconds=1.5)
        assert time.monotonic() - began < 1.5 + 3
        assert told == f"begun\n{NEW}\n[stopped after 1.5 s, its time-out]\n{LOST}"
        assert await gone("4740", tmp_path)
        assert await cell("1") == f"1\n{ANEW}"

    in_a_run(tmp_path, main)


def test_a_cancelled_call_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make()
        cell = Cells(bench, tmp_path)
        await cell("x = 1")
        with going_on(bench.context):
            asyncio.get_running_loop().call_later(0.3, bench.context.cancel, Reason.CALLER)
            await cell("import time; time.sleep(4741)")
            raise AssertionError("not reached")
        await bench.context.owned.end()
        assert not living("repl_worker", tmp_path)

    run(main)


def test_it_can_be_given_no_input_and_forge_no_ends(tmp_path: Path) -> None:
    async def main(cell: Cells) -> None:
        assert "EOFError" in await cell("input()")
        assert await cell("print('\\ncell_xxx ok')") == "\ncell_xxx ok"
        assert await cell("print('a\\n', end='')") == "a"
        assert "returncode=0" in await cell("import subprocess; subprocess.run(['cat'])")
        assert await cell("print(1); subprocess.run(['echo', '2']); print(3)") == "1\n2\n3"
        assert await cell("7") == "7"

    in_a_run(tmp_path, main)


def test_long_output_is_bounded_and_kept_in_a_file(tmp_path: Path) -> None:
    async def main(cell: Cells) -> None:
        await cell("1")
        told = await cell("print('x' * 3_000_000); 'last'")
        assert told.startswith("xxx")
        assert "'last'\n[3,000,008 bytes of output, 1,048,576 kept. All of it is in " in told
        (kept,) = (tmp_path / ".lorimer/results").iterdir()
        assert kept.stat().st_size == 3_000_008
        assert await cell("2") == "2"

    in_a_run(tmp_path, main)


def test_out_of_memory_has_its_code(tmp_path: Path) -> None:
    async def main(cell: Cells) -> None:
        limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2)"
        await cell(limit)
        assert "[exec.tool.out_of_memory: " in await cell("x = bytearray(10**9)")
        assert cell.bench.facts[-1][1]["error"] == "exec.tool.out_of_memory"
        assert await cell("'alive'") == "'alive'"

    in_a_run(tmp_path, main)


def test_it_is_sandboxed(tmp_path: Path) -> None:
    needs("L2")

    async def main(cell: Cells) -> None:
        assert "Read-only file system" in await cell("open('/usr/made', 'w')")
        assert "unreachable" in await cell(
            "import socket; socket.create_connection(('1.1.1.1', 80))"
        )
        await cell("open('made', 'w').write('x')")
        assert "'/tmp'" in await cell("import os; os.environ['TMPDIR']")
        assert (tmp_path / "made").read_text() == "x"

    in_a_run(tmp_path, main, sandbox="require")


def test_after_an_interruption_the_loss_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        bench = await Bench.make()
        cell = Cells(bench, tmp_path)
        assert await cell("x = 1") == NEW
        await bench.context.owned.end()
        after = Cells(await bench.again(), tmp_path)
        assert await after("x = 1") == NEW  # from the journal: nothing is started
        told = await after("x")
        assert told.endswith(f"NameError: name 'x' is not defined\n{ANEW}")
        await after.bench.context.owned.end()

    run(main)


def test_it_ends_with_its_run(tmp_path: Path) -> None:
    use = ToolUse("c1", "REPL", {"expression": "x = 4742"})

    async def main() -> None:
        pipeline = PipelinePresets.agent(
            built_in="python",
            workspace=tmp_path,
            rules=["REPL"],
            model="scripted:m",
            models=Models(providers={"scripted": ScriptedModel([[use], [use], "done"])}),
        )
        result = await pipeline.run("go")
        assert [step.content for step in result.steps] == [NEW, "[no output]"]
        assert not living("repl_worker", tmp_path)

    run(main)
