"""What the reviewers of stage 11 find in the calls of a run. They are asked before a call is made,
on the one path of every call (`tools/dispatch.py`); the stage tells what they found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final, Literal, Protocol, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.record import record

Action: TypeAlias = Literal["annotate", "ask", "block"]
"""`annotate`: it is told to whoever runs the agent. `ask`: a person decides, whatever rules allow.
`block`: the call is not made, and the model is told why."""

_STRICTNESS: Final[Mapping[Action, int]] = {"annotate": 0, "ask": 1, "block": 2}
_MAX_DEPTH: Final = 64
_TEXTLESS: Final = frozenset({int, float, bool, type(None)})


@record
class Call:
    """A call as reviewers see it."""

    tool: str
    input: Mapping[str, JSON]
    texts: tuple[str, ...]
    """All texts in its input, names of fields left out."""


@record
class Finding:
    """What a reviewer has found in a call."""

    reviewer: str
    action: Action
    reason: str


class Reviewer(Protocol):
    """Looks at calls. Strategies of stage 11."""

    name: ClassVar[str]

    def find(self, call: Call) -> Finding | None:
        """What it finds; None: nothing. Must be quick, and find the same in the same call again:
        nothing of it is recorded."""
        ...


class Review:
    """The reviewers of one run, with what they have found. Belongs to the run's task."""

    __slots__ = ("_reviewers", "findings")

    def __init__(self, reviewers: Sequence[Reviewer]) -> None:
        self._reviewers = reviewers
        self.findings: list[tuple[int, Finding]] = []
        """Of this iteration: the call's place in the reply, and what was found in it."""

    def of(self, tool: str, input: Mapping[str, JSON]) -> list[Finding]:
        """What they find in a call, the strictest first. One that fails lets nothing through."""
        texts: list[str] = []
        _gather(input.values(), 1, texts)
        call = Call(tool, input, tuple(texts))
        found: list[Finding] = []
        for reviewer in self._reviewers:
            try:
                finding = reviewer.find(call)
            except Exception as error:  # noqa: BLE001 - somebody's own reviewer: it has not agreed
                finding = Finding(reviewer.name, "block", f"it failed: {type(error).__name__}")
            if finding is not None:
                found.append(finding)
        if len(found) > 1:
            found.sort(key=lambda finding: -_STRICTNESS[finding.action])
        return found

    def look(self, index: int, tool: str, input: Mapping[str, JSON]) -> list[Finding]:
        """`of`, and keep it for stage 11."""
        found = self.of(tool, input)
        if found:
            self.findings.extend([(index, finding) for finding in found])
        return found


def _gather(values: Iterable[JSON], depth: int, texts: list[str]) -> None:
    """Add all texts in some values to `texts`, of those nested too deep none: such a call is
    refused anyway."""
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif type(value) in _TEXTLESS or depth > _MAX_DEPTH:
            continue
        elif isinstance(value, (dict, Mapping)):  # the type that it nearly always is, first
            _gather(value.values(), depth + 1, texts)
        elif isinstance(value, (list, tuple)):
            _gather(value, depth + 1, texts)
