"""What to do after a failed attempt: only the rules, without a run, a clock or a wire.

Whether and when to ask the same target again is up to the retry strategy (stage 6); this module
decides which one is next. The loop is in `attempts.py`, the circuit breakers in `health.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal, TypeAlias

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import Message, TextBlock, user_message
from lorimer.models.health import Health

AfterRelease: TypeAlias = Literal["stop", "restart", "continue"]
"""What happens when an answer breaks off after listeners were given part of it: the call fails;
they are told to discard it and get another one; or the next attempt continues where it stopped."""

OnRefusal: TypeAlias = Literal["stop", "next"]
"""What happens when a provider rejects the caller for reasons that concern this provider only: the
call fails, or the next model of the chain is asked."""
TURNED_AWAY: Final = frozenset(
    {
        ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY,
        ExecutorErrorCode.EXEC_API_AUTH_EXPIRED,
        ExecutorErrorCode.EXEC_API_TERMINAL,
    }
)
"""A key, credit, a region: another provider has different ones."""

GO_ON: Final = (
    "Your answer was cut off by a technical fault. Go on exactly where it stops: repeat nothing, "
    "and do not mention the interruption."
)
NUDGE: Final = "Your last answer was empty. Please answer now."
"""Added to the question when a model is asked again after an empty answer. An identical request
would often get an identical answer."""
_NOT_FOUND: Final = 404


class Verdict(Enum):
    """What a failure says about its target."""

    TRANSIENT = "may pass: the target is blamed, and may be asked again"
    EMPTY = "it answered, and said nothing: may be asked once more"
    ELSEWHERE = "it cannot do this, which is not a fault: the next one is asked"
    FINAL = "nobody is asked again"


def verdict(error: APIError, on_refusal: OnRefusal = "stop") -> Verdict:
    """By the error's code; the table in `core/errors.py` says which are transient."""
    if error.code is ExecutorErrorCode.EXEC_API_EMPTY:
        return Verdict.EMPTY
    if error.category.is_recoverable:
        return Verdict.TRANSIENT
    if error.status == _NOT_FOUND or (on_refusal == "next" and error.code in TURNED_AWAY):
        return Verdict.ELSEWHERE
    return Verdict.FINAL


class FailoverState:
    """The position of one call in its chain, and why earlier targets did not answer."""

    __slots__ = ("_empty", "_health", "_names", "_places", "_why", "at", "tries")

    def __init__(self, names: Sequence[str], places: Sequence[str], health: Health) -> None:
        """`names`: the targets as shown to people; `places`: their keys in `health`."""
        self._names = names
        self._places = places
        self._health = health
        self._why: dict[int, str] = {}
        self._empty = 0
        """Empty answers from the current target."""
        self.at = 0
        """Index of the current target."""
        self.tries = 0
        """Failed attempts at the current target."""

    def failed(self, error: APIError) -> None:
        """Record a failed attempt at the current target."""
        self.tries += 1
        self._empty += verdict(error) is Verdict.EMPTY
        self._why[self.at] = f"{error} ({error.code.value})"

    def may_repeat(self, error: APIError) -> bool:
        """Whether to consult the retry strategy about the current target."""
        kind = verdict(error)
        return kind is Verdict.TRANSIENT or (kind is Verdict.EMPTY and self._empty < 2)

    @property
    def nudge(self) -> str:
        """What to add to the question for the current target; "": nothing."""
        return NUDGE if self._empty else ""

    def go(self, index: int) -> None:
        """Make the target at `index` the current one."""
        if index != self.at:
            self.at, self.tries, self._empty = index, 0, 0

    def first(self, now: float, who: str) -> int | None:
        """The first target that is not benched; None if all are."""
        return self._available(0, now, who)

    def next(self, again: bool, now: float, who: str) -> int | None:
        """The target to ask after a failure; None: give up. `again`: the retry strategy wants
        another attempt at the current target, which is made unless that is benched and another one
        is not."""
        here = self.at
        if again and not self._health.left_s(self._places[here], now):
            return here
        found = self._available(here + 1, now, who)
        return here if found is None and again else found

    def soonest_s(self, now: float) -> float:
        """Seconds until the first target becomes available."""
        return min([self._health.left_s(place, now) for place in self._places])

    def over(self, last: APIError | None, retry_after_s: float | None = None) -> APIError:
        """The error of the call: for a chain, all targets with their reasons; else the last
        error."""
        if last is not None and len(self._names) == 1:
            return last
        reasons = [
            f"{name}: {self._why.get(index, 'not asked')}" for index, name in enumerate(self._names)
        ]
        return APIError(
            f"no model of the chain answered; {'; '.join(reasons)}",
            code=ExecutorErrorCode.EXEC_API_UNAVAILABLE,
            hint="Try again later: the conversation is kept. Or add a model to the chain.",
            retry_after_s=retry_after_s,
            cause=last,
        )

    def _available(self, start: int, now: float, who: str) -> int | None:
        for index in range(start, len(self._places)):
            if self._health.admit(self._places[index], now, who):
                return index
            left = self._health.left_s(self._places[index], now)
            self._why[index] = f"benched for {left:.0f} s more"
        return None


def continuing(messages: Sequence[Message], partial: str) -> list[Message]:
    """The messages that ask for the rest of an answer. The request is a user turn: messages that
    end with the beginning of the answer itself are rejected by Claude from 4.6 on, and by thinking
    models."""
    said = Message("assistant", (TextBlock(partial),))
    return [*messages, said, user_message(GO_ON)]
