"""Writes audit records to a store that blocks: in order, in a thread, with bounded memory."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Final

from lorimer.core.errors import StoreFailed
from lorimer.core.world import World

IDLE_S: Final = 2.0
"""Seconds without work after which the thread ends."""
_BATCH: Final = 1_000
"""Records per transaction."""


class Writer:
    """Accepts records immediately and writes them soon. Records that the store refuses stay
    pending, and are retried when somebody waits for them. Can be used by event loops of any number
    of threads; a single thread, started when there is work, writes.

    write: appends records, all or none; blocks. Raises StoreFailed.
    lost: creates the record of how many were dropped.
    threads: False writes inline.
    """

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], None],
        lost: Callable[[int], bytes],
        *,
        world: World,
        threads: bool,
        max_waiting_bytes: int,
    ) -> None:
        self._write = write
        self._lost_record = lost
        self._world = world
        self._threads = threads
        self._most = max_waiting_bytes
        # used by the loops
        self._taking = threading.Lock()
        """Held briefly, to put records in order."""
        self._lost = 0
        self._put_bytes = 0
        # used by the thread
        self._pending: deque[bytes] = deque()
        self._failed = False
        """No retry until somebody waits."""
        self._done_bytes = 0
        # between them
        self._queue: SimpleQueue[bytes | asyncio.Future[None]] = SimpleQueue()
        self._lock = threading.Lock()
        """Held briefly, to start and end a thread."""
        self._server: threading.Thread | None = None

    def put(self, record: bytes) -> bool:
        """Queue it for writing. False: there is no room; it is then counted as lost."""
        if not self._take(record, or_lost=1):
            return False
        self._begin()
        return True

    async def keep(self, record: bytes) -> None:
        """Write it, after everything queued before; waits for room. Raises StoreFailed when the
        store does; the record then stays pending, if there was room."""
        taken = self._take(record)
        await self.flushed()
        if not taken:
            if not self._take(record):
                raise StoreFailed("the audit has no room: records come faster than it writes them")
            await self.flushed()

    async def flushed(self) -> None:
        """Wait until everything queued is written. Raises StoreFailed."""
        if self._lost:
            self._take(None)
        written = asyncio.get_running_loop().create_future()
        self._queue.put(written)
        self._begin()
        with self._world.outside("audit"):
            await written

    def _take(self, record: bytes | None, *, or_lost: int = 0) -> bool:
        """Append it to the queue, after a record of those that were lost. False: there is no room,
        and `or_lost` more are lost."""
        with self._taking:
            more = [self._lost_record(self._lost)] if self._lost else []
            if record is not None:
                more.append(record)
            size = sum(map(len, more))
            if self._put_bytes - self._done_bytes + size > self._most:
                self._lost += or_lost
                return False
            self._put_bytes += size
            self._lost = 0
            for each in more:
                self._queue.put(each)
            return True

    def _begin(self) -> None:
        if not self._threads:
            self._work(self._queue.get())
            return
        with self._lock:
            # a forked process has the object, but not the thread
            if self._server is None or not self._server.is_alive():
                server = threading.Thread(target=self._serve, name="lorimer audit", daemon=True)
                server.start()
                self._server = server

    # --- the thread --------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if not self._queue.empty():
                        continue
                    self._server = None
                    return
            self._work(first)

    def _work(self, first: bytes | asyncio.Future[None]) -> None:
        """Write what is pending, and wake those who wait for it."""
        items = [first]
        while len(items) < _BATCH and not self._queue.empty():  # there is no other consumer
            items.append(self._queue.get())
        self._pending += [item for item in items if isinstance(item, bytes)]
        waiting = [item for item in items if not isinstance(item, bytes)]
        error = None if self._failed and not waiting else self._drained()
        if waiting:
            _tell(waiting, error)

    def _drained(self) -> Exception | None:
        self._failed = True
        while self._pending:
            batch = list(islice(self._pending, _BATCH))
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                return error
            for record in batch:
                self._pending.popleft()
                self._done_bytes += len(record)
        self._failed = False
        return None


def _tell(waiting: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for loop in {each.get_loop() for each in waiting}:
        theirs = [each for each in waiting if each.get_loop() is loop]
        try:
            loop.call_soon_threadsafe(_settle, theirs, error)
        except RuntimeError:
            continue  # the loop is closed: nobody is waiting any more


def _settle(waiting: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for each in waiting:
        if each.done():
            continue
        if error is None:
            each.set_result(None)
        else:
            each.set_exception(error)
