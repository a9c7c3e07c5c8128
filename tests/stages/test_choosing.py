"""Stages 1, 6, 8 and 10: which input, which model, how much it may think, which calls at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lorimer import ConfigError, Pipeline
from lorimer.core.manifest import EnvironmentManifest
from lorimer.journal import MemoryJournal
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.models.tiers import Tiers
from lorimer.presets import agent_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, make, use
from tests.stages.effects import LONG, all_of
from tests.stages.support import choose

ROUTES = choose("api", "router", "adaptive", light="quick", heavy="google:b")


def routing(
    world: SimulatedWorld, replies: Any = None, journal: MemoryJournal | None = None, **models: Any
) -> Pipeline:
    """An agent whose short calls go to whatever `quick` stands for."""
    manifest = agent_manifest(model="scripted:m")
    ROUTES(manifest)
    small = ScriptedModel(replies or (lambda _: "small"), name="small", price=Price(1.0, 1.0))
    known: dict[str, Any] = {
        "providers": {
            "scripted": ScriptedModel(lambda _: "own", price=Price(1.0, 1.0)),
            "openai": small,
            "google": ScriptedModel(lambda _: "big", name="big", price=Price(100.0, 100.0)),
        },
        "tiers": Tiers({"quick": "openai:s"}),
    }
    return Pipeline(manifest, models=Models(**{**known, **models}), world=world, journal=journal)


def test_a_router_may_name_an_alias_and_the_model_that_answered_is_paid() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = routing(world)
        short = await pipeline.run("hi")
        assert (short.text, round(short.total_cost_usd * 1e6)) == ("small", 15)
        middle = await pipeline.run(LONG[:2000])
        assert middle.text == "own", "what is not given is the manifest's model"
        long = await pipeline.run(LONG + LONG)
        assert (long.text, round(long.total_cost_usd * 1e6)) == ("big", 1500)

    simulate(main)


def test_a_resumed_run_asks_the_model_that_the_alias_meant_when_it_began() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await routing(world).run("hi")
        cut = next(i for i, f in enumerate(whole.events) if f.type == "model.reply")
        journal = await held(world, whole.events[:cut], stream=whole.session_id)
        other = routing(world, journal=journal, tiers=Tiers({"quick": "google:b"}))
        other = Pipeline(
            other.manifest,
            models=other._models,
            world=world,
            journal=journal,
            session_id=whole.session_id,
        )
        assert (await other.resume(whole.run_id)).text == "small"

    simulate(main)


def test_a_spec_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages\[6\].*router"):
        make(SimulatedWorld(), [], change=choose("api", "router", "adaptive", heavy="openai:"))


def thinking(**config: Any) -> Any:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.model.thinking_enabled = True

    return all_of(change, choose("think", "budget_planner", "adaptive", **config))


def test_thinking_grows_with_the_conversation_within_its_bounds() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["a", "b", "c"])
        change = thinking(base_budget=3000, length_bonus=1000, max_budget=9000)
        pipeline = make(world, model, change=change)
        for text in ("hi", "x" * 6000, "x" * 60_000):
            await pipeline.run(text)
        assert [request.thinking_tokens for request in model.requests] == [3000, 4000, 9000]

    simulate(main)


def test_a_model_that_is_not_to_think_is_given_no_budget() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["a"])
        change = choose("think", "budget_planner", "adaptive")
        await make(world, model, change=change).run("hi")
        assert model.requests[0].thinking_tokens is None

    simulate(main)


@pytest.mark.parametrize(("most", "seconds"), [(2, 3.0), (5, 2.0)])
def test_parallel_keeps_its_own_bound_and_the_runs(most: int, seconds: float) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def act(input: object, context: Any) -> str:
            await context.world.sleep(1)
            return "x"

        change = choose("tool", "executor", "parallel", max_concurrency=most)
        calls = [use("work", str(n)) for n in range(6)]
        pipeline = make(world, [calls, "done"], change=change, tools=[Do("work", act)])
        began = world.monotonic()
        result = await pipeline.run("go")  # limits.max_parallel_tools is 4
        assert world.monotonic() - began == seconds
        assert [len(result.steps), result.text] == [6, "done"]

    simulate(main)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"city": "Paris", "n": 2}, ""),
        ({"city": 3}, "does not fit its schema: input.city must be string"),
        ({}, "does not fit its schema"),
        ("Paris", "must be an object, not str"),
    ],
)
def test_an_agent_that_is_given_records_gets_those_that_fit(given: Any, problem: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        schema = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
        change = all_of(
            choose("input", "validator", "schema", schema=schema),
            choose("input", "normalizer", "json"),
        )
        model = ScriptedModel(["fine"])
        result = await make(world, model, change=change).run(given, raise_on_error=False)
        if problem:
            assert problem in result.error
            assert model.calls == 0
        else:
            assert json.loads(model.requests[0].messages[-1].text) == given

    simulate(main)
