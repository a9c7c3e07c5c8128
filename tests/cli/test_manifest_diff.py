"""`lorimer manifest diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorimer.presets import preset_manifest
from tests.cli.support import invoke


def test_the_command_tells_by_its_exit_code_whether_they_differ(own_place: Path) -> None:
    manifest = preset_manifest("agent")
    manifest.save("same.toml")
    result = invoke("manifest", "diff", "agent", "same.toml")
    assert (result.exit_code, result.stdout) == (0, "They are the same.\n")
    manifest.stages["api"].strategies["retry"] = "exponential_backoff"
    manifest.save("spelled.yaml")
    result = invoke("manifest", "diff", "agent", "spelled.yaml")
    assert result.exit_code == 0
    assert result.stdout == "They mean the same, but are written differently.\n"
    manifest.stages["api"].strategies["retry"] = "no_retry"
    manifest.save("other.json")
    result = invoke("manifest", "diff", "agent", "other.json")
    assert result.exit_code == 1
    assert result.stdout == "stages[6].strategies.retry (api): exponential_backoff -> no_retry\n"
    result = invoke("manifest", "diff", "agent", "other.json", "--output-format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "same": False,
        "before": preset_manifest("agent").digest,
        "after": manifest.digest,
        "changes": [
            {
                "path": "stages[6].strategies.retry",
                "kind": "changed",
                "stage": "api",
                "before": "exponential_backoff",
                "after": "no_retry",
            }
        ],
    }
    result = invoke("manifest", "diff", "agnet", "other.json")
    assert result.exit_code == 2
    assert "did you mean 'agent'?" in result.stderr


def test_a_secret_that_stands_in_a_manifest_is_not_shown(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "shop-1234-abcdef-98765")
    manifest = preset_manifest("agent")
    manifest.stages["system"].config["prompt"] = "The key is shop-1234-abcdef-98765."
    manifest.save("a.json")
    result = invoke("manifest", "diff", "agent", "a.json")
    assert "shop-1234" not in result.stdout
    assert "[redacted:SHOP_API_KEY]" in result.stdout
