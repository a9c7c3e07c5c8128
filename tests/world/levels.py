"""Which sandbox levels work on the machine that the tests run on; the others are skipped, aloud."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from lorimer.core.world import Finished, Isolation, Level, ProcessLimits, Sandbox

LEVELS: tuple[Level, ...] = ("L0", "L1", "L2")


@cache
def why_not() -> dict[Level, str]:
    if sys.platform != "linux":
        return dict.fromkeys(LEVELS, "Linux only")
    from lorimer.world.sandbox.levels import Levels

    return asyncio.run(Levels().why_not())


def needs(level: Level) -> None:
    if why := why_not()[level]:
        pytest.skip(f"sandbox {level} is not tested: {why}")


async def run_at(
    level: Level,
    argv: Sequence[str],
    cwd: Path,
    *,
    timeout_s: float = 20.0,
    hosts: Sequence[str] = (),
    writable: Sequence[Path] | None = None,
    hidden: Sequence[Path] = (),
    stdin: bytes = b"",
    max_output_bytes: int = 1_000_000,
) -> Finished:
    """One program, held at just this level; `cwd` is writable."""
    from lorimer.world.spawn import run_process

    sandbox = Sandbox(
        hosts=tuple(hosts),
        writable=tuple([cwd] if writable is None else writable),
        hidden=tuple(hidden),
    )
    return await run_process(
        argv,
        cwd=cwd,
        stdin=stdin,
        limits=ProcessLimits(timeout_s, max_output_bytes, sandbox),
        isolation=Isolation(level, level),
    )
