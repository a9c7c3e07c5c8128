"""Why a step failed, from the exception, the live values and the history of the session.

Python reports where an error surfaced; the graph knows which step made, deleted or overwrote a
name, and what comes later. Each rule returns findings with the step that is the evidence and, where
the repair is certain enough, edits. No model is asked.

A rule is a function in one of the modules here, declared with `rule` and listed in the module's
`RULES`; its argument is `case.py: Case`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from lorimer.esg.diagnosis import (
    calls,
    files,
    history,
    imports,
    limits,
    members,
    names,
    nothing,
    numbers,
    syntax,
    types,
    unpacking,
)
from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.report import DiagnosisReport, Finding
from lorimer.esg.diagnosis.rule import Rule
from lorimer.esg.execution.results import StepResult
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.patching.patches import PatchResult, hash_of, patch_of

__all__ = ["DiagnosisReport", "Finding", "diagnose", "generate_patch", "patches"]

_FAMILIES: Final = (
    syntax, names, imports, history, nothing, members, calls, unpacking, types, numbers,
    files, limits,
)  # fmt: skip
RULES: Final = tuple(each for family in _FAMILIES for each in family.RULES)


def diagnose(result: StepResult, esg: ExecutionStateGraph) -> DiagnosisReport:
    """Find out why a step failed. Runs none of its code; calls `dir` and `keys` on objects."""
    failure, error = result.failure, result.error
    if failure is None or error is None:
        return DiagnosisReport(result.step_id, "", ())
    case = Case(result, error, esg)
    found = [
        finding
        for each in RULES
        if isinstance(error, each.errors)
        for finding in _findings(each, case)
    ]
    found.sort(key=lambda finding: -finding.confidence)
    return DiagnosisReport(
        result.step_id,
        f"{failure.type}: {failure.message}",
        tuple(found),
        {text.step: hash_of(text.source) for text in case.looked_at},
        frozenset(case.values) if found else frozenset(),
    )


def _findings(each: Rule, case: Case) -> list[Finding]:
    found = list[Finding]()
    with suppress(Exception):  # whatever an object of the steps raises when it is looked at
        found.extend(each.find(case))
    return found


def generate_patch(diagnosis: DiagnosisReport, esg: ExecutionStateGraph) -> PatchResult:
    """The edits of the most likely finding that has some and whose result passes the checks of a
    patch.

    `repair` of a session tries a patch, and reverts it if it does not help.
    """
    patch = next(patches(diagnosis, esg), None)
    if patch is not None:
        return patch
    if not diagnosis.error:
        return PatchResult("there is nothing to mend")
    cause = diagnosis.cause
    return PatchResult(cause.message if cause else "no rule knows this error")


def patches(diagnosis: DiagnosisReport, esg: ExecutionStateGraph) -> Iterator[PatchResult]:
    """A patch for each finding that has edits, the most likely first.

    Omitted are those for code edited since the diagnosis, and those after which a step would not be
    Python or would read a name that no step makes.
    """
    for finding in diagnosis.findings:
        steps = {edit.step for edit in finding.edits}
        if not (steps or finding.moves) or any(
            step not in esg or hash_of(esg.source(step)) != diagnosis.hashes.get(step)
            for step in steps
        ):
            continue
        patch = patch_of(
            finding.edits,
            finding.message,
            esg,
            moves=finding.moves,
            given=diagnosis.names,
        )
        if patch:
            yield patch
