"""Stage 10's executor `streaming`: what is begun while the reply is still being written, and that
it changes nothing but the time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock
from lorimer.core.request import ToolInputDelta
from lorimer.core.result import PipelineResult
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools.early import _Arguments  # pyright: ignore[reportPrivateUsage]
from lorimer.tools.hooks import Answer
from tests.core.support import Change, Do, held, kinds, make, use
from tests.quick import quick
from tests.stages.effects import all_of
from tests.stages.support import choose

AFTER = TextBlock("one two three four five six seven eight nine ten")
"""Ten deltas of a second each, after the calls."""


class Peek(Do):
    early = True
    ended = 0

    def __init__(self, name: str = "peek", **options: Any) -> None:
        super().__init__(name, self._look, safe=True, **options)
        self.began: list[float] = []

    async def _look(self, input: object, context: Any) -> str:
        self.began.append(context.world.monotonic())
        try:
            await context.world.sleep(5)
        finally:
            self.ended += 1
        return f"seen {input}"


def streaming(
    world: SimulatedWorld, replies: Sequence[Any], tools: Sequence[Do], **options: Any
) -> Pipeline:
    change: Change = options.pop("change", lambda manifest: None)
    model = ScriptedModel(list(replies), delta_s=1.0)
    executor = options.pop("executor", "streaming")
    return make(
        world,
        model,
        tools=tools,
        change=all_of(choose("tool", "executor", executor), change),
        **options,
    )


def test_the_facts_are_those_of_partition_and_only_the_time_is_shorter() -> None:
    async def play(world: SimulatedWorld, executor: str) -> tuple[PipelineResult, float, Peek]:
        tool = Peek()
        calls = [use("peek", "a", at=1), use("peek", "b", at=2), AFTER]
        began = world.monotonic()
        result = await streaming(world, [calls, "done"], [tool], executor=executor).run("go")
        return result, world.monotonic() - began, tool

    async def main(world: SimulatedWorld) -> None:
        plain, slow, _ = await play(world, "partition")
        result, quick, tool = await play(world, "streaming")
        assert (slow, quick) == (12 + 5 + 1, 12 + 1)
        assert (len(tool.began), tool.ended) == (2, 2)
        assert kinds(result.events) == kinds(plain.events)
        assert [step.content for step in result.steps] == [step.content for step in plain.steps]
        assert result.messages == plain.messages

    simulate(main)


def test_a_call_that_is_not_over_when_the_reply_is_is_waited_for() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Peek()
        began = world.monotonic()
        reply = [use("peek"), TextBlock("one two")]
        result = await streaming(world, [reply, "done"], [tool]).run("go")
        assert world.monotonic() - began == 1 + 5 + 1
        assert result.steps[0].content == "seen {}"

    simulate(main)


@pytest.mark.parametrize("tool", ["writes", "asks for nothing early", "waits for one before it"])
def test_what_may_not_be_begun_early_is_not(tool: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        peek, write = Peek(), Do("write", effects=["write"])
        calls: list[Any] = [use("peek")]
        if tool == "writes":
            peek = Peek(effects=["write"])
        elif tool == "asks for nothing early":
            peek.early = False
        else:
            calls = [use("write"), use("peek")]
        await streaming(world, [[*calls, AFTER], "done"], [peek, write]).run("go")
        assert peek.began == [10 + len(calls)], "after the reply"

    simulate(main)


def test_a_hook_and_a_reviewer_are_not_overtaken() -> None:
    async def main(world: SimulatedWorld) -> None:
        peek = Peek()
        calls = [use("peek", key="AKIAABCDEFGHIJKLMNOP"), AFTER]
        change = choose("tool_review", "reviewers", ["sensitive"], sensitive={"action": "block"})
        result = await streaming(world, [calls, "done"], [peek], change=change).run("go")
        assert (peek.began, result.steps[0].is_error) == ([], True)
        pipeline = streaming(world, [calls, "done"], [peek])
        pipeline.hook("PreToolUse")(lambda told: Answer("block", "no"))
        result = await pipeline.run("go")
        assert (peek.began, result.steps[0].is_error) == ([], True)

    simulate(main)


def test_a_rule_that_refuses_is_not_overtaken() -> None:
    async def main(world: SimulatedWorld) -> None:
        peek = Peek()

        def change(manifest: EnvironmentManifest) -> None:
            manifest.permissions.deny = ["peek"]

        await streaming(world, [[use("peek"), AFTER], "done"], [peek], change=change).run(
            "go", raise_on_error=False
        )
        assert peek.began == []

    simulate(main)


def test_what_a_broken_reply_had_begun_is_cancelled_and_made_anew() -> None:
    async def main(world: SimulatedWorld) -> None:
        peek = Peek()
        broken = APIError("it broke off", code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE)
        replies = [[use("peek"), TextBlock("one"), broken], [use("peek", again=1), AFTER], "done"]
        pipeline = streaming(world, replies, [peek])
        result = await pipeline.run("go")
        assert (len(peek.began), peek.ended) == (2, 2)
        assert [step.content for step in result.steps] == ["seen {'again': 1}"]

    simulate(main)


def test_what_the_reply_does_not_hold_in_the_end_is_not_taken() -> None:
    async def main(world: SimulatedWorld) -> None:
        peek = Peek()
        early = ToolInputDelta(0, '{"at": 1}', "peek")
        reply = [early, AFTER, use("peek", at=2)]
        result = await streaming(world, [reply, "done"], [peek]).run("go")
        assert [step.content for step in result.steps] == ["seen {'at': 2}"]
        assert (len(peek.began), peek.ended) == (2, 2)

    simulate(main)


@pytest.mark.parametrize("at", [3.5, 20.0])
def test_a_cancelled_run_leaves_nothing_behind(at: float) -> None:
    async def main(world: SimulatedWorld) -> None:
        peek = Peek()

        async def forever(input: object, context: Any) -> str:
            peek.began.append(0)
            try:
                await context.world.sleep(1000)
            finally:
                peek.ended += 1
            return ""

        peek._act = forever
        pipeline = streaming(world, [[use("peek"), AFTER], "done"], [peek])
        task = asyncio.ensure_future(pipeline.run("go", raise_on_error=False))
        await world.sleep(at)
        pipeline.cancel()
        assert (await task).status == "cancelled"
        assert (len(peek.began), peek.ended) == (1, 1)
        assert len(asyncio.all_tasks()) == 1

    simulate(main)


def test_a_resumed_run_begins_nothing_that_is_recorded() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await streaming(world, [[use("peek"), AFTER], "done"], [Peek()]).run("go")
        cut = next(i for i, f in enumerate(whole.events) if f.type == "tool.result") + 1
        peek = Peek()
        journal = await held(world, whole.events[:cut])
        result = await streaming(world, ["done"], [peek], journal=journal).resume(whole.run_id)
        assert (peek.began, result.text) == ([], "done")

    simulate(main)


def test_arguments_in_pieces_made_to_be_slow_are_not() -> None:
    arguments = _Arguments()
    with quick():
        whole = arguments.add('{"x":[' + "1," * 1_000_000 + "1]}")
        assert whole.endswith("1]}")
        assert not any(arguments.add("{}") for _ in range(100_000))
