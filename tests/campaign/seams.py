"""The seams of a run, counted: each call of a model, tool, person, store, clock or listener is a
numbered operation, and at one of them something can be made to happen.

Every operation is a real await, before it and after it, so that a cancellation can arrive there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, TypeVar

from anyio import CancelScope

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Balance, Damage, Journal, LedgerEntry, Post, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.world import World

T = TypeVar("T")
Hit = Callable[[str], Awaitable[None]]


STORED = tuple("append claim renew release put read snapshot find post check".split())
"""The first words of the operations of a store."""


class StoreFailed(JournalError):
    """What a store of these tests says when it was told to fail."""


class Seams:
    """The operations of one process, in the order in which they happen."""

    def __init__(
        self, strike: Hit | None = None, at: int = 0, fits: Callable[[str], bool] | None = None
    ) -> None:
        """`strike` is awaited once: at operation number `at`, or at the first from there on whose
        name `fits`."""
        self.names: list[str] = []
        self.struck = ""
        """The operation at which it happened; "": none yet."""
        self._strike = strike
        self._at = at
        self._fits = fits
        self._dead = False
        self._running = asyncio.Event()
        self._running.set()

    async def at(self, name: str) -> None:
        """An operation begins, or is over."""
        await self._alive()
        number = len(self.names)
        self.names.append(name)
        due = self._strike is not None and not self.struck and number >= self._at
        if due and (self._fits is None or self._fits(name)):
            self.struck = name
            assert self._strike is not None
            await self._strike(name)
        await asyncio.sleep(0)
        await self._alive()

    async def _alive(self) -> None:
        if self._dead:
            await forever()
        while not self._running.is_set():
            await self._running.wait()

    def die(self) -> None:
        """No operation of this process comes back any more."""
        self._dead = True

    async def paused(self, meanwhile: Coroutine[Any, Any, T]) -> T:
        """Nothing of this process goes on until `meanwhile`, which is another's, is over, cancelled
        or not."""
        self._running.clear()
        task = asyncio.get_running_loop().create_task(meanwhile, context=Context())
        cancelled: asyncio.CancelledError | None = None
        try:
            with CancelScope(shield=True):
                while not task.done():
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as error:
                        cancelled = error
        finally:
            self._running.set()
        if cancelled is not None and task.exception() is None:
            raise cancelled
        return task.result()


async def forever() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


class SeamWorld:
    """The world of one process, every sleep an operation."""

    def __init__(self, world: World, seams: Seams) -> None:
        self._world = world
        self._seams = seams

    async def sleep(self, seconds: float) -> None:
        await self._seams.at(f"sleep {seconds:g}")
        await self._world.sleep(seconds)
        await self._seams.at("slept")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


class SeamJournal:
    """A journal, every call that writes an operation before it and one after it: cancelled
    before, nothing is written; after, all of it."""

    def __init__(self, inner: Journal, seams: Seams) -> None:
        self.inner = inner
        self._seams = seams

    @property
    def durable(self) -> bool:
        return self.inner.durable

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        name = f"append {'+'.join(fact.type for fact in facts)}"
        await self._seams.at(name)
        copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in facts]
        last = await self.inner.append(stream, epoch, copies, sync=sync, ledger=ledger)
        try:
            await self._seams.at(f"{name}, done")
        except StoreFailed:
            raise  # it does not know, so it tells no number
        except asyncio.CancelledError:
            _number(facts, last)
            raise
        _number(facts, last)
        return last

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        await self._seams.at("renew")
        await self.inner.renew(stream, epoch, ttl)
        await self._seams.at("renew, done")

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        await self._seams.at("claim")
        epoch = await self.inner.claim(stream, owner, ttl)
        await self._seams.at("claim, done")
        return epoch

    async def release(self, stream: str, epoch: int) -> None:
        await self._seams.at("release")
        await self.inner.release(stream, epoch)
        await self._seams.at("release, done")

    async def put(self, digest: str, body: bytes) -> None:
        await self._seams.at("put")
        await self.inner.put(digest, body)
        await self._seams.at("put, done")

    async def put_snapshot(self, stream: str, seq: int, body: bytes) -> None:
        await self._seams.at("put snapshot")
        await self.inner.put_snapshot(stream, seq, body)
        await self._seams.at("put snapshot, done")

    async def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncIterator[Event]:
        await self._seams.at("read")
        async for fact in self.inner.read(stream, after, follow=follow):
            yield fact
        await self._seams.at("read, done")

    async def get(self, digest: str) -> bytes | None:
        return await self.inner.get(digest)

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        await self._seams.at("snapshot")
        return await self.inner.snapshot(stream)

    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        await self._seams.at("post")
        posted = await self.inner.post(stream, id, message)
        await self._seams.at("post, done")
        return posted

    def never_began(self, intent: Event) -> bool:
        return self.inner.never_began(intent)

    async def posts(self, stream: str) -> list[Post]:
        await self._seams.at("posts")
        return await self.inner.posts(stream)

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        return self.inner.watch(stream, tell)

    async def runs(self, *, limit: int = 50, unfinished: bool = False) -> list[RunRow]:
        return await self.inner.runs(limit=limit, unfinished=unfinished)

    async def check(self, stream: str) -> list[Damage]:
        await self._seams.at("check")
        return await self.inner.check(stream)

    async def find_run(self, run_id: str) -> RunRow | None:
        await self._seams.at("find run")
        return await self.inner.find_run(run_id)

    async def balance(self, account: str) -> Balance:
        return await self.inner.balance(account)

    async def used(self, purse: Purse) -> Balance:
        return await self.inner.used(purse)

    async def shares(self, name: str) -> Mapping[str, Balance]:
        return await self.inner.shares(name)

    async def close(self) -> None:
        await self.inner.close()


def _number(facts: Sequence[Event], last: int) -> None:
    for seq, fact in enumerate(reversed(facts)):
        fact.seq = last - seq
