"""`path=value` as a change of a manifest: the paths are those of `values` and of all errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, cast

from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import MutationError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, StageEntry, ToolBinding

_Change: TypeAlias = dict[str, JSON]

_STAGE: Final = re.compile(r"stages(?:\[([^\]]+)\]|\.([^.\[]+))\.(.+)", re.DOTALL)
_SECTIONS: Final = ("model", "tools", "permissions", "metadata", "limits")
_FIELDS: Final = (
    *("config", "strategies", "strategy_configs", "model_override", "tool_binding"),
    *("active", "implementation"),
)


def assigned(
    manifest: EnvironmentManifest, path: str, value: JSON, catalogue: Catalogue
) -> _Change:
    """The change, in the JSON of `core/mutation`, after which a manifest has `value` at `path`:
    `model.temperature`, `stages[3].config.prompt` or `stages[system].config.prompt`,
    `stages[6].strategies.retry`. Raises MutationError for a path that cannot be set; whether the
    value is valid is checked when the change is applied."""
    found = _STAGE.fullmatch(path)
    if found is not None:
        entry = _entry(manifest, str(found[1] or found[2]).strip("'\""))
        return _of_stage(entry, found[3].split("."), value, catalogue)
    section, _, name = path.partition(".")
    if section not in _SECTIONS or not name:
        near = nearest(section.partition("[")[0], ("stages", *_SECTIONS)) if name else ""
        raise MutationError(
            f"there is no path {path!r}{near}",
            hint="Write e.g. model.temperature=0 or stages[system].config.prompt=...; "
            "`lorimer manifest explain` shows every path.",
        )
    match section:
        case "model":
            return {"kind": "update_model_config", "settings": {name: value}}
        case "tools":
            return {"kind": "update_tools", "tools": {name: value}}
        case _:
            return {"kind": "update_pipeline_config", section: {name: value}}


def _entry(manifest: EnvironmentManifest, stage: str) -> StageEntry:
    key = int(stage) if stage.isdecimal() else stage
    if key not in manifest.stages:
        known = [entry.name for entry in manifest.stages]
        raise MutationError(f"this agent has no stage {stage!r}{nearest(stage, known)}")
    return manifest.stages[key]


def _of_stage(
    entry: StageEntry, words: Sequence[str], value: JSON, catalogue: Catalogue
) -> _Change:
    stage: _Change = {"stage": entry.name}
    match words:
        case ["config", name]:
            return {"kind": "update_stage_config", **stage, "config": {name: value}}
        case ["strategies", slot]:
            return {"kind": "swap_strategy", **stage, "slot": slot, "strategy": value}
        case ["strategy_configs", slot, *rest] if rest:
            return _configured(entry, slot, rest, value, catalogue)
        case ["model_override", name]:
            model = {**cast("Mapping[str, JSON]", entry.model_override), name: value}
            return {"kind": "set_stage_model", **stage, "model": model}
        case ["tool_binding", ("allowed" | "blocked") as name]:
            binding = (entry.tool_binding or ToolBinding()).model_dump()
            return {"kind": "set_tool_scope", **stage, **binding, name: value}
        case ["active"]:
            return {"kind": "set_stage_active", **stage, "active": value}
        case ["implementation"]:
            return {"kind": "set_implementation", **stage, "implementation": value}
        case _:
            path = ".".join(words)
            raise MutationError(
                f"stages[{entry.name}] has no {path!r} to change{nearest(words[0], _FIELDS)}"
            )


def _configured(
    entry: StageEntry, slot: str, rest: Sequence[str], value: JSON, catalogue: Catalogue
) -> _Change:
    """A field of a strategy's configuration; in a chain the strategy's name comes before it."""
    change: _Change = {"kind": "update_strategy_config", "stage": entry.name, "slot": slot}
    declared = catalogue.slots(entry.name, entry.implementation).get(slot)
    if declared is not None and declared.chain:
        if len(rest) != 2:
            raise MutationError(
                f"{entry.name}.{slot} is a chain: write strategy_configs.{slot}.STRATEGY.FIELD"
            )
        return {**change, "strategy": rest[0], "config": {rest[1]: value}}
    if len(rest) != 1:
        raise MutationError(
            f"{entry.name}.{slot} is not a chain: write strategy_configs.{slot}.FIELD"
        )
    return {**change, "config": {rest[0]: value}}
