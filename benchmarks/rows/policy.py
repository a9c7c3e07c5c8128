"""Row 2: what deciding about one call costs, arguments and rules included."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time_ns

from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from lorimer.tools import Rule, ToolRegistry
from lorimer.tools.builtin import builtin_tools
from lorimer.tools.permissions import Policy
from lorimer.tools.policy.modes import Action, Mode

TOOLS = ("Write", "Read", "Edit", "Bash", "Grep")
ACTIONS = (Action.ALLOW, Action.ALLOW, Action.ASK, Action.DENY)


async def few_rules(scale: Scale) -> Figures:
    """Ten rules over five tools."""
    return _measured(10, scale)


async def many_rules(scale: Scale) -> Figures:
    """Five hundred."""
    return _measured(500, scale)


def _measured(count: int, scale: Scale) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        policy = Policy(_rules(count), Mode.DEFAULT, Path(folder).resolve())
        return {
            "path": _cost(policy, "Write", "file_path", lambda at: f"dir0/x{at}/a.md", scale),
            "new": _cost(policy, "Bash", "command", lambda at: f"prog3 sub x{at} | wc -l", scale),
            "again": _cost(policy, "Bash", "command", lambda at: "prog3 sub x | wc -l", scale),
        }


def _rules(count: int) -> list[Rule]:
    rules: list[Rule] = []
    for at in range(count):
        tool = TOOLS[at % len(TOOLS)]
        spec = {"Bash": f"prog{at} sub **", "Grep": f"path=./dir{at}/**"}
        action = ACTIONS[at // len(TOOLS) % len(ACTIONS)]
        text = f"{tool}({spec.get(tool, f'./dir{at}/**/*.md')})"
        rules.append(Rule.parse(text, pattern=True, action=action))
    return rules


def _cost(
    policy: Policy, tool: str, argument: str, text: Callable[[int], str], scale: Scale
) -> float:
    registry = ToolRegistry()
    registry.register(builtin_tools([tool])[0], granted=False)
    (entry,) = registry.entries()
    found: list[float] = []
    decided = 0
    for batch in range(scale.batches + 1):
        inputs = [{argument: text(batch * scale.runs + at)} for at in range(scale.runs)]
        gc.collect()
        began = process_time_ns()
        for each in inputs:
            policy.decide(entry, each, tainted=False, now=0.0)
        found.append((process_time_ns() - began) / (scale.runs * 1_000))
        decided += len(inputs)
    expect("decisions", decided, (scale.batches + 1) * scale.runs)
    return median(found[1:])  # the first one warms up
