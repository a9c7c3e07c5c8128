"""Lanes: how many jobs run at once, and whose is next."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import (
    ConfigError,
    ExecutorErrorCode,
    LimitError,
    PipelineError,
    tool,
)
from lorimer.core.errors import RunCancelled
from lorimer.run import Invocation, Lane, Lanes, RunnableAgent
from lorimer.run.config import EnvironmentConfig
from lorimer.run.lanes.turns import Job, Turns
from lorimer.run.lowering import DEFAULTS
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.quick import calls
from tests.run.support import executor_of, use

CODE = ExecutorErrorCode


class Jobs:
    """Jobs on one lane: each notes when it was asked for, began and ended."""

    def __init__(self, world: SimulatedWorld, lane: Lane) -> None:
        self.world = world
        self.lane = lane
        self.began: list[str] = []
        self.waited: dict[str, float] = {}
        self.running: list[str] = []
        self.most = 0
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, takes: float = 1.0, **claim: object) -> asyncio.Task[None]:
        """Begin to wait now, in a task of its own."""
        task = asyncio.create_task(self._one(name, takes, **claim))
        self.tasks.append(task)
        return task

    async def _one(self, name: str, takes: float, **claim: object) -> None:
        async with self.lane.slot(**claim) as slot:  # pyright: ignore[reportArgumentType]
            self.began.append(name)
            self.waited[name] = slot.waited_s
            self.running.append(name)
            self.most = max(self.most, len(self.running))
            try:
                await self.world.sleep(takes)
            finally:
                self.running.remove(name)

    async def end(self) -> None:
        await asyncio.gather(*self.tasks)


def on_a_lane(
    play: Callable[[SimulatedWorld, Lane, Jobs], Awaitable[None]],
    cap: int = 1,
    **options: object,
) -> None:
    """Play it under virtual time; afterwards nothing may be left in the lane."""

    async def main(world: SimulatedWorld) -> None:
        lane = Lane("runs", cap, world=world, **options)  # pyright: ignore[reportArgumentType]
        await play(world, lane, Jobs(world, lane))
        assert (lane.stats().running, lane.stats().queued) == (0, 0)

    simulate(main)


@dataclass(frozen=True)
class Arrival:
    at: int
    takes: int
    caller: str
    key: str
    priority: int
    gives_up_at: int | None


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at=st.integers(0, 20),
        takes=st.integers(0, 5),
        caller=st.sampled_from("abc"),
        key=st.sampled_from(["", "x", "y"]),
        priority=st.integers(-1, 1),
        gives_up_at=st.one_of(st.none(), st.integers(0, 25)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, st.integers(1, 4), st.integers(1, 2), st.lists(st.integers(1, 4), max_size=3))
def test_row_74_a_lane_never_runs_more_than_its_cap(
    arrivals: list[Arrival], cap: int, key_cap: int, caps: list[int]
) -> None:
    async def main(world: SimulatedWorld) -> None:
        lane = Lane("runs", cap, per_key={"x": key_cap}, world=world)
        running: list[str] = []
        begun = 0

        async def one(job: Arrival) -> None:
            nonlocal begun
            await world.sleep(job.at)
            claim = lane.slot(caller=job.caller, key=job.key, priority=job.priority)
            async with claim as slot:
                # one that began when the cap was higher may still run
                assert len(running) < lane.max_concurrent
                assert job.key != "x" or running.count("x") < key_cap
                running.append(job.key)
                begun += 1
                assert slot.waited_s == world.monotonic() - started - job.at
                try:
                    await world.sleep(job.takes)
                finally:
                    running.remove(job.key)

        started = world.monotonic()
        tasks = [asyncio.create_task(one(job)) for job in arrivals]
        loop = asyncio.get_running_loop()
        for task, job in zip(tasks, arrivals, strict=True):
            if job.gives_up_at is not None:
                loop.call_at(loop.time() + job.gives_up_at, task.cancel)
        for number, changed in enumerate(caps):
            loop.call_at(loop.time() + 7 * number, lane.set_max_concurrent, changed)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or type(each) is asyncio.CancelledError for each in done), done
        assert (lane.stats().running, lane.stats().queued) == (0, 0)
        await world.sleep(max(0, 30 - world.monotonic() + started))  # the last cap is set
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:  # no slot has leaked
            for _ in range(lane.max_concurrent):
                group.create_task(lane.slot(key="y").__aenter__())

    simulate(main)


def test_row_75_light_callers_do_not_wait_for_the_backlog_of_a_flooding_one() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(100):
            jobs.start(f"flood {number}", 10.0, caller="flood")
        for number in range(9):
            await world.sleep(23.7)
            jobs.start(f"light {number}", 1.0, caller=f"light {number}")
        await jobs.end()
        waits = [jobs.waited[f"light {number}"] for number in range(9)]
        assert 0 < max(waits) <= 10.0  # one job of the flooding caller
        assert jobs.waited["flood 99"] >= 990.0

    on_a_lane(play)


def test_row_75_nine_light_callers_at_once_go_before_the_next_flooding_job() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(100):
            jobs.start(f"flood {number}", 10.0, caller="flood")
        await world.sleep(1.0)
        for number in range(9):
            jobs.start(f"light {number}", 1.0, caller=f"light {number}")
        await jobs.end()
        assert jobs.began[:4] == [f"flood {number}" for number in range(4)]
        assert jobs.began[4:13] == [f"light {number}" for number in range(9)]
        # the rest of one flooding job, and the light ones before it
        assert max(jobs.waited[f"light {number}"] for number in range(9)) <= 9.0 + 2.0

    on_a_lane(play, cap=4)


def test_row_75_of_callers_with_as_many_running_the_longest_unserved_is_next() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(2):
            for caller in "abc":
                jobs.start(f"{caller}{number}", caller=caller)
        await world.sleep(2.5)  # c0 runs; a and b were served, d never was
        jobs.start("d0", caller="d")
        jobs.start("b2", caller="b")
        await jobs.end()
        assert jobs.began == ["a0", "b0", "c0", "d0", "a1", "b1", "c1", "b2"]

    on_a_lane(play)


def test_row_76_priority_orders_only_within_a_caller() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        jobs.start("first", caller="a")
        for name, caller, priority in (
            *(("a low", "a", 0), ("a high", "a", 9), ("a high too", "a", 9)),
            *(("b low", "b", -5), ("b lower", "b", -6)),
        ):
            jobs.start(name, caller=caller, priority=priority)
        await jobs.end()
        assert jobs.began == ["first", "b low", "a high", "b lower", "a high too", "a low"]

    on_a_lane(play)


def test_row_76_queued_jobs_are_cancelled_by_id_and_running_ones_are_not() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        running = jobs.start("running", id="r1")
        queued = jobs.start("queued", id="r2")
        last = jobs.start("last", id="r3")
        await asyncio.sleep(0)
        assert [lane.cancel(name) for name in ("r1", "r2", "r2", "r9")] == [
            False,
            True,
            False,
            False,
        ]
        with pytest.raises(RunCancelled, match="'r2' was cancelled while it waited") as raised:
            await queued
        assert raised.value.code is CODE.EXEC_RUN_CANCELLED
        await asyncio.gather(running, last)
        assert jobs.began == ["running", "last"]

    on_a_lane(play)


def test_row_76_the_cap_changes_while_jobs_run() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(12):
            jobs.start(str(number), caller="a")
        await world.sleep(0.5)
        assert len(jobs.running) == 2
        lane.set_max_concurrent(4)
        await asyncio.sleep(0)
        assert len(jobs.running) == 4
        lane.set_max_concurrent(1)
        assert len(jobs.running) == 4  # nobody is killed
        assert lane.stats().max_concurrent == 1
        await world.sleep(0.7)  # two of the four have ended
        assert len(jobs.running) == 2
        await world.sleep(0.5)
        assert len(jobs.running) == 1
        await jobs.end()
        assert jobs.most == 4

    on_a_lane(play, cap=2)


def test_row_76_a_cap_of_one_key_changes_too() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(4):
            jobs.start(str(number), key="x")
        await world.sleep(0.5)
        assert len(jobs.running) == 1
        lane.set_max_concurrent(3, key="x")
        await asyncio.sleep(0)
        assert len(jobs.running) == 3
        await jobs.end()

    on_a_lane(play, cap=4, per_key={"x": 1})


def test_row_76_a_key_at_its_cap_holds_no_slot() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(5):
            jobs.start(f"x{number}", 10.0, key="x", priority=9)
        jobs.start("y", 1.0, key="y")
        await jobs.end()
        assert jobs.waited["y"] == 0
        assert jobs.waited["x4"] == 40.0

    on_a_lane(play, cap=2, per_key={"x": 1})


def test_row_76_stats() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        empty = lane.stats()
        assert (empty.name, empty.estimated_wait_s) == ("runs", 0.0)
        for number in range(5):
            jobs.start(str(number), 10.0)
        await asyncio.sleep(0)
        begun = lane.stats()
        assert (begun.running, begun.queued, begun.served_last_minute) == (2, 3, 0)
        assert begun.estimated_wait_s is None
        await world.sleep(10.5)
        later = lane.stats()
        assert (later.running, later.queued, later.served_last_minute) == (2, 1, 2)
        assert later.estimated_wait_s == pytest.approx(10.0 * 2 / 2)
        await jobs.end()
        assert lane.stats().served_last_minute == 5
        await world.sleep(45.0)
        assert lane.stats().served_last_minute == 3
        await world.sleep(30.0)
        assert (lane.stats().served_last_minute, lane.stats().estimated_wait_s) == (0, 0.0)

    on_a_lane(play, cap=2)


def test_row_76_there_is_a_wait_where_all_slots_are_taken_and_where_somebody_waits() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        await jobs.start("first", 10.0)
        jobs.start("keyed", 20.0, key="x")
        jobs.start("waits", 1.0, key="x")
        await world.sleep(1)
        assert (lane.stats().running, lane.stats().queued) == (1, 1)
        assert lane.stats().estimated_wait_s == pytest.approx(10.0 * 2 / 2)
        jobs.start("other", 5.0)
        await world.sleep(1)
        assert (lane.stats().running, lane.stats().queued) == (2, 1)
        await world.sleep(19)
        jobs.start("one", 5.0)
        jobs.start("two", 5.0)
        await world.sleep(1.5)
        full = lane.stats()
        assert (full.running, full.queued) == (2, 0)
        assert full.estimated_wait_s is not None and full.estimated_wait_s > 0
        await jobs.end()

    on_a_lane(play, cap=2, per_key={"x": 1})


def test_a_lane_does_not_go_through_all_the_callers_that_it_ever_had() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(1_500):
            await jobs.start(f"job {number}", 0.0, caller=f"caller {number}")
        with calls() as made:
            lane.close()
        assert made[0] < 20

    on_a_lane(play)


def test_a_closed_lane_refuses_new_and_queued_jobs_and_lets_running_ones_end() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        async def parent() -> str:
            async with lane.slot():
                await world.sleep(1.0)
                async with lane.slot():  # part of a running job
                    return "ended"

        running = asyncio.create_task(parent())
        queued = jobs.start("queued")
        await asyncio.sleep(0)
        lane.close()
        lane.close()
        for refused in (queued, jobs.start("new")):
            with pytest.raises(RunCancelled) as raised:
                await refused
            assert raised.value.code is CODE.EXEC_RUN_SHUTDOWN
        assert await running == "ended"

    on_a_lane(play)


def test_a_full_queue_refuses_one_more() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        for number in range(3):
            jobs.start(str(number), key="x")
        await asyncio.sleep(0)
        with pytest.raises(LimitError, match="2 jobs wait in it already") as raised:
            async with lane.slot(key="x"):
                pass
        assert raised.value.code is CODE.EXEC_LIMIT_QUEUE
        assert raised.value.category.is_recoverable
        async with lane.slot(key="y"):  # that need not wait
            pass
        await jobs.end()

    on_a_lane(play, cap=2, per_key={"x": 1}, max_queued=2)


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_refused(cap: int) -> None:
    with pytest.raises(ConfigError, match=f"'runs' is {cap}"):
        Lane("runs", cap)
    with pytest.raises(ConfigError, match=f"'x' is {cap}"):
        Lane("runs", per_key={"x": cap})
    with pytest.raises(ConfigError, match="at least 1"):
        Lane("runs").set_max_concurrent(cap)


def test_a_job_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        async with lane.slot():
            chosen = jobs.start("chosen")
            after = jobs.start("after")
            # tasks of its own, so that they are not part of this job
            await asyncio.sleep(0)
        chosen.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chosen
        await after
        assert jobs.began == ["after"]
        assert lane.stats().served_last_minute == 2  # not the one that never began

    # the tasks are started outside of the slot's context
    def outside(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> Awaitable[None]:
        jobs.start = _apart(jobs.start)  # pyright: ignore[reportAttributeAccessIssue]
        return play(world, lane, jobs)

    on_a_lane(outside)


def test_a_job_that_is_cancelled_while_it_waits_leaves_the_queue_at_once() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        jobs.start("running")
        given_up = jobs.start("given up")
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert lane.stats().queued == 0
        jobs.tasks.remove(given_up)
        await jobs.end()

    on_a_lane(play)


def _apart(start: Callable[..., asyncio.Task[None]]) -> Callable[..., asyncio.Task[None]]:
    empty = contextvars.copy_context()
    return lambda *args, **claim: empty.copy().run(start, *args, **claim)


def test_a_child_runs_in_the_slot_of_its_parent_which_both_give_back() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        async def parent() -> None:
            async with lane.slot(caller="a"):
                jobs.start("child", 5.0, caller="b")
                await world.sleep(1.0)
                assert lane.stats().running == 1

        other = asyncio.create_task(parent())
        await asyncio.sleep(0)
        jobs.start("stranger", caller="c")
        await other  # the child goes on, in the same slot
        assert jobs.running == ["child"]
        assert lane.stats().running == 1
        await jobs.end()
        assert jobs.waited == {"child": 0.0, "stranger": 5.0}

    on_a_lane(play)


def test_a_task_that_outlives_the_slot_it_was_started_in_waits_like_anyone() -> None:
    async def play(world: SimulatedWorld, lane: Lane, jobs: Jobs) -> None:
        async def later() -> None:
            await world.sleep(2.0)
            await jobs.start("late")

        async with lane.slot():
            left = asyncio.create_task(later())
        jobs.start("long", 10.0)
        await left
        await jobs.end()
        assert jobs.waited["late"] == 8.0

    on_a_lane(play)


def test_a_thread_of_a_job_may_enter_its_lane() -> None:
    async def main() -> None:
        lane = Lane("runs", 1)

        async def inner() -> int:
            async with lane.slot():
                return lane.stats().running

        async with lane.slot():
            assert await asyncio.to_thread(asyncio.run, inner()) == 1
        assert lane.stats().running == 0

    asyncio.run(main())


def test_a_lane_serves_one_event_loop_at_a_time() -> None:
    lane = Lane("runs", 4)

    async def enter() -> None:
        async with lane.slot():
            pass

    async def main() -> None:
        empty = contextvars.copy_context()
        async with lane.slot():
            loop = asyncio.get_running_loop()
            with pytest.raises(PipelineError, match="another event loop") as raised:
                await loop.run_in_executor(None, empty.run, asyncio.run, enter())
            assert raised.value.code is CODE.EXEC_RUN_BUSY

    asyncio.run(main())
    asyncio.run(main())  # one after the other is fine


def test_named_lanes_have_the_caps_that_the_settings_say_now() -> None:
    said = {"LORIMER_LANES_WEB_MAX_CONCURRENT": "2"}
    lanes = Lanes(EnvironmentConfig(environment=said))
    web = lanes["web"]
    assert (web.max_concurrent, lanes["other"].max_concurrent) == (2, 4)
    said["LORIMER_LANES_WEB_MAX_CONCURRENT"] = "7"
    assert lanes["web"] is web
    assert web.max_concurrent == 7
    said["LORIMER_LANES_WEB_MAX_CONCURRENT"] = "none"
    assert lanes["web"].max_concurrent == 4
    assert [stats.name for stats in lanes.stats()] == ["web", "other"]
    lanes.close()

    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(RunCancelled):
            await web.slot().__aenter__()

    simulate(main)


def test_lanes_of_a_higher_level_are_waited_for() -> None:
    async def main(world: SimulatedWorld) -> None:
        runs, gpu = Lane("runs", 4, world=world), Lane("gpu", 1, level=1, world=world)
        waits: list[float] = []
        using = 0

        async def run() -> None:
            nonlocal using
            async with runs.slot(), gpu.slot() as slot:
                using += 1
                assert using == gpu.stats().running == 1
                waits.append(slot.waited_s)
                async with runs.slot() as child:  # that is part of it
                    await world.sleep(1.0)
                    assert child.waited_s == 0
                using -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(run())
        assert waits == [0, 1, 2, 3]

    simulate(main)


def test_lanes_of_one_level_do_not_wait_for_each_other_but_count() -> None:
    async def main(world: SimulatedWorld) -> None:
        one, two = Lane("one", 1, world=world), Lane("two", 1, world=world)

        async def run(first: Lane, second: Lane) -> None:
            async with first.slot():
                await world.sleep(1.0)
                async with second.slot() as slot:
                    assert slot.waited_s == 0
                    assert second.stats().running == 2  # above its cap: it could wait for ever
                    await world.sleep(1.0)

        async with asyncio.TaskGroup() as group:
            group.create_task(run(one, two))
            group.create_task(run(two, one))
        assert one.stats().running == two.stats().running == 0

    simulate(main)


AGENT = RunnableAgent("one", prompt="Be brief.")


def test_row_13_waiting_in_a_lane_does_not_shorten_the_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        slow = ScriptedModel(lambda _: "done", latency_s=8.0)
        limits = replace(DEFAULTS, timeout_s=10.0)
        lane = Lane("runs", 1, world=world)
        executor = executor_of(slow, world=world, lane=lane, limits=limits)
        ended: list[str] = []

        async def ask(caller: str) -> None:
            result = await executor.run(AGENT, "go", Invocation(caller_id=caller))
            assert result.status == "ok", result.exception
            ended.append(caller)

        flood = [asyncio.create_task(ask("flood")) for _ in range(5)]
        await world.sleep(1.0)
        await asyncio.gather(ask("light"), *flood)
        assert ended == ["flood", "light", *["flood"] * 4]

    simulate(main)


def test_a_run_within_a_run_does_not_wait_for_its_parent() -> None:
    async def main(world: SimulatedWorld) -> None:
        lane = Lane("runs", 1, world=world)
        child = executor_of(["the child's"], world=world, lane=lane)

        @tool(effects=[])
        async def delegate() -> str:
            """Ask another agent."""
            return (await child.run(replace(AGENT, name="two"), "go")).output

        replies = [use("delegate"), "done"]
        parent = executor_of(replies, tools=[delegate], world=world, lane=lane)
        result = await parent.run(replace(AGENT, name="parent", tools=("delegate",)), "go")
        assert (result.status, result.output) == ("ok", "done"), result.exception
        assert "the child's" in str(result.messages)

    simulate(main)


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "next", "next", "end", "drop", "cap"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(-1, 1),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_row_75_whose_turn_it_is_by_the_rule_word_by_word(steps: list[Step]) -> None:
    caps = {"1": 1}
    turns = Turns[Job](2, caps)
    queued: list[Job] = []
    running: list[Job] = []
    served: dict[str, int] = {}
    came: dict[str, int] = {}

    def expected() -> Job | None:
        ready = [job for job in queued if job.key != "1" or "1" not in [r.key for r in running]]
        if not ready or len(running) >= turns.cap:
            return None

        def claim(job: Job) -> tuple[int, int, int, int]:
            busy = sum(each.caller == job.caller for each in running)
            return (busy, served.get(job.caller, 0), came[job.caller], -job.priority)

        return min(ready, key=claim)  # of equal ones the first that came

    for number, (what, caller, key, priority) in enumerate(steps, 1):
        if what == "add":
            job = Job(str(caller), priority, str(key))
            came.setdefault(job.caller, number)
            turns.add(job)
            queued.append(job)
        elif what == "next":
            want = expected()
            assert turns.next() is want
            if want is not None:
                queued.remove(want)
                running.append(want)
                served[want.caller] = number
                turns.begin(want)
        elif what == "end" and running:
            turns.end(running.pop(caller % len(running)))
        elif what == "drop" and queued:
            turns.drop(queued.pop(caller % len(queued)))
        elif what == "cap":
            turns.cap = caller + 1
        assert (turns.queued, turns.running) == (len(queued), len(running))
        assert sorted(turns.waiting(), key=id) == sorted(queued, key=id)
