"""Counts what was recorded before the kill, and how often it is there at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorimer.core.events import Event
from lorimer.core.fact_data import result_text

_RAN: Final = re.compile(r"^✓ (\S+)(?: \d+ s)?( again)?(.*)$", re.MULTILINE)
"""The line of a result that says that a step ran."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was there before the kill, and how often it is there at the end."""

    replies: int
    """Answers of the model that were recorded before the kill."""
    repeated_replies: int
    calls: int
    """Tool calls with a result before the kill."""
    repeated_calls: int
    requests: int | None
    """All requests to the script's server; None: a real model's server does not tell."""
    all_replies: int
    logged: int
    """How often the step that writes the log ran, by the journal."""
    log: tuple[str, ...]
    """The log: one line for each time that the step really ran. Empty: a real model wrote none."""
    steps: int
    """Steps that had run before the kill."""
    again: tuple[str, ...]
    """Steps that ran again after it, because their values were needed."""

    @classmethod
    def of(
        cls, before: Sequence[Event], after: Sequence[Event], requests: int | None, log: Path
    ) -> Proof:
        """Count. A fact counts as repeated if another one has the same place in the run."""
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        past, new = _ran(before), _ran(after[len(before) :])
        return cls(
            number(before, "model.reply"),
            number(after, "model.reply") - len(_places(after, "model.reply")),
            number(before, "tool.result"),
            number(after, "tool.result") - len(_places(after, "tool.result")),
            requests,
            number(after, "model.reply"),
            logged(after),
            tuple(lines),
            len({step for step, _, _ in past}),
            tuple(dict.fromkeys([step for step, again, _ in new if again])),
        )

    @property
    def asked_once(self) -> bool:
        """Whether every answer was requested once, and the one that was cut off twice."""
        return self.requests is None or self.requests == self.all_replies + 1

    @property
    def ran_once(self) -> bool:
        """Whether the log was written as often as the journal says."""
        return not self.log or self.logged == len(self.log)

    @property
    def holds(self) -> bool:
        """Whether nothing was repeated."""
        repeated = self.repeated_replies or self.repeated_calls
        return not repeated and self.asked_once and self.ran_once


def number(facts: Sequence[Event], type: str) -> int:
    """The number of facts of a kind."""
    return sum(fact.type == type for fact in facts)


def logged(facts: Sequence[Event]) -> int:
    """How often the step ran that writes the log."""
    return sum("wrote runs.log" in told for _, _, told in _ran(facts))


def _ran(facts: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Every successful execution of a step: the step, "again" or "", and the rest of the line."""
    results = [fact for fact in facts if fact.type == "tool.result"]
    return [
        found
        for fact in results
        for found in _RAN.findall(result_text(fact.data.get("content")).partition("\n\n")[0])
    ]


def _places(facts: Sequence[Event], type: str) -> set[tuple[int, str]]:
    return {(fact.iteration, str(fact.data.get("key"))) for fact in facts if fact.type == type}
