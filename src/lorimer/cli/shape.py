"""A picture of a run: its turns as small bars, and how often each tool was called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lorimer.cli.text import duration, money, one_line
from lorimer.core.events import Event
from lorimer.core.fact_data import nano_of, use_at, uses_of

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 40
"""Most bars; in a longer run each stands for several turns."""
_TURNS: Final = 4
"""Runs with fewer turns get no bars."""
_TOOLS: Final = 6
"""Most tools that are named."""


@dataclass(slots=True)
class Shape:
    """The time and cost of each turn, from the facts."""

    seconds: list[float] = field(default_factory=list)
    nanos: list[int] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, facts: Sequence[Event]) -> Shape:
        shape = cls()
        began, uses = 0.0, uses_of({})
        for fact in facts:
            data, turn = fact.data, fact.iteration
            if not 0 <= turn < len(facts):  # damaged: each turn has a fact
                continue
            if fact.type in ("run.start", "model.intent") and turn >= len(shape.seconds):
                grown = turn + 1 - len(shape.seconds)
                shape.seconds += [0.0] * grown
                shape.nanos += [0] * grown
                began = fact.time
            if turn < len(shape.seconds):
                shape.seconds[turn] = max(0.0, fact.time - began)  # the clock may be set back
                shape.nanos[turn] += nano_of(data) if fact.type in ("model.reply", "effect") else 0
            if fact.type == "model.reply":
                uses = uses_of(data)
            elif fact.type == "tool.result":
                use = use_at(uses, data.get("key")) or {}
                name = one_line(str(use.get("name", "?")), 40)
                shape.called[name] += 1
                shape.failed[name] += data.get("is_error") is True
        return shape

    def lines(self) -> Iterator[tuple[str, str]]:
        """Lines as (name, text); for a run of few turns only its tools."""
        if len(self.seconds) >= _TURNS:
            longest = max(range(len(self.seconds)), key=self.seconds.__getitem__)
            told = f"longest: turn {longest + 1}, {duration(self.seconds[longest])}"
            yield "time", f"{bars(self.seconds)}  {told}"
            if min(self.nanos) < max(self.nanos):
                dearest = max(range(len(self.nanos)), key=self.nanos.__getitem__)
                told = f"dearest: turn {dearest + 1}, {money(self.nanos[dearest])}"
                yield "cost", f"{bars(self.nanos)}  {told}"
        if self.called:
            named = [self._tool(name, number) for name, number in self.called.most_common(_TOOLS)]
            more = len(self.called) - len(named)
            yield "calls", ", ".join([*named, *([f"{more} more tools"] if more else [])])

    def _tool(self, name: str, number: int) -> str:
        failed = self.failed[name]
        return f"{name} {number:,}{f' ({failed:,} failed)' if failed else ''}"


def bars(values: Sequence[float]) -> str:
    """A bar for each value, the highest one full. If there are too many, a bar shows the maximum of
    several neighbours, so no peak is lost."""
    per = max(-(-len(values) // _WIDTH), 1)
    peaks = [max(values[at : at + per]) for at in range(0, len(values), per)]
    top = max(peaks, default=0.0)
    return "".join([_BARS[_height(peak, top)] for peak in peaks])


def _height(value: float, top: float) -> int:
    """The index of the bar for a value; the lowest one is for values near 0."""
    return min(int(value / top * len(_BARS)), len(_BARS) - 1) if top > 0 else 0
