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
from lorimer.core.facts import CHILD, PHASE
from lorimer.core.redaction import logger
from lorimer.journal.family import ChildRecord
from lorimer.pipeline import Pipeline
from lorimer.run.invocation import OnStep, OnText
from lorimer.run.steps import RunStep, begun

HEARD: Final = ("tool.call_start", "tool.call_complete", "model.reply", "compacted")
ENDS: Final = ("run.start", "run.end", "run.suspended")
"""Heard of child runs, in addition to `HEARD`."""
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
        """Called for events of the kinds `HEARD` (and `ENDS`, of child runs) or `SAID`. Must not
        block or raise."""
        ...

    def below(self, child: ChildRecord) -> Observer | None:
        """The observer of a child run, which is about to begin or to go on; None: there is none. A
        phase is part of the run, and observed by the same observer."""
        ...

    async def end(self) -> None:
        """The run is over. Bounded in time."""
        ...


class Observers:
    """The observers of the runs of one pipeline."""

    def __init__(
        self, pipeline: Pipeline, *, phases: bool = False, delegates: bool = False
    ) -> None:
        """`phases`: its runs have phases. `delegates`: runs to which they give work are observed
        too, where an observer wants that."""
        below = (*HEARD, *ENDS) if delegates else HEARD
        self._heard = _Listeners(pipeline, HEARD, below if phases or delegates else ())
        self._said = _Listeners(pipeline, SAID, SAID if phases else ())

    @asynccontextmanager
    async def of(
        self,
        run: RunContext,
        observers: Sequence[Observer],
        said: Sequence[Observer] = (),
        below: Sequence[tuple[str, ChildRecord]] = (),
    ) -> AsyncGenerator[None, None]:
        """Notify `observers` of the run's events, and `said` of what the model says. Without any,
        no listener is registered. `below`: the unfinished runs below a run that is resumed, each
        with the id of its parent, parents first."""
        async with self._heard.of(run, observers, below):
            if not said:
                yield
                return
            async with self._said.of(run, said, below):
                yield


class _Listeners:
    """The observers of the same kinds of events."""

    def __init__(self, pipeline: Pipeline, kinds: Sequence[str], below: Sequence[str]) -> None:
        """`kinds`: of events of the runs; `below`: of their child runs; none: these are not
        observed."""
        self._kinds = kinds
        self._below = below
        self._pipeline = pipeline
        self._of: dict[str, tuple[list[str], Sequence[Observer]]] = {}
        """By run: those observed together with it (the root and all below), and its observers."""
        self._off: list[Callable[[], None]] = []

    @asynccontextmanager
    async def of(
        self,
        run: RunContext,
        observers: Sequence[Observer],
        below: Sequence[tuple[str, ChildRecord]],
    ) -> AsyncGenerator[None, None]:
        """See `Observers.of`."""
        if not observers:
            yield
            return
        if not self._of:
            self._off = [self._pipeline.on(kind, self._hear) for kind in self._kinds]
            if self._below:
                self._off.append(self._pipeline.on(CHILD, self._begun))
                on_below = self._pipeline.on_below
                self._off += [on_below(kind, self._hear) for kind in self._below]
                self._off.append(on_below(CHILD, self._begun))
        together = [run.id]
        self._of[run.id] = (together, observers)
        for above, child in below:
            self._follow(above, child)
        try:
            yield
        finally:
            for each in together:
                self._of.pop(each, None)
            if not self._of:
                for off in self._off:
                    off()
            for each in observers:
                await each.end()

    def _hear(self, event: Event) -> None:
        if event.run_id in self._of:
            for each in self._of[event.run_id][1]:
                each.hear(event)

    def _begun(self, event: Event) -> None:
        self._follow(event.run_id, ChildRecord.of(event))

    def _follow(self, above: str, child: ChildRecord) -> None:
        if above not in self._of:
            return
        together, observers = self._of[above]
        below = [found for each in observers if (found := each.below(child)) is not None]
        if below:
            together.append(child.run_id)
            self._of[child.run_id] = (together, below)


def is_phase(child: ChildRecord) -> bool:
    """Whether it is part of its parent."""
    return child.key.startswith(PHASE)


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

    def below(self, child: ChildRecord) -> Observer | None:
        """See Observer."""
        return self if is_phase(child) else None

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

    def below(self, child: ChildRecord) -> Observer | None:
        """See Observer."""
        return self if is_phase(child) else None

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
