"""Apply one function to many items concurrently, within caps, with one outcome each.

Not for jobs of many callers: those wait in a lane (`lanes/lane.py`). The caps of a `fan_out` are
its own, so that calls can be nested, and made inside a lane's slot, without any risk of deadlock.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from heapq import heappop, heappush
from math import inf
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from anyio import CancelScope

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.record import record
from lorimer.core.redaction import logger

T = TypeVar("T")
R = TypeVar("R")

Ending: TypeAlias = Literal["ok", "error", "cancelled", "not_run"]

_log: Final = logger("lorimer.run")


@record
class Outcome(Generic[R]):
    """The outcome of one item."""

    index: int
    """Index of the item, from 0."""
    status: Ending
    """cancelled: while it ran, by a cancellation of the whole batch or by itself. not_run: never
    started."""
    value: R | None = None
    """What the function returned, if the status is `ok`."""
    error: Exception | None = None
    """What it raised, if the status is `error`."""


async def fan_out(
    items: Iterable[T],
    fn: Callable[[T], Awaitable[R]],
    *,
    max_concurrent: int = 4,
    key: Callable[[T], str] | None = None,
    per_key: Mapping[str, int] | None = None,
    on_outcome: Callable[[Outcome[R]], None] | None = None,
) -> list[Outcome[R]]:
    """Call `fn` with each item, up to `max_concurrent` at once, each in a task of its own; returns
    one outcome per item, in the order of the items.

    The next item to start is the first that may: one whose key (`key(item)`, such as a provider) is
    at its cap in `per_key` is skipped and occupies no slot meanwhile. Keys that are not in
    `per_key` have no cap.

    An Exception of one item is its outcome and does not affect others. Timeouts are up to `fn`.

    on_outcome: called exactly once for every item, as soon as it is over; for progress, and for
        callers that may be cancelled and want to know what was done. Its exceptions are logged.

    When the caller is cancelled, running items are cancelled and awaited, then `on_outcome` is
    called for them and for those that never started (`not_run`), and CancelledError is raised. The
    same happens when an item raises something that is not an Exception.

    Raises ConfigError for a cap below 1, for `per_key` without `key`, and for an `fn` that is not a
    function; nothing is started then, nor when `key` raises. If the first calls show that `fn` is
    not an async function, it stops there and raises ConfigError.
    """
    return await _Batch(items, fn, max_concurrent, key, per_key or {}, on_outcome).run()


class _NotAsync(Exception):
    """`fn` returned nothing awaitable: not the fault of an item, so it ends the batch."""

    def __init__(self, gave: object) -> None:
        super().__init__()
        self.gave = gave


def _refused(fn: Callable[..., object], gave: object) -> ConfigError:
    name = getattr(fn, "__name__", type(fn).__name__)
    return ConfigError(
        f"fan_out: {name} is not an async function: it returned {type(gave).__name__}",
        hint=f"async def {name}(item): ...; what blocks: await asyncio.to_thread(...) in it.",
    )


class _Batch(Generic[T, R]):
    def __init__(
        self,
        items: Iterable[T],
        fn: Callable[[T], Awaitable[R]],
        cap: int,
        key: Callable[[T], str] | None,
        key_caps: Mapping[str, int],
        on_outcome: Callable[[Outcome[R]], None] | None,
    ) -> None:
        for name, most in {"max_concurrent": cap, **key_caps}.items():
            if not is_a(most, int):
                raise wrong(f"fan_out: the cap of {name!r}", most, "a whole number", "4")
        low = [name for name, most in {"max_concurrent": cap, **key_caps}.items() if most < 1]
        if low:
            raise ConfigError(f"fan_out: the cap of {low[0]!r} has to be at least 1")
        if key_caps and key is None:
            raise ConfigError("fan_out: per_key needs key, the function that returns an item's key")
        if not callable(fn):
            raise wrong("fan_out: fn", fn, "an async function", "async def fn(item): ...")
        self._items = list(items)
        self._fn = fn
        self._cap = cap
        self._key_caps = key_caps
        self._on_outcome = on_outcome
        self._outcomes: list[Outcome[R] | None] = [None] * len(self._items)
        self._waiting: dict[str, deque[int]] = {}
        """By key, in order; no queue is empty."""
        for index, item in enumerate(self._items):
            self._waiting.setdefault("" if key is None else key(item), deque()).append(index)
        self._ready = [(queue[0], name) for name, queue in self._waiting.items()]
        """A heap: the first item of each key that has items and is below its cap."""
        self._running: dict[asyncio.Task[R], tuple[int, str]] = {}
        self._by_key: dict[str, int] = {}
        self._fatal: BaseException | None = None
        """What an item raised that is not an Exception; or `_NotAsync`."""

    async def run(self) -> list[Outcome[R]]:
        try:
            while self._fatal is None:
                self._begin()
                if not self._running:
                    break
                done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                self._collect(done)
        finally:
            if self._running:
                await self._stop()
            for index in sorted([index for queue in self._waiting.values() for index in queue]):
                self._tell(Outcome(index, "not_run"))
        if self._fatal is not None:
            raise self._fatal
        return [outcome for outcome in self._outcomes if outcome is not None]

    def _begin(self) -> None:
        """Start the items that may run."""
        while len(self._running) < self._cap and self._ready:
            index, key = heappop(self._ready)
            self._waiting[key].popleft()
            self._by_key[key] = self._by_key.get(key, 0) + 1
            if not self._waiting[key]:
                del self._waiting[key]
            elif self._room(key):
                heappush(self._ready, (self._waiting[key][0], key))
            task = asyncio.create_task(self._one(self._items[index]))
            self._running[task] = (index, key)

    def _room(self, key: str) -> bool:
        return self._by_key.get(key, 0) < self._key_caps.get(key, inf)

    def _give_back(self, key: str) -> None:
        """An item with that key has ended."""
        if key in self._waiting and not self._room(key):
            heappush(self._ready, (self._waiting[key][0], key))
        self._by_key[key] -= 1

    async def _one(self, item: T) -> R:
        made = self._fn(item)  # here, so that exceptions of `fn` itself count as the item's too
        if not inspect.isawaitable(made):
            raise _NotAsync(made)
        return await made

    def _collect(self, done: Iterable[asyncio.Task[R]]) -> None:
        """Record the outcomes of finished tasks."""
        for task in sorted(done, key=self._running.__getitem__):
            index, key = self._running.pop(task)
            self._give_back(key)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, _NotAsync):
                error = self._fatal = self._fatal or _refused(self._fn, error.gave)
            if isinstance(error, Exception):
                self._tell(Outcome(index, "error", error=error))
            elif task.cancelled() or error is not None:
                self._fatal = self._fatal or error
                self._tell(Outcome(index, "cancelled"))
            else:
                self._tell(Outcome(index, "ok", task.result()))

    async def _stop(self) -> None:
        """Cancel running tasks, and wait until they have ended."""
        with CancelScope(shield=True):
            for task in self._running:
                task.cancel()
            while any(not task.done() for task in self._running):
                try:
                    await asyncio.wait(self._running)
                except asyncio.CancelledError:  # again: pass it on to them
                    for task in self._running:
                        task.cancel()
        self._collect(list(self._running))

    def _tell(self, outcome: Outcome[R]) -> None:
        self._outcomes[outcome.index] = outcome
        try:
            if self._on_outcome is not None:
                self._on_outcome(outcome)
        except Exception:  # noqa: BLE001 - a listener is never the batch's problem; logged
            _log.exception("on_outcome of a fan_out failed")
