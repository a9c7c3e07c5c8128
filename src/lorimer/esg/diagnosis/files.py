"""Missing files: misspelt, made by a step that has not run, in a missing folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.near import nearest
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.diagnosis.texts import StepText
from lorimer.esg.patching.patches import Edit

_MOST: Final = 2000
"""Names of a folder that are compared."""


@rule(FileNotFoundError)
def missing_file(case: Case) -> Iterator[Finding]:
    """A file that a step writes, that has another name, or whose folder has another name."""
    error = case.error
    given: object = error.filename if isinstance(error, OSError) else None
    if not isinstance(given, str):
        return
    path, esg = Path(given), case.esg
    resource = f"file:{path.absolute()}"
    for step in esg.steps:
        if step != case.step and resource in esg.made(step):
            later = case.known and esg.steps.index(step) > esg.steps.index(case.step)
            when = ", which comes later" if later else f", which is {esg.status(step)}"
            message = f"{path} is written by {step}{when}"
            yield Finding("file_of_a_step", message, step, (), 0.97)
            return
    for step in esg.steps:
        source = esg.source(step)
        writes = path.name in source and ("open" in source or "write" in source)
        if step != case.step and writes and not esg.made(step):
            message = f"{path} is written by {step}, which is {esg.status(step)}"
            yield Finding("file_of_a_step", message, step, (), 0.9)
            return
    part, there = _first_missing(path)
    meant, sure = nearest(part.name, there)
    if not meant:
        what = f"{part.parent} has no {part.name!r}" if there else f"{part.parent} is empty"
        yield Finding("missing_file", what, case.site.text.step, (), 0.6)
        return
    text, edits = _renamed(case, part.name, meant)
    message, step = f"there is no {part.name!r}, but {meant!r}", text.step
    written = f"file:{part.with_name(meant).absolute()}"
    for each in esg.steps:
        if written in esg.made(each):
            message, step = f"{message}, which {each} wrote", each
    yield Finding("file_typo", message, step, edits, sure)


def _first_missing(path: Path) -> tuple[Path, list[str]]:
    """The first part of a path that does not exist, and what its parent folder contains."""
    for part in [*reversed(path.parents), path]:
        if not part.exists():
            names = list[str]()
            for each, _ in zip(part.parent.iterdir(), range(_MOST), strict=False):
                names.append(each.name)
            return part, names
    return path, []


def _renamed(case: Case, wrong: str, meant: str) -> tuple[StepText, tuple[Edit, ...]]:
    """In the code that failed, else in code that made a name it used."""
    site = case.site
    makers = [case.evidence(each)[1] for each in case.names()]
    callers = [each.text for each in case.sites]
    for text in [site.text, *callers, *makers, *_ancestors(case)]:
        edits = list[Edit]()
        for node in ast.walk(text.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                start = text.start(node)
                at = text.of(node).find(wrong)
                if at >= 0:
                    edits.append(Edit(text.step, start + at, start + at + len(wrong), meant))
        if edits:
            return text, tuple(edits)
    return site.text, ()


def _ancestors(case: Case) -> Iterator[StepText]:
    if case.known:
        for step in reversed(case.esg.get_ancestors(case.step)):
            yield case.text(step)


RULES: Final = (missing_file,)
