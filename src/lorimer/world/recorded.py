"""The world of a replay: its clock shows the recorded time, and nothing outside can be accessed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.world import Finished, ProcessLimits, Reach, Sink

if TYPE_CHECKING:
    import socket

    import httpx2


class RecordedWorld:
    """`World` for one replay. The replaying code sets its clocks."""

    def __init__(self) -> None:
        self.now = 0.0
        """Wall clock in seconds, from the fact that was replayed last."""
        self.elapsed = 0.0
        """Seconds for which the run had been running."""
        self._ids = 0

    def time(self) -> float:
        """The recorded time."""
        return self.now

    def monotonic(self) -> float:
        """The recorded duration."""
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        """Does not wait: that was done in the original run."""

    def new_id(self, prefix: str) -> str:
        """Numbered; never equal to a recorded id."""
        self._ids += 1
        return f"{prefix}_replay{self._ids}"

    def dice(self, seed: int | str | None = None) -> Random:
        """The same numbers for a seed as in every world; without one, always the same."""
        return Random(0 if seed is None else seed)

    def http(self) -> httpx2.AsyncClient:
        """Raises JournalError."""
        raise _refusal("open a connection")

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """Raises JournalError."""
        raise _refusal("open a connection")

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterator[bytes] | socket.socket = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        """Raises JournalError."""
        raise _refusal(f"run {argv[0] if argv else 'a program'}")

    def outside(self, what: str) -> AbstractContextManager[None]:
        """Does nothing: no clock runs."""
        return nullcontext()


def _refusal(what: str) -> JournalError:
    return JournalError(
        f"A stage wants to {what} in a replay, outside of any effect.",
        code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
        hint="What touches the outside has to go through state.run.effect.",
    )
