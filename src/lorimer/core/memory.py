"""The port of a memory: things to be found again in later runs. It is never history, which is the
journal's; and may be absent: then nothing is remembered beyond the conversation.

Shipped: `lorimer.memory`. What is written to it: stages 18 and 19; what is read of it: stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from lorimer.core.jsonable import JSON
from lorimer.core.record import record

MAX_TEXT: Final = 4_000
"""Characters of one item; who writes cuts longer ones."""
STRANGERS: Final = "strangers"
"""Tag of what comes from a run that had heard words of strangers: who is told it has heard them."""


@record
class MemoryItem:
    """One thing that is remembered."""

    id: str
    """Unique in its memory: what is put again under an id takes the place of what was there."""
    text: str
    kind: str = "note"
    """`exchange`, `insight`, `summary`, or a word of the host's."""
    time: float = 0.0
    """When it was learnt: wall clock, seconds."""
    session_id: str = ""
    """Of the conversation that it comes from."""
    importance: float = 0.5
    """0 to 1."""
    pinned: bool = False
    """It is shown in every run, whatever it is about."""
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
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
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("an item's time and importance must be numbers")
        item_id, text, kind, session_id = map(str, texts)
        time, importance = [float(n) for n in numbers if isinstance(n, int | float)]
        told = tuple(map(str, tags)) if isinstance(tags, Sequence) else ()
        pinned = data.get("pinned") is True
        return cls(item_id, text, kind, time, session_id, importance, pinned, told)


@runtime_checkable
class Memory(Protocol):
    """Keeps items and finds them. One object is one scope: a user, a project, an agent; several
    runs use it at once. What goes wrong is raised, as MemoryFailed where it is known."""

    async def put(self, items: Sequence[MemoryItem]) -> None:
        """Keep them, each in place of what has its id. Doing it again changes nothing."""
        ...

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        """What has to do with a text, the most relevant first; [] for nothing."""
        ...

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        """The pinned items, the most important first."""
        ...

    async def remove(self, ids: Sequence[str]) -> int:
        """Forget them. Returns how many there were."""
        ...
