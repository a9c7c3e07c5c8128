"""The facts of one run: what is recorded already, and how more are added.

Which kinds there are: `events.py`. Where they are kept: the journal.
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
"""The facts of an effect's kind: that it begins, and what came of it."""

ABANDONED: Final = "abandoned:"
"""Begins the key of what a call had cost that was cancelled half-way."""

ASIDE: Final = "generate"
"""The kind of a model call that a tool or a stage makes besides (`models/generate.py`). A tool
whose result is recorded does not make it again when the run is resumed: what it cost is charged
with the reply of its iteration, whoever asks or does not ask for it."""

CHILD: Final = "child"
"""The kind of effect that a run is which is part of this one, and is waited for
(`core/children.py`): as with ASIDE, the tool call that began it has the recorded result."""

ASIDES: Final = frozenset({ASIDE, CHILD})

PHASE: Final = "phase"
"""The kind of effect that a phase is (`stages/s06_phases.py`): as with a reply, what its iteration
asked besides is charged with it."""


STEP: Final = "step"
"""The kind of a tool call that another tool makes (`tools/steps.py`)."""

_RESUMED: Final = "used_s"
_RAN: Final = "ran_s"

_ASIDES: Final = (f"{ASIDE}:", f"{CHILD}:")
_CALLS: Final = frozenset({"model.intent", "model.reply", "tool.intent", "tool.result"})
_DECISIONS: Final = frozenset({"decision", "effect", "effect.intent"})
_UNASKED: Final = frozenset({"run.suspended", "child"})
"""Facts that no resumed run asks for."""


class FactLog(Signals):
    """What is recorded of one run, and what it comes to: the part of a RunContext that writes. In
    a resumed run a fact that is there already is answered with, and not added again."""

    __slots__ = (
        "_asides",
        "_before",
        "_decided",
        "_held",
        "_recorded",
        "_recorded_until",
        "_time_field",
        "_uncharged",
        "asked_at",
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
        """Why facts of it cannot be recorded any more; nothing may come of what it does then."""
        self.cut_short = False
        """It was stopped before all that is recorded of it was answered again."""
        self.over = False
        """It writes its last fact, or has written it."""
        self.facts: list[Event] = list(recorded)
        """All facts of this run, in order."""
        self.replayed = len(self.facts)
        """How many of them were there when the run was resumed."""
        self.retold = False
        """All of this iteration is recorded."""
        self._before = position - self.replayed
        self._recorded: dict[tuple[str, int, str], Event] = {}
        self.replaying = self._recorded
        self._recorded_until = -1
        self._decided: set[int] = set()
        """Iterations of which more is recorded than the calls of model and tools."""
        self.decided = False
        """The journal has more of this iteration than the calls of model and tools, such as
        decisions, questions, other effects or changes of its manifest."""
        self._asides: dict[tuple[str, int, str], Event] = {}
        """Recorded facts of the kinds ASIDES."""
        self._uncharged: dict[int, dict[str, Event]] = {}
        """Those of them that are not charged yet, by iteration and key."""
        if self.facts:
            self._index(self.facts)
        self._held: list[Event] = []
        """Waiting for the next fact."""
        self._time_field = _RESUMED if self.facts else ""
        """The field in which its next fact records the seconds used so far, as `Bounds` counts
        them: `used_s` after a resume, `ran_s` while a person is asked in a child; "": none."""
        self.asking = 0
        """Questions to people that have no answer yet, of it and of what is part of it."""
        self.asked_at = 0.0
        """When the first of them was put; monotonic."""

    def _index(self, facts: Iterable[Event]) -> None:
        recorded, spend = self._recorded, self.spend
        reserved: dict[tuple[str, int, str], int] = {}
        for fact in facts:
            kind, iteration = fact.type, fact.iteration
            if kind == "iteration.end":  # without a key, and the longest data
                recorded[(kind, iteration, "")] = fact
                continue
            if kind in _UNASKED:
                continue
            data = fact.data
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
            elif key.startswith(RAISED):  # nobody asks for it: it holds from the start
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
        """Charge an iteration's recorded side calls (`ASIDES`), or one of them: each once."""
        due = self._uncharged.get(iteration, {})
        for name in [key] if key else list(due):
            fact = due.pop(name, None)
            if fact is not None:
                self.spend.charge(fact.data)

    @property
    def position(self) -> int:
        """How many facts the stream has."""
        return self._before + len(self.facts)

    def recorded(self, type: str, key: str = "") -> Event | None:
        """The recorded fact of this iteration, if the run is being resumed and has it."""
        return self._recorded.get((type, self.iteration, key)) if self._recorded else None

    def begun(self, kind: str, key: str) -> Event | None:
        """The recorded intent of this iteration's effect; see `RunContext.effect`."""
        if kind == ASIDE:
            return self._asides.get(("effect.intent", self.iteration, f"{kind}:{key}"))
        return self.recorded(FACTS_OF[kind][0], key)

    def take(self, fact: Event) -> None:
        """Do as this recorded fact of this iteration says, in place of what led to it: what was
        asked besides on the way is charged."""
        self._recorded.pop((fact.type, self.iteration, str(fact.data.get("key", ""))), None)
        self._charge_asides(self.iteration)

    def forget(self, type: str, key: str) -> None:
        """Nobody will ask for this fact of this iteration, if it is recorded."""
        self._recorded.pop((type, self.iteration, key), None)

    def has_begun(self, kind: str, key: str) -> bool:
        """A fact tells of this iteration's effect, whatever became of it. Looks through the facts
        of the iteration: not for the hot path."""
        intent_type, result_type = FACTS_OF[kind]
        here = takewhile(lambda fact: fact.iteration == self.iteration, reversed(self.facts))
        return any(
            fact.type in (intent_type, result_type) and fact.data.get("key") == key for fact in here
        )

    def begin_iteration(self, iteration: int) -> None:
        """The engine enters an iteration: `now` is the time of the fact before it."""
        self.iteration = iteration
        self.decided = iteration in self._decided
        self.retold = bool(self._recorded) and ("iteration.end", iteration, "") in self._recorded
        self._look_for_listeners()
        if self._recorded and iteration > self._recorded_until:
            self._skip_recorded()
        if self._held:
            self.now = self._held[-1].time
        elif not self._recorded and (iteration or not self.now):
            self.now = self._time()

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
        """Add a fact. Visible when this returns; with `sync`, proof against power loss too.
        Secrets are struck out of it, unless it is `clean` already.

        A fact that is already recorded (of a resumed run) is not added again. Not interrupted
        by cancellation once begun. Raises JournalError; LimitError when a purse has not so much
        left as `ledger` sets aside: the run may go on.
        """
        if self._recorded and self._recorded.pop((type, self.iteration, key), None) is not None:
            return
        if self.redactor is not None and not clean:
            data = self.redactor.json(data)
        tells = self._time_field
        if tells:
            self._add_time_used(data)
        time = int(self.world.time() * 1_000_000) / 1_000_000
        fact = Event(type, data, self.id, self.iteration, time)
        if self._held:
            facts, self._held = [*self._held, fact], []
        else:
            facts = [fact]
        try:
            await self.journal.append(self.stream, self.epoch, facts, sync=sync, ledger=ledger)
        except asyncio.CancelledError:
            if fact.seq is not None:  # cancelled while it was being written, but written
                self._publish(facts)
            else:
                self._held, self._time_field = [*facts[:-1], *self._held], tells
            raise
        except LimitError:  # nothing is recorded: the next fact tells it
            self._held, self._time_field = [*facts[:-1], *self._held], tells
            raise
        except JournalError as error:
            self.broken = error
            raise
        if self.has_listeners:
            self._publish(facts)
        else:
            self.facts += facts

    def _time(self) -> float:
        """The wall clock in whole microseconds: what a store keeps, so that a fact reads back as it
        was written."""
        return int(self.world.time() * 1_000_000) / 1_000_000

    def wrote(self, type: str, key: str) -> bool:
        """This fact is recorded: for who was cancelled while recording it."""
        return any(
            last.type == type and last.iteration == self.iteration and last.data.get("key") == key
            for last in self.facts[-1:]
        )

    def hold(self, type: str, data: Mapping[str, JSON], *, key: str = "") -> None:
        """Add a fact together with the next one, in one row: for what is lost without harm when
        the process is killed in between."""
        if self._recorded:
            done = self._recorded.pop((type, self.iteration, key), None)
            if done is not None:
                self.now = done.time
                return
        if self.redactor is not None:
            data = self.redactor.json(data)
        if self._time_field:
            self._add_time_used(data)
        fact = Event(type, data, self.id, self.iteration, self._time())
        self._held.append(fact)

    def record_time_used(self) -> None:
        """A person is asked in a child: from now on facts record the time used, up to the first
        that is written when nobody is asked any more."""
        self._time_field = self._time_field or _RAN

    def _add_time_used(self, data: Mapping[str, JSON]) -> None:
        if isinstance(data, dict):
            now = self.asked_at if self.asking else self.world.monotonic()
            data[self._time_field] = round(now - self.bounds.started, 3)
        self._time_field = _RAN if self.asking else ""

    def _publish(self, facts: list[Event]) -> None:
        self.facts.extend(facts)
        listeners = self._listeners
        for fact in facts:
            if listeners.wants(fact.type):
                listeners.send(fact)

    def finish(self) -> None:
        """The run is about to write its last fact: nothing is answered any more."""
        self.over = True
        self.cut_short = bool(self._recorded)
        if self.replayed:
            self._skip_recorded()
        if self.facts:
            self.iteration = max(self.iteration, self.facts[-1].iteration)

    def _skip_recorded(self) -> None:
        # what is recorded and nobody asked for again was spent all the same
        for fact in self._recorded.values():
            self.spend.charge(fact.data)
            if fact.type in ("model.intent", "model.reply"):
                self.bounds.turns = max(self.bounds.turns, fact.iteration + 1)
        self._recorded.clear()
        for iteration in self._uncharged:
            self._charge_asides(iteration)
