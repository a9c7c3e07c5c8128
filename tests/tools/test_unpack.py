"""Unpack: what the model is told, and what it may not do with it."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from lorimer.core.limits import Limits
from lorimer.tools import builtin_tools
from lorimer.tools.permissions import Policy
from lorimer.tools.policy.modes import Action, Mode
from lorimer.world.files import RootedFiles
from tests.tools.support import Bench, run, toolset


def packed(root: Path, **entries: str) -> None:
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("_", "/"), content)


def unpacked(root: Path, archive: str, into: str, *, timeout_s: float = 60) -> tuple[str, bool]:
    async def main() -> tuple[str, bool]:
        bench = await Bench.make(limits=Limits(tool_timeout_s=timeout_s))
        with RootedFiles([root]) as files:
            tools = toolset(*builtin_tools(["Unpack"]), files=files)
            block = await bench.call(tools, "Unpack", {"archive": archive, "into": into})
        return str(block.content), block.is_error

    return run(main)


def test_it_tells_what_it_did(tmp_path: Path) -> None:
    packed(tmp_path, d_one="1", two="22")
    assert unpacked(tmp_path, "a.zip", "new") == ("Unpacked 2 files (3 bytes) into new.", False)
    assert (tmp_path / "new/d/one").read_text() == "1"
    assert unpacked(tmp_path, "a.zip", str(tmp_path / "other"))[1] is False


@pytest.mark.parametrize(
    ("archive", "into", "told"),
    [
        ("none.zip", "new", "none.zip: No such file or directory"),
        ("text", "new", "text was not unpacked: it cannot be read"),
        ("a.zip", "full", "full: it is there already, and not empty"),
        ("a.zip", "../new", "/new: outside the permitted folders"),
        ("../a.zip", "new", "ERROR exec.tool.access_denied: ../a.zip: outside the permitted"),
        ("a.zip", "new", "a.zip was not unpacked: '.git/config': nothing"),
    ],
)
def test_failures_say_what_is_wrong(tmp_path: Path, archive: str, into: str, told: str) -> None:
    packed(tmp_path, **{".git_config": "x"})
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    content, is_error = unpacked(tmp_path, archive, into)
    assert told in content
    assert is_error
    assert not (tmp_path / "new").exists()


def test_at_its_time_out_it_writes_no_more(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number in range(9000):
            archive.addfile(tarfile.TarInfo(f"{number}"))
    (tmp_path / "a.tar").write_bytes(made.getvalue())
    content, _ = unpacked(tmp_path, "a.tar", "new", timeout_s=0.3)
    assert "exec.tool.timeout" in content
    time.sleep(0.1)
    written = len(list(tmp_path.glob("new/*")))
    time.sleep(0.2)
    assert len(list(tmp_path.glob("new/*"))) == written < 9000


def test_it_is_decided_as_a_write(tmp_path: Path) -> None:
    (tool,) = builtin_tools(["Unpack"])
    (entry,) = toolset(tool, granted=False).registry.entries()
    for mode, into, action in (
        (Mode.DEFAULT, "new", Action.ASK),
        (Mode.ACCEPT_EDITS, "new", Action.ALLOW),
        (Mode.ACCEPT_EDITS, "../new", Action.ASK),
        (Mode.ACCEPT_EDITS, ".git/hooks", Action.ASK),
        (Mode.PLAN, "new", Action.DENY),
    ):
        policy = Policy([], mode, tmp_path, [tmp_path])
        decided = policy.decide(entry, {"archive": "a.zip", "into": into}, tainted=False)
        assert decided.action is action, (mode, into)


def test_no_files_no_archives() -> None:
    async def main() -> None:
        bench = await Bench.make()
        tools = toolset(*builtin_tools(["Unpack"]))
        block = await bench.call(tools, "Unpack", {"archive": "a", "into": "b"})
        assert "no files are open to tools here" in str(block.content)

    run(main)
