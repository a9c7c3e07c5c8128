"""Changes of a run's manifest: as recorded in the fact `mutated`, and as requested by options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from lorimer.cli.fail import Fault
from lorimer.cli.reading import manifest_of, no_manifest
from lorimer.cli.text import one_line, short_id, visible
from lorimer.core.errors import MutationError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, dumps, objects_of
from lorimer.journal.recording import facts_of

if TYPE_CHECKING:
    from lorimer.core.catalogue import Catalogue
    from lorimer.core.journal import RunRow
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.journal.sqlite.store import SQLiteJournal


def changes_in(fact: Event) -> list[Mapping[str, JSON]]:
    """The changes that were made, as JSON."""
    return objects_of(fact.data.get("changes"))


def refused_in(fact: Event) -> list[Mapping[str, JSON]]:
    """The changes that were requested and refused, as JSON."""
    return objects_of(fact.data.get("refused"))


def told_refusal(refused: Mapping[str, JSON]) -> list[tuple[str, str]]:
    """A line about a change that was refused."""
    why = one_line(str(refused.get("why")), 200)
    return [("not changed: ", "red"), (f"{why} ({visible(str(refused.get('code')))})", "")]


def told(change: Mapping[str, JSON]) -> list[tuple[str, str]]:
    """A line about a change."""
    what = dumps({name: value for name, value in change.items() if name != "kind"})
    kind = str(change.get("kind"))
    return [("changed: ", "magenta"), (visible(kind), "bold"), (f" {one_line(what, 200)}", "")]


async def asked(
    journal: SQLiteJournal, row: RunRow, values: Sequence[str], changes: Sequence[str]
) -> list[Mapping[str, JSON]]:
    """The changes that `--set` and `--change` request of a run, checked as far as possible here.
    Raises Fault for a malformed option, MutationError for a change that does not fit."""
    from lorimer.assembly import check_manifest
    from lorimer.core import mutation
    from lorimer.environment.assigned import assigned
    from lorimer.mutable import require_unchanged
    from lorimer.stages.catalogue import catalogue

    known = catalogue()
    manifest = await _present(journal, row, known)
    made: list[Mapping[str, JSON]] = [_document(text) for text in changes]
    for text in values:
        path, mark, value = text.partition("=")
        if not mark or not path.strip():
            raise Fault(f"--set {text!r} is not PATH=VALUE", hint="Write e.g. model.temperature=0.")
        made.append(assigned(manifest, path.strip(), _value(value), known))
    after = mutation.apply(manifest, [mutation.read(each) for each in made], known)
    require_unchanged("limits", after.limits == manifest.limits)
    require_unchanged("sub-agents", after.agents == manifest.agents)
    # known to the run's host, but not here
    found = set(check_manifest(manifest.to_dict(), known))
    if problems := [each for each in check_manifest(after.to_dict(), known) if each not in found]:
        raise MutationError("; ".join(problems), problems=tuple(problems))
    return made


async def _present(journal: SQLiteJournal, row: RunRow, known: Catalogue) -> EnvironmentManifest:
    """The current manifest of a run."""
    from lorimer.core import mutation

    facts = await facts_of(journal, row)
    manifest = await manifest_of(journal, facts)
    if manifest is None:
        raise no_manifest(row.run_id, f"End the run: lorimer runs cancel {short_id(row.run_id)}")
    for fact in facts:
        if fact.type == "mutated":
            made = [mutation.read(each) for each in changes_in(fact)]
            manifest = mutation.apply(manifest, made, known)
    return manifest


def _document(text: str) -> Mapping[str, JSON]:
    try:
        found = cast("JSON", json.loads(text))
    except (ValueError, RecursionError) as error:
        raise Fault(f"--change is not JSON: {error}") from None
    if not isinstance(found, Mapping):
        raise Fault('--change has to be an object with a "kind"')
    return found


def _value(text: str) -> JSON:
    """The text parsed as JSON; if it is not JSON, the text itself."""
    try:
        return cast("JSON", json.loads(text))
    except (ValueError, RecursionError):
        return text
