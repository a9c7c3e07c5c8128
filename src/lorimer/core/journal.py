"""The port to the store of facts, the records that cross it, and how a run is found in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.core.record import record

if TYPE_CHECKING:
    from pathlib import Path


ALL_RUNS: Final = 2**31
"""As the `limit` of `Journal.runs`: no limit."""


@record
class LedgerEntry:
    """A movement of money that belongs to the facts it is appended with. Nano-dollars."""

    account: str
    """Usually the run at the root of the tree."""
    reserved: int = 0
    """Added to what is set aside; negative: given back."""
    spent: int = 0
    """Added to what is spent."""
    purses: tuple[Purse, ...] = ()
    """Shared accounts in which the same is moved."""
    below: int = 0
    """Part of `spent` that runs below this one have spent: purses were charged with it by them."""


@record
class Balance:
    """What stands in an account. Nano-dollars."""

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
    """Of run.end; "" while there is none."""
    ended: float | None = None
    iterations: int = 0
    """Of run.end; 0 while there is none."""
    cost_nano: int = 0
    """The same; what a run has cost until now, `balance` says."""
    code: str = ""
    first: int = 0
    """Seq of its run.start in the stream."""


@record
class Damage:
    """A place where a stream is not as it was written."""

    seq: int
    """The fact that it begins with."""
    what: str


@record
class Post:
    """A message in the inbox of a stream: there until a fact of the stream's writer takes it."""

    id: str
    message: Mapping[str, JSON]
    time: float
    """Wall clock, seconds."""


class RunJournal(Protocol):
    """What a run itself needs of a journal.

    A commit is *visible* (survives kill -9) when `append` returns, and *synced* (survives power
    loss) if `sync` was asked for. All methods raise JournalError.
    """

    @property
    def durable(self) -> bool:
        """What is in it outlives the process."""
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
        """Add facts as one row, in one transaction with `ledger`; returns the last one's seq.

        Sets `seq` on each fact, 1, 2, 3 ... in the stream. Takes the posts whose ids a fact's
        data lists in `posts`. Raises JournalError `exec.journal.conflict` when `epoch` is no
        longer that of the stream's last claim; LimitError `exec.budget.exceeded`, and nothing is
        recorded, when `ledger` sets aside more than one of its purses has left.
        """
        ...

    def never_began(self, intent: Event) -> bool:
        """The process that appended this intent, to be synced, is dead, and `append` had not
        returned to it. False: nobody knows."""
        ...

    async def posts(self, stream: str) -> list[Post]:
        """The messages that no fact has taken yet, oldest first."""
        ...

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        """Have `tell` called on the running event loop whenever something was posted to the
        stream, also by another process. Returns what ends that. Costs no task."""
        ...


@runtime_checkable
class KeptInFiles(Protocol):
    """A journal that keeps its facts where a program could read them."""

    @property
    def files(self) -> Sequence[Path]:
        """Those that there may be: hidden from the programs that tools start."""
        ...


class Journal(RunJournal, Protocol):
    """Append-only streams of facts, one per conversation. Shipped: memory and SQLite. All methods
    raise JournalError."""

    def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The facts with seq > `after`, in order; with `follow`, then new ones as they come."""
        ...

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        """Become the one writer of a stream for `ttl` seconds; returns the epoch to append with.

        The same owner may claim again (renews, same epoch). Raises `exec.journal.conflict`
        while another owner's claim is in force.
        """
        ...

    async def renew(self, stream: str, epoch: int, ttl: float) -> None:
        """Prolong the claim that gave this epoch: it holds for `ttl` seconds from now, also when it
        had run out. Raises `exec.journal.conflict`, and changes nothing, when it was given back,
        or somebody has claimed the stream since, whether that claim is in force or not.
        """
        ...

    async def release(self, stream: str, epoch: int) -> None:
        """Give a claim back early. An older epoch is ignored."""
        ...

    async def holder(self, stream: str) -> tuple[str, float] | None:
        """Who claimed the stream last and did not give it back, and until when (wall clock,
        seconds) that claim holds; None: nobody. A process that dies gives nothing back."""
        ...

    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        """Put a message into the inbox of a stream; whoever knows the stream may. Synced.

        False: a message of that id was posted there before, taken or not; nothing changes then.
        Raises JournalError for a stream that nobody ever claimed, and when the inbox is full.
        """
        ...

    async def put(self, digest: str, body: bytes) -> None:
        """Keep a document under its hash (manifests), or one that belongs to a run under
        `word:run_id`. The same one twice is once. Put it while holding the stream of a run that
        names it: then no `sweep` removes it before the run's first fact is there."""
        ...

    async def get(self, digest: str) -> bytes | None:
        """The document of that hash, or None."""
        ...

    async def put_snapshot(self, stream: str, seq: int, body: bytes) -> None:
        """Keep a fold of the facts up to `seq`, replacing the stream's older one."""
        ...

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        """The stream's latest fold and the seq it stands for, or None."""
        ...

    async def runs(
        self, *, limit: int = 50, stream: str = "", unfinished: bool = False
    ) -> list[RunRow]:
        """The latest runs, newest first; of one stream only, or only those without an end."""
        ...

    async def find_run(self, run_id: str) -> RunRow | None:
        """The run of that id, or of the one id that begins with it; None: there is none.
        Raises JournalError when several begin with it."""
        ...

    async def check(self, stream: str) -> list[Damage]:
        """Where the rows of a stream are not as they were written; []: nowhere. What the facts in
        them say is not looked at."""
        ...

    async def drop(self, stream: str, *, before: float) -> bool:
        """Remove a stream's facts, runs, snapshot and accounts, in one transaction, if all its runs
        ended before `before` (wall clock, seconds). False, and nothing is changed: a run of it has
        no end or a later one, somebody's claim is in force, or there are no runs in it."""
        ...

    async def compact(self, stream: str, *, before: float) -> int | None:
        """Keep the facts of a stream in less room, if `drop` would remove it; nothing that reads
        them sees a difference, and the stream can go on. Returns the bytes saved, 0 when there is
        nothing to gain; None, and nothing is changed, where `drop` says False. Rows that are
        damaged, and those after them, stay as they are."""
        ...

    async def sweep(self) -> int:
        """Remove the documents that no run names; how many. None while a claim on any stream is in
        force: its holder may be about to begin a run."""
        ...

    async def balance(self, account: str) -> Balance:
        """What stands in an account of the ledger: of a run, or of a purse by its name."""
        ...

    async def used(self, purse: Purse) -> Balance:
        """What counts of a purse at this moment: set aside, and spent within its window."""
        ...

    async def shares(self, name: str) -> Mapping[str, Balance]:
        """What the runs have of the purse of that name, by run id; "": those that are not kept any
        more. They come to its balance. Takes longer the more runs there are."""
        ...

    async def close(self) -> None:
        """Write what is pending and end every thread of the store."""
        ...


async def find(journal: Journal, run_id: str, *, whole: bool = False) -> RunRow:
    """The run of that id, or, unless it has to be `whole`, of the one id that begins so. Raises
    PipelineError `exec.run.unknown`, JournalError when several begin so."""
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
