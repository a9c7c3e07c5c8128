"""What the model is told about an answer: first the lines of the record, then the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.jsonable import JSON
from lorimer.esg.agent.record import (
    Ran,
    changed_line,
    code_lines,
    held_line,
    moved_line,
    ran_line,
)
from lorimer.esg.agent.session import Asked, texts
from lorimer.esg.confined.told import dicts, seconds

_NOT_MANY = 3
"""Of up to this number of steps that ran without being requested, output is shown that is new."""


def told(asked: Asked, step: str, changed: str | None = None) -> str:
    """An answer to a call about `step`, as text. Nothing in it is trusted to have any form.

    `changed`: the code that ran, if a hook has changed what the conversation has.
    """
    answer = asked.answer
    runs = dicts(answer.get("runs"))
    made = dicts([answer.get("texts")])
    lines = [changed_line(str(answer.get("step") or ""), str(answer.get("changed")))]
    if changed is not None:
        lines += code_lines(str(answer.get("step")), changed)
    for each, code in [pair for found in made for pair in found.items()]:
        lines += code_lines(each, str(code))
    moves = [[*texts(pair)] for pair in _lists(answer.get("moves"))]
    lines += [moved_line(*pair) for pair in moves if len(pair) == 2]
    lines += [_ran(run) for run in runs]
    for pair in _lists(answer.get("held")):
        if len(pair) == 2 and (steps := [*texts(pair[1])]):
            lines.append(held_line(steps, str(pair[0])))
    lines += _notes(asked, runs)
    parts = ["\n".join(lines)]
    others = 0
    for run in runs:
        mine = run.get("step") in (step, answer.get("step")) or run.get("ok") is not True
        output = _output(run, named=len(runs) > 1)
        if not mine and (not output or _known(run, asked)):
            continue
        others += not mine
        if others <= _NOT_MANY or mine:
            parts += output
    parts += [_failure(run) for run in runs if run.get("ok") is not True and "report" not in answer]
    for report in dicts([answer.get("report")]):
        parts.append(_failure(report))
    if isinstance(diff := answer.get("diff"), str) and diff:
        parts.append(f"The patch:\n{diff.rstrip()}")
    return "\n\n".join([part for part in parts if part])


def _ran(run: Mapping[str, JSON]) -> str:
    ran = Ran(
        run.get("ok") is True,
        tuple(texts(run.get("reads"))),
        tuple(texts(run.get("makes"))),
        tuple(texts(run.get("outside"))),
    )
    return ran_line(
        str(run.get("step")),
        seconds(run.get("seconds")) or 0.0,
        ran,
        again=run.get("again") is True,
        why=str(run.get("failed") or ""),
    )


def _notes(asked: Asked, runs: Sequence[Mapping[str, JSON]]) -> list[str]:
    answer, lines = asked.answer, list[str]()
    if isinstance(fresh := answer.get("fresh"), int) and fresh:
        steps = f"{'other ' if runs else ''}step{'s are' if fresh > 1 else ' is'}"
        lines.append(f"({fresh} {steps} up to date: not run)")
    if failed := [*texts(answer.get("failed"))]:
        lines.append(f"(failed before and still to be mended: {', '.join(failed)})")
    if changed := [*texts(answer.get("others"))]:
        lines.append(f"(changed since by somebody else, and taken as it is: {', '.join(changed)})")
    again = [str(run.get("step")) for run in runs if run.get("again") is True]
    if asked.restored:
        rest = f"; {', '.join(again)} ran again for them" if again else ""
        lines.append(
            f"(a new session with the {asked.restored} steps of before: their values are made "
            f"again when they are needed{rest})"
        )
    return lines


def _known(run: Mapping[str, JSON], asked: Asked) -> bool:
    """Whether its output was shown before."""
    if run.get("same") is None:  # not known in this process
        lines = "\n".join(["", *_output(run, named=False), ""])
        return run.get("again") is True and any(lines in f"\n{each}\n" for each in asked.earlier)
    return run.get("same") is True


def _output(run: Mapping[str, JSON], *, named: bool) -> list[str]:
    head = f"[{run.get('step')}]\n" if named else ""
    text = str(run.get("output") or "").rstrip("\n")
    value = str(run.get("value") or "")
    both = "\n".join([part for part in (text, value) if part])
    return [f"{head}{both}"] if both else []


def _failure(run: Mapping[str, JSON]) -> str:
    lines = [str(run.get("traceback") or "").rstrip("\n")]
    lines += [f"Cause: {cause}" for cause in texts(run.get("causes"))]
    if isinstance(patch := run.get("patch"), str) and patch:
        lines.append(
            "A patch (diagnose with apply tries it, and keeps it if the step runs):\n"
            + patch.rstrip("\n")
        )
    else:
        lines.append("It changed no variable. Change it, or the step at fault, with edit_step.")
    if isinstance(needed := run.get("slice"), str) and needed:
        lines.append(f"The step and those that it needs:\n{needed.rstrip()}")
    return "\n".join(lines)


def _lists(value: JSON) -> list[list[JSON]]:
    return [each for each in value if isinstance(each, list)] if isinstance(value, list) else []
