"""The floor of row 10: every name of a step by `ast.walk`, edges by a dict of last writers."""

from __future__ import annotations

import ast
from time import process_time

from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from benchmarks.task import realistic_step


async def added_steps(scale: Scale) -> Figures:
    """The same steps."""
    sources = [realistic_step(number) for number in range(scale.steps)]
    writers: dict[str, str] = {}
    readers: dict[tuple[str, str], list[str]] = {}
    began = process_time()
    for number, source in enumerate(sources):
        step = f"s{number}"
        reads, writes = set[str](), set[str]()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name):
                (reads if isinstance(node.ctx, ast.Load) else writes).add(node.id)
        for name in reads:
            readers.setdefault((writers.get(name, ""), name), []).append(step)
        writers.update(dict.fromkeys(writes, step))
    spent = process_time() - began
    expect("steps", number + 1, scale.steps)
    return {"s": spent}
