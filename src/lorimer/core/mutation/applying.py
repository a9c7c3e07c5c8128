"""Reads changes from JSON and writes them, applies them to a manifest, and compares manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from pydantic import TypeAdapter, ValidationError

from lorimer.core.errors import ConfigError, MutationError
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, problems_of
from lorimer.core.mutation.change import Change, Declared
from lorimer.core.mutation.kinds import AnyChange

SECTIONS: Final = ("metadata", "model", "limits", "tools", "permissions", "agents")
"""The parts of a manifest besides its stages."""


@cache
def _adapter() -> TypeAdapter[AnyChange]:
    return TypeAdapter(AnyChange)


def read(data: Mapping[str, JSON]) -> Change:
    """A change from its JSON. Raises MutationError."""
    try:
        return _adapter().validate_python(data)
    except ValidationError as error:
        raise MutationError("; ".join(problems_of(error, "", AnyChange))) from None


def plain(change: Change) -> dict[str, JSON]:
    """The JSON of a change."""
    kept: dict[str, JSON] = change.model_dump(mode="json", exclude_defaults=True)
    return {"kind": str(change.model_dump(include={"kind"})["kind"]), **kept}


def apply(
    manifest: EnvironmentManifest, changes: Sequence[Change], declared: Declared
) -> EnvironmentManifest:
    """The manifest with the changes applied in order; the given one is not modified. Raises
    MutationError for invalid changes. Whether the result can be run is up to `compile`."""
    draft = manifest.model_copy(deep=True)
    try:
        for change in changes:
            change.edit(draft, declared)
        return EnvironmentManifest.from_dict(draft.to_dict())
    except MutationError:
        raise
    except ConfigError as error:
        raise MutationError(str(error), problems=error.problems) from None


def apply_json(
    manifest: EnvironmentManifest, changes: Sequence[JSON], declared: Declared
) -> EnvironmentManifest:
    """As `apply`, for changes given as JSON; anything that is not an object is skipped."""
    read_changes = [read(each) for each in changes if isinstance(each, Mapping)]
    return apply(manifest, read_changes, declared)


def sections(manifest: EnvironmentManifest) -> dict[str, JSON]:
    """A manifest in parts: the sections by name, each stage as `stages.<name>`."""
    data = manifest.to_dict()
    parts: dict[str, JSON] = {name: data.get(name, {}) for name in SECTIONS}
    for entry in manifest.stages:
        parts[f"stages.{entry.name}"] = entry.model_dump(mode="json", exclude_defaults=True)
    return parts


def restoring(manifest: EnvironmentManifest) -> Change:
    """The change that restores this manifest."""
    data: Mapping[str, JSON] = {"kind": "restore_snapshot", "manifest": manifest.to_dict()}
    return read(data)


def difference(
    before: EnvironmentManifest, after: EnvironmentManifest
) -> dict[str, tuple[JSON, JSON]]:
    """The parts that differ: before and after. None: the part did not or does not exist."""
    old, new = sections(before), sections(after)
    names = dict.fromkeys([*old, *new])
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}
