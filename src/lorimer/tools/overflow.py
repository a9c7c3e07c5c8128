"""Output of a program that is too long to keep in memory: written to a file as it arrives.

What the model is shown of a result, and how long results are cut: `results.py`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from lorimer.core.redaction import logger
from lorimer.core.world import Isolation
from lorimer.tools.base import ToolContext
from lorimer.tools.results import spill_place

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of one program's output; the rest is dropped."""
KEPT_BYTES: Final = 1_048_576
"""Output up to this length needs no file."""

_log = logger("lorimer.tools")


class Overflow:
    """A `Sink` that starts a file once more than `kept` bytes have arrived, which then holds all
    output up to MAX_FILE_BYTES. Memory holds at most `kept` bytes and the content of one pipe.
    Secrets known to the run are removed.

    The file is next to the spilled results, named `name`; without files there is none. Belongs to
    one program at a time.
    """

    def __init__(self, context: ToolContext, name: str, *, kept: int = KEPT_BYTES) -> None:
        self.isolation: Isolation | None = None
        """Isolation of the program that writes."""
        self.total = 0
        """Bytes that have arrived."""
        self._context = context
        self._kept = kept
        self._pending = bytearray()
        self._taken = 0
        self._begun = False
        place = spill_place(context, name)
        self._place, self._path = place or (Path(), "")
        self._open = context.files is not None and place is not None
        self._writing = asyncio.Lock()
        self._redactor = None if context.run is None else context.run.redactor
        self._held = b""
        """The last bytes written, if they may be the beginning of a secret."""

    def begun(self, isolation: Isolation | None) -> None:
        """See `Sink`."""
        self.isolation = isolation

    def take(self, chunk: bytes) -> bool:
        """See `Sink`."""
        self.total += len(chunk)
        if not self._open:
            return True
        chunk = chunk[: MAX_FILE_BYTES - self._taken]
        self._taken += len(chunk)
        self._pending += chunk
        return len(self._pending) <= self._kept

    async def drain(self) -> None:
        """Write what has arrived. If the disk refuses it, the file ends there, which is logged."""
        await self._drain(last=False)

    async def _drain(self, *, last: bool) -> None:
        async with self._writing:
            data, self._pending = self._held + self._pending, bytearray()
            self._held = b""
            if not self._open or not data:
                return
            try:
                await self._context.in_thread(partial(self._write, data, last))
            except OSError:
                self._open = False
                _log.warning("output could not be kept in %s", self._path, exc_info=True)
            except asyncio.CancelledError:  # the thread continues: nothing may follow it
                self._open = False
                raise
            self._begun = True

    async def finish(self) -> str:
        """The program has ended. Returns where its output is, in words; "" if there is no file."""
        if self._begun or len(self._pending) > self._kept:
            await self._drain(last=True)
        return self.where

    @property
    def where(self) -> str:
        """Which part of the output is in which file, in words; "" if there is none."""
        if not self._begun or not self._open:
            return ""
        kept = "All of it" if self.total <= MAX_FILE_BYTES else f"Its first {MAX_FILE_BYTES:,}"
        return f"{kept} is in {self._path}: Read it with offset and limit, or Grep it."

    def _write(self, data: bytes, last: bool) -> None:
        files = self._context.files
        assert files is not None
        if self._redactor is not None:
            data = self._redactor.raw(data)
            kept = 0 if last else self._redactor.held_back_raw(data)
            if kept:
                data, self._held = data[:-kept], data[-kept:]
        if self._begun:
            files.append_bytes(self._place, data)
        else:
            files.write_bytes(self._place, data)
