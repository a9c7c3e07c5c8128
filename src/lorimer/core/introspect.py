"""What agents may be made of, from the declarations: stages, slots, strategies, configurations; and
what of it one is made of.

    {"order": 2, "name": "context", "category": "ingress", "about": "...", "required": false,
     "every_call": true, "calls_tools": false, "overrides": [], "implementations": [],
     "config_schema": {...} or null,
     "slots": {"strategy": {"chain": false, "default": ["simple_load"],
                            "strategies": {"hybrid": {"about": "...", "config_schema": {...}}}}}}

With a manifest also, of the stage: "active", "config", "implementation", "model_override",
"tool_binding"; of a slot: "current", a list of names, and "configs", name to configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import BaseModel

from lorimer.core import plugins
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import REQUIRED
from lorimer.core.errors import ConfigError
from lorimer.core.field_notes import Notes
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.stage import AnyStage, Slot, Strategy


def introspect(
    catalogue: Catalogue, manifest: EnvironmentManifest | None = None
) -> list[dict[str, JSON]]:
    """Every stage that a manifest may name, in order: shipped, the host's, from installed packages.
    A broken package is reported under "broken"; nothing is raised for it."""
    notes = Notes()
    names = [*catalogue.names]
    names += plugins.offered_stages()
    told = [_stage(catalogue, name, manifest, notes) for name in dict.fromkeys(names)]
    return sorted(told, key=lambda stage: cast("int", stage["order"]))


def introspect_stage(
    catalogue: Catalogue, name: str, manifest: EnvironmentManifest | None = None
) -> dict[str, JSON]:
    """The description of one stage. Raises ConfigError for an unknown name, with the nearest."""
    return _stage(catalogue, name, manifest, Notes())


def _stage(
    catalogue: Catalogue, name: str, manifest: EnvironmentManifest | None, notes: Notes
) -> dict[str, JSON]:
    entry = manifest.stages[name] if manifest is not None and name in manifest.stages else None
    if name not in catalogue.names and name not in plugins.offered(plugins.STAGES):
        catalogue.stage(name)  # raises the error for an unknown name
    try:
        stage = catalogue.stage(name, entry.implementation if entry is not None else "")
    except ConfigError as error:
        return {
            "order": entry.order if entry is not None else 0,
            "name": name,
            "broken": str(error),
        }
    told: dict[str, JSON] = {
        "order": stage.order,
        "name": name,
        "category": stage.category,
        "about": about(stage),
        "required": name in REQUIRED,
        "every_call": stage.every_call,
        "calls_tools": stage.calls_tools,
        "overrides": sorted(stage.overrides),
        "implementations": list(catalogue.implementations(name)),
        "config_schema": _schema(stage.Config, notes),
    }
    if manifest is not None:
        told["active"] = entry is not None and entry.active
    if entry is not None:
        binding = entry.tool_binding
        told["config"] = entry.config
        told["implementation"] = entry.implementation
        told["model_override"] = entry.model_override
        told["tool_binding"] = None if binding is None else binding.model_dump()
    told["slots"] = {
        slot.name: _slot(catalogue, stage, slot, entry, notes) for slot in stage.slots().values()
    }
    return told


def _slot(
    catalogue: Catalogue,
    stage: AnyStage,
    slot: Slot[Strategy],
    entry: StageEntry | None,
    notes: Notes,
) -> dict[str, JSON]:
    told: dict[str, JSON] = {
        "chain": slot.chain,
        "default": [name for name in slot.default if name],
        "strategies": {
            name: _strategy(catalogue, stage.name, slot, name, notes)
            for name in catalogue.strategies(stage.name, slot)
        },
    }
    if entry is not None:
        chosen = entry.strategies.get(slot.name, list(slot.default))
        current: Sequence[str] = [chosen] if isinstance(chosen, str) else chosen
        configs = entry.strategy_configs.get(slot.name, {})
        told["current"] = list(current)
        told["configs"] = configs if slot.chain else {name: configs for name in current if configs}
    return told


def _strategy(
    catalogue: Catalogue, stage: str, slot: Slot[Strategy], name: str, notes: Notes
) -> Mapping[str, JSON]:
    try:
        strategy = catalogue.strategy(stage, slot, name)
    except ConfigError as error:
        return {"broken": str(error)}
    return {"about": strategy.description, "config_schema": _schema(strategy.Config, notes)}


def _schema(config: type[BaseModel] | None, notes: Notes) -> JSON:
    return None if config is None else notes.schema(config)


def about(stage: AnyStage) -> str:
    """The first sentence of a stage's docstring."""
    text = " ".join((type(stage).__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".") + "." if text else ""
