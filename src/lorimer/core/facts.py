"""The facts of one run: which are recorded already, and how more are added.

The kinds of facts: `events.py`. Where they are stored: the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import takewhile
from operator import itemgetter
from typing import Final

from lorimer.core.bus import Listeners
from lorimer.core.errors import JournalError, LimitError
from lorimer.core.events import Event
from lorimer.core.journal import LedgerEntry, RunJournal
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Bounds
from lorimer.core.purse import Purse
from lorimer.core.raised import RAISED, raised
from lorimer.core.signals import Signals
from lorimer.core.spend import Spend, whole
from lorimer.core.world import World

FACTS_OF: Final = {"model": ("model.intent", "model.reply"), "tool": ("tool.intent", "tool.result")}
"""The facts of an effect, by its kind: its intent and its result."""

ABANDONED: Final = "abandoned:"
"""Prefix of the key under which the cost of an aborted call is recorded."""

ASIDE: Final = "generate"
"""Kind of a model call that a tool or a stage makes itself (`models/generate.py`). On resume, a
tool whose result is recorded does not repeat it, so its cost is charged with the reply of its
iteration, whether it is asked for again or not."""

CHILD: Final = "child"
"""Kind of effect of a child run that is waited for (`core/children.py`). As with ASIDE, the tool
call that started it has the recorded result."""

ASIDES: Final = frozenset({ASIDE, CHILD})

PHASE: Final = "phase"
"""Kind of effect of a phase (`stages/s06_phases.py`). As with a reply, the side calls of its
iteration are charged with it."""


STEP: Final = "step"
"""Kind of a tool call that another tool makes (`tools/steps.py`)."""

_RESUMED: Final = "used_s"
_RAN: Final = "ran_s"

_ASIDES: Final = (f"{ASIDE}:", f"{CHILD}:")
_CALLS: Final = frozenset({"model.intent", "model.reply", "tool.intent", "tool.result"})
_DECISIONS: Final = frozenset({"decision", "effect", "effect.intent"})
_UNASKED: Final = frozenset({"run.suspended", "child"})
"""Facts that a resumed run never asks for."""
_LAST: Final = frozenset({"run.suspended", "run.end"})


class FactLog(Signals):
    """The recorded facts of one run, and their sums: the part of a RunContext that writes. In a
    resumed run, facts that are recorded already are answered from, and not added again."""

    __slots__ = (
        "_asides",
        "_before",
        "_begun_at",
        "_decided",
        "_ended_at",
        "_held",
        "_recorded",
        "_recorded_until",
        "_resumed_at",
        "_time_field",
        "_uncharged",
        "asking",
        "decided",
        "bounds",
        "broken",
        "cut_short",
        "epoch",
        "facts",
        "journal",
        "now",
        "over",
        "replayed",
        "retold",
        "spend",
        "stream",
    )

    def __init__(
        self,
        id: str,
        world: World,
        listeners: Listeners,
        stream: str,
        epoch: int,
        journal: RunJournal,
        bounds: Bounds,
        recorded: Iterable[Event],
        position: int,
        above: Spend | None = None,
        purses: tuple[Purse, ...] = (),
    ) -> None:
        super().__init__(id, world, listeners)
        self.stream = stream
        self.epoch = epoch
        self.journal = journal
        self.bounds = bounds
        self.spend = Spend(id, bounds.limits.max_cost_nano, above, purses)
        """Tokens and money."""
        self.now = 0.0
        """Wall clock, seconds; fixed within an iteration and recorded."""
        self.broken: JournalError | None = None
        """Why its facts can no longer be recorded; from then on nothing it does may have an
        effect."""
        self.cut_short = False
        """It was stopped before all of its recorded facts had been asked for again."""
        self.over = False
        """It is writing its last fact, or has written it."""
        self.facts: list[Event] = list(recorded)
        """All facts of this run, in order."""
        self.replayed = len(self.facts)
        """How many of them existed when the run was resumed."""
        self.retold = False
        """This iteration is recorded completely."""
        self._before = position - self.replayed
        self._recorded: dict[tuple[str, int, str], Event] = {}
        self.replaying = self._recorded
        self._recorded_until = -1
        self._resumed_at: dict[int, float] = {}
        """When those iterations began with which the run went on after an interruption."""
        self._decided: set[int] = set()
        """Iterations with more recorded facts than model and tool calls."""
        self.decided = False
        """The journal has more of this iteration than model and tool calls: decisions, questions,
        other effects or changes of the manifest."""
        self._asides: dict[tuple[str, int, str], Event] = {}
        """Recorded facts of the kinds in ASIDES."""
        self._uncharged: dict[int, dict[str, Event]] = {}
        """Those of them that have not been charged yet, by iteration and key."""
        if self.facts:
            self._index(self.facts)
        self._ended_at = 0.0
        """When the previous iteration ended, if that is recorded; 0: it is not."""
        self._begun_at = 0.0
        """When an iteration began with which a resumed run goes on: the time of its first fact, so
        that a later resume has the same `now`. 0: that fact is written, or there is no such
        iteration."""
        self._held: list[Event] = []
        """Facts to be written together with the next one."""
        self._time_field = _RESUMED if self.facts else ""
        """The field of the next fact that records the seconds used so far, as `Bounds` counts them:
        `used_s` after a resume, `ran_s` while a person is asked in a child and when the run is
        suspended; "": none."""
        self.asking = 0
        """Number of unanswered questions to people, of this run and its children."""

    def _index(self, facts: Iterable[Event]) -> None:
        recorded, spend = self._recorded, self.spend
        reserved: dict[tuple[str, int, str], int] = {}
        newest = -1
        for fact in facts:
            kind, iteration = fact.type, fact.iteration
            if kind == "iteration.end":  # has no key, and the longest data
                recorded[(kind, iteration, "")] = fact
                continue
            data = fact.data
            if iteration > newest and _RESUMED in data:
                self._resumed_at[iteration] = fact.time
            if kind in _UNASKED:
                continue
            key = str(data.get("key", ""))
            if kind in _CALLS:
                if "reserve" in data:
                    amount = whole(data["reserve"])
                    spend.restore_reserved(amount)
                    reserved[kind, iteration, key] = amount
                elif reserved and kind == "model.reply":
                    spend.restore_reserved(-reserved.get(("model.intent", iteration, key), 0))
            elif kind not in _DECISIONS:
                self._decided.add(iteration)
            elif key.startswith(RAISED):  # in force from the start; never asked for
                self.bounds.raise_to(raised(self.bounds.limits, data))
                continue
            elif key.startswith(_ASIDES):
                self._index_aside(fact, key)
                continue
            else:
                self._decided.add(iteration)
                if key.startswith(ABANDONED):
                    spend.charge(data)
                    continue
            recorded[(kind, iteration, key)] = fact
            newest = iteration
        self._recorded_until = max(map(itemgetter(1), recorded), default=-1)

    def _index_aside(self, fact: Event, key: str) -> None:
        self._asides[fact.type, fact.iteration, key] = fact
        if fact.type == "effect.intent":
            self.spend.restore_reserved(whole(fact.data.get("reserve")))
        else:
            begun = self._asides.get(("effect.intent", fact.iteration, key))
            self.spend.restore_reserved(
                -whole(begun.data.get("reserve")) if begun is not None else 0
            )
            self._uncharged.setdefault(fact.iteration, {})[key] = fact

    def _charge_asides(self, iteration: int, key: str = "") -> None:
        """Charge an iteration's recorded side calls (`ASIDES`), or only that with `key`; each
        once."""
        due = self._uncharged.get(iteration, {})
        for name in [key] if key else list(due):
            fact = due.pop(name, None)
            if fact is not None:
                self.spend.charge(fact.data)

    @property
    def position(self) -> int:
        """Number of facts in the stream."""
        return self._before + len(self.facts)

    def recorded(self, type: str, key: str = "") -> Event | None:
        """This iteration's recorded fact, if the run is being resumed and has it."""
        return self._recorded.get((type, self.iteration, key)) if self._recorded else None

    def begun(self, kind: str, key: str) -> Event | None:
        """The recorded intent of an effect of this iteration; see `RunContext.effect`."""
        if kind == ASIDE:
            return self._asides.get(("effect.intent", self.iteration, f"{kind}:{key}"))
        return self.recorded(FACTS_OF[kind][0], key)

    def take(self, fact: Event) -> None:
        """Follow this recorded fact of this iteration instead of what led to it: the side calls on
        the way are charged."""
        self._recorded.pop((fact.type, self.iteration, str(fact.data.get("key", ""))), None)
        self._charge_asides(self.iteration)

    def forget(self, type: str, key: str) -> None:
        """Drop a recorded fact of this iteration that will not be asked for."""
        self._recorded.pop((type, self.iteration, key), None)

    def has_begun(self, kind: str, key: str) -> bool:
        """Whether a fact of this iteration belongs to that effect, whatever its result. Scans the
        facts of the iteration, so not for the hot path."""
        intent_type, result_type = FACTS_OF[kind]
        here = takewhile(lambda fact: fact.iteration == self.iteration, reversed(self.facts))
        return any(
            fact.type in (intent_type, result_type) and fact.data.get("key") == key for fact in here
        )

    def begin_iteration(self, iteration: int) -> None:
        """The engine enters an iteration. `now` becomes the time of the fact before it, or the
        present after an interruption between the two."""
        self.iteration = iteration
        self.decided = iteration in self._decided
        self.retold = bool(self._recorded) and ("iteration.end", iteration, "") in self._recorded
        self._look_for_listeners()
        if self._recorded and iteration > self._recorded_until:
            self._skip_recorded()
        if self._held:
            self.now = self._held[-1].time
        elif self._recorded:
            self.now = self._recorded_now(iteration)
        elif iteration or not self.now:
            self.now = self._begun_at = self._time()

    def _recorded_now(self, iteration: int) -> float:
        return self._resumed_at.get(iteration) or self._ended_at or self.now

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
        """Add a fact. It is visible when this returns; with `sync`, it also survives power loss.
        Secrets are removed, unless the data is `clean` already.

        In a resumed run, a fact that is recorded already is not added again. Once begun, it is not
        interrupted by cancellation. Raises JournalError; LimitError when a purse has less left than
        `ledger` reserves, after which the run can continue.
        """
        if self._recorded and self._recorded.pop((type, self.iteration, key), None) is not None:
            return
        if self.redactor is not None and not clean:
            data = self.redactor.json(data)
        tells = self._time_field
        if tells:
            self._add_time_used(data)
        time = int(self.world.time() * 1_000_000) / 1_000_000
        if self._begun_at and type not in _LAST:
            time = self._begun_at
        fact = Event(type, data, self.id, self.iteration, time)
        if self._held:
            facts, self._held = [*self._held, fact], []
        else:
            facts = [fact]
        try:
            await self.journal.append(self.stream, self.epoch, facts, sync=sync, ledger=ledger)
        except asyncio.CancelledError:
            if fact.seq is not None:  # cancelled while it was being written, but it was written
                self._begun_at = 0.0
                self._publish(facts)
            else:
                self._held, self._time_field = [*facts[:-1], *self._held], tells
            raise
        except LimitError:  # nothing was recorded: the next fact says so
            self._held, self._time_field = [*facts[:-1], *self._held], tells
            raise
        except JournalError as error:
            self.broken = error
            raise
        self._begun_at = 0.0
        if self.has_listeners:
            self._publish(facts)
        else:
            self.facts += facts

    def _time(self) -> float:
        """The wall clock in whole microseconds: the precision of stores, so that a fact reads back
        as it was written."""
        return int(self.world.time() * 1_000_000) / 1_000_000

    def wrote(self, type: str, key: str) -> bool:
        """Whether this fact was recorded, for callers that were cancelled while recording it."""
        last = self.facts[-1] if self.facts else None
        return (
            last is not None
            and (last.type, last.iteration) == (type, self.iteration)
            and last.data.get("key") == key
        )

    def hold(self, type: str, data: Mapping[str, JSON], *, key: str = "") -> None:
        """Add a fact together with the next one, in one row: for facts whose loss does no harm if
        the process is killed in between."""
        if self._recorded:
            done = self._recorded.pop((type, self.iteration, key), None)
            if done is not None:
                self._note_end(done)
                return
        if self.redactor is not None:
            data = self.redactor.json(data)
        if self._time_field:
            self._add_time_used(data)
        fact = Event(type, data, self.id, self.iteration, self._time())
        self._held.append(fact)

    def _note_end(self, fact: Event) -> None:
        """This is recorded. Until the next iteration begins, `now` stays what it was, as in the run
        that recorded it: stages 17 to 21 belong to the last one."""
        if fact.type == "iteration.end":
            self._ended_at = fact.time

    def record_time_used(self) -> None:
        """A person is asked in a child, or the run is suspended: from now on facts record the time
        used, up to the first fact written after that."""
        self._time_field = self._time_field or _RAN

    def _add_time_used(self, data: Mapping[str, JSON]) -> None:
        if isinstance(data, dict):
            data[self._time_field] = round(self.bounds.used_s(self.world.monotonic()), 3)
        self._time_field = _RAN if self.asking else ""

    def _publish(self, facts: list[Event]) -> None:
        self.facts.extend(facts)
        listeners = self._listeners
        for fact in facts:
            if listeners.wants(fact.type):
                listeners.send(fact)

    def finish(self) -> None:
        """The run is about to write its last fact: nothing is answered from the journal any
        more."""
        self.over = True
        self.cut_short = bool(self._recorded)
        if self.replayed:
            self._skip_recorded()
        if self.facts:
            self.iteration = max(self.iteration, self.facts[-1].iteration)

    def _skip_recorded(self) -> None:
        # recorded calls that were not asked for again were paid for all the same
        for fact in self._recorded.values():
            self.spend.charge(fact.data)
            if fact.type in ("model.intent", "model.reply"):
                self.bounds.turns = max(self.bounds.turns, fact.iteration + 1)
        self._recorded.clear()
        for iteration in self._uncharged:
            self._charge_asides(iteration)
