"""Lanes: how many jobs run at once in one process, and which one is next.

A lane only decides when a job begins: limits are in `core/limits.py`, and a run's clock starts once
it has its slot. The order of jobs: `turns.py`. One function over many items: `fanout.py`.

There are no deadlocks. A job waits for a lane only if neither it nor any job that it is part of
(its ancestors) holds a slot of that lane, or of any lane at its level or above. So a child run
needs no slot in addition to its parent's; and as waiting only ever goes to a higher level, holders
of slots at the highest one wait for none, and release them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from types import NoneType
from typing import Final

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import (
    ConfigError,
    ExecutorErrorCode,
    LimitError,
    PipelineError,
    RunCancelled,
)
from lorimer.core.record import record
from lorimer.core.world import World
from lorimer.run.lanes.turns import Job, Turns
from lorimer.world.real import RealWorld

MAX_QUEUED: Final = 10_000
ASK_AGAIN: Final = "Ask for it again when the program is back."
_STOPS: Final = "The program shut down"
_WEIGHT: Final = 0.2
"""Weight of the newest job in the moving average of durations."""


@record
class LaneStats:
    """A lane at one moment."""

    name: str
    max_concurrent: int
    running: int
    """Occupied slots; above max_concurrent after that was lowered."""
    queued: int
    served_last_minute: int
    """Slots released in the last 60 seconds."""
    estimated_wait_s: float | None
    """Seconds that a new job would wait if all queued ones went first: the recent duration of jobs,
    times the number of jobs before it, divided by max_concurrent. None: no job has ended yet."""


class Lane:
    """Runs up to `max_concurrent` jobs at once, fairly.

        async with lane.slot(caller="ann", key="anthropic"): ...

    The next job belongs to the caller with the fewest running jobs, or among several of these to
    the one whose last turn was longest ago; of that caller's jobs it is the one with the highest
    priority, or the oldest of several. A job whose key is at its cap is skipped, and holds no slot
    meanwhile.

    per_key: how many jobs of one key (such as a provider) run at once; other keys have no cap.
    max_queued: maximum of waiting jobs; further ones are refused, `exec.limit.queue`.
    level: holders of a slot may wait for lanes of a higher level: 0 for runs, 1 for what runs use,
        such as a device. Where waiting might never end (the slot held is of another lane of the
        same or a higher level), a job begins immediately and counts, above the caps if necessary.

    Has no task and no timer of its own, and serves one event loop at a time. Raises ConfigError for
    a cap below 1, and for arguments of the wrong type.
    """

    def __init__(
        self,
        name: str,
        max_concurrent: int = 4,
        *,
        per_key: Mapping[str, int] | None = None,
        max_queued: int = MAX_QUEUED,
        level: int = 0,
        world: World | None = None,
    ) -> None:
        if not is_a(name, str):
            raise wrong("lane: its name", name, "text", 'Lane("runs", 4)')
        if not is_a(per_key, Mapping, NoneType):
            raise wrong("lane: per_key", per_key, "a mapping", '{"ollama": 1}')
        for what, number in (("max_queued", max_queued), ("level", level)):
            if not is_a(number, int):
                raise wrong(f"lane: {what}", number, "a whole number", f"{what}=1")
        caps = per_key or {}
        for what, cap in [(name, max_concurrent), *caps.items()]:
            _check(cap, what)
        self.name = name
        self.level = level
        self._turns = Turns[_Waiter](max_concurrent, caps)
        self._named: dict[str, dict[_Waiter, None]] = {}
        """Waiting jobs by id, possibly with some that have just stopped waiting; in order."""
        self._max_queued = max_queued
        self._world = world or RealWorld()
        self._closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop of the running and waiting jobs, or of the last ones."""
        self._mean_s: float | None = None
        self._minute: deque[tuple[int, int]] = deque()
        """(second, number of jobs that ended in it), over the last minute."""

    def slot(self, *, caller: str = "", priority: int = 0, key: str = "", id: str = "") -> Slot:
        """Wait for a slot and hold it: `async with`, once.

        caller: who wants it; all jobs without a name have the same caller. priority: higher first,
        among this caller's own. id: identifies it for cancelling while it waits.

        Within the slot of a job that it is part of (by `contextvars`, so also in that job's tasks
        and threads) it takes no further slot and does not wait; the slot is released when the last
        of them is done.

        Raises, on entering: RunCancelled: `exec.run.cancelled` by `cancel(id)`, `exec.run.shutdown`
        when the lane is closed; LimitError `exec.limit.queue`; PipelineError `exec.run.busy` while
        the lane serves another event loop.
        """
        return Slot(self, _Waiter(caller, priority, key, id))

    @property
    def max_concurrent(self) -> int:
        """The current cap on jobs that run at once."""
        return self._turns.cap

    def set_max_concurrent(self, cap: int, *, key: str | None = None) -> None:
        """Change the cap of the lane, or of one key, immediately. Running jobs continue; if they
        exceed the cap, no other job begins until enough have ended. Raises ConfigError below 1."""
        _check(cap, key or self.name)
        if key is None:
            self._turns.cap = cap
        else:
            self._turns.key_caps[key] = cap
        self._admit()

    def cancel(self, id: str, *, shutdown: bool = False) -> bool:
        """Refuse the queued jobs with this id: their `slot` raises RunCancelled. False: there are
        none. A job that has begun has to be cancelled by its owner. shutdown: because the program
        stops."""
        found = [waiter for waiter in self._named.get(id, ()) if waiter.serial]
        for waiter in found:
            if shutdown:
                self._refuse(waiter, _STOPS, ExecutorErrorCode.EXEC_RUN_SHUTDOWN)
            else:
                self._refuse(waiter, f"{id!r} was cancelled", ExecutorErrorCode.EXEC_RUN_CANCELLED)
        return bool(found)

    def close(self) -> None:
        """Refuse jobs from now on, including the queued ones. Running ones continue, with
        everything that is part of them."""
        self._closed = True
        for waiter in self._turns.waiting():
            self._refuse(waiter, _STOPS, ExecutorErrorCode.EXEC_RUN_SHUTDOWN)

    def __repr__(self) -> str:
        turns = self._turns
        return (
            f"<Lane {self.name!r}: {turns.running} of {turns.cap} running, {turns.queued} queued>"
        )

    def stats(self) -> LaneStats:
        """The current state of the lane."""
        self._forget_old()
        turns, wait = self._turns, self._mean_s
        if turns.running < turns.cap and not turns.queued:
            wait = 0.0
        elif wait is not None:
            wait *= (turns.queued + 1) / turns.cap
        served = sum([count for _, count in self._minute])
        return LaneStats(self.name, turns.cap, turns.running, turns.queued, served, wait)

    async def enter(self, waiter: _Waiter, held: list[Place]) -> Place:
        """Enter a slot: returns a place of its own, or that of the job that it is part of."""
        for place in held:
            if place.lane is self:
                place.members += 1
                return place
        if self._closed:
            raise RunCancelled(
                f"Lane {self.name!r} is closed: the program shuts down.",
                code=ExecutorErrorCode.EXEC_RUN_SHUTDOWN,
                hint=ASK_AGAIN,
            )
        loop = asyncio.get_running_loop()
        if self.loop is not loop and (self._turns.running or self._turns.queued):
            raise PipelineError(
                f"Lane {self.name!r} serves the jobs of another event loop.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint="Use one event loop, or a lane for each.",
            )
        self.loop = loop
        waiter.asked = self._world.monotonic()
        if any(place.lane.level >= self.level for place in held):
            return self._begin(waiter)
        return await self._wait(waiter)

    def leave(self, place: Place) -> None:
        """Leave a slot."""
        place.members -= 1
        if place.members:
            return
        now = self._world.monotonic()
        took, mean = now - place.since, self._mean_s
        self._mean_s = took if mean is None else mean + (took - mean) * _WEIGHT
        self._forget_old()
        same = self._minute and self._minute[-1][0] == int(now)
        self._minute.append((int(now), self._minute.pop()[1] + 1 if same else 1))
        self._end(place)

    async def _wait(self, waiter: _Waiter) -> Place:
        """Wait for a place. A waiter that is cancelled meanwhile holds nothing."""
        turn = waiter.turn = asyncio.get_running_loop().create_future()
        self._turns.add(waiter)
        self._admit()
        if self._turns.queued > self._max_queued and not turn.done():
            self._turns.drop(waiter)
            raise LimitError(
                f"Lane {self.name!r} is full: {self._turns.queued} jobs wait in it already.",
                code=ExecutorErrorCode.EXEC_LIMIT_QUEUE,
                hint="Try again later, or give the lane a higher max_queued or max_concurrent.",
            )
        named = self._named.setdefault(waiter.id, {})
        named[waiter] = None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._turns.drop(waiter)
            elif turn.exception() is None:  # its turn came at the same moment
                self._end(turn.result())
            raise
        finally:
            del named[waiter]
            if not named:
                self._named.pop(waiter.id, None)

    def _admit(self) -> None:
        """Start the jobs that may begin."""
        while (waiter := self._turns.next()) is not None:
            if not waiter.turn.cancelled():  # otherwise the waiter is about to notice
                waiter.turn.set_result(self._begin(waiter))

    def _begin(self, waiter: _Waiter) -> Place:
        self._turns.begin(waiter)
        return Place(self, waiter, self._world.monotonic())

    def _end(self, place: Place) -> None:
        self._turns.end(place.waiter)
        self._admit()

    def _refuse(self, waiter: _Waiter, why: str, code: ExecutorErrorCode) -> None:
        self._turns.drop(waiter)
        if not waiter.turn.cancelled():
            hint = ASK_AGAIN if code is ExecutorErrorCode.EXEC_RUN_SHUTDOWN else ""
            what = f"{why} while it waited in lane {self.name!r}."
            error = RunCancelled(what, code=code, hint=hint)
            waiter.turn.set_exception(error)

    def _forget_old(self) -> None:
        first = int(self._world.monotonic()) - 60
        while self._minute and self._minute[0][0] <= first:
            self._minute.popleft()


class Slot:
    """One job's place in a lane, as long as it is needed: see `Lane.slot`."""

    __slots__ = ("_before", "_lane", "_place", "_waiter", "waited_s")

    def __init__(self, lane: Lane, waiter: _Waiter) -> None:
        self._lane = lane
        self._waiter = waiter
        self._place: Place | None = None
        self._before: tuple[Place, ...] = ()
        self.waited_s = 0.0
        """Seconds spent waiting for it."""

    async def __aenter__(self) -> Slot:
        await self.enter()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.leave()

    async def enter(self) -> None:
        """Wait for it, for code that cannot use `async with`; raises as that does. `leave` has to
        be called afterwards, in the same task, whether this raised or not."""
        self._before = _HELD.get()
        held = [place for place in self._before if place.members]
        lane = self._lane
        if lane.loop is not asyncio.get_running_loop() and any(p.lane is lane for p in held):
            return  # in a thread of the job, which waits for that thread
        place = self._place = await lane.enter(self._waiter, held)
        if place not in held:
            held.append(place)
            self.waited_s = place.since - self._waiter.asked
        _HELD.set(tuple(held))

    def leave(self) -> None:
        """Release it; does nothing if it was not acquired."""
        place, self._place = self._place, None
        if place is not None:
            _HELD.set(self._before)
            place.lane.leave(place)


class _Waiter(Job):
    """A job that is waiting for a place."""

    __slots__ = ("asked", "id", "turn")

    def __init__(self, caller: str, priority: int, key: str, id: str) -> None:
        super().__init__(caller, priority, key)
        self.id = id
        self.asked: float
        self.turn: asyncio.Future[Place]


class Place:
    """A slot occupied by a job and everything that is part of it."""

    __slots__ = ("lane", "members", "since", "waiter")

    def __init__(self, lane: Lane, waiter: _Waiter, since: float) -> None:
        self.lane = lane
        self.waiter = waiter
        self.since = since
        self.members = 1


# A context variable, as it has to reach the tasks and threads that a job starts, through code that
# is unaware of lanes: a child that was not recognised as one would wait for its own parent.
_HELD: Final[ContextVar[tuple[Place, ...]]] = ContextVar("lorimer_lane_places", default=())


def _check(cap: int, what: str) -> None:
    if not is_a(cap, int):
        raise wrong(f"lane: the cap of {what!r}", cap, "a whole number", "4")
    if cap < 1:
        raise ConfigError(f"lane: the cap of {what!r} is {cap}; it has to be at least 1")
