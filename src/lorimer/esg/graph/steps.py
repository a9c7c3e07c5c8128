"""A step of the graph, and why it is not up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Never

from lorimer.esg.analysis.text import Analysis

ABSENT: Final = ""
"""The fingerprint of a name that was deleted."""
UNSEEN: Final = "?"
"""The fingerprint of a value not seen in this process: its step ran in another."""
_NOTHING: Final[Mapping[str, Never]] = MappingProxyType({})


def plain(name: str) -> str:
    """A name as shown to people: a region of objects has the name that first led to it."""
    return name.partition("#")[0]


def _nothing() -> Mapping[str, Never]:
    return _NOTHING


class Status(StrEnum):
    """What is known about a step."""

    NEW = "new"
    """Never run."""
    FRESH = "fresh"
    """Has run, and its inputs have not changed since."""
    STALE = "stale"
    """Has run, and something it depends on has changed or may have."""
    FAILED = "failed"
    """Its last run raised; it wrote nothing."""
    BLOCKED = "blocked"
    """Needs a value that a failed step did not make."""


class Why(StrEnum):
    """The kinds of cause."""

    EDITED = "edited"
    MARKED = "marked"
    """`mark_stale` was called."""
    INPUT = "input"
    """The step that makes a name it reads is itself stale, or made another value."""
    REBOUND = "rebound"
    """A name it reads is made by another step than when it ran."""
    EDGE = "edge"
    """A step that it depends on by an edge added by hand is stale."""
    RESOURCE = "resource"
    """A file, the environment or a random state that it read has changed."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a step has to run again."""

    why: Why
    name: str = ""
    """The variable or resource."""
    step: str = ""
    """The step that makes it; empty if no step does."""

    def __str__(self) -> str:
        name = plain(self.name)
        match self.why:
            case Why.EDITED:
                return "its code was edited"
            case Why.MARKED:
                return "it was marked stale"
            case Why.INPUT:
                return f"it reads {name!r}, which {self.step} makes again"
            case Why.REBOUND if self.step:
                return f"it reads {name!r}, which {self.step} makes now"
            case Why.REBOUND:
                return f"it reads {name!r}, which no step makes now"
            case Why.EDGE:
                return f"it depends on {self.step}"
            case Why.RESOURCE:
                return f"it reads {name}, which has changed"


def told(causes: Iterable[Cause]) -> tuple[str, ...]:
    """Causes as shown to people: a name and the objects it leads to are one. That an object has no
    maker is shown only if there is nothing else, because code that has not run makes none."""
    causes = [*causes]
    named = [each for each in causes if each.step or "#" not in each.name]
    return tuple(dict.fromkeys(map(str, named or causes)))


@dataclass(frozen=True, slots=True)
class Worked:
    """A run of a step that did not raise."""

    source: str
    used: Mapping[str, str]
    """Name -> fingerprint of what it read."""


@dataclass(slots=True)
class Step:
    """One cell. `label` orders the steps; the other fields describe its code and its last run."""

    id: str
    source: str
    label: int
    analysis: Analysis
    error: str = ""
    """Why the code is not valid Python, with the line; it can be kept and edited, not run."""
    reads: frozenset[str] = frozenset()
    """From the last run, if there was one; otherwise from the code. So are the next two."""
    writes: frozenset[str] = frozenset()
    kills: frozenset[str] = frozenset()
    builtins: tuple[str, ...] = ()
    """Builtins that it reads."""
    reads_any: bool = False
    """Its code does not tell what it reads, and it has not run."""
    writes_any: bool = False
    bound: dict[str, str] = field(default_factory=dict[str, str])
    """Name it reads -> the step that makes it; names that no step makes are omitted."""
    after: frozenset[str] = frozenset()
    """Edges added by hand: steps it depends on."""
    before: frozenset[str] = frozenset()
    """Edges added by hand: steps that depend on it."""
    status: Status = Status.NEW
    causes: dict[Cause, None] = field(default_factory=dict[Cause, None])
    """Why it is stale, oldest first."""
    used: Mapping[str, str] = field(default_factory=_nothing)
    """Name -> fingerprint of the value that its last run read."""
    made: Mapping[str, str] = field(default_factory=_nothing)
    """Name -> fingerprint of the value that its last run left; `ABSENT` if it deleted the name."""
    outputs: Mapping[str, object] = field(default_factory=_nothing)
    """Name -> value, as given to `record_output`."""
    in_place: frozenset[str] = frozenset()
    """Names whose objects its last run changed in place."""
    leads: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    """Name that its last run left -> regions of objects that the value leads to directly."""
    seconds: float | None = None
    """Duration of its last run."""
    ran: bool = False
    """It has run to its end at least once."""
    ran_source: str = ""
    """The code of that run."""
    worked: Worked | None = None
    """Its last successful run, if it failed since."""

    def take(self, told: Analysis) -> None:
        """Set its reads and writes."""
        self.reads, self.writes, self.kills = told.reads, told.writes, told.kills
        self.reads_any, self.writes_any = told.reads_unknown, told.writes_unknown
        self.builtins = told.builtins

    @property
    def known(self) -> Analysis:
        """Its reads and writes, as set by `take`."""
        return Analysis(
            self.reads, self.writes, self.kills, self.reads_any, self.writes_any, self.builtins
        )

    @property
    def depends(self) -> frozenset[str]:
        """Names whose earlier value matters: what it reads, and what it may leave unchanged."""
        return self.reads | (self.writes - self.kills)
