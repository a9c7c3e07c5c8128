"""`lorimer runs show --follow`: a run of another process, as it unfolds."""

from __future__ import annotations

import json
from pathlib import Path

from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import Running, asked, by_turn, call, in_terminal, invoke, last_run, listed

WAITS = "until test -e go; do sleep 0.05; done"
TURNS = by_turn(call("Bash", command=WAITS), Turn("All is done."))
FOLLOW = ("runs", "show", "--follow")


def words(server: FakeLLMServer) -> tuple[str, ...]:
    return ("run", "wait", "--base-url", server.url, "--allow", f"Bash({WAITS})")


def test_what_happens_is_told_as_it_happens_to_the_end() -> None:
    with FakeLLMServer(TURNS) as server, Running(*words(server)) as run:
        asked(server, 1)
        with Running(*FOLLOW, "--json") as facts, Running(*FOLLOW) as watched:
            assert json.loads(facts.line())["type"] == "run.start"
            head = watched.note()
            Path("go").touch()
            assert run.wait().code == 0
            told, done = facts.wait(), watched.wait()
    kinds = [json.loads(line)["type"] for line in told.out.splitlines()]
    assert (told.code, kinds[-1]) == (0, "run.end")
    assert kinds.count("tool.result") == 1
    assert done.code == 0
    assert done.out == "\nAll is done.\n\nended ok\n"
    assert head == f"run {last_run()[:12]}  wait\n"
    assert "✓ Bash" in done.err
    ended = invoke(*FOLLOW)
    assert ended.stdout == invoke("runs", "show").stdout, "of one that has ended, all as without it"


def test_whoever_stops_looking_stops_nothing() -> None:
    with FakeLLMServer(TURNS) as server, Running(*words(server)) as run:
        asked(server, 1)
        seen = in_terminal(*FOLLOW, keys=[(b"Bash until", b"\x03")])
        assert seen.code == 130
        assert "the run goes on; end it: lorimer runs cancel " in seen.out
        assert listed()[0]["status"] == "running"
        Path("go").touch()
        assert run.wait().code == 0


def test_a_run_whose_process_dies_is_not_waited_for() -> None:
    with FakeLLMServer(TURNS) as server, Running(*words(server)) as run:
        asked(server, 1)
        with Running(*FOLLOW, "--json") as facts, Running(*FOLLOW) as watched:
            assert "run.start" in facts.line()
            run.__exit__()
            assert facts.wait().code == 0
            done = watched.wait()
    assert done.code == 0
    assert f"interrupted; go on with: lorimer runs resume {last_run()[:12]}" in done.out
