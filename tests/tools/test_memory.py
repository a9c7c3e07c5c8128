"""Whatever a tool does, the process lives on and does not grow by more than 16 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import asyncio, json, sys, threading
from pathlib import Path

from lorimer.tools import ToolResult, builtin_tools, tool
from tests.tools.support import Act, Bench, toolset
from lorimer.tools.builtin.background import BackgroundCommands
from lorimer.world.files import RootedFiles


def peak():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def reset():
    Path("/proc/self/clear_refs").write_text("5")


def cyclic(input, context):
    loop = [object(), float("nan"), "\\ud800", {1: 2}]
    loop.append(loop)
    return ToolResult([loop] * 100_000)


def deep(input, context):
    value = []
    for _ in range(100_000):
        value = [value]
    return ToolResult({"deep": value})


def crash(input, context):
    raise SystemExit("x" * 1_000_000)


def recurse(input, context):
    return recurse(input, context)


@tool(timeout_s=0.2)
def hang_thread() -> None:
    threading.Event().wait()


@tool(timeout_s=0.2)
async def hang() -> None:
    await asyncio.sleep(600)


@tool
async def lines():
    return ["x" * 1000] * 3000


CASES = {
    "cyclic": (Act(cyclic), {}, "<itself>"),
    "deep": (Act(deep), {}, "nested too deep"),
    "crash": (Act(crash), {}, "exec.tool.crashed: SystemExit"),
    "recurse": (Act(recurse), {}, "exec.tool.crashed: RecursionError"),
    "hang": (hang, {}, "exec.tool.timeout"),
    "hang_thread": (hang_thread, {}, "exec.tool.timeout"),
    "long": (lines, {}, "characters left out"),
    "gigabyte": ("Bash", {"command": "yes | head -c 1000000000"}, "1,000,000,000 bytes of output"),
    "background": (
        "Bash", {"command": "yes | head -c 200000000", "run_in_background": True}, "It runs in"
    ),
    "watched": ("Monitor", {"duration_seconds": 60}, "200,000,000 bytes of output"),
    "repl": (
        "REPL",
        {"expression": "for _ in range(200): print('x' * 999_999)", "timeout_seconds": 60},
        "200,000,000 bytes of output",
    ),
    "one_line": ("Bash", {"command": "head -c 100000000 /dev/zero"}, "100,000,000 bytes of"),
    "read": ("Read", {"file_path": "big"}, "go on with offset"),
    "image": ("Read", {"file_path": "image.png"}, ""),
    "grep": ("Grep", {"pattern": "[a]b+c"}, "were left out"),
    "grep_named": ("Grep", {"pattern": "[a]b+c", "path": "big"}, "only the first"),
    "edit": ("Edit", {"file_path": "big", "old_string": "a", "new_string": "b"}, "too large"),
}


async def main():
    folder = Path(sys.argv[1])
    with (folder / "big").open("wb") as file:
        for _ in range(64):
            file.write(b"0123456789abcde\\n" * 65536)
    (folder / "image.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + bytes((4 << 20) - 8))
    grown = {}
    with RootedFiles([folder]) as files:
        builtins = builtin_tools(["*"])
        bench = await Bench.make()
        tools = toolset(*builtins, files=files)
        for warm in ("Read", "Grep", "Edit"):
            await bench.call(tools, warm, {"file_path": "none", "pattern": "x[y]z"}, index=99)
        for index, (name, (tool, input, told)) in enumerate(CASES.items()):
            used = tools if isinstance(tool, str) else toolset(tool, files=files)
            if tool == "Monitor":
                (id,) = BackgroundCommands.of(bench.context).ids
                input = {"id": id, **input}
            reset()
            before = peak()
            block = await bench.call(
                used, tool if isinstance(tool, str) else tool.name, input, index=index
            )
            grown[name] = (peak() - before, told in str(block.content), str(block.content)[-300:])
        await bench.context.owned.end()
    print(json.dumps(grown))


asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_tool_ends_the_process_or_makes_it_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    assert len(grown) == 17
    for name, (size, told, content) in grown.items():
        assert told, (name, content)
        most = 8_000_000 if name in ("gigabyte", "background", "watched", "repl") else 16_000_000
        assert size <= most, (name, size)
