"""`lorimer runs prune`."""

from __future__ import annotations

from pathlib import Path

import apsw

from lorimer.testing.fake_server import FakeLLMServer
from tests.cli.support import (
    HangsOnce,
    Running,
    asked,
    call,
    in_terminal,
    invoke,
    lines,
    listed,
    run_process,
)
from tests.cli.test_runs import DONE, finished
from tests.cli.test_runs_diff import answered


def older(path: Path, days: float) -> None:
    """Let everything that is there have happened so long ago."""
    db = apsw.Connection(str(path))
    back = int(days * 86_400e6)
    db.execute("UPDATE runs SET started=started-?, ended=ended-?", (back, back))
    db.execute("UPDATE streams SET lease_until=0")
    db.close()


def test_old_sessions_go_and_the_rest_stays(own_place: Path, tmp_path: Path) -> None:
    store = tmp_path / "store" / "lorimer.db"
    old = finished()
    older(store, 31)
    young = answered("x")
    said = invoke("runs", "prune", "--older-than", "30d", "--dry-run")
    assert (said.exit_code, said.stdout) == (0, "would remove 1 session with 1 run\n")
    assert len(listed()) == 2
    result = invoke("runs", "prune", "--older-than", "30d")
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first == "removed 1 session with 1 run, 1 document that no run uses any more"
    assert second.endswith("is free for new runs; --vacuum returns it to the disk")
    assert [row["run_id"] for row in listed()] == [young]
    assert invoke("runs", "verify", "--all").exit_code == 0
    assert invoke("runs", "show", old).exit_code == 2
    [told] = lines(invoke("runs", "prune", "--older-than", "30d", "--vacuum", "--json").stdout)
    assert (told["sessions"], told["free"]) == (0, 0)
    assert isinstance(told["given_back"], int)
    assert told["given_back"] > 0
    assert invoke("runs", "show", young).exit_code == 0


def test_a_terminal_is_shown_how_far_it_has_come(tmp_path: Path) -> None:
    for n in range(3):
        answered(str(n))
    older(tmp_path / "store" / "lorimer.db", 99)
    pressed = in_terminal("runs", "compact", "--older-than", "1d", keys=[]).out
    assert pressed.startswith("\r\x1b[K… compacting session 1 of 3")
    words = ("runs", "prune", "--older-than", "1d")
    tried = in_terminal(*words, "--dry-run", keys=[]).out
    assert tried.startswith("\r\x1b[K… looking at session 1 of 3")
    assert tried.endswith("\r\x1b[Kwould remove 3 sessions with 3 runs\r\n")
    shown = in_terminal(*words, "--vacuum", keys=[]).out
    assert "\r\x1b[K… removing session 1 of 3" in shown
    assert "\r\x1b[Kremoved 3 sessions" in shown
    assert "\r\x1b[K… rewriting the file\r\x1b[Kthe file is" in shown
    assert run_process(*words).err == ""


def test_the_latest_are_kept(tmp_path: Path) -> None:
    runs = [answered(str(n)) for n in range(3)]
    older(tmp_path / "store" / "lorimer.db", 99)
    assert invoke("runs", "prune", "--older-than", "1d", "--keep", "2").exit_code == 0
    assert [row["run_id"] for row in listed()] == [runs[2], runs[1]]


def test_a_run_whose_process_was_killed_stays(tmp_path: Path) -> None:
    script = HangsOnce(1, call("Write", file_path="a.txt", content="x"), DONE)
    with FakeLLMServer(script) as server:
        words = ("run", "go", "--base-url", server.url, "--allow", "Write(a.txt)")
        with Running(*words):
            asked(server, 2)
        older(tmp_path / "store" / "lorimer.db", 99)
        result = invoke("runs", "prune", "--older-than", "30d")
        assert "1 old session with an unfinished run stay" in result.stdout
        resumed = invoke("runs", "resume", "run_", "--allow", "Write(a.txt)")
        assert resumed.exit_code == 0, resumed.stderr


def test_wrong_words(own_place: Path) -> None:
    assert invoke("runs", "prune", "--dry-run").exit_code == 2
    soon = invoke("runs", "prune", "--older-than", "soon")
    assert soon.exit_code == 2
    assert "'soon' is not a time" in soon.stderr
    assert invoke("runs", "prune", "--older-than", "1d").exit_code == 2, "there is no store"


def test_ended_sessions_are_compacted_and_read_as_before(own_place: Path, tmp_path: Path) -> None:
    run = finished()
    older(tmp_path / "store" / "lorimer.db", 31)
    young = answered("x")
    words = [
        ("runs", "show", run),
        ("runs", "show", run, "--json"),
        ("runs", "export", run, "--session"),
        ("runs", "replay", run),
        ("runs", "diff", run, young),
        ("runs", "verify", "--all"),
        ("runs", "ls", "--json"),
    ]
    before = [invoke(*line).stdout for line in words]
    said = invoke("runs", "compact", "--older-than", "30d")
    assert said.exit_code == 0, said.stderr
    first, second = said.stdout.splitlines()
    assert first.startswith("compacted 1 session with 1 run: ")
    assert "free for new runs" in second
    assert [invoke(*line).stdout for line in words] == before
    [told] = lines(invoke("runs", "compact", "--vacuum", "--json").stdout)
    assert (told["sessions"], told["runs"], told["free"]) == (1, 1, 0), "the young one"
    assert [invoke(*line).stdout for line in words] == before
    [again] = lines(invoke("runs", "compact", "--json").stdout)
    assert (again["sessions"], again["saved"]) == (0, 0)
    assert invoke("runs", "fork", run, "--after", "9").exit_code == 2
