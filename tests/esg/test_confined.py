"""Confined steps, by real workers: what they can do as `StepExecutor` can, and how they recover."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.world import Finished, Isolation, Level, ProcessLimits, Sink
from lorimer.esg.confined import ConfinedSteps, StepLimits, StepWorkers
from lorimer.world import RealWorld
from tests.world.levels import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confined steps are for Linux")

HELD: tuple[Level, ...] = ("L1", "L2")
Play = Callable[[ConfinedSteps], Awaitable[None]]


class At(RealWorld):
    """Holds every program at just this level."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self._level: Level = level

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: Any = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        from lorimer.world.spawn import run_process

        isolation = Isolation("auto", self._level)
        return await run_process(
            argv, cwd=cwd, env=env, stdin=stdin, limits=limits, isolation=isolation, sink=sink
        )


def play(
    script: Play, folder: Path, level: Level = "L1", limits: StepLimits = StepLimits(step_s=20)
) -> None:
    async def main() -> None:
        async with StepWorkers(folder, limits=limits, world=At(level)) as workers:
            await script(await ConfinedSteps.begin(workers))

    needs(level)

    asyncio.run(main())


@pytest.mark.parametrize("level", HELD)
def test_an_edit_runs_what_is_stale_and_nothing_else(level: Level, tmp_path: Path) -> None:
    async def script(session: ConfinedSteps) -> None:
        await session.execute("load", "rows = [3, 1, 2]")
        await session.execute("scale", "factor = 10")
        await session.execute("sort", "rows.sort()")
        shown = await session.execute("show", "print([row * factor for row in rows])\nrows")
        assert (shown.stdout, shown.shown, shown.type) == ("[10, 20, 30]\n", "[1, 2, 3]", "list")
        assert await session.edit_step("scale", "factor = 100") == ["scale", "show"]
        assert [each.step for each in await session.plan()] == ["scale", "show"]
        assert (await session.replay()).ran == ("scale", "show")
        assert session.results["show"].stdout == "[100, 200, 300]\n"
        assert session.isolation is not None
        assert session.isolation.in_force == level

    play(script, tmp_path, level)
