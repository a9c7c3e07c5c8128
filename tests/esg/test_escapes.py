"""Steps that try to get out of their worker, really: none does, at either level that holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

from lorimer.core.world import Level
from lorimer.esg.confined import ConfinedSteps, StepWorkers
from tests.esg.escapes import ESCAPES, SETUP
from tests.esg.test_confined import HELD, At
from tests.world.levels import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confined steps are for Linux")

SECRET = "canary-of-the-environment"
REFUSED = ("OSError", "PermissionError", "FileNotFoundError", "ProcessLookupError")


@cache
def outcomes(level: Level) -> dict[str, str]:
    """What each attempt came to: `held`, `absent`, or how it was not held."""
    with ExitStack() as cleanup:
        base = Path(tempfile.mkdtemp(prefix="lorimer-escapes-", dir="/var/tmp"))
        cleanup.callback(shutil.rmtree, base)
        home, outside, work = (base / name for name in ("home", "outside", "work"))
        for folder in (home / ".ssh", home / ".aws", outside, work):
            folder.mkdir(parents=True)
        for file in (home / ".ssh/id", home / ".aws/credentials", outside / "file"):
            file.write_text("canary")
        os.mkfifo(outside / "pipe")
        reader = os.open(outside / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        cleanup.callback(os.close, reader)
        tmp = cleanup.enter_context(tempfile.NamedTemporaryFile(dir="/tmp"))
        tmp.write(b"canary")
        tmp.flush()
        shared = cleanup.enter_context(tempfile.NamedTemporaryFile(dir="/dev/shm"))
        shared.write(b"canary")
        shared.flush()
        tcp = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = cleanup.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix, abstract = (cleanup.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        abstract_name = f"lorimer-{os.getpid()}"
        unix.bind(str(outside / "unix"))
        abstract.bind(f"\0{abstract_name}")
        unix.listen()
        abstract.listen()
        cleanup.enter_context(
            mock.patch.dict(os.environ, {"HOME": str(home), "CANARY_KEY": SECRET})
        )
        known: dict[str, object] = {
            "home": str(home),
            "outside": str(outside),
            "tmp": tmp.name,
            "shared": Path(shared.name).name,
            "abstract": abstract_name,
            "secret": SECRET,
            "pid": os.getpid(),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
        }
        return asyncio.run(attempts(level, work, known))


async def attempts(level: Level, work: Path, known: dict[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    async with StepWorkers(work, world=At(level)) as workers:
        session, sibling = [await ConfinedSteps.begin(workers) for _ in range(2)]
        pid = await sibling.execute("pid", "import os\nos.getpid()")
        known = {**known, "sibling": int(pid.shown)}
        setup = await session.execute("setup", f"known = {known!r}\n{SETUP}")
        assert setup.ok, setup.failure
        for name, code in ESCAPES.items():
            result = await session.execute("attempt", code)
            failure = result.failure
            if failure is None:
                found[name] = "it got out"
            elif failure.type == "Absent":
                found[name] = "absent"
            elif failure.type in REFUSED:
                found[name] = "held"
            else:  # a probe that is wrong proves nothing
                found[name] = f"{failure.type}: {failure.message}"
        alive = await sibling.execute("alive", "1")
        assert alive.ok
        assert sibling.recoveries == 0
    return found


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("level", HELD)
def test_a_step_cannot_reach(level: Level, name: str) -> None:
    needs(level)
    assert outcomes(level)[name] in ("held", "absent")


def test_the_same_attempts_succeed_where_nothing_holds() -> None:
    """So that they show something: in this process many of them get out."""
    names = ("a file outside", "files of others in /tmp", "a signal to us", "a program in memory")
    assert all(name in ESCAPES for name in names)
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as tmp:
        tmp.write(b"x")
        tmp.flush()
        known = {"outside": folder, "tmp": tmp.name, "pid": os.getpid()}
        for name in names:
            space: dict[str, object] = {"known": known}
            exec(SETUP, space)
            exec(ESCAPES[name], space)
