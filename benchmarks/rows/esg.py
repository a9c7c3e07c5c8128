"""Row 10: the Execution State Graph: adding steps, asking what is stale, running a step."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Sequence
from statistics import median
from time import process_time
from typing import cast

from benchmarks.memory import peak_rss_kib, rss_kib
from benchmarks.scale import Figures, NotHere, Scale
from benchmarks.support import expect
from benchmarks.task import LOOP, VECTORISED, realistic_step
from lorimer.esg import ExecutionStateGraph, StepExecutor


async def added_steps(scale: Scale) -> Figures:
    """Steps of eight lines, each reading what the one before made; in a process of its own."""
    sources = [realistic_step(number) for number in range(scale.steps)]
    graph = ExecutionStateGraph()
    gc.collect()
    before, began = rss_kib(), process_time()
    last = list[float]()
    for number, source in enumerate(sources):
        started = process_time()
        graph.add_step(f"s{number}", source)
        last.append(process_time() - started)
    spent = process_time() - began
    held = peak_rss_kib() - before
    near = max(0, scale.steps - 100)
    began = process_time()
    stale = graph.mark_stale(f"s{near}")
    query = process_time() - began
    expect("stale steps", len(stale), scale.steps - near)
    return {
        "s": spent,
        "last_ms": median(last[-50:]) * 1e3,
        "query_ms": query * 1e3,
        "mib": held / 1024,
    }


async def run_steps(scale: Scale) -> Figures:
    """A loop over global names, beside a plain `exec` of it; and steps that do next to nothing."""
    tracked, plain = list[float](), list[float]()
    for batch in range(scale.batches):
        session = StepExecutor()
        session.execute("begin", f"k = 3\nn = {scale.loops}")
        began = process_time()
        result = session.execute(f"loop{batch}", LOOP)
        tracked.append(process_time() - began)
        namespace: dict[str, object] = {"k": 3, "n": scale.loops}
        began = process_time()
        exec(LOOP, namespace)
        plain.append(process_time() - began)
        expect("total", result.namespace["t"], namespace["t"])
    session = StepExecutor()
    small = list[float]()
    for number in range(scale.runs):
        began = process_time()
        session.execute(f"s{number}", f"x{number} = {number}")
        small.append(process_time() - began)
    return {
        "times": median(tracked) / median(plain),
        "fixed_ms": median(small[-50:]) * 1e3,
    }


async def array_steps(scale: Scale) -> Figures:
    """A step that works with numpy alone, beside a plain `exec` of it, where its arrays take 100 MB
    and where they take 25; and the values of another place, in turn before and after a step that
    has changed 100 MB in place."""
    if importlib.util.find_spec("numpy") is None:
        raise NotHere("numpy is not installed")
    back = list[float]()
    session = StepExecutor()
    session.execute("make", f"import numpy as np\na = np.ones({scale.numbers})")
    session.execute("change", "a += 1")
    for number in range(2 * scale.batches):
        began = process_time()
        there = session.namespace("change" if number % 2 else "make")
        back.append(process_time() - began)
        expect("a value", float(cast("Sequence[float]", there["a"])[-1]), 1.0 + number % 2)
    return {
        "vectorised": _vectorised(scale.numbers // 3, 2 * scale.batches),
        "vectorised_small": _vectorised(scale.numbers // 12, 2 * scale.batches),
        "checkout_ms": median(back) * 1e3,
    }


def _vectorised(numbers: int, batches: int) -> float:
    """Of a step that makes three arrays of so many numbers: its time beside that of an `exec`.

    The least of each side: whether the allocator had given the memory of the time before back to
    the system, and takes it anew page by page, more than doubles either.
    """
    tracked, plain = list[float](), list[float]()
    begin = f"import numpy as np\na = np.arange({numbers}.0)\nk = 3"
    for batch in range(batches):
        session, namespace = StepExecutor(), dict[str, object]()
        session.execute("begin", begin)
        exec(begin, namespace)
        for turn in range(2):  # neither is always the one that finds warm memory
            began = process_time()
            if turn == batch % 2:
                expect("a step", session.execute("step", VECTORISED).ok, True)
                tracked.append(process_time() - began)
            else:
                exec(VECTORISED, namespace)
                plain.append(process_time() - began)
        expect("total", session.namespace()["t"], namespace["t"])
    return min(tracked) / min(plain)
