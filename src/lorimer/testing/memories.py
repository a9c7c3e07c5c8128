"""A conformance kit for implementations of a memory: what each of them guarantees, one by one.

    @asynccontextmanager
    async def opened(scope):
        memory = MyMemory(url, scope=scope)
        yield memory
        await memory.close()

    @pytest.mark.parametrize("promise", PROMISES, ids=str)
    def test_my_memory(promise):
        promise.run(opened)

Without pytest: `print(check(opened))`. The requirements are defined in `lorimer.core.memory`. How a
memory decides what is relevant is its own affair: that an item is found first by a question in its
own words, among items about other things, is all that is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from lorimer.core.memory import MAX_TEXT, Memory, MemoryItem
from lorimer.testing.promises import AnyPromise, broken
from lorimer.world.real import RealWorld

Opener: TypeAlias = Callable[[str], AbstractAsyncContextManager[Memory]]
"""Opens the memory of a scope and closes it again. A name that was not used before gives an empty
memory; the kit makes one up each time. Two are open at once."""

TEA: Final = MemoryItem("tea", "Bob drinks his tea black.")
KEY: Final = MemoryItem("key", "The deployment key lies in the blue safe.")
TRAIN: Final = MemoryItem("train", "The train to Kyoto leaves at eight.")
ASKED: Final = {
    "tea": "Which tea does Bob drink?",
    "key": "Where is the deployment key?",
    "train": "When does the train to Kyoto leave?",
}
MANY: Final = 300
ALL: Final = 1_000
"""A limit above the number of items in any test."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a promise is tested with."""

    memory: Memory
    other: Memory
    """Another scope."""

    async def held(self) -> dict[str, MemoryItem]:
        """The pinned items of the memory, by id; no id may come twice."""
        return by_id(await self.memory.pinned(limit=ALL))

    async def found(self, query: str, limit: int = ALL) -> list[str]:
        """The ids that a search of the memory finds."""
        found = await self.memory.search(query, limit=limit)
        assert len(found) <= limit, f"{len(found)} items were found with the limit {limit}"
        return [*by_id(found)]

    async def answers(self) -> None:
        """Raises AssertionError unless each question finds its item first."""
        for item_id, query in ASKED.items():
            assert (await self.found(query))[:1] == [item_id], query


def by_id(items: Sequence[MemoryItem]) -> dict[str, MemoryItem]:
    """Items by id in their order. Raises AssertionError if an id comes twice."""
    told = {item.id: item for item in items}
    assert len(told) == len(items), f"an id comes twice: {[item.id for item in items]}"
    return told


@dataclass(frozen=True, slots=True)
class Promise(AnyPromise[Bench, Opener]):
    """One guarantee of every memory."""

    async def asked(self, open: Opener) -> None:
        """Ask it of two empty scopes, which are closed afterwards."""
        bob, eve = (RealWorld().new_id(name) for name in ("bob", "eve"))
        async with open(bob) as memory, open(eve) as other:
            await self.ask(Bench(memory, other))


def check(open: Opener, promises: Sequence[Promise] = ()) -> str:
    """Test all of them, or those given, and report: "" if all are kept, else a paragraph for each
    that is not. Call it from synchronous code."""
    return broken(promises or PROMISES, open)


async def items_come_back_as_they_were_put(on: Bench) -> None:
    """Everything that an item has, however it was found, up to the longest text."""
    full = MemoryItem(
        "a b/c", TEA.text, "insight", 1763924402.123456, "sess_1", 1 / 3, True, ("ops", "a, b")
    )
    odd = MemoryItem("odd", "e\u0301 \xe9 \u2028 \U0001f984 'a' \"b\" \\ % _ {0}\n\t.", pinned=True)
    long = MemoryItem("long", ("word " * MAX_TEXT)[: MAX_TEXT - 1] + ".", pinned=True)
    await on.memory.put([full, odd])
    await on.memory.put([long])
    assert await on.held() == {item.id: item for item in (full, odd, long)}
    assert by_id(await on.memory.search(ASKED["tea"], limit=ALL)).get(full.id) == full


async def what_is_relevant_is_found_first(on: Bench) -> None:
    """A question in the words of an item finds it before items about other things."""
    await on.memory.put([TEA, KEY, TRAIN])
    await on.answers()
    for item in (TEA, KEY, TRAIN):
        assert await on.memory.search(item.text, limit=1) == [item]


async def what_is_relevant_is_found_among_many(on: Bench) -> None:
    """However many items were put before and after it."""
    many = [MemoryItem(f"m{n}", f"Minutes of meeting {n}: no decision.") for n in range(MANY)]
    await on.memory.put(many[: MANY // 2])
    await on.memory.put([TEA, KEY, TRAIN])
    await on.memory.put(many[MANY // 2 :])
    await on.answers()


async def no_more_is_found_than_asked_for(on: Bench) -> None:
    """`limit` bounds a search and the pinned items, and leaves out the last of them."""
    teas = [replace(TEA, id=f"t{n}", importance=n / 10, pinned=True) for n in range(8)]
    await on.memory.put([*teas, KEY])
    for limit in (1, 3, 8):
        assert len(await on.found(ASKED["tea"], limit)) == limit
        pinned = [item.id for item in await on.memory.pinned(limit=limit)]
        assert pinned == [f"t{7 - n}" for n in range(limit)]


async def an_empty_memory_finds_nothing(on: Bench) -> None:
    """Nothing is found, pinned or removed; to put or remove no items is no error."""
    await on.memory.put([])
    assert await on.memory.remove([]) == 0
    assert await on.memory.remove(["tea"]) == 0
    assert [*await on.memory.search("tea", limit=5)] == []
    assert [*await on.memory.pinned(limit=5)] == []


async def any_text_may_be_asked_for(on: Bench) -> None:
    """Queries are what people said: empty, long, in any script, or in the syntax of a search
    engine. They find what they find; none of them is an error."""
    await on.memory.put([TEA, KEY])
    odd = ["", " ", "?!", '"', "'", "'; DROP TABLE item; --", "a AND", "NOT", "NEAR(", "tea*", "*"]
    odd += ["tea OR", "(", "a:b", "-tea", "^tea", "%", "_", "\\", "\x1b[0m", "\U0001f984", "茶"]
    for query in [*odd, "tea " * 5_000, "x" * 20_000]:
        assert {*await on.found(query)} <= {"tea", "key"}, query
    assert (await on.found(ASKED["tea"]))[:1] == ["tea"]


async def an_item_replaces_the_one_with_its_id(on: Bench) -> None:
    """Its text, and whether it is pinned: the older one is found no more. Of two in one list the
    later one counts."""
    await on.memory.put([replace(TEA, pinned=True), KEY])
    changed = MemoryItem("tea", TRAIN.text, pinned=True)
    await on.memory.put([changed])
    assert await on.memory.search(ASKED["train"], limit=1) == [changed]
    found = await on.memory.search(ASKED["tea"], limit=ALL)
    assert TEA.text not in [item.text for item in found]
    assert await on.held() == {"tea": changed}
    await on.memory.put([replace(changed, pinned=False)])
    assert await on.held() == {}
    await on.memory.put([KEY, replace(TEA, pinned=True), TRAIN, replace(TEA, importance=0.7)])
    assert await on.held() == {}
    assert await on.memory.search(ASKED["tea"], limit=1) == [replace(TEA, importance=0.7)]
    await on.answers()


async def to_put_it_again_changes_nothing(on: Bench) -> None:
    """A run that is resumed may put its items again."""
    items = [replace(item, pinned=True, time=5.0) for item in (TEA, KEY, TRAIN)]
    for _ in range(3):
        await on.memory.put(items)
        assert await on.held() == {item.id: item for item in items}
        await on.answers()
    assert await on.memory.remove(["tea"]) == 1
    assert await on.memory.remove(["tea"]) == 0


async def ids_are_told_apart(on: Bench) -> None:
    """Whatever their case, spaces and letters."""
    names = ("one", "One", "one ", "on_", "on%", "one/two", "../one", "\xe9", "e\u0301", "1", "01")
    items = [MemoryItem(name, f"About {name}", pinned=True) for name in names]
    await on.memory.put(items)
    assert await on.held() == {item.id: item for item in items}
    assert await on.memory.remove(["one"]) == 1
    assert await on.held() == {item.id: item for item in items[1:]}


async def the_most_important_pins_come_first(on: Bench) -> None:
    """Only pinned items, by their importance, whatever the order and time of their writing."""
    grades = (0.5, 1.0, 0.0, 0.75, 0.25)
    pins = [replace(TEA, id=f"p{grade}", importance=grade, pinned=True) for grade in grades]
    await on.memory.put([pins[0], replace(KEY, importance=1.0), pins[1]])
    await on.memory.put(pins[2:])
    assert [*await on.held()] == ["p1.0", "p0.75", "p0.5", "p0.25", "p0.0"]


async def what_was_removed_is_gone(on: Bench) -> None:
    """`remove` counts the items that were there, each once; neither search nor `pinned` finds them
    again, until they are put again."""
    items = [replace(item, pinned=True) for item in (TEA, KEY, TRAIN)]
    await on.memory.put(items)
    assert await on.memory.remove(["tea", "nothing", "key", "tea"]) == 2
    assert [*await on.held()] == ["train"]
    for query in ASKED.values():
        assert {*await on.found(query)} <= {"train"}
    await on.memory.put(items[:2])
    await on.answers()
    assert await on.memory.remove([item.id for item in items]) == 3


async def scopes_are_apart(on: Bench) -> None:
    """What is in one scope is neither found, nor replaced, removed or in the way in another."""
    theirs = [replace(TEA, id=f"t{n}", pinned=True, importance=1.0) for n in range(MANY)]
    await on.other.put([*theirs, replace(TEA, text="Eve drinks green tea.")])
    assert [*await on.memory.search(ASKED["tea"], limit=5)] == []
    assert [*await on.memory.pinned(limit=5)] == []
    assert await on.memory.remove(["tea", "t1"]) == 0
    await on.memory.put([replace(TEA, pinned=True, importance=0.0), KEY])
    assert (await on.found(ASKED["tea"], 1)) == ["tea"], "items of another scope took the places"
    assert [item.id for item in await on.memory.pinned(limit=1)] == ["tea"]
    assert await on.memory.remove(["tea", "key"]) == 2
    assert len(await on.other.pinned(limit=ALL)) == MANY
    left = by_id(await on.other.search("Does Eve drink green tea?", limit=ALL))
    assert left["tea"].text == "Eve drinks green tea."


async def several_runs_use_it_at_once(on: Bench) -> None:
    """Items put, searched for and removed at the same time: none is lost, none comes twice."""

    async def run(number: int) -> None:
        mine = MemoryItem(f"r{number}", f"Run {number} has ended.", pinned=True)
        shared = MemoryItem("state", f"The last was {number}.", pinned=True)
        for _ in range(3):
            await on.memory.put([mine, shared])
            assert mine.id in await on.held()
            await on.found("Which run has ended?")
        if number % 2:
            assert await on.memory.remove([mine.id]) == 1

    await asyncio.gather(*[run(number) for number in range(10)])
    assert {*await on.held()} == {"state", *[f"r{number}" for number in range(0, 10, 2)]}


async def it_works_after_a_call_was_cancelled(on: Bench) -> None:
    """A run that is out of time cancels its call, at any await of it."""
    world = RealWorld()
    await on.memory.put([KEY])
    for steps in range(6):
        for asked in _calls(on.memory):
            task = asyncio.ensure_future(asked)
            for _ in range(steps):
                await world.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    await on.memory.put([TEA, KEY, TRAIN])
    await on.answers()


def _calls(memory: Memory) -> list[Awaitable[object]]:
    return [
        memory.put([TEA, TRAIN]),
        memory.search(ASKED["key"], limit=5),
        memory.pinned(limit=5),
        memory.remove(["train"]),
    ]


async def what_it_returns_belongs_to_the_caller(on: Bench) -> None:
    """Who changes a list that was returned, or one that was given, changes nothing in the
    memory."""
    given = [replace(item, pinned=True) for item in (TEA, KEY, TRAIN)]
    await on.memory.put(given)
    expected = {item.id: item for item in given}
    given.clear()
    for returned in (await on.memory.pinned(limit=ALL), await on.memory.search("key", limit=ALL)):
        if isinstance(returned, list):
            returned.clear()
    assert await on.held() == expected
    await on.answers()


PROMISES: Final[tuple[Promise, ...]] = tuple(
    Promise(ask)
    for ask in (
        items_come_back_as_they_were_put,
        what_is_relevant_is_found_first,
        what_is_relevant_is_found_among_many,
        no_more_is_found_than_asked_for,
        an_empty_memory_finds_nothing,
        any_text_may_be_asked_for,
        an_item_replaces_the_one_with_its_id,
        to_put_it_again_changes_nothing,
        ids_are_told_apart,
        the_most_important_pins_come_first,
        what_was_removed_is_gone,
        scopes_are_apart,
        several_runs_use_it_at_once,
        it_works_after_a_call_was_cancelled,
        what_it_returns_belongs_to_the_caller,
    )
)
"""All of them. The names are stable."""
