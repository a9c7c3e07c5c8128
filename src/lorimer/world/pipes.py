"""The pipes between us and a program: its input and its output."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Final

from lorimer.core.world import ProcessLimits, Sink
from lorimer.world.bounded import BoundedOutput
from lorimer.world.sandbox.rlimits import READY
from lorimer.world.sandbox.start import GO

_CHUNK: Final = 65_536
_LAST_READ_BYTES: Final = 1_048_576
"""Default capacity of a pipe; reading more could go on forever with an endless writer."""
_SETTLE_S: Final = 0.5
"""How long a sink may still be busy after the program has ended."""


class Pump:
    """The output pipe; our end is read whenever there is data, unless the sink is saturated."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, output: BoundedOutput, sink: Sink | None = None
    ) -> None:
        self._loop = loop
        self._output = output
        self._sink = sink
        self._draining: asyncio.Task[None] | None = None
        self._open = True
        self.ended: asyncio.Future[None] = loop.create_future()
        self._fd, self.their_end = os.pipe()
        os.set_blocking(self._fd, False)
        loop.add_reader(self._fd, self._read)

    def _read(self) -> int:
        """Read one chunk; returns the number of bytes. Detects the end of the stream."""
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return 0
        if chunk:
            self.take(chunk)
        elif not self.ended.done():
            self._loop.remove_reader(self._fd)
            self.ended.set_result(None)
        return len(chunk)

    def take(self, chunk: bytes) -> None:
        """Process a piece of the output."""
        self._output.write(chunk)
        if self._sink is not None and not self._sink.take(chunk) and self._open:
            self._pause(self._sink)

    def _pause(self, sink: Sink) -> None:
        self._loop.remove_reader(self._fd)
        self._draining = self._loop.create_task(sink.drain())
        self._draining.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        self._draining = None
        if self._open and not self.ended.done():
            self._loop.add_reader(self._fd, self._read)

    async def settle(self) -> None:
        """The program has ended: wait briefly for the sink."""
        if self._draining is not None:
            await asyncio.wait((self._draining,), timeout=_SETTLE_S)

    def close_their_end(self) -> None:
        """Called once the program has it."""
        os.close(self.their_end)

    def close(self) -> None:
        """Read what is left in the pipe without waiting, then close it."""
        self._open = False
        if self._draining is not None:
            self._draining.cancel()
        self._loop.remove_reader(self._fd)
        left = _LAST_READ_BYTES
        while left > 0 and not self.ended.done() and (size := self._read()):
            left -= size
        os.close(self._fd)


class Threshold:
    """A program waits here until it is enclosed (`sandbox/bubblewrap.py`): it continues only if
    this process is still alive by then. The enclosing program writes its errors here too."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, door: socket.socket, complaints: Pump
    ) -> None:
        self._loop = loop
        self._door = door
        self._complaints = complaints
        self._crossed = False
        door.setblocking(False)
        loop.add_reader(door, self._read)

    def _read(self) -> None:
        try:
            said = self._door.recv(_CHUNK)
        except (BlockingIOError, ConnectionError):
            said = b""
        if not said:
            self._loop.remove_reader(self._door)
        if not self._crossed and said.endswith(READY):
            said = said.removesuffix(READY)
            self._crossed = True
            with suppress(OSError):  # it has ended already
                self._door.send(GO)
        if said:
            self._complaints.take(said)

    def close(self) -> None:
        """The program has ended."""
        self._read()
        self._loop.remove_reader(self._door)
        self._door.close()


class Feeder:
    """The input pipe; writes as fast as the program reads, and gives up when it does not want
    more."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: bytes | AsyncIterator[bytes]
    ) -> None:
        self._loop = loop
        self._open = True
        self._rest = memoryview(b"")
        self._asking: asyncio.Task[None] | None = None
        self._source = None if isinstance(source, bytes) else source
        self.their_end, self._fd = os.pipe()
        os.set_blocking(self._fd, False)
        if isinstance(source, bytes):
            self._feed(source)
        else:
            self._asking = loop.create_task(self._ask(source))

    async def _ask(self, source: AsyncIterator[bytes]) -> None:
        try:
            data = await anext(source)
        except StopAsyncIteration:
            self._asking = None
            self.close()
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._open:
            self._rest = memoryview(data)
            self._loop.add_writer(self._fd, self._write)

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._fd, self._rest[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest, self._source = self._rest[:0], None
        if self._rest:
            return
        if self._source is None:
            self.close()
        else:
            self._loop.remove_writer(self._fd)
            self._asking = self._loop.create_task(self._ask(self._source))

    def close_their_end(self) -> None:
        """Called once the program has it."""
        os.close(self.their_end)

    def close(self) -> None:
        """The end of the input, or nobody reads any more."""
        if self._open:
            self._open = False
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            if self._asking is not None:
                self._asking.cancel()


class Pipes:
    """All pipes of one program: its input, its output, and its stderr if that is separate. `stdin`,
    `stdout` and `stderr` are the program's ends; `stderr` None: merged with the output."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stdin: bytes | AsyncIterator[bytes] | socket.socket,
        limits: ProcessLimits,
        sink: Sink | None,
    ) -> None:
        self.output = BoundedOutput(limits.max_output_bytes)
        self.errors = BoundedOutput(limits.max_output_bytes)
        self._apart: Pump | None = None
        self._feeder: Feeder | None = None
        self.stdin, self.stderr = subprocess.DEVNULL, None
        with ExitStack() as opened:
            self.pump = Pump(loop, self.output, sink)
            opened.callback(self.pump.close)
            self.stdout = self.pump.their_end
            if limits.apart:
                self._apart = Pump(loop, self.errors)
                opened.callback(self._apart.close)
                self.stderr = self._apart.their_end
            if isinstance(stdin, socket.socket):
                self.stdin = stdin.fileno()
            elif stdin:
                self._feeder = Feeder(loop, stdin)
                opened.callback(self._feeder.close)
                self.stdin = self._feeder.their_end
            self._opened = opened.pop_all()

    def close_their_ends(self) -> None:
        """The program has them, or could not be started."""
        for each in (self.pump, self._apart, self._feeder):
            if each is not None:
                each.close_their_end()

    async def drain(self, within_s: float) -> None:
        """Wait until everything that writes to the output has closed it."""
        pumps = (self.pump,) if self._apart is None else (self.pump, self._apart)
        if not all(each.ended.done() for each in pumps):
            await asyncio.wait([each.ended for each in pumps], timeout=max(0.0, within_s))

    def close_input(self) -> None:
        """The program needs no more input."""
        if self._feeder is not None:
            self._feeder.close()

    def close(self) -> None:
        """Read what is left in the pipes without waiting, and close our ends."""
        self._opened.close()
