"""Calls that a tool makes of other tools, each permitted and recorded separately.

They are recorded as effects of the kind `step`: a `tool.result` always answers a call of the
model's (`dispatch.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from lorimer.core.context import OutcomeUnknown, RunContext, Safety
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.facts import STEP
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import ToolUse, content_from_json
from lorimer.tools.admission import accepted, forget, turned_down
from lorimer.tools.base import ToolInput, ToolResult
from lorimer.tools.encode import plain
from lorimer.tools.hooks.around import (
    OF_CALLS,
    followed,
    looked_at,
    made,
    said_before,
    screen,
)
from lorimer.tools.registry import Entry
from lorimer.tools.results import failed
from lorimer.tools.running import unknown

if TYPE_CHECKING:
    from lorimer.tools.toolset import Toolset

MAX_STEPS: Final = 100
"""Most calls that one call may make."""


class Steps:
    """The calls that one call makes; `ToolContext.call`."""

    __slots__ = ("_count", "_key", "_run", "_tools")

    def __init__(self, tools: Toolset, key: str, run: RunContext) -> None:
        self._tools = tools
        self._key = key
        self._run = run
        self._count = 0

    async def __call__(self, name: str, input: ToolInput) -> ToolResult:
        """Call a tool of the run. Permission is decided as if the model had called it, it counts
        towards `limits.max_tool_calls`, and when the run is resumed its recorded result is
        returned. A refusal, a failure, and an outcome that is unknown after an interruption are
        error results.

        Raises LimitError when the run may make no more calls, and ToolExecutionError for more than
        MAX_STEPS, and if this call is itself made by another.
        """
        tools, run = self._tools, self._run
        if STEP_MARK in self._key:
            raise ToolExecutionError("a call that was made by a tool cannot make others")
        if self._count >= MAX_STEPS:
            raise ToolExecutionError(f"one call makes at most {MAX_STEPS} others")
        key = f"{self._key}{STEP_MARK}{self._count}"
        self._count += 1
        run.bounds.count_tool()
        data = await _made(tools, ToolUse(key, name, input), key, run)
        if run.strangers is not None and name in tools.strangers:
            run.strangers.add(name)
        content = data["content"]
        error = data.get("error")
        return ToolResult(
            content if isinstance(content, str) else content_from_json(content),
            is_error=data.get("is_error") is True,
            error=ExecutorErrorCode(error) if isinstance(error, str) else None,
        )


STEP_MARK: Final = "s"
"""Separates the key of a call from the number of a call that it makes: `0s1`."""


async def _made(tools: Toolset, use: ToolUse, key: str, run: RunContext) -> Mapping[str, JSON]:
    from lorimer.tools.calling import Told, allowed_by, make  # creates a `Steps` for each call

    request = fingerprint({"name": use.name, "input": plain(use.input)})

    async def told(data: Mapping[str, JSON]) -> Mapping[str, JSON]:
        async def answer() -> Mapping[str, JSON]:
            return {**data, "tool": use.name}

        return await run.effect(STEP, key, answer, request=request, safety=Safety.READ_ONLY)

    known = f"{STEP}:{key}"
    if run.recorded("effect", known) is not None:
        forget_decision(key, run)
        return await told({})
    begun = run.recorded("effect.intent", known) is not None
    try:
        entry = _for_tools(tools, use, run)
        if begun and entry.safety is Safety.UNSAFE:
            data = made(key, run)
            if data is None:
                raise unknown()
            return await told(await looked_at(tools, use, key, said_before(key, run), data, run))
        screened = await screen(tools, use, key, request, run)
    except (ToolExecutionError, OutcomeUnknown) as refusal:
        if begun:
            forget_decision(key, run)
        return await told(_refusal(tools, use, refusal, begun=begun))
    call = partial(make, tools, screened.entry, screened.arguments, use, key, Told.untold(), run)
    call = partial(followed, tools, use, key, screened.answer, call, run)
    changes = entry.safety is not Safety.READ_ONLY
    intent: dict[str, JSON] = {"tool": use.name, **entry.intent}
    by = screened.verdict.by
    if by:
        intent["decision"] = by
    noted = allowed_by(by, entry, call)

    async def work() -> Mapping[str, JSON]:
        return {**await noted(), "tool": use.name}

    if changes:
        run.cancellation.begin_change()
    try:
        return await run.effect(
            STEP, key, work, request=request, safety=entry.safety, intent=intent
        )
    finally:
        if changes:
            run.cancellation.end_change()


def _refusal(
    tools: Toolset, use: ToolUse, refusal: ToolExecutionError | OutcomeUnknown, *, begun: bool
) -> Mapping[str, JSON]:
    if begun or isinstance(refusal, OutcomeUnknown):
        return failed(unknown())
    return turned_down(tools, use, refusal)


def _for_tools(tools: Toolset, use: ToolUse, run: RunContext) -> Entry:
    """The tool, if other tools may call it. Raises ToolExecutionError."""
    entry, _ = accepted(tools, use, run)
    if entry.asks or (use.name in tools.recalled and not entry.tool.untrusted):
        raise ToolExecutionError(  # its state consists of calls of the conversation
            f"{use.name} is for the model alone: a tool cannot call it.",
            code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
        )
    return entry


def recorded_steps(key: str, run: RunContext) -> Iterator[str]:
    """The keys of the calls that this call had made, without those that were looked up already."""
    for number in range(MAX_STEPS):
        step = f"{key}{STEP_MARK}{number}"
        known = f"{STEP}:{step}"
        facts = ("effect", "effect.intent")
        if not any(run.recorded(kind, known) is not None for kind in facts):
            return
        yield step


def forget_steps(key: str, run: RunContext) -> None:
    """The call is answered from the journal: count the calls that it had made, and mark them as
    looked up."""
    for step in list(recorded_steps(key, run)):
        run.bounds.count_tool()
        forget(f"{STEP}:{step}", run)
        forget_decision(step, run)


def forget_decision(key: str, run: RunContext) -> None:
    """Mark the recorded decision about a step as looked up."""
    run.forget("decision", key)
    for other in (f"approval:{key}", *[f"hook:{event}:{key}" for event in OF_CALLS]):
        forget(other, run)
