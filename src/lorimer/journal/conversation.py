"""One stream of a journal, opened for writing by this process.

Decides what part of a stream is history, and where the next fact goes. When to take a snapshot is
decided in `stages/s20_persist.py`; what to do with an unfinished run, by the code that resumes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lorimer.core.errors import JournalError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.journal import Journal
from lorimer.core.redaction import logger
from lorimer.core.wellformed import repaired
from lorimer.core.world import World
from lorimer.journal.fold import Fold, RunSummary
from lorimer.journal.projection import RUN_KINDS

CLAIM_S: Final = 30.0
"""Seconds for which a claim holds, by default."""

_log = logger("lorimer.journal")


@dataclass(slots=True)
class Sums:
    """The sums over the ended runs of a conversation."""

    runs: int = 0
    iterations: int = 0
    cost_nano: int = 0
    began: float = 0.0
    """When the first one started: wall clock, seconds; 0: there is none."""
    last_used: float = 0.0
    """When the last one ended, if that was seen; else when it started."""

    @classmethod
    def of(cls, runs: Iterable[RunSummary]) -> Sums:
        sums = cls()
        for run in runs:
            sums.add(run.started, run.started, run.iterations, run.cost_nano)
        return sums

    def add(self, started: float, ended: float, iterations: int, cost_nano: int) -> None:
        """One more run."""
        self.runs += 1
        self.iterations += iterations
        self.cost_nano += cost_nano
        self.began = self.began or started
        self.last_used = max(self.last_used, ended)


class Conversation:
    """The claim on a stream, the messages of its ended runs, and its position.

    The caller appends facts to `journal` under `epoch`, reports them to `add`, and appends the
    messages of a live run to `history` itself.
    """

    __slots__ = (
        "_claimed",
        "_world",
        "claim_s",
        "epoch",
        "history",
        "journal",
        "seq",
        "snapshot_at",
        "snapshot_runs",
        "stream",
        "sums",
        "taken_up",
        "unfinished",
    )

    def __init__(
        self,
        journal: Journal,
        stream: str,
        world: World,
        epoch: int,
        claim_s: float,
        claimed: float,
    ) -> None:
        """Use `open`. `claimed`: on the monotonic clock, no later than the claim."""
        self.journal = journal
        self.stream = stream
        self.epoch = epoch
        """The epoch to append with."""
        self.claim_s = claim_s
        """Seconds for which each claim or renewal holds."""
        self.history = History()
        """Messages of all ended runs, well-formed; a live run adds its own."""
        self.unfinished: list[Event] = []
        """Facts of the last run, from its run.start on, if it has no run.end, so that it can be
        resumed. They are not in `history`."""
        self.seq = 0
        """Seq of the stream's last fact."""
        self.snapshot_at = 0
        """Seq of the last fact that the stream's snapshot covers; 0: there is no snapshot."""
        self.snapshot_runs = 0
        """How many runs the snapshot covers."""
        self.sums = Sums()
        """Sums over all ended runs."""
        self.taken_up = False
        """A run of a session took place since it was opened, and listeners were notified."""
        self._world = world
        self._claimed = claimed

    @classmethod
    async def open(
        cls, journal: Journal, stream: str, owner: str, world: World, claim_s: float = CLAIM_S
    ) -> Conversation:
        """Claim a stream, new or not, and read it: the latest snapshot and what follows it.

        `owner` must name this process, not only its program: claims of one owner are one claim.
        Raises JournalError `exec.journal.conflict` while another owner's claim is in force, and
        `exec.journal.failed` when the facts are inconsistent; the claim is then released.
        """
        now = world.monotonic()  # the process may be frozen before it learns of its claim
        epoch = await journal.claim(stream, owner, claim_s)
        self = cls(journal, stream, world, epoch, claim_s, now)
        try:
            folded, self.unfinished, kept = await read(journal, stream)
        except BaseException:
            await journal.release(stream, epoch)
            raise
        self.snapshot_at, self.snapshot_runs = kept
        self.history = History(repaired(folded.messages))
        self.history.recorded = folded.counted
        self.history.adopt_receipt(folded.receipt)
        self.sums = Sums.of(folded.runs)
        self.seq = folded.seq + len(self.unfinished)
        return self

    def add(self, facts: Sequence[Event]) -> None:
        """Take note of appended facts. Raises JournalError when they do not follow those known
        here."""
        if facts and facts[0].seq != self.seq + 1:
            raise JournalError(
                f"{self.stream!r} continues with fact {facts[0].seq}, not {self.seq + 1}",
                hint="Somebody else wrote to it: open it again.",
            )
        self.seq += len(facts)
        for back, fact in enumerate(reversed(facts), 1):  # nearly always ends at once: at run.end
            if fact.type in RUN_KINDS:
                self.unfinished = list(facts[-back:]) if fact.type == "run.start" else []
                return
        if self.unfinished:
            self.unfinished += facts

    @property
    def fresh(self) -> bool:
        """Whether most of the claim's time is left."""
        return self._world.monotonic() - self._claimed < self.claim_s / 3

    async def renew(self) -> None:
        """Renew the claim; each run begins with this. Costs nothing while the claim is fresh.

        Raises JournalError `exec.journal.conflict` when another owner has or had the stream: what
        is known here is outdated, and the stream must be opened again. The other owner's claim is
        not touched, even if it is slow and has let it expire.
        """
        if self.fresh:
            return
        now = self._world.monotonic()
        await self.journal.renew(self.stream, self.epoch, self.claim_s)
        self._claimed = now

    async def check(self) -> None:
        """Called before something is begun outside: a process that was frozen may have lost the
        stream without noticing, so an expired claim is renewed. Costs nothing before it expires.

        Raises JournalError as `renew` does.
        """
        if self._world.monotonic() - self._claimed >= self.claim_s:
            await self.renew()

    async def snapshot(self, known: Sequence[Event] = ()) -> None:
        """Store the fold of all ended runs, so that the next `open` only reads what follows. Its
        size is that of the conversation, so call this rarely. `known` are the stream's last facts,
        if the caller has them; nothing that they contain is read again."""
        folded, _, kept = await read(self.journal, self.stream, known)
        self.snapshot_at, self.snapshot_runs = kept
        if folded.seq > self.snapshot_at:
            await self.journal.put_snapshot(self.stream, folded.seq, folded.dump())
            self.snapshot_at, self.snapshot_runs = folded.seq, len(folded.runs)

    @property
    def runs_since_snapshot(self) -> int:
        """How many runs have ended since the snapshot, or in total if there is none."""
        return self.sums.runs - self.snapshot_runs

    async def release(self) -> None:
        """Release the claim. Nothing may be appended with this epoch afterwards."""
        await self.journal.release(self.stream, self.epoch)


def _take(folded: Fold, pending: list[Event], fact: Event) -> list[Event]:
    """The facts of the run that `fact` belongs to, including it, until that run has ended."""
    # a run without an end that is followed by another was abandoned
    if pending and fact.type == "run.start":
        pending = _absorb(folded, pending)
    pending.append(fact)
    if pending[0].type != "run.start" or fact.type == "run.end":
        pending = _absorb(folded, pending)
    return pending


def _absorb(folded: Fold, facts: list[Event]) -> list[Event]:
    for fact in facts:
        folded.apply(fact)
    return []


async def read(
    journal: Journal, stream: str, known: Sequence[Event] = ()
) -> tuple[Fold, list[Event], tuple[int, int]]:
    """The fold of everything in a stream except an unfinished last run, the facts of that run, and
    what the stream's snapshot covers: its last fact, and how many runs. `known` as in
    `Conversation.snapshot`."""
    folded = await latest(journal, stream)
    kept = folded.seq, len(folded.runs)
    pending: list[Event] = []
    if known and known[0].seq == folded.seq + 1:
        for fact in known:
            pending = _take(folded, pending, fact)
    else:
        async for fact in journal.read(stream, folded.seq):
            if pending and fact.type not in RUN_KINDS:  # nearly all
                pending.append(fact)
            else:
                pending = _take(folded, pending, fact)
    return folded, pending, kept


async def latest(journal: Journal, stream: str) -> Fold:
    """The fold in the stream's snapshot; an empty one if there is none, or it is unreadable."""
    kept = await journal.snapshot(stream)
    if kept is None:
        return Fold()
    try:
        state = Fold.load(kept[1])
    except JournalError as error:  # the facts contain the same, but take longer to read
        _log.warning("the snapshot of %r is not used: %s", stream, error)
        return Fold()
    return state
