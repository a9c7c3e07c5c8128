"""Stage 16, guards: a run that goes round in circles is first warned, and then stopped. The
unconditional limits are in `core/limits.py`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.stage import Settings, Strategy
from lorimer.core.trail import LOOKS_BACK, Trail


class LoopGuard(Strategy):
    """Detects one way in which a run makes no progress. Called after each turn with calls."""

    code: ClassVar[ExecutorErrorCode] = ExecutorErrorCode.EXEC_STAGE_FAILED
    """The error code of a run that it stops."""
    always: ClassVar[bool] = True
    """False: not called after a turn with progress (`Trail.advances`), which counts as 0."""

    class Config(Settings):
        warn_after: int = Field(3, ge=1)
        """Turns or rounds after which the model is warned; once, until it does something else."""
        stop_after: int | None = Field(5, ge=1)
        """Turns or rounds after which the run ends with an error; none: it is never stopped."""

        @model_validator(mode="after")
        def _in_order(self) -> LoopGuard.Config:
            if self.stop_after is not None and self.stop_after < self.warn_after:
                raise ValueError("stop_after must not be less than warn_after")
            return self

    config: Config

    def count(self, trail: Trail) -> int:
        """How long it has lasted: turns, or rounds."""
        raise TypeError(f"{type(self).__name__} has no count method")

    def warning(self, count: int) -> str:
        """The problem in words for the model and for people."""
        raise TypeError(f"{type(self).__name__} has no warning method")


class Identical(LoopGuard):
    """The same calls with the same results, turn after turn."""

    name = "identical"
    description = "The same calls with the same results, turn after turn."
    code = ExecutorErrorCode.EXEC_LOOP_IDENTICAL
    always = False

    def count(self, trail: Trail) -> int:
        repeated = trail.repeated(1) if trail.stale and not trail.polls else 0
        return repeated + 1 if repeated else 0

    def warning(self, count: int) -> str:
        return f"the same calls were made {count} times in a row, with the same results"


class Alternating(LoopGuard):
    """Back and forth: two or three turns that repeat in the same order."""

    name = "alternating"
    description = "Two or three different turns that alternate, with the same results."
    code = ExecutorErrorCode.EXEC_LOOP_ALTERNATING
    always = False

    class Config(LoopGuard.Config):
        stop_after: int | None = Field(5, ge=2, le=LOOKS_BACK // 3)

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def count(self, trail: Trail) -> int:
        if not trail.stale or trail.polls or trail.repeated(1):
            return 0
        rounds = 0
        for period in (2, 3):
            repeated = trail.repeated(period)
            if repeated >= period:
                rounds = max(rounds, repeated // period + 1)
        return rounds

    def warning(self, count: int) -> str:
        return f"the same few calls came {count} times in the same order, with the same results"


class NoProgress(LoopGuard):
    """Nothing new, in any order: every call was made before, with the same result."""

    name = "no_progress"
    description = "Turns in which every call had been made before, with the same result."
    code = ExecutorErrorCode.EXEC_LOOP_NO_PROGRESS
    always = False

    class Config(LoopGuard.Config):
        warn_after: int = Field(6, ge=1)
        stop_after: int | None = Field(10, ge=1)

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def count(self, trail: Trail) -> int:
        return 0 if trail.polls else trail.stale

    def warning(self, count: int) -> str:
        return f"{count} turns in a row brought nothing that was not known before"


class ErrorStreak(LoopGuard):
    """Every call fails, turn after turn."""

    name = "error_streak"
    description = "Turns in which every call failed."
    code = ExecutorErrorCode.EXEC_LOOP_ERROR_STREAK
    always = False

    class Config(LoopGuard.Config):
        warn_after: int = Field(4, ge=1)
        stop_after: int | None = Field(8, ge=1)

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def count(self, trail: Trail) -> int:
        return trail.failures

    def warning(self, count: int) -> str:
        return f"all calls of the last {count} turns failed"
