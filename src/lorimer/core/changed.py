"""A live run takes up changes of its manifest: before a model call, recorded as the fact `mutated`.

What a change is: `mutation.py`. Who changes what: `lorimer/compiled.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError
from lorimer.core.jsonable import JSON
from lorimer.core.messages import NO_MARKS
from lorimer.core.plan import Plan
from lorimer.core.state import PipelineState


async def changed(plan: Plan, state: PipelineState) -> Plan:
    """The plan from here on: changed as is recorded of this iteration, else as was asked for since
    the one before. Asked before the stages that prepare its model call.

    Journals `mutated`. Raises JournalError `exec.journal.diverged` for a recorded change that
    cannot be made here.
    """
    run = state.run
    known = run.recorded("mutated")
    changes: Sequence[JSON]
    if known is not None:
        told = known.data.get("changes")
        changes = told if isinstance(told, list | tuple) else ()
        after = _again(plan, changes, str(known.data.get("manifest")), state)
    elif run.upcoming and not run.replaying:
        asked, run.upcoming = run.upcoming, ()
        changes = [change for each in asked for change in each.changes]
        after = asked[-1].plan
    else:
        return plan
    await run.record("mutated", {"changes": changes, "manifest": after.digest})
    _take_up(plan, after, state)
    return after


def _again(plan: Plan, changes: Sequence[JSON], digest: str, state: PipelineState) -> Plan:
    """What the recorded changes make of the plan."""
    why = "its changes come to another manifest here"
    if plan.changed is not None:
        try:
            after = plan.changed(changes)
        except ConfigError as error:
            why = str(error)
        else:
            if after.digest == digest:
                return after
    raise JournalError(
        f"Run {state.run.id} cannot go on: its manifest was changed in turn "
        f"{state.run.iteration + 1}, and that cannot be done again: {why}.",
        code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
        hint="Register the stages and strategies that it used then, or start a new run.",
    )


def _take_up(before: Plan, after: Plan, state: PipelineState) -> None:
    """Forget what stages of the plan before have left for the model call."""
    state.run.plan = after
    state.run.review = None  # stage 10 asks the reviewers that there are now
    state.context = state.messages
    state.system, state.tools, state.cache = "", (), NO_MARKS
    there = {stage.name for stage in after.stages} - {"system"}  # which says its own anew
    state.volatile = {name: text for name, text in state.volatile.items() if name in there}
    if _asks(before) != _asks(after):
        state.models = ""


def _asks(plan: Plan) -> tuple[JSON, ...]:
    """What says whom stage 6 asks."""
    entry = plan.manifest.stages["api"]
    model = entry.model_override.get("model") or plan.manifest.model.model
    return (model, entry.config.get("provider"))
