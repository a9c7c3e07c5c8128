"""What runs and replays tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lorimer.esg.execution.displays import Display
from lorimer.esg.execution.running import Failure
from lorimer.esg.graph.questions import StepError


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step."""

    step_id: str
    source: str
    stdout: str
    stderr: str
    value: object
    """Of the last line, if that is an expression. It is the session's own: do not change it."""
    shown: str
    """That value as an interactive Python would show it, at the time; empty for None."""
    displays: tuple[Display, ...]
    """Its figures, and that value as a page or picture."""
    failure: Failure | None
    """Why it raised; it has then changed nothing."""
    error: BaseException | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float
    values: Callable[[str], dict[str, object]] = field(repr=False, compare=False)
    """The names as they are after a step: this one (`namespace`) or another."""

    @property
    def namespace(self) -> dict[str, object]:
        """Every name as it is after the step; of one that failed, what it used and bound is as it
        left it.

        The values are the session's own: do not change them. Those that are gone are left out.
        """
        return self.values(self.step_id)

    @property
    def ok(self) -> bool:
        """It ran to its end."""
        return self.failure is None


class Held(StepError):
    """A step is not to run now: an `Observer` says so."""

    def __init__(self, step_id: str, why: str) -> None:
        super().__init__(why)
        self.step_id = step_id


class Observer(Protocol):
    """Is asked before each run of a step, and told of it."""

    def starting(self, step_id: str) -> None:
        """It is about to run. Raises Held: then it does not, and neither does what needs it."""
        ...

    def finished(self, result: StepResult) -> None:
        """It has run, or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay did."""

    ran: tuple[str, ...]
    """The steps that ran, in the order of their runs."""
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""
    held: Mapping[str, Held] = field(default_factory=dict[str, Held])
    """Steps that were not to run, or that need one: why."""

    @property
    def ok(self) -> bool:
        """All steps are up to date."""
        return not self.failed and not self.blocked and not self.held
