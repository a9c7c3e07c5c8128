"""Layered settings: what a person, a project and the environment set for all agents that are run
here, beneath the agent's manifest.

Files are TOML (or YAML, JSON): `[model]` and `[limits]` as in a manifest, and `[run]`: `sandbox`,
`network`, `env`. A person's own file and variables may set everything. A project's file comes with
the project, possibly from a stranger: it may choose another model of the same provider, but limits,
sandbox, hosts and variables it can only tighten; anything that would loosen them is left out, and
reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from enum import Enum
from math import inf
from typing import Final, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import NO_FIELD, invalid, problems_of
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.limits import Limits
from lorimer.core.manifest import DEFAULT_MODEL, ModelConfig
from lorimer.core.record import record
from lorimer.core.variables import names_in
from lorimer.environment.values import written
from lorimer.models.registry import PROVIDERS
from lorimer.models.spec import chain, parse_spec

PREFIX: Final = "LORIMER_"

_LOWER: Final = frozenset(each.name for each in fields(Limits)) - {"allow_unpriced"}
"""Limits for which a smaller number is tighter."""

_SANDBOXES: Final = ("off", "auto", "require")
"""From loosest to tightest."""

_TABLES: Final = ("model", "limits", "run")


class Source(Enum):
    """The source of a setting. The value is shown to people."""

    USER = "user settings"
    PROJECT = "project settings"
    ENVIRONMENT = "environment"


class _Run(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sandbox: Literal["auto", "require", "off"] | None = None
    network: list[str] | None = None
    env: list[str] | None = None


@record
class Said:
    """One value of one layer."""

    value: JSON
    source: Source
    where: str
    """The file, or the variable."""

    @property
    def told(self) -> str:
        """As shown to people."""
        return f"{self.source.value} ({self.where})"


@record
class Settings:
    """The combined settings of all layers."""

    values: Mapping[str, Said]
    """Path → effective value: `model.model`, `limits.max_turns`, `run.sandbox`."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def table(self, name: str) -> dict[str, JSON]:
        """The values of `model`, `limits` or `run`."""
        head = f"{name}."
        return {
            path.removeprefix(head): said.value
            for path, said in self.values.items()
            if path.startswith(head)
        }


@record
class Layer:
    """One file, or the environment variables, validated."""

    source: Source
    values: Mapping[str, tuple[JSON, str]]
    """Path → value, and where it is set."""


def layer_of(data: Mapping[str, JSON], source: Source, where: str) -> Layer:
    """The layer of a file. Raises ConfigError listing every fault."""
    problems = [
        f"{name}: there is no such table{nearest(name, _TABLES)}"
        for name in data
        if name not in _TABLES
    ]
    found: dict[str, tuple[JSON, str]] = {}
    for table in _TABLES:
        said = data.get(table, {})
        if not isinstance(said, Mapping):
            problems.append(f"{table}: must be a table")
            continue
        problems += _faults(table, said)
        found.update({f"{table}.{name}": (value, where) for name, value in said.items()})
    if problems:
        raise invalid(problems, where)
    return Layer(source, found)


def layer_of_environment(variables: Mapping[str, str]) -> Layer:
    """`LORIMER_MODEL`, `LORIMER_MAX_TURNS`, `LORIMER_SANDBOX`: every field of the tables by its
    name; lists separated by commas. Raises ConfigError listing every invalid variable."""
    found: dict[str, tuple[JSON, str]] = {}
    problems: list[str] = []
    for path in _paths():
        table, _, name = path.partition(".")
        variable = PREFIX + name.upper()
        text = variables.get(variable, "").strip()
        if not text:
            continue
        value = _read(table, name, text)
        problems += [
            f"{variable}: {fault.partition(': ')[2]}" for fault in _faults(table, {name: value})
        ]
        found[path] = (value, variable)
    if problems:
        raise ConfigError("; ".join(problems), problems=tuple(problems))
    return Layer(Source.ENVIRONMENT, found)


def _paths() -> Iterator[str]:
    for name in ModelConfig.model_fields:
        if name not in ("output_schema",):
            yield f"model.{name}"
    for each in fields(Limits):
        yield f"limits.{each.name}"
    for name in _Run.model_fields:
        yield f"run.{name}"


def _read(table: str, name: str, text: str) -> JSON:
    """Numbers and true or false as such; lists separated by commas; everything else is text."""
    if (table == "run" and name in ("network", "env")) or name == "stop_sequences":
        return [part.strip() for part in text.split(",") if part.strip()]
    if table == "model" and name in ("model", "api"):
        return text
    try:
        return cast("JSON", json.loads(text))
    except ValueError:
        return text


def _faults(table: str, said: Mapping[str, JSON]) -> list[str]:
    if table == "limits":
        try:
            Limits.from_json(said)
        except ConfigError as error:
            return list(error.problems)
        return []
    kind: type[BaseModel] = ModelConfig if table == "model" else _Run
    known = list(kind.model_fields)
    found = [f"{table}.{n}: {NO_FIELD}{nearest(n, known)}" for n in said if n not in known]
    try:
        kind.model_validate({name: value for name, value in said.items() if name in known})
    except ValidationError as error:
        found += problems_of(error, table)
    return found


def layered(layers: Sequence[Layer]) -> Settings:
    """Combine the layers, each overriding those before it: user, project, environment."""
    values: dict[str, Said] = {}
    notes: list[str] = []
    for layer in layers:
        for path, (value, where) in layer.values.items():
            before = values.get(path)
            told = value
            if layer.source is Source.PROJECT:
                told = _tightened(path, value, None if before is None else before.value)
                if told != value:
                    notes.append(
                        f"{where}: {path} would be looser than it is; a project only tightens"
                    )
                if told is None or (before is not None and told == before.value):
                    continue
            values[path] = Said(told, layer.source, where)
    return Settings(values, tuple(notes))


def _tightened(path: str, value: JSON, before: JSON) -> JSON:
    """The part of a project's value that is no looser than `before`, the value without it; None:
    the default, or nothing."""
    table, _, name = path.partition(".")
    if path == "model.model":
        usual, wanted = _providers(str(before or DEFAULT_MODEL)), _providers(str(value))
        return value if wanted and wanted <= usual else before
    if table == "model":
        return value
    if name in _LOWER:
        usual = cast("JSON", asdict(Limits())[name]) if before is None else before
        lower = usual is None or _number(value) <= _number(usual)
        return value if lower and value is not None else before
    if name == "allow_unpriced":
        return value if value is False else before
    if name == "sandbox":
        usual = str(before or "auto")
        return value if _SANDBOXES.index(str(value)) >= _SANDBOXES.index(usual) else before
    # hosts and variables: only those that the person has listed
    allowed = before if isinstance(before, list) else []
    kept = [each for each in allowed if isinstance(value, list) and each in value]
    return None if before is None else kept


def _providers(spec: str) -> set[str]:
    """The providers that would answer; none if it is not a spec, or only becomes one with a
    variable."""
    if any(names_in(spec)):
        return set()
    try:
        return {parse_spec(each, PROVIDERS).provider for each in chain(spec)}
    except ConfigError:
        return set()


def _number(value: JSON) -> float:
    return float(value) if isinstance(value, int | float | str) else inf


@record
class Composed:
    """A manifest's document combined with the settings."""

    data: Mapping[str, JSON]
    origins: Mapping[str, str]
    """Path → source of its value; defaults are not included."""


def over_preset(data: Mapping[str, JSON], settings: Settings, known: Catalogue) -> Composed:
    """Settings override a preset; a project's settings only tighten it."""
    origins = dict.fromkeys(written(data, known), "preset")
    made: dict[str, JSON] = dict(data)
    for path, said in settings.values.items():
        table, _, name = path.partition(".")
        given = fields_of(made.get(table))
        value = said.value
        if said.source is Source.PROJECT and table == "limits" and name in given:
            value = _tightened(path, value, given[name])
        if table != "run" and value != given.get(name, _ABSENT):
            made[table] = {**given, name: value}
            origins[path] = said.told
    return Composed(made, origins)


def beneath_manifest(data: Mapping[str, JSON], settings: Settings, known: Catalogue) -> Composed:
    """A manifest overrides the settings."""
    origins: dict[str, str] = {}
    made: dict[str, JSON] = dict(data)
    for table in ("model", "limits"):
        part = data.get(table, {})
        usual = settings.table(table)
        if isinstance(part, Mapping) and usual:
            made[table] = {**usual, **part}
            origins.update({f"{table}.{n}": settings.values[f"{table}.{n}"].told for n in usual})
    origins.update(dict.fromkeys(written(data, known), "manifest"))
    return Composed(made, origins)


_ABSENT: Final = object()
