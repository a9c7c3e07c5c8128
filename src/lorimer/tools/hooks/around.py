"""The points around a tool call: the guards before it, whose changes are validated and permitted
like the model's own input, and the guards after it, which see the result before the model does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, HookError, ToolExecutionError
from lorimer.core.hooks import (
    NOTHING,
    Answer,
    HookEvent,
    answer_of,
    blocked,
    consult,
    is_recorded,
)
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolUse
from lorimer.core.record import record
from lorimer.core.review import Finding
from lorimer.tools.admission import accepted, permitted, refused, reviewed
from lorimer.tools.base import ToolInput
from lorimer.tools.permissions import PLAIN_ALLOW, Verdict, decided
from lorimer.tools.policy.modes import Action, Mode
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

_BEFORE: Final = HookEvent.PRE_TOOL_USE
_AFTER: Final = (HookEvent.POST_TOOL_USE, HookEvent.POST_TOOL_FAILURE)
OF_CALLS: Final = (_BEFORE, *_AFTER)
"""The points at which guards are asked about a call."""


@record
class Screened:
    """A call that may be made."""

    entry: Entry
    arguments: ToolInput
    verdict: Verdict
    answer: Answer
    """The answers of the guards before it."""


async def screen(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    run: RunContext,
    found: Sequence[Finding] | None = None,
) -> Screened:
    """Validate a call, ask the guards, validate their changes, permit it. Guards are not asked
    about a call that rules forbid. `found` is what reviewers found in it; None: they were not
    asked. Raises ToolExecutionError if it must not be made."""
    policy = tools.policy_in(run)
    entry, arguments = accepted(tools, use, run)
    free = policy.needs_no_decision(entry)
    decision = None
    tainted = bool(run.strangers)
    if not free:
        decision = decided(policy, entry, arguments, run)
    answer = NOTHING
    denied = decision is not None and decision.action is Action.DENY
    if not denied or is_recorded(_BEFORE, key, run):
        name = entry.spec.name
        told: dict[str, JSON] = {
            "tool_name": name,
            "tool_use_id": use.id,
            "tool_input": arguments,
        }
        if policy.plans:
            told["permission_mode"] = Mode.PLAN.value
        try:
            answer = await consult(tools.hooks, _BEFORE, key, told, run, tool=name, request=request)
            if answer.decision == "block":
                raise blocked(answer, f"this call of {name}")
        except HookError as error:
            raise await refused(entry, key, error.code, error.message, run) from error
        if answer.change is not None:
            arguments = changed(tools, use, answer, run)
            free = policy.needs_no_decision(entry)
            decision = None
        if decision is not None and not (
            policy.lasts(entry)
            and policy is tools.policy_in(run)
            and tainted is bool(run.strangers)
        ):
            decision = None  # asking guards takes time: decide by the state now
    wanted = _wants(answer)
    if run.review is not None and (found is None or answer.change is not None):
        change = answer.change
        found = run.review.of(use.name, change if isinstance(change, Mapping) else use.input)
    if found and not denied:
        said = await reviewed(found, entry, key, run)
        wanted = f"{wanted}; {said}" if wanted and said else wanted or said
    verdict = PLAIN_ALLOW
    if not free or wanted or (run.replaying and run.recorded("decision", key)):
        verdict = await permitted(tools, entry, arguments, key, run, decision, wanted)
    return Screened(entry, arguments, verdict, answer)


def _wants(answer: Answer) -> str:
    """Why a guard requires a person's approval; "" if it does not."""
    if answer.decision != "ask":
        return ""
    return f"the hook {answer.hook!r} wants it to be asked: {answer.reason or 'it says no more'}"


def changed(tools: Toolset, use: ToolUse, answer: Answer, run: RunContext) -> ToolInput:
    """The input as changed by a guard, validated as if it came from the model."""
    change = answer.change
    given = replace(use, input=change if isinstance(change, Mapping) else {}, raw="")
    try:
        return accepted(tools, given, run)[1]
    except ToolExecutionError as error:
        raise ToolExecutionError(
            f"The hook {answer.hook!r} changed the call into one that does not fit: "
            f"{error.message}",
            code=ExecutorErrorCode.EXEC_HOOK_FAILED,
            tool_name=use.name,
        ) from error


def said_before(key: str, run: RunContext) -> Answer:
    """The recorded answer of the guards before a call."""
    fact = run.recorded("effect", f"hook:{_BEFORE}:{key}")
    return NOTHING if fact is None else answer_of(fact.data)


def made(key: str, run: RunContext) -> Mapping[str, JSON] | None:
    """The result of a call that was made, if the process died while guards were checking it."""
    for event in _AFTER:
        fact = run.recorded("effect.intent", f"hook:{event}:{key}")
        outcome = fact.data.get("outcome") if fact is not None else None
        if isinstance(outcome, Mapping):
            return outcome
    return None


def follows(tools: Toolset, use: ToolUse, before: Answer, run: RunContext) -> bool:
    """Whether there is something to do after the call."""
    if before.context or run.replaying:
        return True
    hooks = tools.hooks
    if hooks is None:
        return False
    return hooks.guards(_AFTER[0], use.name) or hooks.guards(_AFTER[1], use.name)


async def followed(
    tools: Toolset,
    use: ToolUse,
    key: str,
    before: Answer,
    call: Callable[[], Awaitable[Mapping[str, JSON]]],
    run: RunContext,
) -> Mapping[str, JSON]:
    """Make a call, and let the guards check its result. The result is recorded before they are
    asked (in their intent), so that an interruption during the check does not lose it."""
    return await looked_at(tools, use, key, before, await call(), run)


async def looked_at(
    tools: Toolset,
    use: ToolUse,
    key: str,
    before: Answer,
    data: Mapping[str, JSON],
    run: RunContext,
) -> Mapping[str, JSON]:
    """The result for the model, after the guards have seen it."""
    event = _AFTER[data.get("is_error") is True]
    output = data.get("content")
    if run.redactor is not None:  # after an interruption they get the recorded, redacted result
        output = run.redactor.json(output, deep=True)
    payload: dict[str, JSON] = {
        "tool_name": use.name,
        "tool_use_id": use.id,
        "tool_input": use.input if before.change is None else before.change,
        "tool_output": output,
    }
    try:
        answer = await consult(
            tools.hooks,
            event,
            key,
            payload,
            run,
            tool=use.name,
            intent={"outcome": data},
        )
        if answer.decision:
            raise blocked(answer, "to show its result")
    except HookError as error:
        return failed(
            ToolExecutionError(
                f"{use.name} was run, and its result is withheld. {error.message} What it did "
                "stays done.",
                code=error.code,
                tool_name=use.name,
            )
        )
    if answer.change is not None:
        data = {**data, "content": answer.change}
    for context in (before.context, answer.context):
        if context:
            data = {**data, "content": _added(data.get("content"), context)}
    return data


def _added(content: JSON, text: str) -> JSON:
    if isinstance(content, list | tuple):
        return [*content, {"type": "text", "text": text}]
    return f"{content}\n\n{text}"
