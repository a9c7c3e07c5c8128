"""Changes of a run's manifest, as the fact `mutated` tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.cli.text import one_line, visible
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, dumps


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
