"""The results of runs and replays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lorimer.esg.execution.displays import Display
from lorimer.esg.execution.running import Failure
from lorimer.esg.graph.questions import StepError


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one run of a step."""

    step_id: str
    source: str
    stdout: str
    stderr: str
    value: object
    """The value of the last line, if that is an expression. It belongs to the session: do not
    change it."""
    shown: str
    """That value as an interactive Python would show it, at that time; empty for None."""
    displays: tuple[Display, ...]
    """Its figures, and that value as HTML or picture."""
    failure: Failure | None
    """Why it raised, in which case it changed nothing; None if it did not."""
    error: BaseException | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float
    values: Callable[[str], dict[str, object]] = field(repr=False, compare=False)
    """The names as they are after a step: this one (`namespace`) or another."""

    @property
    def namespace(self) -> dict[str, object]:
        """Every name as it is after the step; for a failed step, what it used and bound is as it
        left it.

        The values belong to the session: do not change them. Those that are gone are omitted.
        """
        return self.values(self.step_id)

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.failure is None


class Held(StepError):
    """An `Observer` has held a step back: it does not run now."""

    def __init__(self, step_id: str, why: str) -> None:
        super().__init__(why)
        self.step_id = step_id


class Observer(Protocol):
    """Called before and after each run of a step."""

    def starting(self, step_id: str) -> None:
        """The step is about to run. Raise Held to hold it back, together with the steps that need
        it."""
        ...

    def finished(self, result: StepResult) -> None:
        """The step has run, or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    ran: tuple[str, ...]
    """The steps that ran, in the order of their runs."""
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""
    held: Mapping[str, Held] = field(default_factory=dict[str, Held])
    """Steps that were held back, or need one that was, and why."""

    @property
    def ok(self) -> bool:
        """All steps are up to date."""
        return not self.failed and not self.blocked and not self.held
