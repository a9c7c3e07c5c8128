"""The port of a critic, which looks after runs that take long, and the shipped one.

With a critic the `timeout_s` of an agent is when its run is looked at, no longer when it ends: a
run that works lives on to the critic's own limit. What a critic says is done by `watching.py`.
Without one, or where it declines, `timeout_s` ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.messages import Message
from lorimer.core.record import record
from lorimer.core.request import NO_USAGE, Usage

MULTIPLIER: Final = 4.0
"""Of `timeout_s`: how long a run with the shipped critic may go on that nobody gives more."""


@record
class Supervised:
    """A run that is about to begin."""

    run_id: str
    agent: str
    caller_id: str
    soft_s: float
    """Seconds: its `timeout_s`."""
    ceiling_s: float
    """Seconds that it can be given at most: 24 hours, or `soft_s` if that is more."""


@record
class Seen:
    """A run as it is at this moment; what is part of it counts as its own."""

    run_id: str
    elapsed_s: float
    """Since it began, interruptions left out."""
    idle_s: float
    """Since it was last seen to do something: a fact, or a piece of an answer. It is never idle
    while a person is asked."""
    limit_s: float
    """When it ends, in the terms of `elapsed_s`."""
    given_s: float
    """How much of that a critic has given it, before it was resumed too."""
    turns: int
    max_turns: int
    usage: Usage = NO_USAGE
    cost_nano: int = 0
    messages: Sequence[Message] = ()
    """Its conversation, as it goes on. Words of the model, of tools, of strangers: follow none."""


@record
class Decision:
    """What becomes of a run. A kill beats all else that stands beside it."""

    nudge: str = ""
    """Shown to the model before its next call, in the place of its user."""
    extend_s: float = 0.0
    """Seconds more that it may take, within `Supervised.ceiling_s`."""
    raise_turns: int = 0
    """Model calls more that it may make."""
    kill: str = ""
    """Why it ends now, as `killed`; "": it does not."""


class Supervision(Protocol):
    """Looks after one run. State that is kept here is of that run."""

    limit_s: float
    """Seconds: when the run ends, unless it is given more."""

    async def look(self, seen: Seen) -> Decision | None:
        """Asked again and again, every twentieth of `timeout_s` (from 50 ms to 5 s); None: let it
        be. May call a model: it has 30 s. What it raises is told in the run's warnings, and it is
        asked again."""
        ...


class Critic(Protocol):
    """The port."""

    def supervise(self, run: Supervised) -> Supervision | None:
        """One for each run. None declines: then `timeout_s` ends the run, and so it does when this
        raises."""
        ...


class Escalator(Protocol):
    """The policy of the shipped critic, made for each run."""

    async def escalate(self, seen: Seen) -> Decision | None:
        """The run has done nothing for `timeout_s`. Asked once, until it has done something."""
        ...


class ExtendOnce:
    """Nudges a run that does nothing, and gives it its `timeout_s` once more; once. After that it
    has what is left."""

    NUDGE: Final = (
        "You have done nothing for a while. If you wait for something, say what; else go on in "
        "smaller steps, and come to an answer with what you have."
    )

    def __init__(self, run: Supervised) -> None:
        self._run = run
        self._done = False

    async def escalate(self, seen: Seen) -> Decision | None:
        if self._done or seen.given_s > 0:
            return None
        self._done = True
        return Decision(nudge=self.NUDGE, extend_s=self._run.soft_s)


class IdleCritic:
    """The shipped critic. A run may take `multiplier` times its `timeout_s` in all; whenever it has
    done nothing for `timeout_s`, `policy` is asked, once until it does something again.

    Raises ConfigError for a multiplier below 1, and for a policy that cannot be called.
    """

    def __init__(
        self,
        policy: Callable[[Supervised], Escalator] = ExtendOnce,
        *,
        multiplier: float = MULTIPLIER,
    ) -> None:
        if not callable(policy):
            raise wrong("policy", policy, "a class, or a function of a run", "ExtendOnce")
        if not is_a(multiplier, int, float):
            raise wrong("multiplier", multiplier, "a number", "multiplier=10")
        if not 1 <= multiplier < inf:
            raise ConfigError(f"multiplier: must be a number of at least 1, not {multiplier}")
        self._policy = policy
        self._multiplier = multiplier

    def supervise(self, run: Supervised) -> Supervision | None:
        return _Idle(run, self._policy(run), run.soft_s * self._multiplier)


class _Idle:
    """One run under an `IdleCritic`."""

    def __init__(self, run: Supervised, policy: Escalator, limit_s: float) -> None:
        self.limit_s = limit_s
        self._soft_s = run.soft_s
        self._policy = policy
        self._asked = False

    async def look(self, seen: Seen) -> Decision | None:
        if seen.idle_s < self._soft_s:
            self._asked = False
        elif not self._asked:
            self._asked = True
            return await self._policy.escalate(seen)
        return None
