"""The one path of every call: known? fitting? permitted? -> intent -> run -> result.

Whatever happens on it becomes a recorded `tool.result`, so that a resumed run tells the model
the same again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from lorimer.core.context import RunContext, Safety, Unknown
from lorimer.core.errors import ExecutorErrorCode, LorimerError, ToolExecutionError, nearest
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import ToolResultBlock, ToolUse, content_from_json
from lorimer.tools.base import ToolContext, ToolInput
from lorimer.tools.encode import clean, describe, plain, text_of
from lorimer.tools.permissions import PLAIN_ALLOW, Verdict, needs_no_rule, permit, suggestion
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed, into_files, told
from lorimer.tools.running import run_tool
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
    if run.replaying and await _recall(key, run):
        data = await _answered(key, request, run)
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
        data = failed(refusal)

        async def refuse() -> Mapping[str, JSON]:
            return data

        return await run.effect("tool", key, refuse, request=request, safety=Safety.READ_ONLY)

    call = partial(_call, tools, entry, arguments, use, key, extra, run)
    intent = entry.intent if verdict is PLAIN_ALLOW else {**entry.intent, "decision": verdict.by}
    changes = entry.safety is not Safety.READ_ONLY
    if changes:
        run.begin_change()
    try:
        return await run.effect(
            "tool", key, call, request=request, safety=entry.safety, intent=intent
        )
    except Unknown as unknown:
        return await _unknown(key, unknown, run)
    finally:
        if changes:
            run.end_change()


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
        await _forget_approval(key, run)
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
        await _forget_approval(key, run)
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
        result = await run_tool(entry.tool, input, context, timeout_s, run)
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


async def _recall(key: str, run: RunContext) -> bool:
    """The journal knows how this call ends: by its result, or by an intent without one that
    may not be run again. What was decided about it then is not decided again."""
    if run.recorded("tool.result", key) is None:
        intent = run.recorded("tool.intent", key)
        if intent is None or intent.data.get("idempotent") is True:
            return False
    if run.recorded("decision", key) is not None:
        await run.record("decision", {}, key=key)
    await _forget_approval(key, run)
    return True


async def _forget_approval(key: str, run: RunContext) -> None:
    """Nobody will look up a recorded answer any more."""
    for kind in ("effect.intent", "effect"):
        if run.recorded(kind, f"approval:{key}") is not None:
            await run.record(kind, {}, key=f"approval:{key}")


async def _answered(key: str, request: bytes, run: RunContext) -> Mapping[str, JSON]:
    async def call() -> Mapping[str, JSON]:
        raise AssertionError("recorded calls are not run")

    try:
        return await run.effect("tool", key, call, request=request, safety=Safety.UNSAFE)
    except Unknown as unknown:
        return await _unknown(key, unknown, run)


async def _unknown(key: str, unknown: Unknown, run: RunContext) -> Mapping[str, JSON]:
    data = failed(unknown)
    data["content"] = f"{data['content']} Check whether it took effect before you repeat it."
    await run.record("tool.result", {"key": key, **data}, key=key)
    return data


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
