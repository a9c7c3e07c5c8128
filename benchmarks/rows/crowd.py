"""Row 8: many runs at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import process_time
from typing import Final

from benchmarks.memory import peak_rss_kib, rss_kib
from benchmarks.rows.agents import FINAL, PRICE, Work, call, check, manifest, pipeline
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from benchmarks.task import CROWD_CALLS, TOOL
from lorimer.core.request import Request, Response
from lorimer.models.registry import Models
from lorimer.models.scripted import ScriptedModel
from lorimer.run import Executor, Invocation, RunnableAgent

CALLS: Final = tuple([call(number) for number in range(CROWD_CALLS)])
"""Shared by the runs, as the floors share theirs: what a model's answers take is not ours."""


async def crowd(scale: Scale) -> Figures:
    """Runs of one pipeline, side by side; in a process of its own. The pipeline is stateless:
    one that remembers has one conversation, and never two runs at once in it."""
    of = manifest()
    of.stages["context"].config["stateless"] = True
    model, work = _model(scale), Work()
    agent = pipeline(model, work, of=of)

    async def run() -> None:
        check(await agent.run("hi"), CROWD_CALLS)

    return await _measured(scale, run, model, work)


async def hosted(scale: Scale) -> Figures:
    """The same runs by an executor: of a host's agent, each for a caller."""
    model, work = _model(scale), Work()
    executor = Executor(
        models=Models(providers={"scripted": model}), tools=[work], tier="scripted:x"
    )
    agent = RunnableAgent("worker", tools=(TOOL,))
    asked = Invocation(caller_id="ann")

    async def run() -> None:
        result = await executor.run(agent, "hi", asked)
        expect("status of a run", result.status, "ok")
        expect("steps of a run", len(result.steps), CROWD_CALLS)

    return await _measured(scale, run, model, work)


def _model(scale: Scale) -> ScriptedModel:
    return ScriptedModel(
        _answer, price=PRICE, deltas=False, record=False, latency_s=scale.latency_s
    )


async def _measured(
    scale: Scale, run: Callable[[], Awaitable[None]], model: ScriptedModel, work: Work
) -> Figures:
    await run()
    before, began = rss_kib(), process_time()
    await asyncio.gather(*[run() for _ in range(scale.crowd)])
    spent = process_time() - began
    expect("model calls", model.calls, (scale.crowd + 1) * (CROWD_CALLS + 1))
    expect("tool calls", work.calls, (scale.crowd + 1) * CROWD_CALLS)
    return {"s": spent, "kib": (peak_rss_kib() - before) / scale.crowd}


def _answer(request: Request) -> Response:
    asked = len(request.messages) // 2
    return CALLS[asked] if asked < CROWD_CALLS else FINAL
