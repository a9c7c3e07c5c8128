"""Applies pending changes of the manifest to a live run: before a model call, recorded as the fact
`mutated`.

What a change is: `core/mutation`. Who asks for one: the program that runs it (`mutable.py`,
for all of its runs), or whoever sends that run a message (`mail.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.context import PendingChange, RunContext
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, items_of
from lorimer.core.plan import Plan
from lorimer.core.record import record
from lorimer.core.request import NO_MARKS
from lorimer.core.state import PipelineState


@record
class RequestedChange(PendingChange):
    """Changes that a message asks for. `plan` is the run's plan when the message arrived: whether
    the changes are valid is checked when they are applied."""

    post: str
    """Id of the message."""


async def apply_pending(plan: Plan, state: PipelineState) -> Plan:
    """The plan from this iteration on: with the recorded changes or, in a live run, the pending
    ones. Called before the stages that prepare the model call.

    Journals `mutated`, also for refused changes. Raises JournalError `exec.journal.diverged` for a
    recorded change that cannot be made here.
    """
    run = state.run
    known = run.recorded("mutated")
    data: Mapping[str, JSON]
    if known is not None:
        data, after = known.data, _reapply(plan, known, run)
    elif run.pending_changes and not run.replaying:
        pending, run.pending_changes = run.pending_changes, ()
        data, after = _apply(plan, pending, run)
    else:
        return plan
    run.plan = after  # changes that arrive while this is being recorded build on it
    await run.record("mutated", data)
    if after is not plan:
        _reset_prepared(plan, after, state)
    return after


def _apply(
    plan: Plan, pending: Sequence[PendingChange], run: RunContext
) -> tuple[Mapping[str, JSON], Plan]:
    """The data of the fact `mutated`, and the plan with the changes. Changes that arrived together
    are all made, or all refused."""
    made: list[JSON] = []
    posts: list[JSON] = []
    refused: list[JSON] = []
    after = plan
    for each in pending:
        post = each.post if isinstance(each, RequestedChange) else ""
        if post:
            posts.append(post)
        change = after.with_requested_changes if post else after.with_changes
        try:
            after = change(each.changes)
        except ConfigError as error:
            told = error if run.redactor is None else run.redactor.error(error)
            why: dict[str, JSON] = {"code": told.code.value, "why": str(told)}
            refused.append({"post": post, **why} if post else why)
        else:
            made += each.changes
    data: dict[str, JSON] = {"changes": made, "manifest": after.digest}
    if posts:
        data["posts"] = posts
    if refused:
        data["refused"] = refused
    return data, after


def _reapply(plan: Plan, known: Event, run: RunContext) -> Plan:
    """The plan with the recorded changes."""
    changes = items_of(known.data.get("changes"))
    digest = str(known.data.get("manifest"))
    why = "its changes come to another manifest here"
    if not changes and plan.digest == digest:
        return plan
    try:
        after = plan.with_changes(changes)
    except ConfigError as error:
        why = str(error)
    else:
        if after.digest == digest:
            return after
    raise JournalError(
        f"Run {run.id} cannot go on: its manifest was changed in turn "
        f"{run.iteration + 1}, and that cannot be done again: {why}.",
        code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
        hint="Register the stages and strategies that it used then, or start a new run.",
    )


def _reset_prepared(before: Plan, after: Plan, state: PipelineState) -> None:
    """Reset what stages of the former plan have prepared for the model call."""
    state.run.review = None  # stage 10 asks the current reviewers
    state.run.bounds.narrowed = None  # stage 14 sets it again, if it still applies
    state.context = state.messages
    state.system, state.tools, state.cache = "", (), NO_MARKS
    there = {stage.name for stage in after.stages} - {"system"}  # sets its own again
    state.volatile = {name: text for name, text in state.volatile.items() if name in there}
    if _model_choice(before) != _model_choice(after):
        state.models = ""


def _model_choice(plan: Plan) -> tuple[JSON, ...]:
    """The part of the plan that decides whom stage 6 calls."""
    entry = plan.manifest.stages["api"]
    model = entry.model_override.get("model") or plan.manifest.model.model
    return (model, entry.config.get("provider"))
