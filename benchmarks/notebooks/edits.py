"""The edits: one number of one step is another."""

from __future__ import annotations

import ast
from random import Random


def edits(steps: list[str], seed: int) -> list[tuple[int, str]]:
    """(step, its new text) for every number of the notebook, in a random order."""
    found = [(at, text) for at, step in enumerate(steps) for text in _of_step(step)]
    Random(seed).shuffle(found)
    return found


def _of_step(step: str) -> list[str]:
    lines = step.split("\n")
    found = list[str]()
    for node in ast.walk(ast.parse(step)):
        if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
            continue
        line = lines[node.lineno - 1].encode()
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            continue
        old = line[node.col_offset : node.end_col_offset].decode(errors="replace")
        try:
            if ast.literal_eval(old) != node.value:  # a number within an f-string
                continue
        except (ValueError, SyntaxError):
            continue
        new = repr(node.value + 1 if isinstance(node.value, int) else node.value * 1.1 + 0.01)
        text = line[: node.col_offset] + new.encode() + line[node.end_col_offset :]
        changed = [*lines[: node.lineno - 1], text.decode(), *lines[node.lineno :]]
        found.append("\n".join(changed))
    return found
