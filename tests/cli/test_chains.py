"""A chain of models at the command line: what is shown when one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.testing.faults import Cut, Status
from tests.cli.support import invoke, last_run, lines

CHAIN = "anthropic:claude-haiku-4-5,openai:gpt-4o"
MANIFEST = """
model: {model: "%s"}
stages:
  - {order: 1, name: input}
  - order: 6
    name: api
    config: {after_release: restart}
    strategy_configs: {retry: {base_delay_s: 0.0}}
  - {order: 9, name: parse}
  - {order: 21, name: yield}
"""


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", "key")
    path = tmp_path / "chain.yaml"
    path.write_text(MANIFEST % CHAIN)
    return str(path)


def test_a_person_sees_who_is_asked_instead(manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    down = Turn(faults=(Status(529),))
    with FakeLLMServer([down, down]) as one, FakeLLMServer([Turn(text="Hello.")]) as two:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", one.url)
        monkeypatch.setenv("OPENAI_BASE_URL", two.openai_url)
        done = invoke("run", "hi", "--manifest", manifest)
    assert (done.exit_code, done.stdout) == (0, "Hello.\n"), done.stderr
    assert "asking openai:gpt-4o" in " ".join(done.stderr.split())
    shown = invoke("runs", "show", last_run())
    assert "asking openai:gpt-4o" in shown.stdout


def test_a_program_that_streams_is_told_to_discard(
    manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Turn(text="Half an answ", faults=(Cut(-60),))
    with FakeLLMServer([cut, cut]) as one, FakeLLMServer([Turn(text="Whole.")]) as two:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", one.url)
        monkeypatch.setenv("OPENAI_BASE_URL", two.openai_url)
        words = ("--output-format", "stream-json", "--include-partial-messages")
        done = invoke("run", "hi", "--manifest", manifest, *words)
    assert done.exit_code == 0, done.stderr
    shown = ""
    for event in lines(done.stdout):
        data = event.get("data")
        if event["type"] == "text.delta" and isinstance(data, dict):
            shown += str(data["text"])
        elif event["type"] == "api.stream_restart":
            assert shown
            shown = ""
    assert shown == "Whole."


def test_every_missing_key_of_a_chain_is_named_before_anything_runs(
    manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.delenv(f"{provider}_API_KEY")
    done = invoke("run", "hi", "--manifest", manifest)
    assert done.exit_code == 2
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_manifest_with_a_chain_is_explained(manifest: str) -> None:
    done = invoke("manifest", "explain", manifest)
    assert "claude-haiku-4-5 of anthropic, else gpt-4o of openai" in " ".join(done.stdout.split())
