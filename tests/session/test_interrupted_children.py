"""A process that dies while children are at work: after a resume none is lost, none is repeated,
and the money adds up. Dies at steps of the event loop, and, a real one, by kill -9."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, find
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.mail import questions
from lorimer.core.mutation import restoring
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.family import descendants, root_of, uncharged_cost
from lorimer.journal.recording import facts_of
from lorimer.journal.retention import Pruned, prune
from lorimer.pipeline import Pipeline
from lorimer.testing import SimulatedWorld, simulate, simulate_in
from lorimer.testing.simulated_failures import SimulatedCrash
from tests.core.support import Do, Watched, use
from tests.seeds import fresh
from tests.session.families import (
    EACH_NANO,
    agent,
    model_of,
    pipeline_of,
    sound,
    statuses,
    task,
    work,
)

REPLIES = {
    "main": [
        [work("digger", "a"), work("chief", "b"), task("digger", "c")],
        [use("note")],
        "so",
        "and so",
        "that is all",
    ],
    "digger": [[use("put")], "dug"],
    "chief": [[work("digger", "d"), task("digger", "e")], "led", "led on", "led to the end"],
}
AGENTS = (agent("digger", tools=["put"]), agent("chief", tools=["Agent"]))
CEILING = 60 * EACH_NANO / 1e9


class Life:
    """One process: its pipeline on a store that outlives it."""

    def __init__(
        self, world: World, journal: Journal, puts: Counter[str], latency_s: float = 1.0
    ) -> None:
        def put(input: object, context: Any) -> str:
            puts[context.run_id] += 1
            return "put"

        self.journal = journal
        tools = [Do("put", put, effects=["write"]), Do("note")]
        self.pipeline: Pipeline = pipeline_of(
            world,
            model_of(REPLIES, latency_s=latency_s),
            *AGENTS,
            journal=journal,
            tools=tools,
            change=lambda manifest: setattr(manifest.model, "max_tokens", 10),
            claim_s=1.0,
        )

    async def go(self) -> PipelineResult | None:
        rows = [row for row in await self.journal.runs() if row.title == "go"]
        if not rows:
            return await self.pipeline.run("go", limits={"max_cost_usd": CEILING})
        if rows[0].status:
            return None
        return await self.pipeline.resume(rows[0].run_id, wait_s=10.0)


class Dying(MemoryJournal):
    """A store whose process dies at one of its writes: before it, or after it."""

    world: SimulatedWorld
    left = -1
    after = False

    async def append(self, *args: Any, **options: Any) -> int:
        self.left -= 1
        if not self.left and not self.after:
            await self.world.crash()
        seq = await super().append(*args, **options)
        if not self.left and self.after:
            await self.world.crash()
        return seq


def play(*crashes: int) -> tuple[Dying, SimulatedWorld, Counter[str]]:
    """Lives that end at so many half writes, and one that does not."""
    world, puts = SimulatedWorld(1), Counter[str]()
    journal = Dying(world)
    journal.world = world
    for at in (*crashes, -2):
        journal.left, journal.after = at // 2 + 1, bool(at % 2)
        try:

            async def main(world: SimulatedWorld) -> object:
                return await Life(world, journal, puts).go()

            simulate_in(world, main)
        except SimulatedCrash:
            continue
    return journal, world, puts


def check(*crashes: int) -> None:
    journal, world, puts = play(*crashes)

    async def look(world: SimulatedWorld) -> None:
        [row] = [row for row in await journal.runs() if row.title == "go"]
        assert row.status == "ok"
        await sound(journal, row.run_id)
        titles = Counter(each.title for each in await journal.runs())
        assert titles == dict.fromkeys(["go", *"abcde"], 1), "each child once"
        assert row.cost_nano <= CEILING * 1e9
        for each in await journal.runs():
            facts = await facts_of(journal, await find(journal, each.run_id))
            unknown = any("exec.tool.outcome_unknown" in str(fact.data) for fact in facts)
            wanted = each.title in "acde"
            assert puts[each.run_id] == wanted or (unknown and puts[each.run_id] <= 1)

    try:
        simulate_in(world, look)
    except BaseException as error:
        error.add_note(f"crashes: {crashes}")
        raise


def writes_of_a_life() -> int:
    """How many writes an undisturbed one has."""
    world = SimulatedWorld(1)
    journal = Dying(world)
    journal.left = 0

    async def main(world: SimulatedWorld) -> object:
        return await Life(world, journal, Counter()).go()

    simulate_in(world, main)
    return -journal.left


def test_a_process_that_dies_at_any_write_loses_and_repeats_no_child() -> None:
    last = 2 * writes_of_a_life()
    assert last > 100
    seed = fresh()
    print(f"\nfresh seed: {seed}; {last // 2} writes")
    crashes: list[tuple[int, ...]]
    if os.environ.get("LORIMER_CAMPAIGN"):
        crashes = [(at,) for at in range(last)]
        dice = Random(seed)
        crashes += [(dice.randrange(last), dice.randrange(last)) for _ in range(500)]
    else:
        crashes = [(at,) for at in range(0, last, 8)]
        for dice in (Random(1), Random(seed)):
            crashes += [(dice.randrange(last), dice.randrange(last)) for _ in range(4)]
    for each in crashes:
        check(*each)


CHANGING = {
    "main": [[task("digger", "a")], [use("note")], [work("digger", "b")], "so", "and so", "done"],
    "digger": [[use("put")], [use("put", "again")], "dug"],
}


class Full:
    """Of one conversation no more is taken from its second reply on, until that is mended."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._replies = 0

    def __call__(self, stream: str, facts: Sequence[Event], sync: bool) -> None:
        if stream == self.stream:
            self._replies += any(fact.type == "model.reply" for fact in facts)
            if self._replies > 1:
                raise JournalError("the disk is full")


IN_THE_BACKGROUND = {
    "main": [[task("digger", "a")], [use("note")], "so", "and so", "that is all"],
    "digger": [[use("put")], "dug"],
}


def test_children_of_a_run_whose_store_fails_are_left_as_it_is_and_go_on_with_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        full = Full("main")
        journal = Watched(full, world)
        put = Do("put", effects=["write"])
        pipeline = pipeline_of(
            world,
            model_of(IN_THE_BACKGROUND, latency_s=1.0),
            agent("digger", tools=["put"]),
            journal=journal,
            tools=[put, Do("note")],
            session_id="main",
        )
        failed = await pipeline.run("go", raise_on_error=False)
        assert failed.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED
        assert await statuses(journal, failed.run_id) == [""]  # neither has an end
        full.stream = ""
        result = await pipeline.resume(failed.run_id)
        assert result.status == "ok"
        assert await statuses(journal, failed.run_id) == ["ok"]
        assert len(put.calls) == 1
        await sound(journal, failed.run_id)

    simulate(main)


def test_children_of_a_run_that_fails_end_with_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = pipeline_of(
            world,
            model_of({**IN_THE_BACKGROUND, "main": [[task("digger", "a")], "so"]}, latency_s=1.0),
            agent("digger", tools=["put"]),
            tools=[Do("put", effects=["write"])],
        )
        failed = await pipeline.run("go", limits=Limits(max_turns=1), raise_on_error=False)
        assert failed.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS
        assert await statuses(pipeline.journal, failed.run_id) == ["cancelled"]
        await sound(pipeline.journal, failed.run_id)

    simulate(main)


@pytest.mark.parametrize("resumed_by", ["the manifest that began it", "a changed pipeline"])
def test_children_begun_before_their_parent_was_changed_go_on_after_a_crash(
    resumed_by: str,
) -> None:
    changes: tuple[dict[str, JSON], ...] = (
        {"kind": "update_model_config", "settings": {"temperature": 0.5}},
        {"kind": "update_stage_config", "stage": "system", "config": {"prompt": "You are main."}},
        {"kind": "update_tools", "tools": {"built_in": ["think"]}},
        {"kind": "update_pipeline_config", "metadata": {"name": "other"}},
    )

    made: list[int] = []

    async def live(world: SimulatedWorld, journal: Dying) -> None:
        def note(*_: object) -> str:
            pipeline.mutate(*changes)
            return "noted"

        pipeline = pipeline_of(
            world,
            model_of(CHANGING, latency_s=1.0),
            agent("digger"),
            journal=journal,
            tools=[Do("put", effects=["write"], idempotent=True), Do("note", note)],
            claim_s=1.0,
        )
        rows = [row for row in await journal.runs() if row.title == "go"]
        if not rows:
            await pipeline.run("go")
            return
        if resumed_by == "a changed pipeline":
            pipeline.mutate(*changes)
        if not rows[0].status:
            result = await pipeline.resume(rows[0].run_id, wait_s=10.0)
            made.append([fact.type for fact in result.events].count("mutated"))
        [root] = [row for row in await journal.runs() if row.title == "go"]
        await sound(journal, root.run_id)
        assert {row.title: row.status for row in await journal.runs()} == dict.fromkeys(
            ["go", "a", "b"], "ok"
        )

    for at in range(22, 62, 10):
        world = SimulatedWorld(1)
        journal = Dying(world)
        journal.world, journal.left, journal.after = world, at // 2 + 1, bool(at % 4)
        with suppress(SimulatedCrash):
            simulate_in(world, lambda world, journal=journal: live(world, journal))
        journal.left = -1
        simulate_in(world, lambda world, journal=journal: live(world, journal))
    assert made.count(1) > 1, "some died when it was changed already"
    assert max(made) == 1


def test_a_resumed_run_has_the_sub_agents_that_it_began_with() -> None:
    async def main(world: SimulatedWorld) -> None:
        tools = [Do("put", effects=["write"]), Do("note")]
        model = model_of(CHANGING, latency_s=1.0)
        pipeline = pipeline_of(world, model, agent("digger"), tools=tools)
        run = asyncio.ensure_future(pipeline.run("go", raise_on_error=False))
        await world.sleep(1.5)
        pipeline.cancel(Reason.SHUTDOWN)
        begun = await run
        assert begun.status == "suspended"
        alone = pipeline.manifest.model_copy(deep=True)
        alone.agents = []
        pipeline.mutate(restoring(alone))
        await pipeline.resume(begun.run_id)
        rows = await pipeline.journal.runs()
        assert {row.title: row.status for row in rows} == dict.fromkeys(["go", "a", "b"], "ok")

    simulate(main)


@pytest.mark.parametrize("helper", ["digger", "chief"])
def test_what_runs_below_had_spent_counts_after_a_resume(helper: str) -> None:
    """Those of its own, and those of a child that goes on."""
    replies = {
        "main": [[work(helper, "a"), work(helper, "b")], "so"],
        "chief": [[work("digger", "c")], "led"],
        "digger": [[use("note")]] * 20,
    }

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        def made() -> Pipeline:
            return pipeline_of(
                world,
                model_of(replies, latency_s=1.0, usage=Usage(2000, 1000)),
                agent("digger"),
                agent("chief", tools=["Agent"]),
                journal=journal,
                tools=[Do("note")],
                change=lambda manifest: setattr(manifest.model, "max_tokens", 10),
            )

        each = 3_000_000
        ceiling = 15 * each
        first = made()
        running = asyncio.create_task(
            first.run("go", limits={"max_cost_usd": ceiling / 1e9}, raise_on_error=False)
        )
        await world.sleep(5.5)
        first.cancel(Reason.SHUTDOWN)
        left = await running
        result = await made().resume(left.run_id, raise_on_error=False)
        assert left.status == "suspended"
        assert 9 * each < result.cost_nano <= ceiling
        assert "budget_exceeded" in await statuses(journal, result.run_id)
        await sound(journal, result.run_id)

    simulate(main)


PROGRAM = """
import asyncio, sys
from collections import Counter
from lorimer.journal import SQLiteJournal
from lorimer.world import RealWorld
from tests.session.test_interrupted_children import Life

class Told(Counter):
    def __setitem__(self, run, count):
        super().__setitem__(run, count)
        print(run, flush=True)

async def main():
    world = RealWorld()
    journal = SQLiteJournal(sys.argv[1], world=world)
    result = await Life(world, journal, Told(), 0.05).go()
    print("ended", result.status if result else "before", flush=True)
    await journal.close()

asyncio.run(main())
"""


def test_a_real_process_is_killed_with_children_in_flight(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    puts: Counter[str] = Counter()
    for kill_at in (1, 2, 0):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, store],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), "."]),
            },
        )
        assert process.stdout is not None
        with process, process.stdout as lines:
            for seen, line in enumerate(lines, 1):
                word, *_ = line.split()
                if word == "ended":
                    assert not kill_at and line.split()[1] == "ok"
                else:
                    puts[word] += 1
                if seen == kill_at:
                    process.kill()
                    break

    async def look() -> None:
        journal = SQLiteJournal(store)
        rows = await journal.runs()
        assert Counter(row.title for row in rows) == dict.fromkeys(["go", *"abcde"], 1)
        [row] = [row for row in rows if row.title == "go"]
        await sound(journal, row.run_id)
        assert set(puts.values()) == {1}, "no call that changes something was made twice"
        await journal.close()

    asyncio.run(look())


@pytest.mark.parametrize("keep", [0, 1])
def test_what_a_child_did_is_kept_as_long_as_the_run_that_it_is_part_of(keep: int) -> None:
    replies = {"main": [[task("digger")], [use("stop")], "so", "so"], "digger": REPLIES["digger"]}

    async def main(world: SimulatedWorld) -> None:
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        puts: Counter[str] = Counter()
        stops = [Reason.SHUTDOWN]

        def put(input: object, context: Any) -> str:
            puts[context.run_id] += 1
            return "put"

        async def stop(input: object, context: Any) -> str:
            await world.sleep(10)
            for reason in stops:  # once the child has ended, and before its parent is told
                pipeline.cancel(reason)
            return "stopped"

        def again() -> Pipeline:
            tools = [Do("put", put, effects=["write"]), Do("stop", stop)]
            digger = agent("digger", tools=["put"])
            return pipeline_of(world, model_of(replies), digger, journal=journal, tools=tools)

        pipeline = again()
        async with pipeline:
            run_id = (await pipeline.run("go", raise_on_error=False)).run_id
        assert [row.status for row in await journal.runs()] == ["ok", ""]
        stops.clear()
        await world.sleep(40 * 86_400)
        assert await prune(journal, before=world.time() - 86_400) == Pruned(0, 0, 0, 1, 0)
        pipeline = again()
        async with pipeline:
            assert (await pipeline.resume(run_id)).status == "ok"
        assert list(puts.values()) == [1], "not done again"
        await sound(journal, run_id)
        await world.sleep(86_400)
        pruned = await prune(journal, before=world.time(), keep=keep)
        assert (pruned.sessions, pruned.runs) == ((2, 2), (0, 0))[keep], "both, or none"
        assert (pruned.unfinished, pruned.in_use) == (0, 0)
        assert len(await journal.runs()) == 2 * keep

    simulate(main)


def test_runs_that_are_below_each_other_are_told_once() -> None:
    """In a store that others wrote: without an end else, and twice as often at each level."""

    def facts(number: int) -> list[Event]:
        run = f"r{number}"
        above = {"run": f"r{number + 1}", "agent": "a"}
        question = {"tool": "t", "input": "{}", "reason": ""}
        return [
            Event("run.start", {"input": "x", "parent": above}, run_id=run),
            Event("effect.intent", {"key": "approval:0", "question": question}, run_id=run),
            *[
                Event("child", {"run": f"r{each}", "agent": "a", "input": "y"}, run_id=run)
                for each in (number + 1, number + 1, 0, number)
            ],
        ]

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        for number in range(40):
            epoch = await journal.claim(f"r{number}", "me", 60)
            await journal.append(f"r{number}", epoch, facts(number), sync=False)
        told = [each.run_id async for _, each, _ in descendants(journal, facts(0))]
        assert len(told) == len({*told}) == 41
        row = await journal.find_run("r0")
        assert row is not None
        asked = await questions(journal, row)
        assert [each.run for each in asked] == ["", *[f"r{number}" for number in range(1, 40)]]
        assert await uncharged_cost(journal, "r0") == 0
        assert (await root_of(journal, row)).run_id == "r39"

    simulate(main)
