"""The findings of the reviewers of stage 11 about the calls of a run. Reviewers are asked before a
call is made, on the path of all calls (`tools/dispatch.py`); the stage reports their findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final, Literal, Protocol, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.record import record

Action: TypeAlias = Literal["annotate", "ask", "block"]
"""`annotate`: reported to whoever runs the agent. `ask`: a person decides, whatever rules allow.
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
    """All texts in its input, excluding field names."""


@record
class Finding:
    """A finding of a reviewer about a call."""

    reviewer: str
    action: Action
    reason: str


class Reviewer(Protocol):
    """Reviews calls. Base of the strategies of stage 11."""

    name: ClassVar[str]

    def find(self, call: Call) -> Finding | None:
        """The finding; None: there is none. Must be quick and deterministic, because it is not
        recorded."""
        ...


class Review:
    """The reviewers of one run and their findings. Belongs to the run's task."""

    __slots__ = ("_reviewers", "findings")

    def __init__(self, reviewers: Sequence[Reviewer]) -> None:
        self._reviewers = reviewers
        self.findings: list[tuple[int, Finding]] = []
        """Findings of this iteration: the index of the call in the reply, and the finding."""

    def of(self, tool: str, input: Mapping[str, JSON]) -> list[Finding]:
        """The findings for a call, strictest first. A reviewer that fails blocks the call."""
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
        """As `of`, and keep the findings for stage 11."""
        found = self.of(tool, input)
        if found:
            self.findings.extend([(index, finding) for finding in found])
        return found


def _gather(values: Iterable[JSON], depth: int, texts: list[str]) -> None:
    """Add all texts in some values to `texts`; for values nested too deeply none: such a call is
    refused anyway."""
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif type(value) in _TEXTLESS or depth > _MAX_DEPTH:
            continue
        elif isinstance(value, (dict, Mapping)):  # by far the most frequent type, first
            _gather(value.values(), depth + 1, texts)
        elif isinstance(value, (list, tuple)):
            _gather(value, depth + 1, texts)
