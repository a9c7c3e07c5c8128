"""`lorimer runs replay`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer
from tests.cli.support import HangsOnce, Running, asked, call, invoke, last_run, lines
from tests.cli.test_runs import DONE, finished
from tests.cli.test_runs_diff import answered


def test_a_run_is_the_same_again_without_a_key_a_server_or_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = invoke("runs", "replay", run[:12])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"✓ {run[:12]}: ")
    assert result.stdout.endswith("facts, and it ends as recorded\n")
    assert list(elsewhere.iterdir()) == [], "no tool ran"
    [told] = lines(invoke("runs", "replay", run, "--json").stdout)
    assert told == {"run_id": run, "status": "ok", "divergence": None}


def test_another_manifest_shows_where_it_matters(own_place: Path) -> None:
    run = answered("All is done.")
    words = ("manifest", "new", "--preset", "agent", "-o", "other.yaml")
    assert invoke(*words).exit_code == 0
    result = invoke("runs", "replay", run, "--manifest", "other.yaml")
    assert result.exit_code == 1
    first, recorded, now, hint = result.stdout.splitlines()
    assert first.startswith(f"✗ {run[:12]} diverges in turn 1: model.intent 0, ")
    assert recorded.startswith('  recorded #2  {"hash":')
    assert now.startswith('  now  {"hash":')
    assert hint.startswith("hint: the manifests differ in ")
    assert "stages[3].config.prompt" in hint
    [told] = lines(invoke("runs", "replay", run, "--manifest", "other.yaml", "--json").stdout)
    assert isinstance(told["divergence"], dict)
    assert told["divergence"]["seq"] == 2


def test_a_run_whose_process_was_killed_is_replayed_as_far_as_it_came() -> None:
    script = HangsOnce(1, call("Write", file_path="a.txt", content="x"), DONE)
    with FakeLLMServer(script) as server:
        words = ("run", "go", "--base-url", server.url, "--allow", "Write(a.txt)")
        with Running(*words):
            asked(server, 2)  # and then it is killed
    result = invoke("runs", "replay", last_run())
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("and it replays as far as it is recorded\n")


def test_a_run_that_is_not_there() -> None:
    answered("x")
    result = invoke("runs", "replay", "run_zzz")
    assert result.exit_code == 2
    assert "there is no run 'run_zzz'" in result.stderr
