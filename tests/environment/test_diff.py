"""What two manifests differ in is told by what they come to, not by how they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.environment import diff, values
from lorimer.presets import PRESETS, preset_manifest
from lorimer.stages import catalogue


def changed(change: Callable[[EnvironmentManifest], object]) -> list[str]:
    after = preset_manifest("agent")
    change(after)
    return [str(each) for each in diff(preset_manifest("agent"), after)]


def entry(manifest: EnvironmentManifest, stage: str, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(manifest.stages[stage], name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: None, []),
        (
            lambda m: entry(m, "api", strategies={"retry": "no_retry"}),
            ["stages[6].strategies.retry (api): exponential_backoff -> no_retry"],
        ),
        (
            lambda m: entry(m, "api", strategies={"retry": "exponential_backoff"}),
            [],  # the default, spelled out
        ),
        (
            lambda m: entry(m, "api", strategy_configs={"retry": {"max_retries": 5}}),
            ["stages[6].strategy_configs.retry.max_retries (api): 3 -> 5"],
        ),
        (lambda m: entry(m, "api", strategy_configs={"retry": {"max_retries": 3}}), []),
        (
            lambda m: entry(
                m,
                "api",
                strategies={"retry": "rate_limit_aware"},
                strategy_configs={"retry": {"max_retries": 9}},
            ),
            [
                "stages[6].strategies.retry (api): exponential_backoff -> rate_limit_aware",
                "stages[6].strategy_configs.retry.max_retries (api): added, 9",
            ],
        ),
        (
            lambda m: entry(m, "api", config={"stream": False}),
            ["stages[6].config.stream (api): true -> false"],
        ),
        (
            lambda m: entry(
                m,
                "guard",
                strategies={"guards": ["cost_budget", "token_budget"]},
                strategy_configs={"guards": {"cost_budget": {"max_cost_usd": 2}}},
            ),
            [
                'stages[4].strategies.guards (guard): ["token_budget"] -> '
                '["cost_budget","token_budget"]',
                "stages[4].strategy_configs.guards.cost_budget.max_cost_usd (guard): added, 2.0",
            ],
        ),
        (
            lambda m: entry(
                m,
                "loop",
                strategies={"guards": ["identical"]},
            ),
            [
                'stages[16].strategies.guards (loop): ["identical","alternating","no_progress",'
                '"error_streak"] -> ["identical"]',
            ],
        ),
        (lambda m: entry(m, "think", active=False), ["stages[8].active (think): true -> false"]),
        (
            lambda m: m.stages.root.remove(m.stages["think"]),
            ["stages[8] (think): removed"],
        ),
        (
            lambda m: m.stages.root.append(StageEntry(order=7, name="mine", config={"a": 1})),
            ["stages[mine] (mine): added"],
        ),
        (lambda m: m.stages.root.reverse(), []),
        (lambda m: setattr(m, "limits", {"max_turns": 5}), 2),
        (lambda m: setattr(m.model, "temperature", 0.5), ["model.temperature: null -> 0.5"]),
        (
            lambda m: setattr(m.tools, "built_in", ["Read"]),
            ['tools.built_in: [] -> ["Read"]'],
        ),
    ],
)
def test_every_difference_is_told_with_its_path(change: Any, said: list[str] | int) -> None:
    found = changed(change)
    assert (len(found) if isinstance(said, int) else found) == said


def test_tools_of_a_manifest_are_compared_by_their_names() -> None:
    def described(**more: Any) -> EnvironmentManifest:
        made = preset_manifest("agent").to_dict()
        tools = [{"kind": "template", "name": name, "template": "x"} for name in ("a", "b")]
        tools[1].update(more)
        return EnvironmentManifest.from_dict({**made, "tools": {"ad_hoc": tools}})

    [change] = diff(described(), described(description="a letter"))
    assert str(change) == 'tools.ad_hoc[b].description: "" -> a letter'


@pytest.mark.parametrize("one", PRESETS)
@pytest.mark.parametrize("two", PRESETS)
def test_a_difference_seen_from_the_other_side_is_the_same_difference(one: str, two: str) -> None:
    there = diff(preset_manifest(one), preset_manifest(two))
    back = diff(preset_manifest(two), preset_manifest(one))
    assert (not there) == (one == two)
    assert {(c.path, json.dumps(c.before), json.dumps(c.after)) for c in there} == {
        (c.path, json.dumps(c.after), json.dumps(c.before)) for c in back
    }


def test_values_are_all_that_a_manifest_comes_to() -> None:
    found = values(preset_manifest("minimal"), catalogue())
    assert found["model.max_tokens"] == 8192
    assert found["stages[6]"] == "api"
    assert found["stages[6].active"] is True
    assert found["stages[6].config.stream"] is True
    assert found["stages[6].strategies.retry"] == "exponential_backoff"
    assert found["stages[6].strategy_configs.retry.max_retries"] == 3
    assert "stages[16]" not in found
