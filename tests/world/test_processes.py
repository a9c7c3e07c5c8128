"""Real programs: bounded in time and memory, and nothing of them left behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from lorimer.core.world import Finished, ProcessLimits, Sandbox
from lorimer.world import RealWorld

T = TypeVar("T")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
# Writes its number down, then sleeps: a process whose end can be seen.
SLEEPER = "sh -c 'echo $$ >> pids; exec sleep 60'"


async def shell(
    script: str,
    cwd: Path,
    *,
    timeout_s: float = 20.0,
    max_output_bytes: int = 1_000_000,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Finished:
    return await RealWorld().spawn(
        ["sh", "-c", script],
        cwd=cwd,
        stdin=stdin,
        env=env,
        limits=ProcessLimits(timeout_s=timeout_s, max_output_bytes=max_output_bytes),
    )


def run(main: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 60))


def begun(cwd: Path) -> bool:
    """Whether a sleeper has written its number down: the file is there a moment before."""
    return (cwd / "pids").exists() and (cwd / "pids").stat().st_size > 0


def written_pids(cwd: Path, count: int = 1) -> list[int]:
    """The numbers the sleepers wrote down, awaited: the last may still be about to."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if (cwd / "pids").exists():
            pids = [int(word) for word in (cwd / "pids").read_text().split()]
            if len(pids) >= count:
                return pids
        time.sleep(0.005)
    raise AssertionError("the sleepers never started")


def lives(pid: int) -> bool:
    """Whether it runs; a zombie that its new parent has not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return status.stdout.strip()[:1] not in ("", "Z")


def children() -> list[str]:
    """Our own children, dead or alive, but for the one that forks command lines for all tests."""
    listing = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 1) for line in listing.stdout.splitlines()]
    ours = [words for parent, words in rows if int(parent) == os.getpid()]
    return [words for words in ours if not words.startswith("ps ") and "tests.forked" not in words]


# --- what comes back


def test_output_status_and_size_come_back(tmp_path: Path) -> None:
    done = run(shell("echo out; echo err >&2; echo out again; exit 3", tmp_path))
    assert done.output == b"out\nerr\nout again\n"
    assert done.returncode == 3
    assert done.total_bytes == len(done.output)
    assert not done.timed_out
    assert 0 < done.duration_s < 10


def test_a_signal_is_told_as_a_negative_status(tmp_path: Path) -> None:
    assert run(shell("kill -USR1 $$", tmp_path)).returncode == -signal.SIGUSR1


def test_input_larger_than_any_pipe_goes_through(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    done = run(shell("cat", tmp_path, stdin=data, max_output_bytes=4_000_000))
    assert done.output == data


def test_input_nobody_reads_is_let_go(tmp_path: Path) -> None:
    assert run(shell("echo done", tmp_path, stdin=b"x" * 3_000_000)).output == b"done\n"
    done = run(shell("exec <&-; sleep 0.05; echo done", tmp_path, stdin=b"x" * 3_000_000))
    assert done.output == b"done\n"


def test_without_input_there_is_none_to_wait_for(tmp_path: Path) -> None:
    assert run(shell("cat; echo done", tmp_path)).output == b"done\n"


def test_long_output_is_cut_in_the_middle(tmp_path: Path) -> None:
    done = run(shell("echo first; seq 100000; echo last", tmp_path, max_output_bytes=1000))
    assert len(done.output) <= 1000
    assert done.output.startswith(b"first\n1\n2\n")
    assert done.output.endswith(b"\n100000\nlast\n")
    assert b"bytes left out" in done.output
    assert done.total_bytes == 588_906


async def apart(script: str, cwd: Path, limits: ProcessLimits) -> Finished:
    return await RealWorld().spawn(["sh", "-c", script], cwd=cwd, limits=limits)


def test_stderr_may_be_kept_apart(tmp_path: Path) -> None:
    limits = ProcessLimits(20, 1000, apart=True)
    ended = run(apart("echo out; echo err >&2; echo more", tmp_path, limits))
    assert (ended.output, ended.errors, ended.total_bytes) == (b"out\nmore\n", b"err\n", 9)
    assert run(shell("echo err >&2", tmp_path)).errors == b""
    flood = run(apart("head -c 3000000 /dev/zero >&2; echo out", tmp_path, limits))
    assert flood.output == b"out\n"
    assert len(flood.errors) <= 1000
    late = run(apart("(sleep 60 >&1) & echo err >&2", tmp_path, limits))
    assert late.errors == b"err\n"
    assert late.duration_s < 10, "nobody waits for who holds the other pipe"


def test_in_a_sandbox_it_is_not(tmp_path: Path) -> None:
    limits = ProcessLimits(20, apart=True, sandbox=Sandbox())
    with pytest.raises(OSError, match="not kept apart in a sandbox"):
        run(apart("true", tmp_path, limits))


def test_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary")
    monkeypatch.setenv("LC_TIME", "C")
    done = run(shell("env", tmp_path, env={"GIVEN": "yes", "TZ": "Asia/Tokyo"}))
    lines = done.output.decode().splitlines()
    assert b"canary" not in done.output
    assert {"GIVEN=yes", "TZ=Asia/Tokyo", "LC_TIME=C", f"PATH={os.environ['PATH']}"} <= set(lines)


@pytest.mark.parametrize("search", [":{}", ".:{}", "bin:{}", "{}:", "./bin"])
def test_no_program_is_searched_where_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    """A rule that permits `id` does not mean a file of that name in the workspace."""
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        for name in ("id", "no-such-program-elsewhere"):
            (folder / name).write_text("#!/bin/sh\necho planted\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", search.format(os.environ["PATH"]))
    for words in ("id", "no-such-program-elsewhere"):
        assert b"planted" not in run(shell(words, tmp_path)).output
    with pytest.raises(FileNotFoundError):
        run(RealWorld().spawn(["no-such-program-elsewhere"], cwd=tmp_path))


def test_it_is_not_our_session_nor_group(tmp_path: Path) -> None:
    done = run(shell("echo $$; ps -o pgid=,sid= -p $$", tmp_path))
    pid, group, session = done.output.split()
    assert pid == group == session


@pytest.mark.parametrize(
    "argv", [[], ["no-such-program-anywhere"], ["true", "nul\0"], ["true", "\ud800"], [""]]
)
def test_what_cannot_start_is_an_oserror(argv: list[str], tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(OSError):  # noqa: PT011 # which one is the system's business
        run(RealWorld().spawn(argv, cwd=tmp_path, stdin=b"x"))
    assert open_files() == before


def test_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(RealWorld().spawn(["true"], cwd=tmp_path / "nowhere"))


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_many_at_once_leave_no_descriptor_and_no_zombie(tmp_path: Path) -> None:
    async def many() -> None:
        done = await asyncio.gather(
            *(shell(f"echo {n}; cat", tmp_path, stdin=b"x") for n in range(20))
        )
        assert [one.output for one in done] == [f"{n}\nx".encode() for n in range(20)]

    run(many())
    before = open_files()
    run(many())
    assert open_files() == before
    assert children() == []


# --- what is ended, and when


def test_time_out_ends_a_program(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(shell("echo before; sleep 60", tmp_path, timeout_s=0.2))
    assert done.timed_out
    assert done.output == b"before\n"
    assert done.returncode == -signal.SIGTERM
    assert 0.2 <= time.monotonic() - began < 0.2 + 2


def test_a_grandchild_that_holds_the_pipe_does_not_delay_the_time_out(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(shell(f"{SLEEPER} & echo before; wait", tmp_path, timeout_s=0.3))
    assert time.monotonic() - began < 0.3 + 2
    assert done.timed_out
    assert done.output == b"before\n"
    assert not lives(written_pids(tmp_path)[0])


def test_who_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(shell("trap '' TERM; while :; do sleep 0.05; done", tmp_path, timeout_s=0.2))
    assert time.monotonic() - began < 0.2 + 2
    assert done.timed_out
    assert done.returncode == -signal.SIGKILL


def test_who_heeds_it_may_clean_up_and_say_so(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.02; done"
    done = run(shell(script, tmp_path, timeout_s=0.3))
    assert done.timed_out
    assert done.output.endswith(b"bye\n")


@linux_only
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
@pytest.mark.parametrize(
    "escape", ["setsid {} &", "(setsid {} &) &", "(trap '' TERM; setsid {} &)"]
)
def test_descendants_that_left_session_and_parent_end_too(escape: str, tmp_path: Path) -> None:
    script = f"{escape.format(SLEEPER)}\n sleep 60"
    began = time.monotonic()
    assert run(shell(script, tmp_path, timeout_s=0.3)).timed_out
    assert time.monotonic() - began < 0.3 + 2
    assert not lives(written_pids(tmp_path)[0])


@linux_only
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_nothing_in_the_background_outlives_a_normal_end(tmp_path: Path) -> None:
    script = f"setsid {SLEEPER} & {SLEEPER} & while [ ! -s pids ]; do :; done; echo done"
    began = time.monotonic()
    done = run(shell(script, tmp_path))
    assert time.monotonic() - began < 3, "it waited for the pipe"
    assert done.output == b"done\n"
    assert done.returncode == 0
    assert not done.timed_out
    assert not any(lives(pid) for pid in written_pids(tmp_path))


@linux_only
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_who_is_started_while_we_look_is_found_though_its_parent_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"echo $$ > parent; read line < go; setsid {SLEEPER} &"
    (tmp_path / "parent.sh").write_text(script)
    listed = os.listdir

    def listdir(folder: str) -> list[str]:
        names = listed(folder)
        if folder == "/proc" and not begun(tmp_path):
            (tmp_path / "go").write_text("go\n")
            written_pids(tmp_path)
            number = int((tmp_path / "parent").read_text())
            while lives(number):
                time.sleep(0.001)
        return names

    monkeypatch.setattr(os, "listdir", listdir)
    run(shell("sh parent.sh & while [ ! -s parent ]; do :; done", tmp_path))
    assert not lives(written_pids(tmp_path)[0])


def test_a_child_without_our_environment_ends_with_its_group(tmp_path: Path) -> None:
    script = f'env -i PATH="$PATH" {SLEEPER} & while [ ! -s pids ]; do :; done'
    run(shell(script, tmp_path))
    assert not lives(written_pids(tmp_path)[0])


def test_output_still_on_its_way_when_the_program_ends_is_kept(tmp_path: Path) -> None:
    done = run(shell("(sleep 0.05; echo late) & echo early", tmp_path))
    assert done.output == b"early\nlate\n"


def test_endless_output_does_not_postpone_the_time_out(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(shell("yes", tmp_path, timeout_s=0.2, max_output_bytes=1000))
    assert time.monotonic() - began < 0.2 + 2
    assert done.timed_out
    assert len(done.output) <= 1000 < done.total_bytes


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_cancelling_ends_the_tree_first(ignores: str, tmp_path: Path) -> None:
    async def main() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(shell, f"{ignores}{SLEEPER} & {SLEEPER}", tmp_path)
            pids = await anyio.to_thread.run_sync(written_pids, tmp_path, 2)
            group.cancel_scope.cancel()
            began = time.monotonic()
        assert not any(lives(pid) for pid in pids)
        return time.monotonic() - began

    assert run(main()) < 2


def test_a_cancelled_program_may_clean_up(tmp_path: Path) -> None:
    async def main() -> None:
        stays = "trap 'echo bye > note; exit' TERM; echo $$ > pids; while :; do sleep 0.02; done"
        async with anyio.create_task_group() as group:
            group.start_soon(shell, stays, tmp_path)
            await anyio.to_thread.run_sync(written_pids, tmp_path)
            group.cancel_scope.cancel()
        assert (tmp_path / "note").read_text() == "bye\n"

    run(main())


def test_cancelling_the_task_twice_skips_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.world.process_tree._TERM_GRACE_S", 25.0)

    async def main() -> None:
        task = asyncio.create_task(shell(f"trap '' TERM; {SLEEPER}", tmp_path))
        while not begun(tmp_path):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        assert lives(written_pids(tmp_path)[0])
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5
        assert not lives(written_pids(tmp_path)[0])

    run(main())
    assert children() == []


def test_a_loop_that_is_torn_down_takes_its_programs_with_it(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    program = shell(SLEEPER, tmp_path)
    task = loop.create_task(program)
    while not begun(tmp_path):
        loop.run_until_complete(asyncio.sleep(0.01))
    program.close()
    assert not lives(written_pids(tmp_path)[0])
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


@linux_only
def test_without_process_descriptors_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert run(shell("echo hi", tmp_path)).output == b"hi\n"
    assert run(shell(f"setsid {SLEEPER} & sleep 60", tmp_path, timeout_s=0.3)).timed_out
    assert not lives(written_pids(tmp_path)[0])
    assert children() == []


INNER = """
import asyncio, pathlib, sys
from lorimer.world import RealWorld
asyncio.run(RealWorld().spawn(["sh", "-c", sys.argv[1]], cwd=pathlib.Path.cwd()))
"""


@linux_only
def test_what_a_lorimer_inside_has_spawned_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        with anyio.move_on_after(10) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(spawn_inner)
                while not begun(tmp_path):
                    await asyncio.sleep(0.01)
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        assert not lives(written_pids(tmp_path)[0])

    async def spawn_inner() -> None:
        await RealWorld().spawn(
            [sys.executable, "-c", INNER, SLEEPER],
            cwd=tmp_path,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    run(main())


ADOPTER = """
import asyncio, ctypes, pathlib, os
from lorimer.core.world import ProcessLimits
from lorimer.world import RealWorld
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
script = "sleep 60 & setsid sleep 60 & sleep 0.1"
asyncio.run(RealWorld().spawn(["sh", "-c", script], cwd=pathlib.Path.cwd()))
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("none left")
"""


@linux_only
def test_orphans_handed_to_us_are_reaped(tmp_path: Path) -> None:
    """As for PID 1 of a container, which gets every orphan."""
    done = python(ADOPTER, tmp_path)
    assert done == "none left\n"


# A fresh process, because only there does the highest mark tell anything.
GUZZLER = """
import asyncio, pathlib, resource
from lorimer.world import RealWorld
async def main():
    world = RealWorld()
    await world.spawn(["true"], cwd=pathlib.Path.cwd())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = await world.spawn(["head", "-c", "1000000000", "/dev/zero"], cwd=pathlib.Path.cwd())
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(done.total_bytes, after - before)
asyncio.run(main())
"""


@linux_only
def test_a_gigabyte_of_output_takes_a_few_megabytes(tmp_path: Path) -> None:
    total, grown_kib = python(GUZZLER, tmp_path).split()
    assert int(total) == 1_000_000_000
    assert int(grown_kib) <= 8 * 1024


def python(program: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
