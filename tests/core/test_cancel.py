"""`Pipeline.cancel`: the run ends, or is suspended, and its caller gets the result."""

from __future__ import annotations

import asyncio

import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.cancel import Cancellation, Reason
from lorimer.core.events import Event
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate

KINDS = ("run.start", "stage.enter", "model.intent", "model.reply", "iteration.end", "api.response")


def _pipeline(world: SimulatedWorld) -> Pipeline:
    models = Models(providers={"scripted": ScriptedModel(["slow", "slow"], latency_s=5)})
    return PipelinePresets.chat(model="scripted:m", models=models, world=world)


@pytest.mark.parametrize("reason", [Reason.CALLER, Reason.SHUTDOWN, Reason.CLOSED])
@pytest.mark.parametrize("kind", KINDS)
def test_by_a_handler_at_any_event(kind: str, reason: Reason) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = _pipeline(world)

        def stop(event: Event) -> None:
            assert pipeline.cancel(reason)

        pipeline.on(kind, stop)
        result = await pipeline.run("go", raise_on_error=False)
        if kind == "iteration.end" and result.status == "ok":
            return  # it goes with run.end: too late
        assert result.status == ("suspended" if reason is Reason.SHUTDOWN else "cancelled")
        last = "run.suspended" if reason is Reason.SHUTDOWN else "run.end"
        assert result.events[-1].type == last
        assert not pipeline.cancel()

    simulate(main)


def test_by_another_task_while_the_model_answers() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = _pipeline(world)
        run = asyncio.ensure_future(pipeline.run("go", raise_on_error=False))
        await world.sleep(1)
        assert pipeline.cancel(Reason.SHUTDOWN)
        result = await run
        assert result.status == "suspended"
        again = await pipeline.resume(result.run_id)
        assert (again.status, again.text) == ("ok", "slow")

    simulate(main)


def test_nothing_to_cancel() -> None:
    async def main(world: SimulatedWorld) -> None:
        assert not _pipeline(world).cancel()

    simulate(main)


def test_a_run_whose_loop_is_closed_has_nothing_to_stop() -> None:
    cancellation, stopped = Cancellation(), list[str]()

    async def main() -> None:
        cancellation.enter(asyncio.get_running_loop())
        cancellation.in_its_loop(lambda: stopped.append("here"))

    asyncio.run(main())
    cancellation.in_its_loop(lambda: stopped.append("there"))
    assert stopped == ["here"]


def test_the_first_who_stops_a_run_counts_and_the_last_words_are_not_cut_off() -> None:
    async def main() -> None:
        cancelled, ended = Cancellation(), Cancellation()
        cancelled.cancel(Reason.CALLER)
        cancelled.kill("too slow")
        assert (cancelled.reason, cancelled.kill_reason) == (Reason.CALLER, "")
        ended.finished = True
        ended.kill("too slow")
        ended.drain(Reason.SHUTDOWN, 5)
        assert (ended.reason, ended.kill_reason) == (None, "")
        assert not ended.scope.cancel_called

    asyncio.run(main())
