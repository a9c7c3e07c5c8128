"""Files that tools and child runs park while they work, to accompany the root run's answer."""

from __future__ import annotations

from typing import Final

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.run.delivery import Artifact

MAX_FILES: Final = 20
MAX_BYTES: Final = 50_000_000
"""All files of one root run together."""
MAX_RESTING_BYTES: Final = 200_000_000
"""All suspended runs together; beyond that, the oldest lose theirs."""


class _Pending:
    """What is parked for one root run."""

    __slots__ = ("files", "over", "root", "size")

    def __init__(self, root: str) -> None:
        self.root = root
        self.files: list[Artifact] = []
        self.size = 0
        self.over = False
        """The files were handed out, or dropped."""

    def take(self) -> tuple[Artifact, ...]:
        files, self.files, self.over = tuple(self.files), [], True
        return files


class Attachments:
    """The files parked for each live root run; in memory, one object per host.

    The code that runs agents calls `open` when a run begins or is resumed, `rest` when it is
    suspended and `close` when it ends; a tool calls `add` with its `context.root_run_id`. A child's
    files go to the root of its family, in whichever order its members end. For one event loop.
    """

    def __init__(self, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._pending: dict[str, _Pending] = {}
        self._resting: dict[str, _Pending] = {}
        """Those of suspended root runs, oldest first."""

    def open(self, run_id: str, parent_run_id: str = "", *ancestors: str) -> None:
        """A run begins, or is resumed with what was parked for it here before it was suspended; a
        child of a live run shares what is parked for that one's root. `ancestors`: the runs above
        it, nearest first; some may be unknown here, as agents that are given work."""
        above = [self._pending.get(each) for each in (parent_run_id, *ancestors) if each]
        shared = next(filter(None, above), None)
        if shared is None:
            shared = self._resting.pop(run_id, None) or _Pending(run_id)
        self._pending[run_id] = shared

    def add(self, run_id: str, artifact: Artifact) -> None:
        """Park a file. Raises ToolExecutionError, which a tool passes on to the model: for a run
        that is not live, whose answer is already on its way, or that has too many files."""
        pending = self._pending.get(run_id)
        if pending is None or pending.over:
            raise _refused(f"{artifact.name}: the answer has been delivered already")
        if len(pending.files) >= self._max_files:
            raise _refused(f"{artifact.name}: at most {self._max_files} files go with an answer")
        if pending.size + len(artifact.data) > self._max_bytes:
            raise _refused(
                f"{artifact.name}: its {len(artifact.data):,} bytes do not fit; at most "
                f"{self._max_bytes:,} go with an answer, {pending.size:,} are taken"
            )
        pending.files.append(artifact)
        pending.size += len(artifact.data)

    def drain(self, run_id: str) -> tuple[Artifact, ...]:
        """The files of a root run, once, in the order of their arrival; a second time, or for a
        child or an unknown run, none."""
        pending = self._pending.get(run_id)
        return () if pending is None or pending.root != run_id else pending.take()

    def rest(self, run_id: str) -> None:
        """A run is suspended: what is parked for a root run waits until it is resumed here."""
        pending = self._pending.pop(run_id, None)
        if pending is None or pending.root != run_id or not pending.files:
            return
        self._resting[run_id] = pending
        while sum([each.size for each in self._resting.values()]) > MAX_RESTING_BYTES:
            del self._resting[next(iter(self._resting))]

    def close(self, run_id: str) -> None:
        """A run has ended: what is left of a root run is dropped. Calling it again is harmless."""
        pending = self._pending.pop(run_id, None)
        if pending is not None and pending.root == run_id:
            pending.take()

    def __len__(self) -> int:
        """The number of live runs."""
        return len(self._pending)


def _refused(why: str) -> ToolExecutionError:
    return ToolExecutionError(f"{why}.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED)
