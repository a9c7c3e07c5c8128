"""Observers of an executor's runs: one set of listeners for each compiled agent, however many of
its runs are live."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from lorimer.core.context import RunContext
from lorimer.core.events import Event
from lorimer.core.redaction import logger
from lorimer.journal.family import children_in
from lorimer.pipeline import Pipeline
from lorimer.run.invocation import OnStep, OnText
from lorimer.run.steps import RunStep, begun

HEARD: Final = ("tool.call_start", "tool.call_complete", "model.reply", "compacted")
SAID: Final = ("text.delta", "api.stream_restart")
"""What clients receive while the model speaks. These events are created only if there are
listeners."""
QUEUE: Final = 1024
"""Steps that a slow async callback may lag behind; beyond that the oldest are dropped."""
DRAIN_S: Final = 2.0
"""Seconds that it has to catch up after the run has ended."""

_log: Final = logger("lorimer.run")


class Observer(Protocol):
    """Observes one run."""

    def hear(self, event: Event) -> None:
        """Called for events of the kinds `HEARD` or `SAID`. Must not block or raise."""
        ...

    async def end(self) -> None:
        """The run is over. Bounded in time."""
        ...


class Observers:
    """The observers of the runs of one pipeline."""

    def __init__(self, pipeline: Pipeline, *, phases: bool = False) -> None:
        """`phases`: child runs are phases of their parent, and reported as part of it."""
        self._heard = _Listeners(pipeline, HEARD, phases)
        self._said = _Listeners(pipeline, SAID, phases)

    @asynccontextmanager
    async def of(
        self, run: RunContext, observers: Sequence[Observer], said: Sequence[Observer] = ()
    ) -> AsyncGenerator[None, None]:
        """Notify `observers` of the run's events, and `said` of what the model says. Without any,
        no listener is registered."""
        async with self._heard.of(run, observers):
            if not said:
                yield
                return
            async with self._said.of(run, said):
                yield


class _Listeners:
    """The observers of the same kinds of events."""

    def __init__(self, pipeline: Pipeline, kinds: Sequence[str], phases: bool) -> None:
        self._kinds = kinds
        self._pipeline = pipeline
        self._phased = phases
        self._of: dict[str, Sequence[Observer]] = {}
        self._off: list[Callable[[], None]] = []

    @asynccontextmanager
    async def of(
        self, run: RunContext, observers: Sequence[Observer]
    ) -> AsyncGenerator[None, None]:
        """See `Observers.of`."""
        if not observers:
            yield
            return
        if not self._of:
            self._off = [self._pipeline.on(kind, self._hear) for kind in self._kinds]
            if self._phased:
                self._off.append(self._pipeline.on("child", self._begun))
                self._off += [self._pipeline.on_below(kind, self._hear) for kind in self._kinds]
        self._of[run.id] = observers
        if self._phased:  # phases that it had before it was resumed
            self._of |= {each.run_id: observers for each in children_in(run.facts)}
        try:
            yield
        finally:
            for each in [name for name, told in self._of.items() if told is observers]:
                del self._of[each]
            if not self._of:
                for off in self._off:
                    off()
            for each in observers:
                await each.end()

    def _hear(self, event: Event) -> None:
        for each in self._of.get(event.run_id, ()):
            each.hear(event)

    def _begun(self, event: Event) -> None:
        if event.run_id in self._of:
            self._of[str(event.data.get("run"))] = self._of[event.run_id]


class TextCallback:
    """Passes what the model of one run says to the callback, piece by piece."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text

    def hear(self, event: Event) -> None:
        """See Observer."""
        text = event.data.get("text") if event.type == "text.delta" else None
        try:
            self._on_text(str(text) if text is not None else None)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - its fault is no run's
            _log.exception("on_text failed")

    async def end(self) -> None:
        """See Observer."""


class StepCallback:
    """Reports the steps of one run to the callback: in order, guarded, and without delaying the
    run."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._going: dict[str, RunStep] = {}
        self._queue: deque[RunStep] = deque(maxlen=QUEUE)
        self._pump: asyncio.Task[None] | None = None

    def hear(self, event: Event) -> None:
        """See Observer."""
        if event.type == "tool.call_start":
            step = begun(event)
            self._going[step.id] = step
            self._tell(step)
        elif event.type == "tool.call_complete":
            # no start was reported for a call that was refused
            step = self._going.pop(str(event.data.get("tool_use_id")), None) or begun(event)
            failed = event.data.get("is_error") is True
            self._tell(replace(step, state="error" if failed else "complete"))

    async def end(self) -> None:
        """See Observer."""
        if self._pump is not None and not self._pump.done():
            try:
                await asyncio.wait([self._pump], timeout=DRAIN_S)
            finally:  # also if the caller is cancelled meanwhile
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
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - its fault is no run's
            _log.exception("on_step failed")
            return None
        return said if inspect.isawaitable(said) else None

    async def _behind(self, said: Awaitable[None] | None) -> None:
        while True:
            if said is not None:
                try:
                    await said
                except (Exception, asyncio.CancelledError) as error:
                    task = asyncio.current_task()
                    if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                        raise
                    _log.exception("on_step failed")
            if not self._queue:
                return
            said = self._call(self._queue.popleft())
