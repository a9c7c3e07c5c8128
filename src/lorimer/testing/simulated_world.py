"""The world of a simulation: its clock, ids, random numbers, HTTP and programs, all from one
seed."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import anyio

from lorimer.core.world import Finished, ProcessLimits, Reach, Sink
from lorimer.testing.simulated_guard import refusal
from lorimer.testing.simulated_loop import SimulationLoop
from lorimer.world.bounded import BoundedOutput
from lorimer.world.real import ID_BYTES, spell_id

if TYPE_CHECKING:
    import socket

    import httpx2

EPOCH: Final = 1_767_225_600.0
"""The start of every simulation: 2026-01-01T00:00:00Z, seconds since the Unix epoch."""


class SpawnScript(Protocol):
    """Simulates a program: returns what `World.spawn` would have returned. May wait; may raise
    OSError."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes,
        limits: ProcessLimits,
    ) -> Finished: ...


class VirtualClock:
    """Seconds since the simulation began. It stops while somebody works outside.

    Kept in whole nanoseconds: adding floats would lose small steps after some months.
    """

    __slots__ = ("_held", "_now_ns")

    def __init__(self) -> None:
        self._now_ns = 0
        self._held: list[str] = []

    @property
    def now(self) -> float:
        """Seconds."""
        return self._now_ns / 1e9

    @property
    def held(self) -> Sequence[str]:
        """What is announced as going on outside."""
        return self._held

    def advance(self, seconds: float) -> None:
        """Jump forward, by at least a nanosecond."""
        self._now_ns += max(1, round(seconds * 1e9))

    @contextmanager
    def hold(self, what: str) -> Generator[None]:
        """Stop within the block."""
        self._held.append(what)
        try:
            yield
        finally:
            self._held.remove(what)

    def let_go(self) -> None:
        """Continue, although blocks that stopped it will never be left."""
        self._held.clear()


class SimulatedWorld:
    """`World` under virtual time. The same seed gives the same ids, random numbers and times.

    `transport` answers HTTP requests in this process (`httpx2.MockTransport` is suitable; it is
    shared by all clients, so closing it must be harmless); `spawn` simulates programs. Without them
    the simulated code may not make requests or start anything.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        spawn: SpawnScript | None = None,
    ) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self._transport = transport
        self._spawn = spawn
        self._ids = 0
        self._dice = 0

    def time(self) -> float:
        """Seconds since the Unix epoch; begins on 2026-01-01."""
        return EPOCH + self.clock.now

    def monotonic(self) -> float:
        """Seconds since the simulation began; equal to the loop's time."""
        return self.clock.now

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(seconds)  # noqa: TID251 # this is the world's sleep

    def new_id(self, prefix: str) -> str:
        """An id in the format of `RealWorld`, but from the seed and a counter."""
        self._ids += 1
        text = f"{self.seed}/{self._ids}".encode()
        return spell_id(prefix, hashlib.blake2b(text, digest_size=ID_BYTES).digest())

    def dice(self, seed: int | str | None = None) -> Random:
        """With a seed the same numbers as in every world; without, the world's own."""
        if seed is not None:
            return Random(seed)
        self._dice += 1
        return Random(f"{self.seed}/dice/{self._dice}")

    def http(self) -> httpx2.AsyncClient:
        """A client on the given transport. Raises UnannouncedOutside without one."""
        import httpx2  # expensive to import; most simulations do not need it

        if self._transport is None:
            raise refusal("HTTP is not part of this simulation: give it a transport")
        return httpx2.AsyncClient(
            transport=self._transport, timeout=None, trust_env=False, follow_redirects=False
        )

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """Like `http`; every name is public here, and a host given as an address is judged by
        it."""
        from lorimer.world.guarded import simulated_client  # as above

        if self._transport is None:
            raise refusal("HTTP is not part of this simulation: give it a transport")
        return simulated_client(reach, self._transport)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterator[bytes] | socket.socket = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        """Call the script, and enforce the limits in virtual time.

        Raises UnannouncedOutside without a script, and what the script raises.
        """
        if self._spawn is None:
            raise refusal(f"no spawn script was given to play {list(argv)!r}")
        if not isinstance(stdin, bytes):
            raise refusal(f"{list(argv)!r} is talked to, which no spawn script plays")
        began = self.clock.now
        with anyio.move_on_after(limits.timeout_s):
            if sink is not None:
                sink.begun(None)
            played = await self._spawn(argv, cwd=cwd, env=env or {}, stdin=stdin, limits=limits)
            if sink is not None and not sink.take(played.output):
                await sink.drain()
            if len(played.output) <= limits.max_output_bytes:
                return played
            bounded = BoundedOutput(limits.max_output_bytes)
            bounded.write(played.output)
            return replace(played, output=bounded.content())
        return Finished(
            returncode=-signal.SIGKILL,
            output=b"",
            total_bytes=0,
            timed_out=True,
            duration_s=self.clock.now - began,
        )

    async def crash(self) -> NoReturn:
        """Die here, as by kill -9: the simulation stops with SimulatedCrash at this very await.

        For the models, tools and stores of a test, which know where they are; RuntimeError outside
        of a simulation.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SimulationLoop):
            raise RuntimeError("only a simulated process can crash: run it with simulate(...)")
        loop.crash()
        await loop.create_future()
        raise AssertionError("it is over")

    @contextmanager
    def outside(self, what: str) -> Generator[None]:
        """Announce `what`: within the block the clock stops and real time passes.

        No timer fires in the meantime, not even one that should end the block. 30 real seconds
        without a sign of life end the simulation with SimulationStuck.
        """
        with self.clock.hold(what):
            yield
