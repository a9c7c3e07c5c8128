"""The result of a diagnosis: possible causes, the most likely first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorimer.esg.patching.patches import Edit, Move


@dataclass(frozen=True, slots=True)
class Finding:
    """One possible cause."""

    rule: str
    message: str
    step: str
    """The step that is the evidence, often not the one that failed."""
    edits: tuple[Edit, ...] = ()
    """A possible fix; none if nothing is likely enough, or no edit can fix it."""
    confidence: float = 0.8
    """0 to 1: orders the findings of different rules."""
    moves: tuple[Move, ...] = ()
    """Steps that would have to be moved."""


@dataclass(frozen=True, slots=True)
class DiagnosisReport:
    """Possible causes, the most likely first; none if the step ran or nothing is known."""

    step_id: str
    error: str
    """The exception in one line; empty if the step ran."""
    findings: tuple[Finding, ...]
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Step -> hash of the code that was examined: the edits are for this code."""
    names: frozenset[str] = frozenset()
    """Names that the step saw."""

    @property
    def cause(self) -> Finding | None:
        """The most likely cause."""
        return self.findings[0] if self.findings else None

    @property
    def messages(self) -> tuple[str, ...]:
        """The causes as text, each once: findings that differ only in their edits are merged."""
        return tuple(dict.fromkeys(each.message for each in self.findings))

    def __str__(self) -> str:
        if not self.error:
            return f"{self.step_id} ran"
        lines = [f"  {each.message} [{each.rule}]" for each in self.findings]
        return "\n".join([f"{self.step_id}: {self.error}", *dict.fromkeys(lines)])
