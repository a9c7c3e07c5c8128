"""The graph of a session as short text for a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lorimer.core.errors import nearest
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.resources.resources import FILE

_MOST: Final = 200
"""Number of steps that are listed."""
_NAME: Final = re.compile(r"[^\W\d]\w*")
_ID: Final = re.compile(r"[\w.-]+")
_ORDINARY: Final = frozenset(
    "a an the and or of in on to for is are be it its this that with as by at from not no but "
    "should must can do does make show use step steps value values wrong please i you we".split()
)


def graph_text(graph: ExecutionStateGraph, step: str, outside: Mapping[str, Sequence[str]]) -> str:
    """All steps, one line each; or everything about one, with its code."""
    if step:
        did = f"\n  outside: {', '.join(outside[step])}" if outside.get(step) else ""
        code = "\n".join([f"    {line}" for line in graph.source(step).split("\n")])
        return f"{graph.explain(step)}{did}\n{code}"
    if not graph.steps:
        return "There are no steps."
    lines = [_line(graph, each, outside) for each in graph.steps[-_MOST:]]
    if len(graph) > _MOST:
        lines.insert(0, f"[{len(graph) - _MOST} earlier steps are left out]")
    return "\n".join(lines)


def _line(graph: ExecutionStateGraph, step: str, outside: Mapping[str, Sequence[str]]) -> str:
    node = graph.get_node(step)
    makers: dict[str, list[str]] = {}
    for name, maker in graph.makers(step).items():
        makers.setdefault(maker, []).append(name)
    parts = [f"{step} ({node['status']})"]
    if makers:
        taken = [f"{', '.join(names)} of {maker}" for maker, names in makers.items()]
        parts.append(f"takes {'; '.join(taken)}")
    made = [name for name in node["writes"] if ":" not in name or name.startswith(FILE)]
    if made:
        parts.append(f"makes {', '.join(made[:12])}{' ...' if len(made) > 12 else ''}")
    if outside.get(step):
        parts.append(f"outside: {', '.join(outside[step])}")
    if node["causes"]:
        parts.append(f"because {node['causes'][0]}")
    return " | ".join(parts)


def about(graph: ExecutionStateGraph, shown: Mapping[str, str], words: str) -> str:
    """The steps that feedback in words is about, with the code of those they need.

    A step is meant if the words contain its id or a name that it makes; otherwise if words of it
    occur in its code or in what it showed. Raises StepError if nothing is found.
    """
    named = _words(words)
    said = {word for word in named if word.lower() not in _ORDINARY}
    points: dict[str, int] = {}
    for step in graph.steps:
        node = graph.get_node(step)
        spoken = _words(graph.source(step)) | _words(shown.get(step, ""))
        low = {word.lower() for word in spoken}
        points[step] = (
            8 * (step in named)
            + 4 * len(said & set(node["writes"]))
            + sum(word.lower() in low for word in said)
        )
    most = max(points.values(), default=0)
    if not most:
        raise StepError(
            f"name a step or a variable: no step has to do with that{nearest(words, graph.steps)}"
        )
    meant = [step for step, count in points.items() if count * 2 > most]
    needed = {each for step in meant for each in graph.get_ancestors(step)}
    after = {each for step in meant for each in graph.get_subgraph_from(step)} - {*meant}
    order = [step for step in graph.steps if step in needed or step in meant]
    left = len(graph) - len(order)
    lines = [f"This is about {', '.join(meant)}."]
    if after:
        stale = [step for step in graph.steps if step in after]
        lines.append(f"An edit may make stale: {', '.join(stale)}.")
    lines.append(f"Their code and what they need ({left} other steps left out):")
    return "\n".join(lines) + "\n" + graph.script(order)


def _words(text: str) -> set[str]:
    """The names in a text, and what may be ids of steps."""
    return {*_NAME.findall(text), *[each.strip(".-") for each in _ID.findall(text)]}
