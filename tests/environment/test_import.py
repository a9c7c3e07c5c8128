"""Manifests of geny-executor are carried over, and whatever of them is not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, EnvironmentManifest
from lorimer.assembly import check_manifest
from lorimer.environment.foreign import carried
from lorimer.environment.geny import from_geny
from tests.quick import quick

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
    assert guard.strategies == {
        "guards": ["token_budget", "cost_budget", "iteration", "permission"]
    }
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
    assert made.stages["evaluate"].strategies["strategy"] == "binary_classify"
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
    assert str(notes["colour"]) == "colour: not imported: nothing here is called so"


THEIRS: dict[tuple[int, str, str], str] = {
    (1, "input", "validator"): "default passthrough strict schema",
    (1, "input", "normalizer"): "default multimodal",
    (2, "context", "strategy"): "simple_load hybrid progressive_disclosure",
    (2, "context", "compactor"): "truncate summary sliding_window llm_summary",
    (2, "context", "retriever"): "null static",
    (2, "context", "replay"): "turn_window none",
    (3, "system", "builder"): "static composable dynamic_persona mutable",
    (4, "guard", "guards[]"): "token_budget cost_budget iteration permission",
    (5, "cache", "strategy"): "no_cache system_cache aggressive_cache",
    (6, "api", "retry"): "exponential_backoff no_retry rate_limit_aware",
    (6, "api", "router"): "passthrough adaptive",
    (6, "api", "tool_loop"): "pipeline internal",
    (7, "token", "tracker"): "default detailed",
    (7, "token", "calculator"): "anthropic_pricing custom_pricing unified_pricing",
    (8, "think", "processor"): "passthrough extract_and_store filter",
    (8, "think", "budget_planner"): "static adaptive",
    (9, "parse", "parser"): "default structured_output",
    (9, "parse", "signal_detector"): "regex structured hybrid",
    (10, "tool", "executor"): "sequential parallel partition streaming",
    (10, "tool", "router"): "registry",
    (11, "tool_review", "reviewers[]"): "schema sensitive destructive network size",
    (12, "agent", "orchestrator"): "single_agent delegate evaluator subagent_type",
    (13, "task_registry", "registry"): "in_memory",
    (13, "task_registry", "policy"): "fire_and_forget eager_wait timed_wait",
    (14, "evaluate", "strategy"): "signal_based criteria_based agent_evaluation binary_classify "
    "evaluation_chain",
    (14, "evaluate", "scorer"): "no_scorer weighted",
    (15, "hitl", "requester"): "null callback pipeline_resume",
    (15, "hitl", "timeout"): "indefinite auto_approve auto_reject",
    (16, "loop", "controller"): "standard single_turn budget_aware multi_dim_budget",
    (17, "emit", "emitters[]"): "text callback vtuber tts",
    (18, "memory", "strategy"): "append_only no_memory reflective structured_reflective",
    (18, "memory", "persistence"): "null in_memory file",
    (19, "summarize", "summarizer"): "no_summary rule_based",
    (19, "summarize", "importance"): "fixed heuristic",
    (20, "persist", "persister"): "no_persist file",
    (20, "persist", "frequency"): "every_turn every_n_turns on_significant",
    (21, "yield", "formatter"): "default structured streaming multi_format",
}
"""Stage and slot of theirs, `[]` a chain, to the strategies that they ship."""

NOT_BUILT = {
    *("context.replay.turn_window", "system.builder.dynamic_persona", "system.builder.mutable"),
    "api.tool_loop.internal",
    *("emit.emitters.text", "emit.emitters.callback", "emit.emitters.vtuber", "emit.emitters.tts"),
    *("memory.persistence.in_memory", "memory.persistence.file", "persist.persister.file"),
}
"""Those that are told with the reason; all others come to a strategy, or to what is always so."""

CONFIGS: dict[str, Any] = {
    "input.validator.schema": {"schema": {"required": ["a"]}},
    "context.retriever.static": {"texts": ["a"]},
    "guard.guards.cost_budget": {"max_cost_usd": 1},
    "guard.guards.iteration": {"max_iterations": 2},
    "agent.orchestrator.evaluator": {"agent": "critic"},
    "evaluate.strategy.evaluation_chain": {"evaluators": [{"strategy": "signal_based"}]},
    "hitl.requester.callback": {"target": "ask"},
}
"""Of those that need one."""


@pytest.mark.parametrize(
    ("order", "stage", "slot", "name"),
    [(*place, name) for place, names in THEIRS.items() for name in names.split()],
)
def test_every_strategy_of_theirs_has_a_place_or_a_reason(
    order: int, stage: str, slot: str, name: str
) -> None:
    chain, slot = slot.endswith("[]"), slot.removesuffix("[]")
    config = CONFIGS.get(f"{stage}.{slot}.{name}", {})
    entry: dict[str, Any] = {"order": order, "name": stage}
    if chain:
        entry |= {"chain_order": {slot: [name]}, "strategy_configs": {slot: {name: config}}}
    else:
        entry |= {"strategies": {slot: name}, "strategy_configs": {slot: config}}
    places = ((1, "input"), (6, "api"), (9, "parse"), (10, "tool"), (21, "yield"))
    others = [{"order": at, "name": one} for at, one in places if at != order]
    made, notes = from_geny({"version": "3.0", "stages": [entry, *others]})
    lost = [note for note in notes if not note.carried]
    if f"{stage}.{slot}.{name}" in NOT_BUILT:
        assert len(lost) == 1
        assert "nothing here is called so" not in str(lost[0])
        assert check_manifest(made.to_dict()) == []
    else:
        assert lost == []


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
    assert any(text.startswith("model.temperature: not imported: input should be") for text in told)
    assert any(text.startswith("limits.max_turns: not imported: ") for text in told)


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


@pytest.mark.parametrize("part", ["built_in", "stages", "fields"])
def test_very_many_parts_are_carried_over_in_no_time(part: str) -> None:
    api = {"order": 6, "name": "api", "strategies": {"provider": "x"}}
    much: dict[str, Any] = {
        "built_in": {"tools": {"built_in": [f"t{n}" for n in range(20_000)]}},
        "stages": {"stages": [*[{"order": -1}] * 20_000, *[api] * 1_500]},
        "fields": {f"field_{n}": 1 for n in range(20_000)},
    }[part]
    data = json.loads((FIXTURES / "geny-2.0.json").read_text())
    with quick():
        assert from_geny({**data, **much})[1]
