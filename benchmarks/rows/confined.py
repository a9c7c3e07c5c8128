"""Row 10: steps that run confined: a session, a step there and back, and after a step that dies.

On the wall's clock, because what is waited for happens in other processes; so the least of many is
told (of the beginnings of sessions the median). At level L1; with numpy and pandas in the zygote
where they are installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.scale import Figures, NotHere, Scale
from benchmarks.support import expect
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.world import Finished, Isolation, ProcessLimits, Sink
from lorimer.esg.confined import ConfinedSteps, StepLimits, StepWorkers
from lorimer.world import RealWorld

if TYPE_CHECKING:
    import socket

_STEP_S: Final = 0.5
_BURST: Final = 10
_SETTLE_S: Final = 0.03
"""For an heir to be made, as between two calls of an agent."""


class _AtL1(RealWorld):
    """Holds each program at L1, also where there is more."""

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
        from lorimer.world.spawn import run_process

        isolation = Isolation("L1", "L1")
        return await run_process(
            argv, cwd=cwd, env=env, stdin=stdin, limits=limits, isolation=isolation, sink=sink
        )


async def sessions(scale: Scale) -> Figures:
    """Sessions of a warm zygote, from the second on: one after the other, then ten at once; in the
    last one steps, and some that die."""
    from lorimer.world.sandbox.levels import Levels

    if why := (await Levels().why_not())["L1"]:
        raise NotHere(f"sandbox L1: {why}")
    modules = [name for name in ("numpy", "pandas") if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        async with StepWorkers(
            Path(folder), preload=modules, limits=StepLimits(step_s=_STEP_S), world=_AtL1()
        ) as workers:
            session = await ConfinedSteps.begin(workers)
            begun = list[float]()
            for _ in range(max(scale.batches * 2, 3)):
                session.close()
                await asyncio.sleep(_SETTLE_S * 3)
                began = perf_counter()
                session = await ConfinedSteps.begin(workers)
                begun.append(perf_counter() - began)
            began = perf_counter()
            burst = [await ConfinedSteps.begin(workers) for _ in range(_BURST)]
            each = (perf_counter() - began) / _BURST
            for one in burst:
                one.close()
            there = list[float]()
            for _ in range(scale.runs):
                began = perf_counter()
                await session.status()
                there.append(perf_counter() - began)
            await session.execute("x", "x = [1]")
            aborted = [await _ended(session, "import os; os.abort()") for _ in range(scale.batches)]
            hung = [await _ended(session, "10**10**9") for _ in range(scale.batches)]
    return {
        "begin_ms": median(begun) * 1e3,
        "burst_ms": each * 1e3,
        "round_trip_ms": min(there) * 1e3,
        "aborted_ms": min(aborted) * 1e3,
        "hung_ms": (min(hung) - _STEP_S) * 1e3,
    }


async def _ended(session: ConfinedSteps, code: str) -> float:
    """Seconds from the call to the next step's result."""
    await asyncio.sleep(_SETTLE_S)
    began = perf_counter()
    ended = await session.execute("bad", code)
    look = await session.execute("look", "x")
    spent = perf_counter() - began
    expect(code, ended.code is None or ended.code is ExecutorErrorCode.EXEC_STEP_INVALID, False)
    expect("the state", look.shown, "[1]")
    return spent
