"""Live probes: a real program tries to break out of each level, and the result is reported.

What a level promises depends on the machine: `lorimer doctor` shows the results, and the tests
check every level against them.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from lorimer.core.world import Isolation, Level, ProcessLimits, Sandbox
from lorimer.world.sandbox import probe_worker
from lorimer.world.spawn import run_process

PROBES: Final[Mapping[str, str]] = {
    "write": "writes outside of its folder",
    "read": "reads a protected file",
    "tcp": "reaches a local server (TCP)",
    "udp": "reaches a local server (UDP)",
    "signal": "signals a process outside",
    "environ": "reads our environment",
    "any_environ": "finds it in any process it sees",
    "processes": "sees other programs' command lines",
    "mount": "mounts something",
    "ptrace": "traces a process",
    "escape": "outlives its call (setsid, no environment)",
    "death": "outlives a kill -9 of ours",
}
"""What each probe tries."""

ALL: Final = frozenset(PROBES)
EXPECTED: Final[Mapping[Level, frozenset[str]]] = {
    "L0": frozenset({"escape"}),
    "L1": ALL - {"death"},
    "L2": ALL,
}
"""What each level has to prevent."""

_SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one level is tried: a folder that it may write to, and some that it may not."""

    inside: Path
    outside: Path
    canary: Path
    sandbox: Sandbox


async def probe(level: Level) -> dict[str, bool]:
    """For each of `PROBES` whether it was prevented at this level. Takes about half a second.

    Raises OSError when the level does not work here at all.
    """
    with ExitStack() as cleanup:
        base = Path(tempfile.mkdtemp(prefix="lorimer-probes-", dir=_base()))
        cleanup.callback(shutil.rmtree, base, ignore_errors=True)
        place = _place(base)
        known = {
            "outside": str(place.outside),
            "canary": str(place.canary),
            "tcp": str(cleanup.enter_context(_listener())),
            "udp": str(cleanup.enter_context(_echo())),
            "pid": str(os.getpid()),
            "environ": _own_environ(),
        }
        held = await _attempts(level, place, known)
        held["escape"] = await _escape(level, place)
        held["death"] = await asyncio.to_thread(_death, level, place)
    return {name: held.get(name, False) for name in PROBES}


def _own_environ() -> str:
    return hashlib.sha256(Path("/proc/self/environ").read_bytes()).hexdigest()


def _base() -> str | None:
    """Not in /tmp, where the sandbox has a folder of its own, which would hide the attempts."""
    for folder in ("/var/tmp", "/dev/shm"):  # noqa: S108 - a folder of ours is made in it
        if os.access(folder, os.W_OK):
            return folder
    return None


def _place(base: Path) -> Place:
    inside, outside, hidden = base / "inside", base / "outside", base / "hidden"
    for folder in (inside, outside, hidden):
        folder.mkdir()
    canary = hidden / "canary"
    canary.write_bytes(b"canary")
    return Place(inside, outside, canary, Sandbox(writable=(inside,), hidden=(hidden,)))


def _worker(*words: str) -> list[str]:
    return [sys.executable, "-I", "-S", probe_worker.__file__, *words]


def _limits(place: Place) -> ProcessLimits:
    return ProcessLimits(timeout_s=20, sandbox=place.sandbox)


async def _attempts(level: Level, place: Place, known: Mapping[str, str]) -> dict[str, bool]:
    done = await run_process(
        _worker("try"),
        cwd=place.inside,
        stdin=json.dumps(known).encode(),
        limits=_limits(place),
        isolation=Isolation(level, level),
    )
    if done.returncode != 0:
        said = done.output[-300:].decode("utf-8", "replace")
        raise OSError(f"the probes could not be run at {level}: {said}")
    return cast("dict[str, bool]", json.loads(done.output))


async def _escape(level: Level, place: Place) -> bool:
    lock = place.inside / "escape"
    await run_process(
        _worker("escape", str(lock)),
        cwd=place.inside,
        limits=_limits(place),
        isolation=Isolation(level, level),
    )
    return await asyncio.to_thread(_let_go, lock)


def _death(level: Level, place: Place) -> bool:
    """Kill a Lorimer that has started a program; check whether that survives."""
    lock = place.inside / "death"
    # not by run_process, which would clean up what is left
    subprocess.run(
        [sys.executable, "-m", __name__, level, str(place.inside.parent)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(place.inside.parent),  # also removes what it can no longer remove
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    return _let_go(lock)


def _let_go(lock: Path) -> bool:
    """Whether a lock that was taken is free again; kills its holder if not."""
    if not lock.exists() or not lock.read_bytes():
        return False  # it never ran, so nothing is proven
    with lock.open("rb") as file:
        give_up = time.monotonic() + _SETTLE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    break
                time.sleep(0.01)
            else:
                return True
    with suppress(OSError):
        os.kill(int(lock.read_bytes()), signal.SIGKILL)
    return False


@contextmanager
def _listener() -> Generator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def _echo() -> Generator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    _, sender = server.recvfrom(10)
                    server.sendto(b"pong", sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


async def _die_with_a_child(level: Level, base: Path) -> None:
    place = Place(base / "inside", base / "outside", base, Sandbox(writable=(base / "inside",)))
    lock = place.inside / "death"
    running = asyncio.ensure_future(
        run_process(
            _worker("hold", str(lock)),
            cwd=place.inside,
            limits=_limits(place),
            isolation=Isolation(level, level),
        )
    )
    await asyncio.to_thread(probe_worker.until_held, str(lock))
    running.add_done_callback(lambda _: None)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(_die_with_a_child(cast("Level", sys.argv[1]), Path(sys.argv[2])))
