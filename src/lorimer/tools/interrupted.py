"""Handles a call that is in the journal already: the answer is its recorded result; if it was begun
and its outcome is unknown, its tool is asked about it, and then a person."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolUse
from lorimer.core.tool import RepeatApprover
from lorimer.tools.admission import accepted, forget
from lorimer.tools.asking import AGAIN, QUESTION, AskLater, ask_again, ask_text
from lorimer.tools.base import NOT_DONE, ToolInput
from lorimer.tools.calling import Told, make
from lorimer.tools.hooks.around import (
    OF_CALLS,
    changed,
    followed,
    looked_at,
    made,
    said_before,
    screen,
)
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed
from lorimer.tools.running import DidNotHappen, reconcile_tool, unknown
from lorimer.tools.steps import forget_steps

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset


def result_of(key: str, request: bytes, run: RunContext) -> Mapping[str, JSON] | None:
    """The call's recorded result; None: there is none, or `answered` has to determine it. Raises
    what `RunContext.effect` raises."""
    found = run.answer("tool", key, request)
    if found is not None:
        _forget_all(key, run)
    return found


def is_recorded(tools: Toolset, use: ToolUse, key: str, run: RunContext) -> bool:
    """Whether the journal has the call's result, or that its guards were asked about the result, or
    its intent and the call is not safe to repeat by the tool's declarations then and now."""
    if run.recorded("tool.result", key) is not None or made(key, run) is not None:
        return True
    intent = run.recorded("tool.intent", key)
    return intent is not None and not _repeatable(tools, use, intent)


def _repeatable(tools: Toolset, use: ToolUse, intent: Event) -> bool:
    entry = tools.registry.entry(use.name)
    safe = entry is not None and entry.safety is not Safety.UNSAFE
    return safe and intent.data.get("idempotent") is True


async def answered(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    extra: Told,
    run: RunContext,
) -> Mapping[str, JSON]:
    """The recorded result; if there is none, what can be found out about the call."""
    intent = run.recorded("tool.intent", key)
    begun = run.recorded("tool.result", key) is None
    if begun:
        run.cancellation.begin_change()
    else:
        _forget_all(key, run)
    find_out = partial(_settle, tools, use, key, request, intent, extra, run)
    # whether it is repeated is decided here, not by `effect`; a read-only call has no intent
    safety = Safety.READ_ONLY if intent is None else Safety.IDEMPOTENT
    try:
        return await run.effect("tool", key, find_out, request=request, safety=safety)
    finally:
        if begun:
            run.cancellation.end_change()


async def _settle(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    intent: Event | None,
    extra: Told,
    run: RunContext,
) -> Mapping[str, JSON]:
    """Decide on a call that has an intent and no result: ask its tool, then a person. It is
    repeated only if it had not begun, the tool is certain that it took no effect, or the person
    wants it."""
    before, known = said_before(key, run), made(key, run)
    try:
        entry, arguments = accepted(tools, use, run)
        if before.change is not None:
            arguments = changed(tools, use, before, run)
    except ToolExecutionError as refusal:
        _forget_all(key, run)
        return failed(unknown(refusal.message))
    asked = f"reconcile:{key}"
    if known is None and intent is not None and _never_began(intent, key, run):
        outcome = "not_begun"
    else:
        try:
            if known is None:
                known = await make(tools, entry, arguments, use, key, extra, run, reconcile_tool)
        except DidNotHappen:
            outcome = NOT_DONE.value
        else:
            if not _unknown(known):
                known = await looked_at(tools, use, key, before, known, run)
            if not _unknown(known) or not await _wanted_again(tools, entry, arguments, key, run):
                _forget_all(key, run)
                return known
            outcome = "wanted"
    # synced: after a power loss, this must not look like the first attempt again
    await run.record("effect", {"key": asked, "outcome": outcome}, key=asked, sync=True)
    try:
        again = await screen(tools, use, key, request, run)
        entry, arguments = again.entry, again.arguments
        answer = await ask_text(tools, entry, arguments, key, run) if entry.asks else None
    except ToolExecutionError as refusal:
        return failed(refusal)
    call = partial(make, tools, entry, arguments, use, key, extra, run, answer=answer)
    return await followed(tools, use, key, again.answer, call, run)


def _never_began(intent: Event, key: str, run: RunContext) -> bool:
    """Whether the call was announced but not begun, so nobody has to be asked. False once it was
    decided to repeat it: it may have begun since."""
    if run.recorded("effect", f"reconcile:{key}") is not None:
        return False
    if run.recorded("effect.intent", f"{AGAIN}:{key}:0") is not None:
        return False
    return run.journal.never_began(intent)


def _unknown(data: Mapping[str, JSON]) -> bool:
    return data.get("error") == ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value


async def _wanted_again(
    tools: Toolset, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> bool:
    """Whether a person wants the call repeated; False if nobody can be asked, now or before."""
    put = any(
        run.recorded("effect.intent", again) is not None for again in _repeat_questions(key, run)
    )
    approver = tools.approver
    if not isinstance(approver, RepeatApprover):
        if not put:
            return False
        approver = AskLater()
    for again in _repeat_questions(key, run):
        # that answer was for a repetition which was interrupted too
        if run.recorded("effect", again) is not None:
            forget(again, run)
    return await ask_again(approver, entry, input, key, run)


def _repeat_questions(key: str, run: RunContext) -> list[str]:
    """The keys of the questions whether to repeat a call, without those whose answers were looked
    up already. See `ask_again` for their numbers."""
    keys: list[str] = []
    while run.recorded("effect.intent", again := f"{AGAIN}:{key}:{len(keys)}") is not None:
        keys.append(again)
    return keys


def _forget_all(key: str, run: RunContext) -> None:
    """Mark the recorded decisions about a call as looked up: none is made again."""
    if not run.decided:
        return
    forget_steps(key, run)
    run.forget("decision", key)
    hooked = [f"hook:{event}:{key}" for event in OF_CALLS]
    for other in (
        f"approval:{key}",
        f"{QUESTION}:{key}",
        f"reconcile:{key}",
        *hooked,
        *_repeat_questions(key, run),
    ):
        forget(other, run)
