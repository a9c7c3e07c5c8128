"""Rows 1, 2 and 4: what the engine costs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from benchmarks.rows.agents import Work, check, pipeline, script
from benchmarks.scale import Figures, Scale
from benchmarks.support import WARM_UP, expect, per_unit_us
from benchmarks.task import TOOL, TOOL_CALLS
from lorimer.core.jsonable import JSON
from lorimer.models.scripted import ScriptedModel
from lorimer.pipeline import Pipeline
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.rules import Rule

RULES = (
    *[Rule(name) for name in ("Read", "Grep", "other")],
    *[Rule(TOOL, {"n": n}, action=Action.DENY) for n in ("-7", "-8", "-9")],
    *[Rule(TOOL, {"n": n}) for n in ("-2", "-3", "-4")],
    Rule(TOOL, {"n": "*"}, pattern=True),
)
"""Ten; the last one allows the calls."""


async def one_run(scale: Scale) -> Figures:
    """Row 1: runs of one iteration, without tools."""

    def make(model: ScriptedModel, work: Work) -> Pipeline:
        return pipeline(model)

    return {"us": await _batches(make, Work(), scale.batches, scale.runs, 0)}


async def tool_runs(scale: Scale) -> Figures:
    """Row 2: runs of ten tool iterations, of a tool that was granted."""

    def make(model: ScriptedModel, work: Work) -> Pipeline:
        return pipeline(model, work)

    return {"us": await _batches(make, Work(), scale.batches, scale.tool_runs, TOOL_CALLS)}


async def ruled_runs(scale: Scale) -> Figures:
    """Row 2 with a tool that writes, whose every call ten rules of the caller decide."""

    def make(model: ScriptedModel, work: Work) -> Pipeline:
        return pipeline(model, work, granted=False, rules=RULES)

    return {"us": await _batches(make, Work({"write"}), scale.batches, scale.tool_runs, TOOL_CALLS)}


async def hooked_runs(scale: Scale) -> Figures:
    """The same with a function that is asked about each call."""
    asked = 0

    def allows(told: dict[str, JSON]) -> None:
        nonlocal asked
        asked += 1

    def make(model: ScriptedModel, work: Work) -> Pipeline:
        made = pipeline(model, work, granted=False, rules=RULES)
        made.hook("PreToolUse")(allows)
        return made

    us = await _batches(make, Work({"write"}), scale.batches, scale.tool_runs, TOOL_CALLS)
    expect("hook", asked, scale.batches * (scale.tool_runs + WARM_UP) * TOOL_CALLS)
    return {"us": us}


async def _batches(
    make: Callable[[ScriptedModel, Work], Pipeline],
    work: Work,
    batches: int,
    runs: int,
    calls: int,
) -> float:
    found: list[float] = []
    for _ in range(batches):
        model = script(calls)
        agent = make(model, work)

        async def run(agent: Pipeline = agent) -> None:
            check(await agent.run("hi"), calls)

        for _ in range(WARM_UP):
            await run()
        found.append(await per_unit_us(run, runs, calls + 1))
        expect("model calls", model.calls, (runs + WARM_UP) * (calls + 1))
    expect("tool calls", work.calls, batches * (runs + WARM_UP) * calls)
    return median(found)
