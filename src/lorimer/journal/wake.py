"""Wakes the tasks of this process that wait for a stream to grow, or for a post to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakers:
    """Futures of the readers that wait for a stream. Used from event loops only."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[str, list[asyncio.Future[None]]] = {}
        """By stream."""

    def register(self, stream: str) -> asyncio.Future[None]:
        """A future that is done at the stream's next append. Register *before* looking, so that
        nothing falls between looking and waiting."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(stream, []).append(future)
        return future

    def forget(self, stream: str, future: asyncio.Future[None] | None) -> None:
        """The reader went away, or found what it wanted."""
        futures = self.waiting.get(stream, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self.waiting[stream]

    def wake(self, stream: str) -> None:
        """The stream grew."""
        for future in self.waiting.pop(stream, ()):
            loop = future.get_loop()
            if loop is asyncio.get_running_loop():
                _resolve(future)
                continue
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:
                continue  # that loop is closed, and with it the reader gone


class Watchers:
    """Callbacks of those who wait for posts to a stream: an entry each, no task."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[str, list[_Call]] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, stream: str, call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called on the running loop; returns what ends that."""
        entry = _Call(self._calls, stream, asyncio.get_running_loop(), call)
        self._calls.setdefault(stream, []).append(entry)
        return entry

    def tell(self, stream: str) -> None:
        """Something was posted to the stream."""
        for entry in list(self._calls.get(stream, ())):
            try:
                entry.loop.call_soon_threadsafe(entry.call)
            except RuntimeError:
                continue  # that loop is closed, and with it whoever waited


class _Call:
    """Of one who waits; called itself, it ends that. One object, because each run has one."""

    __slots__ = ("_among", "_stream", "call", "loop")

    def __init__(
        self,
        among: dict[str, list[_Call]],
        stream: str,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.call = call
        self._among = among
        self._stream = stream

    def __call__(self) -> None:
        calls = self._among.get(self._stream, [])
        if self in calls:
            calls.remove(self)
            if not calls:
                del self._among[self._stream]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
