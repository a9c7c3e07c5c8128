"""How long to wait before a failed call is made again: the formula alone. Who uses it with which
numbers: the strategies of stage 6, and `generate.py`."""

from __future__ import annotations

from random import Random

from lorimer.core.errors import APIError


class Backoff:
    """Recoverable failures, `max_retries` times; the wait is what the provider asks for, else it
    doubles from `base_s` to `max_s` seconds, and is up to `jitter` of it longer at random."""

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
        if not asked:  # "at once" is what servers say that have not thought about it
            return wait
        # a provider that asks for longer than we would ever wait will not answer sooner
        return asked if asked <= self._max_s else None
