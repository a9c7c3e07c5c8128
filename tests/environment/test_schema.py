"""The published schema accepts what is valid, and sees what is wrong with the form."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import fastjsonschema
import pytest
from hypothesis import assume, given, settings

from lorimer.assembly import check_manifest
from lorimer.core.manifest import EnvironmentManifest
from lorimer.environment.schema import schema
from lorimer.presets import PRESETS, preset_manifest
from tests.environment.manifests import documents
from tests.environment.test_random_manifests import CALM


@cache
def check() -> Callable[[Any], Any]:
    described: Any = json.loads(json.dumps(schema()))
    # what it compiles is the older dialect, which differs in nothing that is used here
    described["$schema"] = "http://json-schema.org/draft-07/schema"
    made: Callable[[Any], Any] = fastjsonschema.compile(described, use_default=False)
    return made


def accepts(document: Any) -> bool:
    try:
        check()(document)
    except fastjsonschema.JsonSchemaException:
        return False
    return True


@settings(CALM, max_examples=50)
@given(documents())
def test_a_valid_manifest_fits_the_schema(document: Any) -> None:
    assume(not check_manifest(document))
    check()(EnvironmentManifest.from_dict(document).to_dict())


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fit_the_schema(preset: str) -> None:
    assert accepts(preset_manifest(preset).to_dict())


def entry(stage: str, **fields: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(preset_manifest("agent").to_bytes())
    for each in document["stages"]:
        if each["name"] == stage:
            each.update(fields)
    return document


GOOD = [
    entry("api", strategies={"retry": "no_retry"}),
    entry("api", strategies={"retry": "of_a_package"}, strategy_configs={"retry": {"a": 1}}),
    entry("api", strategy_configs={"retry": {"max_retries": 3}}),
    entry("api", strategy_configs={"retry": {"max_retries": "${TRIES}"}}),
    entry("guard", strategy_configs={"guards": {"cost_budget": {"max_cost_usd": 1}}}),
    entry("api", implementation="of_a_package", config={"a": 1}),
    entry("api", implementation="phases", config={"phases": [{"name": "a", "agent": "b"}]}),
    {**entry("api"), "stages": [*entry("api")["stages"], {"order": 7, "name": "mine"}]},
]
BAD = [
    {"modle": {}},
    {"model": {"max_tokens": 0}},
    {"limits": {"max_turnz": 3}},
    {"stages": [{"name": "api"}]},
    entry("api", order=7),
    entry("api", strategies={"rety": "no_retry"}),
    entry("api", strategies={"retry": ["no_retry"]}),
    entry("guard", strategies={"guards": "iteration"}),
    entry("api", config={"steam": True}),
    entry("token", config={"a": 1}),
    entry("api", config={"phases": [{"name": "a", "agent": "b"}]}),
    entry("api", implementation="phases", config={"phases": []}),
    entry("api", strategy_configs={"retry": {"max_retreis": 3}}),
    entry("api", strategy_configs={"retry": {"max_retries": -3}}),
    entry("api", strategies={"retry": "no_retry"}, strategy_configs={"retry": {"max_retries": 3}}),
    entry("guard", strategy_configs={"guards": {"cost_budget": {"max_cost": 1}}}),
]


@pytest.mark.parametrize("document", GOOD, ids=range(len(GOOD)))
def test_what_a_host_may_add_is_accepted(document: Any) -> None:
    assert accepts(document)


@pytest.mark.parametrize("document", BAD, ids=range(len(BAD)))
def test_a_wrong_form_is_seen(document: Any) -> None:
    assert not accepts(document)
    assert check_manifest(document)


def test_every_field_that_is_explained_is_explained_to_editors() -> None:
    described: Any = schema()
    known = described["$defs"]
    assert known["Limits"]["properties"]["max_turns"]["description"].startswith("Iterations: model")
    assert known["ModelConfig"]["properties"]["max_tokens"]["description"]
    assert known["StageEntry"]["properties"]["order"]["description"]
    assert described["properties"]["version"]["const"] == "1"
    retry = next(name for name in known if "ExponentialBackoff" in name or "Backoff" in name)
    assert known[retry]["properties"]["jitter"]["description"].startswith("Share of the wait")
