"""A live run takes up changes of its manifest: before a model call, recorded as the fact `mutated`.

What a change is: `mutation.py`. Who asks for one: the program that runs it (`changing.py`,
for all of its runs), or whoever sends that run a message (`mail.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.context import RunContext, Upcoming
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, MutationError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.plan import Plan
from lorimer.core.record import record
from lorimer.core.request import NO_MARKS
from lorimer.core.state import PipelineState


@record
class Asked(Upcoming):
    """Changes that a message asks for. `plan` is what the run had when it came: whether they fit is
    seen when they are taken up."""

    post: str
    """The id of the message."""


async def changed(plan: Plan, state: PipelineState) -> Plan:
    """The plan from here on: changed as is recorded of this iteration, else as was asked for since
    the one before. Asked before the stages that prepare its model call.

    Journals `mutated`, also for what was refused. Raises JournalError `exec.journal.diverged` for
    a recorded change that cannot be made here.
    """
    run = state.run
    known = run.recorded("mutated")
    data: Mapping[str, JSON]
    if known is not None:
        data, after = known.data, _again(plan, known, run)
    elif run.upcoming and not run.replaying:
        asked, run.upcoming = run.upcoming, ()
        data, after = _now(plan, asked, run)
    else:
        return plan
    run.plan = after  # what is asked for while this is written builds on it
    await run.record("mutated", data)
    if after is not plan:
        _take_up(plan, after, state)
    return after


def _now(plan: Plan, asked: Sequence[Upcoming], run: RunContext) -> tuple[Mapping[str, JSON], Plan]:
    """What is recorded of changes, and what they make of the plan: each of those that were asked
    for at once is made whole, or refused."""
    made: list[JSON] = []
    posts: list[JSON] = []
    refused: list[JSON] = []
    after = plan
    for each in asked:
        post = each.post if isinstance(each, Asked) else ""
        if post:
            posts.append(post)
        change = after.asked if post else after.changed
        try:
            if change is None:
                raise MutationError(f"run {run.id} cannot be changed")
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


def _again(plan: Plan, known: Event, run: RunContext) -> Plan:
    """What the recorded changes make of the plan."""
    told = known.data.get("changes")
    changes: Sequence[JSON] = told if isinstance(told, list | tuple) else ()
    digest = str(known.data.get("manifest"))
    why = "its changes come to another manifest here"
    if not changes and plan.digest == digest:
        return plan
    if plan.changed is not None:
        try:
            after = plan.changed(changes)
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


def _take_up(before: Plan, after: Plan, state: PipelineState) -> None:
    """Forget what stages of the plan before have left for the model call."""
    state.run.review = None  # stage 10 asks the reviewers that there are now
    state.run.bounds.narrowed = None  # stage 14 says so again, if it still does
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
