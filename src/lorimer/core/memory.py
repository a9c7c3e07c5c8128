"""The port of a memory: items to be found again in later runs. It never holds the history, which is
in the journal. Without a memory, nothing is remembered beyond the conversation.

Shipped: `lorimer.memory`. Written by stages 18 and 19, read by stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final, Protocol, runtime_checkable

from lorimer.core.jsonable import JSON
from lorimer.core.record import record

MAX_TEXT: Final = 4_000
"""Most characters of one item; the writer cuts longer ones."""
STRANGERS: Final = "strangers"
"""Tag of items from a run that had read untrusted content: a run that is shown them has read it
too."""


@record
class MemoryItem:
    """One remembered item."""

    id: str
    """Unique in its memory: an item stored under an existing id replaces the older one."""
    text: str
    kind: str = "note"
    """`exchange`, `insight`, `summary`, or a word of the host's."""
    time: float = 0.0
    """When it was stored: wall clock, seconds."""
    session_id: str = ""
    """The conversation it comes from."""
    importance: float = 0.5
    """0 to 1."""
    pinned: bool = False
    """Shown in every run, whatever it is about."""
    tags: tuple[str, ...] = ()
    """Words, each on one line."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        data: dict[str, JSON] = {
            "id": self.id,
            "text": self.text,
            "kind": self.kind,
            "time": self.time,
            "importance": self.importance,
        }
        if self.session_id:
            data["session_id"] = self.session_id
        if self.pinned:
            data["pinned"] = True
        if self.tags:
            data["tags"] = list(self.tags)
        return data

    @classmethod
    def from_json(cls, data: JSON) -> MemoryItem:
        """The reverse of `to_json`. Raises ValueError naming what is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError("an item of a memory must be an object")
        texts = [data.get(name, "") for name in ("id", "text", "kind", "session_id")]
        numbers = [data.get("time", 0.0), data.get("importance", 0.5)]
        tags = data.get("tags", ())
        if not all(isinstance(text, str) for text in texts) or isinstance(tags, str):
            raise ValueError(
                "an item's id, text, kind and session_id must be text, its tags a list"
            )
        if not all(isinstance(number, int | float) and isfinite(number) for number in numbers):
            raise ValueError("an item's time and importance must be finite numbers")
        item_id, text, kind, session_id = map(str, texts)
        time, importance = [float(n) for n in numbers if isinstance(n, int | float)]
        told = tuple(map(str, tags)) if isinstance(tags, Sequence) else ()
        pinned = data.get("pinned") is True
        return cls(item_id, text, kind, time, session_id, importance, pinned, told)


@runtime_checkable
class Memory(Protocol):
    """Stores items and finds them. One object is one scope, of any name: a user, a project, an
    agent; several runs use it at once. What one call has stored or removed, the next one sees.
    Failures are raised, as MemoryFailed where the cause is known. `lorimer.testing.memories` tests
    all of this."""

    async def put(self, items: Sequence[MemoryItem]) -> None:
        """Store items, each replacing the one with its id; of two in one list the later one counts.
        Ids are equal only if every character is. Everything comes back as it was given, numbers to
        the last digit. Repeating it changes nothing."""
        ...

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        """The items relevant to a text, most relevant first; [] if there are none."""
        ...

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        """The pinned items, the most important first."""
        ...

    async def remove(self, ids: Sequence[str]) -> int:
        """Remove items. Returns how many existed, each counted once."""
        ...
