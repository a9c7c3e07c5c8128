"""From the marks of a contender's runs to what was repeated."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.killed.kills import Story
from benchmarks.killed.work import answer_of, final_of, marks_of

PLACES: Final = {
    ("model", "begin"): "in a model call",
    ("model", "end"): "after its answer",
    ("tool", "begin"): "in a tool call",
    ("tool", "end"): "after its result",
}


@dataclass
class Count:
    """Of all runs of one contender. Calls are counted in beginnings."""

    runs: int = 0
    right: int = 0
    kills: int = 0
    failures: int = 0
    """Times that the process ended with an error of its own."""
    model_calls: int = 0
    tool_calls: int = 0
    model_settled: int = 0
    """Model calls made again although the tool call they had asked for had begun."""
    model_answered: int = 0
    """Model calls made again that had been answered, and no more than that."""
    model_cut: int = 0
    """Model calls made again that a kill had cut off."""
    tool_settled: int = 0
    """Tool calls begun again although the model had been told of their result."""
    tool_ended: int = 0
    """Tool calls begun again that had ended, and no more than that."""
    tool_cut: int = 0
    """Tool calls begun again that a kill had cut off."""
    told_ended: int = 0
    """Tool calls that had ended, and the model was told something else than their result."""
    told_cut: int = 0
    """The same of calls that a kill had cut off."""
    told_unbegun: int = 0
    """The same of calls that never began."""
    lost: int = 0
    """Tool calls that never began, and the model was told that they had ended."""
    places: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PLACES.values(), 0))
    """Where the kills fell: after which mark."""
    troubles: list[str] = field(default_factory=list)


def count(stories: Iterable[Story], turns: int) -> Count:
    """The sum over these runs."""
    total = Count()
    for story in stories:
        _add(total, story, turns)
    return total


def _add(total: Count, story: Story, turns: int) -> None:
    marks = _read(marks_of(story.folder))
    total.runs += 1
    total.kills += len(story.kills)
    total.failures += story.failures
    for made in story.kills:
        last = marks[made - 1]
        total.places[PLACES[last["what"], last["phase"]]] += 1

    begun: set[tuple[str, int]] = set()
    ended: set[tuple[str, int]] = set()
    for mark in marks:
        what, n = mark["what"], mark["n"]
        if mark["phase"] == "end":
            ended.add((what, n))
            continue
        if (what, n) in begun:
            _repeat(total, what, n, begun, ended)
        begun.add((what, n))
        if what == "model":
            total.model_calls += 1
        else:
            total.tool_calls += 1

    odd = {int(n) for mark in marks for n in mark.get("odd", {})}
    missed = {n for n in range(turns) if ("tool", n) not in begun}
    whole = {n for n in odd if ("tool", n) in ended}
    total.told_ended += len(whole)
    total.told_cut += len(odd - whole - missed)
    total.told_unbegun += len(odd & missed)
    total.lost += len(missed - odd)
    answer = answer_of(story.folder)
    if story.trouble:
        total.troubles.append(story.trouble)
    elif answer.read_text() != final_of(turns):
        total.troubles.append(f"ended with another answer: {answer.read_text()}")
    elif not missed - odd:
        total.right += 1


def _repeat(
    total: Count, what: str, n: int, begun: set[tuple[str, int]], ended: set[tuple[str, int]]
) -> None:
    """Call n begins again. What comes after it, once begun, shows that it had been settled."""
    if what == "model":
        if ("tool", n) in begun:
            total.model_settled += 1
        elif (what, n) in ended:
            total.model_answered += 1
        else:
            total.model_cut += 1
    elif ("model", n + 1) in begun:
        total.tool_settled += 1
    elif (what, n) in ended:
        total.tool_ended += 1
    else:
        total.tool_cut += 1


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
