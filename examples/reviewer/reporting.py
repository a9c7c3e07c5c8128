"""What has come of a review, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reviewing import WORST_FIRST, Cell, Finding, Job, Review

from lorimer import LorimerError
from lorimer.cli.text import money, one_line, visible
from lorimer.run import Outcome


def report(job: Job) -> str:
    """A section for each model in the order given, then a table of all."""
    out: list[str] = []
    lenses = list(dict.fromkeys(cell.lens for cell in job.cells))
    table = [" " * 32 + "".join([f"{lens:>20}" for lens in lenses])]
    for model in dict.fromkeys(cell.model for cell in job.cells):
        cells = [cell for cell in job.cells if cell.model == model]
        out.append(f"## {model}: {verdict(job, cells)}\n")
        for each in findings(job, cells):
            place = each.file if each.line is None else f"{each.file}:{each.line}"
            out.append(f"- {each.severity}: {one_line(f'{place}: {each.problem}', 500)}")
        for cell in cells:
            if not answered(job, cell):
                why = reason(job.outcomes.get(cell))
                out.append(f"- no answer: {cell.lens}, part {cell.page + 1}: {why}")
        out.append("")
        words = [verdict(job, [each for each in cells if each.lens == lens]) for lens in lenses]
        table.append(f"{model[:31]:32}" + "".join([f"{word:>20}" for word in words]))
    if job.left_out:
        out.append(f"The last {job.left_out:,} characters of the diff were shown to nobody.\n")
    ends = Counter([outcome.status for outcome in job.outcomes.values()])
    not_run = len(job.cells) - ends["ok"] - ends["error"] - ends["cancelled"]
    counts = (
        f"{len(job.cells)} cells: {ends['ok']} answered, {ends['error']} failed, "
        f"{ends['cancelled']} cancelled, {not_run} not run; {money(job.spent_nano)}"
    )
    return visible("\n".join([*out, *table, "", counts]))


def verdict(job: Job, cells: Sequence[Cell]) -> str:
    """The worst that was found. Clean is only what was seen as a whole."""
    found = findings(job, cells)
    if job.left_out or not all(answered(job, cell) for cell in cells):
        return f"{found[0].severity}, incomplete" if found else "incomplete"
    return found[0].severity if found else "clean"


def findings(job: Job, cells: Sequence[Cell]) -> list[Finding]:
    """The worst first."""
    answers = [job.outcomes[cell].value for cell in cells if answered(job, cell)]
    found = [finding for answer in answers if answer for finding in answer.findings]
    return sorted(found, key=lambda each: (WORST_FIRST.index(each.severity), each.file))


def answered(job: Job, cell: Cell) -> bool:
    outcome = job.outcomes.get(cell)
    return outcome is not None and outcome.status == "ok"


def reason(outcome: Outcome[Review] | None) -> str:
    """Why a cell has no answer."""
    if outcome is None or outcome.error is None:
        return "cancelled" if outcome and outcome.status == "cancelled" else "not run"
    if isinstance(outcome.error, TimeoutError):
        return "not in time"
    code = f" [{outcome.error.code.value}]" if isinstance(outcome.error, LorimerError) else ""
    return f"{one_line(str(outcome.error), 300)}{code}"


def exit_code(job: Job) -> int:
    """1: something above minor was found. 3: no, but parts are missing. 0: no, in all of it."""
    word = verdict(job, job.cells)
    return 1 if word.startswith(("blocker", "major")) else 3 if "incomplete" in word else 0
