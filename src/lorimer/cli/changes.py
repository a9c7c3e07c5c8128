"""Changes of a run's manifest, as the fact `mutated` tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.cli.text import one_line, visible
from lorimer.core.errors import ConfigError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.manifest import EnvironmentManifest


def changes_in(fact: Event) -> list[Mapping[str, JSON]]:
    """What was changed, each in its JSON."""
    told = fact.data.get("changes")
    if isinstance(told, str) or not isinstance(told, Sequence):
        return []
    return [each for each in told if isinstance(each, Mapping)]


def told(change: Mapping[str, JSON]) -> list[tuple[str, str]]:
    """A line about one of them."""
    what = dumps({name: value for name, value in change.items() if name != "kind"})
    kind = str(change.get("kind"))
    return [("changed: ", "magenta"), (visible(kind), "bold"), (f" {one_line(what, 200)}", "")]


def after(
    manifest: EnvironmentManifest | None, changes: Sequence[Mapping[str, JSON]]
) -> EnvironmentManifest | None:
    """What they make of a manifest; None: that is not known here."""
    from lorimer.core import mutation
    from lorimer.stages.catalogue import catalogue

    if manifest is None:
        return None
    try:
        return mutation.apply(manifest, [mutation.read(each) for each in changes], catalogue())
    except ConfigError:  # it used what a host had registered
        return None
