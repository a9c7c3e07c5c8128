"""Small parts of the command line, each on its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lorimer.cli import app, owner, store, story, text
from lorimer.cli.demo.proof import Proof
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from tests.cli.support import invoke


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0412, "41 ms"), (8.24, "8.2 s"), (185, "3 min 05 s"), (7500, "2 h 05 min"), (-1, "0 ms")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_numbers_a_person_can_read() -> None:
    assert [text.tokens(n) for n in (7, 999, 12_345, 999_999)] == ["7", "999", "12.3k", "1.0M"]
    assert [text.money(n) for n in (0, 420_000, 12_340_000_000)] == ["$0.00", "$0.0004", "$12.34"]
    assert text.cost(0, 100) == "price unknown"
    assert [text.ago(s) for s in (3, 300, 7200, 200_000)] == [
        "just now",
        "5 min ago",
        "2 h ago",
        "2 d ago",
    ]
    assert text.count(1, "turn") == "1 turn"


def test_what_a_terminal_would_act_on_is_written_out() -> None:
    assert text.visible("a\tb\nü") == "a\tb\nü"
    assert text.visible("\x1b]0;x\x07\r\x9b1A") == "\\x1b]0;x\\x07\\r\\x9b1A"
    assert text.visible("\u061ca\u206ab\U000e0041\u2028") == "\\u061ca\\u206ab\\U000e0041\\u2028"
    assert json.loads(text.harmless('"\U000e0041\u061c"')) == "\U000e0041\u061c"
    assert text.harmless('"\U000e0041\u061c"').isascii()
    assert text.visible("\u202eevil\ud800") == "\\u202eevil\\ud800"
    assert text.one_line("a\n  b" * 100, 10) == "a ba ba b…"


def test_the_rows_of_a_text_are_not_underrated() -> None:
    assert text.rows("a" * 79 + "\n", 80) == 2
    assert text.rows("漢" * 4000, 81) >= 100  # 40 in a row


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/x"}, "/x/lorimer/lorimer.db"),
        ("linux", {"XDG_DATA_HOME": "not/absolute"}, "/h/.local/share/lorimer/lorimer.db"),
        ("darwin", {}, "/h/Library/Application Support/lorimer/lorimer.db"),
        ("linux", {"LORIMER_STORE": "~/mine.db"}, "/h/mine.db"),
    ],
)
def test_where_runs_are_kept(
    platform: str,
    variables: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("XDG_DATA_HOME", "LORIMER_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(store.store_path(None)) == expected
    assert str(store.store_path("given.db")) == "given.db"


def test_whether_the_writer_of_a_run_lives() -> None:
    own = owner.own_name()
    assert owner.fate(own) == "alive"
    assert owner.pid_of(own) == os.getpid()
    code = "from lorimer.cli.owner import own_name; print(own_name())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert owner.fate(other.stdout.strip()) == "gone"
    kind, machine, pid, start = own.split(":")
    if start:  # where the system tells when a process began
        assert owner.fate(f"{kind}:{machine}:{pid}:1{start}") == "gone", "the number is used again"
    assert owner.fate(f"{kind}:elsewhere:{pid}:{start}") == "unknown"
    assert owner.fate("owner_abc") == "unknown"


def test_the_version() -> None:
    assert invoke("--version").stdout.startswith("lorimer ")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(28, "No space left on device", "x.db"), 1, "error: x.db: No space left on device"),
        (RuntimeError("boom"), 1, "error: unexpected: RuntimeError: boom"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_nobody_expected_takes_one_line_too(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(app.Lazy, "get_command", lambda *_: broken)
    result = invoke("run")
    assert result.exit_code == code
    assert (result.stderr.strip().splitlines() or [""])[0] == told


def facts(*places: tuple[str, int]) -> list[Event]:
    """Facts of these kinds and iterations: replies that call Bash, results of a step that logs."""
    content: dict[str, JSON] = {
        "model.reply": [{"type": "tool_use", "id": "a", "name": "Bash", "input": {}}],
        "tool.result": [{"type": "text", "text": "✓ log, wrote runs.log\n\n(no value)"}],
    }
    return [
        Event(kind, {"key": "0", "content": content[kind]}, iteration=turn, seq=at)
        for at, (kind, turn) in enumerate(places, 1)
    ]


def test_the_demo_s_proof_fails_when_something_was_done_twice(tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    log.write_text("ran\n", "utf-8")
    before = facts(("model.reply", 0), ("tool.result", 0))
    good = [*before, *facts(("model.reply", 1))]
    assert Proof.of(before, good, 3, log).holds
    assert not Proof.of(before, good, 4, log).holds, "an answer was asked for twice"
    twice = [*before, *facts(("model.reply", 0), ("model.reply", 1))]
    assert not Proof.of(before, twice, None, log).holds, "an answer was recorded twice"
    again = [*good, *facts(("model.reply", 2), ("tool.result", 0))]
    assert not Proof.of(before, again, None, log).holds, "a call was recorded twice"
    log.write_text("ran\nran\n", "utf-8")
    assert not Proof.of(before, good, None, log).holds, "the analysis ran twice"


def told(live: story.Story, *events: Event) -> list[str]:
    """The lines of a story, as text."""
    lines = [line for event in events for line in live.tell(event)]
    return ["".join([text for text, _ in line]) for line in lines]


def test_what_a_resumed_run_is_doing() -> None:
    reply, result = facts(("model.reply", 0), ("tool.result", 0))
    live = story.Story()
    told(live, reply)
    assert told(live, Event("run.resumed", {"facts": 1})) == ["  ↺ going on after 1 recorded fact"]
    assert live.doing == "running tools"
    told(live, result, Event("run.resumed", {"facts": 2}))
    assert live.doing == "the model is thinking"


@pytest.mark.parametrize(
    ("stage", "doing"),
    [("api", "the model is thinking"), ("yield", "finishing"), ("parse", "working")],
)
def test_stages_are_told_in_words(stage: str, doing: str) -> None:
    live = story.Story()
    told(live, Event("stage.enter", {}, stage=stage))
    assert live.doing == doing


def test_more_lines_are_counted_in_grammar() -> None:
    shown = [
        told(story.Story(), Event("tool.result", {"key": "0", "content": text}))[0]
        for text in ("a\nb", "a\nb\nc")
    ]
    assert shown[0].endswith("a (+1 line)")
    assert shown[1].endswith("a (+2 lines)")


def test_the_line_of_a_refused_call_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorimer.cli.progress import Live
    from lorimer.world import RealWorld

    monkeypatch.setenv("COLUMNS", "40")
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    live = story.Story()
    screen = Live(live, RealWorld())
    refused: JSON = {
        "key": "0",
        "content": "long " * 30,
        "is_error": True,
        "error": "exec.tool.access_denied",
    }
    for line in live.tell(Event("tool.result", refused)):
        screen.line(line)
    assert shown.getvalue().count("\n") == 1


def test_the_rows_of_a_long_line_are_indented_while_a_run_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lorimer.cli.progress import Live
    from lorimer.world import RealWorld

    monkeypatch.setenv("COLUMNS", "40")
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    Live(story.Story(), RealWorld()).line([("  ● ", "blue"), ("some words " * 9, "")])
    first, *rows = shown.getvalue().rstrip().splitlines()
    assert first.startswith("  ● some") and rows
    assert all(row.startswith("    ") and row[4] != " " for row in rows)
