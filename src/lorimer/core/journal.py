"""The port to the store of facts, the records that it exchanges, and how a run is looked up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.record import record

if TYPE_CHECKING:
    from pathlib import Path


ALL_RUNS: Final = 2**31
"""`limit` of `Journal.runs` for no limit."""


@record
class LedgerEntry:
    """A movement of money that belongs to the facts it is appended with, in nano-dollars."""

    account: str
    """The account; usually the run at the root of the tree."""
    reserved: int = 0
    """Added to the reserved amount; negative: released."""
    spent: int = 0
    """Added to the spent amount."""
    purses: tuple[Purse, ...] = ()
    """Shared accounts in which the same is booked."""
    below: int = 0
    """The part of `spent` that child runs have spent: they have charged the purses with it
    already."""


@record
class Balance:
    """The state of an account, in nano-dollars."""

    reserved: int = 0
    """Set aside for calls that are under way, or were when their process died."""
    spent: int = 0


@record
class RunRow:
    """One run as a store lists it: a projection of its run.start and run.end."""

    run_id: str
    stream: str
    """Where its facts are: the `session_id` of its result; of a run that is part of another, one of
    its own."""
    started: float
    """Wall clock, seconds."""
    title: str = ""
    status: str = ""
    """The status of run.end; "" while there is none."""
    ended: float | None = None
    iterations: int = 0
    """The cost in run.end; 0 while there is none."""
    cost_nano: int = 0
    """The usage in run.end; for the cost of an unfinished run see `balance`."""
    code: str = ""
    first: int = 0
    """Seq of its run.start in the stream."""


@record
class Damage:
    """A place where a stream differs from what was written."""

    seq: int
    """The first fact of the damaged row."""
    what: str


@record
class Post:
    """A message in the inbox of a stream: it stays until a fact of the stream's writer takes it."""

    id: str
    message: Mapping[str, JSON]
    time: float
    """Wall clock, seconds."""


class RunJournal(Protocol):
    """What a run itself needs of a journal.

    A commit is *visible* (survives kill -9) when `append` returns, and *synced* (survives power
    loss) if `sync` was requested. All methods raise JournalError.
    """

    @property
    def durable(self) -> bool:
        """Whether its contents outlive the process."""
        ...

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        """Append facts as one row, in one transaction with `ledger`; returns the seq of the last
        one.

        Sets `seq` on each fact: 1, 2, 3 ... in the stream. Takes the posts whose ids a fact lists
        in its `posts`. Raises JournalError `exec.journal.conflict` when `epoch` is no longer that
        of the stream's last claim, and for a run.start while another run of the stream is open.
        Raises LimitError `exec.budget.exceeded` when `ledger` reserves more than one of its purses
        has left. Then nothing is recorded.
        """
        ...

    def never_began(self, intent: Event) -> bool:
        """Whether the process that was appending this intent with `sync` is known to have died
        before `append` returned. False: unknown."""
        ...

    async def posts(self, stream: str) -> list[Post]:
        """The messages that no fact has taken yet, oldest first."""
        ...

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` on the running event loop whenever something is posted to the stream, also by
        another process. Returns a function that ends this. Needs no task."""
        ...


@runtime_checkable
class KeptInFiles(Protocol):
    """A journal whose facts are in files that a program could read."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that there may be; hidden from programs that tools start."""
        ...


class Journal(RunJournal, Protocol):
    """Append-only streams of facts, one per conversation. Shipped: memory and SQLite. All methods
    raise JournalError."""

    def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The facts with seq > `after`, in order, with the keys of their data in order; with
        `follow`, also new ones as they are appended."""
        ...

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        """Become the only writer of a stream for `ttl` seconds; returns the epoch to append with.

        The same owner may claim again: that renews the claim, with the same epoch. Raises
        `exec.journal.conflict` while another owner's claim is in force.
        """
        ...

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        """Renew the claim with this epoch for `ttl` seconds from now, even if it has expired.
        Raises `exec.journal.conflict`, and changes nothing, when the claim was released or somebody
        has claimed the stream since, whether that claim is still in force or not."""
        ...

    async def release(self, stream: str, epoch: int) -> None:
        """Release a claim early. An older epoch is ignored."""
        ...

    async def holder(self, stream: str) -> tuple[str, float] | None:
        """Who claimed the stream last and has not released it, and until when (wall clock, seconds)
        that claim holds; None: nobody. A process that dies releases nothing."""
        ...

    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        """Put a message into the inbox of a stream; anyone who knows the stream may. Synced.

        Returns False, and changes nothing, if a message with that id was posted there before, taken
        or not. Raises JournalError for a stream that was never claimed, and when the inbox is full.
        """
        ...

    async def put(self, digest: str, body: bytes) -> None:
        """Store a document under its hash (manifests), or one that belongs to a run under
        `word:run_id`. Storing the same document again changes nothing. Store it while holding the
        stream of a run that refers to it: then no `sweep` removes it before the run's first fact
        exists."""
        ...

    async def get(self, digest: str) -> bytes | None:
        """The document with that hash, or None."""
        ...

    async def put_snapshot(self, stream: str, seq: int, body: bytes) -> None:
        """Store a fold of the facts up to `seq`, replacing the stream's older one."""
        ...

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        """The stream's latest fold and the seq up to which it goes, or None."""
        ...

    async def runs(
        self, *, limit: int = 50, stream: str = "", unfinished: bool = False
    ) -> list[RunRow]:
        """The latest runs, newest first; optionally of one stream, or only those without an end."""
        ...

    async def find_run(self, run_id: str) -> RunRow | None:
        """The run with that id, or the only one whose id begins with it; None: there is none, or
        the id is empty.
        Raises JournalError when several ids begin with it."""
        ...

    async def check(self, stream: str) -> list[Damage]:
        """Where the rows of a stream differ from what was written; []: nowhere. The content of the
        facts is not checked."""
        ...

    async def drop(self, stream: str, *, before: float) -> bool:
        """Remove a stream's facts, posts, runs, snapshot and accounts in one transaction, if all
        its runs ended before `before` (wall clock, seconds). Returns False, and changes nothing, if
        a run has not ended or ended later, if a claim is in force, or if the stream has no runs."""
        ...

    async def compact(self, stream: str, *, before: float) -> int | None:
        """Store the facts of a stream in less space, if `drop` would remove it. Readers see no
        difference, and the stream can be continued. Returns the bytes saved, 0 if nothing can be
        saved; None, with nothing changed, where `drop` would return False. Damaged rows, and all
        rows after them, stay as they are."""
        ...

    async def sweep(self) -> int:
        """Remove the documents that no run refers to; returns their number. Removes none while a
        claim on any stream is in force: its holder may be about to begin a run."""
        ...

    async def balance(self, account: str) -> Balance:
        """The state of an account of the ledger: of a run, or of a purse by its name."""
        ...

    async def used(self, purse: Purse) -> Balance:
        """What counts against a purse now: reserved, and spent within its window."""
        ...

    async def shares(self, name: str) -> Mapping[str, Balance]:
        """The shares of the runs in the purse of that name, by run id; under "", those of runs that
        are no longer stored. They add up to its balance. Takes longer the more runs there are."""
        ...

    async def close(self) -> None:
        """Write what is pending and end every thread of the store."""
        ...


async def find(journal: Journal, run_id: str, *, whole: bool = False) -> RunRow:
    """The run with that id, or, unless it has to be the `whole` id, the only one whose id begins
    with it. Raises PipelineError `exec.run.unknown`, JournalError when several ids begin with
    it, ConfigError for what is no id."""
    if not is_a(run_id, str):
        raise wrong("the id of a run", run_id, "text", "result.run_id")
    row = await journal.find_run(run_id)
    if row is None or (whole and row.run_id != run_id):
        raise PipelineError(
            f"There is no run {run_id!r} in this store.",
            code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
            hint="lorimer runs ls shows the runs there are."
            if row is None
            else f"Give the whole id: {row.run_id}",
        )
    return row
