"""What an executor, its critic and its budgets decided about a run is told as all else is."""

from __future__ import annotations

from typing import Any

from lorimer.journal.explain import Explanation, explain
from lorimer.journal.recording import recorded
from lorimer.run import Decision, Executor, Invocation, Ports, RunnableAgent, TotalBudget
from lorimer.stages.catalogue import catalogue
from lorimer.testing import SimulatedWorld, simulate
from tests.journal.explained import check, of
from tests.run.support import executor_of
from tests.run.test_critic import AGENT, Says, Work, works


async def explained(executor: Executor, agent: RunnableAgent, **who: Any) -> list[Explanation]:
    result = await executor.run(agent, "go", Invocation(**who))
    run = await recorded(executor.journal, result.run_id)
    found = explain(run, catalogue())
    check(found, run)
    return found


def test_a_critic_steers_raises_and_kills() -> None:
    said = [Decision(raise_turns=9, extend_s=500.0, nudge="think of the end")]

    def say(seen: Any) -> Decision | None:
        if said:
            return said.pop()
        return Decision(kill="it goes round in circles") if seen.elapsed_s > 100 else None

    async def main(world: SimulatedWorld) -> None:
        executor = executor_of(
            works(30, 30, 300), tools=[Work(world)], world=world, ports=Ports(critic=Says(say))
        )
        found = await explained(executor, AGENT, caller_id="alice")
        assert of(found, "start") == [("begun", "the caller (alice)")]
        assert of(found, "limit")[-1][1] == "its supervisor (critic)"
        assert of(found, "message") == [
            ("gave the model 1 text of its supervisor", "its supervisor (critic)")
        ]
        [end] = [each for each in found if each.kind == "end"]
        assert (end.what, str(end.origin)) == ("ended killed", "its supervisor (kill)")
        assert "round in circles" in end.why

    simulate(main)


def test_a_limit_that_a_critic_raised_is_its_own() -> None:
    critic = Says(lambda seen: Decision(raise_turns=1) if seen.elapsed_s < 7 else None)

    async def main(world: SimulatedWorld) -> None:
        executor = executor_of(
            works(6, 6, 6, 6), tools=[Work(world)], world=world, ports=Ports(critic=critic)
        )
        two = RunnableAgent("w", tools=("work",), max_turns=2, critic=True)
        found = await explained(executor, two)
        assert of(found, "end") == [("ended error", "its supervisor (limits.max_turns)")]

    simulate(main)


def test_a_budget_that_pays_and_one_that_is_empty() -> None:
    async def main(world: SimulatedWorld) -> None:
        budget = TotalBudget("job:it", usd=0.000001)
        executor = executor_of(["x"], world=world, ports=Ports(budget=budget))
        found = await explained(executor, RunnableAgent())
        assert ("charged to job:it, of which $0.000001 may be spent", "budget job:it") in of(
            found, "limit"
        )
        assert of(found, "end") == [("ended budget_exceeded", "budget job:it")]

    simulate(main)
