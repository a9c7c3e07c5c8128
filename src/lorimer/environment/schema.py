"""The JSON Schema of manifests: their fields, and for each stage its slots, the strategies that fit
into them and their settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from lorimer.core import adhoc, manifest
from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError
from lorimer.core.field_notes import Notes
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.stage import AnyStage, Slot, Strategy
from lorimer.stages.catalogue import catalogue as shipped

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE: Final[JSON] = {"type": "string", "pattern": r"\$\{[A-Z][A-Z0-9_]*\}"}
"""`${NAME}` is allowed for settings of every other type."""


def schema(catalogue: Catalogue | None = None) -> dict[str, JSON]:
    """For editors, and for programs that write manifests. A document that it accepts may still be
    rejected: it does not cover the dependencies between stages, nor the host's extensions; unknown
    names of stages and strategies are accepted, unknown fields are not. What a broken package
    offers is left out."""
    return _Schema(catalogue or shipped()).whole()


class _Schema:
    def __init__(self, known: Catalogue) -> None:
        self._stages: dict[tuple[str, str], AnyStage] = {}
        self._strategies: dict[tuple[str, str, str], Strategy] = {}
        for name in known.names:
            for each in ("", *known.implementations(name)):
                with suppress(ConfigError):
                    self._stages[name, each] = known.stage(name, each)
        for stage in self._stages.values():
            for slot in stage.slots().values():
                for name in known.strategies(stage.name, slot):
                    with suppress(ConfigError):
                        self._strategies[stage.name, slot.name, name] = known.strategy(
                            stage.name, slot, name
                        )
        kinds = [each.Config for each in (*self._stages.values(), *self._strategies.values())]
        models = dict.fromkeys([EnvironmentManifest, *(kind for kind in kinds if kind is not None)])
        found, described = models_json_schema([(model, "validation") for model in models])
        self._ref = {model: str(ref["$ref"]) for (model, _), ref in found.items()}
        self._defs = cast("dict[str, dict[str, JSON]]", described["$defs"])

    def whole(self) -> dict[str, JSON]:
        defs = self._defs
        root = defs[self._name(EnvironmentManifest)]
        for model, ref in self._ref.items():
            if model is not EnvironmentManifest:
                _open(defs[ref.rpartition("/")[2]])
        notes = Notes()
        for model, ref in self._ref.items():
            notes.add(defs[ref.rpartition("/")[2]], model)
        for name, kind in {**vars(adhoc), **vars(manifest)}.items():
            if isinstance(kind, type) and name in defs:
                notes.add(defs[name], kind)
        entry = defs["StageEntry"]
        entry["allOf"] = [
            {"if": _is(name, implementation), "then": self._stage(stage)}
            for (name, implementation), stage in self._stages.items()
        ]
        return {"$schema": DIALECT, **root, "title": "Lorimer manifest", "$defs": defs}

    def _name(self, model: type[BaseModel]) -> str:
        return self._ref[model].rpartition("/")[2]

    def _stage(self, stage: AnyStage) -> JSON:
        slots = stage.slots()
        properties: dict[str, JSON] = {"order": {"const": stage.order}}
        properties["config"] = self._config(stage)
        properties["strategies"] = {
            "properties": {name: self._choice(slot) for name, slot in slots.items()},
            "additionalProperties": False,
        }
        properties["strategy_configs"] = {
            "properties": {
                name: self._chain(stage, slot) if slot.chain else {} for name, slot in slots.items()
            },
            "additionalProperties": False,
        }
        made: dict[str, JSON] = {"properties": properties}
        if chosen := [one for slot in slots.values() for one in self._chosen(stage, slot)]:
            made["allOf"] = chosen
        return made

    def _choice(self, slot: Slot[Strategy]) -> JSON:
        one: JSON = {"anyOf": [{"enum": list(slot.known)}, {"type": "string", "minLength": 1}]}
        return {"type": "array", "items": one} if slot.chain else one

    def _chain(self, stage: AnyStage, slot: Slot[Strategy]) -> JSON:
        configs = {
            name: self._config(strategy)
            for (at, where, name), strategy in self._strategies.items()
            if (at, where) == (stage.name, slot.name)
        }
        return {"type": "object", "properties": configs}

    def _chosen(self, stage: AnyStage, slot: Slot[Strategy]) -> Iterator[JSON]:
        """For each strategy of a slot: if it is chosen, its configuration."""
        for (at, where, name), strategy in self._strategies.items():
            if slot.chain or (at, where) != (stage.name, slot.name):
                continue
            picked: dict[str, JSON] = {"properties": {where: {"const": name}}}
            test: dict[str, JSON] = {"properties": {"strategies": picked}}
            if name not in slot.default:
                picked["required"] = [where]
                test["required"] = ["strategies"]
            config: JSON = {"properties": {where: self._config(strategy)}}
            yield {"if": test, "then": {"properties": {"strategy_configs": config}}}

    def _config(self, kind: AnyStage | Strategy) -> JSON:
        if kind.Config is None:
            declared = (AnyStage.configure, Strategy.configure)
            return {"maxProperties": 0} if type(kind).configure in declared else {}
        return {"$ref": self._ref[kind.Config]}


def _is(name: str, implementation: str) -> JSON:
    """A condition on an entry: it is this stage, in this implementation ("": the default one)."""
    test: dict[str, JSON] = {"name": {"const": name}, "implementation": {"const": implementation}}
    return {"properties": test, "required": list(test) if implementation else ["name"]}


def _open(described: dict[str, JSON]) -> None:
    """Allow `${NAME}` for each setting."""
    fields = described.get("properties")
    if isinstance(fields, dict):
        described["properties"] = {
            name: field
            if isinstance(field, Mapping) and field.get("type") == "string" and "enum" not in field
            else {"anyOf": [field, _REFERENCE]}
            for name, field in fields.items()
        }
