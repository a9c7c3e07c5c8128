"""A memory that ends with its process: for tests, and for agents that live long."""

from __future__ import annotations

from collections.abc import Sequence

from lorimer.core.memory import MemoryItem
from lorimer.core.vectors import Vectors
from lorimer.memory.given import some_ids, some_items


class InMemory:
    """Finds by the likeness of words (`core/vectors.py`)."""

    def __init__(self) -> None:
        self._items: dict[str, MemoryItem] = {}
        self._vectors = Vectors()
        self._ids: dict[int, str] = {}
        """The items' ids, by the number of their text among the vectors."""
        self._numbers: dict[str, int] = {}
        """The reverse."""

    async def put(self, items: Sequence[MemoryItem]) -> None:
        """As in the port."""
        for item in some_items(items):
            known = self._items.get(item.id)
            self._items[item.id] = item
            if known is None or known.text != item.text:
                if known is not None:
                    self._forget(known)
                number = self._numbers[item.id] = self._vectors.add(item.text)
                self._ids[number] = item.id

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        """As in the port."""
        found = self._vectors.search(query, limit)
        return [self._items[self._ids[number]] for number in found]

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        """As in the port."""
        pinned = [item for item in self._items.values() if item.pinned]
        return sorted(pinned, key=lambda item: (-item.importance, -item.time, item.id))[:limit]

    async def remove(self, ids: Sequence[str]) -> int:
        """As in the port."""
        given = dict.fromkeys(some_ids(ids))
        gone = [item for item_id in given if (item := self._items.pop(item_id, None))]
        for item in gone:
            self._forget(item)
        return len(gone)

    def _forget(self, item: MemoryItem) -> None:
        number = self._numbers.pop(item.id)
        del self._ids[number]
        self._vectors.remove(number, item.text)
