"""On what terms a resumed run goes on: as strictly as it was begun, and no more freely than is said
now."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from lorimer.cli import policy_files
from lorimer.cli.call import Call
from lorimer.cli.drive import Output
from lorimer.cli.foreground import as_strict
from lorimer.cli.options import Terms
from lorimer.testing.fake_server import FakeLLMServer
from lorimer.testing.fake_turn import Turn
from lorimer.tools.policy.modes import Mode
from tests.cli.support import by_turn, call, invoke, last_run

DONE = Turn(text="done")
FETCH = call("WebFetch", url="https://example.org/")
WRITE = call("Write", file_path="a.txt", content="x")
MAKE = call("Bash", command="make")


def begun(server: FakeLLMServer, *words: str) -> str:
    """A run that waits for an answer; it is answered with no."""
    result = invoke(
        *("run", "do it", "-m", "anthropic:claude-sonnet-4-6", "--base-url", server.url),
        *("--ask-later", *words),
    )
    assert result.exit_code == 5, result.stderr
    assert invoke("runs", "answer", last_run(), "no").exit_code == 0
    return last_run()


def test_a_plan_stays_one(own_place: Path) -> None:
    with FakeLLMServer(by_turn(FETCH, WRITE, DONE)) as server:
        run = begun(server, "--permission-mode", "plan")
        result = invoke("runs", "resume", run, "--ask-later")
        assert result.exit_code == 0, result.stderr
        assert "exec.tool.unknown" in json.dumps(server.requests[-1].body)


def test_unless_the_person_says_so(own_place: Path) -> None:
    with FakeLLMServer(by_turn(MAKE, WRITE, DONE)) as server:
        run = begun(server, "--permission-mode", "default")
        result = invoke("runs", "resume", run, "--permission-mode", "acceptEdits")
        assert result.exit_code == 0, result.stderr
    assert (own_place / "a.txt").read_text() == "x"


def test_what_allowed_more_has_to_be_said_again(own_place: Path) -> None:
    with FakeLLMServer(by_turn(MAKE, WRITE, DONE)) as server:
        run = begun(server, "--permission-mode", "acceptEdits", "--network", "B.org,a.org")
        again = "--permission-mode acceptEdits --network b.org,a.org"
        assert again in invoke("runs", "show", run).stdout
        refused = invoke("runs", "resume", run)
        assert refused.exit_code == 2
        assert again in refused.stderr
        noted = invoke("runs", "resume", run, "--ask-later")
        assert noted.exit_code == 5  # the call that was free then is asked about now
        assert f"started with {again}" in noted.stderr
        assert not (own_place / "a.txt").exists()
        assert invoke("runs", "answer", run, "no").exit_code == 0
        result = invoke("runs", "resume", run, *shlex.split(again))
        assert result.exit_code == 0, result.stderr


def test_a_file_that_is_gone_is_named_with_what_to_say(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, elsewhere = own_place / "models.toml", own_place / "elsewhere"
    file.write_text('[aliases]\nmine = "scripted:obedient"\n', "utf-8")
    elsewhere.mkdir()
    words = ("--ask-later", 'CALL Bash {"command": "make"}')
    assert invoke("run", "-m", "mine", "--models", "models.toml", *words).exit_code == 5
    assert invoke("runs", "answer", last_run(), "no").exit_code == 0
    moved = file.rename(own_place / "moved.toml")
    for again in (("resume", last_run()), ("fork", last_run(), "--after", "1", "-m", "mine")):
        gone = invoke("runs", *again)
        assert (gone.exit_code, gone.stderr) == (
            2,
            f"error: the host file of this run, {file}, no longer exists\n"
            "hint: Say where it is now: --models FILE\n",
        )
    assert invoke("runs", "resume", last_run(), "--models", str(moved)).exit_code == 0

    monkeypatch.setenv("LORIMER_MODELS", str(moved))
    assert invoke("run", "-m", "mine", *words).exit_code == 5
    monkeypatch.delenv("LORIMER_MODELS")
    for again in (("resume", last_run()), ("fork", last_run(), "--after", "1")):
        gone = invoke("runs", *again)
        assert gone.exit_code == 2
        hint = "hint: If 'mine' was a tier or an alias, name its host file: --models FILE; else exp"
        assert hint in gone.stderr

    recorded = ("run", "-m", "scripted:obedient", "--record", "said.jsonl", *words)
    assert invoke(*recorded).exit_code == 5
    assert invoke("run", "-m", "scripted:said.jsonl", *words).exit_code == 5
    monkeypatch.chdir(elsewhere)
    gone = invoke("runs", "resume", last_run())
    assert gone.exit_code == 2
    assert "said.jsonl cannot be read: No such file or directory" in gone.stderr
    assert f"hint: It was looked for in {elsewhere}." in gone.stderr


def test_a_workspace_that_is_gone_is_named_with_what_to_say(own_place: Path) -> None:
    work = own_place / "work"
    work.mkdir()
    words = ("--ask-later", "-m", "scripted:obedient", 'CALL Bash {"command": "make"}')
    assert invoke("run", "--workspace", "work", *words).exit_code == 5
    assert invoke("runs", "answer", last_run(), "no").exit_code == 0
    work.rename(own_place / "moved")
    run = last_run()[:12]
    gone = (
        f"error: the workspace of this run, {work}, no longer exists\n"
        "hint: Say where it is now: --workspace DIR"
    )
    told = invoke("runs", "resume", run)
    assert told.exit_code == 2
    assert told.stderr == f"{gone}; or abandon the run: lorimer runs cancel {run}\n"
    assert invoke("runs", "fork", run, "--after", "1").stderr == f"{gone}\n"
    assert invoke("runs", "resume", run, "--workspace", "moved").exit_code == 0


TERMS = Terms(None, (), None, None, None, Output())


@pytest.mark.parametrize(
    ("then", "now", "in_force"),
    [
        ("require", None, "require"),
        ("require", "auto", "auto"),
        ("off", None, None),
        ("", None, None),
        ("", "off", "off"),
    ],
)
def test_a_sandbox_that_was_required_is(then: str, now: str | None, in_force: str | None) -> None:
    terms = replace(TERMS, sandbox=now)
    assert as_strict(terms, Call(sandbox=then, network=("a.org",))).sandbox == in_force
    assert as_strict(terms, Call(sandbox=then, network=("a.org",))).network == ()


@pytest.mark.parametrize(
    ("then", "files", "attended", "mode"),
    [
        ("plan", None, True, Mode.PLAN),
        ("plan", Mode.ACCEPT_EDITS, True, Mode.PLAN),
        ("dontAsk", None, True, Mode.DONT_ASK),
        ("default", Mode.ACCEPT_EDITS, True, Mode.DEFAULT),
        ("default", Mode.PLAN, True, Mode.PLAN),
        ("default", None, False, Mode.DONT_ASK),
        ("bypass", None, True, Mode.DEFAULT),
        ("", Mode.ACCEPT_EDITS, True, Mode.ACCEPT_EDITS),
    ],
)
def test_the_mode_is_the_stricter_one(
    then: str, files: Mode | None, attended: bool, mode: Mode
) -> None:
    terms = as_strict(TERMS, Call(mode=then))
    found = policy_files.PolicyFiles((), files, False, (), ())
    given = policy_files.mode_of(
        terms.permission_mode, found, attended=attended, at_most=terms.at_most
    )
    assert given is mode
    said = policy_files.mode_of("sandboxed", found, attended=attended, at_most=terms.at_most)
    assert said is Mode.SANDBOXED
