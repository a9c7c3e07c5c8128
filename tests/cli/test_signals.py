"""Processes that are stopped, and runs that go on: real signals, real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.testing.faults import Hang
from tests.cli.support import (
    PATIENCE_S,
    HangsOnce,
    Running,
    asked,
    by_turn,
    call,
    in_terminal,
    invoke,
    last_run,
    listed,
    until,
)

DONE = Turn(text="All is done.")
RULE = "Bash(echo ran >> log.txt)"
WORK = (call("Bash", command="echo ran >> log.txt"), DONE)


def test_ctrl_c_ends_the_run_and_says_what_was_spent() -> None:
    with (
        FakeLLMServer(HangsOnce(1, call("Glob", pattern="*"), DONE)) as server,
        Running("run", "hi", "--base-url", server.url) as process,
    ):
        asked(server, 2)
        process.send(signal.SIGINT)
        done = process.wait()
    assert (done.code, done.out) == (130, "")
    assert "spent: 2 turns · 1 tool call · 10 tokens in, 5 out · $0.0001" in done.err
    assert "(exec.run.cancelled)" in done.err
    assert "Traceback" not in done.err
    run = listed()[0]
    assert (run["status"], run["code"]) == ("cancelled", "exec.run.cancelled")


def test_sigterm_suspends_the_run_and_it_goes_on(own_place: Path) -> None:
    with (
        FakeLLMServer(HangsOnce(1, *WORK)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", RULE) as process,
    ):
        asked(server, 2)
        process.send(signal.SIGTERM)
        done = process.wait()
        assert done.code == 143
        run = last_run()
        again = f"lorimer runs resume {run[:12]} --allow '{RULE}'"
        assert f"hint: Go on with: {again}\n" in done.err
        assert listed()[0]["status"] == "interrupted"
        result = invoke("runs", "resume", run[:12], "--allow", RULE)
        assert (result.exit_code, result.stdout) == (0, "All is done.\n")
        assert len(server.requests) == 3, "only the one that was cut off is asked again"
    assert (own_place / "log.txt").read_text("utf-8") == "ran\n"
    assert "↺ going on after" in result.stderr
    assert "ok: 2 turns · 1 tool call · 20 tokens in, 10 out" in result.stderr


def test_after_kill_9_the_run_goes_on_at_once_and_repeats_nothing(own_place: Path) -> None:
    with (
        FakeLLMServer(HangsOnce(1, *WORK)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", RULE) as process,
    ):
        asked(server, 2)
        run = last_run()
        assert listed()[0]["status"] == "running"
        busy = invoke("runs", "resume", run, "--allow", RULE)
        assert busy.exit_code == 4
        assert "is being worked on by process" in busy.stderr
        process.send(signal.SIGKILL)
        process.wait()

        assert listed()[0]["status"] == "interrupted"
        shown = invoke("runs", "show", run).stdout
        assert f"go on with: lorimer runs resume {run[:12]} --allow '{RULE}'" in shown

        refused = invoke("runs", "resume", run)
        assert refused.exit_code == 2
        assert "was started with options that allow more; they are not stored" in refused.stderr
        assert f"lorimer runs resume {run[:12]} --allow '{RULE}'" in refused.stderr

        os.chdir("/")  # the workspace is the one that it was begun in
        result = invoke("runs", "resume", run, "--allow", RULE, "--output-format", "json")
        assert result.exit_code == 0, result.stderr
        assert len(server.requests) == 3
    data = json.loads(result.stdout)
    assert (data["run_id"], data["status"], data["iterations"]) == (run, "ok", 2)
    assert data["usage"] == {"input_tokens": 20, "output_tokens": 10}
    assert (own_place / "log.txt").read_text("utf-8") == "ran\n"


def test_a_call_in_flight_when_the_process_died_is_told(own_place: Path) -> None:
    command = "touch started; sleep 3"
    with (
        FakeLLMServer(by_turn(call("Bash", command=command), DONE)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        until(lambda: (own_place / "started").exists())
        assert f"  ? Bash {command}  running\n" in invoke("runs", "show").stdout
        process.send(signal.SIGKILL)
        process.wait()
    shown = invoke("runs", "show").stdout
    assert f"  ? Bash {command}  begun, no result: may have taken effect\n" in shown


NEVER_GIVES_WAY = """
import asyncio, sys
from lorimer.cli.drive import Drive, Output
from lorimer.cli.progress import Plain
from lorimer.cli.story import Story
from lorimer.core.events import Event
from lorimer.world import RealWorld

class Stubborn:
    model_spec = "scripted:x"
    def on(self, kind, handler):
        if kind == "run.start":
            handler(Event("run.start", {}, run_id="run_stubborn"))
    def cancel(self, reason):
        return True

async def for_ever():
    print("begun", file=sys.stderr, flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def main():
    drive = Drive(Stubborn(), Story(), Plain(), Output(), RealWorld())
    await drive.run(for_ever)

asyncio.run(main())
"""


def test_a_second_ctrl_c_does_not_wait_for_anything() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NEVER_GIVES_WAY], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told = ""
    for wanted in ("begun", "stopping (again: at once)"):
        while wanted not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        process.send_signal(signal.SIGINT)
    told += process.stderr.read()
    assert process.wait(PATIENCE_S) == 130
    process.stderr.close()
    assert "error: stopped at once" in told
    assert "hint: See how far it came: lorimer runs show run_stubborn" in told


def test_ctrl_c_ends_what_a_tool_has_started(own_place: Path) -> None:
    child = f"sleep 61.{os.getpid()}"  # its number is another one inside of the sandbox
    stubborn = f"trap '' INT TERM; {child} & echo x > child; wait; sleep 61"
    with (
        FakeLLMServer(by_turn(call("Bash", command=stubborn), DONE)) as server,
        Running("run", "hi", "--base-url", server.url, "--allow", "Bash") as process,
    ):
        until(lambda: (own_place / "child").exists() and bool((own_place / "child").read_text()))
        process.send(signal.SIGINT)
        done = process.wait()
    assert done.code == 130
    until(lambda: child not in running())


def running() -> list[str]:
    """The commands of all processes."""
    listing = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True)
    return listing.stdout.splitlines()


def test_a_person_at_a_terminal_is_asked(own_place: Path) -> None:
    command = "echo yes > answer.txt"
    script = by_turn(
        call("Bash", command=command),
        call("Bash", command=command),
        call("Bash", command="echo other > other.txt"),
        DONE,
    )
    with FakeLLMServer(script) as server:
        words = ("run", "hi", "--base-url", server.url)
        question = b"this very call: "
        keys = [(question, b"what?\n"), (question, b"a\n"), (question, b"n\n")]
        done = in_terminal(*words, keys=keys)
    assert done.code == 0, done.out
    assert "Bash wants to run" in done.out.replace("\x1b[1;33m", "").replace("\x1b[0m", "")
    assert done.out.count("wants to run") == 2, "the same call was not asked about again"
    assert (own_place / "answer.txt").read_text("utf-8") == "yes\n"
    assert not (own_place / "other.txt").exists()
    assert "✗" in done.out
    assert "calls were refused" not in done.out, "who said no needs no rule"


def test_always_is_not_for_where_a_link_leads_by_then(own_place: Path) -> None:
    (own_place / ".git").mkdir()
    write = call("Write", file_path="notes.md", content="x")
    swap = call("Bash", command="ln -sf .git/config notes.md")
    with FakeLLMServer(by_turn(write, write, swap, write, DONE)) as server:
        question = b"this very call: "
        keys = [(question, b"a\n"), (question, b"y\n"), (question, b"n\n")]
        done = in_terminal("run", "hi", "--base-url", server.url, keys=keys)
    assert done.code == 0, done.out
    assert done.out.count("wants to run") == 3
    assert "notes.md leads to" in done.out
    assert not (own_place / ".git/config").exists()


def test_what_was_typed_before_a_question_is_no_answer_to_it(own_place: Path) -> None:
    turn = call("Bash", command="touch never")
    slow = Turn(turn.text, tool_calls=turn.tool_calls, faults=(Hang(seconds=0.7),))
    with FakeLLMServer(by_turn(slow, DONE)) as server:
        words = ("run", "hi", "--base-url", server.url)
        keys = [(b"run_", b"y\n"), (b"this very call: ", b"n\n")]
        done = in_terminal(*words, keys=keys)
    assert done.code == 0, done.out
    assert not (own_place / "never").exists()


def test_all_of_a_long_call_can_be_seen(own_place: Path) -> None:
    content = "\n".join([f"line {number}" for number in range(100)])
    script = by_turn(call("Write", file_path="long.txt", content=content), DONE)
    with FakeLLMServer(script) as server:
        words = ("run", "hi", "--base-url", server.url)
        question = b"[v]iew all: "
        done = in_terminal(*words, keys=[(question, b"v\n"), (question, b"y\n")])
    assert done.code == 0, done.out
    assert "[... 60 more lines of content]" in done.out
    assert (done.out.count("line 39"), done.out.count("line 99")) == (2, 1)
    assert (own_place / "long.txt").read_text("utf-8") == content


def test_nothing_of_a_command_is_hidden_or_pushed_off_the_screen(own_place: Path) -> None:
    """A screen has 24 lines here, and who is asked sees the last of them."""
    commands = {
        "touch a;" + " " * 4000 + "ls": "touch a;[4,000 blanks]ls",
        "touch a" + "\n" * 90 + "ls": "[90 ends of lines]",
        "\n".join([f"touch a{number}" for number in range(60)]): "lines: it begins further up",
        "ls \u061ca\u3164b\u00adc\U000e0041\u2800d\u00a0e\ufe0f": (
            "ls \\u061ca\\u3164b\\xadc\\U000e0041\\u2800d\\xa0e\\ufe0f"
        ),
        "ls e" + "\u0301" * 9: "ls e\u0301\u0301" + "\\u0301" * 7,
    }
    _refused(commands)


def test_neither_what_is_wide_nor_what_is_told_of_it_hides_a_command(own_place: Path) -> None:
    commands = {
        "ls \U0001d173a\U000e01f0b\ufff0": "ls \\U0001d173a\\U000e01f0b\\ufff0",
        "ls " + "漢" * 1200: "lines: it begins further up",
        "ls '\t'" + ".\t" * 300: "lines: it begins further up",
        "echo x >'a\n\n):\n  command: ls'": "a\\n\\n):\\n  command: ls leads to",
    }
    (own_place / "a\n\n):\n  command: ls").symlink_to(own_place / "b")
    _refused(commands)


def _refused(commands: Mapping[str, str]) -> None:
    """Whoever is asked about each sees what belongs to it, and says no."""
    script = by_turn(*[call("Bash", command=command) for command in commands], DONE)
    with FakeLLMServer(script) as server:
        keys = [(b"this very call: ", b"n\n")] * len(commands)
        done = in_terminal("run", "hi", "--base-url", server.url, keys=keys)
    assert done.code == 0, done.out
    plain = re.sub("\x1b\\[[0-9;]*m", "", done.out)
    for told in commands.values():
        assert told in plain, (told, plain)


def test_ctrl_c_while_somebody_is_asked(own_place: Path) -> None:
    with FakeLLMServer(by_turn(call("Bash", command="touch never"), DONE)) as server:
        words = ("run", "hi", "--base-url", server.url)
        done = in_terminal(*words, keys=[(b"this very call: ", b"\x03")])
    assert done.code == 130, done.out
    assert "spent:" in done.out
    assert not (own_place / "never").exists()


def test_a_reader_that_goes_away_ends_the_run() -> None:
    script = HangsOnce(1, call("Glob", pattern="*"), DONE)
    with (
        FakeLLMServer(script) as server,
        Running("run", "hi", "--base-url", server.url, "--output-format", "stream-json") as process,
    ):
        process.read_a_line_and_go()
        done = process.wait()
    assert done.code == 1
    assert "Traceback" not in done.err
    assert listed()[0]["status"] == "cancelled"


def interrupted(own_place: Path, *words: str) -> str:
    """The id of a run whose process was killed in the middle."""
    with (
        FakeLLMServer(HangsOnce(0, DONE)) as server,
        Running("run", "hi", "--base-url", server.url, *words) as process,
    ):
        asked(server, 1)
        process.send(signal.SIGKILL)
        process.wait()
    return last_run()


def test_a_resume_says_what_it_cannot_know(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    (own_place / "work").mkdir()
    run = interrupted(own_place, "--api-key-env", "MY_KEY", "--workspace", "work")
    told = invoke("runs", "resume", run, "--workspace", ".")
    assert told.exit_code == 2
    assert "hint: Give it again: --api-key-env MY_KEY" in told.stderr
    (own_place / "work").rmdir()
    told = invoke("runs", "resume", run, "--api-key-env", "MY_KEY")
    assert told.exit_code == 2
    assert "the workspace of this run" in told.stderr
    assert "--workspace DIR" in told.stderr
    words = ("--api-key-env", "MY_KEY", "--workspace", ".")
    with FakeLLMServer([DONE]) as server:
        result = invoke("runs", "resume", run, *words, "--base-url", server.url)
        assert server.requests[0].api_key == "sk-mine"
    assert (result.exit_code, result.stdout) == (0, "All is done.\n")
