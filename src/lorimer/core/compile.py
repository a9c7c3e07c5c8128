"""`compile(manifest, catalogue, bindings) -> Plan`: the only way to make a pipeline.

Finds all faults before anything runs, and reports them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, cast

from pydantic import ValidationError

from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError, nearest, raised_in
from lorimer.core.faults import invalid, problems_of
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import (
    EnvironmentManifest,
    ModelConfig,
    StageEntries,
    StageEntry,
    faults_of,
)
from lorimer.core.plan import Plan, step_of
from lorimer.core.redaction import Redactor, secrets_in
from lorimer.core.stage import AnyStage, Strategy
from lorimer.core.variables import missing, undecided, with_variables

REQUIRED: Final = ("input", "api", "parse", "yield")
"""Stages without which no input can be answered."""

LOOP_FROM, LOOP_TO = 6, 16


def compile(manifest: EnvironmentManifest, catalogue: Catalogue, bindings: Bindings) -> Plan:
    """Build the plan. Raises ConfigError listing every fault as `path: reason`. Has no side effects
    except importing the modules of the chosen stages and strategies."""
    built, model, problems = _with_variables(manifest, catalogue, bindings.variables)
    if problems:
        redactor = Redactor.of(secrets_in(bindings.variables))
        raise invalid(problems if redactor is None else [redactor.text(each) for each in problems])
    stages = [stage for stage, _ in built]
    bound = replace(
        bindings,
        limits=manifest.limits,
        model=model,
        stages={stage.name: stage for stage in stages},
    )
    for stage, entry in built:
        given = bound
        if own := entry.model_override:
            given = replace(bound, model=overridden(model, own), model_override=own)
        for strategy in strategies_of(stage):
            strategy.bind(given)
        stage.bind(given)
    setup = [stage for stage in stages if stage.order < LOOP_FROM]
    return Plan(
        manifest=manifest,
        digest=manifest.digest,
        limits=manifest.limits,
        stages=tuple(stages),
        setup=tuple([step_of(stage) for stage in setup]),
        recurring=tuple([step_of(stage) for stage in setup if stage.every_call]),
        loop=tuple([step_of(stage) for stage in stages if LOOP_FROM <= stage.order <= LOOP_TO]),
        surface=tuple([step_of(stage) for stage in stages if stage.order > LOOP_TO]),
        converses=any(stage.remembers for stage in stages),
        hooks=bindings.hooks,
    )


def strategies_of(stage: AnyStage) -> list[Strategy]:
    """The strategies a compiled stage holds, slots and chains, in order."""
    found: list[Strategy] = []
    for name, slot in stage.slots().items():
        held: Strategy | tuple[Strategy, ...] = vars(stage)[name]
        found.extend(cast("tuple[Strategy, ...]", held) if slot.chain else [cast("Strategy", held)])
    return found


def check_document(
    data: Mapping[str, JSON], catalogue: Catalogue, variables: Mapping[str, str] | None = None
) -> list[str]:
    """Every fault of a manifest that may be malformed anywhere, as `path: reason`. Values with
    variables are checked only where the variables are given; None: they are not known yet."""
    if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - from a file
        return [f"must be an object, not {type(data).__name__}"]
    try:
        manifest = EnvironmentManifest.model_validate(data)
    except ValidationError as error:
        problems = faults_of(error, data)
        entries, whole = _sound_entries(data, catalogue)
        manifest = EnvironmentManifest(stages=StageEntries(entries))
        with suppress(ValidationError):
            manifest.model = ModelConfig.model_validate(data.get("model", {}))
        return problems + _with_variables(manifest, catalogue, variables, whole)[2]
    return _with_variables(manifest, catalogue, variables)[2]


def _with_variables(
    manifest: EnvironmentManifest,
    catalogue: Catalogue,
    variables: Mapping[str, str] | None,
    whole: bool = True,
) -> tuple[list[tuple[AnyStage, StageEntry]], ModelConfig, list[str]]:
    """What is built with the variables filled in, its model likewise, and its faults. A fault in a
    value with a variable that is not given is ignored."""
    given = variables or {}
    filled = with_variables(manifest, given)
    built, problems = _build(filled, catalogue, whole)
    if absent := missing(manifest, given):
        problems = [fault for fault in problems if not undecided(fault, absent)]
    if variables is None:
        return built, filled.model, problems
    told = [
        f"{path}: nothing is given for ${{{name}}}; pass variables={{{name!r}: ...}}, or --env"
        for path, names in absent.items()
        for name in names
    ]
    return built, filled.model, told + problems


def _sound_entries(data: Mapping[str, JSON], catalogue: Catalogue) -> tuple[list[StageEntry], bool]:
    """The entries that can be checked further, and whether these are all of them."""
    entries = data.get("stages", [])
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        return [], False
    sound = [found for entry in entries if (found := _sound(entry, catalogue)) is not None]
    return sound, len(sound) == len(entries)


def _sound(entry: JSON, catalogue: Catalogue) -> StageEntry | None:
    """The entry without its malformed fields, which have been reported already; None if it is
    unclear which stage is meant."""
    try:
        return StageEntry.model_validate(entry)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors(include_url=False) if item["loc"]}
    if not isinstance(entry, Mapping) or "name" in wrong or "name" not in entry:
        return None
    rest = {name: value for name, value in entry.items() if name not in wrong}
    given, usual = entry.get("order"), catalogue.order(str(entry["name"]))
    if "order" in wrong:
        if not usual and not isinstance(given, int):
            return None
        rest["order"] = usual or 1
    try:
        found = StageEntry.model_validate(rest)
    except ValidationError:  # of a key that is not text, the error names only what it looks like
        return None
    # an order that no stage has is what messages refer to it by
    numbered = "order" in wrong and isinstance(given, int)
    return found.model_copy(update={"order": given}) if numbered else found


def _build(
    manifest: EnvironmentManifest, catalogue: Catalogue, whole: bool = True
) -> tuple[list[tuple[AnyStage, StageEntry]], list[str]]:
    problems: list[str] = []
    active = [entry for entry in manifest.stages if entry.active]
    names = [entry.name for entry in active]
    # not `whole`: with a malformed entry it is unknown what is missing
    problems.extend(
        f"stages: {name!r} is missing and required; add {{order: {catalogue.order(name)}, "
        f"name: {name}}}"
        for name in REQUIRED
        if whole and name not in names
    )
    problems.extend(
        f"stages: {name!r} is there twice"
        for name in sorted({n for n in names if names.count(n) > 1})
    )
    # a custom stage runs right after the built-in stage of the same order
    active.sort(key=lambda entry: (entry.order, catalogue.order(entry.name) != entry.order))
    built: list[tuple[AnyStage, StageEntry]] = []
    slots: list[dict[str, Strategy | tuple[Strategy, ...]]] = []
    for entry in active:
        where = f"stages[{entry.order}]"
        try:
            stage = catalogue.stage(entry.name, entry.implementation)
        except ConfigError as error:
            field = "implementation" if entry.implementation else "name"
            problems.append(f"{where}.{field}: {_advised(error)}")
            continue
        if stage.name != entry.name:
            problems.append(f"{where}.name: the stage calls itself {stage.name!r}")
        if stage.order != entry.order:
            problems.append(f"{where}.order: the {entry.name!r} stage has number {stage.order}")
        faults, chosen = _configure(stage, entry, catalogue, where)
        faults += _override_faults(stage, entry, manifest.model, where)
        if entry.tool_binding is not None and not stage.calls_tools:
            faults.append(f"{where}.tool_binding: the {entry.name!r} stage calls no tools")
        problems.extend(faults or _stage_faults(stage, entry, manifest))
        built.append((stage, entry))
        slots.append(chosen)
    if not problems:  # the stage may be a host's own, used by a plan that goes on running
        for (stage, _), chosen in zip(built, slots, strict=True):
            vars(stage).update(chosen)
    return built, problems


def overridden(model: ModelConfig, override: Mapping[str, JSON]) -> ModelConfig:
    """The model settings of a stage. Raises pydantic's ValidationError."""
    return ModelConfig.model_validate({**model.model_dump(exclude_unset=True), **override})


def _stage_faults(
    stage: AnyStage, entry: StageEntry, manifest: EnvironmentManifest
) -> Iterable[str]:
    """A stage's own complaints about the manifest, which it sees with its own model settings."""
    own = entry.model_override
    if not own:
        return stage.check(manifest)
    model, where = overridden(manifest.model, own), f"stages[{entry.order}].model_override"
    found = stage.check(manifest.model_copy(update={"model": model}))
    said = tuple([f"model.{name}:" for name in own])
    return [f"{where}{each[5:]}" if each.startswith(said) else each for each in found]


def _override_faults(
    stage: AnyStage, entry: StageEntry, model: ModelConfig, where: str
) -> list[str]:
    """The faults of a stage's model_override."""
    if not entry.model_override:
        return []
    where = f"{where}.model_override"
    if not stage.overrides:
        return [f"{where}: the {entry.name!r} stage asks no model by this"]
    unknown = [name for name in entry.model_override if name not in stage.overrides]
    if unknown:
        return [
            f"{where}.{name}: the {entry.name!r} stage overrides no such field"
            f"{nearest(name, stage.overrides)}"
            for name in unknown
        ]
    try:
        overridden(model, entry.model_override)
    except ValidationError as error:
        return problems_of(error, where)
    return []


def _configure(
    stage: AnyStage, entry: StageEntry, catalogue: Catalogue, where: str
) -> tuple[list[str], dict[str, Strategy | tuple[Strategy, ...]]]:
    """The faults of an entry, and what belongs into its slots."""
    problems: list[str] = []
    filled: dict[str, Strategy | tuple[Strategy, ...]] = {}
    if entry.config and _takes_no_config(stage):
        problems.append(f"{where}.config: the {entry.name!r} stage takes no configuration")
    problems.extend(_config_faults(stage, entry.config, f"{where}.config"))
    slots = stage.slots()
    for field, given in (
        ("strategies", entry.strategies),
        ("strategy_configs", entry.strategy_configs),
    ):
        problems.extend(
            f"{where}.{field}: the {entry.name!r} stage has no slot {name!r}{nearest(name, slots)}"
            for name in given
            if name not in slots
        )
    for name, slot in slots.items():
        chosen = entry.strategies.get(name, list(slot.default) if slot.chain else slot.default[0])
        config = entry.strategy_configs.get(name, {})
        at = f"{where}.strategies.{name}"
        if slot.chain != isinstance(chosen, list):
            problems.append(f"{at}: must be {'a list of names' if slot.chain else 'one name'}")
            continue
        held: list[Strategy] = []
        for item in chosen if isinstance(chosen, list) else [chosen]:
            given = config.get(item, {}) if slot.chain else config
            path = f"{where}.strategy_configs.{name}" + (f".{item}" if slot.chain else "")
            try:
                strategy = catalogue.strategy(entry.name, slot, item)
            except ConfigError as error:
                problems.append(f"{at}: {_advised(error)}")
                continue
            if given and _takes_no_config(strategy):
                problems.append(f"{path}: {item!r} takes no configuration")
                continue
            faults = _config_faults(strategy, cast("Mapping[str, JSON]", given), path)
            problems.extend(faults)
            if not faults:
                held.append(strategy)
        if slot.chain:
            problems.extend(
                f"{where}.strategy_configs.{name}: {item!r} is not in the chain"
                for item in config
                if item not in chosen
            )
            filled[name] = tuple(held)
        elif held:
            filled[name] = held[0]
    return problems, filled


def _config_faults(kind: AnyStage | Strategy, given: Mapping[str, JSON], path: str) -> list[str]:
    """Configure it; returns what is wrong with the configuration at `path`."""
    try:
        kind.configure(given)
    except ConfigError as error:
        return [f"{path}.{problem}" for problem in error.problems] or [f"{path}: {error}"]
    except ValidationError as error:
        return problems_of(error, path, kind.Config)
    except Exception as error:  # noqa: BLE001 - of somebody's own `configure`
        return [f"{path}: {type(error).__name__}: {error}{raised_in(error)}"]
    return []


def _advised(error: ConfigError) -> str:
    """What is wrong, and what to do about it."""
    return f"{error}. {error.hint}" if error.hint else str(error)


def _takes_no_config(kind: AnyStage | Strategy) -> bool:
    return kind.Config is None and type(kind).configure in (AnyStage.configure, Strategy.configure)
