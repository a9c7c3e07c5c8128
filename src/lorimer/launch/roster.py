"""Which runs of a pipeline are live, starting or ending in this process, so that none is here
twice.

Claims keep other processes out, but not ourselves.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

from lorimer.core.cancel import Reason
from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.launch.admission import conversation_busy

_CLOSING: Final = 3
"""Iterations of the event loop until an abandoned stream is being closed: the first creates the
task that does so (`sys.set_asyncgen_hooks`), which cancels the run in the second."""

_ALONE: Final = nullcontext()


class Roster:
    """The runs of one conversation, and runs without one; `above` is the roster of all."""

    def __init__(self, above: Roster | None = None) -> None:
        self._above = above
        self._live: set[RunContext] = set()
        self._reserved: set[str] = set() if above is None else above._reserved
        """Ids of the interrupted runs that the pipeline is resuming or abandoning, in any of its
        conversations."""
        self.busy = False
        """Whether a run is live in the conversation, or about to be."""
        self._waiting: list[asyncio.Future[None]] = []
        """Futures of those who wait for a run to end."""

    @property
    def live(self) -> tuple[RunContext, ...]:
        """The live runs, including those of other conversations below this one."""
        return tuple(self._live)

    def require_free(self) -> None:
        """Raises PipelineError while a run is live in the conversation."""
        if self.busy:
            raise conversation_busy()

    async def streams_left(self) -> None:
        """Wait for the end of a run whose stream was left without being closed, as by `break`: the
        caller cannot wait itself, because the interpreter closes the stream."""
        for _ in range(_CLOSING):
            if self.busy:
                await asyncio.sleep(0)  # noqa: TID251 - a bare yield, not a wait
        while self.busy and any(live.reason is Reason.CLOSED for live in self.live):
            await self._one_ended()

    async def stopped(self) -> None:
        """Wait for the end of the runs that somebody has stopped, which takes as long as their
        calls may take to finish. Does not wait for a run that waits for the caller, as for a tool,
        or for runs of other loops."""
        while any(live.cancellation.stopping_beside for live in self.live):
            await self._one_ended()

    async def _one_ended(self) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(over)
        try:
            await over
        finally:
            self._waiting.remove(over)

    def conversing(self, shared: bool) -> AbstractContextManager[None]:
        """Begin a run. If it is in the conversation (`shared`), the conversation is busy until
        `over`, or until this raises. Raises PipelineError while another run is in it."""
        return _Conversing(self) if shared else _ALONE

    def reserve(self, run_id: str) -> None:
        """Reserve an interrupted run, to resume or abandon it; `release` ends that. Raises
        PipelineError for a run that is live or reserved already."""
        self._require_at_rest(run_id)
        self._reserved.add(run_id)

    def release(self, run_id: str) -> None:
        """End a reservation."""
        self._reserved.discard(run_id)

    def _require_at_rest(self, run_id: str) -> None:
        if self._above is not None:
            self._above._require_at_rest(run_id)
        if run_id in self._reserved or any(live.id == run_id for live in self._live):
            raise PipelineError(
                f"This pipeline is running {run_id} at this moment.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint="Wait for it, or stop it: pipeline.cancel().",
            )

    def add(self, context: RunContext) -> None:
        """Add a live run."""
        self._live.add(context)
        if self._above is not None:
            self._above._live.add(context)

    def remove(self, context: RunContext, shared: bool) -> None:
        """A run has ended, in whatever way. A second call changes nothing."""
        if context in self._live:
            self._live.remove(context)
            self.release(context.id)
            self.busy = self.busy and not shared
            self._wake()
            if self._above is not None:
                self._above._live.discard(context)
                self._above._wake()

    def _wake(self) -> None:
        for each in tuple(self._waiting):  # who waits may be in the loop of another thread
            with suppress(RuntimeError):  # that loop is closed
                each.get_loop().call_soon_threadsafe(_settle, each)


def _settle(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


class _Conversing(AbstractContextManager[None]):
    # not a generator-based one: every run passes here, and that would cost 4 us
    __slots__ = ("_roster",)

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def __enter__(self) -> None:
        self._roster.require_free()
        self._roster.busy = True

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._roster.busy = False
