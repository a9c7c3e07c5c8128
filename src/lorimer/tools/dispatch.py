"""The one path of every call: validate, ask the guards, permit -> intent -> execute -> result.

Whatever happens becomes a recorded `tool.result`, so a resumed run shows the model the same again.
`admission.py` decides whether a call may be made, `calling.py` makes it, `hooks/around.py` asks the
guards before and after it, `interrupted.py` handles calls that are in the journal already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import ToolExecutionError
from lorimer.core.jsonable import JSON, clean, fingerprint
from lorimer.core.messages import ToolResultBlock, ToolUse, content_from_json
from lorimer.core.review import Finding
from lorimer.core.tool import PastCall
from lorimer.tools.admission import accepted, permitted, reviewed, turned_down
from lorimer.tools.asking import ask_text
from lorimer.tools.calling import Told, allowed_by, make
from lorimer.tools.early import Early
from lorimer.tools.encode import plain
from lorimer.tools.hooks.around import Screened, followed, follows, screen
from lorimer.tools.interrupted import answered, is_recorded, result_of
from lorimer.tools.permissions import PLAIN_ALLOW
from lorimer.tools.results import failed
from lorimer.tools.running import unknown

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

_MAX_PREVIEW: Final = 500
_READ_ONLY: Final = Safety.READ_ONLY


async def dispatch(tools: Toolset, use: ToolUse, index: int, run: RunContext) -> ToolResultBlock:
    """Handle one call of the model's and return the result that it is shown; see
    `core.tool.Toolbox`."""
    key = str(index)
    request = _request(use)
    extra, began, repeated = Told(), 0.0, False
    if run.has_listeners:
        extra.begins(use, run)
        began = run.world.monotonic()
    found = () if run.review is None else run.review.look(index, use.name, use.input)
    data = result_of(key, request, run) if run.replaying else None
    if data is not None:
        repeated = True
    elif run.replaying and is_recorded(tools, use, key, run):
        repeated = run.recorded("tool.result", key) is not None
        data = await answered(tools, use, key, request, extra, run)
    else:
        data = await _live(tools, use, key, request, extra, run, found)
    if run.strangers is not None and use.name in tools.strangers:
        run.strangers.add(use.name)
    content = data["content"]
    block = ToolResultBlock(
        use.id,
        content if isinstance(content, str) else content_from_json(content),
        data.get("is_error") is True,
    )
    if run.past_calls is not None and use.name in tools.recalled:
        run.past_calls.append(PastCall(use, block))
    if not repeated and run.wants("tool.call_complete"):
        extra.begins(use, run)  # of a refused call that was requested before a resume
        _completed(use, data, extra, began, run)
    return block


async def _live(
    tools: Toolset,
    use: ToolUse,
    key: str,
    request: bytes,
    extra: Told,
    run: RunContext,
    found: Sequence[Finding],
) -> Mapping[str, JSON]:
    """`extra` receives the data for listeners; `found` is what reviewers found."""
    screened: Screened | None = None
    try:
        if tools.hooks is not None or run.replaying:
            screened = await screen(tools, use, key, request, run, found)
            entry, arguments, verdict = screened.entry, screened.arguments, screened.verdict
        else:
            entry, arguments = accepted(tools, use, run)
            verdict = PLAIN_ALLOW
            wanted = await reviewed(found, entry, key, run) if found else ""
            if wanted or not tools.policy_in(run).needs_no_decision(entry):
                verdict = await permitted(tools, entry, arguments, key, run, wanted=wanted)
        answer = await ask_text(tools, entry, arguments, key, run) if entry.asks else None
    except ToolExecutionError as refusal:
        begun = run.recorded("tool.intent", key) is not None
        data = failed(unknown(refusal.message)) if begun else turned_down(tools, use, refusal)

        async def refuse() -> Mapping[str, JSON]:
            return data

        return await run.effect("tool", key, refuse, request=request, safety=_READ_ONLY)

    early = run.owned.get(Early) if run.owned else None
    call = early.take(int(key), use) if early is not None else None
    if call is None:
        call = partial(make, tools, entry, arguments, use, key, extra, run, answer=answer)
    intent = entry.intent
    if verdict is not PLAIN_ALLOW:
        intent = {**intent, "decision": verdict.by}
        call = allowed_by(verdict.by, entry, call)
    if screened is not None:
        before = screened.answer
        if follows(tools, use, before, run):
            call = partial(followed, tools, use, key, before, call, run)
        if before.change is not None:
            intent = {**intent, "hook": before.hook}
    changes = entry.safety is not _READ_ONLY
    if changes:
        run.cancellation.begin_change()
    try:
        return await run.effect(
            "tool", key, call, request=request, safety=entry.safety, intent=intent
        )
    finally:
        if changes:
            run.cancellation.end_change()


def _request(use: ToolUse) -> bytes:
    try:
        return fingerprint({"name": use.name, "input": use.raw or use.input})
    except (ValueError, TypeError, RecursionError):  # NaN, or absurdly deep
        return fingerprint({"name": clean(use.name), "input": plain(use.input)})


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
