"""How the faults of a document are told: each as `path: reason`, all at once."""

from __future__ import annotations

from typing import Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lorimer.core.errors import ConfigError, nearest

NO_FIELD: Final = "there is no such field"


def problems_of(
    error: ValidationError, prefix: str, kind: type[BaseModel] | None = None
) -> list[str]:
    """Pydantic's errors about what stands at `prefix`, as `path: reason`. With the `kind` of what
    stands there, an unknown field is told with the nearest."""
    found: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        reason = item["msg"].removeprefix("Value error, ")
        if reason.startswith(f"{prefix}."):  # our own, which has its path
            found.extend(reason.split("; "))
        else:
            found.append(fault(item, prefix, item["loc"], kind))
    return found


def fault(
    item: ErrorDetails, path: str, loc: tuple[int | str, ...], kind: type[BaseModel] | None
) -> str:
    """One of pydantic's errors, about what stands at `loc` beneath `path`."""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    reason = item["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _fields_at(kind, loc[:-1]) if kind is not None else []
        reason = NO_FIELD + nearest(str(loc[-1]), known)
    return f"{path}: {reason}" if path else reason


def _fields_at(kind: object, loc: tuple[int | str, ...]) -> list[str]:
    """The fields of what stands at `loc` in a document of this kind; [] where that is not known
    for sure."""
    models = _models_in(kind)
    for part in loc:
        if isinstance(part, int):
            continue
        tagged = [
            model
            for model in models
            if "kind" in model.model_fields
            and get_args(model.model_fields["kind"].annotation) == (part,)
        ]
        models = tagged or [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models_in(model.model_fields[part].annotation)
        ]
    if len(models) != 1:
        return []
    return [field.alias or name for name, field in models[0].model_fields.items()]


def _models_in(kind: object) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models_in(inner)]


def invalid(problems: list[str]) -> ConfigError:
    """One ConfigError for all problems of a manifest."""
    count = f"{len(problems)} errors" if len(problems) > 1 else "1 error"
    return ConfigError(
        f"The manifest has {count}: " + "; ".join(problems), problems=tuple(problems)
    )
