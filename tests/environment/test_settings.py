"""Settings in layers: each over the ones before it, and a project only tightens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer import ConfigError, Limits
from lorimer.environment.settings import (
    Source,
    beneath_manifest,
    layer_of,
    layer_of_environment,
    layered,
    over_preset,
)
from lorimer.presets import preset_manifest
from lorimer.stages import catalogue

USER, PROJECT = Source.USER, Source.PROJECT


def settled(user: Any = None, project: Any = None, variables: dict[str, str] | None = None) -> Any:
    return layered(
        [
            layer_of(user or {}, USER, "user.toml"),
            layer_of(project or {}, PROJECT, "project.toml"),
            layer_of_environment(variables or {}),
        ]
    )


def test_a_later_layer_wins() -> None:
    found = settled(
        {"model": {"model": "openai:a", "temperature": 0.5}, "limits": {"max_turns": 30}},
        {"limits": {"max_turns": 20}},
        {"LORIMER_MODEL": "google:b", "LORIMER_MAX_COST_USD": "2.5", "LORIMER_TOP_K": "3"},
    )
    assert found.table("model") == {"model": "google:b", "temperature": 0.5, "top_k": 3}
    assert found.table("limits") == {"max_turns": 20, "max_cost_usd": 2.5}
    assert {path: said.told for path, said in found.values.items()} == {
        "model.model": "environment (LORIMER_MODEL)",
        "model.temperature": "user settings (user.toml)",
        "model.top_k": "environment (LORIMER_TOP_K)",
        "limits.max_turns": "project settings (project.toml)",
        "limits.max_cost_usd": "environment (LORIMER_MAX_COST_USD)",
    }
    assert found.notes == ()


@pytest.mark.parametrize(
    ("user", "project", "holds"),
    [
        ({}, {"limits": {"max_turns": 10}}, {"max_turns": 10}),
        ({}, {"limits": {"max_turns": 51}}, {}),  # the default is 50
        ({"limits": {"max_cost_usd": 1}}, {"limits": {"max_cost_usd": 2}}, {"max_cost_usd": 1}),
        ({}, {"limits": {"max_cost_usd": 2}}, {"max_cost_usd": 2}),
        ({"limits": {"max_cost_usd": 1}}, {"limits": {"max_cost_usd": None}}, {"max_cost_usd": 1}),
        ({}, {"limits": {"allow_unpriced": True}}, {}),
        (
            {"limits": {"allow_unpriced": True}},
            {"limits": {"allow_unpriced": False}},
            {"allow_unpriced": False},
        ),
        ({}, {"run": {"sandbox": "off"}}, {}),
        ({}, {"run": {"sandbox": "require"}}, {"sandbox": "require"}),
        (
            {"run": {"sandbox": "require"}},
            {"run": {"sandbox": "auto"}},
            {"sandbox": "require"},
        ),
        ({}, {"run": {"network": ["evil.example"]}}, {}),
        (
            {"run": {"network": ["pypi.org", "a.org"]}},
            {"run": {"network": ["a.org", "evil.example"]}},
            {"network": ["a.org"]},
        ),
        ({}, {"run": {"env": ["AWS_SECRET_ACCESS_KEY"]}}, {}),
        ({"run": {"env": ["A", "B"]}}, {"run": {"env": ["B", "C"]}}, {"env": ["B"]}),
        ({}, {"model": {"model": "claude-haiku-4-5"}}, {"model": "claude-haiku-4-5"}),
        ({}, {"model": {"model": "openai:gpt-5.2"}}, {}),  # another host
        ({}, {"model": {"model": "${MODEL}"}}, {}),  # who knows whose
        (
            {"model": {"model": "openai:a"}},
            {"model": {"model": "anthropic:b"}},
            {"model": "openai:a"},
        ),
        ({}, {"model": {"temperature": 1}}, {"temperature": 1}),
    ],
)
def test_a_project_only_tightens_and_what_it_may_not_is_told(
    user: Any, project: Any, holds: dict[str, Any]
) -> None:
    found = settled(user, project)
    assert {path.partition(".")[2]: said.value for path, said in found.values.items()} == holds
    [[wanted]] = [list(table.values()) for table in project.values()]
    got = next(iter(holds.values()), None)
    assert bool(found.notes) == (got != wanted)
    for note in found.notes:
        assert note.startswith("project.toml: ")
        assert note.endswith("would be looser than it is; a project only tightens")


@given(
    st.fixed_dictionaries(
        {}, optional={"max_turns": st.integers(1, 99), "timeout_s": st.floats(1, 9e3)}
    ),
    st.fixed_dictionaries(
        {}, optional={"max_turns": st.integers(1, 99), "timeout_s": st.floats(1, 9e3)}
    ),
    st.sampled_from(["chat", "agent", "minimal"]),
)
def test_no_project_raises_a_limit(user: Any, project: Any, preset: str) -> None:
    data = preset_manifest(preset).to_dict()
    for compose in (over_preset, beneath_manifest):
        without, beside = (
            Limits.from_json(compose(data, settings, catalogue()).data.get("limits", {}))
            for settings in (
                settled({"limits": user}),
                settled({"limits": user}, {"limits": project}),
            )
        )
        assert beside.max_turns <= without.max_turns
        assert beside.timeout_s <= without.timeout_s


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"modle": {}}, "modle: there is no such table; did you mean 'model'?"),
        ({"model": {"modle": "x"}}, "model.modle: there is no such field; did you mean 'model'?"),
        ({"limits": {"max_turns": 0}}, "limits.max_turns: "),
        ({"limits": {"max_turn": 1}}, "limits.max_turn: there is no such field; did you mean"),
        ({"run": {"sandbox": "none"}}, "run.sandbox: input should be 'auto', 'require' or 'off'"),
        ({"run": {"network": "pypi.org"}}, "run.network: input should be a valid list"),
        ({"model": 5}, "model: must be a table"),
    ],
)
def test_a_file_with_a_fault_is_refused_as_a_whole(data: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        layer_of(data, USER, "/home/ann/settings.toml")
    assert str(caught.value).startswith("/home/ann/settings.toml has 1 error: ")
    assert caught.value.problems[0].startswith(says)


def test_every_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        layer_of_environment({"LORIMER_MAX_TURNS": "many", "LORIMER_SANDBOX": "none"})
    told = [problem.partition(":")[0] for problem in caught.value.problems]
    assert told == ["LORIMER_MAX_TURNS", "LORIMER_SANDBOX"]
    assert layer_of_environment({"LORIMER_NETWORK": "a.org, b.org"}).values["run.network"][0] == [
        "a.org",
        "b.org",
    ]


def test_who_says_what_of_a_preset_and_of_a_manifest() -> None:
    settings = settled({"limits": {"max_turns": 30}, "model": {"model": "openai:a"}})
    data = preset_manifest("chat").to_dict()  # says max_turns
    made = over_preset(data, settings, catalogue())
    assert made.data["limits"] == {"max_turns": 30}
    assert made.origins["limits.max_turns"] == "user settings (user.toml)"
    assert made.origins["stages[6]"] == "preset"
    assert "stages[6].strategies.retry" not in made.origins  # a default
    made = beneath_manifest(data, settings, catalogue())
    assert made.data["limits"] == {"max_turns": 20}
    assert made.origins["limits.max_turns"] == "manifest"
    assert made.data["model"] == {"model": "openai:a"}
    assert made.origins["model.model"] == "user settings (user.toml)"
