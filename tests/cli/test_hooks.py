"""Hooks in the files of rules: which are run, which are not, and what is said of those."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from lorimer.cli import policy_files
from lorimer.cli.policy_files import read_policy_files
from lorimer.core.world import SandboxMode
from lorimer.testing.fake_server import FakeLLMServer, SeenRequest
from lorimer.testing.fake_turn import Turn
from tests.cli.support import (
    HangsOnce,
    Running,
    alive,
    asked,
    by_turn,
    call,
    invoke,
    last_run,
    listed,
    until,
)
from tests.world.levels import needs

DONE = Turn(text="done")

HOOK = '[[hook]]\nevent = "PreToolUse"\ntools = ["Write"]\nrun = ["python3", "check.py"]\n'
BLOCKS = "import sys\nprint('not here', file=sys.stderr)\nsys.exit(2)\n"
REWRITES = (
    "import json, sys\ntold = json.load(sys.stdin)['tool_input']\n"
    "print(json.dumps({'change': {**told, 'file_path': 'b.txt'}}))\n"
)


def put(folder: Path, text: str, program: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "permissions.toml").write_text(text)
    if program:
        (folder / "hooks").mkdir(exist_ok=True)
        (folder / "hooks" / "check.py").write_text(program)


def user() -> Path:
    return policy_files.user_file().parent


def task(server: FakeLLMServer, *words: str) -> tuple[int, str]:
    """The exit code of a run that writes a.txt, and what it says on stderr."""
    result = invoke(
        *("run", "-m", "claude-sonnet-4-6", "--base-url", server.url),
        *("--allow", "Write", *words, "write it"),
    )
    return result.exit_code, result.stderr


WRITES = (call("Write", file_path="a.txt", content="x"), DONE)


def test_the_users_hooks_are_asked(own_place: Path) -> None:
    put(user(), HOOK, BLOCKS)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        code, told = task(server)
    assert code == 0
    assert "The hook 'python3 check.py' refused this call of Write: not here." in told
    assert "--allow" not in told, "no rule would allow it"
    assert not (own_place / "a.txt").exists()


def test_what_a_hook_changes_is_what_is_done(own_place: Path) -> None:
    put(user(), HOOK, REWRITES)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        assert task(server)[0] == 0
    assert (own_place / "b.txt").read_text() == "x"
    assert not (own_place / "a.txt").exists()


def test_what_a_hook_changes_is_permitted_again(own_place: Path) -> None:
    put(user(), f'deny = ["Write(./b.txt)"]\n{HOOK}', REWRITES)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        code, told = task(server)
    assert code == 0
    assert "rule deny Write(./b.txt)" in told
    assert not (own_place / "b.txt").exists()


def test_a_projects_hooks_are_run_once_it_is_trusted(own_place: Path) -> None:
    project = own_place / ".lorimer"
    put(project, HOOK, BLOCKS)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        code, told = task(server)
        assert code == 0
        assert "would run the hooks python3 check.py, but its current text is not trusted" in told
        assert (own_place / "a.txt").exists()
        (own_place / "a.txt").unlink()
        assert invoke("permissions", "trust", "-y").exit_code == 0
        assert "refused this call of Write: not here" in task(server)[1]
    assert not (own_place / "a.txt").exists()
    assert "1 hook;" in invoke("permissions", "test").stdout


@pytest.mark.parametrize("change", ["the program", "a file beside it", "a link", "the rules"])
def test_trust_ends_with_any_change(own_place: Path, change: str) -> None:
    project = own_place / ".lorimer"
    put(project, HOOK, REWRITES)
    assert invoke("permissions", "trust", "-y").exit_code == 0
    assert len(read_policy_files(own_place).hooks) == 1
    match change:
        case "the program":
            put(project, HOOK, REWRITES + "\n")
        case "a file beside it":
            (project / "hooks" / "json.py").write_text("raise SystemExit(0)")
        case "a link":
            (project / "hooks" / "check.py").unlink()
            (project / "hooks" / "check.py").symlink_to(own_place / "elsewhere.py")
        case _:
            put(project, f"{HOOK}timeout_s = 3\n")
    if change == "a link":
        result = invoke("permissions", "test")
        assert result.exit_code == 2
        assert "what its hooks run has to lie in" in result.stderr
        return
    assert not read_policy_files(own_place).hooks
    assert "its current text is not trusted" in invoke("permissions", "test").stderr


def test_a_project_without_a_folder_for_its_programs_is_told_so(own_place: Path) -> None:
    put(own_place / ".lorimer", HOOK)
    result = invoke("permissions", "test")
    folder = own_place / ".lorimer" / "hooks"
    assert result.exit_code == 2
    assert f"has to lie in {folder}, which is not there" in result.stderr


@pytest.mark.parametrize("sandbox", ["off", "require"])
def test_a_program_that_is_changed_while_the_run_goes_on_is_not_run(
    own_place: Path, sandbox: SandboxMode
) -> None:
    """The agent's own commands may write the workspace, but in a sandbox of level L2 not what was
    trusted; what was trusted is what is run."""
    if sandbox == "require":
        needs("L2")
    project = own_place / ".lorimer"
    put(project, HOOK, "print('{}')\n")
    assert invoke("permissions", "trust", "-y").exit_code == 0
    swap = 'sh -c \'echo "open(\\"owned\\", \\"w\\")" > .lorimer/hooks/check.py\''
    turns = (call("Bash", command=swap), *WRITES)
    with FakeLLMServer(by_turn(*turns)) as server:
        code, told = task(server, "--sandbox", sandbox, "--allow", f"Bash({swap})")
    assert code == 0
    assert ("(PreToolUse) is not what was trusted" in told) == (sandbox == "off")
    assert ("Read-only file system" in told) == (sandbox == "require")
    assert (own_place / "a.txt").exists() == (sandbox == "require")
    assert not (project / "hooks" / "owned").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[hook]\nevent = "Stop"', "hook has to be a list of tables, [[hook]]"),
        ("[[hook]]\n", "hook 1: the field event is missing"),
        ('[[hook]]\nevent = "Stop"\n', "hook 1: the field run is missing"),
        ('[[hook]]\nevent = "Stp"\nrun = ["x"]\n', "did you mean 'Stop'"),
        ('[[hook]]\nevent = "Stop"\nrun = "x -y"\n', "hook 1: run has to be a list of texts"),
        ('[[hook]]\nevent = "Stop"\nrun = []\n', "a hook has no program to run"),
        ('[[hook]]\nevent = "Stop"\nrun = ["x"]\ntimeout = 3\n', "there is no field 'timeout'"),
        ('[[hook]]\nevent = "Stop"\nrun = ["x"]\ntimeout_s = true\n', "a number of seconds"),
        ('[[hook]]\nevent = "Stop"\nrun = ["x"]\ntimeout_s = 1e9\n', "at most 600"),
        ('[[hook]]\nevent = "Stop"\nrun = ["x"]\ntools = ["Bash"]\n', "Stop is about none"),
        ('[[hook]]\nevent = "PreToolUse"\nrun = ["x"]\ntools = ["bash"]\n', "did you mean 'Bash'?"),
        ('[[hook]]\nevent = "PreToolUse"\nrun = ["x"]\nname = 3\n', "name has to be text"),
        ("[[hook]\n", ""),
    ],
    ids=[
        *("a table", "no event", "no program", "event", "a string", "empty", "field", "true"),
        *("too long", "of none", "tool", "name", "syntax"),
    ],
)
def test_a_file_that_is_not_understood_stops_the_command(
    own_place: Path, text: str, why: str
) -> None:
    put(user(), text)
    with FakeLLMServer([DONE]) as server:
        code, told = task(server)
        assert not server.requests
    assert code == 2
    [line, *hints] = told.strip().splitlines()
    assert line.startswith(f"error: {user() / 'permissions.toml'}")
    assert why in line
    assert line.endswith("(exec.pipeline.invalid_manifest)")
    assert len(hints) <= 1


def test_a_projects_hooks_run_nothing_of_it_from_elsewhere(own_place: Path) -> None:
    (own_place / "tool.py").write_text("")
    put(own_place / ".lorimer", HOOK.replace("check.py", "../../tool.py"), "x")
    result = invoke("permissions", "test")
    assert result.exit_code == 2
    assert "../../tool.py is of the project and lies outside" in result.stderr


def test_nor_what_is_not_there_yet(own_place: Path) -> None:
    """An agent could write it once the file is trusted."""
    put(own_place / ".lorimer", HOOK.replace("check.py", "../../later.py"), "x")
    result = invoke("permissions", "trust", "-y")
    assert result.exit_code == 2
    assert "../../later.py is of the project and lies outside" in result.stderr


def test_no_program_of_the_workspace_takes_the_place_of_a_hooks_own(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose virtual environment lies in the workspace has a folder of it on the PATH."""
    planted = own_place / ".venv" / "bin" / "python3"
    planted.parent.mkdir(parents=True)
    planted.write_text("#!/bin/sh\ntouch planted\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", f"{planted.parent}:{os.environ['PATH']}")
    put(user(), HOOK, BLOCKS)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        code, told = task(server)
    assert code == 0
    assert "refused this call of Write: not here." in told
    assert not list(own_place.parent.rglob("planted"))


def test_a_manifest_names_no_hook(own_place: Path) -> None:
    manifest = invoke("manifest", "new", "agent").stdout
    (own_place / "agent.yaml").write_text(f"{manifest}\nhooks:\n- event: Stop\n  run: [x]\n")
    result = invoke("manifest", "validate", "agent.yaml")
    assert result.exit_code == 2
    assert "hooks" in result.stderr


def test_the_one_who_is_trusted_most_is_asked_last(own_place: Path, tmp_path: Path) -> None:
    put(user(), HOOK)
    put(own_place / ".lorimer", HOOK, REWRITES)
    assert invoke("permissions", "trust", "-y").exit_code == 0
    folders = [hook.folder for hook in read_policy_files(own_place).hooks]
    assert folders == [own_place / ".lorimer" / "hooks", user()]


def test_what_a_hook_said_is_shown(own_place: Path) -> None:
    put(user(), HOOK, BLOCKS)
    with FakeLLMServer(by_turn(*WRITES)) as server:
        task(server)
        put(user(), HOOK, REWRITES)
        assert "the hook python3 check.py changed a call" in task(server)[1]
    changed, blocked = [str(row["run_id"]) for row in listed()]
    assert "the hook python3 check.py changed a call" in invoke("runs", "show", changed).stdout
    assert "refused this call of Write: not here" in invoke("runs", "show", blocked).stdout
    for run_id in (changed, blocked):
        assert invoke("runs", "replay", run_id).exit_code == 0
        assert invoke("runs", "verify", run_id).exit_code == 0


def test_an_observer_that_fails_is_told_of(own_place: Path) -> None:
    text = HOOK.replace("PreToolUse", "PipelineStart").replace('tools = ["Write"]\n', "")
    rung = "import json, sys\nopen(json.load(sys.stdin)['cwd'] + '/rang', 'w').close()\n"
    put(user(), text, rung + "sys.exit('no bell')\n")
    answer = by_turn(*WRITES)

    def when_it_has_failed(request: SeenRequest) -> Turn:
        until((own_place / "rang").exists)
        time.sleep(0.3)  # its process ends, and the run hears of it
        return answer(request)

    with FakeLLMServer(when_it_has_failed) as server:
        code, told = task(server)
    assert code == 0
    assert "! The hook 'python3 check.py' (PipelineStart) ended with exit code 1: no bell" in told
    assert (own_place / "a.txt").exists()


WATCHES = """
import json, os, sys, time
told = json.load(sys.stdin)
with open(os.path.join(told["cwd"], "asked.txt"), "a") as file:
    file.write(f"{told['event']} {os.getpid()}\\n")
if os.path.exists(os.path.join(told["cwd"], "slow")):
    time.sleep(60)
"""


def watching(*events: str) -> None:
    tables = [HOOK.replace("PreToolUse", event) for event in events]
    put(user(), "\n".join(tables), WATCHES)


def asked_so_far(own_place: Path) -> list[tuple[str, int]]:
    path = own_place / "asked.txt"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(event, int(pid)) for event, pid in rows]


def test_after_kill_9_nobody_is_asked_again(own_place: Path) -> None:
    watching("PreToolUse", "PostToolUse")
    with (
        FakeLLMServer(HangsOnce(1, *WRITES)) as server,
        Running("run", "go", "--base-url", server.url, "--allow", "Write") as process,
    ):
        asked(server, 2)
        process.send(signal.SIGKILL)
        process.wait()
        assert invoke("runs", "resume", last_run(), "--allow", "Write").exit_code == 0
    assert [event for event, _ in asked_so_far(own_place)] == ["PreToolUse", "PostToolUse"]


def test_a_call_that_was_made_is_not_made_again_for_its_hooks(own_place: Path) -> None:
    """Killed while a hook looks at a result: the result is known, and looked at once more."""
    watching("PostToolUse")
    (own_place / "slow").touch()
    with (
        FakeLLMServer(by_turn(*WRITES)) as server,
        Running("run", "go", "--base-url", server.url, "--allow", "Write") as process,
    ):
        until(lambda: bool(asked_so_far(own_place)))
        process.send(signal.SIGKILL)
        process.wait()
        [(_, pid)] = asked_so_far(own_place)
        os.kill(pid, signal.SIGKILL)  # no sandbox holds a hook: nothing else would end it
        (own_place / "slow").unlink()
        (own_place / "a.txt").write_text("changed since")
        result = invoke("runs", "resume", last_run(), "--allow", "Write")
    assert result.exit_code == 0
    assert (own_place / "a.txt").read_text() == "changed since"
    assert "outcome_unknown" not in result.stderr
    assert len(asked_so_far(own_place)) == 2


def test_ctrl_c_ends_a_hook_with_the_run(own_place: Path) -> None:
    watching("PreToolUse")
    (own_place / "slow").touch()
    with (
        FakeLLMServer(by_turn(*WRITES)) as server,
        Running("run", "go", "--base-url", server.url, "--allow", "Write") as process,
    ):
        until(lambda: bool(asked_so_far(own_place)))
        process.send(signal.SIGINT)
        assert process.wait().code == 130
    [(_, pid)] = asked_so_far(own_place)
    assert not alive(pid)
    assert not (own_place / "a.txt").exists()


def test_explain_names_the_hooks(own_place: Path) -> None:
    put(user(), HOOK, BLOCKS)
    assert "  hooks      python3 check.py" in invoke("permissions", "explain", "Write(a)").stdout
    assert "  hooks " not in invoke("permissions", "explain", "Read(a)").stdout
    told = json.loads(invoke("permissions", "explain", "--json", "Write(a)").stdout)
    assert told["hooks"] == ["python3 check.py"]
