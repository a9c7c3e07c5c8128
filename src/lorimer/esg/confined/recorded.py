"""Sessions that begin with steps that ran elsewhere, without their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lorimer.esg.executor import StepExecutor, StepResult
from lorimer.esg.graph.steps import UNSEEN, Status


def reads_of(result: StepResult, steps: StepExecutor) -> list[str]:
    """The names that a step has read, and those through which others made or changed what these
    lead to.

    After `b = a` a step that reads only `b` depends on steps that change `a`. The session knows
    this from the objects; if those are gone, only from names.
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


def changed(steps: StepExecutor, step: str, change: Callable[[], Iterable[str]]) -> list[str]:
    """Change a step of the graph: `change` returns what that makes stale. Returns all of it, in
    step order.

    A step that read what this step made elsewhere, and now reads it from another, is stale too:
    neither value was ever seen here, so they cannot be compared.
    """
    graph = steps.graph
    seen = step in steps.results
    before = _readers(steps, step)
    stale = {*change()}
    if not seen:
        after = _readers(steps, step) if step in graph else set[tuple[str, str]]()
        concerned = before | after if step in stale else before ^ after
        for reader in {reader for _, reader in concerned if reader in graph}:
            stale |= {*graph.mark_stale(reader)}
    return sorted(stale, key=graph.position)


def met(steps: StepExecutor, step: str) -> None:
    """A step has run: link the objects it made to later steps that ran elsewhere.

    If such a step changed something in place, it may have changed these objects, so it has to run
    here before they are seen under another name.
    """
    graph = steps.graph
    for reader in {reader for _, reader in _readers(steps, step)}:
        used, made = graph.used(reader), graph.made(reader)
        objects = [name for name in used if "#" in name and name not in made]
        changes = used.keys() & made.keys()
        if objects and changes and graph.status(reader) is Status.FRESH:
            graph.observe(
                reader,
                used,
                {**made, **dict.fromkeys(objects, UNSEEN)},
                kills=made.keys() - used.keys(),
                in_place=changes,
                saw_all=graph.reads_unknown(reader),
            )


def _readers(steps: StepExecutor, step: str) -> set[tuple[str, str]]:
    """(name, reader) for readers that did not run here."""
    return {each for each in steps.graph.readers(step) if each[1] not in steps.results}
