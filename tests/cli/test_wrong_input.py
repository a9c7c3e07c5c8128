"""Whatever is wrong with a command line: one line, the nearest names, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorimer.cli.app import lorimer
from lorimer.cli.fail import EXIT_CODES, exit_code
from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.manifest import DEFAULT_MODEL
from lorimer.presets import PRESETS
from tests.cli.support import invoke, listed, run_process

WRONG = (
    ("rum hi", "there is no command 'rum'; did you mean 'run'"),
    ("runs lss", "there is no command 'lss'; did you mean 'ls'? Known: answer, cancel, "),
    ("run --modle x hi", "there is no option '--modle'; did you mean '--model' or '--models'?"),
    ("run --max-turn 3 hi", "there is no option '--max-turn'; did you mean '--max-turns'"),
    ("demo --quick", "there is no option '--quick'"),
    ("run --max-turns three hi", "'--max-turns': 'three' is not a valid whole number"),
    ("run --max-cost-usd much hi", "'much' is not a valid amount of dollars"),
    ("run --max-turns 0 hi", "invalid value for '--max-turns': 0 is not in the range x>=1"),
    ("run --max-cost-usd -1 hi", "invalid value for '--max-cost-usd'"),
    ("run --timeout soon hi", "'soon' is not a time: write seconds, or e.g. 90s, 5m, 2h, 30d"),
    ("run --output-format jsn hi", "there is no 'jsn'; did you mean 'json'?"),
    ("run --preset agnet hi", "there is no preset 'agnet'; did you mean 'agent'?"),
    ("run --preset geny_vtuber hi", "'geny_vtuber' comes with the package lorimer-vtuber"),
    ("manifest new --preset agnet", "there is no preset 'agnet'; did you mean 'agent'?"),
    ("manifest explain agnet", "'agnet' is neither a file nor a preset; did you mean 'agent'?"),
    (
        "run --provider antropic -m x hi",
        "there is no provider 'antropic'; did you mean 'anthropic'",
    ),
    ("run -m antropic:x hi", "did you mean 'anthropic'?"),
    ("run -m opnai/x hi", "did you mean 'openai'?"),
    ("run -m nosuch:model hi", "the provider 'nosuch' of the model 'model' is unknown"),
    (
        "run --provider openai -m anthropic:claude-sonnet-4-6 hi",
        "--provider says 'openai', the model 'anthropic:claude-sonnet-4-6' says 'anthropic'",
    ),
    ("run --model= hi", "the model is empty"),
    ("run --tools Read,,Grep hi", "--tools: there is an empty name in 'Read,,Grep'"),
    ("run --provider openai hi", "--provider needs --model: which model of that provider?"),
    ("run --tools Raed hi", "there is no built-in tool 'Raed'; did you mean 'Read'?"),
    ("run --allow Bsh(ls) --base-url http://x hi", "no tool 'Bsh'; did you mean 'Bash'?"),
    ("run --allow Bash(ls --base-url http://x hi", "is not a rule"),
    ("run --preset minimal --tools Read hi", "--tools: this agent has no tool stage"),
    ("run --preset minimal --system x hi", "--system: this agent has no system stage"),
    ("run --manifest nowhere.yaml hi", "'nowhere.yaml' does not exist"),
    ("run --manifest bad.toml hi", "bad.toml"),
    ("run --preset chat --manifest bad.toml hi", "--preset and --manifest both"),
    ("run --workspace nowhere hi", "'nowhere' does not exist"),
    ("run --input-file nowhere hi", "'nowhere' does not exist"),
    ("run --input-file bad.toml hi", "two tasks"),
    ("run --preset chat", "no task"),
    ("run --input-file empty.txt", "empty.txt is empty"),
    ("run --input-file latin1.txt", "the task is not UTF-8 text"),
    (
        "run --api-key-env NOT_SET --base-url http://x hi",
        "the variable NOT_SET is not set, or is empty (exec.api.no_client)",
    ),
    ("run --include-partial-messages hi", "goes with --output-format stream-json"),
    ("runs show", "there is no store of runs at"),
    ("runs ls --store nowhere.db", "there is no store of runs at nowhere.db"),
    ("runs resume run_x --store nowhere.db", "there is no store of runs at nowhere.db"),
    (f"runs ls --store {'x' * 300}.db", "there is no store of runs at xxx"),
    ("runs ls --store ~nobody_here/runs.db", "there is no store of runs at ~nobody_here/runs.db"),
    ("models ls --models nowhere.toml", "the host file nowhere.toml does not exist"),
    ("models ls --models .", "the host file . is not a file"),
    (f"models ls --models {'x' * 300}.toml", "the host file xxx"),
    ("manifest validate", "missing argument"),
    ("audit ls", "missing argument 'FILE'"),
    ("runs cancel", "missing argument 'RUN'"),
    ("runs diff one", "missing argument 'RIGHT'"),
    ("runs export run_x -o nowhere/x.jsonl", "nowhere/x.jsonl cannot be written: No such file"),
    ("steps show latin1.txt", "latin1.txt is not UTF-8 text"),
    (
        "run --manifest bad.yaml hi",
        "bad.yaml: not valid YAML: line 2, column 1: expected the node content",
    ),
    ("demo --base-url http://x", "--base-url needs --model"),
    ("demo --dir .", "--dir: . exists"),
    ("run what is in here", "there are 4 texts, and one task is wanted"),
)


@pytest.mark.parametrize(("line", "expected"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input(line: str, expected: str, own_place: Path) -> None:
    (own_place / "bad.toml").write_text("[stages\n", "utf-8")
    (own_place / "bad.yaml").write_text("stages: [\n", "utf-8")
    (own_place / "empty.txt").write_text(" \n", "utf-8")
    (own_place / "latin1.txt").write_bytes("Zürich".encode("latin-1"))
    result = invoke(*line.split())
    told = result.stderr.splitlines()
    assert result.exit_code == 2, result.output
    assert told[0].startswith("error: ")
    assert expected in told[0]
    assert len(told) == 1 or (len(told) == 2 and told[1].startswith("hint: "))
    assert result.stdout == ""
    assert listed() == []


def test_a_task_without_quotes_is_told_to_go_into_quotes() -> None:
    told = invoke("run", "what", "is", "in", "here").stderr.splitlines()
    assert (
        told[1] == "hint: Several words that are one text go into quotes. See: lorimer run --help"
    )


def test_a_command_without_arguments_is_told_to_have_options_only() -> None:
    told = invoke("manifest", "new", "chat").stderr.splitlines()
    assert told == [
        "error: got unexpected extra argument (chat)",
        "hint: It has options only. See: lorimer manifest new --help",
    ]


@pytest.mark.parametrize("without", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_for_whoever_wants_none(
    without: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    wrong, right = ("run", "--modle", "x", "hi"), ("run", "hi", "-m", "scripted:obedient")

    def shown() -> str:
        said = [CliRunner().invoke(lorimer, list(words), color=True) for words in (wrong, right)]
        return "".join(each.output for each in said)

    assert shown().count("\x1b[") > 2
    for name, value in without.items():
        monkeypatch.setenv(name, value)
    assert "\x1b[" not in shown()


def test_lists_of_commands_tell_whole_sentences() -> None:
    for group in ("runs", "models", "manifest", "permissions", "steps", "audit", "sessions"):
        listed_there = invoke(group, "--help").stdout.partition("Commands:")[2]
        assert listed_there.strip()
        assert "..." not in listed_there
        assert "e.g.\n" not in listed_there


def test_the_help_names_every_preset() -> None:
    *names, last = PRESETS
    for words in (("run",), ("manifest", "new")):
        shown = " ".join(invoke(*words, "--help").stdout.split())
        assert f"--preset NAME {', '.join(names)} or {last}." in shown


def test_whoever_has_only_seen_the_demo_finds_its_runs() -> None:
    for words in (("runs", "ls"), ("runs", "show")):
        assert "--store lorimer-demo/journal.db" in invoke(*words).stderr


def test_a_model_of_a_server_of_one_s_own() -> None:
    told = invoke("run", "-m", "llama3:8b", "hi").stderr.splitlines()
    assert "Known: anthropic, claude_code_cli, google, llamacpp" in told[0]
    assert told[1].startswith("hint: A server of your own")
    assert "-m openai:NAME --base-url URL" in told[1]


def test_a_model_whose_vendor_is_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    told = invoke("run", "-m", "mistral-large", "hi").stderr.splitlines()
    assert told[0].startswith("error: no API key for the provider 'anthropic'")
    assert told[1].startswith("hint: If 'mistral-large' is a model of another one: -m PROVIDER:")
    told = invoke("run", "-m", "claude-opus-4-6", "hi").stderr.splitlines()
    assert told[1].startswith("hint: export ANTHROPIC_API_KEY=")


def test_every_exit_code_is_in_the_help() -> None:
    shown = invoke("--help").stdout
    words = " ".join(shown.split())
    for code, meaning in EXIT_CODES.items():
        assert f" {code} {meaning}" in words
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("command", ["run", "chat"])
def test_the_help_tells_the_default_of_what_an_agent_limits_itself(command: str) -> None:
    options = invoke(command, "--help").stdout.partition("Options:")[2].split("\n  -")
    for name in ("--max-turns", "--max-cost-usd", "--timeout", "--model"):
        told = [" ".join(each.split()) for each in options if f"{name[1:]} " in each.split("  ")[0]]
        assert all("Default: the agent's" in each for each in told), name
        assert told, name
    assert f"else {DEFAULT_MODEL}." in " ".join(" ".join(options).split())


@pytest.mark.parametrize(
    "line",
    ["models ls", "manifest stages loop", "manifest explain chat", "manifest diff chat agent"],
)
def test_json_is_asked_for_in_the_same_way_everywhere(line: str) -> None:
    short = invoke(*line.split(), "--json")
    assert json.loads(short.stdout)
    assert invoke(*line.split(), "--output-format", "json").stdout == short.stdout


def test_what_others_call_resume_is_told() -> None:
    assert "lorimer runs resume RUN" in invoke("run", "--resume", "x").stderr
    assert "no session 'x'" in invoke("chat", "--resume", "x", "-m", "scripted:echo").stderr


@pytest.mark.parametrize("code", list(ExecutorErrorCode))
def test_every_error_code_has_a_documented_exit_code(code: ExecutorErrorCode) -> None:
    assert exit_code(LorimerError("x", code=code)) in set(EXIT_CODES) - {0}


def test_a_traceback_only_with_debug(own_place: Path) -> None:
    plain = run_process("run", "--preset", "agnet", "hi")
    assert (plain.code, plain.err.count("\n")) == (2, 2)
    debug = run_process("run", "--debug", "--preset", "agnet", "hi")
    assert "Traceback" in debug.err


def test_help_is_quick_and_imports_no_command() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from lorimer.cli.app import lorimer\n"
        "try: lorimer(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'anthropic', 'openai', 'google', 'apsw', 'httpx2', 'lorimer.cli.run'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Exit codes:" in done.stdout


def test_the_store_may_not_be_some_other_file(own_place: Path) -> None:
    import sqlite3

    database = sqlite3.connect(own_place / "other.db")
    database.execute("CREATE TABLE t(x)")
    database.close()
    result = invoke("runs", "ls", "--store", "other.db")
    assert result.exit_code == 4
    assert "other.db is a SQLite database, but not a journal of lorimer" in result.stderr


def test_a_store_that_cannot_be_one_says_why(own_place: Path) -> None:
    os.mkfifo("pipe.db")
    for store, why in (
        (".", "it is a folder"),
        ("pipe.db", "it is a device or a pipe"),
        ("caf\udce9.db", "its path is not UTF-8"),
    ):
        told = invoke("run", "hi", "-m", "scripted:echo", "--store", store)
        assert told.exit_code == 4
        assert f"cannot be opened: {why} (exec.journal.failed)" in told.stderr


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LORIMER_STORE")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    told = invoke("runs", "ls")
    assert (told.exit_code, told.stderr.splitlines()[0]) == (
        2,
        "error: this user has no home directory",
    )


def test_a_user_without_a_home_can_work_where_it_is_told_to(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that is given a number for its user, and nothing else."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_011)
    for store in ("runs.db", "~/runs.db"):
        monkeypatch.setenv("LORIMER_STORE", store)
        told = invoke("run", "hi", "-m", "scripted:echo")
        assert (told.exit_code, told.stdout) == (0, "hi\n"), told.stderr


def test_a_named_pipe_in_place_of_the_rules_of_a_project(own_place: Path) -> None:
    """Nobody writes to it: reading would wait without end."""
    folder = own_place / ".lorimer"
    folder.mkdir(exist_ok=True)
    os.mkfifo(folder / "permissions.toml")
    for words in (("run", "hi", "-m", "scripted:obedient"), ("permissions", "test")):
        done = invoke(*words)
        assert done.exit_code == 2
        assert "permissions.toml is not a file" in done.stderr
        assert "hint: Remove it." in done.stderr
