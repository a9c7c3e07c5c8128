"""How the faults of a document are reported: all at once, each as `path: reason`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lorimer.core.errors import ConfigError, nearest

NO_FIELD: Final = "there is no such field"


def problems_of(error: ValidationError, prefix: str, kind: object = None) -> list[str]:
    """Pydantic's errors for the value at `prefix`, as `path: reason`. With `kind`, the model or
    models expected there, an unknown field is reported with the nearest known one."""
    found: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        reason = item["msg"].removeprefix("Value error, ")
        if reason.startswith(f"{prefix}."):  # one of ours, which has its path already
            found.extend(reason.split("; "))
        else:
            found.append(fault(item, prefix, item["loc"], kind))
    return found


def fault(item: ErrorDetails, path: str, loc: tuple[int | str, ...], kind: object) -> str:
    """One of pydantic's errors, for the value at `loc` below `path`."""
    parts, models = _resolve(kind, loc)
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    reason = item["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    match item["type"]:
        case "model_type" | "dataclass_type":
            reason = _CLASS.sub("", reason)
            if len(models) == 1:
                reason += f". Known: {', '.join(_fields(models[0]))}"
        case "extra_forbidden" | "unexpected_keyword_argument":
            holders = _resolve(kind, loc[:-1])[1]
            reason = NO_FIELD + (
                nearest(str(loc[-1]), _fields(holders[0])) if len(holders) == 1 else ""
            )
        case "union_tag_invalid" | "union_tag_not_found" if models:
            field, known = _discriminator(models)
            path = f"{path}.{field}" if path else field
            given = cast("object", item["input"])
            said = (
                cast("Mapping[str, object]", given).get(field)
                if isinstance(given, Mapping)
                else None
            )
            reason = f"there is no {said!r}{nearest(str(said), known)}"
            if said is None:
                reason = f"is missing and required: {', '.join(known)}"
        case "value_error" if _FIELD_FIRST.match(
            reason
        ):  # from a model validator, which names the field itself
            return f"{path}.{reason}" if path else reason
        case _:
            pass
    return f"{path}: {reason}" if path else reason


_FIELD_FIRST: Final = re.compile(r"[A-Za-z_][\w.\[\]-]*: ")
"""`field: reason`."""

_CLASS: Final = re.compile(r" or (an )?instance of .+$")
"""The name of a class, which no document can contain."""

_OF_A_KEY: Final = "[key]"
"""Pydantic's word for a field name, following that name."""


def _resolve(
    kind: object, loc: Sequence[int | str]
) -> tuple[list[int | str], list[type[BaseModel]]]:
    """The path in the document for pydantic's location, and the models that may be there.
    Pydantic's location also contains the chosen variant of a union, which documents do not have in
    their paths."""
    path: list[int | str] = []
    models = _models_in(kind)
    for part in loc:
        if isinstance(part, int):
            path.append(part)
            continue
        if part == _OF_A_KEY:
            continue
        meant = [model for model in models if part in _tags(model).values()]
        if meant and len(models) > 1:
            models = meant
            continue
        path.append(part)
        models = [
            inner
            for model in models
            for name, field in model.model_fields.items()
            if part in (name, field.alias)
            for inner in _models_in(field.annotation)
        ]
    return path, models


def _tags(model: type[BaseModel]) -> dict[str, str]:
    """Its fields with only one possible value, which distinguish it from others."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            found[name] = str(get_args(field.annotation)[0])
    return found


def _discriminator(models: Sequence[type[BaseModel]]) -> tuple[str, list[str]]:
    """The field that distinguishes several models, and its possible values."""
    tags = [_tags(model) for model in models]
    field = next((name for name in tags[0] if all(name in each for each in tags)), "")
    return field, [each[field] for each in tags if field in each]


def _fields(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(kind: object) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        kind.model_rebuild()  # a field may name a class that did not exist yet
        return [kind]
    return [model for inner in get_args(kind) for model in _models_in(inner)]


def invalid(problems: Sequence[str], what: str = "The manifest") -> ConfigError:
    """One ConfigError for all problems of a document; `what` is the document."""
    count = f"{len(problems)} errors" if len(problems) > 1 else "1 error"
    return ConfigError(f"{what} has {count}: {'; '.join(problems)}", problems=tuple(problems))
