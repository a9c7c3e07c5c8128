"""The formula for the wait before a failed call is repeated. The strategies of stage 6 and
`generate.py` use it, each with its own numbers."""

from __future__ import annotations

from random import Random

from lorimer.core.errors import APIError


class Backoff:
    """Retries recoverable failures, up to `max_retries` times; waits as long as the provider asks,
    else from `base_s` doubling up to `max_s` seconds, plus a random part of up to `jitter` times
    that."""

    __slots__ = ("_base_s", "_jitter", "_max_retries", "_max_s")

    def __init__(
        self, max_retries: int = 3, base_s: float = 1.0, max_s: float = 60.0, jitter: float = 0.1
    ) -> None:
        self._max_retries = max_retries
        self._base_s = base_s
        self._max_s = max_s
        self._jitter = jitter

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        """See `caller.RetryPolicy`."""
        if attempt > self._max_retries or not error.category.is_recoverable:
            return None
        wait = min(self._base_s * 2 ** (attempt - 1), self._max_s)
        wait *= 1 + dice.random() * self._jitter
        asked = error.retry_after_s
        if not asked:  # servers say "at once" without meaning it
            return wait
        # a provider that asks for longer than our maximum will not answer sooner
        return asked if asked <= self._max_s else None
