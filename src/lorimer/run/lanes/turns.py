"""The scheduling of a lane: which jobs run, and which of the queued ones is next. Nothing here
waits or knows the time; `lane.py` does."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from math import inf
from typing import Final, Generic, TypeVar

J = TypeVar("J", bound="Job")

MAX_IDLE: Final = 1_000
"""Callers without any job whose last turn is remembered; beyond that, those idle longest are
dropped, and then treated like new ones."""


class Job:
    """A job with its caller, key and priority."""

    __slots__ = ("caller", "key", "priority", "serial")

    def __init__(self, caller: str, priority: int, key: str) -> None:
        self.caller = caller
        self.priority = priority
        self.key = key
        self.serial = 0
        """Its number in the queue; 0: not queued."""


class Turns(Generic[J]):
    """The jobs of a lane, in the order that `Lane` describes.

    All lists are sorted: the queued jobs of a caller by key, and for each key the callers that have
    jobs waiting. Finding the next job takes time proportional to the number of keys of waiting
    jobs.
    """

    def __init__(self, cap: int, key_caps: Mapping[str, int]) -> None:
        self.cap = cap
        self.key_caps = dict(key_caps)
        self.running = 0
        self.queued = 0
        self._serial = 0
        self._by_key: dict[str, int] = {}
        self._callers: dict[str, _Caller[J]] = {}
        self._idle: dict[str, _Caller[J]] = {}
        """Callers without any job, those idle longest first."""
        self._order: dict[str, list[_Rank[J]]] = {}

    def add(self, job: J) -> None:
        """Queue it."""
        caller = self._caller(job.caller)
        job.serial = self._next()
        self._unrank(caller)
        insort(caller.jobs.setdefault(job.key, []), (-job.priority, job.serial, job))
        self._rank(caller)
        self.queued += 1

    def drop(self, job: J) -> None:
        """Remove it from the queue, if it is there."""
        if not job.serial:
            return
        caller = self._callers[job.caller]
        jobs = caller.jobs[job.key]
        self._unrank(caller)
        del jobs[bisect_left(jobs, (-job.priority, job.serial, job))]
        job.serial = 0
        if not jobs:
            del caller.jobs[job.key]
        self._rank(caller)
        self._retire(caller)
        self.queued -= 1

    def next(self) -> J | None:
        """Remove the job that may begin now from the queue. None: there is none."""
        if self.running >= self.cap:
            return None
        first = [order[0] for key, order in self._order.items() if self._has_room(key)]
        if not first:
            return None
        caller = min(first)[-1]
        job = min([jobs[0] for key, jobs in caller.jobs.items() if self._has_room(key)])[-1]
        self.drop(job)
        return job

    def begin(self, job: J) -> None:
        """Mark it as running, whether there is room or not."""
        self.running += 1
        self._by_key[job.key] = self._by_key.get(job.key, 0) + 1
        caller = self._caller(job.caller)
        self._unrank(caller)
        caller.running += 1
        caller.turn = self._next()
        self._rank(caller)

    def end(self, job: J) -> None:
        """Mark it as ended."""
        self.running -= 1
        left = self._by_key.pop(job.key) - 1
        if left:
            self._by_key[job.key] = left
        caller = self._callers[job.caller]
        self._unrank(caller)
        caller.running -= 1
        self._rank(caller)
        self._retire(caller)

    def waiting(self) -> list[J]:
        """All queued jobs."""
        return [job for caller in self._callers.values() for job in caller.waiting()]

    def _has_room(self, key: str) -> bool:
        return self._by_key.get(key, 0) < self.key_caps.get(key, inf)

    def _rank(self, caller: _Caller[J]) -> None:
        for key in caller.jobs:
            insort(self._order.setdefault(key, []), caller.rank)

    def _unrank(self, caller: _Caller[J]) -> None:
        """To be called before anything about the caller changes."""
        for key in caller.jobs:
            order = self._order[key]
            del order[bisect_left(order, caller.rank)]
            if not order:
                del self._order[key]

    def _caller(self, name: str) -> _Caller[J]:
        caller = self._callers.get(name)
        if caller is None:
            caller = self._idle.pop(name, None) or _Caller[J](name, self._next())
            self._callers[name] = caller
        return caller

    def _retire(self, caller: _Caller[J]) -> None:
        if not caller.running and not caller.jobs:
            self._idle[caller.name] = self._callers.pop(caller.name)
            if len(self._idle) > MAX_IDLE:
                del self._idle[next(iter(self._idle))]

    def _next(self) -> int:
        self._serial += 1
        return self._serial


class _Caller(Generic[J]):
    """A caller with running or queued jobs in a lane."""

    __slots__ = ("_serial", "jobs", "name", "running", "turn")

    def __init__(self, name: str, serial: int) -> None:
        self.name = name
        self.jobs: dict[str, list[tuple[int, int, J]]] = {}
        """By key, each sorted; no list is empty."""
        self.running = 0
        self.turn = 0
        """When a job of this caller last began: an increasing number."""
        self._serial = serial

    @property
    def rank(self) -> _Rank[J]:
        """The smallest is next. No two are equal."""
        return (self.running, self.turn, self._serial, self)

    def waiting(self) -> Iterator[J]:
        for jobs in self.jobs.values():
            for _, _, job in jobs:
                yield job


_Rank = tuple[int, int, int, _Caller[J]]
