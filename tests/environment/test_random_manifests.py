"""Any valid manifest comes back from its plan and from its files as it was; any invalid one is
refused, with the path of what is wrong. Made of the declarations alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from lorimer.assembly import check_manifest
from lorimer.core.compile import REQUIRED
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.documents import dump, parse
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    EnvironmentManifest,
    Metadata,
    ModelConfig,
    PermissionsConfig,
    ToolsConfig,
)
from lorimer.core.plan import Plan
from lorimer.environment import diff
from tests.environment.manifests import bindings, documents, known

CAMPAIGN = bool(os.environ.get("LORIMER_CAMPAIGN"))
VALID = 10_000 if CAMPAIGN else 200
INVALID = 500 if CAMPAIGN else 100
CALM = settings(
    database=None,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = pytest.mark.timeout(0 if CAMPAIGN else 120)


def dumped(config: Any) -> Any:
    return config.model_dump(mode="json", by_alias=True)


def read(plan: Plan) -> EnvironmentManifest:
    """The manifest that the compiled stages themselves come to."""
    entries: list[Any] = []
    for stage in plan.stages:
        entry: dict[str, Any] = {"order": stage.order, "name": stage.name}
        if stage.Config is not None:
            entry["config"] = dumped(stage.config)
        strategies: dict[str, Any] = {}
        configs: dict[str, Any] = {}
        for name, slot in stage.slots().items():
            held: Any = vars(stage)[name]
            several = list(held) if slot.chain else [held]
            own = {one.name: dumped(one.config) for one in several if one.Config is not None}
            strategies[name] = [one.name for one in held] if slot.chain else held.name
            configs[name] = own if slot.chain else own.get(held.name, {})
        entries.append({**entry, "strategies": strategies, "strategy_configs": configs})
    rest = plan.manifest.to_dict()
    return EnvironmentManifest.from_dict(
        {**rest, "limits": plan.limits.to_json(), "stages": entries}
    )


def written(manifest: EnvironmentManifest, suffix: str) -> EnvironmentManifest:
    text = dump(manifest.to_dict(), suffix)
    return EnvironmentManifest.from_dict(parse(text, suffix, "x"))


@LONG
@settings(CALM, max_examples=VALID)
@given(documents())
def test_a_manifest_is_the_same_after_it_was_a_plan_and_a_file(document: Any) -> None:
    # what stages ask of each other is declared nowhere; nearly all of them are valid
    assume(not check_manifest(document))
    manifest = EnvironmentManifest.from_dict(document)
    plan = compile_manifest(manifest, known(), bindings())
    again = read(plan)
    off = [entry for entry in manifest.stages if not entry.active]
    again.stages.root.extend(off)
    assert diff(manifest, again) == []
    assert plan.digest == manifest.digest
    # YAML takes a hundred times as long
    suffix = ".toml" if b"null" not in manifest.to_bytes() else ".json"
    suffix = ".yaml" if plan.digest[0] in "0" else suffix
    back = written(manifest, suffix)
    assert back == manifest
    assert back.digest == manifest.digest


# --- and each of these is a fault ---------------------------------------------------------------

Breaker = Callable[[Any, dict[str, Any]], str]
"""Breaks a document; gives the beginning of the path that has to be told."""


def entry(draw: Any, document: dict[str, Any]) -> tuple[dict[str, Any], str]:
    found = draw(st.sampled_from([e for e in document["stages"] if e.get("active", True)]))
    return found, f"stages[{found['order']}]"


def part(draw: Any, document: dict[str, Any]) -> tuple[dict[str, Any], str]:
    name = draw(st.sampled_from(["metadata", "model", "limits", "tools", "permissions"]))
    return document.setdefault(name, {}), name


def unknown_field(draw: Any, document: dict[str, Any]) -> str:
    at, path = draw(st.sampled_from([(document, ""), part(draw, document), entry(draw, document)]))
    at["colour"] = "red"
    return f"{path}.colour".lstrip(".") + ": there is no such field"


def wrong_type(draw: Any, document: dict[str, Any]) -> str:
    kinds: dict[str, Any] = {
        "metadata": Metadata,
        "model": ModelConfig,
        "tools": ToolsConfig,
        "permissions": PermissionsConfig,
    }
    name = draw(st.sampled_from(sorted(kinds)))
    field = draw(st.sampled_from(sorted(kinds[name].model_fields)))
    document.setdefault(name, {})[field] = draw(st.sampled_from([object(), {"a": 1}, [[[]]], 1j]))
    if field == "output_schema":
        document[name][field] = 5
    return f"{name}.{field}"


def wrong_limit(draw: Any, document: dict[str, Any]) -> str:
    name = draw(st.sampled_from(sorted(set(Limits.__slots__) - {"allow_unpriced"})))
    document.setdefault("limits", {})[name] = draw(
        st.sampled_from([-1, float("nan"), "many", [], float("inf")])
    )
    return f"limits.{name}"


def unknown_strategy(draw: Any, document: dict[str, Any]) -> str:
    slotted = [e for e in document["stages"] if known().stage(e["name"]).slots()]
    found = draw(st.sampled_from([e for e in slotted if e.get("active", True)]))
    slots = known().stage(found["name"]).slots()
    slot = draw(st.sampled_from(sorted(slots)))
    wrong = draw(st.sampled_from(["nonesuch", "Default", ""]))
    chosen = [wrong] if slots[slot].chain else wrong
    if draw(st.booleans()):  # one where a list belongs, and the other way round
        chosen = wrong if slots[slot].chain else [wrong]
    found.setdefault("strategies", {})[slot] = chosen
    found.get("strategy_configs", {}).pop(slot, None)
    return f"stages[{found['order']}].strategies.{slot}: "


def unknown_slot(draw: Any, document: dict[str, Any]) -> str:
    found, path = entry(draw, document)
    field = draw(st.sampled_from(["strategies", "strategy_configs"]))
    found.setdefault(field, {})["gap"] = "x" if field == "strategies" else {}
    return f"{path}.{field}: "


def unknown_setting(draw: Any, document: dict[str, Any]) -> str:
    found, path = entry(draw, document)
    found.setdefault("config", {})["colour"] = 1
    return f"{path}.config"


def unknown_strategy_setting(draw: Any, document: dict[str, Any]) -> str:
    slotted = [e for e in document["stages"] if known().stage(e["name"]).slots()]
    found = draw(st.sampled_from([e for e in slotted if e.get("active", True)]))
    slots = known().stage(found["name"]).slots()
    slot = draw(st.sampled_from(sorted(slots)))
    name = draw(st.sampled_from(sorted(slots[slot].known)))
    wrong = {"colour": 1}
    chain = slots[slot].chain
    found.setdefault("strategies", {})[slot] = [name] if chain else name
    found.setdefault("strategy_configs", {})[slot] = {name: wrong} if chain else wrong
    return f"stages[{found['order']}].strategy_configs.{slot}"


def unknown_stage(draw: Any, document: dict[str, Any]) -> str:
    found, path = entry(draw, document)
    found["name"] = draw(st.sampled_from(["nonesuch", "API", "s06_api", ""]))
    return f"{path}.name"


def wrong_order(draw: Any, document: dict[str, Any]) -> str:
    found, _ = entry(draw, document)
    found["order"] = draw(st.sampled_from([o for o in range(1, 22) if o != found["order"]]))
    return f"stages[{found['order']}].order"


def outside(draw: Any, document: dict[str, Any]) -> str:
    found, _ = entry(draw, document)
    found["order"] = draw(st.sampled_from([0, 22, -1, 10**30]))
    return f"stages[{found['order']}].order"


def left_out(draw: Any, document: dict[str, Any]) -> str:
    name = draw(st.sampled_from(REQUIRED))
    document["stages"] = [e for e in document["stages"] if e["name"] != name]
    return f"stages: {name!r} is missing"


def twice(draw: Any, document: dict[str, Any]) -> str:
    found, _ = entry(draw, document)
    document["stages"].append(dict(found))
    return f"stages: {found['name']!r} is there twice"


def no_entry(draw: Any, document: dict[str, Any]) -> str:
    document["stages"].append(draw(st.sampled_from([None, 5, "api", [], [1]])))
    return f"stages (entry {len(document['stages'])})"


def version(draw: Any, document: dict[str, Any]) -> str:
    document["version"] = draw(st.sampled_from(["0", "9", "3.0", 9, 1.5, None, ["1"]]))
    return "version: "


def unknown_tool(draw: Any, document: dict[str, Any]) -> str:
    document.setdefault("tools", {})["built_in"] = ["Raed"]
    return "tools.built_in: "


def wrong_rule(draw: Any, document: dict[str, Any]) -> str:
    field = draw(st.sampled_from(["deny", "ask"]))
    document.setdefault("permissions", {})[field] = [draw(st.sampled_from(["Bash(", "", "@nil"]))]
    return f"permissions.{field}[0]: "


BREAKERS: tuple[Breaker, ...] = (
    *(unknown_field, wrong_type, wrong_limit, unknown_strategy, unknown_slot, unknown_setting),
    *(unknown_strategy_setting, unknown_stage, wrong_order, outside, left_out, twice, no_entry),
    *(version, unknown_tool, wrong_rule),
)


@LONG
@settings(CALM, max_examples=INVALID)
@given(documents(), st.sampled_from(BREAKERS), st.data())
def test_a_broken_manifest_is_refused_with_the_path(
    document: Any, breaker: Breaker, data: st.DataObject
) -> None:
    path = breaker(data.draw, document)
    found = check_manifest(document)
    assert any(fault.startswith(path) for fault in found), (path, found)
