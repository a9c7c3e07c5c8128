"""Stage 15, through pipelines: a person has the last word, here or from another process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.attend import Attendant
from lorimer.core import mail
from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ExecutorErrorCode, PipelineError, StageError
from lorimer.core.journal import Journal
from lorimer.core.messages import user_message
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.journal import MemoryJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate, simulate_in
from tests.core.support import Change, Do, check_history, kinds, make, use
from tests.stages.effects import all_of
from tests.stages.support import choose, configure

CODE = ExecutorErrorCode


def asking(requester: str = "pipeline_resume", **config: Any) -> Change:
    settings = {"target": "person"} if requester == "callback" else {}
    return all_of(
        configure("hitl", answers=True, **config),
        choose("hitl", "requester", requester, **settings),
    )


def pipeline(
    world: SimulatedWorld, replies: Sequence[Any], change: Change, **more: Any
) -> Pipeline:
    return make(world, list(replies), change=change, tools=[Do("look")], **more)


async def suspended(world: SimulatedWorld, change: Change, journal: Journal) -> str:
    """The id of a run that waits for a person."""
    result = await pipeline(
        world, [[use("look")], "an answer"], change, journal=journal, session_id="s"
    ).run("go", raise_on_error=False)
    assert (result.status, result.code) == ("suspended", CODE.EXEC_RUN_WAITING)
    return result.run_id


@pytest.mark.parametrize("decision", [True, False])
def test_a_suspended_run_goes_on_with_the_decision(decision: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        run_id = await suspended(world, asking(), journal)
        row = await journal.find_run(run_id)
        assert row is not None
        [question] = await mail.questions(journal, row)
        assert (question.id, question.tool, question.input) == ("1:hitl", "the answer", "an answer")
        later = pipeline(world, [], asking(), journal=journal, session_id="s")
        result = await later.resume(run_id, decision, raise_on_error=False)
        if decision:
            assert (result.status, result.text) == ("ok", "an answer")
        else:
            assert (result.status, result.code) == ("rejected", CODE.EXEC_HITL_REJECTED)
            assert isinstance(result.exception, StageError)
            assert (await later.result(run_id)).code is CODE.EXEC_HITL_REJECTED
        assert result.text == "an answer"
        check_history(result.messages)

    simulate(main)


def test_a_decision_that_nobody_asked_for_is_refused() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        run_id = await suspended(world, asking(), journal)
        again = pipeline(world, [], asking(), journal=journal, session_id="s")
        with pytest.raises(PipelineError, match="asks 1:hitl, not '7:hitl'"):
            await again.resume(run_id, True, question="7:hitl")
        with pytest.raises(PipelineError, match="wants yes or no"):
            await again.resume(run_id, "well")

    simulate(main)


def test_whoever_attends_the_store_resumes_it_when_the_answer_comes() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        run_id = await suspended(world, asking(), journal)
        later = pipeline(world, [], asking(), journal=journal, session_id="s")

        async def resume(which: str) -> Any:
            return await later.resume(which, raise_on_error=False)

        async with Attendant(journal, resume) as attendant:
            await world.sleep(3600)
            assert len(attendant) == 1
            await mail.answer(journal, run_id, True)
            await world.sleep(1)
            assert len(attendant) == 0
        assert (await later.result(run_id)).text == "an answer"

    simulate(main)


def test_an_answer_from_elsewhere_is_as_good_as_one_from_here() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        forever = asyncio.Event()
        bindings = {"person": lambda told: forever.wait()}
        here = pipeline(
            world, ["an answer"], asking("callback"), journal=journal, bindings=bindings
        )
        task = asyncio.ensure_future(here.run("go"))
        await world.sleep(5)
        [row] = await journal.runs(limit=9)
        await mail.answer(journal, row.run_id, True)
        assert (await task).status == "ok"

    simulate(main)


def test_a_rejected_answer_is_revised_so_often_and_no_oftener() -> None:
    async def main(world: SimulatedWorld) -> None:
        said: list[str] = []

        async def person(told: Any) -> bool:
            said.append(told["text"])
            return told["text"] == "good"

        change = asking("callback", on_reject="revise", max_revisions=2)
        bindings = {"person": person}
        model = ScriptedModel(["bad", [use("look")], "better", "good"])
        one = make(world, model, change=change, tools=[Do("look")], bindings=bindings)
        result = await one.run("go")
        assert (result.text, said) == ("good", ["bad", "better", "good"])
        assert "did not accept it" in model.requests[1].messages[-1].text
        two = pipeline(world, ["1", "2", "3", "4"], change, bindings=bindings)
        result = await two.run("go", raise_on_error=False)
        assert (result.status, result.text) == ("rejected", "3")

    simulate(main)


@pytest.mark.parametrize("answer", ["yes", 1, None])
def test_only_true_is_a_yes_and_a_person_who_fails_has_not_agreed(answer: object) -> None:
    async def main(world: SimulatedWorld) -> None:
        def person(told: object) -> object:
            if answer is None:
                raise OSError("no line")
            return answer

        one = pipeline(world, ["x"], asking("callback"), bindings={"person": person})
        assert (await one.run("go", raise_on_error=False)).code is CODE.EXEC_HITL_REJECTED

    simulate(main)


def test_without_an_approver_it_is_a_no() -> None:
    async def main(world: SimulatedWorld) -> None:
        one = pipeline(world, ["x"], asking("approver"))
        assert (await one.run("go", raise_on_error=False)).status == "rejected"

    simulate(main)


def test_the_time_out_counts_from_the_question_also_while_nobody_is_at_work() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        change = all_of(asking(), choose("hitl", "timeout", "auto_approve", timeout_s=100))
        first = pipeline(world, ["x"], change, journal=journal, session_id="s")
        task = asyncio.ensure_future(first.run("go", raise_on_error=False))
        await world.sleep(10)
        first.cancel(Reason.SHUTDOWN)
        run_id = (await task).run_id
        await world.sleep(60)
        again = pipeline(world, [], change, journal=journal, session_id="s")
        began = world.monotonic()
        result = await again.resume(run_id)
        assert (result.status, round(world.monotonic() - began)) == ("ok", 30)

    simulate(main)


def test_a_clock_that_was_set_back_does_not_prolong_the_time_out() -> None:
    class SetBack(SimulatedWorld):
        ago_s = 0.0

        def time(self) -> float:
            return super().time() - self.ago_s

    async def main(world: SimulatedWorld) -> None:
        assert isinstance(world, SetBack)
        journal = MemoryJournal(world)
        change = all_of(asking(), choose("hitl", "timeout", "auto_approve", timeout_s=100))
        first = pipeline(world, ["x"], change, journal=journal, session_id="s")
        task = asyncio.ensure_future(first.run("go", raise_on_error=False))
        await world.sleep(10)
        first.cancel(Reason.SHUTDOWN)
        run_id = (await task).run_id
        world.ago_s = 7_200
        again = pipeline(world, [], change, journal=journal, session_id="s")
        began = world.monotonic()
        result = await again.resume(run_id)
        assert (result.status, round(world.monotonic() - began)) == ("ok", 100)

    simulate_in(SetBack(), main)


class Wants(Stage[object, object]):
    """Has a person decide about something, once."""

    name = "wants"
    order = 13

    async def execute(self, input: object, state: PipelineState) -> object:
        if state.iteration == 0:
            state.shared["hitl_request"] = {"subject": "the plan", "text": "burn it", "reason": "r"}
            state.messages.append(user_message("asked"))
        return input


@pytest.mark.parametrize("decision", [True, False])
def test_what_a_stage_wants_to_know_is_asked(decision: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        told: list[Any] = []

        def person(request: Any) -> bool:
            told.append(request)
            return decision

        change = choose("hitl", "requester", "callback", target="person")
        one = pipeline(world, [[use("look")], "done"], change, bindings={"person": person})
        one.register_stage(Wants())
        result = await one.run("go", raise_on_error=False)
        assert told == [{"subject": "the plan", "text": "burn it", "reason": "r"}]
        assert result.status == ("ok" if decision else "rejected")

    simulate(main)


def test_nothing_is_asked_and_nothing_recorded_by_default() -> None:
    async def main(world: SimulatedWorld) -> None:
        result = await make(world, ["x"]).run("go")
        assert "effect" not in kinds(result.events)

    simulate(main)


def test_a_run_that_goes_on_does_not_wait_again_between_attempts_that_it_has_made() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        busy = APIError("busy", code=CODE.EXEC_API_RATE_LIMITED, retry_after_s=40.0)
        first = pipeline(world, [busy, "an answer"], asking(), journal=journal, session_id="s")
        result = await first.run("go", raise_on_error=False)
        assert result.status == "suspended"
        assert world.monotonic() >= 40
        later = pipeline(world, [], asking(), journal=journal, session_id="s")
        began = world.monotonic()
        assert (await later.resume(result.run_id, True)).text == "an answer"
        assert world.monotonic() - began < 1

    simulate(main)
