"""How fresh a session is, by its age and length. Nothing happens automatically because of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isnan

from lorimer.core.errors import ConfigError


class Freshness(StrEnum):
    """States of a session, most urgent last."""

    FRESH = "fresh"
    STALE_WARN = "stale_warn"
    """Unused for a while."""
    STALE_IDLE = "stale_idle"
    """Unused for longer, or started long ago."""
    STALE_COMPACT = "stale_compact"
    """Long: a summary of its beginning would save money."""
    STALE_RESET = "stale_reset"
    """So long that a new session is better."""


@dataclass(frozen=True, slots=True)
class FreshnessPolicy:
    """The thresholds of the states. Times in seconds, lengths in messages."""

    warn_s: float = 20 * 60
    idle_s: float = 30 * 60
    max_age_s: float = 4 * 3600
    compact_messages: int = 100
    reset_messages: int = 500

    def __post_init__(self) -> None:
        """Raises ConfigError for thresholds that are out of order."""
        times = (self.warn_s, self.idle_s, self.max_age_s)
        if any(isnan(value) or value < 0 for value in times) or self.warn_s > self.idle_s:
            raise ConfigError("freshness: times are at least 0 s, and warn_s at most idle_s")
        if not 0 < self.compact_messages <= self.reset_messages:
            raise ConfigError(
                "freshness: compact_messages is at least 1, and at most reset_messages"
            )

    def of(self, *, messages: int, began: float, last_used: float, now: float) -> Freshness:
        """The state of a session; `began`, `last_used` and `now` by one clock. An unused session is
        fresh."""
        idle = now - last_used
        if messages >= self.reset_messages:
            return Freshness.STALE_RESET
        if messages >= self.compact_messages:
            return Freshness.STALE_COMPACT
        if messages and (idle >= self.idle_s or now - began >= self.max_age_s):
            return Freshness.STALE_IDLE
        if messages and idle >= self.warn_s:
            return Freshness.STALE_WARN
        return Freshness.FRESH
