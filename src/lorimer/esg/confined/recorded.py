"""What is written down of a run for a session that begins without its values."""

from __future__ import annotations

from lorimer.esg.executor import StepExecutor, StepResult


def reads_of(result: StepResult, steps: StepExecutor) -> list[str]:
    """The names that a step has read, and those by which others made or changed what these lead to.

    After `b = a` a step that reads `b` alone depends on who changes `a`. The session knows that by
    the objects; where they are gone, only names tell.
    """
    found = dict.fromkeys(result.reads)
    if not result.ok:
        return [*found]
    needs = steps.graph.needs(result.step_id)
    told = {maker for name, maker in needs.items() if name in found}
    hidden = {maker for name, maker in needs.items() if "#" in name} - told
    for maker in sorted(hidden, key=steps.graph.position):
        made = steps.results.get(maker)
        found |= dict.fromkeys(filter(str.isidentifier, made.writes if made is not None else ()))
    return [*found]
