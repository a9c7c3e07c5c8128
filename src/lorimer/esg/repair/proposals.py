"""A patch proposed by a model, or by anything else, from the relevant part of the history.

The question contains the step that failed, the exception, the steps that made what its failing
statement uses (the backward slice, never the whole history), summaries of their values, and what
the rules found. The answer is checked like every patch, and `repair` tries it before it is kept.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Final, Protocol

from lorimer.esg.diagnosis import DiagnosisReport
from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.summaries import summary
from lorimer.esg.execution.results import StepResult
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.questions import StepError
from lorimer.esg.patching.forms import Block, range_of
from lorimer.esg.patching.patches import Edit, PatchResult, patch_of

MAX_CHARACTERS: Final = 24_000
"""Limit on the steps that are shown in addition to the failed one; the nearest come first."""
_MOST_VALUES: Final = 20
_TRACEBACK: Final = 2_000

FORMAT: Final = (
    "Answer with blocks. Each names a step, gives `search`, whole lines that stand in the step's "
    "text exactly once, and `replace`, the lines that come instead. Change as little as mends the "
    "error, and only steps that are shown. No blocks, if you do not know what mends it."
)


@dataclass(frozen=True, slots=True)
class Brief:
    """The input of a proposer."""

    step: str
    """The step that failed."""
    error: str
    traceback: str
    sources: dict[str, str]
    """Step -> code, in step order: the failed step and those that made what it used."""
    left_out: tuple[str, ...] = ()
    """Steps of the slice that did not fit."""
    values: dict[str, str] = field(default_factory=dict[str, str])
    """Name -> summary of its value."""
    findings: tuple[str, ...] = ()
    """What the rules found."""
    tried: tuple[str, ...] = ()
    """Patches that did not help, as diffs."""

    def text(self) -> str:
        """The brief as a prompt: what is between the marks is data, whatever it says."""
        parts = [f"Step {self.step} of a program that is run step by step failed.", FORMAT]
        parts += [_part("error", f"{self.error}\n\n{self.traceback}".strip())]
        for step, source in self.sources.items():
            parts.append(_part(f"step {step}", source))
        if self.left_out:
            parts.append(f"Not shown for want of room: {', '.join(self.left_out)}.")
        if self.values:
            values = "\n".join(f"{name}: {value}" for name, value in self.values.items())
            parts.append(_part("values when it failed", values))
        if self.findings:
            parts.append(
                _part("what rules have found, which may be wrong", "\n".join(self.findings))
            )
        parts += [_part("a patch that did not help", each) for each in self.tried]
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The answer of a proposer."""

    reason: str
    """What was wrong, in a sentence."""
    blocks: list[Block]


class Proposer(Protocol):
    """Can be asked for a patch."""

    async def propose(self, brief: Brief) -> Proposal:
        """The answer to a brief; without blocks if nothing is known. It may be wrong."""
        ...


async def proposed(
    proposer: Proposer,
    result: StepResult,
    esg: ExecutionStateGraph,
    diagnosis: DiagnosisReport,
    tried: tuple[PatchResult, ...] = (),
) -> PatchResult:
    """Ask for a patch of a failed step. `tried`: patches that did not help.

    Returns an empty patch, with the reason, if there is no proposal or it may not be applied.
    Exceptions of the proposer are passed on.
    """
    brief = brief_of(result, esg, diagnosis, tried)
    if brief is None:
        return PatchResult("there is nothing to mend")
    proposal = await proposer.propose(brief)
    edits = list[Edit]()
    for block in proposal.blocks:
        if block.step not in brief.sources:
            return PatchResult(f"the proposal changes step {block.step!r}, which was not shown")
        try:
            edits.append(Edit(block.step, *range_of(block, brief.sources[block.step])))
        except StepError as error:
            return PatchResult(f"the proposal does not fit: {error}")
    if not edits:
        return PatchResult(proposal.reason or "nothing was proposed")
    return patch_of(edits, proposal.reason, esg, given=diagnosis.names)


def brief_of(
    result: StepResult,
    esg: ExecutionStateGraph,
    diagnosis: DiagnosisReport,
    tried: tuple[PatchResult, ...] = (),
) -> Brief | None:
    """The input of a proposer for a failed step; None if the step ran."""
    if result.failure is None or result.error is None:
        return None
    case = Case(result, result.error, esg)
    names = _used(case)
    known = result.step_id in esg
    slice_ = esg.get_ancestors(result.step_id, names or None) if known else []
    shown, left_out, room = {result.step_id}, list[str](), MAX_CHARACTERS
    for step in reversed(slice_):
        room -= len(esg.source(step))
        if room >= 0:
            shown.add(step)
        else:
            left_out.append(step)
    sources = {step: esg.source(step) for step in esg.steps if step in shown}
    values = {**case.values, **case.site.local}
    told = [name for name in values if name in names or name in case.site.local]
    return Brief(
        result.step_id,
        diagnosis.error,
        result.failure.traceback[-_TRACEBACK:],
        sources,
        tuple(reversed(left_out)),
        {name: summary(values[name]) for name in told[:_MOST_VALUES]},
        tuple(each.message for each in diagnosis.findings[:5]),
        tuple(each.diff for each in tried),
    )


def _used(case: Case) -> set[str]:
    """Names in the statements that were running, in the failed step and the functions in it."""
    found = set[str]()
    for site in case.sites:
        top = site.text.statement(site.node) if site.node is not None else None
        nodes = [top] if top is not None else [*site.text.in_line(site.line)]
        for node in nodes:
            found |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return found


def _part(title: str, text: str) -> str:
    """Text between marks that do not occur in it."""
    mark = "```"
    while mark in text:
        mark += "`"
    return f"{title}:\n{mark}\n{text}\n{mark}"
