"""The one path of every call: known? fitting? permitted? -> intent -> run -> result.

Whatever happens on it becomes a recorded `tool.result`, so that a resumed run tells the model
the same again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import ExecutorErrorCode, LorimerError, ToolExecutionError, nearest
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON, clean, fingerprint
from lorimer.core.messages import ToolResultBlock, ToolUse, content_from_json
from lorimer.core.tool import RepeatApprover
from lorimer.tools.asking import AGAIN, AskLater, ask_again
from lorimer.tools.base import NOT_DONE, ToolContext, ToolInput, ToolResult
from lorimer.tools.encode import describe, plain, text_of
from lorimer.tools.permissions import PLAIN_ALLOW, Verdict, needs_no_rule, permit, suggestion
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed, into_files, told
from lorimer.tools.running import DidNotHappen, reconcile_tool, run_tool, unknown
from lorimer.tools.schema import invalid_input

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

MAX_INPUT_DEPTH: Final = 64
"""Levels of nesting of a call's arguments."""

_MAX_PREVIEW: Final = 500
_MAX_PROGRESS: Final = 2000

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


async def dispatch(tools: Toolset, use: ToolUse, index: int, run: RunContext) -> ToolResultBlock:
    """One call, from what the model asked to what it is told; see `core.tool.Toolbox`."""
    key = str(index)
    request = _request(use)
    extra: dict[str, JSON] = {}
    began = _started(use, run)
    if run.replaying and _is_recorded(tools, use, key, run):
        data = await _answered(tools, use, key, request, extra, run)
    else:
        data = await _live(tools, use, key, request, extra, run)
    content = data["content"]
    block = ToolResultBlock(
        use.id,
        content if isinstance(content, str) else content_from_json(content),
        data.get("is_error") is True,
    )
    if run.wants("tool.call_complete"):
        _completed(use, data, extra, began, run)
    return block


async def _live(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    extra: dict[str, JSON],
    run: RunContext,
) -> Mapping[str, JSON]:
    """`extra` takes what only listeners are told."""
    try:
        entry, arguments = _accept(tools, use)
        verdict = PLAIN_ALLOW
        if not needs_no_rule(entry):
            verdict = await _permit(tools, entry, arguments, key, run)
    except ToolExecutionError as refusal:
        begun = run.recorded("tool.intent", key) is not None
        data = failed(unknown(refusal.message) if begun else refusal)

        async def refuse() -> Mapping[str, JSON]:
            return data

        return await run.effect("tool", key, refuse, request=request, safety=Safety.READ_ONLY)

    call = partial(_call, tools, entry, arguments, use, key, extra, run)
    intent = entry.intent if verdict is PLAIN_ALLOW else {**entry.intent, "decision": verdict.by}
    changes = entry.safety is not Safety.READ_ONLY
    if changes:
        run.cancellation.begin_change()
    try:
        return await run.effect(
            "tool", key, call, request=request, safety=entry.safety, intent=intent
        )
    finally:
        if changes:
            run.cancellation.end_change()


def _accept(tools: Toolset, use: ToolUse) -> tuple[Entry, ToolInput]:
    entry = tools.registry.entry(use.name)
    if entry is None:
        raise ToolExecutionError(
            f"no tool is called {use.name[:100]!r}{nearest(use.name[:100], tools.registry.names)}",
            code=ExecutorErrorCode.EXEC_TOOL_UNKNOWN,
        )
    if use.raw:
        raise invalid_input(
            f"the arguments are not JSON: {use.raw[:200]!r}. Send the call again with an object."
        )
    arguments = _own(use.input)
    try:
        return entry, entry.check(arguments)
    except ToolExecutionError:
        raise
    except BaseException as error:
        raise invalid_input(f"checking the arguments failed: {describe(error)}") from error


def _own(input: Mapping[str, JSON]) -> ToolInput:
    """A copy that the tool may change: the original belongs to the conversation."""
    return {
        key: value if type(value) in _SCALARS else _copy(value, 1) for key, value in input.items()
    }


def _copy(value: JSON, depth: int) -> JSON:
    if depth > MAX_INPUT_DEPTH:
        raise invalid_input(f"the arguments are nested deeper than {MAX_INPUT_DEPTH} levels")
    if isinstance(value, Mapping):
        return {key: _copy(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item, depth + 1) for item in cast("list[JSON]", value)]
    return value


async def _permit(
    tools: Toolset, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> Verdict:
    refused = run.recorded("decision", key)
    if refused is not None:  # and then the process died: it stays refused
        await _forget(f"approval:{key}", run)
        remedy = suggestion(entry, input, tools.working_dir)
        verdict = Verdict(False, str(refused.data.get("rule")), remedy)
    else:
        verdict = await permit(
            entry,
            input,
            key,
            rules=tools.rules,
            approver=tools.approver,
            working_dir=tools.working_dir,
            run=run,
        )
    if run.replaying:  # a question that a rule has made needless since
        await _forget(f"approval:{key}", run)
    if verdict.allowed:
        return verdict
    code = ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
    name = entry.spec.name
    await run.record(
        "decision", {"key": key, "tool": name, "code": code.value, "rule": verdict.by}, key=key
    )
    raise ToolExecutionError(
        f"{name} may {', '.join(sorted(entry.effects))}, and this call was refused: {verdict.by}. "
        f"The caller's rule {verdict.remedy!r} would allow it. Do not send it again unchanged.",
        code=code,
        tool_name=name,
    )


async def _call(
    tools: Toolset,
    entry: Entry,
    input: ToolInput,
    use: ToolUse,
    key: str,
    extra: dict[str, JSON],
    run: RunContext,
    work: Callable[..., Awaitable[ToolResult]] = run_tool,
) -> Mapping[str, JSON]:
    limits = run.bounds.limits
    most = limits.max_result_chars
    if entry.max_result_chars is not None:
        most = min(most, entry.max_result_chars)
    call_id = f"{run.id}-{run.iteration}-{key}"
    timeout_s = entry.timeout_s or limits.tool_timeout_s
    context = ToolContext(
        run.world,
        run.id,
        run.stream,
        use.id,
        call_id,
        tools.working_dir,
        tools.files,
        most,
        _reporter(use, run) if run.wants("tool.progress") else None,
        tools.threads,
        timeout_s,
    )
    try:
        result = await work(entry.tool, input, context, timeout_s, run)
    except LorimerError as error:
        return failed(error)
    finally:
        context.report = None
    if result.display:
        extra["display"] = text_of(result.display)
    if result.metadata:
        extra["metadata"] = plain(result.metadata)
    return await told(result, most, tools.spill or into_files(context), call_id)


# --- resumed runs ----------------------------------------------------------------------------


def _is_recorded(tools: Toolset, use: ToolUse, key: str, run: RunContext) -> bool:
    """The journal has the call's result; or an intent without one, and simply making the call
    again is not what its tool declares safe, then and now."""
    if run.recorded("tool.result", key) is not None:
        return True
    intent = run.recorded("tool.intent", key)
    return intent is not None and not _repeatable(tools, use, intent)


def _repeatable(tools: Toolset, use: ToolUse, intent: Event) -> bool:
    entry = tools.registry.entry(use.name)
    safe = entry is not None and entry.safety is not Safety.UNSAFE
    return safe and intent.data.get("idempotent") is True


async def _answered(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    extra: dict[str, JSON],
    run: RunContext,
) -> Mapping[str, JSON]:
    """The recorded result; else, of a call that was begun, what can be found out about it."""
    begun = run.recorded("tool.result", key) is None
    if begun:
        run.cancellation.begin_change()
    else:
        await _forget_all(key, run)
    # idempotent: whether it is made again is decided in here, and not by `effect`
    find_out = partial(_settle, tools, use, key, extra, run)
    try:
        return await run.effect("tool", key, find_out, request=request, safety=Safety.IDEMPOTENT)
    finally:
        if begun:
            run.cancellation.end_change()


async def _settle(
    tools: Toolset, use: ToolUse, key: str, extra: dict[str, JSON], run: RunContext
) -> Mapping[str, JSON]:
    """What becomes of a call that was begun and has no result: its tool is asked, then a person.
    It is made again only if the tool is sure that it did not happen, or the person wants it."""
    try:
        entry, arguments = _accept(tools, use)
    except ToolExecutionError as refusal:
        await _forget_all(key, run)
        return failed(unknown(refusal.message))
    try:
        data = await _call(tools, entry, arguments, use, key, extra, run, reconcile_tool)
    except DidNotHappen:
        outcome = NOT_DONE.value
    else:
        if not _unknown(data) or not await _wanted_again(tools, entry, arguments, key, run):
            await _forget_all(key, run)
            return data
        outcome = "wanted"
    # synced, so that no loss of power makes this the first time again
    asked = f"reconcile:{key}"
    await run.record("effect", {"key": asked, "outcome": outcome}, key=asked, sync=True)
    if not needs_no_rule(entry) or run.recorded("decision", key) is not None:
        try:
            await _permit(tools, entry, arguments, key, run)
        except ToolExecutionError as refusal:
            return failed(refusal)
    return await _call(tools, entry, arguments, use, key, extra, run)


def _unknown(data: Mapping[str, JSON]) -> bool:
    return data.get("error") == ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value


async def _wanted_again(
    tools: Toolset, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> bool:
    """A person wants it made again; False where nobody can be asked, or was."""
    put = any(run.recorded("effect.intent", again) is not None for again in _agains(key, run))
    approver = tools.approver
    if not isinstance(approver, RepeatApprover):
        if not put:
            return False
        approver = AskLater()
    for again in _agains(key, run):
        if run.recorded("effect", again) is not None:  # it held for a repetition that was cut off
            await _forget(again, run)
    return await ask_again(approver, entry, input, key, run)


def _agains(key: str, run: RunContext) -> list[str]:
    """The keys under which it was asked whether to make a call again."""
    keys = [
        str(fact.data.get("key"))
        for fact in run.facts
        if fact.iteration == run.iteration and fact.type == "effect.intent"
    ]
    return [found for found in keys if found.startswith(f"{AGAIN}:{key}:")]


async def _forget_all(key: str, run: RunContext) -> None:
    """What was decided about a call is not decided again: nobody will look these facts up."""
    if run.recorded("decision", key) is not None:
        await run.record("decision", {}, key=key)
    for other in (f"approval:{key}", f"reconcile:{key}", *_agains(key, run)):
        await _forget(other, run)


async def _forget(key: str, run: RunContext) -> None:
    for kind in ("effect.intent", "effect"):
        if run.recorded(kind, key) is not None:
            await run.record(kind, {}, key=key)


def _request(use: ToolUse) -> bytes:
    try:
        return fingerprint({"name": use.name, "input": use.raw or use.input})
    except (ValueError, TypeError, RecursionError):  # NaN, or absurdly deep
        return fingerprint({"name": clean(use.name), "input": plain(use.input)})


# --- signals ---------------------------------------------------------------------------------


def _started(use: ToolUse, run: RunContext) -> float:
    if run.wants("tool.call_start"):
        run.signal("tool.call_start", {"tool_use_id": use.id, "name": use.name, "input": use.input})
    return run.world.monotonic() if run.wants("tool.call_complete") else 0.0


def _completed(
    use: ToolUse,
    data: Mapping[str, JSON],
    extra: Mapping[str, JSON],
    began: float,
    run: RunContext,
) -> None:
    content = data["content"]
    preview = content if isinstance(content, str) else "[text and images]"
    run.signal(
        "tool.call_complete",
        {
            "tool_use_id": use.id,
            "name": use.name,
            "is_error": data.get("is_error") is True,
            "duration_ms": round((run.world.monotonic() - began) * 1000, 3) if began else 0.0,
            "error": data.get("error"),
            "result": preview[:_MAX_PREVIEW],
            **extra,
        },
    )


def _reporter(use: ToolUse, run: RunContext) -> Callable[[str], None]:
    """Sends `tool.progress`, also from a tool's thread."""
    loop = asyncio.get_running_loop()
    home = threading.get_ident()

    def send(text: str) -> None:
        run.signal("tool.progress", {"tool_use_id": use.id, "name": use.name, "text": text})

    def report(text: str) -> None:
        text = clean(str(text)[:_MAX_PROGRESS])
        if threading.get_ident() == home:
            send(text)
            return
        try:
            loop.call_soon_threadsafe(send, text)
        except RuntimeError:  # the loop is closed: a thread that was left to itself
            pass

    return report
