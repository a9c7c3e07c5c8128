"""Who is told what happens in a run: one set of listeners for each compiled agent, however many
runs of it go on."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from lorimer.core.events import Event
from lorimer.core.redaction import logger
from lorimer.pipeline import Pipeline
from lorimer.run.invocation import OnStep
from lorimer.run.steps import RunStep, begun

QUEUE: Final = 1024
"""Steps that a slow async callback may be behind; then it loses the oldest."""
DRAIN_S: Final = 2.0
"""Seconds that it has for them when the run has ended."""

_log: Final = logger("lorimer.run")


class Observers:
    """The callbacks of runs of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._watches: dict[str, _Watch] = {}
        self._off: list[Callable[[], None]] = []

    @asynccontextmanager
    async def of(self, run_id: str, on_step: OnStep | None) -> AsyncGenerator[None, None]:
        """Tell `on_step` of the run's steps. Without one nobody listens."""
        if on_step is None:
            yield
            return
        if not self._watches:
            self._off = [
                self._pipeline.on("tool.call_start", self._started),
                self._pipeline.on("tool.call_complete", self._ended),
            ]
        watch = self._watches[run_id] = _Watch(on_step)
        try:
            yield
        finally:
            del self._watches[run_id]
            if not self._watches:
                for off in self._off:
                    off()
            await watch.end()

    def _started(self, event: Event) -> None:
        watch = self._watches.get(event.run_id)
        if watch is not None:
            watch.started(begun(event))

    def _ended(self, event: Event) -> None:
        watch = self._watches.get(event.run_id)
        if watch is not None:
            watch.ended(event)


class _Watch:
    """The callback of one run, called in order; guarded, and never waited for while it goes on."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._going: dict[str, RunStep] = {}
        self._queue: deque[RunStep] = deque(maxlen=QUEUE)
        self._pump: asyncio.Task[None] | None = None

    def started(self, step: RunStep) -> None:
        self._going[step.id] = step
        self._tell(step)

    def ended(self, event: Event) -> None:
        # of a call that was refused nobody heard that it began
        step = self._going.pop(str(event.data.get("tool_use_id")), None) or begun(event)
        failed = event.data.get("is_error") is True
        self._tell(replace(step, state="error" if failed else "complete"))

    async def end(self) -> None:
        if self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump], timeout=DRAIN_S)
            self._pump.cancel()
            await asyncio.wait([self._pump], timeout=DRAIN_S)

    def _tell(self, step: RunStep) -> None:
        if self._pump is not None and not self._pump.done():
            self._queue.append(step)
            return
        said = self._call(step)
        if said is not None:
            loop = asyncio.get_running_loop()
            self._pump = loop.create_task(self._behind(said))

    def _call(self, step: RunStep) -> Awaitable[None] | None:
        try:
            said = self._on_step(step)
        except Exception:  # noqa: BLE001 - an observer's fault is no run's
            _log.exception("on_step failed")
            return None
        return said if inspect.isawaitable(said) else None

    async def _behind(self, said: Awaitable[None] | None) -> None:
        while True:
            if said is not None:
                try:
                    await said
                except Exception:  # noqa: BLE001 - as above
                    _log.exception("on_step failed")
            if not self._queue:
                return
            said = self._call(self._queue.popleft())
