"""Manifests of geny-executor are carried over, and whatever of them is not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, EnvironmentManifest
from lorimer.assembly import check_manifest
from lorimer.environment.foreign import carried

FIXTURES = Path(__file__).parent / "fixtures"


def taken(tmp_path: Path, **changes: Any) -> Any:
    data = json.loads((FIXTURES / "geny-2.0.json").read_text())
    (tmp_path / "env.json").write_text(json.dumps({**data, **changes}))
    return carried(tmp_path / "env.json")


def test_a_manifest_of_version_3_is_carried_over() -> None:
    found = carried(FIXTURES / "geny-3.0.json")
    made = found.manifest
    assert found.origin == "geny-executor 3.0"
    assert check_manifest(made.to_dict()) == []
    assert (made.metadata.name, made.metadata.tags) == ("researcher", ["research", "web"])
    assert (made.model.temperature, made.model.thinking_budget_tokens) == (0.2, 12_000)
    limits = made.limits
    assert (limits.max_turns, limits.max_cost_usd, limits.max_parallel_tools) == (25, 1.5, 8)
    assert limits.model_timeout_s == 90
    assert made.tools.built_in == ["Read", "Grep"]
    guard = made.stages["guard"]
    assert guard.strategies == {"guards": ["token_budget", "cost_budget", "iteration"]}
    assert guard.strategy_configs["guards"] == {
        "token_budget": {"min_remaining_tokens": 5000},
        "cost_budget": {"max_cost_usd": 1.5},
        "iteration": {"max_iterations": 30},
    }
    api = made.stages[6]
    assert api.config == {"provider": "anthropic"}
    assert api.model_override == {"model": "claude-opus-4-6"}
    assert made.stages["tool"].tool_binding is not None
    assert made.stages["tool"].tool_binding.allowed == ["Read"]
    [critic] = made.agents
    assert (critic.name, critic.model, critic.tools) == ("critic", "openai:gpt-4.1", ["Read"])
    assert api.strategy_configs["retry"] == {
        "max_retries": 4,
        "base_delay_s": 0.5,
        "max_delay_s": 30,
        "jitter": 0.2,
    }
    assert made.stages["token"].strategies["calculator"] == "unified_pricing"
    assert made.stages["hitl"].strategy_configs["timeout"] == {"timeout_s": 90}
    assert made.stages["loop"].strategy_configs["controller"] == {
        "dimensions": ["turns", "cost", "tokens"],
        "max_tokens": 90_000,
    }
    assert made.stages["system"].config == {"prompt": "You find things out, in ${CITY}."}


def test_everything_else_is_told_by_its_path() -> None:
    notes = {note.path: note for note in carried(FIXTURES / "geny-3.0.json").notes}
    lost = {path for path, note in notes.items() if not note.carried}
    assert lost >= {
        *("metadata.id", "metadata.created_at", "metadata.updated_at", "model.thinking_display"),
        *("pipeline.api_key", "stages[3].config.template_vars", "stages[4].config.fail_fast"),
        *("stages[6].config.base_url", "stages[6].model_override.thinking_type"),
        *("stages[6].strategies.tool_loop = internal", "stages[16].config.repeat_stop_after"),
        *("tools.built_in[LspMagic]", "tools.adhoc", "tools.mcp_servers", "tools.external"),
        *("host_selections", "subagents[writer]", "memory", "colour"),
    }
    assert {path for path, note in notes.items() if note.carried} == {
        "pipeline.cost_budget_usd",
        "stages[10].tool_binding",
        "stages[4].chain_order.guards",
        "stages[11].chain_order.reviewers",
    }
    assert str(notes["colour"]) == "colour: not carried: nothing here is called so"


def test_no_key_is_carried_or_shown() -> None:
    found = carried(FIXTURES / "geny-3.0.json")
    assert "DoNotShow" not in str(found)
    assert b"DoNotShow" not in found.manifest.to_bytes()


def test_a_manifest_of_version_2_is_carried_over() -> None:
    found = carried(FIXTURES / "geny-2.0.json")
    made = found.manifest
    assert made.model.model == "gpt-4.1"
    assert made.limits.max_turns == 1  # single_turn
    assert made.stages[6].config == {"stream": True, "provider": "openai"}
    assert made.stages[6].strategies == {"retry": "no_retry"}
    assert made.stages["parse"].strategies["signal_detector"] == "regex"  # the usual one there
    assert "stages[6].artifact" in [note.path for note in found.notes]


def test_a_value_that_does_not_do_is_told_and_left_out(tmp_path: Path) -> None:
    found = taken(
        tmp_path,
        model={"model": "gpt-4.1", "temperature": 7},
        pipeline={"max_iterations": -3, "cost_budget_usd": "much"},
    )
    assert found.manifest.model.temperature is None
    assert found.manifest.limits.max_turns == 50
    told = [str(note) for note in found.notes]
    assert any(text.startswith("model.temperature: not carried: input should be") for text in told)
    assert any(text.startswith("limits.max_turns: not carried: ") for text in told)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": "1.0"}, "version: '1.0' cannot be carried over; only 2.0 and 3.0 can"),
        ({"stages": []}, "stages: 'input' is missing and required"),
        ({"stages": None}, "stages: 'input' is missing and required"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(tmp_path: Path, changes: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        taken(tmp_path, **changes)
    assert str(caught.value).startswith(f"{tmp_path / 'env.json'}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("part", ["metadata", "model", "pipeline", "tools", "stages"])
@pytest.mark.parametrize("junk", [5, "x", [1], [[]], {"a": 1}, [{"order": "6"}], None])
def test_junk_in_a_part_is_no_crash(tmp_path: Path, part: str, junk: Any) -> None:
    if part == "stages":
        with pytest.raises(ConfigError):
            taken(tmp_path, stages=junk)
    else:
        assert isinstance(taken(tmp_path, **{part: junk}).manifest, EnvironmentManifest)


def test_ours_is_taken_as_it_is(tmp_path: Path) -> None:
    again = tmp_path / "ours.toml"
    carried(FIXTURES / "geny-2.0.json").manifest.save(again)
    found = carried(again)
    assert (found.origin, found.notes) == ("lorimer", ())
    assert found.manifest == carried(FIXTURES / "geny-2.0.json").manifest
