"""A manifest is data: read strictly, its faults told all at once, and nothing of it is lost."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from lorimer import (
    ConfigError,
    EnvironmentManifest,
    ExecutorErrorCode,
    Pipeline,
    PipelineBuilder,
    PipelinePresets,
)
from lorimer.assembly import check_manifest
from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import check_document
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.documents import MAX_BYTES, MAX_YAML_BYTES, dump, parse
from lorimer.core.errors import MutationError
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    Metadata,
    ModelConfig,
    ModelSettings,
    StageEntries,
    StageEntry,
    SubAgent,
    ToolsConfig,
)
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.models.registry import Models
from lorimer.presets import PRESETS, preset_manifest
from lorimer.stages import catalogue
from lorimer.stages.catalogue import CATALOGUE
from lorimer.stages.s04_guard import Guard
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.quick import quick

ROUND = [{"order": CATALOGUE[name][0], "name": name} for name in ("input", "api", "parse", "yield")]


def problems(data: Any, known: Catalogue | None = None) -> list[str]:
    return check_document(data, known or catalogue())


def whole(**stages: Mapping[str, Any]) -> dict[str, Any]:
    """The four required stages, with more in some of their entries, and maybe other stages."""
    names = dict.fromkeys(("input", "api", "parse", "yield", *stages))
    return {
        "stages": [
            {"order": CATALOGUE[name][0], "name": name, **stages.get(name, {})} for name in names
        ]
    }


# --- every fault at once ----------------------------------------------------------------------

BROKEN: dict[str, Any] = {
    "version": "2",
    "colour": "red",
    "metadata": {"nme": "x"},
    "model": {"max_tokens": 0, "temperature": 9},
    "limits": {
        "max_turnz": 3,
        "max_turns": 0,
        "timeout_s": -1,
        "model_timeout_s": float("inf"),
        "cleanup_s": "soon",
    },
    "stages": [
        {"order": 1, "name": "inptu"},
        {"order": 99, "name": "far"},
        {
            "order": 6,
            "name": "api",
            "config": {"strem": True},
            "strategies": {"retry": "exponental_backoff", "rety": "x"},
        },
        {
            "order": 4,
            "name": "guard",
            "strategies": {"guards": ["token_budget", "cost_budget"]},
            "strategy_configs": {"guards": {"cost_budget": {}, "iteration": {}}},
        },
        {"order": 9, "name": "parse", "strategies": {"parser": ["default"]}},
        {"order": 8, "name": "token", "config": {"a": 1}},
        {"order": 16, "name": "loop", "strategy_configs": {"controller": {"max_turns": 0}}},
        {"order": 21, "name": "yield"},
        {"order": 21, "name": "yield"},
        "nonsense",
    ],
}

FAULTS = [
    "version: a later Lorimer wrote this; this one reads version 1",
    "metadata.nme: there is no such field",
    "model.max_tokens: input should be greater than or equal to 1",
    "model.temperature: input should be less than or equal to 2",
    "stages[99].order: input should be less than or equal to 21",
    "stages (entry 10): input should be a valid dictionary",
    "colour: there is no such field",
    "limits.max_turnz: there is no such field",
    "limits.max_turns: input should be greater than or equal to 1",
    "limits.timeout_s: input should be greater than 0",
    "limits.model_timeout_s: must be more than 0 s, and finite",
    "limits.cleanup_s: input should be a valid number, unable to parse string as a number",
    "stages: 'yield' is there twice",
    "stages[1].name: there is no stage 'inptu'; did you mean 'input'? Known: ",
    "stages[4].strategy_configs.guards.cost_budget.max_cost_usd: field required",
    "stages[4].strategy_configs.guards: 'iteration' is not in the chain",
    "stages[6].config.strem: there is no such field",
    "stages[6].strategies: the 'api' stage has no slot 'rety'; did you mean 'retry'? Known: "
    "retry, router.",
    "stages[6].strategies.retry: there is no strategy 'exponental_backoff'; did you mean "
    "'exponential_backoff'? Known: exponential_backoff, no_retry, rate_limit_aware.",
    "stages[8].order: the 'token' stage has number 7",
    "stages[8].config: the 'token' stage takes no configuration",
    "stages[9].strategies.parser: must be one name",
    "stages[16].strategy_configs.controller.max_turns: input should be greater than or equal to 1",
    "stages[99].name: there is no stage 'far'. Known: ",
]


def test_path_and_reason_of_every_fault_are_told_at_once() -> None:
    found = problems(BROKEN)
    assert len(found) == len(FAULTS)
    for said, fault in zip(found, FAULTS, strict=True):
        assert said.startswith(fault), (said, fault)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            {"order": 99, "name": "contxt"},
            [
                "stages[99].order: input should be less than or equal to 21",
                "stages[99].name: there is no stage 'contxt'; did you mean 'context'?",
            ],
        ),
        (
            {"name": "context", "strategies": {"strategy": "hybird"}},
            [
                "stages (entry 5).order: field required",
                "stages[2].strategies.strategy: there is no strategy 'hybird'; did you mean",
            ],
        ),
        (
            {"order": 2, "name": "context", "confg": 1, "strategies": {"strategy": "hybird"}},
            [
                "stages[2].confg: there is no such field; did you mean 'config'?",
                "stages[2].strategies.strategy: there is no strategy 'hybird'; did you mean",
            ],
        ),
        ({"order": 2}, ["stages[2].name: field required"]),
        ({"order": "two", "name": "contxt"}, ["stages (entry 5).order: input should be a valid"]),
    ],
)
def test_one_fault_of_an_entry_hides_no_other(entry: Any, says: list[str]) -> None:
    sound = whole()
    found = problems({**sound, "stages": [*sound["stages"], entry]})
    assert len(found) == len(says), found
    assert all(fault.startswith(said) for fault, said in zip(found, says, strict=True)), found


def test_every_tool_that_is_not_there_is_told() -> None:
    tools = {"built_in": ["Raed", "Read", "Wrte"], "external": ["mine", "yours"]}
    found = check_manifest({**whole(), "tools": tools})
    says = [
        "tools.built_in: there is no built-in tool 'Raed'; did you mean 'Read'",
        "tools.built_in: there is no built-in tool 'Wrte'; did you mean 'Write'",
        "tools.external[0]: no installed package offers a tool 'mine'",
        "tools.external[1]: no installed package offers a tool 'yours'",
    ]
    assert len(found) == len(says), found
    assert all(fault.startswith(said) for fault, said in zip(found, says, strict=True)), found


def test_the_pipeline_tells_them_all_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_manifest(BROKEN)
    error = caught.value
    assert error.code is ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST
    assert list(error.problems) == problems(BROKEN)
    assert str(error).startswith(f"The manifest has {len(FAULTS)} errors: ")
    assert all(fault in str(error) for fault in FAULTS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"modle": {}}, "modle: there is no such field; did you mean 'model'?"),
        ({"metadata": {"nmae": "x"}}, "metadata.nmae: there is no such field; did you mean 'name'"),
        ({"limits": {"max_turn": 3}}, "limits.max_turn: there is no such field; did you mean"),
        (whole(api={"strategeis": {}}), "stages[6].strategeis: there is no such field; did you"),
        (
            whole(api={"config": {"steam": 1}}),
            "stages[6].config.steam: there is no such field; did",
        ),
        (
            whole(api={"strategy_configs": {"retry": {"max_retreis": 1}}}),
            "stages[6].strategy_configs.retry.max_retreis: there is no such field; did you mean",
        ),
        (
            {"tools": {"ad_hoc": [{"kind": "template", "name": "t", "templat": "x"}]}},
            "tools.ad_hoc[0].templat: there is no such field; did you mean 'template'?",
        ),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest(data: Any, says: str) -> None:
    assert any(fault.startswith(says) for fault in problems(data)), problems(data)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("3.0", "is one of geny-executor; carry it over: lorimer manifest import FILE"),
        ("12", "a later Lorimer wrote this; this one reads version 1"),
        ("0", "input should be '1'"),
        (12, "a later Lorimer wrote this; this one reads version 1"),
        (True, "input should be '1'"),
    ],
)
def test_another_version_is_told_what_it_is(version: Any, says: str) -> None:
    assert f"version: {says}" in problems({**whole(), "version": version})


def test_the_version_may_be_a_number() -> None:
    assert EnvironmentManifest.from_dict({**whole(), "version": 1}).version == "1"


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ({"kind": "http", "name": "w"}, "[0].url: field required"),
        (
            {"kind": "http", "name": "w", "url": "x"},
            "[0].url: must begin with http:// or https:// and a host, as they are",
        ),
        (
            {"kind": "script", "name": "w", "script": ""},
            "[0].script: string should have at least 1 character",
        ),
        (
            {"kind": "composite", "name": "w", "steps": [{}]},
            "[0].steps[0].tool: field required",
        ),
        (
            {"kind": "htp", "name": "w"},
            "[0].kind: there is no 'htp'; did you mean 'http'? Known: composite, http, script, "
            "template.",
        ),
        ({"name": "w"}, "[0].kind: is missing and required: http, script, template, composite"),
    ],
    ids=range(6),
)
def test_a_part_of_several_kinds_is_told_by_its_path_in_the_document(tool: Any, says: str) -> None:
    assert problems({**whole(), "tools": {"ad_hoc": [tool]}}) == [f"tools.ad_hoc{says}"]
    own = {**whole(), "tools": {"ad_hoc": [tool]}}
    inner = {"name": "a", "description": "b", "manifest": own}
    assert problems({**whole(), "agents": [inner]}) == [f"agents[0].manifest.tools.ad_hoc{says}"]


@pytest.mark.parametrize(
    ("stage", "slot", "strategy", "config", "says"),
    [
        ("system", "builder", "composable", {"blocks": [{"type": "text"}]}, "blocks[0].text: "),
        ("system", "builder", "composable", {"blocks": [{"type": "no"}]}, "blocks[0].type: "),
        ("system", "builder", "composable", {"blocks": [{}]}, "blocks[0].type: "),
        (
            *("system", "builder", "composable"),
            *({"blocks": [{"type": "date", "tz": 1}]}, "blocks[0].tz: there is no such field"),
        ),
        (
            *("evaluate", "strategy", "evaluation_chain"),
            {"evaluators": [{"strategy": "no"}, {"strategy": "criteria", "config": {"a": 1}}]},
            "evaluators[0].strategy: there is no strategy 'no'",
        ),
        (
            *("evaluate", "strategy", "evaluation_chain"),
            {"evaluators": [{"strategy": "criteria", "config": {"min_char": 1}}]},
            "evaluators[0].config.min_char: there is no such field; did you mean 'min_chars'",
        ),
        (
            *("evaluate", "strategy", "evaluation_chain"),
            {"evaluators": [{"strategy": "accept", "config": {"a": 1}}]},
            "evaluators[0].config: 'accept' takes no configuration",
        ),
        ("evaluate", "scorer", "weighted", {"weights": {"a": -1}}, "weights: must be finite"),
        ("persist", "cadence", "on_significant", {"kinds": ["model.repl"]}, "kinds[0]: there is"),
    ],
    ids=range(9),
)
def test_a_fault_of_a_configuration_is_told_by_its_path(
    stage: str, slot: str, strategy: str, config: Any, says: str
) -> None:
    found = problems(
        whole(**{stage: {"strategies": {slot: strategy}, "strategy_configs": {slot: config}}})
    )
    order = {"system": 3, "evaluate": 14, "persist": 20}[stage]
    assert found[0].startswith(f"stages[{order}].strategy_configs.{slot}.{says}"), found
    assert len(found) == len(config.get("evaluators", [1])), "all at once"


def test_one_fault_is_one_error() -> None:
    with pytest.raises(ConfigError, match=r"^The manifest has 1 error: model.max_tokens: "):
        EnvironmentManifest.from_dict({"model": {"max_tokens": 0}})


def test_what_is_missing_is_told_with_what_to_add() -> None:
    assert problems({}) == [
        f"stages: {name!r} is missing and required; add {{order: {order}, name: {name}}}"
        for name, order in (("input", 1), ("api", 6), ("parse", 9), ("yield", 21))
    ]
    inactive = whole(parse={"active": False})
    assert [fault[:24] for fault in problems(inactive)] == ["stages: 'parse' is missi"]
    assert problems(whole()) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "must be an object, not list"),
        ("a manifest", "must be an object, not str"),
        (None, "must be an object, not NoneType"),
        ({"stages": "all"}, "stages: input should be a valid list"),
        ({"stages": {"6": {}}}, "stages: input should be a valid list"),
        ({"limits": 5}, "limits: input should be a dictionary"),
        ({"model": None}, "model: input should be a valid dictionary"),
        ({"stages": [{"name": "api"}]}, "stages (entry 1).order: field required"),
        ({"stages": [{"order": "six", "name": "api"}]}, "stages (entry 1).order: input should be"),
        ({"stages": deque([{"name": "api"}])}, "stages.0.order: field required"),
    ],
)
def test_whatever_is_given_is_answered_with_a_reason(data: Any, says: str) -> None:
    assert problems(data)[0].startswith(says)


@pytest.mark.parametrize("key", [None, 1, 1.5, b"k", "\ud800"])
def test_a_key_that_is_no_text_is_answered_with_a_reason(key: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_manifest({"stages": [{"order": 6, "name": "api", key: 4}]})
    assert caught.value.problems[0].startswith("stages[6]")


def test_a_limit_whose_name_is_no_text_is_answered_with_a_reason() -> None:
    assert problems({**whole(), "limits": {5: 1}})[0].startswith("limits.5: there is no such")


@pytest.mark.parametrize("name", [None, 5, ["token_budget", None], {"name": "x"}])
def test_what_is_no_name_of_a_strategy_is_one_fault(name: Any) -> None:
    data = preset_manifest("minimal").to_dict()
    stages = cast("list[Any]", data["stages"])
    stages.append({"order": 4, "name": "guard", "strategies": {"guards": name}})
    assert check_manifest(data) == [
        "stages[4].strategies.guards: must be the name of a strategy, or a list of names"
    ]


@pytest.mark.parametrize("kind", [set, deque, iter, tuple])
def test_a_host_gives_the_names_of_strategies_in_any_collection(kind: Any) -> None:
    entry = StageEntry(order=4, name="guard", strategies={"guards": kind(["token_budget"])})
    assert entry.strategies == {"guards": ["token_budget"]}


def test_a_host_says_itself_what_is_wrong_with_a_configuration() -> None:
    class Strict(Guard):
        name = "strict"

        class Config(Settings):
            path: str

            @field_validator("path")
            @classmethod
            def check(cls, path: str) -> str:
                raise ValueError("must be a name or an instance of Path")

    known = catalogue()
    known.add_strategy("guard", "guards", "strict", Strict)
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["guard"].strategies["guards"] = ["strict"]
    manifest.stages["guard"].strategy_configs["guards"] = {"strict": {"path": "x"}}
    (problem,) = check_manifest(manifest.to_dict(), known)
    assert problem.endswith(".path: must be a name or an instance of Path")


def test_a_fault_names_no_class_of_ours() -> None:
    stages = cast("list[Any]", preset_manifest("minimal").to_dict()["stages"])
    assert check_manifest({"model": "x", "limits": [1], "stages": [*stages, "guard"]}) == [
        "model: input should be a valid dictionary. Known: model, max_tokens, temperature, top_p, "
        "top_k, stop_sequences, thinking_enabled, thinking_budget_tokens, seed, output_schema, api",
        "stages (entry 5): input should be a valid dictionary. Known: order, name, active, "
        "strategies, strategy_configs, config, implementation, model_override, tool_binding",
        "limits: input should be a dictionary",
    ]


def test_a_fault_of_an_agent_is_not_told_again_for_its_sub_agents() -> None:
    data = preset_manifest("agent").to_dict()
    data["agents"] = [{"name": "one", "description": "One."}]
    stages = cast("list[Any]", data["stages"])
    stages[5]["strategies"] = {"retry": "exponential"}
    (fault,) = check_manifest(data)
    assert fault.startswith("stages[6].strategies.retry: there is no strategy 'exponential'")


def test_an_unknown_field_hides_no_rule_that_is_none() -> None:
    data = preset_manifest("minimal").to_dict()
    data["permissions"] = {"allow": ["Bash"], "deny": ["Bash("]}
    unknown, rule = check_manifest(data)
    assert unknown.startswith("permissions.allow: there is no such field")
    assert rule.startswith("permissions.deny[0]: 'Bash(' is not a rule")


def test_a_place_for_one_strategy_takes_no_list_and_a_chain_no_single_name() -> None:
    assert problems(whole(guard={"strategies": {"guards": "token_budget"}})) == [
        "stages[4].strategies.guards: must be a list of names"
    ]
    assert problems(whole(guard={"strategies": {"guards": []}})) == []


@pytest.mark.parametrize("provider", ["anthropic", "openai", "scripted"])
def test_provider_and_model_may_not_disagree(provider: str) -> None:
    data = {
        "model": {"model": "anthropic:claude-x"},
        **whole(api={"config": {"provider": provider}}),
    }
    fault = (
        f"stages[6].config.provider: it says {provider!r}, model.model says 'anthropic:claude-x'"
    )
    assert problems(data) == ([] if provider == "anthropic" else [fault])


def test_a_bare_model_goes_to_the_provider_that_stage_6_names() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["hi"])
        data = {"model": {"model": "m"}, **whole(api={"config": {"provider": "scripted"}})}
        manifest = EnvironmentManifest.from_dict(data)
        pipeline = Pipeline(manifest, models=Models(providers={"scripted": model}), world=world)
        assert (await pipeline.run("go")).text == "hi"

    simulate(main)


def test_a_model_spec_without_a_model_is_a_fault() -> None:
    [fault] = problems({"model": {"model": "anthropic:"}, **whole()})
    assert fault.startswith("model.model: the model spec 'anthropic:' names no model")


def test_the_disagreement_is_told_beside_other_faults() -> None:
    data = whole(api={"config": {"provider": "openai"}}, parse={"strategies": {"parser": "x"}})
    data["model"] = {"model": "anthropic:claude-x"}
    data["limits"] = {"max_turns": 0}
    paths = [fault.split(": ")[0] for fault in problems(data)]
    assert paths == ["limits.max_turns", "stages[6].config.provider", "stages[9].strategies.parser"]


def test_unknown_built_in_tools_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"tools\.built_in: .*'Raed'; did you mean 'Read'"):
        Pipeline.from_manifest({**whole(), "tools": {"built_in": ["Raed"]}})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [float("-inf")], {"x": float("nan")}])
def test_nan_and_infinity_are_faults_wherever_they_are(bad: Any) -> None:
    assert problems(whole(cache={"config": {"a": bad}}))[0].startswith("stages[5].config.a: ")
    [fault] = problems(whole(cache={"strategy_configs": {"strategy": {"n": bad}}}))
    assert fault.startswith("stages[5].strategy_configs.strategy.n: is not JSON")


# --- reading documents ------------------------------------------------------------------------

DOCUMENTS = {
    ".json": '{"model": {"model": "scripted:m"}, "stages": [{"order": 1, "name": "input"}]}',
    ".yaml": "model:\n  model: scripted:m\nstages:\n  - {order: 1, name: input}\n",
    ".yml": "model: {model: scripted:m}\nstages: [{order: 1, name: input}]\n",
    ".toml": '[model]\nmodel = "scripted:m"\n[[stages]]\norder = 1\nname = "input"\n',
}


@pytest.mark.parametrize("suffix", DOCUMENTS)
def test_json_yaml_and_toml_say_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"agent{suffix}"
    path.write_text(DOCUMENTS[suffix])
    manifest = EnvironmentManifest.load(path)
    assert manifest.model.model == "scripted:m"
    assert [entry.name for entry in manifest.stages] == ["input"]
    assert EnvironmentManifest.load(str(path)).digest == manifest.digest


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (".json", '{"a": 1, "a": 2}', "the key 'a' stands there twice"),
        (".json", '{"m": {"a": 1, "a": 2}}', "the key 'a' stands there twice"),
        (".yaml", "a: 1\na: 2\n", "the key 'a' stands there twice"),
        (".yaml", "m:\n  a: 1\n  a: 2\n", "the key 'a' stands there twice"),
        (".toml", "a = 1\na = 2\n", "Cannot overwrite a value"),
        (".json", '{"a": NaN}', "NaN is not JSON"),
        (".json", '{"a": -Infinity}', "-Infinity is not JSON"),
        (".yaml", "a: &x 1\nb: *x\n", "aliases are not allowed"),
        (".yaml", "a: &x [1]\nb: [*x, *x]\n", "aliases are not allowed"),
        (".yaml", "a: !!python/object:os.system {}\n", "could not determine a constructor"),
        (".yaml", "a: [1\n", "expected ',' or ']'"),
        (".yaml", "- a\n", "must hold fields with values, not one list"),
        (".yaml", "", "there is nothing in it"),
        (".json", "[1]", "must hold fields with values, not one list"),
        (".yaml", "word", "must hold fields with values, not one text"),
        (".json", "3", "must hold fields with values, not one value"),
        (".json", "{", "not valid JSON: Expecting property name"),
        (".json", "[" * 100_000, "nested too deeply"),
        (".yaml", "a: " + "[" * 65 + "]" * 65, "nested too deeply, more than 64 levels"),
        (".json", '{"a": ' + "[" * 64 + "]" * 64 + "}", "nested too deeply, more than 64 levels"),
        (".toml", ".".join(["a"] * 200_000) + " = 1", "nested too deeply"),
        (".toml", "[" + '"a".' * 100 + "a]", "nested too deeply"),
        (".toml", "a = \n", "Invalid value"),
        (".ini", "a = 1", "unknown kind of document '.ini'; use .json, .yaml, .yml, .toml"),
    ],
)
def test_a_document_that_says_two_things_or_nothing_is_refused(
    kind: str, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, kind, "agent")
    assert str(caught.value).startswith("agent: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("value", [".nan", ".inf", "2026-01-01", "!!binary aGk=", "!!set {a, b}"])
def test_what_yaml_knows_and_json_does_not_is_a_fault_with_a_path(value: str) -> None:
    text = f"stages:\n  - order: 5\n    name: cache\n    config:\n      a: {value}\n"
    assert problems(parse(text, ".yaml", "agent"))[0].startswith("stages[5].config.a")


def test_a_document_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        parse(" " * (MAX_BYTES + 1), ".json", "agent")
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        parse("a: " + "x" * MAX_YAML_BYTES, ".yaml", "agent")


def test_of_a_file_without_end_no_more_is_read_than_may_be() -> None:
    with pytest.raises(ConfigError, match=r"/dev/zero: larger than 4,000,000 bytes"):
        EnvironmentManifest.load("/dev/zero")


@pytest.mark.parametrize("what", ["missing", "directory", "latin-1"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "agent.json"
    if what == "directory":
        path.mkdir()
    elif what == "latin-1":
        path.write_bytes('{"metadata": {"name": "é"}}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        Pipeline.from_manifest(path)


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".toml"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_manifest_is_the_same_when_it_is_loaded(
    tmp_path: Path, suffix: str, preset: str
) -> None:
    manifest = preset_manifest(preset)
    manifest.metadata.description = "Grüße: 'quoted' \"twice\"\n# not a comment"
    path = tmp_path / f"agent{suffix}"
    manifest.save(path)
    assert EnvironmentManifest.load(path) == manifest
    assert problems(parse(path.read_text("utf-8"), suffix, "agent")) == []


def test_a_kind_of_document_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use \.json, \.yaml or \.toml"):
        preset_manifest("chat").save(tmp_path / "agent.ini")
    manifest = preset_manifest("agent")
    manifest.stages["loop"].strategy_configs["guards"] = {"identical": {"stop_after": None}}
    told = (
        r"^stages\.strategy_configs\.guards\.identical\.stop_after: is null, and TOML has no null"
    )
    with pytest.raises(ConfigError, match=told):
        manifest.save(tmp_path / "agent.toml")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="cannot write"):
        dump({}, "")


# --- nothing is lost --------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.builds(
    StageEntry,
    order=st.integers(1, 21),
    name=TEXT,
    active=st.booleans(),
    strategies=st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=3), max_size=3),
    strategy_configs=st.dictionaries(
        TEXT, st.dictionaries(TEXT, JSON_VALUES, max_size=3), max_size=3
    ),
    config=st.dictionaries(TEXT, JSON_VALUES, max_size=3),
)
MANIFESTS = st.builds(
    EnvironmentManifest,
    metadata=st.builds(Metadata, name=TEXT, description=TEXT, tags=st.lists(TEXT, max_size=2)),
    model=st.builds(
        ModelConfig,
        model=TEXT,
        max_tokens=st.integers(1, 10**6),
        temperature=st.none() | st.floats(0, 2),
        top_k=st.none() | st.integers(1, 100),
        stop_sequences=st.lists(TEXT, max_size=2),
        thinking_enabled=st.booleans(),
    ),
    limits=st.builds(
        Limits,
        max_turns=st.integers(1, 1000),
        timeout_s=st.floats(0.1, 1e6),
        max_cost_usd=st.none() | st.floats(0, 1e3),
    ),
    tools=st.builds(ToolsConfig, built_in=st.lists(TEXT, max_size=2)),
    stages=st.builds(StageEntries, st.lists(ENTRIES, max_size=4)),
)


@given(MANIFESTS)
def test_a_manifest_survives_its_plain_form(manifest: EnvironmentManifest) -> None:
    plain = manifest.to_dict()
    again = EnvironmentManifest.from_dict(plain)
    assert again == manifest
    assert again.to_dict() == plain
    assert again.digest == manifest.digest
    assert EnvironmentManifest.from_dict(json.loads(manifest.to_bytes())) == manifest
    assert EnvironmentManifest.from_dict(parse(dump(plain, ".yaml"), ".yaml", "x")) == manifest
    assert EnvironmentManifest.from_dict(parse(dump(plain, ".json"), ".json", "x")) == manifest
    if b"null" not in manifest.to_bytes():
        assert EnvironmentManifest.from_dict(parse(dump(plain, ".toml"), ".toml", "x")) == manifest


@given(MANIFESTS, MANIFESTS)
def test_digests_are_equal_exactly_for_equal_manifests(
    one: EnvironmentManifest, two: EnvironmentManifest
) -> None:
    assert (one.digest == two.digest) == (one.to_bytes() == two.to_bytes())
    assert (one == two) <= (one.digest == two.digest)


def test_what_equals_the_defaults_is_not_written_and_does_not_change_the_digest() -> None:
    short = EnvironmentManifest.from_dict(whole())
    long = EnvironmentManifest.from_dict(
        {
            "version": "1",
            "model": ModelConfig().model_dump(),
            "limits": {"max_turns": Limits().max_turns},
            "stages": [
                {**entry, "active": True, "strategies": {}, "config": {}}
                for entry in whole()["stages"]
            ],
        }
    )
    assert short.to_dict() == {"version": "1", "stages": ROUND}
    assert long.to_dict() == short.to_dict()
    assert long.digest == short.digest


def test_a_file_of_version_1_is_read_as_it_always_was() -> None:
    """It is never changed: should it be read otherwise, the format needs a new version."""
    manifest = EnvironmentManifest.load(Path(__file__).parent / "fixtures" / "manifest-1.yaml")
    assert problems(manifest.to_dict()) == []
    assert manifest.digest == "6fc7aca83e9f02221deceff2b9d10ac6"


def test_the_digest_is_pinned() -> None:
    """It names manifests in journals: should it change, old runs could not be resumed."""
    assert EnvironmentManifest.from_dict(whole()).digest == "7c5fe846585cc6d708cd16bd094432ea"


# --- stages by number and by name -------------------------------------------------------------


def test_a_stage_is_found_by_its_number_and_by_its_name() -> None:
    manifest = preset_manifest("agent")
    assert manifest.stages[6] is manifest.stages["api"]
    assert manifest.stages[6].name == "api"
    assert 6 in manifest.stages
    assert "api" in manifest.stages
    assert 22 not in manifest.stages
    assert len(manifest.stages) == len(CATALOGUE)
    assert [entry.order for entry in manifest.stages] == sorted(
        order for order, _ in CATALOGUE.values()
    )
    with pytest.raises(ConfigError, match="no stage 'ctx'; did you mean 'context'"):
        manifest.stages["ctx"]
    with pytest.raises(ConfigError, match="no stage 22"):
        manifest.stages[22]


def test_a_change_through_stages_changes_what_runs() -> None:
    async def main(world: SimulatedWorld) -> None:
        manifest = preset_manifest("chat", model="scripted:m")
        manifest.stages[3].config["prompt"] = "Be brief."
        model = ScriptedModel(["hi"])
        pipeline = Pipeline(manifest, models=Models(providers={"scripted": model}), world=world)
        await pipeline.run("go")
        assert model.requests[0].system == "Be brief."
        assert pipeline.plan.digest == manifest.digest

    simulate(main)


def test_presets_do_not_share_their_entries() -> None:
    preset_manifest("chat").stages["system"].config["prompt"] = "changed"
    assert preset_manifest("chat").stages["system"].config == {}


@pytest.mark.parametrize("field", ["max_tokens", "temperature"])
def test_a_bad_value_cannot_be_assigned(field: str) -> None:
    model = ModelConfig()
    with pytest.raises(ValueError, match=field):
        setattr(model, field, -1)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_without_fault(preset: str) -> None:
    assert problems(preset_manifest(preset).to_dict()) == []


def test_an_unknown_preset_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no preset 'chta'; did you mean 'chat'"):
        preset_manifest("chta")


# --- the published schema ---------------------------------------------------------------------


def test_the_json_schema_can_be_made_and_describes_the_document() -> None:
    schema = EnvironmentManifest.model_json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == {
        "version",
        "metadata",
        "model",
        "limits",
        "tools",
        "permissions",
        "agents",
        "stages",
    }
    assert schema["additionalProperties"] is False
    limits = schema["$defs"]["Limits"]
    assert set(limits["properties"]) == {field.name for field in fields(Limits)}
    assert limits["additionalProperties"] is False


# --- stages and strategies of the host's ------------------------------------------------------


class Shout(Strategy):
    name = "shout"

    class Config(BaseModel):
        times: int = 1

    config: Config  # type: ignore[assignment]


class AtOnce(Shout):
    def delay_s(self, *_: object) -> float:
        return 0.0


class Loud(Stage[object, object]):
    name = "loud"
    order = 7
    voice = Slot(Shout, default="shout", known={"shout": "tests.core.test_manifest:Shout"})

    async def execute(self, input: object, state: PipelineState) -> object:
        return input


def known_loud() -> Catalogue:
    known = catalogue()
    known.add_stage("loud", Loud)
    return known


def test_a_hosts_stage_is_judged_as_a_shipped_one() -> None:
    entry = {"order": 7, "name": "loud", "strategy_configs": {"voice": {"times": "many"}}}
    data = {"stages": [*ROUND, entry]}
    assert problems(data)[0].startswith("stages[7].name: there is no stage 'loud'")
    [fault] = problems(data, known_loud())
    assert fault.startswith("stages[7].strategy_configs.voice.times: input should be a valid int")
    data["stages"][-1] = {"order": 8, "name": "loud"}
    assert problems(data, known_loud()) == ["stages[8].order: the 'loud' stage has number 7"]


def test_a_hosts_strategy_can_be_chosen_by_name() -> None:
    known = known_loud()
    twin = known.copy()
    twin.add_strategy("api", "retry", "mine", AtOnce)
    data = whole(api={"strategies": {"retry": "mine"}})
    assert problems(data, twin) == []
    [fault] = problems(data, known)
    assert "there is no strategy 'mine'" in fault
    assert "mine" in twin.strategies("api", _slot("api", "retry"))
    assert set(twin.names) == {*CATALOGUE, "loud"}


def _slot(stage: str, slot: str) -> Slot[Strategy]:
    return type(catalogue().stage(stage)).slots()[slot]


def test_what_a_slot_takes_can_be_read_off_the_class() -> None:
    api, guard = type(catalogue().stage("api")), type(catalogue().stage("guard"))
    assert list(api.slots()) == ["retry", "router"]
    assert set(api.slots()["retry"].known) >= {"no_retry", "exponential_backoff"}
    assert api.retry is api.slots()["retry"]  # type: ignore[attr-defined]
    assert guard.guards is guard.slots()["guards"]  # type: ignore[attr-defined]
    assert guard.guards.chain  # type: ignore[attr-defined]


def test_a_stage_that_was_not_compiled_has_no_strategies_yet() -> None:
    with pytest.raises(AttributeError, match=r"APIStage\.retry: the stage was not compiled yet"):
        catalogue().stage("api").retry  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"GuardStage\.guards"):
        catalogue().stage("guard").guards  # type: ignore[attr-defined]  # noqa: B018


# --- presets and the builder write manifests -------------------------------------------------


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda b: b.with_model(modle="x"), "with_model has no setting 'modle'; did you mean"),
        (lambda b: b.with_cache("agressive"), "no cache strategy 'agressive'; did you mean"),
        (lambda b: b.with_system("x", builder="statik").build(), "did you mean 'static'"),
        (lambda b: b.with_emit(text="nobody").build(), "nothing is bound to the name 'nobody'"),
        (lambda b: b.with_context("hybrid", max_recent_turns=0).build(), "max_recent_turns"),
        (lambda b: b.with_guard(max_turns=0), "limits.max_turns"),
    ],
)
def test_the_builder_tells_what_it_cannot_build(
    build: Callable[[PipelineBuilder], object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        build(PipelineBuilder(model="scripted:echo"))


@pytest.mark.parametrize("preset", ["minimal", "chat", "agent", "evaluator", "coding"])
def test_presets_take_the_settings_of_their_model(preset: str) -> None:
    settings: ModelSettings = {"max_tokens": 500, "temperature": 0.0, "stop_sequences": ["END"]}
    described = preset_manifest(preset, model="scripted:echo", model_settings=settings)
    make = getattr(PipelinePresets, preset)
    options = {"workspace": "."} if preset == "coding" else {}
    pipeline = make(model="scripted:echo", model_settings=settings, **options)
    for model in (described.model, pipeline.manifest.model):
        assert (model.model, model.max_tokens, model.temperature) == ("scripted:echo", 500, 0.0)
        assert model.stop_sequences == ["END"]


def test_settings_of_a_model_are_those_of_manifests() -> None:
    fields = set(ModelConfig.model_fields)
    assert set(ModelSettings.__annotations__) == fields - {"model", "output_schema"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_token": 5}, "there is no model setting 'max_token'; did you mean 'max_tokens'"),
        ({"model": "x"}, "there is no model setting 'model'"),
        ({"max_tokens": 0}, "model.max_tokens: input should be greater than or equal to 1"),
        (500, "model_settings must be a mapping, not int"),
    ],
)
def test_settings_that_a_model_does_not_have_are_refused(settings: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PipelinePresets.minimal(model="scripted:echo", model_settings=settings)


def test_the_builder_and_the_manifest_make_the_same_pipeline() -> None:
    builder = (
        PipelineBuilder("helper", model="scripted:echo")
        .with_model("scripted:obedient", temperature=0.5)
        .with_system("Be kind.")
        .with_context("hybrid", stateless=True, max_recent_turns=3)
        .with_guard(cost_budget_usd=2, max_iterations=9)
        .with_cache("aggressive")
        .with_think(budget_tokens=2048)
        .with_tools([])
        .with_evaluate("criteria", max_retries=1, min_chars=3)
        .with_loop(7, controller="budget_aware", cost_threshold_ratio=0.5)
        .with_retry("rate_limit_aware", max_retries=2)
        .with_persist("every_n_facts", n=10)
        .with_tool_review("network", "size", network={"allowed_hosts": ["example.org"]})
        .with_task_registry("timed_wait", timeout_seconds=3)
        .with_summarize("rule_based", importance="heuristic", max_sentences=2)
        .with_router("adaptive", light="scripted:echo")
    )
    manifest = builder.manifest
    assert problems(manifest.to_dict()) == []
    assert (manifest.limits.max_turns, manifest.limits.max_cost_usd) == (7, 2)
    built = builder.build()
    read = Pipeline.from_manifest(manifest.to_dict())
    assert built.plan.digest == read.plan.digest
    assert built.describe() == read.describe()
    chosen = {str(stage["name"]): stage["strategies"] for stage in built.describe()}
    assert chosen["context"]["strategy"] == "hybrid"
    assert chosen["guard"] == {"guards": ["token_budget"]}
    assert chosen["loop"]["controller"] == "budget_aware"
    assert chosen["tool_review"] == {"reviewers": ["network", "size"]}
    assert chosen["task_registry"] == {"policy": "timed_wait"}
    assert chosen["summarize"] == {"summarizer": "rule_based", "importance": "heuristic"}
    assert chosen["api"]["router"] == "adaptive"


def test_a_change_that_does_not_fit_changes_nothing() -> None:
    pipeline = Pipeline.from_manifest(preset_manifest("chat", model="scripted:echo"))
    before = (pipeline.manifest.to_dict(), pipeline.plan)
    for change in (
        lambda: pipeline.swap_strategy("context", "strategy", "hybird"),
        lambda: pipeline.swap_strategy("context", "strategy", "hybrid", {"max": 3}),
        lambda: pipeline.swap_strategy("agent", "strategy", "x"),
        lambda: pipeline.swap_strategy("context", "slot", "x"),
        lambda: pipeline.register_stage(Stage()),
    ):
        with pytest.raises(ConfigError):
            change()
    assert (pipeline.manifest.to_dict(), pipeline.plan) == before
    pipeline.swap_strategy("context", "strategy", "hybrid", {"max_recent_turns": 3})
    assert pipeline.manifest.stages["context"].strategies == {"strategy": "hybrid"}
    assert pipeline.plan.digest == pipeline.manifest.digest != before[1].digest


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda m: setattr(m.model, "max_tokens", 0), "model.max_tokens: input should be greater"),
        (lambda m: setattr(m.tools, "built_in", "Read"), "tools.built_in: input should be a valid"),
        (lambda m: setattr(m, "limits", {"max_turn": 1}), "limits.max_turn: there is no such"),
        (lambda m: setattr(m, "agents", ["a"]), "agents[0]: input should be a valid dictionary"),
        (lambda m: setattr(m.stages["api"], "config", 5), "stages[6].config: input should be"),
        (lambda m: setattr(m.stages["api"], "ordr", 5), "stages[6].ordr: "),
        (lambda m: PipelinePresets.chat(model=5), "model.model: input should be a valid string"),
        (lambda m: PipelinePresets.chat(max_turns=0), "limits.max_turns: input should be greater"),
        (lambda m: PipelineBuilder(model=5), "model.model: input should be a valid string"),
        (lambda m: PipelineBuilder().with_model(max_tokens=0), "model.max_tokens: input should"),
        (lambda m: PipelineBuilder().with_think(budget_tokens=5), "model.thinking_budget_tokens: "),
        (lambda m: PipelineBuilder().with_agent("a"), "agents[0]: input should be a valid dict"),
        (lambda m: PipelineBuilder().with_loop("many"), "limits.max_turns: input should be a"),
        (lambda m: PipelineBuilder().with_guard(max_cost_usd="much"), "limits.max_cost_usd: "),
        (lambda m: EnvironmentManifest(stages=5), "stages: input should be a valid list"),
        (lambda m: EnvironmentManifest(stages=[{"order": 6}]), "stages[6].name: field required"),
        (lambda m: EnvironmentManifest(limits={"max_turn": 5}), "limits.max_turn: there is no"),
        (lambda m: EnvironmentManifest(stage=[]), "stage: there is no such field; did you mean"),
        (lambda m: StageEntry(order=99, name="api"), "stages[99].order: input should be less"),
        (lambda m: ModelConfig(max_tokens=0), "model.max_tokens: input should be greater"),
        (lambda m: SubAgent(name="a", prompt="b"), "agents[a].description: field required"),
    ],
    ids=range(21),
)
def test_what_code_gets_wrong_is_told_like_what_a_file_does(wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wrong(preset_manifest("agent"))
    assert caught.value.code is ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST
    assert caught.value.problems[0].startswith(says)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: EnvironmentManifest.from_dict(cast("Any", 5)), "a manifest must be a mapping"),
        (lambda: PipelinePresets.agent(built_in=cast("Any", 5)), "built_in must be a list, and"),
        (lambda: PipelinePresets.agent(built_in=cast("Any", [5])), "each of built_in must be text"),
        (lambda: PipelineBuilder().with_tools(deferred=cast("Any", 5)), "deferred must be a list"),
        (lambda: PipelinePresets.evaluator(criteria=cast("Any", ["a"])), "criteria must be a map"),
        (lambda: PipelinePresets.evaluator(criteria=cast("Any", "ab")), "criteria must be a map"),
    ],
    ids=range(6),
)
def test_arguments_of_another_kind_are_told_in_words(
    wrong: Callable[[], object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        wrong()
    assert caught.value.hint.startswith("For instance: ")


def test_one_shipped_tool_needs_no_tuple() -> None:
    tools = PipelineBuilder().with_tools(built_in="readonly", deferred="Grep").manifest.tools
    assert (tools.built_in, tools.deferred) == (["readonly"], ["Grep"])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (".yaml", "a: 0x" + "f" * 100_000),
        (".yaml", "a: {b: [1:" + "59:" * 300_000 + "1]}"),
        (".yaml", "a: 0b" + "1" * 500_000),
        (".toml", "a = [{b = 0x" + "f" * 100_000 + "}]"),
        (".json", '{"a": ' + "9" * 2000 + "}"),
    ],
    ids=range(5),
)
def test_numbers_that_could_be_read_and_not_written_are_refused(kind: str, text: str) -> None:
    with quick(), pytest.raises(ConfigError, match="a number in it is too long"):
        parse(text, kind, "agent")


def test_tables_within_lists_and_odd_ends_of_lines_come_back_as_they_were() -> None:
    data: dict[str, JSON] = {
        "plain": [[{"a": 1, "b c": ["x"]}, 2], []],
        "text": "one\u0085two\u2028three",
    }
    for kind in (".toml", ".yaml", ".json"):
        assert parse(dump(data, kind), kind, "here") == data


def test_yaml_that_says_nowhere_what_is_wrong_with_it() -> None:
    with pytest.raises(ConfigError, match="here.*special characters are not allowed"):
        parse("a: \x00b", ".yaml", "here")


def test_a_plan_without_a_pipeline_cannot_be_changed() -> None:
    plan = compile_manifest(preset_manifest("minimal", model="scripted:m"), catalogue(), Bindings())
    for change in (plan.with_changes, plan.with_requested_changes):
        with pytest.raises(MutationError, match="this plan cannot be changed"):
            change([{"kind": "set", "path": "limits.max_turns", "value": 3}])
