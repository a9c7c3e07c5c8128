"""Makes one permitted call: prepares what the tool receives, and turns its result into what the
model is shown. `running.py` executes the tool, whatever it does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import JournalError, LorimerError
from lorimer.core.hooks import HookEvent
from lorimer.core.jsonable import JSON, clean
from lorimer.core.messages import ToolUse
from lorimer.core.tool import PastCall
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.encode import plain, readable, text_of
from lorimer.tools.folders import begins
from lorimer.tools.permissions import decided
from lorimer.tools.policy.modes import Action
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed, into_files, marked, told
from lorimer.tools.running import run_tool
from lorimer.tools.shown import succeeded
from lorimer.tools.steps import Steps

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

_MAX_PROGRESS: Final = 2000


class Told(dict[str, JSON]):
    """Data of a finished call for listeners only; it is not recorded."""

    begun = False
    """Whether listeners were notified of the start."""

    @classmethod
    def untold(cls) -> Told:
        """For a call whose start is announced elsewhere."""
        made = cls()
        made.begun = True
        return made

    def begins(self, use: ToolUse, run: RunContext) -> None:
        """Notify listeners of the start, once."""
        if not self.begun and run.wants("tool.call_start"):
            self.begun = True
            data: dict[str, JSON] = {"tool_use_id": use.id, "name": use.name, "input": use.input}
            run.signal("tool.call_start", data)


async def make(
    tools: Toolset,
    entry: Entry,
    input: ToolInput,
    use: ToolUse,
    key: str,
    extra: Told,
    run: RunContext,
    work: Callable[..., Awaitable[ToolResult]] = run_tool,
    answer: str | None = None,
) -> Mapping[str, JSON]:
    if run.has_listeners:
        extra.begins(use, run)  # of a call that was requested before the run was interrupted
    limits = run.bounds.limits
    most = limits.max_result_chars
    if entry.max_result_chars is not None:
        most = min(most, entry.max_result_chars)
    call_id = f"{run.id}-{run.iteration}-{key}"
    timeout_s = entry.timeout_s or limits.tool_timeout_s
    denied = None
    if entry.tool.paths:
        denied = tools.policy_in(run).denied_below(entry, input, run.world.time)
    context = ToolContext(
        run.world,
        run.id,
        run.stream,
        use.id,
        call_id,
        begins(tools, entry, run),
        tools.files,
        most,
        _reporter(use, run) if run.wants("tool.progress") else None,
        tools.threads,
        timeout_s,
        run,
        tools.sandbox,
        _past(entry.tool, run) if entry.tool.recalls else (),
        answer,
        tools.deferred_specs,
        Steps(tools, key, run),
        tools.working_dir,
        use.input,
        tools.models,
        _permits(tools, entry, run),
        denied,
    )
    try:
        result = await work(entry.tool, input, context, timeout_s, run)
    except JournalError:  # it is unknown whether everything it recorded is there
        raise
    except LorimerError as error:
        if run.broken is not None:  # from an effect within the call: it is not the tool's answer
            raise run.broken from error
        return failed(error)
    finally:
        context.report = None
    if result.display:
        extra["display"] = text_of(result.display)
    if result.metadata:
        extra["metadata"] = plain(result.metadata)
    content = result.content
    if type(content) is str and len(content) <= most:  # nearly always
        return marked(result, readable(content))
    spill = tools.spill or into_files(context)
    return await told(result, most, spill, call_id, run.redactor)


def allowed_by(
    by: str, entry: Entry, call: Callable[[], Awaitable[Mapping[str, JSON]]]
) -> Callable[[], Awaitable[Mapping[str, JSON]]]:
    """The call, with `by` (what allowed it) added to its data if it is read-only: such a call has
    no intent that could record this."""
    if entry.safety is not Safety.READ_ONLY or not by:
        return call

    async def noted() -> Mapping[str, JSON]:
        return {**await call(), "decision": by}

    return noted


def _permits(tools: Toolset, entry: Entry, run: RunContext) -> Callable[[ToolInput], bool]:
    """See `ToolContext.permits`. False if hooks or reviewers check calls of the tool: they would
    have to be asked."""

    def permits(input: ToolInput) -> bool:
        hooks = tools.hooks
        if run.review is not None or (
            hooks is not None and hooks.guards(HookEvent.PRE_TOOL_USE, entry.spec.name)
        ):
            return False
        policy = tools.policy_in(run)
        if policy.needs_no_decision(entry):
            return True
        return decided(policy, entry, input, run).action is Action.ALLOW

    return permits


def _past(tool: Tool, run: RunContext) -> tuple[PastCall, ...]:
    calls = [call for call in run.past_calls or () if call.use.name in tool.recalls]
    return tuple(calls if tool.recalls_errors else succeeded(calls))


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
        except RuntimeError:  # the loop is closed: this is an abandoned thread
            pass

    return report
