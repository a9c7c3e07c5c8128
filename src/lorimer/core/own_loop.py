"""Runs a coroutine in an event loop of its own: for `run_sync` and other synchronous twins."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.model import ModelResolver

T = TypeVar("T")


def in_own_loop(name: str, work: Coroutine[object, None, T], models: ModelResolver | None) -> T:
    """Run it in an event loop of its own, and then close the connections of `models`. Raises
    PipelineError if a loop is running already; `name` is the function to await there instead."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise PipelineError(
            f"{name.rpartition('.')[2]}_sync was called where an event loop is running, as in a "
            "notebook.",
            code=ExecutorErrorCode.EXEC_RUN_BUSY,
            hint=f"Use: result = await {name}(...)",
        )

    async def main() -> T:
        try:
            return await work
        finally:
            if models is not None:  # they belong to this loop
                await models.aclose()

    return asyncio.run(main())
