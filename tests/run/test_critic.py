"""What a critic may do to a run, and what becomes of the run when the critic fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.manifest import SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.replay import Replayed
from lorimer.journal.verify import verify
from lorimer.run import (
    Critic,
    Decision,
    ExtendOnce,
    IdleCritic,
    Ports,
    RunnableAgent,
    RunResult,
    Seen,
    Supervised,
    Supervision,
)
from lorimer.run.critic.watching import Watch
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate_in
from lorimer.tools import Tool, ToolContext, ToolResult
from tests.core.support import Watched
from tests.run.support import executor_of, model_of, use

SOFT_S = 60.0
AGENT = RunnableAgent("worker", tools=("work",), timeout_s=SOFT_S, critic=True)


class Work(Tool):
    """Takes as many seconds as it is told."""

    name = "work"
    description = "Work."
    input_schema = {"type": "object"}  # noqa: RUF012
    effects = frozenset({"read"})
    timeout_s = 100_000.0

    def __init__(self, world: World) -> None:
        self.world = world

    async def execute(self, input: Any, context: ToolContext) -> ToolResult:
        await self.world.sleep(float(input.get("s", 0)))
        return ToolResult("done")


class Says:
    """A critic that says what a function of what it sees says."""

    def __init__(self, say: Callable[[Seen], Any], limit_s: float = 4 * SOFT_S) -> None:
        self.say = say
        self.limit_s = limit_s
        self.seen: list[Seen] = []

    def supervise(self, run: Supervised) -> Supervision | None:
        return self

    async def look(self, seen: Seen) -> Decision | None:
        self.seen.append(seen)
        said = self.say(seen)
        return await said if isinstance(said, Awaitable) else said


class Declines:
    def supervise(self, run: Supervised) -> Supervision | None:
        return None


class Broken:
    def supervise(self, run: Supervised) -> Supervision | None:
        raise RuntimeError("no critic today")


def once(decision: Decision, after_s: float = 5.0) -> Callable[[Seen], Decision | None]:
    """This, the first time that a run is seen so late."""
    left = [decision]
    return lambda seen: left.pop() if left and seen.elapsed_s >= after_s else None


def played(
    replies: Any, critic: Critic | None, agent: RunnableAgent = AGENT, **options: Any
) -> tuple[RunResult, float]:
    """How a run of the agent went, and how long it took."""

    async def main(world: World) -> tuple[RunResult, float]:
        executor = executor_of(
            replies, tools=[Work(world)], world=world, ports=Ports(critic=critic), **options
        )
        result = await executor.run(agent, "go")
        return result, world.monotonic()

    return simulate(main)


async def watched(pipeline: Pipeline, critic: Critic | None) -> PipelineResult:
    """A run of a pipeline that an executor would not make."""
    watch = Watch(critic, AGENT, Limits(timeout_s=SOFT_S), "run_mine", "", [])
    run = await pipeline.begin("go", limits=watch.limits, run_id="run_mine")
    async with watch.during(run.context):
        return await run.execute()


def works(*seconds: float) -> list[Any]:
    """Calls that take so long, and an answer."""
    return [*[use(id=f"c{n}", s=s, n=n) for n, s in enumerate(seconds)], "end"]


def never(seen: Seen) -> None:
    return None


@pytest.mark.parametrize(
    ("agent", "critic"),
    [
        (AGENT, None),
        (replace(AGENT, critic=False), IdleCritic()),
        (AGENT, Declines()),
        (AGENT, Broken()),
    ],
    ids=["no port", "not wanted", "declined", "broken"],
)
def test_row_39_without_a_critic_the_time_limit_kills(
    agent: RunnableAgent, critic: Critic | None
) -> None:
    result, took = played(works(1000), critic, agent)
    assert (result.status, result.code) == ("timeout", ExecutorErrorCode.EXEC_LIMIT_TIMEOUT)
    assert SOFT_S <= took < SOFT_S + 1
    assert any("no critic today" in each for each in result.warnings) == isinstance(critic, Broken)


def test_row_39_with_a_critic_a_run_lives_past_it_to_the_critics_deadline() -> None:
    result, took = played(works(30, 30, 30), Says(never))
    assert (result.status, took >= 90) == ("ok", True)
    result, took = played(works(1000), Says(never))
    assert (result.status, 240 <= took < 241) == ("timeout", True)
    assert "240 s" in result.error


@pytest.mark.parametrize(
    "limit_s",
    [float("nan"), -5.0, float("inf")],
    ids=["nan", "negative", "inf"],
)
def test_row_39_a_deadline_that_cannot_be_is_the_limit_or_the_ceiling(limit_s: float) -> None:
    critic = Says(never, limit_s)
    played(works(30), critic)
    assert critic.seen[0].limit_s == (86_400 if limit_s > 0 else SOFT_S)


def test_row_40_a_critic_extends_the_deadline_as_often_as_it_likes_up_to_the_ceiling() -> None:
    result, took = played(works(500), Says(lambda seen: Decision(extend_s=1e300)))
    assert (result.status, took >= 500) == ("ok", True)
    critic = Says(once(Decision(extend_s=100), 200))
    result, took = played(works(500), critic)
    assert (result.status, 340 <= took < 341) == ("timeout", True)
    assert critic.seen[-1].limit_s == 340
    critic = Says(lambda seen: Decision(extend_s=1e300))
    played(works(100), critic)
    assert critic.seen[-1].limit_s == 86_400


def test_row_40_a_critic_raises_the_ceiling_of_turns_in_mid_run() -> None:
    two = replace(AGENT, max_turns=2)
    result, _ = played(works(6, 6, 6), Says(never), two)
    assert result.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS
    result, _ = played(works(6, 6, 6), Says(once(Decision(raise_turns=2))), two)
    assert result.status == "ok"
    result, _ = played(works(6, 6, 6), Says(lambda seen: Decision(raise_turns=10**400)), two)
    assert result.status == "ok"
    assert result.run is not None
    raised = [e.data for e in result.run.events if str(e.data.get("key")).startswith("raised:")]
    assert [each["max_turns"] for each in raised] == [100_000]
    result, _ = played(works(6, 6), Says(lambda seen: Decision(raise_turns=-(10**400))), two)
    assert result.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS


def test_row_40_a_nudge_reaches_the_model_before_its_next_call() -> None:
    model = model_of(works(10, 10))
    result, _ = played(model, Says(once(Decision(nudge="Hurry."))))
    assert result.status == "ok"
    shown = ["Hurry." in str([m.text for m in request.messages]) for request in model.requests]
    assert shown == [False, True, True]
    assert [m.role for m in model.requests[1].messages] == ["user", "assistant", "user", "user"]


def test_a_nudge_keeps_no_run_going_that_has_its_answer() -> None:
    model = model_of([use(id="c", s=1), "end"], latency_s=20.0)
    result, _ = played(model, Says(once(Decision(nudge="Hurry."), 30)))
    assert (result.output, len(model.requests)) == ("end", 2)


@pytest.mark.parametrize("seconds", [[1000], [1] * 20], ids=["hangs", "works"])
def test_row_41_a_kill_is_sticky_and_beats_an_extension(seconds: list[float]) -> None:
    decision = Decision(kill="it goes in circles", extend_s=1000, nudge="x", raise_turns=5)
    result, took = played(works(*seconds), Says(once(decision)), replace(AGENT, max_turns=50))
    assert (result.status, result.code) == ("killed", ExecutorErrorCode.EXEC_RUN_KILLED)
    assert "it goes in circles" in result.error
    assert took < 10
    assert result.run is not None
    assert not [e for e in result.run.events if str(e.data.get("key")).startswith("raised:")]
    assert result.run.events[-1].data["status"] == "killed"


def test_row_41_who_cancels_a_killed_run_does_not_change_its_status() -> None:
    async def main(world: World) -> RunResult:
        critic = Says(once(Decision(kill="enough")))

        class Stubborn(Work):
            async def execute(self, input: Any, context: ToolContext) -> ToolResult:
                try:
                    await world.sleep(1000)
                except asyncio.CancelledError:
                    await world.sleep(0)
                    handle.cancel()
                    raise
                return ToolResult("")

        executor = executor_of(
            works(1), tools=[Stubborn(world)], world=world, ports=Ports(critic=critic)
        )
        handle = executor.start(AGENT, "go")
        return await handle

    assert simulate(main).status == "killed"


def test_row_19_killed_cancelled_and_timeout_are_told_apart_by_who_came_first() -> None:
    async def main(world: World) -> RunResult:
        critic = Says(once(Decision(kill="too late"), 10))
        executor = executor_of(
            works(100), tools=[Work(world)], world=world, ports=Ports(critic=critic)
        )
        handle = executor.start(AGENT, "go")
        await world.sleep(9)
        handle.cancel()
        return await handle

    assert simulate(main).status == "cancelled"


def test_row_42_the_default_extends_once_in_each_run() -> None:
    critic = IdleCritic(multiplier=1.5)
    for _ in range(2):
        model = model_of(works(80, 80, 1))
        result, took = played(model, critic)
        # 90 s, and 60 more from the first idle minute; the second adds nothing
        assert (result.status, 150 <= took < 151) == ("timeout", True)
        assert ExtendOnce.NUDGE in model.requests[-1].messages[-1].text


def test_row_42_the_default_extends_no_run_that_it_extended_before_it_was_interrupted() -> None:
    async def main() -> None:
        run = Supervised("r", "worker", "", SOFT_S, 86_400.0)
        idle = Seen("r", 70.0, SOFT_S, 240.0, 0.0, 1, 12)
        assert await ExtendOnce(run).escalate(replace(idle, given_s=SOFT_S)) is None
        policy = ExtendOnce(run)
        decision = await policy.escalate(idle)
        assert decision is not None and decision.extend_s == SOFT_S
        assert await policy.escalate(idle) is None  # nor again, where it was given none

    asyncio.run(main())


def test_the_policy_is_asked_once_in_each_idle_period() -> None:
    asked: list[float] = []

    class Policy:
        async def escalate(self, seen: Seen) -> Decision | None:
            asked.append(seen.elapsed_s)
            return Decision(extend_s=1000)

    result, _ = played(works(100, 100, 10, 10, 100), IdleCritic(lambda run: Policy()))
    assert result.status == "ok"
    assert [round(s, -1) for s in asked] == [60, 160, 280]


def test_pieces_of_an_answer_are_no_idleness() -> None:
    asked: list[Seen] = []

    class Policy:
        async def escalate(self, seen: Seen) -> Decision | None:
            asked.append(seen)
            return None

    critic = IdleCritic(lambda run: Policy())
    model = model_of(["word " * 30], delta_s=5.0)
    result, took = played(model, critic, replace(AGENT, tools=()))
    assert (result.status, took >= 150, asked) == ("ok", True, [])
    model = model_of(["late"], latency_s=70.0)
    played(model, critic, replace(AGENT, tools=()))
    assert len(asked) == 1


def test_row_42_a_critic_that_fails_stops_neither_watcher_nor_run() -> None:
    calls: list[int] = []

    def fail(seen: Seen) -> Decision | None:
        calls.append(1)
        if seen.elapsed_s < 30:
            raise RuntimeError("broken policy")
        return Decision(kill="at last") if seen.elapsed_s > 50 else None

    result, took = played(works(1000), Says(fail))
    assert (result.status, 50 < took < 55, len(calls) > 10) == ("killed", True, True)
    assert result.warnings == ["the critic failed: RuntimeError: broken policy"]


@pytest.mark.parametrize(
    "nonsense",
    ["kill", Decision(extend_s=float("nan")), Decision(raise_turns="x"), Decision(nudge=5)],  # type: ignore[arg-type]
    ids=["text", "nan", "word", "number"],
)
def test_row_42_nonsense_is_no_decision(nonsense: Any) -> None:
    result, _ = played(works(100), Says(lambda seen: nonsense))
    assert result.status == "ok"


def test_row_42_a_critic_that_hangs_holds_up_nobody() -> None:
    async def main(world: World) -> tuple[RunResult, float]:
        async def hang() -> None:
            try:
                await world.sleep(1e6)
            except asyncio.CancelledError:
                await world.sleep(1)  # and is slow to end, too

        critic = Says(lambda seen: hang())
        executor = executor_of(
            works(100), tools=[Work(world)], world=world, ports=Ports(critic=critic)
        )
        result = await executor.run(AGENT, "go")
        assert len(critic.seen) >= 3
        return result, world.monotonic()

    result, took = simulate(main)
    assert (result.status, 100 <= took < 104) == ("ok", True)


def test_a_run_whose_store_fails_when_a_critic_gives_it_time_ends_by_that_alone() -> None:
    def full(stream: str, facts: Sequence[Event], sync: bool) -> None:
        if any(str(fact.data.get("key")).startswith("raised:") for fact in facts):
            raise JournalError("the disk is full")

    critic = Says(once(Decision(extend_s=100)))
    result, took = played(works(30, 30), critic, journal=Watched(full))
    assert (result.code, took < 61) == (ExecutorErrorCode.EXEC_JOURNAL_FAILED, True)
    assert result.warnings == []


def test_waiting_for_a_person_is_not_idle() -> None:
    class Slow:
        async def approve(self, tool: str, summary: str, reason: str) -> bool:
            await self.world.sleep(200)
            return True

        world: World

    asked: list[Seen] = []

    class Policy:
        async def escalate(self, seen: Seen) -> Decision | None:
            asked.append(seen)
            return Decision(kill="idle")

    async def main(world: World) -> PipelineResult:
        slow = Slow()
        slow.world = world
        critic = IdleCritic(lambda run: Policy())
        executor = executor_of(works(1), tools=[Work(world)], ports=Ports(critic=critic))
        manifest = executor.manifest(AGENT)
        manifest.permissions.ask = ["work"]
        pipeline = Pipeline(
            manifest, tools=[Work(world)], models=executor.models, world=world, approver=slow
        )
        return await watched(pipeline, critic)

    result = simulate(main)
    assert (result.status, asked) == ("ok", [])


def test_a_multiplier_below_one_is_refused() -> None:
    for wrong in (0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="multiplier"):
            IdleCritic(multiplier=wrong)


def test_a_resumed_run_keeps_its_raised_ceiling_and_deadline_and_a_replay_goes_the_same_way() -> (
    None
):
    world = SimulatedWorld(1)
    journal = MemoryJournal(world)
    critic = Says(once(Decision(extend_s=100, raise_turns=3, nudge="Hurry."), 200))
    agent = replace(AGENT, max_turns=3)
    replies = works(150, 60, 100, 10)
    ids: list[str] = []

    async def first(world: World) -> None:
        executor = executor_of(
            replies, tools=[Work(world)], world=world, journal=journal, ports=Ports(critic=critic)
        )
        handle = executor.start(agent, "go")
        ids.append(handle.run_id)
        await handle

    with pytest.raises(SimulatedCrash):
        simulate_in(world, first, crash_at_s=250)

    async def second(world: World) -> tuple[RunResult, Replayed]:
        await world.sleep(60)  # until the claim of the one that died is over
        executor = executor_of(
            works(10), tools=[Work(world)], world=world, journal=journal, ports=Ports(critic=critic)
        )
        result = await executor.resume(agent, ids[0])
        pipeline = Pipeline(
            executor.manifest(agent),
            models=executor.models,
            tools=[Work(world)],
            journal=journal,
            world=world,
        )
        return result, await pipeline.replay(ids[0])

    result, replayed = simulate_in(world, second)
    # the call that it was in the middle of, and two more turns: five, of three
    assert (result.status, len(result.steps), critic.seen[-1].limit_s) == ("ok", 4, 340)
    assert replayed.divergence is None
    assert asyncio.run(verify(journal, ids[0])) == []
    texts = [message.text for message in result.messages]
    assert sum("Hurry." in text for text in texts) == 1


def test_children_of_a_run_get_the_time_that_it_is_given() -> None:
    async def main(world: World) -> tuple[PipelineResult, list[str]]:
        def reply(request: Request) -> Any:
            if request.system == "You sleep.":
                return use(s=150) if len(request.messages) == 1 else "slept"
            if len(request.messages) == 1:
                return [ToolUse("a", "Agent", {"subagent_type": "sleeper", "prompt": "sleep"})]
            return request.messages[-1].text

        executor = executor_of(
            reply,
            tools=[Work(world)],
            world=world,
            ports=Ports(critic=Says(once(Decision(extend_s=100)), 120)),
        )
        manifest = executor.manifest(AGENT)
        manifest.agents = [SubAgent(name="sleeper", description="Sleeps.", prompt="You sleep.")]
        pipeline = Pipeline(
            manifest, tools=[Work(world)], models=executor.models, world=world, rules=["Agent"]
        )
        result = await watched(pipeline, executor.ports.critic)
        rows = await pipeline.journal.runs()
        return result, [row.status for row in rows]

    result, statuses = simulate(main)
    assert (result.status, statuses) == ("ok", ["ok", "ok"])
    assert "slept" in str(result.messages)
