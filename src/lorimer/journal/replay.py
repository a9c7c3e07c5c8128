"""Replays a recorded run from its facts alone: no model, no tool, no network.

The engine and the stages are the usual ones. Only the RunContext is replaced: it answers every
effect from the record, calls nothing, and stops at the first difference from the record. Nothing is
written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NoReturn

from lorimer.core import engine
from lorimer.core.bus import Bus, Listeners
from lorimer.core.cancel import Reason
from lorimer.core.context import RunContext, Safety, short_hash
from lorimer.core.errors import (
    ExecutorErrorCode,
    JournalError,
    LorimerError,
    RunCancelled,
    error_from_json,
)
from lorimer.core.events import Event
from lorimer.core.facts import FACTS_OF
from lorimer.core.journal import LedgerEntry
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.limits import Bounds, Limits
from lorimer.core.plan import Plan
from lorimer.core.record import record
from lorimer.core.redaction import Redactor
from lorimer.core.result import PipelineResult
from lorimer.core.state import PipelineState
from lorimer.journal.memory import MemoryJournal
from lorimer.journal.recording import Recording, origin_of, used_s
from lorimer.world.recorded import RecordedWorld

VOLATILE: Final = frozenset({"times", "used_s", "ran_s", "reserve", "message", "posts"})
"""Fields of a fact that may differ in a replay: the times of stages, the time used before a resume,
what was reserved at the prices of the day, the text of an error, and the ids of messages taken from
the inbox. For a run that was stopped (cancelled, out of time), also how it ended: only what was
done before can be repeated."""

_STOPPED: Final = ("cancelled", "timeout", "killed")
_MONEY: Final = (
    ExecutorErrorCode.EXEC_LIMIT_COST.value,
    ExecutorErrorCode.EXEC_BUDGET_EXCEEDED.value,
    ExecutorErrorCode.EXEC_API_UNPRICED.value,
)
"""A call that was never made because of its price: prices and budgets change, and are not checked
again."""

_NEVER_MADE: Final = (*_MONEY, ExecutorErrorCode.EXEC_API_UNAVAILABLE.value)
"""Also one that was not made because all its models were benched."""

_NOTHING: Final[Mapping[str, JSON]] = {}


@record
class Divergence:
    """The first place where a replay differs from the record."""

    iteration: int
    """0-based."""
    type: str
    """The kind of fact."""
    key: str
    """The index within the iteration."""
    why: str
    seq: int
    """Seq of the recorded fact; 0: there is none."""
    recorded: Mapping[str, JSON] | None
    """Its data; None: nothing corresponding is recorded."""
    found: Mapping[str, JSON] | None
    """What the code did; None: nothing corresponding."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs."""
        return {
            "iteration": self.iteration,
            "type": self.type,
            "key": self.key,
            "why": self.why,
            "seq": self.seq,
            "recorded": self.recorded,
            "found": self.found,
        }


@record
class Replayed:
    """The outcome of a replay."""

    result: PipelineResult
    """As the run returned it; `suspended` if the record, or the agreement with it, ends before the
    run."""
    divergence: Divergence | None
    """None: everything was as recorded."""


async def replay(plan: Plan, recording: Recording, redactor: Redactor | None = None) -> Replayed:
    """Replay a run with this plan. Its manifest may differ from the recorded one: then the
    divergence shows where that begins to matter. Raises ConfigError when the recorded limits cannot
    be read."""
    given = recording.facts[0].data.get("limits")
    limits = Limits.from_json(given) if isinstance(given, Mapping) else plan.limits
    context = _Replay(recording, plan.digest, limits, redactor)
    state = PipelineState(context, recording.before(), recording.facts[0].data.get("input"))
    result = await engine.run(plan, state)
    await context.cancellation.raise_again()
    divergence = context.divergence
    if divergence is None and result.code is ExecutorErrorCode.EXEC_JOURNAL_DIVERGED:
        # the world refused, or a reply cannot be read
        divergence = Divergence(context.iteration, "", "", result.error, 0, None, None)
    return Replayed(result, divergence)


class _Replay(RunContext):
    """The RunContext of a replay: answers from the record instead of calling the outside."""

    __slots__ = ("_clock", "_end", "_not_done", "_same_manifest", "_used", "divergence")

    def __init__(
        self, recording: Recording, digest: str, limits: Limits, redactor: Redactor | None
    ) -> None:
        start, end = recording.facts[0], recording.end
        seed = start.data.get("seed")
        self._clock = RecordedWorld()
        self._clock.now = start.time
        self._end = end
        self._used = used_s(recording.facts)
        self._same_manifest = recording.digest == digest
        self._not_done: Event | None = None
        """The first recorded fact that was not repeated."""
        self.divergence: Divergence | None = None
        super().__init__(
            id=recording.run_id,
            stream=recording.session_id,
            epoch=0,
            seed=seed if isinstance(seed, int) else 0,
            world=self._clock,
            journal=MemoryJournal(self._clock),
            bounds=Bounds(limits, 0.0),
            listeners=Listeners(Bus()),
            recorded=recording.facts[:-1] if end is not None else recording.facts,
            origin=origin_of(start),
            redactor=redactor,
        )

    # --- facts ---------------------------------------------------------------------------

    compares = True

    @property
    def follows_record(self) -> bool:
        """Whether what it does next is recorded, even if only its end is. For a run that was
        stopped, or whose next call was too expensive, that does not say how it would have
        continued."""
        if self._recorded or self._end is None:
            return bool(self._recorded)
        return not self._was_stopped() and self._end.data.get("code") not in _MONEY

    async def record(
        self,
        type: str,
        data: Mapping[str, JSON],
        *,
        key: str = "",
        sync: bool = False,
        ledger: LedgerEntry | None = None,
        clean: bool = False,
    ) -> None:
        if type == "run.end":
            self._check_end(data)
        elif type != "run.suspended":
            self._check(type, key, data)

    def hold(self, type: str, data: Mapping[str, JSON], *, key: str = "") -> None:
        fact = self._check(type, key, data)
        if fact is not None:
            self._note_end(fact)

    def begin_iteration(self, iteration: int) -> None:
        left = [fact for fact in self._recorded.values() if fact.iteration < iteration]
        if left:
            fact = _first(left)
            key = str(fact.data.get("key", ""))
            self._diverge(fact.type, key, "this is recorded, and was not done", fact, None)
        self.iteration = iteration
        self.now = self._recorded_now(iteration)
        self.decided = iteration in self._decided
        if not self._recorded and self._end is not None and self._was_stopped():
            self.cancellation.cancel(_reason(self._end.data))

    async def sleep(self, seconds: float) -> None:
        """Returns at once: the recorded run has waited."""

    def finish(self) -> None:
        if self._recorded:
            self._not_done = _first(self._recorded.values())
        super().finish()

    def take(self, fact: Event) -> None:
        super().take(fact)
        self._clock.now = fact.time

    def _take(self, type: str, key: str) -> Event | None:
        at = (type, self.iteration, key)
        fact = self._recorded.pop(at, None) or self._asides.pop(at, None)
        if fact is not None:
            self._clock.now = fact.time
        if not self._recorded:
            self._clock.elapsed = self._used
        return fact

    def _check(self, type: str, key: str, data: Mapping[str, JSON]) -> Event | None:
        """The recorded fact in place of this one; None: the record ends before it."""
        fact = self._take(type, key)
        if fact is None:
            if self._recorded or (self._end is not None and not self._was_stopped()):
                self._diverge(type, key, "this is not recorded", None, data)
            return None
        theirs, ours = dict(fact.data), self._redacted(data)
        if type == "run.start" and not self._same_manifest:
            ours["manifest"] = theirs.get("manifest")
        # no data: the record is looked up and used unchanged
        if data and not _same(theirs, ours):
            self._diverge(type, key, "it says something else", fact, data)
        return fact

    def _check_end(self, data: Mapping[str, JSON]) -> None:
        end, left = self._end, self._not_done
        if self.divergence is not None:
            return
        if left is not None:
            key, why = str(left.data.get("key", "")), "this is recorded, and the run ended before"
            self.divergence = self._divergence(left.type, key, why, left, data)
            return
        if end is None:
            return
        theirs, ours = dict(end.data), self._redacted(data)
        if "output" not in theirs:  # earlier versions do not record it
            ours.pop("output", None)
        if self._was_stopped():
            for name in ("status", "code", "iterations"):
                theirs.pop(name, None)
                ours.pop(name, None)
        if _same(theirs, ours):
            self.facts.append(end)
            return
        self.iteration = end.iteration
        self.divergence = self._divergence("run.end", "", "the run ends in another way", end, data)

    # --- effects -------------------------------------------------------------------------

    def answer(self, kind: str, key: str, request: bytes) -> None:
        """Always None: `effect` compares more with the record than a resumed run does."""

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
        """Answered from the record. `call` is never called."""
        intent_type, result_type = FACTS_OF.get(kind, ("effect.intent", "effect"))
        if kind == "tool":
            self.bounds.count_tool()
        elif kind != "model":
            key = f"{kind}:{key}"
        begun, done = self._take(intent_type, key), self._take(result_type, key)
        asked = self._redacted({"key": key, "hash": short_hash(request), **intent})
        known = begun or done
        if known is not None and known.data.get("hash") != asked["hash"]:
            self._check_compacted(known)
            why = f"the {kind} call asks something else"
            if kind == "model" and _same({**known.data, "hash": ""}, {**asked, "hash": ""}):
                why += " after the same words: its tools, system prompt, model or settings differ"
            self._diverge(known.type, key, why, known, asked)
        if begun is not None and intent:
            theirs = {name: begun.data.get(name) for name in asked}
            if not _same(theirs, asked):
                self._diverge(intent_type, key, "it says something else", begun, asked)
        if done is None:
            # a read-only call leaves no trace before its result
            reached = begun is not None or safety is Safety.READ_ONLY
            await self._stop(result_type, key, asked, reached)
        self._charge(kind, key, done.data)
        error = done.data.get("error")
        if isinstance(error, Mapping):  # a tool's error is only a code, which the model has seen
            raise error_from_json(error)
        return done.data

    def _check_compacted(self, asked: Event) -> None:
        """A request differs if a compaction before it was not made."""
        for fact in [*self._recorded.values()]:
            earlier = (fact.seq or 0) < (asked.seq or 0)
            if fact.type == "compacted" and fact.iteration == self.iteration and earlier:
                key = str(fact.data.get("key", ""))
                self._diverge(fact.type, key, "this is recorded, and was not done", fact, None)

    async def _stop(
        self, type: str, key: str, asked: Mapping[str, JSON], reached: bool
    ) -> NoReturn:
        """No result of a call is recorded: the run ends here, in the way it did. `reached`: the
        recorded run may have reached this call and failed in it."""
        await asyncio.sleep(0)  # noqa: TID251 - a bare yield: calls beside this one have results
        end = self._end
        if not self._recorded:
            if end is None:
                self.cancellation.cancel(Reason.SHUTDOWN)
                self.cancellation.check()
                raise RunCancelled("It is recorded so far.", code=_SUSPENDED)
            if self._was_stopped():
                self.cancellation.cancel(_reason(end.data))
                self.cancellation.check()
            if (reached and end.data.get("code")) or end.data.get("code") in _NEVER_MADE:
                # not of the class of its code, so that nothing retries
                raise LorimerError(
                    str(end.data.get("message", "")), code=error_from_json(end.data).code
                )
        self._diverge(type, key, "no result of this call is recorded", None, asked)

    def _redacted(self, data: Mapping[str, JSON]) -> dict[str, JSON]:
        """In the form in which it would have been recorded."""
        return dict(data if self.redactor is None else self.redactor.json(data))

    def _was_stopped(self) -> bool:
        return self._end is not None and self._end.data.get("status") in _STOPPED

    # --- divergence ----------------------------------------------------------------------

    def _diverge(
        self,
        type: str,
        key: str,
        why: str,
        fact: Event | None,
        found: Mapping[str, JSON] | None,
    ) -> NoReturn:
        if self.divergence is None:
            self.divergence = self._divergence(type, key, why, fact, found)
        raise JournalError(
            f"The replay of run {self.id} diverges: {self.divergence.why}.",
            code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
        )

    def _divergence(
        self,
        type: str,
        key: str,
        why: str,
        fact: Event | None,
        found: Mapping[str, JSON] | None,
    ) -> Divergence:
        iteration = self.iteration if fact is None else fact.iteration
        seq, theirs = (fact.seq or 0, fact.data) if fact is not None else (0, None)
        return Divergence(iteration, type, key, why, seq, theirs, found)


def _first(facts: Iterable[Event]) -> Event:
    return min(facts, key=lambda fact: fact.seq or 0)


_SUSPENDED: Final = ExecutorErrorCode.EXEC_RUN_SHUTDOWN


def _same(theirs: Mapping[str, JSON], ours: Mapping[str, JSON]) -> bool:
    """Equal except for volatile fields; tuples equal lists here."""
    sides = [{k: v for k, v in side.items() if k not in VOLATILE} for side in (theirs, ours)]
    return canonical(sides[0]) == canonical(sides[1])


def _reason(end: Mapping[str, JSON]) -> Reason:
    """Who stopped a run, by its run.end."""
    if end.get("status") == "timeout":
        return Reason.TIMEOUT
    if end.get("status") == "killed":
        return Reason.KILLED
    message = str(end.get("message", ""))
    return next((reason for reason in Reason if reason.value in message), Reason.CALLER)
