"""What runs and replays tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lorimer.esg.running import Failure


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
    failure: Failure | None
    """Why it raised; it has then changed nothing."""
    error: BaseException | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float
    values: Callable[[], dict[str, object]] = field(repr=False, compare=False)

    @property
    def namespace(self) -> dict[str, object]:
        """Every name as it is after the step; of one that failed, what it used is as it left it.

        The values are the session's own: do not change them. Those that are gone are left out.
        """
        return self.values()

    @property
    def ok(self) -> bool:
        """It ran to its end."""
        return self.failure is None


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay did."""

    ran: tuple[str, ...]
    """The steps that ran, in the order of their runs."""
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""

    @property
    def ok(self) -> bool:
        """All steps are up to date."""
        return not self.failed and not self.blocked
