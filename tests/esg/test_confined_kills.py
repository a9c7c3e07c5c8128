"""Confined sessions whose processes are killed at random: they end as if nothing had been.

Each of the zygote, the keeper, what runs and its heir may be the one that dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from lorimer.esg.confined import ConfinedSteps, StepWorkers
from tests.esg.random_programs import BEGIN, plain, runs, step, whole
from tests.esg.test_confined import At, zygotes
from tests.world.levels import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confined steps are for Linux")

PROGRAMS = 150 if os.environ.get("LORIMER_CAMPAIGN") else 5
SHOW = "for n in 'abcde':\n    print(n, globals().get(n, 'gone'))"


@pytest.mark.timeout(1200)
def test_a_session_whose_processes_are_killed_ends_as_if_they_had_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with StepWorkers(tmp_path, world=At("L1")) as workers:
            killed = 0
            for seed in range(PROGRAMS):
                session = await ConfinedSteps.begin(workers)
                killed += await played(session, Random(seed), tmp_path)
                session.close()
        assert killed >= PROGRAMS

    needs("L1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the programs, about their own doings
        asyncio.run(main())


def alone(dice: Random) -> str:
    """A step without the modules of these tests, which a confined worker cannot import."""
    while "tests." in (source := step(dice)):
        pass
    return source


async def played(session: ConfinedSteps, dice: Random, folder: Path) -> int:
    sources, killed = [*BEGIN], 0
    for _ in range(dice.randint(3, 8)):
        source = alone(dice)
        if runs([*sources, source]):
            sources.append(source)
    sources.append(SHOW)
    for number, source in enumerate(sources):
        killed += await some_death(dice, folder)
        result = await session.execute(f"s{number}", source)
        assert result.ok, (result.failure, sources)
    for _ in range(3):
        place = dice.randrange(1, len(sources) - 1)
        edited = [*sources]
        edited[place] = alone(dice)
        if not runs(edited):
            continue
        sources = edited
        killed += await some_death(dice, folder)
        await session.edit_step(f"s{place}", edited[place])
        killed += await some_death(dice, folder)
        done = await session.replay()
        assert done.ok, ([session.results[each].failure for each in done.failed], sources)
        printed = [plain(session.results[each].stdout) for each in session.steps]
        assert printed == whole(sources)[1], (sources, done)
    return killed


async def some_death(dice: Random, folder: Path) -> int:
    if dice.random() < 0.75:
        return 0
    await asyncio.sleep(dice.choice((0, 0, 0.02)))
    victims = zygotes(folder)
    if victims:
        with suppress(ProcessLookupError):
            os.kill(dice.choice(victims), signal.SIGKILL)
    return len(victims) > 0
