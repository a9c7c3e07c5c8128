"""A call whose process died before it could begin is told from one that may have begun; in doubt it
may have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lorimer.core.events import Event
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import announcements
from lorimer.journal.sqlite.announcements import PLACES, CallAnnouncements
from lorimer.testing import ScriptedModel
from lorimer.world import RealWorld, lives
from tests.core.support import Do, make

pytestmark = pytest.mark.skipif(not lives.place(), reason="needs to know when processes began")

ROOT = Path(__file__).parents[2]
INTENT = Event("tool.intent", {"key": "0", "hash": "x"}, "run_1", 3, 1_700_000_000.25)


def in_another_process(work: Callable[[], object]) -> None:
    """Does it, and is dead."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db-calls")


def test_what_a_dead_process_had_only_announced(path: str) -> None:
    in_another_process(lambda: CallAnnouncements(path).announce(INTENT))
    seen = CallAnnouncements(path)
    assert seen.never_began(INTENT)
    for other in (
        Event("tool.intent", INTENT.data, "run_2", 3, INTENT.time),
        Event("tool.intent", INTENT.data, "run_1", 4, INTENT.time),
        Event("tool.intent", {"key": "1"}, "run_1", 3, INTENT.time),
        Event("tool.intent", INTENT.data, "run_1", 3, INTENT.time + 1e-6),
    ):
        assert not seen.never_began(other)


def test_the_place_of_another_is_left_to_it_while_there_are_empty_ones(path: str) -> None:
    own, other = CallAnnouncements(path), CallAnnouncements(path)
    taken = {own.announce(INTENT), own.announce(INTENT)}
    assert not taken & {other.announce(INTENT), other.announce(INTENT)}


def test_what_had_begun_or_may_yet_begin_is_not(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def began() -> None:
        own = CallAnnouncements(path)
        own.withdraw(own.announce(INTENT))

    in_another_process(began)
    seen = CallAnnouncements(path)
    assert not seen.never_began(INTENT)
    own = CallAnnouncements(path)
    place = own.announce(INTENT)
    assert not seen.never_began(INTENT), "this process lives"

    # it goes on between the first look and its death
    def dies_late(pid: int, start: str) -> str:
        own.withdraw(place)
        return "gone"

    monkeypatch.setattr(lives, "fate", dies_late)
    assert not seen.never_began(INTENT)
    own.close()


def test_after_a_loss_of_power_nothing_is_known(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_another_process(lambda: CallAnnouncements(path).announce(INTENT))
    for here in ("another start of the machine", ""):
        monkeypatch.setattr(lives, "place", lambda here=here: here)
        assert not CallAnnouncements(path).never_began(INTENT)


@pytest.mark.parametrize("damage", [b"", b"x" * 50, b"\xff" * 14336])
def test_a_damaged_file_says_nothing_and_is_used_on(path: str, damage: bytes) -> None:
    Path(path).write_bytes(damage)
    assert not CallAnnouncements(path).never_began(INTENT)
    in_another_process(lambda: CallAnnouncements(path).announce(INTENT))
    assert CallAnnouncements(path).never_began(INTENT)


def test_what_cannot_be_written_is_not_announced(tmp_path: Path) -> None:
    assert CallAnnouncements(str(tmp_path / "no" / "file")).announce(INTENT) == -1
    assert CallAnnouncements("").announce(INTENT) == -1
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert CallAnnouncements(str(tmp_path / "link")).announce(INTENT) == -1
    assert not (tmp_path / "elsewhere").exists()


def test_no_more_than_there_is_room_for(path: str) -> None:
    own = CallAnnouncements(path)
    places = [own.announce(INTENT) for _ in range(PLACES + 1)]
    assert sorted(places) == [-1, *range(PLACES)]
    own.close()
    for place in places:
        own.withdraw(place)
    assert not any(Path(path).read_bytes())
    assert own.announce(INTENT) == -1, "it is closed"


def test_a_call_that_cannot_be_said_to_begin_does_not(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CallAnnouncements(path)
    place = own.announce(INTENT)

    def broken(*_: object) -> int:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(announcements.os, "pwrite", broken)
        with pytest.raises(Exception, match="cannot be written: the disk is gone"):
            own.withdraw(place)
    own.withdraw(place)
    own.close()


def test_a_call_is_made_unannounced_where_the_disk_is_full(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CallAnnouncements(path)
    own.withdraw(own.announce(INTENT))

    def full(*_: object) -> int:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(announcements.os, "pwrite", full)
        assert [own.announce(INTENT) for _ in range(PLACES + 1)] == [-1] * (PLACES + 1)
    place = own.announce(INTENT)
    assert place >= 0, "none was lost by it"
    own.withdraw(place)
    own.close()


SCRIPT = """
import asyncio, os, signal, sys
from lorimer.core.messages import ToolUse
from lorimer.journal import SQLiteJournal
from lorimer.journal.sqlite import wal
from lorimer.world import RealWorld
from tests.core.support import Do, make

folder, when = sys.argv[1:]
flush, synced = wal.flush, 0

def dying(file):
    global synced
    synced += 1
    if when == "in the fsync" and synced == 2:  # the first was for run.start
        os.kill(os.getpid(), signal.SIGKILL)
    flush(file)

wal.flush = dying

def send(input, context):
    open(folder + "/sent", "a").write("x")
    if when == "in the call":
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    journal = SQLiteJournal(folder + "/journal.db")
    model = [[ToolUse("c1", "send", {})], "done"]
    tools = [Do("send", send, effects=["send"])]
    await make(RealWorld(), model, tools=tools, journal=journal, owner="me").run("go")

asyncio.run(main())
"""


def killed(folder: Path, when: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), when],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("when", ["in the fsync", "in the call"])
def test_a_call_is_made_after_all_where_it_had_not_begun(when: str, tmp_path: Path) -> None:
    killed(tmp_path, when)
    world = RealWorld()

    async def go_on(*, dies: bool) -> tuple[str, list[object]]:
        def send(input: object, context: object) -> str:
            with (tmp_path / "sent").open("a") as file:
                file.write("x")
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return "sent"

        async with SQLiteJournal(tmp_path / "journal.db") as journal:
            (row,) = await journal.runs()
            model = ScriptedModel(["done"])
            tools = [Do("send", send, effects=["send"])]
            options = {"tools": tools, "journal": journal, "owner": "me"}
            result = await make(world, model, **options).resume(row.run_id)
            facts = [fact async for fact in journal.read(row.stream)]
            decided = [f.data.get("outcome") for f in facts if f.type == "effect"]
            return str(result.steps[0].content), decided

    if when == "in the call":
        told, decided = asyncio.run(go_on(dies=False))
        assert "whether it took effect is not known" in told
        assert decided == []
    else:
        # it dies in the call, which was decided on by then: from now on nobody knows
        in_another_process(lambda: asyncio.run(go_on(dies=True)))
        told, decided = asyncio.run(go_on(dies=False))
        assert "whether it took effect is not known" in told
        assert decided == ["not_begun"]
    assert (tmp_path / "sent").read_text() == "x"


def test_it_is_made_once(tmp_path: Path) -> None:
    killed(tmp_path, "in the fsync")

    async def go_on() -> str:
        async with SQLiteJournal(tmp_path / "journal.db") as journal:
            (row,) = await journal.runs()
            tools = [Do("send", lambda *_: "sent", effects=["send"])]
            pipeline = make(RealWorld(), ["done"], tools=tools, journal=journal, owner="me")
            result = await pipeline.resume(row.run_id)
            assert (await pipeline.replay(row.run_id)).divergence is None
            return json.dumps([step.content for step in result.steps])

    assert asyncio.run(go_on()) == '["sent"]'
