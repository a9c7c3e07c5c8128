"""Sandbox levels, by real programs: what each holds, what still works in it, how it ends."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.world import Finished, Level, ProcessLimits, Sandbox
from lorimer.world import RealWorld
from lorimer.world.sandbox.levels import gaps
from lorimer.world.sandbox.view import Access, own_folders, protected_paths, view_of
from tests.world.levels import LEVELS, needs, run_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")

HELD: tuple[Level, ...] = ("L1", "L2")


def sh(level: Level, script: str, cwd: Path, **options: object) -> Finished:
    needs(level)
    return asyncio.run(run_at(level, ["bash", "-c", script], cwd, **options))  # type: ignore[arg-type]


# --- what is held: a real program tries


@pytest.mark.parametrize("level", LEVELS)
def test_every_probe_of_a_level_is_held(level: Level) -> None:
    from lorimer.world.sandbox.probes import EXPECTED, PROBES, probe

    needs(level)
    held = asyncio.run(probe(level))
    assert list(held) == list(PROBES)
    assert EXPECTED[level] <= {name for name in held if held[name]}
    print(f"{level}: {sum(held.values())} of {len(held)} probes held")


def test_as_many_probes_as_promised_are_held() -> None:
    from lorimer.world.sandbox.probes import EXPECTED

    assert len(EXPECTED["L2"]) == 12
    assert len(EXPECTED["L1"]) >= 10


@pytest.mark.parametrize("level", HELD)
def test_hidden_paths_are_not_there(level: Level, tmp_path: Path) -> None:
    work, keys, link = tmp_path / "work", tmp_path / "keys", tmp_path / "work" / "link"
    work.mkdir()
    keys.mkdir()
    (keys / "id").write_text("canary")
    (tmp_path / "token").write_text("canary")
    link.symlink_to(keys)
    script = f"cat {keys}/id {tmp_path}/token link/id; ls {keys}; echo x > {keys}/new"
    done = sh(level, script, work, hidden=[keys, tmp_path / "token", tmp_path / "absent"])
    assert b"canary" not in done.output
    assert os.listdir(keys) == ["id"]


def test_keys_in_their_usual_places_are_hidden(tmp_path: Path) -> None:
    needs("L2")
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    places = (
        *(".ssh/id", ".netrc", ".config/gh/hosts.yml", ".cache/huggingface/token", ".my.cnf"),
        *(".config/Bitwarden CLI/data.json", ".local/share/fish/fish_history", ".fly/config.yml"),
    )
    for place in places:
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text("canary")
    (home / ".cache/huggingface/other").write_text("fine")
    hidden = protected_paths({"HOME": str(home)})
    script = f"cd {home}; cat .cache/huggingface/other; grep -rs canary ."
    done = sh("L2", script, work, hidden=hidden, writable=[tmp_path])
    assert done.output == b"fine"


def test_keys_are_hidden_in_the_home_of_the_account_too_whatever_home_says() -> None:
    account = pwd.getpwuid(os.getuid()).pw_dir
    assert {Path(account, ".ssh"), Path("/elsewhere/.ssh")} < set(
        protected_paths({"HOME": "/elsewhere"})
    )
    assert Path(account, ".ssh") in protected_paths({})
    # what a program could put there is hidden once it exists: a writable home gets the folder
    assert Path(account, ".config/lorimer") in own_folders({"HOME": "/elsewhere"})


def test_at_l2_what_is_hidden_in_the_workspace_is_not_there_either(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"
    store.write_text("canary")
    done = sh("L2", "cat runs.db; echo gone > runs.db", tmp_path, hidden=[store])
    assert b"canary" not in done.output
    assert store.read_text() == "canary"


@pytest.mark.parametrize("level", HELD)
def test_a_workspace_in_a_hidden_folder_can_be_used(level: Level, tmp_path: Path) -> None:
    work = tmp_path / "hidden" / "work"
    work.mkdir(parents=True)
    (tmp_path / "hidden" / "other").write_text("canary")
    done = sh(level, "echo yes > made; cat made ../other", work, hidden=[tmp_path / "hidden"])
    assert done.output.startswith(b"yes\n")
    assert b"canary" not in done.output


@pytest.mark.parametrize("level", HELD)
def test_only_what_is_writable_can_be_written(level: Level, tmp_path: Path) -> None:
    work, other = tmp_path / "work", Path("/var/tmp", f"lorimer-test-{os.getpid()}")
    work.mkdir()
    other.mkdir()
    try:
        (other / "file").write_text("as it was")
        script = (
            f"echo a > made; rm {other}/file; : > {other}/file; mv {other}/file there;"
            f" ln {other}/file here; mkdir {other}/new; cat {other}/file"
        )
        done = sh(level, script, work)
        assert (other / "file").read_text() == "as it was"
        assert os.listdir(other) == ["file"]
        assert done.output.endswith(b"as it was")
        assert (work / "made").read_text() == "a\n"
    finally:
        (other / "file").unlink()
        other.rmdir()


def test_at_l2_rules_and_hooks_of_the_project_cannot_be_changed(tmp_path: Path) -> None:
    hooks = tmp_path / ".lorimer" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "check").write_text("as it was")
    script = (
        "echo evil > t; cat .lorimer/hooks/check; echo evil > .lorimer/hooks/check;"
        " mv t .lorimer/hooks/check; ln t .lorimer/new; mv .lorimer old; rm -r .lorimer"
    )
    done = sh("L2", script, tmp_path)
    assert done.output.startswith(b"as it was")
    assert (hooks / "check").read_text() == "as it was"
    assert os.listdir(tmp_path / ".lorimer") == ["hooks"]
    assert sorted(os.listdir(tmp_path)) == [".lorimer", "t"]
    assert b"evil" not in sh("L2", "cat .lorimer/*", tmp_path, hidden=[hooks.parent]).output
    sh("L2", "echo b > .lorimer/a", tmp_path, writable=[tmp_path, hooks.parent])
    assert (hooks.parent / "a").read_text() == "b\n"  # if the host says so


def test_at_l1_it_is_told_that_they_can(tmp_path: Path) -> None:
    assert not any(".lorimer" in gap for gap in gaps("L1", Sandbox(writable=(tmp_path,))))
    (tmp_path / ".lorimer").mkdir()
    told = f"{tmp_path}/.lorimer lies in the workspace: it can be written"
    assert told in gaps("L1", Sandbox(writable=(tmp_path,)))


KERNEL = """
import os
for start in ("/proc/sys", "/proc/self", "/sys/kernel"):
    for folder, _, names in os.walk(start):
        for name in names:
            path = os.path.join(folder, name)
            try:
                # opening changes nothing; who may write `core_pattern` names a program that the
                # kernel then starts outside of the sandbox
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
            except OSError:
                continue
            print(path)
"""


@pytest.mark.parametrize("level", HELD)
def test_no_setting_of_the_kernel_can_be_written(level: Level, tmp_path: Path) -> None:
    """Those of /proc/sys ask who the user is, not what it may: root without any capability too."""
    needs(level)
    done = asyncio.run(run_at(level, [sys.executable, "-I", "-S", "-c", KERNEL], tmp_path))
    assert done.output.decode() == ""


@pytest.mark.parametrize("level", HELD)
def test_its_temporary_folder_is_its_own_and_does_not_stay(level: Level, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "secret").write_text("canary")  # in the /tmp of all
    script = (
        f'f=$(mktemp) && echo mine > "$f" && cat "$f" && dirname "$f"; cat {tmp_path}/secret;'
        ' mkdir -p "$TMPDIR/deep"; chmod 0 "$TMPDIR/deep"'
    )
    done = sh(level, script, work)
    mine, folder, *_ = done.output.decode().splitlines()
    assert mine == "mine"
    assert b"canary" not in done.output
    assert folder == "/tmp" or not Path(folder).exists()


POWERS = """
import ctypes, os, resource, stat, struct, sys
held = ctypes.create_string_buffer(24)
ctypes.CDLL(None).capget(struct.pack("=Ii", 0x20080522, 0), held)
words = struct.unpack("=6I", held.raw)
capabilities = words[0] | words[1] | (words[3] | words[4]) << 32
print([each for each in range(64) if capabilities >> each & 1 and each not in (*range(5), 6, 7)])
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    try:
        os.mknod("device", kind | 0o600, os.makedev(1, 3))
        print("made a device")
    except OSError:
        pass
try:
    resource.prlimit(int(sys.argv[1]), resource.RLIMIT_CPU, (1, 1))
    print("limited another process")
except (OSError, ValueError):
    pass
resource.prlimit(0, resource.RLIMIT_CPU, (9, 9))
"""


@pytest.mark.parametrize("level", HELD)
def test_root_has_no_power_over_the_machine_in_it(level: Level, tmp_path: Path) -> None:
    """Over its network, its devices, and the processes outside of the sandbox."""
    needs(level)
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            argv = [sys.executable, "-I", "-S", "-c", POWERS, str(other.pid)]
            done = asyncio.run(run_at(level, argv, tmp_path))
            if level == "L1":  # elsewhere that number is nobody's
                assert resource.prlimit(other.pid, resource.RLIMIT_CPU) == resource.getrlimit(
                    resource.RLIMIT_CPU
                )
        finally:
            other.kill()
    assert (done.output.decode(), done.returncode) == ("[]\n", 0)


WITHOUT_SETPCAP = """
import asyncio, sys
from pathlib import Path
from tests.world.levels import run_at
from lorimer.core.world import Sandbox
from lorimer.world.sandbox.levels import gaps
done = asyncio.run(run_at("L1", ["echo", "alive"], Path(sys.argv[1])))
print(done.output.decode(), any("container" in gap for gap in gaps("L1", Sandbox())))
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="root's capabilities")
def test_what_root_may_not_give_up_is_told(tmp_path: Path) -> None:
    """In a container without CAP_SETPCAP."""
    needs("L1")
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-setpcap", sys.executable, "-c", WITHOUT_SETPCAP, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("alive\n True\n", "")


ESCAPES = """
import ctypes, errno, os, socket
c = ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments):
    got = c.syscall(number, *arguments)
    return got == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS)
print(refused(425, 8, None), refused(321, 0, None, 0), refused(250, 0, 0), refused(435, None, 0))
print(refused(272, 0x10000000), c.unshare(0x400) == 0)  # CLONE_NEWUSER; CLONE_FILES
import resource
print(resource.prlimit(0, resource.RLIMIT_RSS) == resource.getrlimit(resource.RLIMIT_RSS))
try:
    resource.setrlimit(resource.RLIMIT_RSS, (1, 1))
except (OSError, ValueError):
    print("kept")
try:
    socket.socket(38, socket.SOCK_SEQPACKET)  # AF_ALG
except OSError as error:
    print(error.errno == errno.EPERM)
socket.socketpair(), socket.socket(socket.AF_UNIX)
print(int([l for l in open("/dev/null")] == []))
"""


@pytest.mark.parametrize("level", HELD)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_system_calls_that_get_out_are_refused(level: Level, tmp_path: Path) -> None:
    needs(level)
    done = asyncio.run(run_at(level, [sys.executable, "-I", "-S", "-c", ESCAPES], tmp_path))
    assert done.output.decode().splitlines() == [
        "True True True True",
        "True True",
        "True",
        "kept",
        "True",
        "1",
    ]


SLOWS = """
import os
child = os.fork()
if not child:
    os.read(0, 1)
    os._exit(0)
for change in (
    lambda who: os.setpriority(os.PRIO_PROCESS, who, 19),
    lambda who: os.sched_setscheduler(who, os.SCHED_BATCH, os.sched_param(0)),
    lambda who: os.setpriority(os.PRIO_USER, who, 19),
):
    for who in (child, os.getppid(), 0):
        try:
            change(who)
            print("changed", end=" ")
        except PermissionError:
            print("-", end=" ")
own = os.sched_getaffinity(0)
os.sched_setaffinity(child, {min(own)})
print(os.sched_getaffinity(child) == own, end=" ")
os.sched_setaffinity(0, {min(own)})
print(os.sched_getaffinity(0) == {min(own)})
os.kill(child, 9)
"""


def test_at_l1_no_process_slows_another_down(tmp_path: Path) -> None:
    needs("L1")
    done = asyncio.run(run_at("L1", [sys.executable, "-I", "-S", "-c", SLOWS], tmp_path))
    refused = ["-", "-", "changed"] * 2 + ["-"] * 3
    assert done.output.decode().split() == [*refused, "True", "True"]
    lower = min(os.nice(0) + 5, 19)  # the tests themselves may run with less priority
    assert sh("L1", "nice -n 5 nice", tmp_path).output == f"{lower}\n".encode()


# --- what still works in it


@pytest.mark.parametrize("level", LEVELS)
def test_ordinary_work_goes_on(level: Level, tmp_path: Path) -> None:
    script = (
        "cat; echo err >&2; diff <(echo a) <(echo a); seq 3 | sort -r | head -1; "
        f"{sys.executable} -c 'import threading; t = threading.Thread(target=print, args=[7]);"
        " t.start(); t.join()'; exit 3"
    )
    done = sh(level, script, tmp_path, stdin=b"in\n")
    assert done.output == b"in\nerr\n3\n7\n"
    assert done.returncode == 3
    assert done.isolation is not None and done.isolation.in_force == level


@pytest.mark.parametrize("level", LEVELS)
def test_signals_and_missing_programs_are_told_as_ever(level: Level, tmp_path: Path) -> None:
    assert sh(level, "kill -USR1 $$", tmp_path).returncode == -signal.SIGUSR1
    for argv in (["no-such-program"], [], [""], ["true", "nul\0"], ["./absent"], [str(tmp_path)]):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's business
            asyncio.run(run_at(level, argv, tmp_path))
    with pytest.raises(FileNotFoundError):
        asyncio.run(run_at(level, ["true"], tmp_path / "nowhere", writable=[tmp_path]))


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_is_clean_from_the_start(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary")
    done = sh(level, "env; cat /proc/$$/environ /proc/1/environ | tr '\\0' '\\n'", tmp_path)
    assert b"HOME=" in done.output
    assert b"canary" not in done.output


@pytest.mark.parametrize("level", LEVELS)
def test_limits_of_the_kernel_hold(level: Level, tmp_path: Path) -> None:
    done = sh(level, "ulimit -c; ulimit -n; ulimit -d; ulimit -t", tmp_path, timeout_s=10)
    core, files, data, cpu = done.output.decode().split()
    assert core == "0"
    assert int(files) <= 16_384
    assert int(data) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    assert int(cpu) <= 10 * (os.cpu_count() or 1) + 5
    eater = "x = bytearray(2**50)"
    done = asyncio.run(run_at(level, [sys.executable, "-c", eater], tmp_path))
    assert done.returncode == 1
    assert b"MemoryError" in done.output


def test_at_l2_a_fork_bomb_hits_its_own_limit(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root's processes are not counted: not tested as root")
    done = sh("L2", "ulimit -u", tmp_path)
    assert int(done.output) <= 4096


# --- how it ends


@pytest.mark.parametrize("level", LEVELS)
def test_a_grandchild_that_holds_the_pipe_does_not_delay_the_time_out(
    level: Level, tmp_path: Path
) -> None:
    needs(level)
    script = "(trap '' TERM; exec setsid env -i sleep 98765) & echo begun; wait"
    began = time.monotonic()
    done = sh(level, script, tmp_path, timeout_s=1.0)
    assert time.monotonic() - began < 1.0 + 2
    assert done.timed_out
    assert done.output == b"begun\n"


@pytest.mark.parametrize("level", LEVELS)
def test_who_heeds_the_polite_signal_may_clean_up(level: Level, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.02; done"
    done = sh(level, script, tmp_path, timeout_s=1.0)
    assert done.timed_out
    assert done.output.startswith(b"hello\n") and done.output.endswith(b"bye\n")


@pytest.mark.parametrize("level", LEVELS)
def test_much_output_is_bounded(level: Level, tmp_path: Path) -> None:
    done = sh(level, "head -c 50000000 /dev/zero", tmp_path, max_output_bytes=1000)
    assert done.total_bytes == 50_000_000
    assert len(done.output) <= 1000


STARTER = """
import asyncio, os, sys
from pathlib import Path
from lorimer.core.world import ProcessLimits, Sandbox
from lorimer.world import RealWorld

async def die(ms):
    here = Path.cwd()
    limits = ProcessLimits(sandbox=Sandbox("L2", writable=(here,)))
    world = RealWorld()
    await world.spawn(["true"], cwd=here, limits=limits)
    asyncio.get_running_loop().call_later(ms / 1000, os.kill, os.getpid(), 9)
    await world.spawn(["sleep", sys.argv[1]], cwd=here, limits=limits)

for moment in sys.argv[2:]:
    if os.fork() == 0:
        asyncio.run(die(float(moment)))
    assert os.wait()[1] == 9
"""


def test_at_l2_nothing_stays_of_what_had_just_begun_when_we_were_killed(tmp_path: Path) -> None:
    needs("L2")
    word = f"300.{os.getpid()}"
    moments = [str(ms) for ms in range(0, 16, 2)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", STARTER, word, *moments]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    give_up = time.monotonic() + 5
    while (left := with_word(word)) and time.monotonic() < give_up:
        time.sleep(0.02)
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert not left


def with_word(word: str) -> list[int]:
    """The processes with this word in their commands."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and word in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def test_where_a_home_is_writable_nothing_can_speak_for_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorimer.world.sandbox.view import sandbox_for

    needs("L2")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    sandbox = sandbox_for("require", writable=[tmp_path], network=False)
    script = "mkdir -p .config/lorimer; echo allow > .config/lorimer/permissions.toml; touch made"
    argv = ["bash", "-c", script]
    limits = ProcessLimits(sandbox=sandbox)
    done = asyncio.run(RealWorld().spawn(argv, cwd=tmp_path, limits=limits))
    assert b"Read-only" in done.output
    assert (tmp_path / "made").exists()
    assert list((tmp_path / ".config/lorimer").iterdir()) == []


# --- which level


def test_a_folder_of_the_path_that_cannot_be_looked_at_is_no_fault(tmp_path: Path) -> None:
    for folder in (f"/tmp/{'x' * 300}", f"/{'x' * 300}"):  # as one that only root may enter
        assert view_of(Sandbox(), tmp_path, {"PATH": folder}).of(Access.WRITE) == []


def test_the_best_level_is_taken_and_told(tmp_path: Path) -> None:
    needs("L2")
    limits = ProcessLimits(sandbox=Sandbox(writable=(tmp_path,)))
    done = asyncio.run(RealWorld().spawn(["true"], cwd=tmp_path, limits=limits))
    assert done.isolation is not None
    assert (done.isolation.requested, done.isolation.in_force) == ("auto", "L2")


def test_without_bubblewrap_the_next_one_is_taken_never_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("L1")
    monkeypatch.setattr("lorimer.world.sandbox.bubblewrap.found", lambda *_: None)
    limits = ProcessLimits(sandbox=Sandbox(writable=(tmp_path,), hidden=(tmp_path / "x",)))
    (tmp_path / "x").touch()
    done = asyncio.run(RealWorld().spawn(["true"], cwd=tmp_path, limits=limits))
    assert done.isolation is not None and done.isolation.in_force == "L1"
    assert "what it starts outlives a kill -9 of Lorimer" in done.isolation.gaps
    assert (
        f"{tmp_path / 'x'} lies in the workspace: it can be read and written" in done.isolation.gaps
    )


def test_a_level_that_is_required_and_missing_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorimer.world.sandbox.bubblewrap.found", lambda *_: None)
    limits = ProcessLimits(sandbox=Sandbox("L2", writable=(tmp_path,)))
    with pytest.raises(ToolExecutionError, match=r"L2 is required.*not installed") as caught:
        asyncio.run(RealWorld().spawn(["touch", "made"], cwd=tmp_path, limits=limits))
    assert caught.value.code is ExecutorErrorCode.EXEC_SANDBOX_MISSING
    assert "lorimer doctor" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_bubblewrap_that_may_not_do_its_work_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("L1")
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("lorimer.world.sandbox.bubblewrap.found", lambda *_: str(fake))
    from lorimer.world.sandbox.levels import Levels

    why = asyncio.run(Levels().why_not())
    assert why["L2"] == "bubblewrap fails: setting up uid map: Permission denied"
    assert why["L1"] == ""


@pytest.mark.parametrize("level", ["L1", "L2"])
def test_a_folder_beneath_a_writable_one_is_writable_to_begin_in(
    tmp_path: Path, level: Level
) -> None:
    needs(level)
    (tmp_path / "sub").mkdir()
    done = asyncio.run(
        run_at(level, ["sh", "-c", "echo x > here"], tmp_path / "sub", writable=[tmp_path])
    )
    assert done.returncode == 0, done.output
    assert (tmp_path / "sub/here").exists()


@pytest.mark.parametrize("level", HELD)
@pytest.mark.parametrize("hidden", [True, False])
def test_to_begin_in_a_folder_does_not_open_it(level: Level, hidden: bool, tmp_path: Path) -> None:
    """What a program put a link to in place of a folder in the workspace, the next one is not to
    see: neither what is hidden, nor what lies in the /tmp of all."""
    needs(level)
    work, keys = tmp_path / "work", tmp_path / "keys"
    work.mkdir()
    keys.mkdir()
    (keys / "id").write_text("canary")
    (work / "led").symlink_to(keys)
    found = run_at(level, ["cat", "id"], work / "led", writable=[work], hidden=[keys] * hidden)
    assert b"canary" not in asyncio.run(found).output
    if hidden:
        found = run_at(level, ["cat", "id"], keys, writable=[work], hidden=[keys])
        assert b"canary" not in asyncio.run(found).output


@pytest.mark.parametrize("way", ["a folder", "a link to one", "a link"])
def test_a_bubblewrap_that_a_program_may_have_put_there_is_not_started(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose virtual environment lies in the workspace has a folder of it on the PATH."""
    needs("L2")
    work, other = tmp_path / "work", tmp_path / "other"
    planted = work / "bin" / "bwrap"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"#!/bin/sh\ntouch {tmp_path}/escaped\n")
    planted.chmod(0o755)
    folder = planted.parent
    if way == "a link to one":
        other.symlink_to(folder)
        folder = other
    elif way == "a link":
        other.mkdir()
        (other / "bwrap").symlink_to(planted)
        folder = other
    limits = ProcessLimits(sandbox=Sandbox("L1", writable=(work,)))
    for path, level in ((f"{folder}:{os.environ['PATH']}", "L2"), (str(folder), "L1")):
        monkeypatch.setenv("PATH", path)
        done = asyncio.run(RealWorld().spawn(["/bin/true"], cwd=work, limits=limits))
        assert done.returncode == 0, done.output
        assert done.isolation is not None and done.isolation.in_force == level
        assert not (tmp_path / "escaped").exists()
    limits = ProcessLimits(sandbox=Sandbox("L2", writable=(work,)))
    with pytest.raises(ToolExecutionError, match="bwrap lies where what it is to hold may write"):
        asyncio.run(RealWorld().spawn(["/bin/true"], cwd=work, limits=limits))


def test_at_l2_a_socket_outside_of_the_workspace_is_not_spoken_to(tmp_path: Path) -> None:
    """Who answers there (a container service, an agent with keys) has more rights."""
    needs("L2")
    other = Path(tempfile.mkdtemp(prefix="lorimer-test-", dir="/var/tmp"))
    heard = 0
    try:
        with socket.socket(socket.AF_UNIX) as outside, socket.socket(socket.AF_UNIX) as inside:
            for server, folder in ((outside, other), (inside, tmp_path)):
                server.bind(str(folder / "a b.sock"))
                server.listen()
                server.setblocking(False)
            script = (
                "import socket, sys\nfor path in sys.argv[1:]:\n"
                "    try: socket.socket(socket.AF_UNIX).connect(path); print('yes')\n"
                "    except OSError: print('no')"
            )
            paths = [str(folder / "a b.sock") for folder in (other, tmp_path)]
            done = asyncio.run(run_at("L2", [sys.executable, "-c", script, *paths], tmp_path))
            with suppress(BlockingIOError):
                outside.accept()[0].close()
                heard = 1
        assert (done.output, heard) == (b"no\nyes\n", 0)
    finally:
        shutil.rmtree(other)
