"""A snapshot of an agent: its manifest, and a position in the journal."""

from __future__ import annotations

from collections.abc import Mapping

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.record import record


@record
class Snapshot:
    """What an agent was at one moment. It is small, because the conversation is in the journal."""

    manifest: EnvironmentManifest
    session_id: str = ""
    """The stream of its conversation; "": it has none yet, or does not remember."""
    seq: int = 0
    """The fact of that stream after which the next run continues."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data; `from_json` restores an equal snapshot."""
        return {
            "manifest": self.manifest.to_dict(),
            "session_id": self.session_id,
            "seq": self.seq,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Snapshot:
        """Raises ConfigError."""
        manifest, session_id, seq = data.get("manifest"), data.get("session_id"), data.get("seq")
        sound = isinstance(session_id, str) and isinstance(seq, int) and seq >= 0
        if not isinstance(manifest, Mapping) or not sound or isinstance(seq, bool):
            raise ConfigError("a snapshot has a manifest, a session_id and a seq of 0 or more")
        return cls(EnvironmentManifest.from_dict(manifest), str(session_id), int(str(seq)))
