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
"""The fingerprint of a value that nobody here has seen: its step ran in another process."""
_NOTHING: Final[Mapping[str, Never]] = MappingProxyType({})


def plain(name: str) -> str:
    """A name for people: a region of objects goes by the name that led to it first."""
    return name.partition("#")[0]


def _nothing() -> Mapping[str, Never]:
    return _NOTHING


class Status(StrEnum):
    """What is known about a step."""

    NEW = "new"
    """Never run."""
    FRESH = "fresh"
    """Run, with what its inputs are now."""
    STALE = "stale"
    """Run, and something that it depends on is, or may be, another now."""
    FAILED = "failed"
    """Its last run raised; it wrote nothing."""
    BLOCKED = "blocked"
    """It needs what a failed step did not make."""


class Why(StrEnum):
    """The kinds of cause."""

    EDITED = "edited"
    MARKED = "marked"
    """Somebody said so: `mark_stale`."""
    INPUT = "input"
    """The step that makes a name it reads is stale itself, or made another value."""
    REBOUND = "rebound"
    """A name it reads is made by another step than when it ran."""
    EDGE = "edge"
    """A step it depends on by an edge that was added by hand is stale."""
    RESOURCE = "resource"
    """A file, the environment, a random state that it read has changed."""


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
    """Causes for people: a name and the objects that it leads to are one. That these have no maker
    is said only if there is nothing else to say: a text that has not run makes none."""
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
    """One cell. `label` orders the steps; the rest is what is known of its text and last run."""

    id: str
    source: str
    label: int
    analysis: Analysis
    error: str = ""
    """Why the text is no Python, with the line; it can be kept and edited, not run."""
    reads: frozenset[str] = frozenset()
    """Of the last run, if there was one; else of the text. So are the next two."""
    writes: frozenset[str] = frozenset()
    kills: frozenset[str] = frozenset()
    builtins: tuple[str, ...] = ()
    """Names of builtins that it reads."""
    reads_any: bool = False
    """Its text does not tell what it reads, and it has not run."""
    writes_any: bool = False
    bound: dict[str, str] = field(default_factory=dict[str, str])
    """Name it reads -> the step that makes it; names that no step makes are left out."""
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
    """Name -> value, as `record_output` was given them."""
    in_place: frozenset[str] = frozenset()
    """Names whose objects its last run changed in place."""
    leads: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    """Name that its last run left -> regions of objects that the value leads to at once."""
    seconds: float | None = None
    """How long its last run took."""
    ran: bool = False
    """It has run to its end at least once."""
    ran_source: str = ""
    """The text of that run."""
    worked: Worked | None = None
    """The last run before it failed."""

    def take(self, told: Analysis) -> None:
        """These are its reads and writes from now on."""
        self.reads, self.writes, self.kills = told.reads, told.writes, told.kills
        self.reads_any, self.writes_any = told.reads_unknown, told.writes_unknown
        self.builtins = told.builtins

    @property
    def known(self) -> Analysis:
        """What `take` was given."""
        return Analysis(
            self.reads, self.writes, self.kills, self.reads_any, self.writes_any, self.builtins
        )

    @property
    def depends(self) -> frozenset[str]:
        """Names whose earlier value matters: what it reads, and what it may leave as it was."""
        return self.reads | (self.writes - self.kills)
