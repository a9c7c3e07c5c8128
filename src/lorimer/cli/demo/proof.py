"""What was there before the kill, and how often it is there at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorimer.cli.blocks import Object, use_at, uses_of
from lorimer.core.events import Event


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
    """What the script's server was asked in all; None: a real model's server does not tell."""
    all_replies: int
    analyses: tuple[int, int]
    """How often the analysis ran well, and ran at all, as the journal has it in the end."""
    log: tuple[str, ...]
    """One line for each time that the analysis really ran. Empty: a real model kept none."""

    @classmethod
    def of(
        cls, before: Sequence[Event], after: Sequence[Event], requests: int | None, log: Path
    ) -> Proof:
        """Count. A fact counts as repeated when one of the same place is recorded once more."""
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        ran = [good for use, good in calls(after) if use.get("name") == "Bash"]
        return cls(
            number(before, "model.reply"),
            number(after, "model.reply") - len(_places(after, "model.reply")),
            number(before, "tool.result"),
            number(after, "tool.result") - len(_places(after, "tool.result")),
            requests,
            number(after, "model.reply"),
            (sum(ran), len(ran)),
            tuple(lines),
        )

    @property
    def asked_once(self) -> bool:
        """Every answer was asked for once, and the one that was cut off once more."""
        return self.requests is None or self.requests == self.all_replies + 1

    @property
    def ran_once(self) -> bool:
        """The analysis ran as often as the journal has it."""
        return not self.log or self.analyses[0] <= len(self.log) <= self.analyses[1]

    @property
    def holds(self) -> bool:
        """Nothing was repeated."""
        repeated = self.repeated_replies or self.repeated_calls
        return not repeated and self.asked_once and self.ran_once


def number(facts: Sequence[Event], type: str) -> int:
    """How many facts of a kind there are."""
    return sum(fact.type == type for fact in facts)


def calls(facts: Sequence[Event]) -> Iterator[tuple[Object, bool]]:
    """Every call that has a result, and whether that was a good one."""
    uses: list[Object] = []
    for fact in facts:
        if fact.type == "model.reply":
            uses = uses_of(fact.data)
        elif fact.type == "tool.result":
            use = use_at(uses, fact.data.get("key"))
            if use is not None:
                yield use, fact.data.get("is_error") is not True


def _places(facts: Sequence[Event], type: str) -> set[tuple[int, str]]:
    return {(fact.iteration, str(fact.data.get("key"))) for fact in facts if fact.type == type}
