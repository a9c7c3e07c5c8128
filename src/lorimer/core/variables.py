"""References to variables in a manifest: `${NAME}`, in texts of `model`, of a stage's configuration
and of an `http` tool. `$${NAME}` stands for the literal text `${NAME}`.

Which variables exist is up to the host; the process environment is not used by itself, because a
manifest may come from a stranger. A value is inserted where and when it is used: manifest, hash,
journal and saved files only ever contain the reference.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, cast

from lorimer.core.jsonable import JSON, texts_in
from lorimer.core.manifest import EnvironmentManifest, ModelConfig, Plain, StageEntries, StageEntry
from lorimer.core.redaction import is_secret, secrets_in

REFERENCE: Final = re.compile(r"\$(\$?)\{([A-Z][A-Z0-9_]{0,99})\}")


def names_in(value: JSON) -> Iterator[str]:
    """The variables that the texts in a value refer to."""
    for text in texts_in(value):
        for escaped, name in REFERENCE.findall(text):
            if not escaped:
                yield name


def replaced(value: JSON, variables: Mapping[str, str]) -> JSON:
    """The value with variables replaced, in one pass; a reference to an unknown one is kept."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda found: _substitute(found, variables), value)
    if isinstance(value, Mapping):
        return {name: replaced(item, variables) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(item, variables) for item in value]
    return value


def verbatim(text: str, variables: Collection[str] = ()) -> str:
    """A text that `replaced` leaves as it is, except for references to `variables`."""
    return REFERENCE.sub(
        lambda found: found[0] if found[2] in variables and not found[1] else f"${found[0]}", text
    )


def _substitute(found: re.Match[str], variables: Mapping[str, str]) -> str:
    return found[0][1:] if found[1] else variables.get(found[2], found[0])


def references(manifest: EnvironmentManifest) -> dict[str, list[str]]:
    """Path to the variables referred to there, in everything that is active."""
    found: dict[str, list[str]] = {}
    settings = [_texts_of(manifest.model).items()]
    settings += [_settings(entry) for entry in manifest.stages if entry.active]
    for path, value in chain.from_iterable(settings):
        if names := list(dict.fromkeys(names_in(value))):
            found[path] = names
    for tool in manifest.tools.ad_hoc:
        # the others have no variables: `${NAME}` is plain text in a script
        if tool.kind == "http" and (names := list(dict.fromkeys(tool.variables()))):
            found[f"tools.ad_hoc[{tool.name}]"] = names
    for agent in manifest.agents:
        where = f"agents[{agent.name}]"
        if agent.manifest is not None:
            below = references(agent.manifest)
            found |= {f"{where}.manifest.{path}": below[path] for path in below}
            continue
        for name, text in (("prompt", agent.prompt), ("model", agent.model)):
            if names := list(dict.fromkeys(names_in(text))):
                found[f"{where}.{name}"] = names
    return found


def _texts_of(model: ModelConfig) -> dict[str, JSON]:
    """Path to setting, for those of a model that are or contain texts."""
    said = {name: cast("JSON", value) for name, value in model if name in model.model_fields_set}
    return {
        f"model.{name}": value
        for name, value in said.items()
        if isinstance(value, str | list | tuple | Mapping)
    }


def _settings(entry: StageEntry) -> Iterable[tuple[str, JSON]]:
    """Every setting of a stage and its strategies, with its path."""
    where = f"stages[{entry.order}]"
    for name, value in entry.model_override.items():
        yield f"{where}.model_override.{name}", cast("JSON", value)
    for name, value in entry.config.items():
        yield f"{where}.config.{name}", cast("JSON", value)
    for slot, config in entry.strategy_configs.items():
        for name, value in config.items():
            yield f"{where}.strategy_configs.{slot}.{name}", cast("JSON", value)


def missing(manifest: EnvironmentManifest, variables: Mapping[str, str]) -> dict[str, list[str]]:
    """Path to the references there that are not among the variables."""
    found = {
        path: [name for name in names if name not in variables]
        for path, names in references(manifest).items()
    }
    return {path: names for path, names in found.items() if names}


def with_variables(
    manifest: EnvironmentManifest, variables: Mapping[str, str]
) -> EnvironmentManifest:
    """The manifest with variables replaced in its model and in the configuration of its stages; the
    same object if there are none. Only for compiling: it is never written anywhere."""
    entries = [
        entry if not _refers(value for _, value in _settings(entry)) else _filled(entry, variables)
        for entry in manifest.stages
    ]
    model = _filled_model(manifest.model, variables)
    same = all(one is other for one, other in zip(entries, manifest.stages, strict=True))
    if same and model is manifest.model:
        return manifest
    stages = manifest.stages if same else StageEntries.model_construct(entries)
    return manifest.model_copy(update={"model": model, "stages": stages})


def _refers(values: Iterable[JSON]) -> bool:
    return any("$" in text for value in values for text in texts_in(value))


def _filled(entry: StageEntry, variables: Mapping[str, str]) -> StageEntry:
    fields: dict[str, Mapping[str, Plain]] = {
        "config": entry.config,
        "strategy_configs": cast("Mapping[str, Plain]", entry.strategy_configs),
        "model_override": entry.model_override,
    }
    return entry.model_copy(
        update={name: replaced(cast("JSON", value), variables) for name, value in fields.items()}
    )


def _filled_model(model: ModelConfig, variables: Mapping[str, str]) -> ModelConfig:
    said = _texts_of(model)
    if not _refers(said.values()):
        return model
    update = {path.partition(".")[2]: replaced(each, variables) for path, each in said.items()}
    return model.model_copy(update=update)


def undecided(problem: str, paths: Iterable[str]) -> bool:
    """Whether a fault is about a value, at one of these paths, that contains a variable."""
    return problem.startswith(tuple([f"{path}{mark}" for path in paths for mark in (":", ".")]))


def secrets_of(manifest: EnvironmentManifest, variables: Mapping[str, str]) -> dict[str, str]:
    """Value to name: the variables whose names say that they are secret, and those that an `http`
    tool sends."""
    found = secrets_in(variables)
    for name in _names_sent(manifest):
        value = variables.get(name, "")
        if is_secret(value):
            found.setdefault(value, name)
    return found


def _names_sent(manifest: EnvironmentManifest) -> Iterator[str]:
    for tool in manifest.tools.ad_hoc:
        if tool.kind == "http":
            yield from tool.variables()
    for agent in manifest.agents:
        if agent.manifest is not None:
            yield from _names_sent(agent.manifest)
