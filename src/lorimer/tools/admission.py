"""Whether a call may be made: the tool is known, the arguments are valid, the call is permitted. If
not, the model is shown why.

`permissions.py` applies the rules, `asking.py` asks people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from lorimer.core.context import RunContext
from lorimer.core.documents import deeper
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolUse
from lorimer.core.review import Finding
from lorimer.tools.base import ToolInput
from lorimer.tools.encode import describe
from lorimer.tools.folders import placed
from lorimer.tools.permissions import BY_PERSON, UNCOVERED, Verdict, may, permit
from lorimer.tools.policy.engine import Decision
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed
from lorimer.tools.schema import invalid_input, read_texts

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

MAX_INPUT_DEPTH: Final = 64
"""Most levels of nesting in a call's arguments."""
_TOO_DEEP: Final = f"the arguments are nested deeper than {MAX_INPUT_DEPTH} levels"

BY_REVIEW: Final = "policy.review"
"""The reason code of a refusal by a reviewer of stage 11."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def accepted(tools: Toolset, use: ToolUse, run: RunContext) -> tuple[Entry, ToolInput]:
    entry = tools.callable(use.name)
    if entry is None:
        if use.name in tools.registry and not tools.bound(use.name):
            raise ToolExecutionError(
                f"this agent may not call {use.name}{nearest(use.name, tools.names())}",
                code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
            )
        raise ToolExecutionError(
            f"no tool is called {use.name[:100]!r}{nearest(use.name[:100], tools.names())}",
            code=ExecutorErrorCode.EXEC_TOOL_UNKNOWN,
        )
    why = tools.unavailable(entry, run)
    if why:
        raise ToolExecutionError(why, code=ExecutorErrorCode.EXEC_TOOL_UNKNOWN)
    if use.raw:
        raise invalid_input(_unreadable(use.raw))
    arguments = _own(use.input)
    try:
        return entry, placed(tools, entry, _checked(entry, arguments), run)
    except ToolExecutionError:
        raise
    except BaseException as error:
        raise invalid_input(f"checking the arguments failed: {describe(error)}") from error


def turned_down(tools: Toolset, use: ToolUse, refusal: ToolExecutionError) -> dict[str, JSON]:
    """The data of `tool.result` for a call that is not made: what the model is shown and, if the
    model is not shown the tool, why."""
    data = failed(refusal)
    if refusal.code is ExecutorErrorCode.EXEC_TOOL_UNKNOWN and (why := tools.withheld(use.name)):
        data["decision"] = why
    return data


def _unreadable(raw: str) -> str:
    """The message for arguments that are not a JSON object, or were cut off. It says which: a model
    that is only told of an error sends the same again, and is cut off again."""
    shown = f"{raw[:200]!r}"
    try:
        value = cast("JSON", json.loads(raw))
        if deeper(value, MAX_INPUT_DEPTH):
            return _TOO_DEEP
        whole = isinstance(value, dict)
    except json.JSONDecodeError as error:
        whole = error.pos >= len(raw.rstrip()) or error.msg.startswith("Unterminated string")
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        whole = False
    if whole:
        return (
            f"the answer ended within the arguments, so the call was not made: {shown}. Send it "
            "again; if it was too long for one answer, do less in one call."
        )
    return f"the arguments are not JSON: {shown}. Send the call again with an object."


def _checked(entry: Entry, arguments: ToolInput) -> ToolInput:
    """The arguments in the form that the tool takes. Models often write lists and objects as JSON
    texts: where such a text does not conform to the schema, it is parsed."""
    try:
        return entry.check(arguments)
    except ToolExecutionError:
        read = _own(read_texts(arguments, entry.spec.input_schema))
        if read == arguments:
            raise
        try:
            return entry.check(read)
        except ToolExecutionError:
            pass
        raise


def _own(input: Mapping[str, JSON]) -> ToolInput:
    """A copy that the tool may modify: the original belongs to the conversation."""
    own = dict(input)
    for key, value in input.items():
        if type(value) not in _SCALARS:
            own[key] = _copy(value, 1)
    return own


def _copy(value: JSON, depth: int) -> JSON:
    if depth > MAX_INPUT_DEPTH:
        raise invalid_input(_TOO_DEEP)
    if isinstance(value, Mapping):
        return {key: _copy(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item, depth + 1) for item in cast("list[JSON]", value)]
    return value


async def reviewed(found: Sequence[Finding], entry: Entry, key: str, run: RunContext) -> str:
    """Why reviewers want a person to be asked about a call; "": none does. Raises
    ToolExecutionError if one refuses it."""
    if not found or found[0].action == "annotate":  # the strictest is first
        return ""
    first = found[0]
    who = f"the reviewer {first.reviewer!r}"
    if first.action == "ask":
        return f"{who} wants it to be asked: {first.reason}"
    raise await refused(
        entry,
        key,
        ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
        f"{who} refused this call of {entry.spec.name}: {first.reason}.",
        run,
        by=who,
        reason=BY_REVIEW,
    )


async def permitted(
    tools: Toolset,
    entry: Entry,
    input: ToolInput,
    key: str,
    run: RunContext,
    decision: Decision | None = None,
    wanted: str = "",
) -> Verdict:
    """`decision`: the policy's decision, if that was asked already; `wanted`: why a hook or a
    reviewer wants a person to be asked."""
    policy = tools.policy_in(run)
    before = run.recorded("decision", key)
    if before is not None:  # then the process died: it stays refused
        forget(f"approval:{key}", run)
        by, reason = str(before.data.get("rule")), str(before.data.get("reason") or "")
        lifted = not entry.tool.approval and (by == UNCOVERED or reason == BY_PERSON)
        remedy = policy.suggestion(entry, input) if lifted else ""
        verdict = Verdict(False, by, remedy, reason)
    else:
        verdict = await permit(
            entry,
            input,
            key,
            policy=policy,
            approver=tools.approver,
            run=run,
            decision=decision,
            wanted=wanted,
        )
    if run.replaying:  # a question that a newer rule has made unnecessary
        forget(f"approval:{key}", run)
    if verdict.allowed:
        return verdict
    remedy = f" The caller's rule {verdict.remedy!r} would allow it." if verdict.remedy else ""
    raise await refused(
        entry,
        key,
        ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
        f"{entry.spec.name} {may(entry)}, and this call was refused: {verdict.by}.{remedy}",
        run,
        by=verdict.by,
        reason=verdict.code,
    )


async def refused(
    entry: Entry,
    key: str,
    code: ExecutorErrorCode,
    message: str,
    run: RunContext,
    *,
    by: str = "",
    reason: str = "",
) -> ToolExecutionError:
    """The error of a call that may not be made. Journals `decision` with who refused it, or why."""
    name = entry.spec.name
    fact: dict[str, JSON] = {"key": key, "tool": name, "code": code.value, "rule": by or message}
    if reason:
        fact["reason"] = reason
    await run.record("decision", fact, key=key)
    return ToolExecutionError(
        f"{message} Do not send it again unchanged.", code=code, tool_name=name
    )


def forget(key: str, run: RunContext) -> None:
    """Mark the decision recorded under this key as looked up: it will not be asked for again."""
    run.forget("effect.intent", key)
    run.forget("effect", key)
