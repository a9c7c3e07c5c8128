"""Chains of models: who is asked when one fails, what listeners get, what is charged."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from lorimer.core.errors import APIError, ConfigError
from lorimer.core.limits import Limits
from lorimer.core.messages import Message, TextBlock, ThinkingBlock, ToolUse
from lorimer.core.model import ModelCall
from lorimer.core.request import Request, Response, Usage
from lorimer.models import CredentialBundle, Models, Price, ScriptedModel
from lorimer.models.failover import GO_ON
from lorimer.testing import SimulatedWorld, simulate
from tests.core.support import Do, check_history, use
from tests.models.chains import CODE, USED, Chain, asked, cut, down, facts

# --- before anything was released -----------------------------------------------------------------


def test_a_chain_whose_first_model_answers_is_as_one_model() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, ["hello"], ["never"])
        result = await chain.run()
        assert (result.text, chain.calls, chain.told) == ("hello", [1, 0], [])
        assert asked(result) == [""]
        assert not chain.resolver.health.troubled

    simulate(main)


def test_two_failures_in_a_row_and_the_next_model_is_asked() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down(), down(), "late"], ["here I am"], heard=True)
        result = await chain.run()
        assert (result.text, chain.calls) == ("here I am", [2, 1])
        assert asked(result) == ["", "", "two:m"]
        assert world.monotonic() == pytest.approx(1.0, abs=1e-6), "one wait, none before the other"
        assert chain.told == ["api.retry", "api.model_routed"]
        assert chain.signals[1].data == {
            "from": "one:m",
            "to": "two:m",
            "reason": "exec.api.server_error",
            "error": "exec.api.server_error as asked",
        }
        assert chain.shown == result.text
        check_history(result.messages)

    simulate(main)


def test_one_failure_is_a_matter_between_the_model_and_its_retries() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down(), "late"], ["never"])
        assert ((await chain.run()).text, chain.calls) == ("late", [2, 0])
        assert not chain.resolver.health.troubled, "an answer clears"

    simulate(main)


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (down(CODE.EXEC_API_RATE_LIMITED, retry_after_s=61.0), [1, 1]),  # longer than ever waited
        (down(CODE.EXEC_API_RATE_LIMITED, retry_after_s=30.0), [1, 1]),  # longer than the run has
        (down(CODE.EXEC_API_RATE_LIMITED, retry_after_s=10.0), [2, 0]),
        (down(CODE.EXEC_API_BAD_REQUEST, status=404), [1, 1]),  # there is no such model
        (Response((), usage=USED), [2, 0]),
        (down(CODE.EXEC_API_BAD_REQUEST, status=400), [1, 0]),
        (down(CODE.EXEC_API_AUTH_INVALID_KEY, status=401), [1, 0]),
        (down(CODE.EXEC_API_TERMINAL, status=402), [1, 0]),
        (down(CODE.EXEC_API_TOKEN_LIMIT), [1, 0]),
        (down(CODE.EXEC_API_REFUSED), [1, 0]),
    ],
)
def test_what_a_failure_is_decides_who_is_asked(failure: Any, calls: list[int]) -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [failure, "one"], ["two"])
        result = await chain.run(limits=Limits(timeout_s=20))
        assert chain.calls == calls
        if sum(calls) == 1:
            assert isinstance(failure, APIError)
            assert result.code is failure.code
        else:
            assert result.text == ("two" if calls[1] else "one")
        if isinstance(failure, APIError) and failure.code is not CODE.EXEC_API_RATE_LIMITED:
            assert not chain.resolver.health.troubled, "no outage"

    simulate(main)


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (down(CODE.EXEC_API_AUTH_INVALID_KEY, status=401), [1, 1]),
        (down(CODE.EXEC_API_AUTH_EXPIRED, status=401), [1, 1]),
        (down(CODE.EXEC_API_TERMINAL, status=402), [1, 1]),
        (down(CODE.EXEC_API_BAD_REQUEST, status=400), [1, 0]),
        (down(CODE.EXEC_API_TOKEN_LIMIT), [1, 0]),
        (down(CODE.EXEC_API_REFUSED), [1, 0]),
    ],
)
def test_who_is_turned_away_by_one_may_be_sent_to_the_next(failure: Any, calls: list[int]) -> None:
    def change(manifest: Any) -> None:
        manifest.stages["api"].config["on_refusal"] = "next"

    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [failure], ["two"], change=change)
        result = await chain.run()
        assert chain.calls == calls
        assert result.success == (calls[1] == 1)
        assert not chain.resolver.health.troubled, "no outage"
        assert (await chain.pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_when_all_turn_the_caller_away_each_reason_is_told() -> None:
    def change(manifest: Any) -> None:
        manifest.stages["api"].config["on_refusal"] = "next"

    async def main(world: SimulatedWorld) -> None:
        key, money = down(CODE.EXEC_API_AUTH_INVALID_KEY), down(CODE.EXEC_API_TERMINAL)
        chain = Chain(world, [key], [money], change=change)
        result = await chain.run()
        assert (result.code, chain.calls) == (CODE.EXEC_API_UNAVAILABLE, [1, 1])
        assert "one:m: exec.api.auth.invalid_key" in str(result.exception)
        assert "two:m: exec.api.terminal" in str(result.exception)

    simulate(main)


def test_a_strategy_that_never_retries_still_has_the_rest_of_the_chain() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(manifest: Any) -> None:
            manifest.stages["api"].strategies["retry"] = "no_retry"
            manifest.stages["api"].strategy_configs.pop("retry")

        chain = Chain(world, [down(), "x"], [down(), "x"], ["third"], change=change)
        assert ((await chain.run()).text, chain.calls) == ("third", [1, 1, 1])

    simulate(main)


def test_when_nobody_answers_one_error_names_everybody() -> None:
    async def main(world: SimulatedWorld) -> None:
        no_model = down(CODE.EXEC_API_BAD_REQUEST, status=404)
        chain = Chain(world, [down()] * 2, [no_model], [down(CODE.EXEC_API_NETWORK)] * 4)
        result = await chain.run()
        assert result.code is CODE.EXEC_API_UNAVAILABLE
        assert chain.calls == [2, 1, 4], "the last one has nobody behind it: all its retries"
        for part in (
            "one:m: exec.api.server_error as asked (exec.api.server_error)",
            "two:m: exec.api.bad_request as asked",
            "three:m: exec.api.network as asked",
        ):
            assert part in result.error
        assert isinstance(result.exception, APIError)
        assert result.exception.attempts == 7
        assert isinstance(result.exception.__cause__, APIError)

    simulate(main)


def test_a_conversation_goes_on_after_everybody_was_down() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [*[down()] * 2, "again"], [*[down()] * 4, "again"], preset="chat")
        assert (await chain.run("first")).code is CODE.EXEC_API_UNAVAILABLE
        await world.sleep(5)
        result = await chain.run("second")
        assert result.text == "again"
        assert [message.text for message in result.messages][-2:] == ["second", "again"]
        check_history(result.messages)

    simulate(main)


# --- health is shared -----------------------------------------------------------------------------


def test_the_next_run_passes_over_who_is_benched_and_probes_when_the_time_is_over() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down(), down(), down(), "back"], ["two"] * 9)
        await chain.run()
        result = await chain.run()
        assert (result.text, chain.calls, asked(result)) == ("two", [2, 2], ["two:m"])
        assert chain.signals[-1].data["reason"] == "benched"
        await world.sleep(5)
        assert (await chain.run()).text == "two"
        assert chain.calls == [3, 3], "one probe, which failed: for 10 s now"
        await world.sleep(9)
        await chain.run()
        assert chain.calls == [3, 4]
        await world.sleep(1)
        assert ((await chain.run()).text, chain.calls) == ("back", [4, 4])
        assert not chain.resolver.health.troubled

    simulate(main)


def test_of_many_runs_at_once_one_probes() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down(), down(), *["one"] * 9], ["two"] * 20, preset="minimal")
        await chain.run()
        await world.sleep(5)
        chain.models[0].latency_s = chain.models[1].latency_s = 1.0
        results = await asyncio.gather(*[chain.run() for _ in range(5)])
        assert sorted(result.text for result in results) == ["one", *["two"] * 4]

    simulate(main)


def test_a_probe_that_is_cancelled_is_given_back() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down(), down(), "never", "one"], ["two"] * 9)
        await chain.run()
        await world.sleep(5)
        chain.models[0].latency_s = 10.0
        cancelled = asyncio.create_task(chain.run())
        await world.sleep(1)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        chain.models[0].latency_s = 0.0
        assert (await chain.run()).text == "one"

    simulate(main)


def test_a_run_that_finds_all_benched_waits_as_its_strategy_says() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, ["one"], ["two"])
        health = chain.resolver.health
        health.bench("one:m", 50, now=world.monotonic())
        health.bench("two:m", 20, now=world.monotonic())
        result = await chain.run()
        assert (result.text, chain.calls) == ("two", [0, 1])
        assert world.monotonic() == pytest.approx(20, abs=0.01)
        assert chain.told == ["api.retry", "api.model_routed"]

    simulate(main)


def test_a_run_that_finds_all_benched_for_too_long_says_so_at_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, ["one"], ["two"])
        for name in ("one:m", "two:m"):
            chain.resolver.health.bench(name, 100, now=world.monotonic())
        result = await chain.run()
        assert result.code is CODE.EXEC_API_UNAVAILABLE
        assert "one:m: benched for 100 s more; two:m: benched for 100 s more" in result.error
        assert (chain.calls, world.monotonic()) == ([0, 0], 0.0)
        replayed = await chain.pipeline.replay(result.run_id)
        assert replayed.divergence is None

    simulate(main)


def test_a_single_model_is_never_refused_by_its_breaker() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [*[down()] * 3, "at last", "again"])
        assert ((await chain.run()).text, chain.calls) == ("at last", [4])
        chain.resolver.health.bench("one:m", 100, now=world.monotonic())
        assert (await chain.run()).text == "again"

    simulate(main)


# --- after something was released -----------------------------------------------------------------


def test_stop_fails_the_call_and_says_how_much_was_released() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [cut("half an ")], ["never"], heard=True)
        result = await chain.run()
        assert result.code is CODE.EXEC_API_STREAM_INCOMPLETE
        assert (chain.calls, chain.shown) == ([1, 0], "half an ")
        [reply] = facts(result, "model.reply")
        assert reply["error"]["released"] == len("half an ")
        assert "partial" not in reply["error"]

    simulate(main)


def test_nobody_listened_so_nothing_was_released_whatever_the_policy() -> None:
    async def main(world: SimulatedWorld) -> None:
        for policy in ("stop", "restart", "continue"):
            chain = Chain(world, [cut("half"), cut("half")], ["whole"], after_release=policy)
            result = await chain.run()
            assert (result.text, chain.calls) == ("whole", [2, 1])
            assert "api.stream_restart" not in chain.told
            assert all("released" not in r.get("error", {}) for r in facts(result, "model.reply"))

    simulate(main)


def test_restart_tells_listeners_to_discard_what_they_have() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(
            world, [cut("ab"), cut("abc")], ["whole"], after_release="restart", heard=True
        )
        result = await chain.run()
        assert (result.text, chain.shown, chain.calls) == ("whole", "whole", [2, 1])
        assert chain.told == [
            "api.retry",
            "api.stream_restart",
            "api.model_routed",
            "api.stream_restart",
        ]
        restarts = [e.data for e in chain.signals if e.type == "api.stream_restart"]
        assert restarts == [{"attempt": 1, "released": 2}, {"attempt": 2, "released": 3}]

    simulate(main)


def test_continue_has_the_rest_written_and_releases_nothing_twice() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(
            world,
            [cut("The answer "), cut("is ")],
            [[ThinkingBlock("hm"), TextBlock("42."), use("look", "a")], "Done."],
            after_release="continue",
            heard=True,
            tools=[Do("look")],
        )
        result = await chain.run()
        first = result.messages[1]
        assert first.text == "The answer is 42."
        assert [block.type for block in first.content] == ["thinking", "text", "tool_use"]
        assert "".join(chain.said) == chain.shown == "The answer is 42.Done."
        assert "api.stream_restart" not in chain.told
        seen = [chain.models[0].requests[1], chain.models[1].requests[0]]
        for request, partial in zip(seen, ("The answer ", "The answer is "), strict=True):
            last, before = request.messages[-1], request.messages[-2]
            assert (last.role, last.text) == ("user", GO_ON)
            assert before == Message("assistant", (TextBlock(partial),))
        check_history(result.messages)
        assert GO_ON not in str(result.messages), "that is no part of the conversation"
        replayed = await chain.pipeline.replay(result.run_id)
        assert replayed.divergence is None

    simulate(main)


@pytest.mark.parametrize(
    "pieces",
    [
        [TextBlock("I look. "), ToolUse("a", "look", {})],
        [ToolUse("a", "look", {})],
        [ThinkingBlock("hm")],
        [TextBlock(" \n")],
    ],
)
def test_what_cannot_be_continued_begins_anew(pieces: list[Any]) -> None:
    async def main(world: SimulatedWorld) -> None:
        broken = [*pieces, down(CODE.EXEC_API_NETWORK)]
        chain = Chain(
            world, [broken], ["whole"], after_release="continue", retry={"max_retries": 0}
        )
        chain.pipeline.on("*", lambda event: None)
        chain.pipeline.on("text.delta", chain.hear)
        result = await chain.run()
        assert (result.text, chain.shown) == ("whole", "whole")
        assert "api.stream_restart" in chain.told
        assert len(chain.models[1].requests[0].messages) == 1

    simulate(main)


def test_a_continuation_that_cannot_be_continued_gives_up_the_whole() -> None:
    async def main(world: SimulatedWorld) -> None:
        second = [TextBlock("b"), ToolUse("a", "look", {}), down(CODE.EXEC_API_NETWORK)]
        chain = Chain(
            world,
            [cut("a")],
            [second],
            ["anew"],
            after_release="continue",
            heard=True,
            retry={"max_retries": 0},
        )
        result = await chain.run()
        assert (result.text, chain.shown, chain.said) == ("anew", "anew", ["a", "b", "anew"])
        [restart] = [e.data for e in chain.signals if e.type == "api.stream_restart"]
        assert restart == {"attempt": 2, "released": 2}

    simulate(main)


def test_an_empty_continuation_is_the_end_of_the_answer() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(
            world,
            [cut("All of it.")],
            [""],
            after_release="continue",
            heard=True,
            retry={"max_retries": 0},
        )
        assert ((await chain.run()).text, chain.shown) == ("All of it.", "All of it.")

    simulate(main)


def test_a_stream_reader_gets_the_marker_in_its_place() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [cut("ab"), cut("cd")], ["whole"], after_release="restart")
        shown = ""
        async for event in chain.pipeline.run_stream("go"):
            if event.type == "text.delta":
                shown += str(event.data["text"])
            elif event.type == "api.stream_restart":
                assert event.data["released"] == len(shown)
                shown = ""
        assert shown == "whole"

    simulate(main)


# --- money ----------------------------------------------------------------------------------------

DEAR, CHEAP = Price(100, 500), Price(1, 5)


def test_every_attempt_is_charged_by_the_price_of_who_made_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        used = Usage(input_tokens=7, output_tokens=3)
        chain = Chain(
            world,
            [[TextBlock("ab"), down(usage=used)], down(usage=used)],
            ["whole"],
            after_release="continue",
            heard=True,
            prices=[DEAR, CHEAP],
        )
        result = await chain.run(limits=Limits(max_cost_usd=5))
        dead, alive = 7 * 100_000 + 3 * 500_000, 10 * 1_000 + 5 * 5_000
        assert [reply["cost"] for reply in facts(result, "model.reply")] == [dead, dead, alive]
        assert result.cost_nano == 2 * dead + alive
        assert result.usage == used + used + USED
        kept = [intent["reserve"] for intent in facts(result, "model.intent")]
        assert kept[0] > 50 * kept[2] > 0, "set aside by the target's own price"
        assert (await chain.journal.balance(result.run_id)).spent == result.cost_nano

    simulate(main)


def test_a_dead_attempt_without_usage_costs_nothing_and_without_a_price_its_reserve() -> None:
    class Odd(ScriptedModel):
        def price(self, usage: Usage, *, model: str = "") -> int | None:
            return None if usage == Usage(input_tokens=1) else super().price(usage)

    async def main(world: SimulatedWorld) -> None:
        failures = [down(), down(usage=Usage(input_tokens=1))]
        models = Models(
            providers={
                "one": Odd(failures, provider="one", name="m", price=DEAR),
                "two": ScriptedModel(["fine"], provider="two", name="m", price=CHEAP),
            }
        )
        chain = Chain(world, [], [], models=models)
        result = await chain.run(limits=Limits(max_cost_usd=5))
        intents, replies = facts(result, "model.intent"), facts(result, "model.reply")
        assert "cost" not in replies[0]
        assert replies[1]["cost"] == intents[1]["reserve"] > 0

    simulate(main)


def test_a_chain_with_a_price_unknown_is_refused_before_anybody_is_asked() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, ["one"], ["two"], prices=[DEAR, None])
        result = await chain.run(limits=Limits(max_cost_usd=5))
        assert (result.code, chain.calls) == (CODE.EXEC_API_UNPRICED, [0, 0])
        assert (await chain.pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_the_next_model_is_not_asked_when_it_could_cost_too_much() -> None:
    async def main(world: SimulatedWorld) -> None:
        chain = Chain(world, [down()] * 2, ["two"], prices=[Price(0, 0), DEAR])
        result = await chain.run(limits=Limits(max_cost_usd=0.01))
        assert (result.code, chain.calls) == (CODE.EXEC_LIMIT_COST, [2, 0])
        assert (await chain.pipeline.replay(result.run_id)).divergence is None

    simulate(main)


# --- making a chain -------------------------------------------------------------------------------


def test_every_part_that_cannot_be_used_is_named_when_the_chain_is_made() -> None:
    models = Models(CredentialBundle(env={}))
    with pytest.raises(ConfigError) as caught:
        models.targets("scripted:echo,anthropic:claude-haiku-4-5,antropic:x,openai:gpt-5")
    assert len(caught.value.problems) == 3
    for word in ("ANTHROPIC_API_KEY", "antropic", "OPENAI_API_KEY"):
        assert word in str(caught.value)


def test_a_single_part_fails_as_ever() -> None:
    models = Models(CredentialBundle(env={}))
    with pytest.raises(ConfigError) as chained:
        models.targets("anthropic:x")
    with pytest.raises(ConfigError) as plain:
        models.resolve("anthropic:x")
    assert str(chained.value) == str(plain.value)


@pytest.mark.parametrize("spec", ["a:x,", ",a:x", "a:x,,b:y", ","])
def test_a_hole_in_a_chain_is_a_fault(spec: str) -> None:
    with pytest.raises(ConfigError, match="nothing between two commas"):
        Models(providers={"a": ScriptedModel(), "b": ScriptedModel()}).targets(spec)


def test_a_chain_has_each_target_once_with_its_own_effort() -> None:
    models = Models(providers={"a": ScriptedModel(), "b": ScriptedModel()})
    targets = models.targets("a:x:high, b/y ,a:x:high,a:x")
    assert [(t.spec, t.effort, t.place) for t in targets] == [
        ("a:x:high", "high", "a:x"),
        ("b:y", "", "b:y"),
        ("a:x", "", "a:x"),
    ]
    assert models.targets("a:x:high, b/y ,a:x:high,a:x") is targets
    models.register("c", ScriptedModel())
    assert models.targets("a:x:high, b/y ,a:x:high,a:x") is not targets


def test_the_request_is_the_targets_own() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[Request] = []

        def answer(request: Request) -> Any:
            seen.append(request)
            return down(status=None) if len(seen) < 3 else "fine"

        models = Models(
            providers={
                "one": ScriptedModel(answer, name="small"),
                "two": ScriptedModel(answer, name="large"),
            }
        )
        chain = Chain(
            world,
            [],
            [],
            models=models,
            change=lambda m: setattr(m.model, "model", "one:small:low,two:large:high"),
        )
        assert (await chain.run()).text == "fine"
        assert [(r.model, r.effort) for r in seen] == [
            ("small", "low"),
            ("small", "low"),
            ("large", "high"),
        ]

    simulate(main)


# --- sinks ----------------------------------------------------------------------------------------


class Sink:
    def __init__(self, *, broken: bool = False) -> None:
        self.calls: list[ModelCall] = []
        self.traces: list[tuple[ModelCall, Request, Response | None]] = []
        self._broken = broken

    def record_usage(self, call: ModelCall) -> None:
        self.calls.append(call)
        if self._broken:
            raise ValueError("broken")

    def record_trace(self, call: ModelCall, request: Request, response: Response | None) -> None:
        self.traces.append((call, request, response))
        if self._broken:
            raise ValueError("broken")


def _with(sink: Sink, *scripts: Any) -> Models:
    scripted = [
        ScriptedModel(script, provider=name, name="m", usage=USED, price=CHEAP, latency_s=2.0)
        for name, script in zip(("one", "two"), scripts, strict=False)
    ]
    return Models(
        providers={model.provider: model for model in scripted}, usage_sink=sink, trace_sink=sink
    )


@pytest.mark.parametrize("broken", [False, True])
def test_sinks_are_told_of_every_attempt_once(
    broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: SimulatedWorld) -> None:
        sink = Sink(broken=broken)
        cached = Usage(cache_read_input_tokens=9)
        models = _with(sink, [down(usage=cached), down()], ["fine"])
        chain = Chain(world, [], [], models=models)
        result = await chain.run()
        assert result.text == "fine"
        assert [(c.target, c.attempt, c.code, c.usage, c.duration_s) for c in sink.calls] == [
            ("one:m", 1, "exec.api.server_error", cached, 2.0),
            ("one:m", 2, "exec.api.server_error", Usage(), 2.0),
            ("two:m", 3, "", USED, 2.0),
        ]
        assert {c.run_id for c in sink.calls} == {result.run_id}
        assert sum(c.cost_nano for c in sink.calls) == result.cost_nano
        assert [trace[0] for trace in sink.traces] == sink.calls
        asked, answered = sink.traces[-1][1:]
        assert asked.model == "m" and answered is not None and answered.text == "fine"
        await chain.pipeline.replay(result.run_id)
        assert len(sink.calls) == 3, "a replay tells nothing"

    with caplog.at_level(logging.CRITICAL + 1, "lorimer.models"):
        simulate(main)


def test_sinks_are_told_of_an_attempt_that_is_cut_off() -> None:
    async def main(world: SimulatedWorld) -> None:
        sink = Sink()
        chain = Chain(world, [], models=_with(sink, ["never"]))
        result = await chain.run(limits=Limits(timeout_s=1))
        assert result.status == "timeout"
        [call] = sink.calls
        assert (call.code, call.duration_s, call.attempt) == ("exec.run.cancelled", 1.0, 1)
        assert sink.traces[0][2] is None

    simulate(main)
