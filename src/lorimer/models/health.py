"""Which models answer and which do not: a breaker for each, shared by all runs of a `Models`.

A target fails twice in a row and is benched: chains pass it over while it cools down. When that
time is over one call at a time may probe it; a success closes the breaker, a failure benches it
for twice as long. Single models are never refused: with nobody to turn to, waiting and trying
again is the retry strategy's to decide.

Nothing here asks a clock: `now` is `World.monotonic` of the run that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from lorimer.core.record import record
from lorimer.core.redaction import logger

FAILURES: Final = 2
"""In a row, then it is benched."""
COOL_DOWN_S: Final = 5.0
"""The first time; each further time twice as long."""
LONGEST_S: Final = 300.0
"""Of all cool-downs; a probe of which nothing was heard for so long is given up."""
TARGETS: Final = 1024
"""How many troubled targets are remembered; then the one that failed longest ago is forgotten."""

Breaker: TypeAlias = Literal["closed", "open", "half-open"]

_log = logger("lorimer.models")


@record
class TargetHealth:
    """How one target does, as operators and observers are told."""

    target: str
    """`provider:model`, and behind a space the base URL where there is one."""
    breaker: Breaker
    failures: int
    """In a row."""
    left_s: float = 0.0
    """Seconds of its cool-down that are left."""


Observer: TypeAlias = Callable[[TargetHealth], None]
"""Told of every target that is benched or comes back. What it raises is logged."""


class _Trouble:
    """What is known of a target that failed."""

    __slots__ = ("benches", "failures", "probe", "probed", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.benches = 0
        self.until: float | None = None
        """When the cool-down ends; None: not benched."""
        self.probe = ""
        """Who probes it."""
        self.probed = 0.0
        """Since when."""


class Health:
    """The breakers of all targets. For one event loop's runs; a target without trouble costs
    nothing."""

    def __init__(self, observer: Observer | None = None) -> None:
        self.troubled: dict[str, _Trouble] = {}
        """By target; empty while all is well, which is all that a successful call looks at."""
        self._observer = observer

    def admit(self, target: str, now: float, who: str) -> bool:
        """Whether `who` may call it. Of a target whose cool-down is over, `who` then has the one
        probe, until it tells how that went: `succeeded`, `failed` or `release`."""
        trouble = self.troubled.get(target)
        if trouble is None or trouble.until is None:
            return True
        if self.left_s(target, now):
            return False
        trouble.probe, trouble.probed = who, now
        return True

    def left_s(self, target: str, now: float) -> float:
        """Seconds until it may be called; 0: now. While somebody else probes it, a guess."""
        trouble = self.troubled.get(target)
        if trouble is None or trouble.until is None:
            return 0.0
        if now < trouble.until:
            return trouble.until - now
        if trouble.probe and now < trouble.probed + LONGEST_S:
            return COOL_DOWN_S
        return 0.0

    def succeeded(self, target: str) -> None:
        """It answered: all is forgotten."""
        trouble = self.troubled.pop(target, None)
        if trouble is not None and trouble.until is not None:
            self._tell(TargetHealth(target, "closed", 0))

    def failed(self, target: str, now: float, began: float | None = None) -> None:
        """A transient failure of a call made at `began` (None: just now). One that began before
        the cool-down was over tells nothing new, so it does not prolong it."""
        trouble = self.troubled.pop(target, None) or _Trouble()
        if len(self.troubled) >= TARGETS:
            del self.troubled[next(iter(self.troubled))]
        self.troubled[target] = trouble
        if trouble.until is not None and (now if began is None else began) < trouble.until:
            return
        trouble.failures += 1
        if trouble.failures >= FAILURES or trouble.until is not None:
            trouble.benches += 1
            self._bench(target, trouble, now, _cool_down(trouble.benches))

    def release(self, target: str, who: str) -> None:
        """If `who` has the probe, it came to nothing: neither an answer nor a failure."""
        trouble = self.troubled.get(target)
        if trouble is not None and trouble.probe == who:
            trouble.probe = ""

    def bench(self, target: str, seconds: float, now: float) -> None:
        """By an operator: chains pass it over for so long."""
        self._bench(target, self.troubled.setdefault(target, _Trouble()), now, seconds)

    def unbench(self, target: str) -> None:
        """By an operator: as if it had answered."""
        self.succeeded(target)

    def snapshot(self, now: float) -> list[TargetHealth]:
        """All targets that have failed since they last answered, by name."""
        return [self._health(target, now) for target in sorted(self.troubled)]

    def _health(self, target: str, now: float) -> TargetHealth:
        trouble = self.troubled[target]
        if trouble.until is None:
            return TargetHealth(target, "closed", trouble.failures)
        left = max(trouble.until - now, 0.0)
        return TargetHealth(target, "open" if left else "half-open", trouble.failures, left)

    def _bench(self, target: str, trouble: _Trouble, now: float, seconds: float) -> None:
        trouble.until, trouble.probe = now + seconds, ""
        self._tell(self._health(target, now))

    def _tell(self, health: TargetHealth) -> None:
        if self._observer is None:
            return
        try:
            self._observer(health)
        except Exception:  # noqa: BLE001 - an observer is never a run's problem; logged
            _log.exception("the observer of health failed")


def _cool_down(benches: int) -> float:
    return min(COOL_DOWN_S * 2 ** min(benches - 1, 16), LONGEST_S)
