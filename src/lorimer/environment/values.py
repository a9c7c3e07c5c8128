"""All values of a manifest by path, with defaults filled in: its meaning, however it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from pydantic import ValidationError

from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.stage import AnyStage, Strategy

_CHOICES: Final = ("order", "name", "strategies", "strategy_configs", "config")
"""Fields of an entry whose contents have their own paths."""


def values(manifest: EnvironmentManifest, catalogue: Catalogue) -> dict[str, JSON]:
    """Path → value: `model.model`, `limits.max_turns`, `stages[6].strategies.retry`,
    `stages[6].strategy_configs.retry.max_retries`; for a stage in the manifest, `stages[6]` is its
    name.

    The paths of a host's own stage contain its name, `stages[mine]`. What is unknown to the
    catalogue or invalid is included as written.
    """
    found: dict[str, JSON] = {}
    plain = cast("dict[str, JSON]", manifest.model_dump(mode="json", exclude={"stages"}))
    for part, said in plain.items():
        if isinstance(said, Mapping):
            found.update({f"{part}.{name}": value for name, value in said.items()})
        else:
            found[part] = said
    for entry in sorted(manifest.stages, key=lambda entry: entry.order):
        found.update(stage_values(entry, catalogue))
    return found


def stage_values(entry: StageEntry, catalogue: Catalogue) -> dict[str, JSON]:
    """The values of one stage."""
    where = catalogue.path(entry.order, entry.name)
    found: dict[str, JSON] = {where: entry.name}
    rest = cast("dict[str, JSON]", entry.model_dump(mode="json", exclude=set(_CHOICES)))
    found.update({f"{where}.{name}": value for name, value in rest.items()})
    try:
        stage = catalogue.stage(entry.name, entry.implementation)
    except ConfigError:
        stage = None
    own = _config_of(stage, cast("Mapping[str, JSON]", entry.config))
    found.update({f"{where}.config.{name}": value for name, value in own.items()})
    known = list(stage.slots()) if stage is not None else []
    slots = dict.fromkeys([*known, *entry.strategies, *entry.strategy_configs])
    for slot in slots:
        chosen, chain = _chosen(entry, stage, slot)
        found[f"{where}.strategies.{slot}"] = chosen if chain else next(iter(chosen), None)
        for name, config in _configs(entry, stage, catalogue, slot, chosen, chain):
            path = f"{where}.strategy_configs.{slot}{f'.{name}' if chain else ''}"
            found.update({f"{path}.{field}": value for field, value in config.items()})
    return found


def written(data: Mapping[str, JSON], catalogue: Catalogue) -> set[str]:
    """The paths that a document itself sets, as in `values`."""
    found: set[str] = set()
    for part, said in data.items():
        if isinstance(said, Mapping):
            found.update(f"{part}.{name}" for name in said)
        elif part == "stages" and isinstance(said, list | tuple):
            for entry in said:
                found.update(_written_stage(StageEntry.model_validate(entry), catalogue))
        else:
            found.add(part)
    return found


def _written_stage(entry: StageEntry, catalogue: Catalogue) -> Iterator[str]:
    where = catalogue.path(entry.order, entry.name)
    yield where
    yield from (f"{where}.{name}" for name in entry.model_fields_set - set(_CHOICES))
    yield from (f"{where}.config.{name}" for name in entry.config)
    yield from (f"{where}.strategies.{name}" for name in entry.strategies)
    for slot, config in entry.strategy_configs.items():
        for name, value in config.items():
            at = f"{where}.strategy_configs.{slot}.{name}"
            yield at
            if isinstance(value, Mapping):
                yield from (f"{at}.{field}" for field in value)


def _chosen(entry: StageEntry, stage: AnyStage | None, slot: str) -> tuple[list[str], bool]:
    """The strategies in a slot, and whether it is a chain."""
    declared = stage.slots().get(slot) if stage is not None else None
    said = entry.strategies.get(slot)
    if said is None:
        said = list(declared.default) if declared is not None else []
        return said, declared is not None and declared.chain
    return (said, True) if isinstance(said, list) else ([said], False)


def _configs(
    entry: StageEntry,
    stage: AnyStage | None,
    catalogue: Catalogue,
    slot: str,
    chosen: list[str],
    chain: bool,
) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Each strategy of a slot with its complete configuration."""
    declared = stage.slots().get(slot) if stage is not None else None
    given = cast("Mapping[str, JSON]", entry.strategy_configs.get(slot, {}))
    for name in chosen:
        own = given.get(name, {}) if chain else given
        config = fields_of(own)
        try:
            strategy = None if declared is None else catalogue.strategy(entry.name, declared, name)
        except ConfigError:
            strategy = None
        yield name, _config_of(strategy, config)


def _config_of(kind: AnyStage | Strategy | None, given: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """A configuration with its defaults; unchanged, if nothing declares or accepts it."""
    if kind is None or kind.Config is None:
        return given
    try:
        return kind.Config.model_validate(given).model_dump(mode="json", by_alias=True)
    except ValidationError:
        return given
