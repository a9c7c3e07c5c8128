"""Saved agents in memory: for tests, and for hosts that store them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from lorimer.run.saved.agent import SavedAgent
from lorimer.tools.policy.people import Person


class MemoryAgents:
    """A `SavedStore`."""

    files: tuple[Path, ...] = ()

    def __init__(self) -> None:
        self._lock = Lock()
        self._versions: dict[tuple[str, str], list[SavedAgent]] = {}
        """Oldest first."""

    def put(self, agent: SavedAgent) -> bool:
        """See the port."""
        with self._lock:
            known = self._versions.get((agent.owner, agent.name), [])
            if len(known) != agent.version - 1:
                return False
            self._versions[agent.owner, agent.name] = [*known, agent]
            return True

    def delete(self, owner: str, name: str) -> bool:
        """See the port."""
        with self._lock:
            return self._versions.pop((owner, name), None) is not None

    def get(self, owner: str, name: str, version: int | None = None) -> SavedAgent | None:
        """See the port."""
        known = self._versions.get((owner, name), [])
        if version is None:
            return known[-1] if known else None
        return known[version - 1] if 0 < version <= len(known) else None

    def versions(self, owner: str, name: str, limit: int) -> Sequence[SavedAgent]:
        """See the port."""
        return self._versions.get((owner, name), [])[::-1][:limit]

    def visible(self, person: Person, limit: int) -> Sequence[SavedAgent]:
        """See the port."""
        with self._lock:
            present = [versions[-1] for _, versions in sorted(self._versions.items())]
        return [each for each in present if each.is_for(person)][:limit]

    def close(self) -> None:
        """Nothing is open."""
