"""The journal for runs that need not outlive the process: facts are stored as packed objects."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from itertools import islice
from threading import RLock

from lorimer.core.events import Event
from lorimer.core.journal import Balance, Damage, LedgerEntry, Post, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.world import World
from lorimer.journal.projection import (
    MAX_POSTS,
    RUN_KINDS,
    check_append,
    ended_row,
    pick,
    post_body,
    refuse_claim,
    refuse_closed,
    refuse_end,
    refuse_epoch,
    refuse_full,
    refuse_post,
    refuse_second,
    refuse_snapshot,
    refuse_start,
    started_row,
    taken_by,
)
from lorimer.journal.purses import Purses
from lorimer.journal.wake import Wakers, Watchers
from lorimer.world.real import RealWorld


class _Stream:
    __slots__ = ("epoch", "events", "owner", "posts", "run", "snapshot", "taken", "until")

    def __init__(self) -> None:
        self.epoch = 0
        self.owner = ""
        self.until = 0.0
        self.events: list[Event] = []
        self.run = ""
        """The last run if it has no end, else ""."""
        self.snapshot: tuple[int, bytes] | None = None
        self.posts: dict[str, Post] = {}
        self.taken: set[str] | None = None
        """Ids of posts that facts have taken; None if there are none, as an empty set takes 216
        bytes per run."""

    def take(self, facts: Sequence[Event]) -> None:
        for fact in facts:
            for post_id in taken_by(fact):
                if self.posts.pop(post_id, None) is not None:
                    if self.taken is None:
                        self.taken = set()
                    self.taken.add(post_id)


class MemoryJournal:
    """A Journal in memory: readers get the very Event objects that were appended, which are packed.
    Event loops of several threads may share it."""

    def __init__(self, world: World | None = None) -> None:
        """`world` provides the time for claims; by default the real one."""
        self._world = world or RealWorld()
        self._streams: dict[str, _Stream] = {}
        self._starts: dict[str, Event] = {}
        self._places: dict[str, str] = {}
        """The stream of each run."""
        self._ends: dict[str, Event] = {}
        self._ledger: dict[str, tuple[int, int]] = {}
        """Nano-dollars reserved and spent, by account."""
        self._purses = Purses(self._ledger)
        self._documents: dict[str, bytes] = {}
        self._wakers = Wakers()
        self._watchers = Watchers()
        self._closed = False
        self._lock = RLock()
        """Held briefly by whoever changes, or iterates over, what all runs share."""
        self._longest = 0
        """Length of the longest run id: no id begins with another of that length."""

    durable = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._starts)} runs>"

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        """See Journal. About 2 us; never waits. `sync` has no meaning here."""
        moves = ledger is not None and bool(ledger.purses)
        if moves:  # other threads may move the same
            self._lock.acquire()
        try:
            state = self._streams.get(stream)
            if state is None or state.epoch != epoch:
                raise refuse_epoch(stream)
            if self._closed:
                raise refuse_closed()
            if ledger is not None or not facts:
                check_append(len(facts), ledger)
                if ledger is not None and ledger.purses:
                    self._purses.check(ledger, self._world.time())
            for fact in facts:
                if fact.type in RUN_KINDS:
                    self._project(stream, state, facts)
                    self._longest = max([self._longest, *[len(each.run_id) for each in facts]])
                    break
            if ledger is not None:
                reserved, spent = self._ledger.get(ledger.account, (0, 0))
                self._ledger[ledger.account] = (reserved + ledger.reserved, spent + ledger.spent)
                if ledger.purses:
                    self._purses.apply(ledger, self._world.time())
            events = state.events
            seq = len(events)
            for fact in facts:
                seq += 1
                fact.seq = seq
                fact.pack()
            events += facts
            if state.posts:
                state.take(facts)
            if self._wakers.waiting:
                self._wakers.wake(stream)
            return seq
        finally:
            if moves:
                self._lock.release()

    def _project(self, stream: str, state: _Stream, facts: Sequence[Event]) -> None:
        # everything is checked before anything is stored: a refused append changes nothing
        with self._lock:
            run = state.run
            begun: dict[str, Event] = {}
            ended: dict[str, Event] = {}
            for fact in facts:
                kind, run_id = fact.type, fact.run_id
                if kind == "run.start":
                    if not run_id or run_id in self._starts or run_id in begun:
                        raise refuse_start(run_id)
                    if run:
                        raise refuse_second(run)
                    begun[run_id] = fact
                    run = run_id
                elif kind == "run.end":
                    if not run or run_id != run:
                        raise refuse_end(run_id)
                    ended[run] = fact
                    run = ""
            for run_id, fact in begun.items():
                self._starts[run_id], self._places[run_id] = fact, stream
            self._ends.update(ended)
            state.run = run

    def _row(self, run_id: str) -> RunRow:
        start = self._starts[run_id]
        row = started_row(self._places[run_id], start.seq or 0, start)
        end = self._ends.get(run_id)
        return row if end is None else ended_row(row, end)

    async def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """See Journal."""
        at = max(after, 0)
        while True:
            waiter = self._wakers.register(stream) if follow else None
            try:
                state = self._streams.get(stream)
                while state is not None and at < len(state.events):
                    at += 1
                    yield state.events[at - 1]
                if waiter is None:
                    return
                await waiter
            finally:
                self._wakers.forget(stream, waiter)

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        """See Journal."""
        state = self._streams.setdefault(stream, _Stream())
        now = self._world.time()
        if state.owner != owner:
            if state.owner and state.until > now:
                raise refuse_claim(stream, state.owner, state.until, now)
            state.epoch += 1
            state.owner = owner
        state.until = now + ttl
        return state.epoch

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        """See Journal."""
        state = self._streams.get(stream)
        if state is None or state.epoch != epoch or not state.owner:
            raise refuse_epoch(stream)
        state.until = self._world.time() + ttl

    async def release(self, stream: str, epoch: int) -> None:
        """See Journal."""
        state = self._streams.get(stream)
        if state is not None and state.epoch == epoch:
            state.owner, state.until = "", 0.0

    async def holder(self, stream: str) -> tuple[str, float] | None:
        """See Journal."""
        state = self._streams.get(stream)
        return (state.owner, state.until) if state is not None and state.owner else None

    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        """See Journal."""
        body = post_body(id, message)
        if self._closed:
            raise refuse_closed()
        state = self._streams.get(stream)
        if state is None:
            raise refuse_post(stream)
        if id in state.posts or (state.taken is not None and id in state.taken):
            return False
        if len(state.posts) >= MAX_POSTS:
            raise refuse_full(stream)
        state.posts[id] = Post(id, json.loads(body), self._world.time())
        self._watchers.tell(stream)
        return True

    def never_began(self, intent: Event) -> bool:
        """See Journal: it dies with its process."""
        return False

    async def posts(self, stream: str) -> list[Post]:
        """See Journal."""
        state = self._streams.get(stream)
        return list(state.posts.values()) if state is not None else []

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        """See Journal."""
        return self._watchers.add(stream, tell)

    async def put(self, digest: str, body: bytes) -> None:
        """See Journal."""
        self._documents.setdefault(digest, body)

    async def get(self, digest: str) -> bytes | None:
        """See Journal."""
        return self._documents.get(digest)

    async def put_snapshot(self, stream: str, seq: int, body: bytes) -> None:
        """See Journal."""
        state = self._streams.get(stream)
        if state is None:
            raise refuse_snapshot(stream)
        if state.snapshot is None or state.snapshot[0] <= seq:
            state.snapshot = (seq, body)

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        """See Journal."""
        state = self._streams.get(stream)
        return state.snapshot if state is not None else None

    async def runs(
        self, *, limit: int = 50, stream: str = "", unfinished: bool = False
    ) -> list[RunRow]:
        """See Journal."""
        with self._lock:
            latest = (
                run
                for run in reversed(self._starts)
                if not (unfinished and run in self._ends)
                and (not stream or self._places[run] == stream)
            )
            return [self._row(run_id) for run_id in islice(latest, max(limit, 0))]

    async def find_run(self, run_id: str) -> RunRow | None:
        """See Journal."""
        if not run_id:
            return None
        with self._lock:
            if len(run_id) >= self._longest:  # a complete id: not searched for among thousands
                return self._row(run_id) if run_id in self._starts else None
            return pick(
                run_id, [self._row(known) for known in self._starts if known.startswith(run_id)]
            )

    async def check(self, stream: str) -> list[Damage]:
        """See Journal. Objects in memory have no rows, so nothing is ever found."""
        return []

    async def drop(self, stream: str, *, before: float) -> bool:
        """See Journal."""
        with self._lock:
            state = self._settled(stream, before)
            if state is None:
                return False
            self._purses.forget(self._runs_of(stream))
            for run_id in self._runs_of(stream):
                del self._starts[run_id], self._places[run_id], self._ends[run_id]
                self._ledger.pop(run_id, None)
            state.events, state.snapshot = [], None
            state.posts, state.taken = {}, None
            state.epoch += 1
            state.owner, state.until = "", 0.0
            return True

    async def compact(self, stream: str, *, before: float) -> int | None:
        """See Journal. Objects in memory have no rows, so nothing can be saved."""
        with self._lock:
            return 0 if self._settled(stream, before) is not None else None

    def _settled(self, stream: str, before: float) -> _Stream | None:
        """A stream without a claim, all of whose runs ended before `before`."""
        state = self._streams.get(stream)
        if state is None or (state.owner and state.until > self._world.time()):
            return None
        ends = [self._ends.get(run_id) for run_id in self._runs_of(stream)]
        if not ends or any(end is None or end.time >= before for end in ends):
            return None
        return state

    def _runs_of(self, stream: str) -> list[str]:
        return [run_id for run_id, place in self._places.items() if place == stream]

    async def sweep(self) -> int:
        """See Journal."""
        with self._lock:
            now = self._world.time()
            if any(state.owner and state.until > now for state in list(self._streams.values())):
                return 0
            self._purses.sweep(now)
            named = {str(start.data.get("manifest", "")) for start in self._starts.values()}
            named |= self._starts.keys()
            unused = [d for d in list(self._documents) if d.rpartition(":")[2] not in named]
            for digest in unused:
                del self._documents[digest]
            return len(unused)

    async def balance(self, account: str) -> Balance:
        """See Journal."""
        return Balance(*self._ledger.get(account, (0, 0)))

    async def used(self, purse: Purse) -> Balance:
        """See Journal."""
        with self._lock:
            return self._purses.used(purse, self._world.time())

    async def shares(self, name: str) -> Mapping[str, Balance]:
        """See Journal."""
        with self._lock:
            return self._purses.shares(name)

    async def close(self) -> None:
        """Refuses appends from now on; what is stored can still be read."""
        self._closed = True
