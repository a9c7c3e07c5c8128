"""Row 8: many runs at once."""

from __future__ import annotations

import asyncio
from time import process_time
from typing import Final

from benchmarks.memory import peak_rss_kib, rss_kib
from benchmarks.rows.agents import FINAL, PRICE, Work, call, check, manifest, pipeline
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from benchmarks.task import CROWD_CALLS
from lorimer.core.messages import Request, Response
from lorimer.models.scripted import ScriptedModel

CALLS: Final = tuple([call(number) for number in range(CROWD_CALLS)])
"""Shared by the runs, as the floors share theirs: what a model's answers take is not ours."""


async def crowd(scale: Scale) -> Figures:
    """Runs of one pipeline, side by side; in a process of its own. The pipeline is stateless:
    one that remembers has one conversation, and never two runs at once in it."""
    of = manifest()
    of.stages["context"].config["stateless"] = True
    model = ScriptedModel(
        _answer, price=PRICE, deltas=False, record=False, latency_s=scale.latency_s
    )
    work = Work()
    agent = pipeline(model, work, of=of)
    check(await agent.run("hi"), CROWD_CALLS)
    before, began = rss_kib(), process_time()
    results = await asyncio.gather(*[agent.run("hi") for _ in range(scale.crowd)])
    spent = process_time() - began
    for result in results:
        check(result, CROWD_CALLS)
    expect("model calls", model.calls, (scale.crowd + 1) * (CROWD_CALLS + 1))
    expect("tool calls", work.calls, (scale.crowd + 1) * CROWD_CALLS)
    return {"s": spent, "kib": (peak_rss_kib() - before) / scale.crowd}


def _answer(request: Request) -> Response:
    asked = len(request.messages) // 2
    return CALLS[asked] if asked < CROWD_CALLS else FINAL
