"""The examples run as they are, against a provider of our own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import by_turn, call

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    script = by_turn(call("add", a=1234.5, b=8765.25), Turn(text="It is 9999.75."))
    with FakeLLMServer(script, api_key="sk-example") as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-example")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "minimal.py")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "9999.75" in str(server.requests[1].body["messages"])
    assert done.stdout == "It is 9999.75.\n2 turns, 30 tokens, $0.0002\n"


def test_row_4_the_smallest_host_has_15_lines_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    program = EXAMPLES / "host.py"
    lines = [line for line in program.read_text().splitlines() if line.strip()]
    assert len(lines) <= 15
    with FakeLLMServer([Turn(text="Paris.")], api_key="sk-example") as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-example")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = subprocess.run(
            [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok Paris.\n"
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()[0]) == (1, "error"), done.stderr


def test_coding() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "coding.py"), "--script"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("ran: ['load']", "ran: ['tax']", "ran: ['sum']", "ran: ['tax', 'sum']"),
        "With 7 % it is 428.0, with 19 % it was 476.0.",
    ]
