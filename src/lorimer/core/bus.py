"""Who listens to a pipeline, and how events reach listeners without holding up the run.

Sync handlers are called inline; an exception in one is logged and never reaches the run. Each async
handler has a bounded queue and a pump task owned by the run. A handler that is too slow loses the
oldest events and receives an `events.dropped` marker, but always gets the last event. `run_stream`
slows the run down instead of losing anything; only signals sent from code that cannot wait, such as
a tool's progress, are bounded there too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias, TypeVar, overload

from lorimer.core.errors import ConfigError, close_to
from lorimer.core.events import FACT_KINDS, SIGNALS, Event
from lorimer.core.redaction import logger

Handler: TypeAlias = Callable[[Event], Awaitable[None] | None]
H = TypeVar("H", bound=Handler)

QUEUE_EVENTS: Final = 1024
"""Most undelivered events that one async handler may have."""

STREAM_EVENTS: Final = 256
"""Number of undelivered events at which a streamed run is slowed down."""

DRAIN_S: Final = 2.0
"""Seconds that async handlers get for queued events after the run has ended; then the same again
for the marker of dropped events and for the last event."""

_log = logger("lorimer.events")


class Bus:
    """The handlers of one pipeline, by exact name, `prefix.*` or `*`."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}
        self._resolved: dict[str, tuple[Handler, ...]] = {}
        self._wanted = _Wanted(self._handlers)
        self.wants: Callable[[str], bool] = self._wanted.__getitem__
        """Whether anyone listens to this type. Called some twenty times per iteration."""
        self._count = 0
        self.silent = True
        """Whether no one listens to anything."""

    @overload
    def on(self, type: str) -> Callable[[H], H]: ...
    @overload
    def on(self, type: str, handler: Handler) -> Callable[[], None]: ...

    def on(
        self, type: str, handler: Handler | None = None
    ) -> Callable[[H], H] | Callable[[], None]:
        """Listen. As a decorator returns the function; as a call returns an unsubscriber."""
        if handler is not None:
            return self._add(type, handler)

        def decorate(function: H) -> H:
            self._add(type, function)
            return function

        return decorate

    def _add(self, type: str, handler: Handler) -> Callable[[], None]:
        if not callable(handler):
            raise ConfigError(
                f"the handler of {type!r} must be a function, not {handler.__class__.__name__}"
            )
        if "*" in type.removesuffix(".*") and type != "*":
            raise ConfigError(f"{type!r} matches nothing: use a name, 'prefix.*' or '*'")
        _note_a_slip(type)
        handlers = self._handlers.setdefault(type, [])
        handlers.append(handler)
        self._changed(1)
        subscribed = True

        def unsubscribe() -> None:
            nonlocal subscribed
            if subscribed:
                subscribed = False
                handlers.remove(handler)
                self._changed(-1)

        return unsubscribe

    def _changed(self, by: int) -> None:
        self._count += by
        self.silent = not self._count
        self._resolved.clear()
        self._wanted.clear()

    def handlers(self, type: str) -> tuple[Handler, ...]:
        """The handlers of this event type. Resolved once per type."""
        found = self._resolved.get(type)
        if found is None:
            self._resolved[type] = found = _resolve(self._handlers, type)
        return found


def _note_a_slip(type: str) -> None:
    """Stages of others send events of their own, so what is only almost one of ours is no error;
    but nobody would ever be told of it."""
    ours = (*FACT_KINDS, *SIGNALS)
    known = {f"{name.partition('.')[0]}.*" for name in ours} if type.endswith("*") else {*ours}
    if type == "*" or type in known:
        return
    if close := close_to(type, sorted(known)):
        _log.warning("no event is called %r; did you mean %s?", type, " or ".join(map(repr, close)))


def _resolve(handlers: Mapping[str, list[Handler]], type: str) -> tuple[Handler, ...]:
    parts = type.split(".")
    prefixes = [".".join(parts[:end]) + ".*" for end in range(len(parts) - 1, 0, -1)]
    return tuple(
        handler
        for pattern in dict.fromkeys((type, *prefixes, "*"))
        for handler in handlers.get(pattern, ())
    )


class _Wanted(dict[str, bool]):
    """By type, whether anyone listens; filled as types are asked for."""

    def __init__(self, handlers: Mapping[str, list[Handler]]) -> None:
        super().__init__()
        self._handlers = handlers

    def __missing__(self, type: str) -> bool:
        self[type] = wanted = bool(_resolve(self._handlers, type))
        return wanted


class _Pump:
    """The queue of one async handler during one run, and the task that empties it."""

    def __init__(self, handler: Handler, first: Event, waiting: Awaitable[None]) -> None:
        """`first` has already been passed to the handler, which returned `waiting`."""
        self._handler = handler
        self._queue: deque[Event] = deque()
        self._dropped = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._hurried = False
        self.task = asyncio.get_running_loop().create_task(self._run(first, waiting))

    def put(self, event: Event) -> None:
        if len(self._queue) >= QUEUE_EVENTS:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(event)
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def hurry(self) -> None:
        """Abort the delivery in progress and drop the queue except for the last event."""
        while len(self._queue) > 1:
            self._queue.popleft()
            self._dropped += 1
        self._hurried = True
        self.task.cancel()

    async def _run(self, first: Event, waiting: Awaitable[None]) -> None:
        await self._deliver(first, waiting)
        while True:
            while self._queue:
                if self._dropped:
                    at = self._queue[0]
                    data = {"count": self._dropped}
                    self._dropped = 0
                    await self._deliver(
                        Event("events.dropped", data, at.run_id, at.iteration, at.time)
                    )
                await self._deliver(self._queue.popleft())
            if self._closing:
                return
            self._wake.clear()
            await self._wake.wait()

    async def _deliver(self, event: Event, waiting: Awaitable[None] | None = None) -> None:
        try:
            if waiting is None:
                waiting = self._handler(event)
            if inspect.isawaitable(waiting):  # any other return value is ignored
                await waiting
        except asyncio.CancelledError:
            if self._hurried:
                self._hurried = False
                self.task.uncancel()
            elif self.task.cancelling():
                raise
            else:  # raised by the handler itself
                _log.exception("a handler of %r failed", event.type)
        except Exception:  # noqa: BLE001 - a listener is never the run's problem; logged
            _log.exception("a handler of %r failed", event.type)


class Tap:
    """What `run_stream` reads from: every event of one run, in order; full = the run waits."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._abandoned = False
        self._dropped = 0

    @property
    def full(self) -> bool:
        """Whether the reader is behind."""
        return self._queue.qsize() >= STREAM_EVENTS

    def put(self, event: Event | None) -> None:
        """Add an event; None is the end."""
        if self._abandoned:
            return
        if event is not None:
            if self._queue.qsize() >= QUEUE_EVENTS and _may_be_lost(event):
                self._dropped += 1
                return
            if self._dropped:
                data, self._dropped = {"count": self._dropped}, 0
                marker = Event("events.dropped", data, event.run_id, event.iteration, event.time)
                self._queue.put_nowait(marker)
        self._queue.put_nowait(event)

    async def get(self) -> Event | None:
        """The next event; None when the run has ended."""
        event = await self._queue.get()
        if not self.full:
            self._room.set()
        return event

    async def room(self) -> None:
        """Wait until the reader has caught up."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def abandon(self) -> None:
        """The reader is gone: drop what is queued and let the run go on to its end."""
        self._abandoned = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._room.set()


def _everything(type: str) -> bool:
    return True


def _may_be_lost(event: Event) -> bool:
    return not event.is_fact and not event.type.startswith("pipeline.")


class Listeners:
    """The bus of a pipeline as one run sees it. Owned by the run; its pumps end with it."""

    __slots__ = ("_pumps", "bus", "tap", "wants")

    def __init__(self, bus: Bus, tap: Tap | None = None) -> None:
        self.bus = bus
        self._pumps: dict[int, _Pump] = {}
        """Pumps of async handlers that were called before, by the handler's identity: not every
        callable can be hashed."""
        self.tap = tap
        self.wants: Callable[[str], bool] = bus.wants if tap is None else _everything
        """Whether anyone listens to this type; if not, the event need not be built."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to close."""
        return self.tap is None and not self._pumps

    def send(self, event: Event) -> None:
        """Hand an event to every listener. Never blocks, never raises."""
        if self.tap is not None:
            self.tap.put(event)
        for handler in self.bus.handlers(event.type):
            pump = self._pumps.get(id(handler))
            if pump is not None:
                pump.put(event)
            else:
                self._call(handler, event)

    def _call(self, handler: Handler, event: Event) -> None:
        try:
            waiting = handler(event)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - as above
            _log.exception("a handler of %r failed", event.type)
            return
        # whatever returns an awaitable is async, even a plain function
        if waiting is not None and inspect.isawaitable(waiting):
            self._pumps[id(handler)] = _Pump(handler, event, waiting)

    async def close(self) -> None:
        """Let the pumps deliver what is queued, for at most `DRAIN_S`, then the last event, and end
        them. If cancelled meanwhile, they end at once."""
        pumps = list(self._pumps.values())
        self._pumps.clear()
        try:
            if pumps:
                for pump in pumps:
                    pump.close()
                late = await _late(pumps)
                for _ in range(2):  # first the marker of dropped events, then the last event
                    for pump in late:
                        pump.hurry()
                    late = await _late(late)
        finally:
            late = [pump for pump in pumps if not pump.task.done()]
            for pump in late:
                pump.task.cancel()
            if self.tap is not None:
                self.tap.put(None)
            if await _late(late):
                _log.error("a handler does not end, although it was cancelled")


async def _late(pumps: list[_Pump]) -> list[_Pump]:
    """Pumps that have not ended within `DRAIN_S`."""
    if pumps:
        await asyncio.wait([pump.task for pump in pumps], timeout=DRAIN_S)
    return [pump for pump in pumps if not pump.task.done()]
