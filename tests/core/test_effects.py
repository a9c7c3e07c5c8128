"""Effects of a stage of the host's: recorded, and not made twice."""

from __future__ import annotations

import pytest

from lorimer.core.context import Safety
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.testing import SimulatedWorld, simulate
from tests.core.support import Do, held, kinds, make, only, use

CODE = ExecutorErrorCode


class Weather(Stage[object, object]):
    """Asks the outside, as a stage of the host's does: through `effect`."""

    name = "weather"
    order = 3

    def __init__(self, safety: Safety = Safety.READ_ONLY, *, fails: bool = False) -> None:
        self.safety = safety
        self.fails = fails
        self.asked = 0
        self.got: list[JSON] = []

    async def execute(self, input: object, state: PipelineState) -> object:
        async def ask() -> dict[str, JSON]:
            self.asked += 1
            if self.fails:
                raise ToolExecutionError("no sky", code=CODE.EXEC_TOOL_TRANSPORT)
            return {"celsius": 20 + self.asked}

        answer = await state.run.effect("weather", "here", ask, request=b"here", safety=self.safety)
        self.got.append(answer["celsius"])
        await state.run.wait_for_reader()  # nobody reads a stream: no wait
        return input


@pytest.mark.parametrize("safety", Safety)
def test_a_recorded_effect_is_not_made_again(safety: Safety) -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, [[use("look")], "done"], "chat", tools=[Do("look")])
        first.register_stage(Weather(safety))
        whole = await first.run("go")
        effects = [fact for fact in whole.events if fact.type.startswith("effect")]
        assert (
            kinds(effects) == ["effect"]
            if safety is Safety.READ_ONLY
            else [
                "effect.intent",
                "effect",
            ]
        )
        journal = await held(world, whole.events[:4])
        pipeline = make(world, [[use("look")], "done"], "chat", tools=[Do("look")], journal=journal)
        stage = Weather(safety)
        pipeline.register_stage(stage)
        await pipeline.resume(whole.run_id)
        assert (stage.asked, stage.got) == (0, [21])

    simulate(main)


def test_the_cost_of_a_recorded_effect_is_charged_when_the_run_is_resumed() -> None:
    class Paid(Stage[object, object]):
        name = "paid"
        order = 3

        async def execute(self, input: object, state: PipelineState) -> object:
            async def pay() -> dict[str, JSON]:
                return {"cost": 7_000}

            await state.run.effect("paid", "", pay, request=b"", safety=Safety.IDEMPOTENT)
            return input

    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["done"], "chat")
        first.register_stage(Paid())
        whole = await first.run("go")
        journal = await held(world, whole.events[:3])
        assert kinds(whole.events[:3]) == ["run.start", "effect.intent", "effect"]
        pipeline = make(world, ["done"], "chat", journal=journal)
        pipeline.register_stage(Paid())
        assert whole.cost_nano == (await pipeline.resume(whole.run_id)).cost_nano == 7_000

    simulate(main)


def test_a_failed_effect_fails_the_same_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["never"], "chat")
        first.register_stage(Weather(fails=True))
        whole = await first.run("go", raise_on_error=False)
        assert whole.code is CODE.EXEC_TOOL_TRANSPORT
        assert only(whole.events, "effect")["error"] == {
            "code": "exec.tool.transport",
            "message": "no sky",
        }
        journal = await held(world, whole.events[:-1])
        pipeline = make(world, ["never"], "chat", journal=journal)
        stage = Weather()
        pipeline.register_stage(stage)
        again = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert (again.code, again.error, stage.asked) == (whole.code, whole.error, 0)

    simulate(main)


def test_an_unsafe_effect_of_a_stage_that_was_begun_before_a_crash_ends_the_run_unknown() -> None:
    async def main(world: SimulatedWorld) -> None:
        first = make(world, ["done"], "chat")
        first.register_stage(Weather(Safety.UNSAFE))
        whole = await first.run("go")
        journal = await held(world, whole.events[:2])
        pipeline = make(world, ["done"], "chat", journal=journal)
        stage = Weather(Safety.UNSAFE)
        pipeline.register_stage(stage)
        result = await pipeline.resume(whole.run_id, raise_on_error=False)
        assert result.code is CODE.EXEC_TOOL_OUTCOME_UNKNOWN
        assert stage.asked == 0

    simulate(main)


class Miscounts(Stage[object, object]):
    name, order = "miscounts", 5

    async def execute(self, input: object, state: PipelineState) -> object:
        async def call() -> dict[str, JSON]:
            return {"usage": {"input_tokens": 7, "output_tokens": None}, "cost": 70}

        await state.run.effect("embed", "0", call, request=b"", safety=Safety.READ_ONLY)
        return input


def test_what_is_no_number_of_tokens_counts_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["done", "done"])
        before = (await pipeline.run("go")).usage
        pipeline.register_stage(Miscounts())
        usage = (await pipeline.run("go")).usage
        assert usage.input_tokens == before.input_tokens + 7
        assert usage.output_tokens == before.output_tokens

    simulate(main)
