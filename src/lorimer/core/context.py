"""RunContext: what stages and tools use of a run: effects, facts, signals, limits. Its money:
`spend.py`. Its time: `timed_run.py`. How it is stopped: `cancel.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, ClassVar, Final

from lorimer.core.bus import Listeners
from lorimer.core.cancel import Cancellation
from lorimer.core.errors import (
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
    error_from_json,
)
from lorimer.core.events import Event
from lorimer.core.facts import ABANDONED, ASIDE, ASIDES, FACTS_OF, PHASE
from lorimer.core.journal import RunJournal
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Bounds
from lorimer.core.owned import OwnedResources
from lorimer.core.purse import purses_of
from lorimer.core.record import record
from lorimer.core.redaction import Redactor
from lorimer.core.review import Review
from lorimer.core.spend import Spend, whole
from lorimer.core.timed_run import TimedRun
from lorimer.core.world import World

if TYPE_CHECKING:
    from lorimer.core.children import Children
    from lorimer.core.mailbox import Mail
    from lorimer.core.messages import Message
    from lorimer.core.plan import Plan
    from lorimer.core.tool import PastCall


class Safety(Enum):
    """What may be repeated when it is unknown whether an effect took place."""

    READ_ONLY = "read_only"
    """Changes nothing: no intent is recorded; it is simply repeated."""
    IDEMPOTENT = "idempotent"
    """Repeated with the same key: takes effect once."""
    UNSAFE = "unsafe"
    """Never repeated without a decision. Its intent is synced before it starts."""


# looked up once: access to a member through its Enum class is slow
_READ_ONLY: Final = Safety.READ_ONLY
_UNSAFE: Final = Safety.UNSAFE


class OutcomeUnknown(LorimerError):
    """An unsafe effect was started before a crash, and its outcome is unknown."""

    default_code = ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN


@record
class PendingChange:
    """Changes of the manifest that a live run has not applied yet."""

    changes: Sequence[JSON]
    plan: Plan
    """The plan with these changes."""


_NOTHING: Final[Mapping[str, JSON]] = {}
_OTHER_FACTS: Final = ("effect.intent", "effect")
"""The facts of all other kinds of effect, as in FACTS_OF."""
_CHARGES: Final = ("model", PHASE)
_CLEAN: Final = ("model", ASIDE)
"""Kinds of call from which `models/pull.py` removes secrets, because their answers are objects too.
"""


def short_hash(data: bytes) -> str:
    """12 bytes of BLAKE2b in hex: the form in which facts store hashes."""
    return blake2b(data, digest_size=12).hexdigest()


class RunContext(TimedRun):
    """One run's access to the outside, and everything that belongs to this run only. Owned by the
    run's task; tools may use it from tasks that the run started."""

    __slots__ = (
        "_dice",
        "_asked",
        "below",
        "past_calls",
        "children",
        "check_claim",
        "leaves_unfinished",
        "mail",
        "messages",
        "origin",
        "owned",
        "plan",
        "refused",
        "review",
        "root",
        "seed",
        "session",
        "stage_ended_at",
        "snapshot_at",
        "snapshot_due",
        "strangers",
        "runs_since_snapshot",
        "pending_changes",
    )

    def __init__(
        self,
        *,
        id: str,
        stream: str,
        epoch: int,
        seed: int,
        world: World,
        journal: RunJournal,
        bounds: Bounds,
        listeners: Listeners,
        recorded: Iterable[Event] = (),
        position: int = 0,
        snapshot_at: int = 0,
        runs_since_snapshot: int = 0,
        check_claim: Callable[[], Awaitable[None]] | None = None,
        origin: Mapping[str, JSON] = _NOTHING,
        redactor: Redactor | None = None,
        above: Spend | None = None,
    ) -> None:
        super().__init__(
            id,
            world,
            listeners,
            stream,
            epoch,
            journal,
            bounds,
            recorded,
            position,
            above,
            purses_of(origin) if origin else (),
        )
        # those of TimedRun, which has no __init__ of its own
        self.cancellation, self.above = Cancellation(), None
        self._deadline_passed = self._catching_up = False
        self.redactor = redactor
        self.seed = seed
        """Seed of the run's dice; recorded, so that a resumed run draws the same numbers."""
        self.origin = origin
        """Further data of its run.start: `parent` of a fork or child, its `budgets`, why it was
        `refused`."""
        self.refused = _refused(origin) if origin else None
        """Why the run ends before it has called anything."""
        self.root = id
        """Id of the topmost run of the tree it belongs to; its own id, if it has no parent."""
        self.session: Mapping[str, JSON] = _NOTHING
        """Data of the session that is opened with this run; {}: none is."""
        self.mail: Mail | None = None
        """Messages from others; None: there have been none. See `mailbox.py`."""
        self.messages: Sequence[Message] = ()
        """The current conversation, for tools that look back on it."""
        self.owned = OwnedResources()
        """Resources that tools keep between their calls."""
        self.children: Children | None = None
        """Its child runs; None: its agent has no sub-agents."""
        self.below: tuple[RunContext, ...] = ()
        """Live child runs in this process."""
        self.leaves_unfinished = False
        """The run stops without a run.end, and can be resumed."""
        self.review: Review | None = None
        """Checks calls before they are made; None: there are no reviewers."""
        self.snapshot_at = snapshot_at
        """Number of the stream's facts that its last snapshot covers."""
        self.runs_since_snapshot = runs_since_snapshot
        """Number of runs that have ended in the stream since that snapshot, before this one."""
        self.snapshot_due = False
        """Stage 20 wants the conversation's fold to be stored when this run has ended."""
        self.strangers: set[str] | None = None
        """Tools whose untrusted results are in the conversation; None: not determined yet."""
        self.plan: Plan | None = None
        """The plan in execution; None: the run has not begun."""
        self.stage_ended_at = 0.0
        """When its last stage ended, on the monotonic clock."""
        self.pending_changes: Sequence[PendingChange] = ()
        """Changes of the plan to apply before the next model call, in order."""
        self.past_calls: list[PastCall] | None = None
        """The conversation's calls that tools look back on; None: not determined yet."""
        self.check_claim = check_claim
        """Raises JournalError when this process has lost its claim on the stream; None: that cannot
        happen."""
        self._dice: Random | None = None
        self._asked: dict[tuple[int, str], int] = {}

    compares: ClassVar[bool] = False
    """Whether what it does is compared with the record, as in a replay: what can be worked out
    again is, instead of being taken from there."""

    @property
    def follows_record(self) -> bool:
        """Whether what it does next is recorded; in a replay, even if only its end is."""
        return bool(self._recorded)

    @property
    def dice(self) -> Random:
        """The run's random numbers: the same ones when it is resumed or replayed."""
        if self._dice is None:
            self._dice = self.world.dice(self.seed)
        return self._dice

    def has_mail(self, iteration: int, *, nudges: bool = True) -> bool:
        """Whether texts for the model have arrived; in a replay, whether any had arrived before
        this iteration. `nudges`: include those of its supervisor."""
        if self._recorded:
            return ("effect", iteration, "inbox:") in self._recorded
        return self.mail is not None and (self.mail.texts or (nudges and self.mail.nudged))

    def nth(self, name: str) -> int:
        """How often this was called with this name before in this iteration. Makes the keys of
        otherwise equal effects unique, and reproducible when the run is resumed."""
        count = self._asked.get((self.iteration, name), 0)
        self._asked[self.iteration, name] = count + 1
        return count

    async def effect(
        self,
        kind: str,
        key: str,
        call: Callable[[], Awaitable[Mapping[str, JSON]]],
        *,
        request: bytes,
        safety: Safety,
        intent: Mapping[str, JSON] = _NOTHING,
        reserve_nano: int = 0,
        aborted: Callable[[], Mapping[str, JSON]] | None = None,
        hold_empty: bool = False,
    ) -> Mapping[str, JSON]:
        """Call the outside once, recorded. The only way of a run to the world.

        `kind` is `model`, `tool` or any other word; `key` makes the effect unique within its
        iteration. `request` is what is asked, as canonical bytes: a resumed run that asks something
        else stops (`exec.journal.diverged`) and calls nothing. `call` returns plain data, which
        becomes the fact `model.reply`, `tool.result` or `effect`; a LorimerError that it raises is
        recorded too and raised again on resume. `intent` is added to the intent's fact.
        `reserve_nano` nano-dollars are reserved with the intent, in the account of the run and in
        its purses, and settled against the result's `cost`. `aborted` returns what is recorded when
        the call is cancelled, or raises anything but a LorimerError. `hold_empty`: a result without
        data is recorded together with the next fact, see `hold`.

        Returns the call's data, from the journal if it is recorded. Raises OutcomeUnknown for an
        unsafe effect that was begun before a crash and has no result. Before anything is called,
        raises LimitError when not enough money is left, and JournalError when another process has
        taken over the run.
        """
        if self.replayed:
            answer = self.answer(kind, key, request)
            if answer is not None:
                return answer
        digest = short_hash(request)
        intent_type, result_type = FACTS_OF.get(kind, _OTHER_FACTS)
        if kind == "tool":
            self.bounds.count_tool()
        key, recorded = self._filed(kind, key)
        begun = recorded.pop((intent_type, self.iteration, key), None) if recorded else None
        if begun is not None and begun.data.get("hash") != digest:
            raise self._diverged(kind, key)
        self.cancellation.check()
        if self.replayed and not self.cancellation.finished:
            self._go_live()
        has_intent = safety is not _READ_ONLY
        if begun is not None:
            if safety is _UNSAFE:
                raise OutcomeUnknown(
                    "This call was begun before an interruption; whether it took effect is not "
                    "known. It was not run again."
                )
            reserve_nano = whole(begun.data.get("reserve"))
        elif has_intent:
            entry = self.spend.reserve(reserve_nano)
            begins: dict[str, JSON] = {"key": key, "hash": digest, **intent}
            if reserve_nano:
                begins["reserve"] = reserve_nano
            try:
                await self.record(
                    intent_type, begins, key=key, sync=safety is _UNSAFE, ledger=entry
                )
            except (asyncio.CancelledError, LimitError) as failure:
                if isinstance(failure, LimitError) or not self.wrote(intent_type, key):
                    self.spend.give_back(reserve_nano)
                raise
        data: dict[str, JSON] = {"key": key} if has_intent else {"key": key, "hash": digest}
        error: LorimerError | None = None
        if self.check_claim is not None:
            await self.check_claim()
        try:
            found = await call()
            if self.redactor is not None and kind not in _CLEAN:
                found = self.redactor.json(found, deep=True)  # the run gets what is recorded
            data.update(found)
        except JournalError:  # of an effect within this one: there is no result to record
            raise
        except LorimerError as failure:
            error = failure if self.redactor is None else self.redactor.error(failure)
            data.update({"error": failure.to_json(), **_spent(aborted)})
        except (asyncio.CancelledError, Exception):
            await self._abandon(kind, key, _spent(aborted))
            raise
        entry = self.spend.settle(reserve_nano, data)
        if hold_empty and len(data) == (1 if has_intent else 2):
            self.hold(result_type, data, key=key)
            return data
        try:
            await self.record(result_type, data, key=key, ledger=entry, clean=error is None)
        except asyncio.CancelledError as cancelled:
            if not self.wrote(result_type, key):
                self.spend.undo(reserve_nano, data)
                await self._abandon(kind, key, _cost_of(data))
                raise
            # it is recorded, so the call is over; the cancellation takes effect at the next check
            self.cancellation.note_cancelled(cancelled)
        if error is not None:
            raise error
        return data

    def answer(self, kind: str, key: str, request: bytes) -> Mapping[str, JSON] | None:
        """What `effect` would return or raise, if that is recorded; None: it is not, and `effect`
        has to be called. For callers who have much to prepare for a call."""
        key, recorded = self._filed(kind, key)
        if not recorded:
            return None
        intent_type, result_type = FACTS_OF.get(kind, _OTHER_FACTS)
        at = (result_type, self.iteration, key)
        if at not in recorded:
            return None
        if kind == "tool":
            self.bounds.count_tool()
        begun, done = recorded.pop((intent_type, self.iteration, key), None), recorded.pop(at)
        found = done.data
        asked = found if begun is None else begun.data
        if asked.get("hash") != short_hash(request):
            raise self._diverged(kind, key)
        self._charge(kind, key, found)
        return _outcome(found) if "error" in found else found

    def _filed(self, kind: str, key: str) -> tuple[str, dict[tuple[str, int, str], Event]]:
        """The key of an effect's facts, and the index of recorded facts that may have them."""
        if kind in FACTS_OF:
            return key, self._recorded
        return f"{kind}:{key}", self._asides if kind in ASIDES else self._recorded

    def _diverged(self, kind: str, key: str) -> JournalError:
        return JournalError(
            f"Run {self.id} cannot go on: {kind} call {key!r} of turn {self.iteration + 1} is not "
            "the one that was recorded.",
            code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
            hint="The manifest, a stage or a tool changed since. Start a new run, or put back the "
            "version that began this one.",
        )

    def _charge(self, kind: str, key: str, done: Mapping[str, JSON]) -> None:
        """Charge the cost of a recorded effect; for a reply or phase also that of its side
        calls."""
        if kind in ASIDES:
            self._charge_asides(self.iteration, key)
            return
        if "usage" in done or "cost" in done:  # few tools have them
            self.spend.charge(done)
        if kind in _CHARGES and self._uncharged:
            self._charge_asides(self.iteration)

    async def _abandon(self, kind: str, key: str, spent: Mapping[str, JSON]) -> None:
        """Record the cost of an aborted call, whose intent stays without a result."""
        if spent:
            key = f"{ABANDONED}{kind}:{key}"
            entry = self.spend.write_off(spent)
            with self.cancellation.shielded():
                await self.record("effect", {"key": key, **spent}, key=key, ledger=entry)


def _refused(origin: Mapping[str, JSON]) -> LorimerError | None:
    error = origin.get("refused")
    return error_from_json(error) if isinstance(error, Mapping) else None


def _outcome(data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    error = data.get("error")
    if isinstance(error, dict):  # a tool's error is only a code, which the model has seen
        raise error_from_json(error)
    return data


def _cost_of(data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    found = {name: data[name] for name in ("usage", "cost", "runs") if data.get(name)}
    extra = data.get("extra")
    if isinstance(extra, Mapping) and extra.get("usage_estimated"):
        found["extra"] = {"usage_estimated": True}
    return found


def _spent(aborted: Callable[[], Mapping[str, JSON]] | None) -> Mapping[str, JSON]:
    return aborted() if aborted is not None else {}
