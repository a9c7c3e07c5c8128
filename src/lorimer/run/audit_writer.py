"""How records of an audit get into a store that blocks: in order, in a thread, in bounded space."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from lorimer.core.errors import StoreFailed
from lorimer.core.world import World
from lorimer.tools.threads import Threads

_BATCH: Final = 1_000
"""Records of one transaction."""


class Writer:
    """Takes records at once and writes them soon. What the store refuses goes on waiting, and is
    tried again when somebody waits for it. Used by one event loop.

    write: appends records, all or none; blocks. Raises StoreFailed.
    lost: the record that says how many were dropped.
    threads: False writes in line.
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
        self._most = max_waiting_bytes
        self._threads = Threads(1) if threads else None
        self._state = threading.Lock()
        """Held for an instant, by the loop too."""
        self._writing = threading.Lock()
        """Held while the store works, by threads only."""
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._at_work = False
        """A thread will look at what waits."""
        self._failed = False
        """Nobody tries again before somebody waits for it."""

    def put(self, record: bytes) -> bool:
        """Have it written. False: there is no room; then it is counted as lost."""
        with self._state:
            if not self._take(record):
                self._lost += 1
                return False
            if self._at_work or self._failed:
                return True
            self._at_work = True
        if self._threads is None:
            self._look()
        else:
            threading.Thread(target=self._look, name="lorimer audit", daemon=True).start()
        return True

    async def keep(self, record: bytes) -> None:
        """Write it, after all that was put before; waits for room. Raises StoreFailed when the
        store does; the record waits then, if there was room."""
        with self._state:
            taken = self._take(record)
        await self.settled()
        if not taken:
            with self._state:
                taken = self._take(record)
            if not taken:
                raise StoreFailed("the audit has no room: records come faster than it writes them")
            await self.settled()

    async def settled(self) -> None:
        """Wait until all that was put is written. Raises StoreFailed."""
        with self._state:
            self._failed = False
            if self._lost and self._take(None):
                self._lost = 0
        if self._threads is None:
            self._drain()
        else:
            await self._threads.run(self._world, self._drain)

    def _take(self, record: bytes | None) -> bool:
        """Put it at the end, after a word about those that are lost. Under the lock."""
        more = [self._lost_record(self._lost)] if self._lost else []
        if record is not None:
            more.append(record)
        size = sum(map(len, more))
        if self._bytes + size > self._most:
            return False
        self._waiting.extend(more)
        self._bytes += size
        self._lost = 0
        return True

    def _look(self) -> None:
        while True:
            try:
                self._drain()
            except StoreFailed:
                failed = True  # whoever waits for the records is told, when it is tried again
            else:
                failed = False
            with self._state:
                if failed or not self._waiting:
                    self._failed, self._at_work = failed, False
                    return

    def _drain(self) -> None:
        with self._writing:
            while True:
                with self._state:
                    batch = list(islice(self._waiting, _BATCH))
                if not batch:
                    return
                self._write(batch)
                with self._state:
                    for record in batch:
                        self._waiting.popleft()
                        self._bytes -= len(record)
