"""What a case is, and how all of them are run."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast
from unittest import SkipTest

from lorimer.core.model import Model
from lorimer.testing.fake_server import FakeLLMServer, Script
from lorimer.testing.fake_turn import Wire
from lorimer.testing.providers.trial import LLMServer, Trial

Check: TypeAlias = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider under test."""

    model: Callable[[str, str], Model]
    """Creates a Model for the server at a base URL (`http://127.0.0.1:4711`) with a key. It gets
    its HTTP clients from the world of each call, as every provider does."""
    wire: Wire = "openai"
    """Its wire, for `FakeLLMServer`: any similar wire of your own passes as one of these."""
    serve: Callable[[Script], LLMServer] = FakeLLMServer
    """Creates the server that plays a script. A server for a wire of your own has to play the same
    turns and faults, and to reject what the vendor rejects."""
    api: str = ""
    """As in `Request.api`."""
    lacks: Mapping[str, str] = field(default_factory=dict[str, str])
    """What does not apply: name of a case, of its check or of its group → reason."""


class NotApplicable(SkipTest):
    """A case that the subject lacks: pytest and unittest count it as skipped."""


@dataclass(frozen=True, slots=True)
class Case:
    """One guarantee of every provider."""

    group: str
    check: Check
    row: tuple[object, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """Unique: `group.check`, and in brackets its row."""
        row = f"[{self.label}]" if self.row else ""
        return f"{self.group}.{self.check.__name__}{row}"

    def __str__(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        """The promise in a sentence."""
        return " ".join((self.check.__doc__ or "").split())

    def run(self, subject: Subject) -> None:
        """Raises AssertionError if the subject does not keep the promise, whatever else escapes
        from it, and NotApplicable. Runs its own event loop: call it from synchronous code."""
        for name in (self.name, f"{self.group}.{self.check.__name__}", self.group):
            if name in subject.lacks:
                raise NotApplicable(subject.lacks[name])
        self.check(Trial(subject.model, subject.serve, subject.api), *self.row)


@dataclass(frozen=True, slots=True)
class Family:
    """A check with its rows, each of which is a case."""

    cases: tuple[Case, ...]


def case(group: str, *rows: object) -> Callable[[Check], Family]:
    """Make a check a case, or, with rows, one for each. A row is an argument, or a tuple of them,
    named by its `str`."""

    def made(check: Check) -> Family:
        if not rows:
            return Family((Case(group, check),))
        many = [
            cast("tuple[object, ...]", row if isinstance(row, tuple) else (row,)) for row in rows
        ]
        labels = ["-".join([_label(part) for part in row]) for row in many]
        if len(set(labels)) < len(labels):
            labels = [f"{number}-{label}" for number, label in enumerate(labels, 1)]
        pairs = zip(many, labels, strict=True)
        return Family(tuple([Case(group, check, row, label) for row, label in pairs]))

    return made


_LABEL: Final = 40


def _label(part: object) -> str:
    text = part if isinstance(part, str) else repr(part)
    return "".join(
        [char if char.isascii() and char.isprintable() else "?" for char in text[:_LABEL]]
    )


STREAMED: Final = ("streamed", "in one piece")
"""Rows of a check that holds for both forms of an answer."""


def gathered(module: Mapping[str, object]) -> tuple[Case, ...]:
    """The cases among a module's names, in order."""
    families = [value for value in module.values() if isinstance(value, Family)]
    return tuple([one for family in families for one in family.cases])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one case."""

    case: Case
    status: str
    """`passed`, `failed` or `skipped`."""
    detail: str = ""
    """The reason; for a failure the traceback."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of all cases. `str(report)` is meant for people."""

    outcomes: tuple[Outcome, ...]

    def _with(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def passed(self) -> int:
        """The number of passed cases."""
        return len(self._with("passed"))

    @property
    def failed(self) -> list[Outcome]:
        """With their tracebacks."""
        return self._with("failed")

    @property
    def skipped(self) -> list[Outcome]:
        """With the reasons that the subject gave."""
        return self._with("skipped")

    def __str__(self) -> str:
        lines = [f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"]
        lines += [f"skipped {one.case}: {one.detail}" for one in self.skipped]
        lines += [f"failed  {one.case}: {one.case.title}\n{one.detail}" for one in self.failed]
        return "\n".join(lines)


def run(subject: Subject, cases: Sequence[Case]) -> Report:
    """Run the cases, one after the other, whatever their outcome."""
    return Report(tuple([_outcome(one, subject) for one in cases]))


def _outcome(one: Case, subject: Subject) -> Outcome:
    try:
        one.run(subject)
    except NotApplicable as why:
        return Outcome(one, "skipped", str(why))
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever it is, it is reported
        return Outcome(one, "failed", traceback.format_exc())
    return Outcome(one, "passed")
