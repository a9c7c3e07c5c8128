"""The description of one decision: what was decided, why, and where that comes from."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.record import record

Kind: TypeAlias = Literal[
    "start",
    "limit",
    "resume",
    "change",
    "message",
    "stage",
    "compaction",
    "model",
    "failover",
    "retry",
    "tool",
    "hook",
    "person",
    "child",
    "turn",
    "suspended",
    "end",
]
_NO_MORE: Final = "its fact gives no reason"
KINDS: Final[tuple[str, ...]] = get_args(Kind)

OriginKind: TypeAlias = Literal[
    "manifest",
    "default",
    "caller",
    "parent",
    "supervisor",
    "budget",
    "person",
    "rule",
    "mode",
    "hook",
    "tool",
    "model",
    "host",
    "engine",
]


@record
class Origin:
    """The origin of a decision."""

    kind: OriginKind
    """`manifest`: at the path `name` of the manifest in force; `default`: the manifest sets nothing
    at that path, and its default applies; `caller`: whoever started, steered or stopped the run;
    `parent`: the run that this one is part of; `person`: whoever answered a question; `supervisor`:
    whoever watches the run; `budget`: a shared account that pays for it; `rule`, `mode`: of the
    permissions; `hook`, `tool`, `model`: that one; `host`: the machine or its settings; `engine`: a
    fixed rule of Lorimer, by its code."""
    name: str
    """The path, title, name or code."""

    def __str__(self) -> str:
        match self.kind:
            case "manifest":
                return self.name
            case "default":
                return f"{self.name} (default)"
            case "rule":
                return self.name
            case "person":
                return f"a person ({self.name})"
            case "caller":
                return f"the caller ({self.name})"
            case "parent":
                return f"its parent ({self.name})"
            case "supervisor":
                return f"its supervisor ({self.name})"
            case "mode":
                return f"permission mode {self.name}"
            case "engine":
                return f"built in ({self.name})"
            case _:
                return f"{self.kind} {self.name}"


@record
class Explanation:
    """One decision of a run."""

    seq: int
    """The fact that records it."""
    iteration: int
    """0-based."""
    kind: Kind
    what: str
    """What was decided."""
    why: str
    origin: Origin
    key: str = ""
    """For a call, its position in the reply, from 0."""
    about: str = ""
    """For a call, the beginning of its input."""

    def to_json(self) -> dict[str, JSON]:
        """Plain form, for other programs."""
        data: dict[str, JSON] = {
            "seq": self.seq,
            "iteration": self.iteration,
            "kind": self.kind,
            "what": self.what,
            "why": self.why,
            "origin": {"kind": self.origin.kind, "name": self.origin.name},
        }
        if self.key:
            data["key"] = self.key
        if self.about:
            data["about"] = self.about
        return data


def because(
    fact: Event, kind: Kind, what: str, why: str, origin: Origin, *, key: str = "", about: str = ""
) -> Explanation:
    """The explanation derived from this fact."""
    why = why.strip() or _NO_MORE
    return Explanation(fact.seq or 0, fact.iteration, kind, what, why, origin, key, about)


def sentence(text: str) -> str:
    """The first sentence of an error's message, without the full stop; untrusted."""
    return text.strip().rstrip(".")
