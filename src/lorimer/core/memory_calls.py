"""How a run asks its memory (`memory.py`): within a time, and with one error for all that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lorimer.core.context import RunContext
from lorimer.core.errors import LorimerError, MemoryFailed

T = TypeVar("T")


async def ask_memory(ask: Callable[[], Awaitable[T]], run: RunContext, within_s: float) -> T:
    """What a memory answers. Raises MemoryFailed for anything that it raises, which includes a
    CancelledError of its own, and when it does not answer within that many seconds."""
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            return await ask()
    except LorimerError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and run.cancellation.stopping:
            raise
        if limit.expired():
            raise MemoryFailed(
                f"The memory did not answer within {within_s:.3g} s.", cause=error
            ) from error
        raise MemoryFailed(f"{type(error).__name__}: {error}", cause=error) from error
