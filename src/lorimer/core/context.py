"""What a run is to its stages: effects, facts, signals, limits. Its money: `spend.py`. How it is
stopped: `cancel.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Final

from lorimer.core.alarm import Alarm
from lorimer.core.bus import Listeners
from lorimer.core.cancel import Cancellation, Reason
from lorimer.core.errors import (
    ExecutorErrorCode,
    JournalError,
    LorimerError,
    error_from_json,
)
from lorimer.core.events import Event
from lorimer.core.journal import Journal, LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Bounds
from lorimer.core.spend import Spend, whole
from lorimer.core.world import World

if TYPE_CHECKING:
    from lorimer.core.mail import Mail


class Safety(Enum):
    """What may be done again when nobody knows whether an effect happened."""

    READ_ONLY = "read_only"
    """Changes nothing: no intent is recorded, it is simply run again."""
    IDEMPOTENT = "idempotent"
    """Run again with the same key: happens once."""
    UNSAFE = "unsafe"
    """Never run again without a decision. Its intent is synced before it starts."""


class Unknown(LorimerError):
    """An unsafe effect was started before a crash and nobody knows how it ended."""

    default_code = ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN


_FACTS: Final = {"model": ("model.intent", "model.reply"), "tool": ("tool.intent", "tool.result")}

_NOBODY: Final[Callable[[str], bool]] = frozenset[str]().__contains__

_ABANDONED: Final = "abandoned:"

_NOTHING: Final[Mapping[str, JSON]] = {}


def short_hash(data: bytes) -> str:
    """12 bytes of BLAKE2b in hex: the form in which facts keep hashes."""
    return blake2b(data, digest_size=12).hexdigest()


class RunContext:
    """One run's line to the outside. Belongs to the run's task; tools may use it from tasks that
    the run started."""

    __slots__ = (
        "_changing",
        "_dice",
        "_drained",
        "_held",
        "_holds",
        "_listeners",
        "_recorded",
        "_patient",
        "_resumed_at",
        "_recorded_until",
        "_used_s",
        "alarm",
        "bounds",
        "cancellation",
        "cut_short",
        "epoch",
        "facts",
        "heard",
        "id",
        "iteration",
        "journal",
        "mail",
        "now",
        "origin",
        "position",
        "replayed",
        "seed",
        "snapshot_at",
        "snapshot_due",
        "spend",
        "stage",
        "stream",
        "wants",
        "world",
    )

    def __init__(
        self,
        *,
        id: str,
        stream: str,
        epoch: int,
        seed: int,
        world: World,
        journal: Journal,
        bounds: Bounds,
        listeners: Listeners,
        recorded: Iterable[Event] = (),
        used_s: float = 0.0,
        position: int = 0,
        snapshot_at: int = 0,
        holds: Callable[[], Awaitable[None]] | None = None,
        origin: Mapping[str, JSON] = _NOTHING,
    ) -> None:
        self.id = id
        self.stream = stream
        self.epoch = epoch
        self.seed = seed
        """Of the run's dice; recorded, so a resumed run throws the same."""
        self.origin = origin
        """What its run.start says besides: of a fork, `parent`."""
        self.world = world
        self.journal = journal
        self.bounds = bounds
        self.spend = Spend(id, bounds.limits.max_cost_nano)
        """Tokens and money."""
        self.now = 0.0
        """Wall clock, seconds; fixed within an iteration and recorded."""
        self.iteration = 0
        self.stage = ""
        self.cancellation = Cancellation()
        self._changing = 0
        """Calls under way that change something."""
        self._drained: asyncio.TimerHandle | None = None
        self.cut_short = False
        """It was stopped before all that is recorded of it was answered again."""
        self.alarm: Alarm
        """The run's deadlines; there from `enter` on."""
        self.mail: Mail | None = None
        """What others tell it; None: nobody has yet. See `mail.py`."""
        self.facts: list[Event] = list(recorded)
        """All facts of this run, in order."""
        self.replayed = len(self.facts)
        """How many of them were there when the run was resumed."""
        self._patient = False
        """It still answers from its journal, for which it is given time."""
        self.position = position
        """How many facts the stream has."""
        self.snapshot_at = snapshot_at
        """For how many of them its last snapshot stands."""
        self.snapshot_due = False
        """Stage 20 wants the conversation's fold to be stored when this run has ended."""
        self._recorded: dict[tuple[str, int, str], Event] = {}
        self._recorded_until = -1
        for fact in self.facts:
            self._index(fact)
        self._held: list[Event] = []
        self._used_s = used_s if self.facts else None
        """Seconds it had run before it was resumed. The first new fact tells how many it is by
        then."""
        self._resumed_at = world.monotonic() if self.facts else 0.0
        self._holds = holds
        """Raises JournalError when this process has lost the stream; None: it cannot."""
        self._listeners = listeners
        self.heard = False
        """Somebody listens to something of this run; looked at anew in each iteration."""
        self.wants: Callable[[str], bool] = _NOBODY
        """`wants(type)`: somebody listens to signals of this type, and this is no replay. Ask
        before building a signal's data; while nobody listens, asking costs nothing."""
        self._listen()
        self._dice: Random | None = None

    def _index(self, fact: Event) -> None:
        key = str(fact.data.get("key", ""))
        if key.startswith(_ABANDONED):
            self.spend.charge(fact.data)
        elif fact.type not in ("run.suspended", "child"):
            self._recorded[(fact.type, fact.iteration, key)] = fact
            self._recorded_until = max(self._recorded_until, fact.iteration)
            if fact.type == "model.intent":
                self.spend.recall(whole(fact.data.get("reserve")))
            elif fact.type == "model.reply":
                begun = self._recorded.get(("model.intent", fact.iteration, key))
                if begun is not None:
                    self.spend.recall(-whole(begun.data.get("reserve")))

    # --- facts ---------------------------------------------------------------------------

    @property
    def replaying(self) -> bool:
        """Recorded facts are still being answered from; nothing new has happened yet."""
        return bool(self._recorded)

    @property
    def follows_record(self) -> bool:
        """What it does next is recorded; in a replay, be it only its end."""
        return bool(self._recorded)

    @property
    def dice(self) -> Random:
        """Random numbers of this run: the same again when it is resumed or replayed."""
        if self._dice is None:
            self._dice = self.world.dice(self.seed)
        return self._dice

    def recorded(self, type: str, key: str = "") -> Event | None:
        """The recorded fact of this iteration, if the run is being resumed and has it."""
        return self._recorded.get((type, self.iteration, key)) if self._recorded else None

    def has_mail(self, iteration: int) -> bool:
        """Texts have come for the model; or, in a replay, had come before this iteration."""
        if self._recorded:
            return ("effect", iteration, "inbox:") in self._recorded
        return self.mail is not None and self.mail.texts

    def has_begun(self, kind: str, key: str) -> bool:
        """A fact tells of this iteration's effect, whatever became of it. Looks through the facts
        of the iteration: not for the hot path."""
        intent_type, result_type = _FACTS[kind]
        for fact in reversed(self.facts):
            if fact.iteration < self.iteration:
                break
            found = fact.iteration == self.iteration and fact.data.get("key") == key
            if found and fact.type in (intent_type, result_type):
                return True
        return False

    def begin_iteration(self, iteration: int) -> None:
        """The engine enters an iteration: `now` is the time of the fact before it."""
        self.iteration = iteration
        self._listen()
        if self._recorded and iteration > self._recorded_until:
            self._pass_over()
        if self._held:
            self.now = self._held[-1].time
        elif not self._recorded and (iteration or not self.now):
            self.now = int(self.world.time() * 1_000_000) / 1_000_000

    async def record(
        self,
        type: str,
        data: Mapping[str, JSON],
        *,
        key: str = "",
        sync: bool = False,
        ledger: LedgerEntry | None = None,
    ) -> None:
        """Add a fact. Visible when this returns; with `sync`, proof against power loss too.

        A fact that is already recorded (of a resumed run) is not added again. Not interrupted
        by cancellation once begun. Raises JournalError.
        """
        if self._recorded and self._recorded.pop((type, self.iteration, key), None) is not None:
            return
        if self._used_s is not None:
            self._tell_used(data)
        # whole microseconds: what a store keeps, so that a fact reads back as it was written
        now = int(self.world.time() * 1_000_000) / 1_000_000
        fact = Event(type, data, self.id, self.iteration, now)
        facts = self._held
        facts.append(fact)
        self._held = []
        try:
            await self.journal.append(self.stream, self.epoch, facts, sync=sync, ledger=ledger)
        except asyncio.CancelledError:
            if fact.seq is not None:  # cancelled while it was being written, but written
                self._publish(facts)
            else:
                self._held = facts[:-1] + self._held
            raise
        if self.heard:
            self._publish(facts)
        else:
            self.facts += facts
            self.position += len(facts)

    def hold(self, type: str, data: Mapping[str, JSON], *, key: str = "") -> None:
        """Add a fact together with the next one, in one row: for what is lost without harm when
        the process is killed in between."""
        if self._recorded:
            done = self._recorded.pop((type, self.iteration, key), None)
            if done is not None:
                self.now = done.time
                return
        if self._used_s is not None:
            self._tell_used(data)
        now = int(self.world.time() * 1_000_000) / 1_000_000
        self._held.append(Event(type, data, self.id, self.iteration, now))

    def _tell_used(self, data: Mapping[str, JSON]) -> None:
        if isinstance(data, dict) and self._used_s is not None:
            since = self.world.monotonic() - self._resumed_at
            data["used_s"] = round(self._used_s + since, 3)
        self._used_s = None

    def _publish(self, facts: list[Event]) -> None:
        self.facts.extend(facts)
        self.position += len(facts)
        listeners = self._listeners
        for fact in facts:
            if listeners.wants(fact.type):
                listeners.send(fact)

    # --- effects -------------------------------------------------------------------------

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
    ) -> Mapping[str, JSON]:
        """Call the outside once, recorded. The one door of a run to the world.

        `kind` is `model`, `tool` or any other word; `key` makes the effect unique within its
        iteration. `request` is what is asked, in canonical bytes: a resumed run that asks
        something else stops (`exec.journal.diverged`) and runs nothing. `call` returns plain
        data, which becomes the fact `model.reply`, `tool.result` or `effect`; a LorimerError it
        raises is recorded too and raised again on resume. `intent` is added to the intent's
        fact; `reserve_nano` nano-dollars are set aside in it and settled against the result's
        `cost`. `aborted` gives what is recorded when the call is cancelled half-way, or raises what
        is not a LorimerError.

        Returns the call's data, from the journal if it is there. Raises Unknown for an unsafe
        effect that was begun before a crash and has no result, and JournalError, before anything
        is called, when another process has taken the run over.
        """
        digest = short_hash(request)
        intent_type, result_type = _FACTS.get(kind, ("effect.intent", "effect"))
        if kind == "tool":
            self.bounds.count_tool()
        elif kind != "model":
            key = f"{kind}:{key}"
        begun: Event | None = None
        if self._recorded:
            begun = self._recorded.pop((intent_type, self.iteration, key), None)
            done = self._recorded.pop((result_type, self.iteration, key), None)
            known = begun or done
            if known is not None and known.data.get("hash") != digest:
                raise JournalError(
                    f"Run {self.id} cannot go on: {kind} call {key!r} of turn "
                    f"{self.iteration + 1} is not the one that was recorded.",
                    code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
                    hint="The manifest, a stage or a tool changed since. Start a new run, or put "
                    "back the version that began this one.",
                )
            if done is not None:
                self.spend.charge(done.data)
                return _outcome(done.data)
        self.cancellation.check()
        if self.replayed and not self.cancellation.finished:
            self._live_again()
        noted = safety is not Safety.READ_ONLY
        if begun is not None:
            if safety is Safety.UNSAFE:
                raise Unknown(
                    "This call was begun before an interruption; whether it took effect is not "
                    "known. It was not run again."
                )
            reserve_nano = whole(begun.data.get("reserve"))
        elif noted:
            entry = self.spend.reserve(reserve_nano)
            data: dict[str, JSON] = {"key": key, "hash": digest, **intent}
            if reserve_nano:
                data["reserve"] = reserve_nano
            try:
                await self.record(
                    intent_type, data, key=key, sync=safety is Safety.UNSAFE, ledger=entry
                )
            except asyncio.CancelledError:
                if not self._wrote(data):
                    self.spend.recall(-reserve_nano)
                raise
        head: dict[str, JSON] = {"key": key} if noted else {"key": key, "hash": digest}
        error: LorimerError | None = None
        data = head
        if self._holds is not None:
            await self._holds()
        try:
            data.update(await call())
        except LorimerError as failure:
            error = failure
            data.update({"error": failure.to_json(), **_spent(aborted)})
        except (asyncio.CancelledError, Exception):
            await self._abandon(f"{_ABANDONED}{kind}:{key}", _spent(aborted))
            raise
        entry = self.spend.settle(reserve_nano, data)
        try:
            await self.record(result_type, data, key=key, ledger=entry)
        except asyncio.CancelledError as cancelled:
            if not self._wrote(data):
                self.spend.undo(reserve_nano, data)
                await self._abandon(f"{_ABANDONED}{kind}:{key}", _cost_of(data))
                raise
            self.cancellation.met(cancelled)  # it is recorded: whoever asked has to see it too
        if error is not None:
            raise error
        return data

    def _wrote(self, data: Mapping[str, JSON]) -> bool:
        """The fact with this data is recorded: for who was cancelled while recording it."""
        return bool(self.facts) and self.facts[-1].data is data

    async def _abandon(self, key: str, spent: Mapping[str, JSON]) -> None:
        # a half-done call leaves its intent without a result; only what it cost is noted
        if spent:
            entry = self.spend.write_off(spent)
            with self.cancellation.undisturbed():
                await self.record("effect", {"key": key, **spent}, key=key, ledger=entry)

    # --- signals -------------------------------------------------------------------------

    def _listen(self) -> None:
        self.heard = not self._listeners.quiet
        if self._recorded:
            self.wants = self._wants
        else:
            self.wants = self._listeners.wants if self.heard else _NOBODY

    def _wants(self, type: str) -> bool:
        return self.heard and not self._recorded and self._listeners.wants(type)

    def signal(self, type: str, data: Mapping[str, JSON] = _NOTHING) -> None:
        """Tell whoever listens; nobody needs to. While a resumed run answers from its journal,
        signals are not repeated."""
        if not self.wants(type):
            return
        self._listeners.send(
            Event(type, data, self.id, self.iteration, self.world.time(), self.stage)
        )

    @property
    def follows_stages(self) -> bool:
        """Somebody listens to stages, now or once a resumed run has caught up."""
        wants = self._listeners.wants
        return wants("stage.enter") or wants("stage.exit") or wants("stage.bypass")

    def listened(self) -> bool:
        """Somebody listens at this moment."""
        self._listen()
        return self.heard

    def announce(self, type: str, data: Mapping[str, JSON]) -> None:
        """A signal about the run as a whole: sent in a replay too."""
        if self._listeners.wants(type):
            self._listeners.send(
                Event(type, data, run_id=self.id, iteration=self.iteration, time=self.world.time())
            )

    def finish(self) -> None:
        """The engine is about to write the run's last fact: nothing is answered any more."""
        if self._drained is not None:
            self._drained.cancel()
        self.cut_short = bool(self._recorded)
        self._pass_over()
        if self.facts:
            self.iteration = max(self.iteration, self.facts[-1].iteration)

    def _pass_over(self) -> None:
        # what is recorded and nobody asked for again was spent all the same
        for fact in self._recorded.values():
            self.spend.charge(fact.data)
            if fact.type in ("model.intent", "model.reply"):
                self.bounds.turns = max(self.bounds.turns, fact.iteration + 1)
        self._recorded.clear()

    @property
    def silent(self) -> bool:
        """There are neither pumps nor a stream to end."""
        return self._listeners.idle

    async def close(self) -> None:
        """End the pumps of the listeners."""
        self.wants = _NOBODY  # else it would keep this object alive through itself
        await self._listeners.close()

    @property
    def crowded(self) -> bool:
        """The reader of `run_stream` is behind: await `room()` before more is sent."""
        tap = self._listeners.tap
        return tap is not None and tap.full

    async def room(self) -> None:
        """Wait until the reader of `run_stream` has caught up."""
        if self._listeners.tap is not None:
            await self._listeners.tap.room()

    async def sleep(self, seconds: float) -> None:
        """Wait; not at all while a resumed run answers from its journal."""
        if not self._recorded:
            await self.world.sleep(seconds)

    # --- cancellation --------------------------------------------------------------------

    @property
    def reason(self) -> Reason | None:
        """Who stopped the run; None: nobody has."""
        return self.cancellation.reason

    def cancel(self, reason: Reason) -> None:
        """Stop the run; see `cancel.py`."""
        self.cancellation.cancel(reason)

    def begin_change(self) -> None:
        """A call that changes something begins: a shutdown gives it time to end."""
        self._changing += 1

    def end_change(self) -> None:
        """It has ended, in whatever way."""
        self._changing -= 1
        if self._drained is not None and not self._changing:
            self.cancellation.force()

    def drain(self, within_s: float, reason: Reason = Reason.SHUTDOWN) -> None:
        """Suspend the run. Calls under way that change something have `within_s` seconds to end,
        so that their results are recorded; nothing new is begun, and all else is cut off now."""
        self.cancellation.drain(reason)
        if not self._changing or within_s <= 0:
            self.cancellation.force()
        elif self._drained is None:
            loop = asyncio.get_running_loop()
            self._drained = loop.call_later(within_s, self.cancellation.force)

    def enter(self) -> None:
        """The engine starts the run in this task, and its time limit begins. A resumed run has
        at least `cleanup_s` to answer from its journal; it calls nothing once its time is over."""
        left = self.bounds.deadline - self.world.monotonic()
        self._patient = bool(self.replayed)
        if self._patient:
            left = max(left, self.bounds.limits.cleanup_s)
        self.alarm = Alarm(left, self._time_over)
        self.cancellation.enter()

    def _live_again(self) -> None:
        # the journal has run dry: from here on only the time that is left
        now = self.world.monotonic()
        self.bounds.check_time(now)
        if self._patient:
            self._patient = False
            self.alarm.move(self.bounds.deadline - now, self._time_over)

    def _time_over(self) -> None:
        self.cancellation.cancel(Reason.TIMEOUT)


def _outcome(data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    error = data.get("error")
    if isinstance(error, dict):  # of a tool it is a code, and the model was told
        raise error_from_json(error)
    return data


def _cost_of(data: Mapping[str, JSON]) -> Mapping[str, JSON]:
    return {name: data[name] for name in ("usage", "cost") if data.get(name)}


def _spent(aborted: Callable[[], Mapping[str, JSON]] | None) -> Mapping[str, JSON]:
    return aborted() if aborted is not None else {}
