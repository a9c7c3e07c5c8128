"""Files that tools and child runs park while they work, to go with the root run's answer."""

from __future__ import annotations

from typing import Final

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.run.delivery import Artifact

MAX_FILES: Final = 20
MAX_BYTES: Final = 50_000_000
"""Of all files of one root run together."""
MAX_RESTING_BYTES: Final = 200_000_000
"""Of all suspended runs together; of more the oldest lose theirs."""


class _Pending:
    """What is parked for one root run."""

    __slots__ = ("files", "over", "root", "size")

    def __init__(self, root: str) -> None:
        self.root = root
        self.files: list[Artifact] = []
        self.size = 0
        self.over = False
        """They were handed out, or dropped."""

    def take(self) -> tuple[Artifact, ...]:
        files, self.files, self.over = tuple(self.files), [], True
        return files


class Attachments:
    """The files that are parked for each root run that goes on; in memory, one for a host.

    Who runs agents calls `open` when a run begins or goes on, `rest` when it is suspended and
    `close` when it ends; a tool calls `add` with its `context.root_run_id`. A child's files go to
    the root of its family, in whichever order its members end. Used from one event loop.
    """

    def __init__(self, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._pending: dict[str, _Pending] = {}
        self._resting: dict[str, _Pending] = {}
        """Of suspended root runs, the oldest first."""

    def open(self, run_id: str, parent_run_id: str = "") -> None:
        """A run begins, or goes on with what was parked for it here before it was suspended; a
        child of a run that goes on shares what is parked for that one's root."""
        shared = self._pending.get(parent_run_id) if parent_run_id else None
        if shared is None:
            shared = self._resting.pop(run_id, None) or _Pending(run_id)
        self._pending[run_id] = shared

    def add(self, run_id: str, artifact: Artifact) -> None:
        """Park a file. Raises ToolExecutionError, which a tool lets through to the model: for a
        run that does not go on, whose answer is already on its way, or that has too many."""
        pending = self._pending.get(run_id)
        if pending is None or pending.over:
            raise _refused(f"{artifact.name}: there is no answer any more that it could go with")
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
        """The files of a root run, once, in the order in which they came; a second time, of a
        child, and of a run that is unknown, none."""
        pending = self._pending.get(run_id)
        return () if pending is None or pending.root != run_id else pending.take()

    def rest(self, run_id: str) -> None:
        """A run is suspended: what is parked for a root run waits until it goes on here."""
        pending = self._pending.pop(run_id, None)
        if pending is None or pending.root != run_id or not pending.files:
            return
        self._resting[run_id] = pending
        while sum([each.size for each in self._resting.values()]) > MAX_RESTING_BYTES:
            del self._resting[next(iter(self._resting))]

    def close(self, run_id: str) -> None:
        """A run has ended: what is left of a root run is dropped. Again is no error."""
        pending = self._pending.pop(run_id, None)
        if pending is not None and pending.root == run_id:
            pending.take()

    def __len__(self) -> int:
        """Runs that go on."""
        return len(self._pending)


def _refused(why: str) -> ToolExecutionError:
    return ToolExecutionError(f"{why}.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED)
