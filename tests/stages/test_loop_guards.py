"""Stage 16: runs that go round in circles are told so and stopped, those that get somewhere are
not; and budgets of several dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import Message, ToolUse
from lorimer.core.result import PipelineResult
from lorimer.models.pricing import Price
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import Tool
from tests.core.support import Change, Do, check_history, held, make, use
from tests.stages.support import choose, configure

CODE = ExecutorErrorCode
ALL = ["identical", "alternating", "no_progress", "error_streak"]


def guarded(*, guards: list[str] = ALL, polling: Sequence[str] = (), **configs: Any) -> Change:
    def change(manifest: EnvironmentManifest) -> None:
        choose("loop", "guards", guards, **configs)(manifest)
        configure("loop", polling_tools=list(polling))(manifest)

    return change


def run(
    turns: Sequence[Any], change: Change, tools: Sequence[Tool]
) -> tuple[PipelineResult, list[Message]]:
    """The result, and what the model was last asked."""

    async def main(world: SimulatedWorld) -> tuple[PipelineResult, list[Message]]:
        model = ScriptedModel([*turns, "done"])
        pipeline = make(world, model, change=change, tools=tools)
        result = await pipeline.run("go", raise_on_error=False)
        check_history(result.messages)
        return result, list(model.requests[-1].messages)

    return simulate(main)


def notes(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages if message.text.startswith("[Note from")]


def test_a_run_in_circles_is_told_once_and_then_stopped_with_the_guards_own_code() -> None:
    result, asked = run([[use("look")]] * 20, guarded(), [Do("look")])
    assert (result.status, result.code) == ("error", CODE.EXEC_LOOP_IDENTICAL)
    assert result.iterations == 5
    assert "the same calls were made 5 times in a row" in result.error
    [note] = notes(asked)
    assert "3 times in a row" in note


def test_a_model_that_heeds_the_warning_goes_on_and_is_warned_anew_later() -> None:
    same, other = [use("look")], [use("count")]
    numbers = iter(range(99))
    tools = [Do("look"), Do("count", lambda _, __: str(next(numbers)))]
    change = guarded(guards=["identical"])
    result, asked = run([same, same, same, other, other, same, same, same, other], change, tools)
    assert result.status == "ok"
    assert len(notes(asked)) == 2


def test_the_same_call_with_other_results_is_progress() -> None:
    numbers = iter(range(99))
    tools = [Do("count", lambda _, __: str(next(numbers)))]
    result, asked = run([[use("count")]] * 30, guarded(), tools)
    assert (result.status, notes(asked)) == ("ok", [])


def test_other_calls_with_the_same_result_are_progress() -> None:
    result, asked = run([[use("look", at=n)] for n in range(30)], guarded(), [Do("look")])
    assert (result.status, notes(asked)) == ("ok", [])


@pytest.mark.parametrize(
    "arguments",
    [
        [{"at": 1, "of": "a"}, {"of": "a", "at": 1}],
        [{"at": 1}, {"at": 1.0}],
        [{"at": [1, {"of": "a"}]}],
    ],
)
def test_the_same_arguments_are_known_however_they_are_written(
    arguments: list[dict[str, Any]],
) -> None:
    turns = [[use("look", **arguments[n % len(arguments)])] for n in range(20)]
    result, _ = run(turns, guarded(guards=["identical"]), [Do("look")])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_IDENTICAL, 5)


def test_other_lists_among_the_arguments_are_progress() -> None:
    turns = [[use("look", at=[n])] for n in range(20)]
    result, asked = run(turns, guarded(), [Do("look")])
    assert (result.status, notes(asked)) == ("ok", [])


@pytest.mark.parametrize("marked", ["by the tool", "by the manifest"])
def test_polling_is_not_stopped(marked: str) -> None:
    look = Do("look")
    look.polling = marked == "by the tool"
    polling = ["look"] if marked == "by the manifest" else []
    result, asked = run([[use("look")]] * 40, guarded(polling=polling), [look])
    assert (result.status, notes(asked)) == ("ok", [])


def test_polling_does_not_hide_a_circle_nor_end_one() -> None:
    wait = Do("wait")
    wait.polling = True
    turns = [[use("wait")], [use("look")]] * 20
    result, _ = run(turns, guarded(), [wait, Do("look")])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_IDENTICAL, 10)
    beside = [[use("wait"), use("look")]] * 20
    result, _ = run(beside, guarded(), [wait, Do("look")])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_IDENTICAL, 5)


def test_a_polling_tool_that_only_fails_is_stopped() -> None:
    def fail(input: object, context: object) -> str:
        raise RuntimeError("no")

    wait = Do("wait", fail)
    wait.polling = True
    result, asked = run([[use("wait")]] * 20, guarded(), [wait])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_ERROR_STREAK, 8)
    assert "all calls of the last 4 turns failed" in notes(asked)[0]


@pytest.mark.parametrize("period", [2, 3])
def test_there_and_back_again(period: int) -> None:
    turns = [[use("look", at=n % period)] for n in range(30)]
    result, _ = run(turns, guarded(guards=["alternating"]), [Do("look")])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_ALTERNATING, 5 * period)


@pytest.mark.parametrize("cycle", [4, 7, 15])
def test_longer_circles_bring_nothing_new(cycle: int) -> None:
    turns = [[use("look", at=n % cycle)] for n in range(60)]
    result, _ = run(turns, guarded(), [Do("look")])
    assert (result.code, result.iterations) == (CODE.EXEC_LOOP_NO_PROGRESS, cycle + 10)


def test_a_guard_may_warn_and_never_stop() -> None:
    change = guarded(guards=["identical"], identical={"warn_after": 2, "stop_after": None})
    result, asked = run([[use("look")]] * 30, change, [Do("look")])
    assert (result.status, len(notes(asked))) == ("ok", 1)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    from lorimer import ConfigError

    with pytest.raises(ConfigError, match=r"stages\[16\].*identical.*stop_after must not be less"):
        run([], guarded(identical={"warn_after": 4, "stop_after": 2}), [])


def test_a_resumed_run_is_stopped_in_the_same_place() -> None:
    async def main(world: SimulatedWorld) -> None:
        turns: list[list[ToolUse]] = [[use("look")]] * 20
        whole = await make(world, turns, change=guarded(), tools=[Do("look")]).run(
            "go", raise_on_error=False
        )
        ends = [i for i, fact in enumerate(whole.events) if fact.type == "iteration.end"]
        for cut in (ends[1], ends[2] + 1, ends[3]):
            journal = await held(world, whole.events[:cut])
            left = 5 - sum(f.type == "model.reply" for f in whole.events[:cut])
            model = ScriptedModel(turns[:left])
            pipeline = make(world, model, change=guarded(), tools=[Do("look")], journal=journal)
            result = await pipeline.resume(whole.run_id, raise_on_error=False)
            assert result.code is CODE.EXEC_LOOP_IDENTICAL
            assert [m.text for m in result.messages] == [m.text for m in whole.messages]

    simulate(main)


# --- budgets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dimension", "config"),
    [
        ("turns", {"max_turns": 4}),
        ("cost", {"max_cost_usd": 60e-6}),
        ("tokens", {"max_tokens": 60}),
        ("wall_clock", {"max_seconds": 40}),
        ("tool_calls", {"max_tool_calls": 4}),
    ],
)
def test_each_dimension_has_the_run_wrapped_up_and_then_completed(
    dimension: str, config: dict[str, Any]
) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def act(input: object, context: Any) -> str:
            await context.world.sleep(10)
            return str(world.monotonic())

        budget = choose("loop", "controller", "multi_dim_budget", **config)
        model = ScriptedModel([[use("work")]] * 9, price=Price(1.0, 1.0))
        pipeline = make(world, model, change=budget, tools=[Do("work", act)])
        result = await pipeline.run("go")
        reasons = [
            str(fact.data.get("reason", "tool_calls"))
            for fact in result.events
            if fact.type == "iteration.end"
        ]
        assert reasons == [
            "tool_calls",
            "tool_calls",
            f"wrap_up:{dimension}",
            f"budget:{dimension}",
        ]
        assert len(notes(result.messages)) == 1
        # a resumed run decides as it had decided, although the clock stands elsewhere
        before = next(i for i, f in enumerate(result.events) if f.type == "run.end")
        journal = await held(world, result.events[:before])
        await world.sleep(1000)
        again = make(world, [], change=budget, tools=[Do("work", act)], journal=journal)
        resumed = await again.resume(result.run_id)
        assert resumed.messages == result.messages

    simulate(main)


def test_what_a_budget_does_not_say_is_the_runs_limit() -> None:
    async def main(world: SimulatedWorld) -> None:
        numbers = iter(range(99))
        count = Do("count", lambda _, __: str(next(numbers)))
        change = choose("loop", "controller", "multi_dim_budget", dimensions=["tool_calls"])
        pipeline = make(world, [[use("count")]] * 20, change=change, tools=[count])
        result = await pipeline.run("go", limits=Limits(max_tool_calls=10))
        assert (result.status, result.iterations) == ("ok", 9)

    simulate(main)
