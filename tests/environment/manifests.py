"""Random manifests, made of what stages and strategies declare: slots, names, configurations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import REQUIRED
from lorimer.core.errors import ConfigError
from lorimer.core.limits import limits_adapter
from lorimer.core.manifest import EnvironmentManifest, Metadata, ModelConfig, PermissionsConfig
from lorimer.core.stage import AnyStage, Slot, Strategy
from lorimer.models.registry import Models
from lorimer.stages import catalogue
from lorimer.tools.builtin import CATALOGUE as TOOLS
from lorimer.tools.builtin import GROUPS
from tests.stages.effects import EFFECTS, with_agents

Made = st.SearchStrategy[Any]

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="{}$"), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
TRIED = 4
"""Times that a configuration is drawn until one is accepted: fields may depend on each other."""


class Bound:
    """Whatever a manifest may name: a function, and a memory. Nothing of it is called."""

    def __call__(self, told: object) -> None: ...
    async def put(self, items: object) -> None: ...
    async def search(self, query: str, *, limit: int) -> tuple[()]:
        return ()

    async def pinned(self, *, limit: int) -> tuple[()]:
        return ()

    async def remove(self, ids: object) -> int:
        return 0


class Anything(dict[str, object]):
    """Every name is bound."""

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        return Bound()

    def __contains__(self, key: object) -> bool:
        return True


def bindings() -> Bindings:
    return Bindings(models=Models(), named=Anything())


def made_of(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Made:
    """Values that fit a JSON Schema, as pydantic writes them."""
    if "$ref" in schema:
        return made_of(defs[schema["$ref"].rpartition("/")[2]], defs)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of([made_of(one, defs) for one in schema[several]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -1001) + 1)
            high = schema.get("maximum", schema.get("exclusiveMaximum", low + 5001) - 1)
            return st.integers(low, min(high, low + 5000))
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0.0))
            high = min(schema.get("maximum", schema.get("exclusiveMaximum", 1e6)), low + 1e6)
            return st.floats(
                low,
                high,
                exclude_min="exclusiveMinimum" in schema,
                exclude_max="exclusiveMaximum" in schema,
            )
        case "string":
            return TEXT.map(lambda text: text or "x") if schema.get("minLength") else TEXT
        case "array":
            least = schema.get("minItems", 0)
            items = made_of(schema.get("items", {}), defs)
            return st.lists(items, min_size=least, max_size=least + 2)
        case "object" if "properties" in schema:
            return fields_of(schema, defs)
        case "object":
            values = made_of(schema.get("additionalProperties") or {}, defs)
            return st.dictionaries(TEXT, values, max_size=2)
        case _:
            return PLAIN


def fields_of(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Made:
    required = schema.get("required", ())
    fields = {name: made_of(one, defs) for name, one in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: one for name, one in fields.items() if name in required},
        optional={name: one for name, one in fields.items() if name not in required},
    )


def model_of(kind: type[BaseModel]) -> Made:
    schema = kind.model_json_schema(by_alias=True)
    return fields_of(schema, schema.get("$defs", {}))


@cache
def known() -> Catalogue:
    return catalogue()


@cache
def config_of(stage: str, slot: str, name: str) -> Made:
    """Configurations of a strategy: drawn from its declaration, or one that is known to do."""
    declared = type(known().stage(stage)).slots()[slot]
    kind = type(known().strategy(stage, declared, name))
    good = st.just(dict(EFFECTS[stage, slot, name].config))
    if kind.Config is None:
        return st.just({})
    drawn = model_of(kind.Config)

    @st.composite
    def accepted(draw: st.DrawFn) -> Any:
        for _ in range(TRIED):
            config = draw(drawn)
            try:
                kind().configure(config)
            except (ConfigError, ValidationError):
                continue
            return config
        return draw(good)

    return st.one_of(good, accepted())


@cache
def slot_of(stage: str, slot: str) -> Made:
    """What stands in a slot: (`strategies`, `strategy_configs`), each maybe left out."""
    declared: Slot[Strategy] = type(known().stage(stage)).slots()[slot]

    @st.composite
    def one(draw: st.DrawFn) -> tuple[Any, Any]:
        if not declared.chain:
            name = draw(st.sampled_from(sorted(declared.known)))
            return name, draw(config_of(stage, slot, name))
        names = draw(st.lists(st.sampled_from(sorted(declared.known)), unique=True, max_size=3))
        return names, {name: draw(config_of(stage, slot, name)) for name in names}

    return st.none() | one()


@cache
def entry_of(name: str) -> Made:
    stage: AnyStage = known().stage(name)
    config = st.just({}) if stage.Config is None else model_of(stage.Config)

    @st.composite
    def made(draw: st.DrawFn) -> dict[str, Any]:
        entry: dict[str, Any] = {"order": stage.order, "name": name}
        filled = {slot: draw(slot_of(name, slot)) for slot in stage.slots()}
        given = {slot: both for slot, both in filled.items() if both is not None}
        if given:
            entry["strategies"] = {slot: chosen for slot, (chosen, _) in given.items()}
            entry["strategy_configs"] = {slot: config for slot, (_, config) in given.items()}
        if own := draw(config):
            entry["config"] = own
        if name not in REQUIRED and draw(st.integers(0, 9)) == 0:
            entry["active"] = False
        return entry

    return made()


@cache
def _parts() -> Made:
    limits = limits_adapter().json_schema()
    rules = st.lists(st.sampled_from(["Write", "Bash(git push *)", "@net"]), max_size=2)
    template = st.builds(
        lambda name, text: {"kind": "template", "name": f"tell_{name}", "template": text},
        st.integers(0, 3),
        TEXT,
    )

    tools = st.fixed_dictionaries(
        {},
        optional={
            "built_in": st.lists(st.sampled_from(sorted([*TOOLS, *GROUPS])), max_size=3),
            "ad_hoc": st.lists(template, max_size=2, unique_by=lambda tool: tool["name"]),
        },
    )
    model = model_of(ModelConfig).map(
        lambda said: {**said, "model": "anthropic:claude-sonnet-4-6"} if "model" in said else said
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "version": st.just("1"),
            "metadata": model_of(Metadata),
            "model": model,
            "limits": fields_of(limits, limits.get("$defs", {})),
            "tools": tools,
            "permissions": st.fixed_dictionaries(
                {}, optional=dict.fromkeys(PermissionsConfig.model_fields, rules)
            ),
        },
    )


@cache
def agents() -> list[dict[str, Any]]:
    """Those that the strategies of stage 12 name."""
    manifest = EnvironmentManifest()
    with_agents(manifest)
    return [agent.model_dump(exclude_defaults=True) for agent in manifest.agents]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents of manifests. Nearly all of them are valid: what stages ask of each other, and of
    the model, is not declared."""
    optional = sorted(set(known().names) - set(REQUIRED))
    names = [*REQUIRED, *draw(st.lists(st.sampled_from(optional), max_size=4, unique=True))]
    entries = draw(st.tuples(*[entry_of(name) for name in names]))
    for entry in entries:
        if entry["name"] == "api":
            entry.get("config", {}).pop("provider", None)
    made = {**draw(_parts()), "stages": draw(st.permutations(entries))}
    if "agent" in names:
        made["agents"] = agents()
    if "memory" in names:  # some of its strategies ask a model when the run is over
        made["limits"] = {**made.get("limits", {}), "cleanup_s": 60.0}
    return made
