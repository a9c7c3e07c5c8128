"""Settings of the user, the project and the environment hold where a command is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorimer.cli.settings import user_file
from lorimer.presets import preset_manifest
from tests.cli.support import invoke


def explained(*words: str) -> dict[str, tuple[Any, str]]:
    result = invoke("manifest", "explain", *words, "--output-format", "json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["values"]
    return {row["path"]: (row["value"], row["from"]) for row in rows}


STREAM = ("--output-format", "stream-json")


@pytest.fixture
def layers(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file, a project's, and a variable."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_place / "config"))
    user_file().parent.mkdir(parents=True)
    user_file().write_text(
        '[model]\nmodel = "scripted:echo"\n[limits]\nmax_turns = 30\nmax_cost_usd = 1.0\n'
    )
    project = Path(".lorimer") / "settings.toml"
    project.parent.mkdir(exist_ok=True)
    project.write_text('[limits]\nmax_turns = 9\nmax_cost_usd = 5.0\n[run]\nsandbox = "off"\n')
    monkeypatch.setenv("LORIMER_TIMEOUT_S", "77")
    return own_place


def test_explain_says_where_each_value_comes_from(layers: Path) -> None:
    found = explained("chat", "--max-turns", "3")
    user = f"user settings ({user_file()})"
    assert found["model.model"] == ("scripted:echo", user)
    assert found["limits.max_cost_usd"] == (1.0, user)
    assert found["limits.timeout_s"] == (77.0, "environment (LORIMER_TIMEOUT_S)")
    assert found["limits.max_turns"] == (3, "command line")
    assert found["limits.cleanup_s"] == (10.0, "default")
    assert found["metadata.base_preset"] == ("chat", "preset")
    assert found["stages[6].strategies.retry"] == ("exponential_backoff", "default")
    where, origin = explained("chat")["limits.max_turns"]
    assert where == 9
    assert origin.startswith("project settings (")
    manifest = preset_manifest("chat")
    manifest.stages["api"].strategies["retry"] = "no_retry"
    manifest.save("a.yaml")
    found = explained("a.yaml")
    assert found["limits.max_turns"] == (20, "manifest")
    assert found["stages[6].strategies.retry"] == ("no_retry", "manifest")
    assert found["model.model"] == ("scripted:echo", user)
    shown = invoke("manifest", "explain", "chat")
    assert "environment (LORIMER_TIMEOUT_S)" in shown.stdout
    assert "limits.max_cost_usd would be looser than it is" in shown.stderr
    assert "run.sandbox would be looser than it is" in shown.stderr


def test_they_hold_for_a_run_and_its_hash_has_them(layers: Path) -> None:
    result = invoke("run", "hi", "--preset", "chat", "--allow-unpriced", *STREAM)
    assert result.exit_code == 0, result.stderr
    start = json.loads(result.stdout.splitlines()[0])["data"]
    assert start["limits"] == {
        "max_turns": 9,
        "max_cost_usd": 1.0,
        "timeout_s": 77.0,
        "allow_unpriced": True,
    }
    assert (
        start["manifest"]
        == json.loads(invoke("manifest", "explain", "chat", "--output-format", "json").stdout)[
            "hash"
        ]
    )
    assert "note: " in result.stderr
    assert "a project only tightens" in result.stderr


def test_settings_that_cannot_be_read_are_not_left_out(layers: Path) -> None:
    user_file().write_text("[limits]\nmax_turnz = 3\n")
    result = invoke("run", "hi", "--preset", "chat")
    assert result.exit_code == 2
    assert "limits.max_turnz: there is no such field; did you mean 'max_turns'?" in result.stderr


def test_a_secret_in_a_manifest_is_not_explained(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "shop-1234-abcdef-98765")
    manifest = preset_manifest("agent")
    manifest.stages["system"].config["prompt"] = "shop-1234-abcdef-98765"
    manifest.save("a.json")
    for words in ((), ("--output-format", "json")):
        result = invoke("manifest", "explain", "a.json", *words)
        assert "shop-1234" not in result.stdout
        assert "[redacted:SHOP_API_KEY]" in result.stdout
