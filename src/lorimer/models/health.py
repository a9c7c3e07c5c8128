"""Which models answer and which do not: one circuit breaker each, shared by all runs of a `Models`.

A target that fails twice in a row is benched: chains skip it during its cool-down. After that, one
call at a time may probe it; success closes the breaker, failure benches it for twice as long. A
single model is never refused: as there is no alternative, the retry strategy decides about waiting
and trying again.

Nothing here reads a clock: `now` is `World.monotonic` of the calling run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from lorimer.core.record import record
from lorimer.core.redaction import logger

FAILURES: Final = 2
"""Consecutive failures after which a target is benched."""
COOL_DOWN_S: Final = 5.0
"""The first cool-down; each further one is twice as long."""
LONGEST_S: Final = 300.0
"""The longest cool-down; also the time after which a probe without an outcome is given up."""
TARGETS: Final = 1024
"""How many troubled targets are tracked; beyond that, the one that failed longest ago is
dropped."""

Breaker: TypeAlias = Literal["closed", "open", "half-open"]

_log = logger("lorimer.models")


@record
class TargetHealth:
    """The state of one target, for operators and observers."""

    target: str
    """`provider:model`, followed by a space and the base URL where there is one."""
    breaker: Breaker
    failures: int
    """Consecutive failures."""
    left_s: float = 0.0
    """Seconds left of its cool-down."""


Observer: TypeAlias = Callable[[TargetHealth], None]
"""Called for every target that is benched or comes back. Its exceptions are logged."""


class _Trouble:
    """What is known about a target that failed."""

    __slots__ = ("benches", "failures", "probe", "probed", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.benches = 0
        self.until: float | None = None
        """When the cool-down ends; None: not benched."""
        self.probe = ""
        """Who is probing it."""
        self.probed = 0.0
        """When the probe started."""


class Health:
    """The breakers of all targets. For the runs of one event loop; a target without failures costs
    nothing."""

    def __init__(self, observer: Observer | None = None) -> None:
        self.troubled: dict[str, _Trouble] = {}
        """By target; empty while all is well. A successful call checks nothing else."""
        self._observer = observer

    def admit(self, target: str, now: float, who: str) -> bool:
        """Whether `who` may call it. If the target's cool-down is over, `who` then holds the only
        probe, until it reports the outcome: `succeeded`, `failed` or `release`."""
        trouble = self.troubled.get(target)
        if trouble is None or trouble.until is None:
            return True
        if self.left_s(target, now):
            return False
        trouble.probe, trouble.probed = who, now
        return True

    def left_s(self, target: str, now: float) -> float:
        """Seconds until it may be called; 0: now. A guess while somebody else is probing it."""
        trouble = self.troubled.get(target)
        if trouble is None or trouble.until is None:
            return 0.0
        if now < trouble.until:
            return trouble.until - now
        if trouble.probe and now < trouble.probed + LONGEST_S:
            return COOL_DOWN_S
        return 0.0

    def succeeded(self, target: str) -> None:
        """It answered: forget its failures."""
        trouble = self.troubled.pop(target, None)
        if trouble is not None and trouble.until is not None:
            self._tell(TargetHealth(target, "closed", 0))

    def failed(self, target: str, now: float, began: float | None = None) -> None:
        """A transient failure of a call made at `began` (None: just now). A call that began before
        the end of the cool-down adds no information, so it does not prolong it."""
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
        """If `who` holds the probe, it ended without an outcome: neither an answer nor a
        failure."""
        trouble = self.troubled.get(target)
        if trouble is not None and trouble.probe == who:
            trouble.probe = ""

    def bench(self, target: str, seconds: float, now: float) -> None:
        """For operators: chains skip it for that long."""
        self._bench(target, self.troubled.setdefault(target, _Trouble()), now, seconds)

    def unbench(self, target: str) -> None:
        """For operators: as if it had answered."""
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
