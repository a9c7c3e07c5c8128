"""Rows 64 to 73 of the kernel's specification, as a host of executors meets them: tiers, chains,
health, sinks, typed answers. Each in depth: `tests/models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import TextBlock
from lorimer.core.model import ModelCall
from lorimer.core.request import Request, Response, Usage
from lorimer.core.world import World
from lorimer.models import (
    AliasCycle,
    Compatible,
    CredentialBundle,
    Models,
    ModelSpec,
    ProviderContext,
    Tiers,
    generate_as,
)
from lorimer.models.pricing import Price
from lorimer.run import Executor, RunnableAgent, RunResult
from lorimer.testing import ScriptedModel, simulate
from tests.models.chains import CODE, down

pytestmark = pytest.mark.anyio


def scripted(**scripts: Any) -> dict[str, ScriptedModel]:
    """A provider for each."""
    return {
        name: ScriptedModel(script, provider=name, name="m", price=Price(1.0, 1.0))
        for name, script in scripts.items()
    }


def always(text: str) -> Any:
    return lambda request: text


async def said(executor: Executor, model: str = "") -> str:
    return (await executor.run(RunnableAgent(model=model), "hi")).output


async def test_row_64_a_configured_tier_takes_the_place_of_the_fallback() -> None:
    providers = scripted(one=always("one"), two=always("two"))
    live: dict[str, str] = {}
    tiers = Tiers({"fast": "one:m"}, source=live.get)
    executor = Executor(models=Models(providers=providers, tiers=tiers))
    assert await said(executor) == "one"
    live["fast"] = "two:m"
    tiers.reload()
    assert await said(executor) == "two"


async def test_row_65_a_tier_is_kept_for_30_s_names_no_tier_and_keeps_its_effort() -> None:
    efforts: list[str] = []

    def hear(request: Request) -> str:
        efforts.append(request.effort)
        return "one"

    live, now = {"fast": "one:m:low"}, [0.0]
    tiers = Tiers({"strong": "two:m"}, source=live.get, clock=lambda: now[0])
    models = Models(providers=scripted(one=hear, two=always("two")), tiers=tiers)
    executor = Executor(models=models)
    assert (await said(executor), await said(executor, "strong:high")) == ("one", "two")
    live["fast"] = "two:m"
    now[0] = 29.9
    assert (await said(executor), efforts) == ("one", ["low", "low"])
    now[0] = 30.0
    assert await said(executor) == "two"
    live["fast"] = "one:m:high"
    models.reload()
    assert (await said(executor), efforts[-1]) == ("one", "high")
    live["fast"] = "strong"
    models.reload()
    result = await executor.run(RunnableAgent(), "hi")
    assert (result.status, "names the tier 'strong'" in result.error) == ("error", True)


def test_row_66_the_next_of_a_chain_answers_in_the_place_of_one_that_fails() -> None:
    async def main(world: World) -> tuple[RunResult, list[int]]:
        providers = scripted(one=[down(), down()], two=["here"])
        executor = Executor(models=Models(providers=providers), tier="one:m,two:m", world=world)
        result = await executor.run(RunnableAgent(), "hi")
        return result, [model.calls for model in providers.values()]

    result, calls = simulate(main)
    assert (result.status, result.output, calls) == ("ok", "here", [2, 1])
    assert len(result.messages) == 2


async def test_row_67_ids_go_verbatim_cycles_are_told_and_duplicates_dropped() -> None:
    asked: list[str] = []

    def factory(spec: ModelSpec, context: ProviderContext) -> ScriptedModel:
        asked.append(spec.model)
        return ScriptedModel(always("yes"), name=spec.model, price=Price(1.0, 1.0))

    models = Models(providers={"hub": factory}, tiers=Tiers(aliases={"a": "hub:x", "b": "a"}))
    executor = Executor(models=models)
    assert await said(executor, "hub/meta/llama-4:free") == "yes"
    assert asked == ["meta/llama-4:free"]
    assert models.expand("a,hub:x,b") == ["hub:x"]
    with pytest.raises(AliasCycle, match="p.*q.*p"):
        Tiers(aliases={"p": "q", "q": "p"})


async def test_row_68_providers_of_the_environment_fail_only_when_they_are_used() -> None:
    env = {
        "LORIMER_PROVIDER_BAD": "nonsense",
        "LORIMER_PROVIDER_MY_GPU": "vllm://token@gpu.test/v1",
    }
    models = Models(CredentialBundle(env=env), providers=scripted(one=always("one")))
    executor = Executor(models=models, tier="one:m")
    assert await said(executor) == "one"
    made = models.find("my-gpu")
    assert isinstance(made, Compatible)
    assert made.base_url == "https://gpu.test/v1"
    bad = await executor.run(RunnableAgent(model="bad:m"), "hi")
    assert bad.status == "error"
    assert "LORIMER_PROVIDER_BAD" in bad.error


def test_row_69_two_failures_bench_for_5_s_then_twice_as_long_and_an_answer_clears() -> None:
    async def main(world: World) -> list[Any]:
        one = [*[down()] * 2, down(), "back"]
        models = Models(providers=scripted(one=one, two=always("two")))
        executor = Executor(models=models, tier="one:m,two:m", world=world)
        seen: list[Any] = []

        async def look() -> None:
            output = await said(executor)
            found = models.health.snapshot(world.monotonic())
            seen.append((output, *[(each.breaker, round(each.left_s)) for each in found]))

        await look()
        await look()  # it is passed over, and not asked
        await world.sleep(5)
        await look()  # one probe, which fails
        await world.sleep(10)
        await look()
        return seen

    benched, longer = ("open", 5), ("open", 10)
    assert simulate(main) == [("two", benched), ("two", benched), ("two", longer), ("back",)]


@pytest.mark.parametrize(
    ("failure", "output", "benched"),
    [
        (down(CODE.EXEC_API_AUTH_INVALID_KEY, status=401), "", 0),
        (down(CODE.EXEC_API_BAD_REQUEST, status=400), "", 0),
        (down(CODE.EXEC_API_BAD_REQUEST, status=404), "two", 0),
        (down(), "two", 1),
    ],
    ids=["401", "400", "no such model", "500"],
)
def test_row_70_what_a_failure_is_decides_who_is_asked(
    failure: APIError, output: str, benched: int
) -> None:
    async def main(world: World) -> None:
        providers = scripted(one=[failure] * 2, two=["two"])
        models = Models(providers=providers)
        executor = Executor(models=models, tier="one:m,two:m", world=world)
        result = await executor.run(RunnableAgent(), "hi")
        assert (result.output, len(models.health.troubled)) == (output, benched)
        assert output or (result.code, providers["two"].calls) == (failure.code, 0)

    simulate(main)


def test_row_70_when_all_have_failed_one_error_names_them() -> None:
    async def main(world: World) -> RunResult:
        none = down(CODE.EXEC_API_BAD_REQUEST, status=404)
        models = Models(providers=scripted(one=[down()] * 2, two=[none]))
        executor = Executor(models=models, tier="one:m,two:m", world=world)
        return await executor.run(RunnableAgent(), "hi")

    result = simulate(main)
    assert (result.status, result.code) == ("error", CODE.EXEC_API_UNAVAILABLE)
    assert "one:m: exec.api.server_error" in result.error
    assert "two:m: exec.api.bad_request" in result.error


class Told:
    """Both sinks."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.calls: list[ModelCall] = []
        self.answers: list[str] = []

    def record_usage(self, call: ModelCall) -> None:
        self.calls.append(call)
        if self.broken:
            raise RuntimeError("a broken sink")

    def record_trace(self, call: ModelCall, request: Request, response: Response | None) -> None:
        self.answers.append("" if response is None else response.text)
        if self.broken:
            raise RuntimeError("a broken sink")


@pytest.mark.parametrize("sinks", ["none", "both", "broken"])
async def test_row_71_sinks_are_told_where_there_are_some(
    sinks: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(broken=sinks == "broken")
    options: Mapping[str, Any] = {} if sinks == "none" else {"usage_sink": told, "trace_sink": told}
    executor = Executor(models=Models(providers=scripted(one=["hello"]), **options), tier="one:m")
    with caplog.at_level("CRITICAL", "lorimer.models"):
        result = await executor.run(RunnableAgent(), "hi")
    assert (result.status, result.output) == ("ok", "hello")
    assert [call.run_id for call in told.calls] == ([] if sinks == "none" else [result.run_id])
    assert told.answers == ([] if sinks == "none" else ["hello"])


def test_row_72_each_call_is_told_once_also_one_that_was_all_cached() -> None:
    cached = Usage(cache_read_input_tokens=900)

    async def main(world: World) -> tuple[Told, RunResult]:
        told = Told()
        answer = Response((TextBlock("from the cache"),), usage=cached)
        models = Models(providers=scripted(one=[down(), answer]), usage_sink=told)
        executor = Executor(models=models, tier="one:m", world=world)
        return told, await executor.run(RunnableAgent(), "hi")

    told, result = simulate(main)
    assert result.output == "from the cache"
    assert [(call.attempt, call.usage, call.code) for call in told.calls] == [
        (1, Usage(), "exec.api.server_error"),
        (2, cached, ""),
    ]
    assert result.usage == cached
    assert sum(call.cost_nano for call in told.calls) == result.cost_nano > 0


class City(BaseModel):
    name: str
    people: int


async def test_row_73_a_typed_answer_is_a_value_or_an_error_that_names_the_model() -> None:
    fenced = 'Here it is:\n```json\n{"name": "Ulm", "people": 126000}\n```'
    city = await generate_as(City, "Ulm?", model=ScriptedModel([fenced]))
    assert city == City(name="Ulm", people=126_000)
    with pytest.raises(APIError, match="'m1' is no City") as caught:
        await generate_as(City, "Ulm?", model=ScriptedModel(["No."] * 2, name="m1"))
    assert caught.value.code is ExecutorErrorCode.EXEC_API_OUTPUT_INVALID
