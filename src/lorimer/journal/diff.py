"""Two runs compared: inputs, the model's answers and calls, and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from lorimer.core.events import Event
from lorimer.core.fact_data import nano_of, usage_of
from lorimer.core.facts import ABANDONED
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.core.request import NO_USAGE, Usage
from lorimer.journal.recording import Recording, used_s

Place: TypeAlias = tuple[int, int, str, str]
"""Iteration, rank of the kind, kind, key."""

_KINDS: Final = (
    "manifest",
    "limits",
    "input",
    "asked",
    "attempt",
    "thinking",
    "reply",
    "call",
    "decision",
    "effect",
    "result",
    "end",
)
"""In the order in which they are listed within an iteration."""

_ALWAYS: Final = frozenset({"key", "hash", "usage", "cost", "used_s", "ran_s", "posts"})
"""Fields of an effect whose difference is meaningless, or shown in the figures."""


@record
class Difference:
    """One difference between two runs."""

    iteration: int
    """0-based."""
    kind: str
    """`manifest`, `limits`, `input`, `asked` (messages added for the model), `attempt` (a failed
    one), `thinking`, `reply` (its text), `call`, `decision`, `effect`, `result`, `end` (the
    decision at the end of the turn)."""
    key: str
    """For a call, its index in the reply; for a manifest's field, its path."""
    left: JSON
    """None: there is none."""
    right: JSON

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return {
            "iteration": self.iteration,
            "kind": self.kind,
            "key": self.key,
            "left": self.left,
            "right": self.right,
        }


@record
class Figures:
    """One run in numbers."""

    run_id: str
    status: str
    """"" while it is unfinished."""
    code: str
    turns: int
    tool_calls: int
    usage: Usage
    cost_nano: int
    seconds: float
    """Seconds for which it was running, without the times when it was interrupted."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "code": self.code,
            "turns": self.turns,
            "tool_calls": self.tool_calls,
            "usage": self.usage.to_json(),
            "total_cost_usd": self.cost_nano / 1e9,
            "seconds": round(self.seconds, 3),
        }


@record
class Comparison:
    """The result of `diff`."""

    left: Figures
    right: Figures
    differences: Sequence[Difference]

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return {
            "left": self.left.to_json(),
            "right": self.right.to_json(),
            "differences": [difference.to_json() for difference in self.differences],
        }


def diff(left: Recording, right: Recording) -> Comparison:
    """Compare two runs, aligned by iteration, kind and index. Ids, times, seeds and hashes of
    requests are not compared, because they always differ."""
    ours, theirs = dict(_items(left)), dict(_items(right))
    found = [
        Difference(place[0], place[2], place[3], ours.get(place), theirs.get(place))
        for place in sorted({*ours, *theirs})
        if ours.get(place) != theirs.get(place)
    ]
    return Comparison(figures(left), figures(right), found)


def figures(run: Recording) -> Figures:
    """A run in numbers, from its facts."""
    usage, cost = NO_USAGE, 0
    for fact in run.facts:
        if fact.type != "run.end":
            usage += usage_of(fact.data)
            cost += nano_of(fact.data)
    end: Mapping[str, JSON] = run.end.data if run.end is not None else {}
    asked = [fact.iteration for fact in run.facts if fact.type == "model.intent"]
    turns = end.get("iterations")
    return Figures(
        run.run_id,
        str(end.get("status", "")),
        str(end.get("code", "")),
        turns if isinstance(turns, int) else max(asked, default=-1) + 1,
        sum(fact.type == "tool.result" for fact in run.facts),
        usage,
        cost,
        used_s(run.facts),
    )


def _items(run: Recording) -> Iterator[tuple[Place, JSON]]:
    for path, value in leaves(run.manifest or {"digest": run.digest}, ""):
        yield _at(0, "manifest", path), value
    for fact in run.facts:
        for kind, key, value in _told(fact):
            yield _at(fact.iteration, kind, key), value


def _told(fact: Event) -> Iterator[tuple[str, str, JSON]]:
    data = fact.data
    key = str(data.get("key", ""))
    match fact.type:
        case "run.start":
            yield "input", "", data.get("input")
            for name, value in leaves(data.get("limits") or {}, ""):
                yield "limits", name, value
        case "model.intent":
            if fact.iteration and "messages" in data:  # those of the first turn are the input
                yield "asked", "", data["messages"]
        case "model.reply":
            if "error" in data:
                yield "attempt", key, data["error"]
            else:
                yield from _reply(data.get("content"))
        case "tool.result":
            yield "result", key, data.get("content")
        case "decision":
            yield "decision", key, [data.get("code"), data.get("rule")]
        case "effect":
            if not key.startswith(ABANDONED):
                yield "effect", key, {n: v for n, v in data.items() if n not in _ALWAYS}
        case "iteration.end":
            decision = data.get("decision", "continue")
            yield "end", "", [decision, data.get("reason", "tool_calls")]
        case _:
            pass


def _reply(content: JSON) -> Iterator[tuple[str, str, JSON]]:
    blocks = content if isinstance(content, Sequence) and not isinstance(content, str) else ()
    texts: dict[str, list[str]] = {"text": [], "thinking": []}
    calls = 0
    for block in blocks:
        if not isinstance(block, Mapping):
            continue
        kind = block.get("type")
        if kind == "tool_use":
            yield (
                "call",
                str(calls),
                {"name": block.get("name"), "input": block.get("raw") or block.get("input")},
            )
            calls += 1
        elif kind in ("text", "thinking"):
            texts[kind].append(str(block.get("text", "")))
    for kind, name in (("text", "reply"), ("thinking", "thinking")):
        if texts[kind]:
            yield name, "", "\n".join(texts[kind])


def leaves(value: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    """Every value of a document with its path; stages by their order."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for index, inner in enumerate(value):
            if isinstance(inner, Mapping) and "order" in inner:
                index = inner["order"]
                inner = {name: inner[name] for name in inner if name != "order"}
            yield from leaves(inner, f"{path}[{index}]")
    elif path:
        yield path, value


def _at(iteration: int, kind: str, key: str) -> Place:
    return (iteration, _KINDS.index(kind), kind, key)
