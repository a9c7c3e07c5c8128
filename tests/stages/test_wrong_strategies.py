"""Strategies of a host that return what they may not: it is named, and neither money nor a call is
wrong because of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import lorimer
from lorimer import Pipeline, PipelinePresets, tool
from lorimer.core.journal import Balance
from lorimer.core.manifest import SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.purse import Purse
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Strategy
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.models import Models
from lorimer.presets import agent_manifest
from lorimer.stages.catalogue import catalogue
from lorimer.stages.s04_guard import Guard
from lorimer.stages.s07_token import Calculator
from lorimer.stages.s10_tool import ToolExecutor
from lorimer.stages.s14_strategies import Evaluation, Judgement, Scorer
from lorimer.stages.s15_people import Requester
from lorimer.testing import ScriptedModel

PURSE = Purse.usd("caller:ann", 1.0)
SENT: list[str] = []


@tool(effects=["send"])
async def send(to: str) -> str:
    """Send something."""
    SENT.append(to)
    return "sent"


def returning(kind: type[Strategy], method: str, value: object, *, waits: bool = False) -> Any:
    async def later(*_: object, **__: object) -> object:
        return value

    def now(*_: object, **__: object) -> object:
        return value

    return type("Mine", (kind,), {"name": "mine", method: later if waits else now})


def ran(
    *strategies: tuple[str, str, Any], replies: Any = ("done",), **how: Any
) -> tuple[PipelineResult, MemoryJournal]:
    journal = how.setdefault("journal", MemoryJournal())
    options = {name: how.pop(name) for name in ("limits", "budgets") if name in how}
    pipeline = PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": ScriptedModel(list(replies))}),
        tools=[send],
        **how,
    )
    for stage, slot, strategy in strategies:
        pipeline.swap_strategy(stage, slot, strategy)
    return pipeline.run_sync("go", raise_on_error=False, **options), journal


@pytest.mark.parametrize("price", [1234.5, float("nan"), "7", True, [1]])
@pytest.mark.parametrize("limits", [{}, {"max_cost_usd": 1.0}])
def test_a_price_that_is_no_whole_number_is_not_free(price: object, limits: Any) -> None:
    mine = returning(Calculator, "price", price)
    result, _ = ran(("token", "calculator", mine), limits=limits)
    assert result.status == "error"
    assert f"the price of 'scripted' is {price!r}" in result.error


def test_a_price_below_zero_fills_no_purse() -> None:
    mine = returning(Calculator, "price", -1_000_000)
    result, journal = ran(("token", "calculator", mine), budgets=[PURSE])
    assert "the price of 'scripted' is -1000000: it must be an int" in result.error
    assert asyncio.run(journal.used(PURSE)) == Balance()


def test_an_answer_whose_price_is_no_amount_was_not_free() -> None:
    class Mine(Calculator):
        name = "mine"

        def price(self, usage: Usage, name: str, model: object) -> Any:
            return 1000 if usage.output_tokens > 100 else 3.5  # what is reserved is fine

    result, journal = ran(("token", "calculator", Mine), budgets=[PURSE])
    assert "the price of 'scripted' is 3.5" in result.error
    assert result.usage.output_tokens > 0
    assert asyncio.run(journal.used(PURSE)) == Balance(0, 1000)


@pytest.mark.parametrize("batches", [[[0], [1], [1]], [[0, 0]], [[0]], [], [[-1], [0]], [[1], [2]]])
def test_no_call_is_made_twice_or_left_out(batches: list[list[int]]) -> None:
    SENT.clear()
    calls = [ToolUse("a", "send", {"to": "ann"}), ToolUse("b", "send", {"to": "ben"})]
    mine = returning(ToolExecutor, "batches", batches)
    result, _ = ran(("tool", "executor", mine), replies=[calls, "done"])
    assert SENT == []
    assert f"the executor 'mine' put 2 calls into the batches {batches}" in result.error


def test_calls_may_be_made_in_another_order() -> None:
    SENT.clear()
    calls = [ToolUse("a", "send", {"to": "ann"}), ToolUse("b", "send", {"to": "ben"})]
    mine = returning(ToolExecutor, "batches", [(1,), (0,)])
    result, _ = ran(("tool", "executor", mine), replies=[calls, "done"])
    assert (result.status, SENT) == ("ok", ["ben", "ann"])
    assert [step.input["to"] for step in result.steps] == ["ann", "ben"]


def test_batches_may_be_generated() -> None:
    class Mine(ToolExecutor):
        name = "mine"

        def batches(self, calls: list[ToolUse], tools: object, width: int) -> Any:
            yield from (iter([at]) for at in range(len(calls)))

    SENT.clear()
    calls = [ToolUse("a", "send", {"to": "ann"}), ToolUse("b", "send", {"to": "ben"})]
    result, _ = ran(("tool", "executor", Mine), replies=[calls, "done"])
    assert (result.status, SENT) == ("ok", ["ann", "ben"])


@pytest.mark.parametrize("score", [7, -0.5, 1.5, float("nan"), float("inf")])
def test_a_score_is_from_0_to_1(score: float) -> None:
    judge = returning(Evaluation, "judge", Judgement({"style": 0.5}), waits=True)
    scorer = returning(Scorer, "score", score)
    result, _ = ran(("evaluate", "strategy", judge), ("evaluate", "scorer", scorer))
    assert f"the scorer 'mine' returned {score!r} for the marks {{'style': 0.5}}" in result.error


def test_a_score_may_be_rounded() -> None:
    judge = returning(Evaluation, "judge", Judgement({"style": 1.0}), waits=True)
    scorer = returning(Scorer, "score", 1.0000000000000002)
    result, _ = ran(("evaluate", "strategy", judge), ("evaluate", "scorer", scorer))
    assert result.status == "ok"


def test_marks_out_of_ten_are_not_taken_for_full_marks() -> None:
    judge = returning(Evaluation, "judge", Judgement({"style": 4}), waits=True)
    result, _ = ran(("evaluate", "strategy", judge))
    assert result.status == "error"
    assert "scores are from 0 to 1" in result.error


def test_an_answer_that_nobody_says_anything_about_is_a_whole_sentence() -> None:
    judge = returning(Evaluation, "judge", Judgement({"style": 0.5}), waits=True)
    result, _ = ran(("evaluate", "strategy", judge), replies=["a", "b", "c"])
    assert result.error == "The answer was not accepted after 3 tries."


@pytest.mark.parametrize("said", [1, "yes", float("nan"), object()])
def test_only_true_is_an_approval(said: object) -> None:
    mine = returning(Requester, "ask", said, waits=True)
    pipeline = PipelinePresets.agent(
        model="scripted:echo", journal=SQLiteJournal(":memory:", threads=False)
    )
    pipeline.swap_strategy("hitl", "requester", mine)
    pipeline.mutate({"kind": "update_stage_config", "stage": "hitl", "config": {"answers": True}})
    result = pipeline.run_sync("go", raise_on_error=False)
    assert result.status == "rejected"


class Words(Guard):
    name = "words"

    def check(self, state: Any) -> str:
        return {"a": "b"}[state.messages[-1].text]


def test_a_strategy_that_raises_is_named_with_its_place() -> None:
    result, _ = ran(("guard", "guards", Words))
    line = Words.check.__code__.co_firstlineno + 1
    assert result.error == (
        "Stage 4 (guard) failed: KeyError: 'go' "
        f"(in Words.check, test_wrong_strategies.py line {line})"
    )


def test_what_is_installed_beside_this_package_is_not_part_of_it(tmp_path: Path) -> None:
    held: dict[str, Any] = {}
    place = f"{Path(lorimer.__file__).parent}_words/guards.py"
    exec(compile("def check(self, state): raise KeyError(1)", place, "exec"), held)
    mine = type("Mine", (Guard,), {"name": "mine", "check": held["check"]})
    result, _ = ran(("guard", "guards", mine))
    assert result.error.endswith("KeyError: 1 (in check, guards.py line 1)")


def test_a_model_is_not_told_where_a_sub_agent_failed() -> None:
    class Helpless(Guard):
        name = "helpless"

        def check(self, state: Any) -> str:
            return {"go": ""}[state.messages[-1].text]

    known = catalogue()
    known.add_strategy("guard", "guards", "helpless", Helpless)
    manifest = agent_manifest(model="scripted:m")
    manifest.stages["guard"].strategies["guards"] = ["helpless"]
    manifest.agents = [SubAgent(name="helper", description="Helps.")]
    call = ToolUse("a", "Agent", {"subagent_type": "helper", "prompt": "help"})
    models = Models(providers={"scripted": ScriptedModel([[call], "done"])})
    pipeline = Pipeline(manifest, catalogue=known, models=models)
    (step,) = pipeline.run_sync("go", raise_on_error=False).steps
    assert str(step.content).endswith("Stage 4 (guard) failed: KeyError: 'help'")
