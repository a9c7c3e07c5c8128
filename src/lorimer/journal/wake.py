"""Wakes the tasks of this process that wait for a stream to grow, or for a post to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock


class Wakers:
    """Futures of the readers that wait for a stream. Used from event loops only, of any thread."""

    __slots__ = ("_lock", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, list[asyncio.Future[None]]] = {}
        """The futures of each stream's readers."""
        self._lock = Lock()

    def register(self, stream: str) -> asyncio.Future[None]:
        """A future that is done at the stream's next append. Register *before* looking, so that
        nothing falls between looking and waiting."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self.waiting.setdefault(stream, []).append(future)
        return future

    def forget(self, stream: str, future: asyncio.Future[None] | None) -> None:
        """The reader no longer waits."""
        with self._lock:
            futures = self.waiting.get(stream, [])
            if future in futures:
                futures.remove(future)
                if not futures:
                    del self.waiting[stream]

    def wake(self, stream: str) -> None:
        """Wake the readers of a stream that has grown."""
        if not self.waiting:  # whoever registers later looks at the stream afterwards
            return
        with self._lock:
            futures = self.waiting.pop(stream, ())
        for future in futures:
            loop = future.get_loop()
            if loop is asyncio.get_running_loop():
                _resolve(future)
                continue
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:
                continue  # that loop is closed, and with it the reader gone


class Watchers:
    """Callbacks for posts to a stream: one entry per watcher, no task. Used from event loops of any
    thread."""

    __slots__ = ("_calls", "_lock")

    def __init__(self) -> None:
        self._calls: dict[str, list[_Call]] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, stream: str, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` on the running loop at each post. Returns a function that ends that."""
        entry = _Call(self, stream, asyncio.get_running_loop(), call)
        with self._lock:
            self._calls.setdefault(stream, []).append(entry)
        return entry

    def drop(self, entry: _Call, stream: str) -> None:
        """Remove a callback."""
        with self._lock:
            calls = self._calls.get(stream, [])
            if entry in calls:
                calls.remove(entry)
                if not calls:
                    del self._calls[stream]

    def tell(self, stream: str) -> None:
        """Call the callbacks of a stream: something was posted to it."""
        for entry in list(self._calls.get(stream, ())):
            try:
                entry.loop.call_soon_threadsafe(entry.call)
            except RuntimeError:
                continue  # that loop is closed, with everybody who waited


class _Call:
    """A registered callback; calling this object removes it. One object for both, because each run
    has one."""

    __slots__ = ("_among", "_stream", "call", "loop")

    def __init__(
        self,
        among: Watchers,
        stream: str,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.call = call
        self._among = among
        self._stream = stream

    def __call__(self) -> None:
        self._among.drop(self, self._stream)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
