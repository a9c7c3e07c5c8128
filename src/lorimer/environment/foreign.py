"""Foreign manifests: how they are converted, and what was not carried over."""

from __future__ import annotations

from pathlib import Path

from lorimer.assembly import check_manifest
from lorimer.core.catalogue import Catalogue
from lorimer.core.errors import ConfigError
from lorimer.core.faults import invalid
from lorimer.core.manifest import EnvironmentManifest, read_document
from lorimer.core.record import record
from lorimer.environment.geny import Note, from_geny, is_geny


@record
class Carried:
    """A manifest that was imported."""

    manifest: EnvironmentManifest
    origin: str
    """`lorimer`, or `geny-executor 3.0`."""
    notes: tuple[Note, ...] = ()
    """What was not carried over, or has another meaning here."""


def carried(path: str | Path, catalogue: Catalogue | None = None) -> Carried:
    """Read a manifest file, ours or one of geny-executor 2.0 and 3.0. Raises ConfigError listing
    every fault of the result."""
    data = read_document(path)
    origin, notes = "lorimer", list[Note]()
    if is_geny(data):
        origin = f"geny-executor {data['version']}"
        try:
            manifest, notes = from_geny(data)
        except ConfigError as error:
            raise ConfigError(
                f"{path}: {error.message}", hint=error.hint, problems=error.problems
            ) from None
        data = manifest.to_dict()
    if problems := check_manifest(data, catalogue):
        raise ConfigError(f"{path}: {invalid(problems)}", problems=tuple(problems))
    return Carried(EnvironmentManifest.from_dict(data), origin, tuple(notes))
