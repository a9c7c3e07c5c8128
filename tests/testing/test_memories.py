"""The kit for whoever writes a memory: ours keep its promises, and what is broken is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorimer.memory import InMemory, Memory, MemoryItem, SQLiteMemory
from lorimer.testing.memories import PROMISES, Opener, Promise, check


def opener(make: Callable[[str], Memory]) -> Opener:
    @asynccontextmanager
    async def opened(scope: str) -> AsyncGenerator[Memory]:
        memory = make(scope)
        yield memory
        if isinstance(memory, SQLiteMemory):
            await memory.close()

    return opened


@pytest.mark.parametrize("kind", ["in memory", "sqlite", "sqlite inline"])
@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_ours_keep_each_promise(promise: Promise, kind: str, tmp_path: Path) -> None:
    def make(scope: str) -> Memory:
        if kind == "in memory":
            return InMemory()
        return SQLiteMemory(tmp_path / "m.db", scope=scope, threads=kind == "sqlite")

    promise.run(opener(make))


class Plain:
    """A memory as somebody would write it: a dict, and words in common. Its faults are below."""

    def __init__(self, scope: str, shelf: dict[tuple[str, str], MemoryItem]) -> None:
        self.scope = scope
        self.shelf = shelf

    def mine(self) -> list[MemoryItem]:
        return [item for (scope, _), item in self.shelf.items() if scope == self.scope]

    def words(self, text: str) -> set[str]:
        return {word.strip("?.,").rstrip("s") for word in text.lower().split()}

    async def put(self, items: Sequence[MemoryItem]) -> None:
        for item in items:
            self.shelf[self.scope, item.id] = item

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        return self.ranked(query, self.mine())[:limit]

    def ranked(self, query: str, items: Sequence[MemoryItem]) -> list[MemoryItem]:
        asked = self.words(query)
        scored = [(len(asked & self.words(item.text)), item) for item in items]
        scored.sort(key=lambda each: -each[0])
        return [item for score, item in scored if score]

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        pins = [item for item in self.mine() if item.pinned]
        return sorted(pins, key=lambda item: -item.importance)[:limit]

    async def remove(self, ids: Sequence[str]) -> int:
        return sum(self.shelf.pop((self.scope, each), None) is not None for each in ids)


class _ForgetsSessions(Plain):
    async def put(self, items: Sequence[MemoryItem]) -> None:
        await super().put([replace(item, session_id="") for item in items])


class _RoundsTimes(Plain):
    async def put(self, items: Sequence[MemoryItem]) -> None:
        await super().put([replace(item, time=float(round(item.time))) for item in items])


class _CutsTexts(Plain):
    async def put(self, items: Sequence[MemoryItem]) -> None:
        await super().put([replace(item, text=item.text[:255]) for item in items])


class _WantsTheWholeQuery(Plain):
    """As `LIKE '%query%'`."""

    def ranked(self, query: str, items: Sequence[MemoryItem]) -> list[MemoryItem]:
        return [item for item in items if query.lower() in item.text.lower()]


class _LooksAtTheNewest(Plain):
    def ranked(self, query: str, items: Sequence[MemoryItem]) -> list[MemoryItem]:
        return super().ranked(query, items[-100:])


class _RanksBackwards(Plain):
    def ranked(self, query: str, items: Sequence[MemoryItem]) -> list[MemoryItem]:
        return super().ranked(query, items)[::-1]


class _IgnoresTheLimit(Plain):
    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        return self.ranked(query, self.mine())


class _LimitsBeforeItSorts(Plain):
    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        pins = [item for item in self.mine() if item.pinned][:limit]
        return sorted(pins, key=lambda item: -item.importance)


class _FailsForNothing(Plain):
    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        if not self.mine():
            raise LookupError("the index is empty")
        return await super().search(query, limit=limit)


class _ReadsQueriesAsSyntax(Plain):
    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        if query.count('"') % 2 or query.startswith("*"):
            raise ValueError("fts5: syntax error")
        return await super().search(query, limit=limit)


class _KeepsTheOlder(Plain):
    async def put(self, items: Sequence[MemoryItem]) -> None:
        for item in items:
            self.shelf.setdefault((self.scope, item.id), item)


class _IndexesOnce(Plain):
    """A changed item is found by its first text."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.indexed: dict[str, MemoryItem] = {}

    async def put(self, items: Sequence[MemoryItem]) -> None:
        await super().put(items)
        for item in items:
            self.indexed.setdefault(item.id, item)

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        found = self.ranked(query, [*self.indexed.values()])[:limit]
        now = {item.id: item for item in self.mine()}
        return [now[item.id] for item in found if item.id in now]


class _Appends(Plain):
    """A row for each put."""

    async def put(self, items: Sequence[MemoryItem]) -> None:
        for item in items:
            self.shelf[self.scope, f"{len(self.shelf)}"] = item

    async def remove(self, ids: Sequence[str]) -> int:
        gone = [key for key, item in self.shelf.items() if item.id in ids]
        return len([self.shelf.pop(key) for key in gone])


class _IgnoresCase(Plain):
    async def put(self, items: Sequence[MemoryItem]) -> None:
        for item in items:
            self.shelf[self.scope, item.id.lower().strip()] = item


class _SortsByTime(Plain):
    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        return [item for item in self.mine() if item.pinned][:limit]


class _CountsWhatWasAsked(Plain):
    async def remove(self, ids: Sequence[str]) -> int:
        await super().remove(ids)
        return len(ids)


class _HidesInsteadOfRemoving(Plain):
    """Its pins are gone, its texts are still found."""

    async def remove(self, ids: Sequence[str]) -> int:
        there = [item for item in self.mine() if item.id in ids]
        await self.put([replace(item, pinned=False) for item in there])
        return len(there)


class _SearchesAllScopes(Plain):
    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        return self.ranked(query, [*self.shelf.values()])[:limit]


class _FiltersScopesLast(Plain):
    """As an index of vectors that is asked for its nearest, of which those of others are left
    out."""

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        mine = self.mine()
        return [item for item in self.ranked(query, [*self.shelf.values()])[:limit] if item in mine]


class _ReadsThenWrites(Plain):
    """What others put meanwhile is lost."""

    async def put(self, items: Sequence[MemoryItem]) -> None:
        before = dict(self.shelf)
        await asyncio.sleep(0)
        self.shelf.clear()
        self.shelf.update(before | {(self.scope, item.id): item for item in items})


class _KeepsItsLock(Plain):
    """Who is cancelled while it holds the lock takes it along."""

    locked = False

    async def search(self, query: str, *, limit: int) -> Sequence[MemoryItem]:
        if self.locked:
            raise TimeoutError("no connection is free")
        self.locked = True
        await asyncio.sleep(0)
        self.locked = False
        return await super().search(query, limit=limit)


class _HandsOutItsOwnList(Plain):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.pins: list[MemoryItem] = []

    async def put(self, items: Sequence[MemoryItem]) -> None:
        await super().put(items)
        self.pins = [*await super().pinned(limit=10_000)]

    async def pinned(self, *, limit: int) -> Sequence[MemoryItem]:
        return self.pins if len(self.pins) <= limit else self.pins[:limit]


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_ForgetsSessions, "items_come_back_as_they_were_put"),
        (_RoundsTimes, "items_come_back_as_they_were_put"),
        (_CutsTexts, "items_come_back_as_they_were_put"),
        (_WantsTheWholeQuery, "what_is_relevant_is_found_first"),
        (_RanksBackwards, "what_is_relevant_is_found_first"),
        (_LooksAtTheNewest, "what_is_relevant_is_found_among_many"),
        (_IgnoresTheLimit, "no_more_is_found_than_asked_for"),
        (_LimitsBeforeItSorts, "no_more_is_found_than_asked_for"),
        (_FailsForNothing, "an_empty_memory_finds_nothing"),
        (_ReadsQueriesAsSyntax, "any_text_may_be_asked_for"),
        (_KeepsTheOlder, "an_item_replaces_the_one_with_its_id"),
        (_IndexesOnce, "an_item_replaces_the_one_with_its_id"),
        (_Appends, "to_put_it_again_changes_nothing"),
        (_IgnoresCase, "ids_are_told_apart"),
        (_SortsByTime, "the_most_important_pins_come_first"),
        (_CountsWhatWasAsked, "what_was_removed_is_gone"),
        (_HidesInsteadOfRemoving, "what_was_removed_is_gone"),
        (_SearchesAllScopes, "scopes_are_apart"),
        (_FiltersScopesLast, "scopes_are_apart"),
        (_ReadsThenWrites, "several_runs_use_it_at_once"),
        (_KeepsItsLock, "it_works_after_a_call_was_cancelled"),
        (_HandsOutItsOwnList, "what_it_returns_belongs_to_the_caller"),
    ],
)
def test_what_is_broken_is_found(broken: type[Plain], promise: str) -> None:
    shelf: dict[tuple[str, str], MemoryItem] = {}
    report = check(opener(lambda scope: broken(scope, shelf)))
    assert f"{promise}: " in report, report


def test_a_plain_memory_passes() -> None:
    shelf: dict[tuple[str, str], MemoryItem] = {}
    assert check(opener(lambda scope: Plain(scope, shelf))) == ""
