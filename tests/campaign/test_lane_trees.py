"""Random trees of parents and children on a few lanes under virtual time: none waits for ever, and
no lane runs more trees than its cap.

A failing seed is played again with `LORIMER_SEED=<seed>` in the environment.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from random import Random

from lorimer.run import Lane
from lorimer.testing import SimulatedWorld, simulate
from tests.seeds import chosen, fresh

TREES = 20
"""That are on the same lanes at the same time."""
FULL = 500
SHARE = 20


@dataclass
class Node:
    """A job, and what it starts while it has its slot."""

    lane: int
    caller: str
    key: str
    before: float
    after: float
    together: bool
    """Its children run side by side, else one after the other."""
    detached: bool
    """It does not wait for its last child, which goes on alone."""
    children: list[Node] = field(default_factory=list)


def tree(dice: Random, lanes: int, room: list[int], depth: int = 0) -> Node:
    node = Node(
        dice.randrange(lanes),
        dice.choice("abc"),
        dice.choice(["", "x", "y"]),
        dice.choice([0, 0, 1, 2.5]),
        dice.choice([0, 0, 1, 2.5]),
        dice.random() < 0.6,
        dice.random() < 0.1,
    )
    for _ in range(dice.choice([0, 1, 2, 3]) if depth < 5 else 0):
        if room[0] > 0:
            room[0] -= 1
            node.children.append(tree(dice, lanes, room, depth + 1))
    return node


def play(seed: int) -> int:
    """One forest; returns how many nodes began."""
    dice = Random(seed)
    count = dice.choice([1, 1, 2, 3])
    levels = [dice.randrange(2) for _ in range(count)]
    forest = [tree(dice, count, [dice.randrange(12)]) for _ in range(TREES)]
    cancelled = {index: dice.uniform(0, 30) for index in range(TREES) if dice.random() < 0.15}
    begun = 0

    async def main(world: SimulatedWorld) -> None:
        caps = [dice.randint(1, 4) for _ in range(count)]
        keys = {"x": dice.randint(1, 2)}
        lanes = [
            Lane(f"lane {index}", caps[index], per_key=keys, level=levels[index], world=world)
            for index in range(count)
        ]
        alone = count == 1
        left: list[asyncio.Task[None]] = []

        async def run(node: Node) -> None:
            nonlocal begun
            async with lanes[node.lane].slot(caller=node.caller, key=node.key):
                begun += 1
                assert not alone or lanes[0].stats().running <= caps[0]
                await world.sleep(node.before)
                children = [run(child) for child in node.children]
                if node.detached and children:
                    left.append(asyncio.create_task(children.pop()))
                if node.together:
                    async with asyncio.TaskGroup() as group:
                        for child in children:
                            group.create_task(child)
                else:
                    tasks = [asyncio.create_task(child) for child in children]
                    for task in tasks:
                        await task
                await world.sleep(node.after)

        tasks = [asyncio.create_task(run(root)) for root in forest]
        loop = asyncio.get_running_loop()
        for index, when in cancelled.items():
            loop.call_at(loop.time() + when, tasks[index].cancel)
        while tasks:  # SimulationStuck, if they wait for each other
            done = await asyncio.gather(*tasks, return_exceptions=True)
            wrong = [e for e in done if e is not None and type(e) is not asyncio.CancelledError]
            assert not wrong, wrong
            tasks, left[:] = list(left), []
            others = asyncio.all_tasks() - {asyncio.current_task()}
            tasks.extend(others.difference(tasks))  # of cancelled parents
        for lane in lanes:
            assert (lane.stats().running, lane.stats().queued) == (0, 0)

    simulate(main, seed)
    return begun


def test_random_trees_of_jobs_on_lanes_never_wait_in_a_circle() -> None:
    asked = chosen()
    count = FULL if os.environ.get("LORIMER_CAMPAIGN") else FULL // SHARE
    base = fresh()
    seeds = [*range(count - 2), base, base + 1]
    print(f"\nfresh seeds: {base}, {base + 1}")
    begun = 0
    for seed in seeds if asked is None else [asked]:
        try:
            begun += play(seed)
        except BaseException as error:
            error.add_note(f"seed {seed} (LORIMER_SEED={seed})")
            raise
    print(f"{len(seeds) * TREES} trees, {begun} jobs")
