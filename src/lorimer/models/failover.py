"""What is done after a failed attempt: the rules alone, without a run, a clock or a wire.

Whether one target is asked again, and when, is the retry strategy's to say (stage 6); here is who
is asked next. `attempts.py` keeps the loop, `health.py` the breakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal, TypeAlias

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import Message, TextBlock, user_message
from lorimer.models.health import Health

AfterRelease: TypeAlias = Literal["stop", "restart", "continue"]
"""What happens when an answer breaks off of which listeners were given a part: the call fails;
they are told to discard it and get another; or the next attempt goes on where it stopped."""

OnRefusal: TypeAlias = Literal["stop", "next"]
"""What happens when a provider turns the caller away for what holds for it alone: the call fails,
or the next of the chain is asked."""
TURNED_AWAY: Final = frozenset(
    {
        ExecutorErrorCode.EXEC_API_AUTH_INVALID_KEY,
        ExecutorErrorCode.EXEC_API_AUTH_EXPIRED,
        ExecutorErrorCode.EXEC_API_TERMINAL,
    }
)
"""A key, credit, a region: another provider asks for others."""

GO_ON: Final = (
    "Your answer was cut off by a technical fault. Go on exactly where it stops: repeat nothing, "
    "and do not mention the interruption."
)
NUDGE: Final = "Your last answer was empty. Please answer now."
"""Comes after the question when a model is asked once more because it said nothing. As the very
same request it would often get the very same answer."""
_NOT_FOUND: Final = 404


class Verdict(Enum):
    """What a failure says about its target."""

    TRANSIENT = "may pass: the target is blamed, and may be asked again"
    EMPTY = "it answered, and said nothing: may be asked once more"
    ELSEWHERE = "it cannot do this, which is not a fault: the next one is asked"
    FINAL = "nobody is asked again"


def verdict(error: APIError, on_refusal: OnRefusal = "stop") -> Verdict:
    """By the error's code; which are transient, the table in `core/errors.py` says."""
    if error.code is ExecutorErrorCode.EXEC_API_EMPTY:
        return Verdict.EMPTY
    if error.category.is_recoverable:
        return Verdict.TRANSIENT
    if error.status == _NOT_FOUND or (on_refusal == "next" and error.code in TURNED_AWAY):
        return Verdict.ELSEWHERE
    return Verdict.FINAL


class FailoverState:
    """Where one call is in its chain, and why those behind it did not answer."""

    __slots__ = ("_empty", "_health", "_names", "_places", "_why", "at", "tries")

    def __init__(self, names: Sequence[str], places: Sequence[str], health: Health) -> None:
        """`names` as people know the targets, `places` as `health` does."""
        self._names = names
        self._places = places
        self._health = health
        self._why: dict[int, str] = {}
        self._empty = 0
        """Empty answers of the present target."""
        self.at = 0
        """Index of the target that is asked now."""
        self.tries = 0
        """Failed attempts at it."""

    def failed(self, error: APIError) -> None:
        """An attempt at the present target has failed."""
        self.tries += 1
        self._empty += verdict(error) is Verdict.EMPTY
        self._why[self.at] = f"{error} ({error.code.value})"

    def may_repeat(self, error: APIError) -> bool:
        """Whether the retry strategy is asked about the present target."""
        kind = verdict(error)
        return kind is Verdict.TRANSIENT or (kind is Verdict.EMPTY and self._empty < 2)

    @property
    def nudge(self) -> str:
        """What is added to the question for the present target; "": nothing."""
        return NUDGE if self._empty else ""

    def go(self, index: int) -> None:
        """The target at `index` is asked next."""
        if index != self.at:
            self.at, self.tries, self._empty = index, 0, 0

    def first(self, now: float, who: str) -> int | None:
        """The first target that is not benched; None: all are."""
        return self._available(0, now, who)

    def next(self, again: bool, now: float, who: str) -> int | None:
        """Who is asked after a failure; None: nobody. `again`: the retry strategy would ask the
        present target once more, which is done unless it is benched and another one is not."""
        here = self.at
        if again and not self._health.left_s(self._places[here], now):
            return here
        found = self._available(here + 1, now, who)
        return here if found is None and again else found

    def soonest_s(self, now: float) -> float:
        """Seconds until a target may be asked."""
        return min([self._health.left_s(place, now) for place in self._places])

    def over(self, last: APIError | None, retry_after_s: float | None = None) -> APIError:
        """The error of the call: of a chain, every target with its reason; else the last one."""
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
    """The messages that ask for the rest of an answer. A user's turn asks for it: to end with the
    beginning of the answer itself is refused by Claude from 4.6 on, and by thinking models."""
    said = Message("assistant", (TextBlock(partial),))
    return [*messages, said, user_message(GO_ON)]
