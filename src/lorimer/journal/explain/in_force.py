"""The manifest in force at one point of a run: its stages, and which of its values are set and
which are defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict
from typing import Final

from lorimer.core import mutation
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import LOOP_FROM, LOOP_TO
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.stage import AnyStage
from lorimer.journal.explain.reason import Origin

_PARTS: Final = re.compile(r"[^.\[\]]+")


class ManifestInForce:
    """The manifest of a run at one point. Immutable; `after` applies changes to a new one."""

    def __init__(
        self, data: Mapping[str, JSON] | None, catalogue: Catalogue, start: Mapping[str, JSON]
    ) -> None:
        """`data`: the manifest, if the store has it; `start`: the data of the run's first fact. If
        the manifest cannot be read, its stages are unknown."""
        self._catalogue = catalogue
        self._start = start
        self._origins: dict[str, Origin] = {}
        self._raised: frozenset[str] = frozenset()
        self.manifest: EnvironmentManifest | None = None
        self._said: Mapping[str, JSON] | None = None
        if data is not None:
            try:
                self._take(EnvironmentManifest.from_dict(data))
            except ConfigError:  # of a later version
                self._said = data

    def _take(self, manifest: EnvironmentManifest) -> None:
        self.manifest = manifest
        self._said = manifest.to_dict()

    def after(self, changes: Sequence[Mapping[str, JSON]]) -> ManifestInForce:
        """The manifest after changes. A change that cannot be applied here, because it uses what a
        host had registered, makes its stages unknown."""
        changed = ManifestInForce(None, self._catalogue, self._start)
        changed._raised = self._raised
        if self.manifest is not None:
            try:
                changed._take(mutation.apply_json(self.manifest, changes, self._catalogue))
            except ConfigError:
                changed._said = self._said
        return changed

    def with_raised(self, names: frozenset[str]) -> ManifestInForce:
        """The manifest after a supervisor raised limits."""
        changed = copy(self)
        changed._raised = self._raised | names
        return changed

    # --- values ------------------------------------------------------------------------------

    def at(self, path: str) -> Origin:
        """The origin of the value at a path, such as `stages[16].strategies.controller`."""
        known = self._origins.get(path)
        if known is None:  # the same ones are looked up every turn
            kind = "manifest" if self.says(path) else "default"
            known = self._origins[path] = Origin(kind, path)
        return known

    def says(self, path: str) -> bool:
        """Whether the manifest sets a value there; also True if the manifest is unknown."""
        return self._said is None or _found(self._said, _PARTS.findall(path)) is not None

    def of_stage(self, name: str, below: str = "") -> Origin:
        """The origin of what is `below` a stage's entry; or the entry itself."""
        entries = () if self.manifest is None else self.manifest.stages
        order = next((each.order for each in entries if each.name == name), 0)
        where = self._catalogue.path(order or self._catalogue.order(name), name)
        path = f"{where}.{below}" if below else where
        return self.at(path)

    def limit(self, name: str) -> Origin:
        """The origin of a limit: the manifest's, unless the run was given another."""
        path = f"limits.{name}"
        if name in self._raised:
            return Origin("supervisor", path)
        return self.given_limit(path) if path in self.given_limits() else self.at(path)

    def given_limits(self) -> dict[str, JSON]:
        """The limits that the run was given instead of the manifest's, by path."""
        given = self._start.get("limits")
        if not isinstance(given, Mapping):
            return {}
        defaults: dict[str, JSON] = asdict(Limits())
        own = self.manifest.limits if self.manifest is not None else Limits()
        mine: dict[str, JSON] = asdict(own)
        return {
            f"limits.{name}": given.get(name, default)
            for name, default in defaults.items()
            if given.get(name, default) != mine[name]
        }

    def given_limit(self, path: str) -> Origin:
        """Who gave the run another limit."""
        parent = self._start.get("parent")
        child = isinstance(parent, Mapping) and "agent" in parent
        return Origin("parent" if child else "caller", path)

    def item(self, path: str, text: str) -> Origin:
        """The entry of a list of texts that is equal to this text or a prefix of it; else the
        list."""
        found = _found(self._said, _PARTS.findall(path))
        for at, each in enumerate(found if isinstance(found, list) else ()):
            if text == each or text.startswith((f"{each} ", f"{each}:")):
                return Origin("manifest", f"{path}[{at}]")
        return self.at(path)

    # --- stages ------------------------------------------------------------------------------

    def entry(self, name: str) -> StageEntry | None:
        """The entry of an active stage."""
        manifest = self.manifest
        if manifest is None or name not in manifest.stages or not manifest.stages[name].active:
            return None
        return manifest.stages[name]

    def strategy(self, stage: str, slot: str) -> list[str]:
        """The strategies in a slot or chain of a stage; [] if unknown."""
        entry, kind = self.entry(stage), self.stage(stage)
        if entry is None or kind is None or slot not in kind.slots():
            return []
        chosen = entry.strategies.get(slot, list(kind.slots()[slot].default))
        return list(chosen) if isinstance(chosen, list) else [chosen]

    def stage(self, name: str) -> AnyStage | None:
        """The implementation of an active stage; None if there is none, or it is a host's that is
        unknown here."""
        entry = self.entry(name)
        try:
            return None if entry is None else self._catalogue.stage(name, entry.implementation)
        except ConfigError:
            return None

    def path(self, entry: StageEntry) -> str:
        """The path of a stage's entry."""
        return self._catalogue.path(entry.order, entry.name)

    @property
    def inactive(self) -> list[StageEntry]:
        """The entries of inactive stages."""
        return [] if self.manifest is None else [e for e in self.manifest.stages if not e.active]

    def turn(self, count: int, *, first: bool) -> list[StageEntry]:
        """The stages of a turn with that many of them, in order; [] if unknown."""
        active = [entry for entry in self._active() if entry.order <= LOOP_TO]
        if first:
            return active if len(active) == count else []
        for unknown in (False, True):
            found = [e for e in active if e.order >= LOOP_FROM or self._recurs(e, unknown)]
            if len(found) == count:
                return found
        return []

    @property
    def surface(self) -> list[StageEntry]:
        """The stages after the last turn, in order."""
        return [entry for entry in self._active() if entry.order > LOOP_TO]

    def _active(self) -> list[StageEntry]:
        if self.manifest is None:
            return []
        order = self._catalogue.order
        active = [entry for entry in self.manifest.stages if entry.active]
        return sorted(active, key=lambda e: (e.order, order(e.name) != e.order))  # as `compile`

    def _recurs(self, entry: StageEntry, unknown: bool) -> bool:
        stage = self.stage(entry.name)
        return unknown if stage is None else stage.every_call


def _found(value: JSON, parts: Sequence[str]) -> JSON:
    """The value at a path of a document, stages by number or name. None: nothing there."""
    for part in parts:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list):
            value = _item(value, part)
        else:
            return None
    return value


def _item(items: Sequence[JSON], part: str) -> JSON:
    entries = [each for each in items if isinstance(each, Mapping) and "order" in each]
    for entry in entries:
        if part in (str(entry["order"]), entry.get("name")):
            return entry
    if entries or not part.isdecimal() or int(part) >= len(items):
        return None
    return items[int(part)]
