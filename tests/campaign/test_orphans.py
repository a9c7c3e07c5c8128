"""Programs that are started, killed, and hang, at every sandbox level: nothing of them stays.
500 in the campaign, 25 in the suite; and output without end, 10 GB in the campaign."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lorimer.core.world import Level
from tests.world.levels import LEVELS, needs, run_at, why_not

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
CYCLES = 500 if CAMPAIGN else 25
OUTPUT = 10_000_000_000 if CAMPAIGN else 1_000_000_000

SLEEP = "sleep 86{n}.{pid}"
WAYS = {
    "ends": "echo done",
    "hangs": "{sleep}",
    "leaves a child": "{sleep} & exit 0",
    "hides it": "setsid env -i {sleep} & (setsid env -i {sleep} &) & exit 0",
    "ignores TERM": "trap '' TERM; setsid env -i {sleep} & {sleep}",
    "floods": "yes",
    "dies": "{sleep} & kill -9 $$",
}


def alive(number: int) -> list[int]:
    """Processes of a cycle that run, found by their arguments: they wear no mark of ours."""
    wanted = f"sleep\0{86}{number}.{os.getpid()}\0".encode()
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if Path("/proc", name, "cmdline").read_bytes().endswith(wanted):
                    found.append(int(name))
            except OSError:
                continue
    return found


async def _cycle(number: int, level: Level, dice: random.Random, cwd: Path) -> float:
    """One program; how late its call came back, in seconds."""
    sleep = SLEEP.format(n=number, pid=os.getpid())
    script = WAYS[dice.choice(list(WAYS))].format(sleep=sleep)
    timeout_s, cancel_s = dice.uniform(0.02, 0.4), dice.uniform(0.0, 0.8)
    task = asyncio.create_task(
        run_at(level, ["bash", "-c", script], cwd, timeout_s=timeout_s, max_output_bytes=4096)
    )
    began = time.monotonic()
    done, _ = await asyncio.wait([task], timeout=cancel_s)
    due = timeout_s
    if not done:
        task.cancel()
        due = min(cancel_s, timeout_s)
        await asyncio.wait([task])
    assert alive(number) == [], f"{level}: {script}"
    return time.monotonic() - began - due


async def _all(levels: list[Level], cwd: Path) -> dict[Level, list[float]]:
    dice = random.Random(5)
    late: dict[Level, list[float]] = {level: [] for level in levels}
    files = None
    for number in range(CYCLES):
        level = levels[number % len(levels)]
        late[level].append(await _cycle(number, level, dice, cwd))
        if number == len(late):  # what is opened once has been opened
            files = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) == files
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return late


@pytest.mark.timeout(0 if CAMPAIGN else 120)
def test_nothing_stays_of_what_was_started_killed_or_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    levels = [level for level in LEVELS if not why_not()[level]]
    late = asyncio.run(_all(levels, work))
    for level, each in late.items():
        print(f"{level}: {len(each)} cycles, 0 orphans; at the latest {max(each):.2f} s over")
        assert max(each) <= 2.0
    assert os.listdir(temporary) == []


# In a fresh process: only there does the highest mark tell anything.
GUZZLER = """
import asyncio, resource, sys
from pathlib import Path
from tests.world.levels import run_at
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
async def main(level, size):
    await run_at(level, ["head", "-c", "3000000", "/dev/zero"], Path.cwd())
    before = peak()
    done = await run_at(level, ["head", "-c", size, "/dev/zero"], Path.cwd(), timeout_s=3000)
    print(done.total_bytes, peak() - before)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.timeout(0 if CAMPAIGN else 120)
def test_output_without_end_takes_a_few_megabytes(level: Level, tmp_path: Path) -> None:
    needs(level)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", GUZZLER, level, str(OUTPUT)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    total, grown_kib = done.stdout.split()
    print(f"{level}: {int(total) / 1e9:g} GB of output, {int(grown_kib) / 1024:.1f} MB grown")
    assert int(total) == OUTPUT
    assert int(grown_kib) <= 8 * 1024
