"""Executes one tool, whatever it does: raise anything, hang, swallow its cancellation.

A call has its own anyio scope, because anyio repeats a cancellation until the code yields. What a
tool raises is caught at the coroutine itself, to tell our cancellations from the tool's own.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any, Final, TypeVar

from anyio import CancelScope, current_effective_deadline

from lorimer.core.cancel import Stopped
from lorimer.core.context import OutcomeUnknown, RunContext
from lorimer.core.errors import ExecutorErrorCode, LorimerError, ToolExecutionError
from lorimer.core.first_wait import OVER
from lorimer.core.redaction import logger
from lorimer.core.waiting import Cancels
from lorimer.tools.base import NotDone, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.encode import describe

T = TypeVar("T")

MAX_REFUSALS: Final = 1000
"""How often one call may respond to its cancellation with a new wait before it is abandoned: a few
milliseconds for code that swallows every exception in a loop."""

UNDONE_S: Final = 5.0
"""How long code whose task others have cancelled, or may have, may go on. Then it is stopped; if it
had cancelled itself after all, that shows once it has ended."""

_log = logger("lorimer.tools")


def run_tool(
    tool: Tool, input: ToolInput, context: ToolContext, timeout_s: float, run: RunContext
) -> Awaitable[ToolResult]:
    """Execute a tool within `timeout_s` seconds.

    Raises its LorimerErrors unchanged, `exec.tool.crashed` for anything else it raised, and
    `exec.tool.timeout` once its time is over, even if it returned something after that.
    Cancellation of the run, or of the task by others, is propagated.
    """
    kept: list[ToolResult] = []
    return within(_execute(tool, input, context, run, kept), kept, tool.name, timeout_s, run)


class DidNotHappen(Exception):
    """A tool is certain that an interrupted call of it took no effect."""


async def reconcile_tool(
    tool: Tool, input: ToolInput, context: ToolContext, timeout_s: float, run: RunContext
) -> ToolResult:
    """The result of an interrupted call, determined by its tool within `timeout_s` seconds.

    Raises DidNotHappen, and OutcomeUnknown if the tool cannot tell or fails. Cancellation is
    propagated.
    """
    why, kept = "", list[object]()
    try:
        found = await within(
            _reconcile(tool, input, context, kept),
            kept,
            f"reconcile of {tool.name}",
            timeout_s,
            run,
        )
    except LorimerError as error:
        why = f"finding out failed: {error.message}"
    else:
        if isinstance(found, ToolResult):
            return found
        if isinstance(found, NotDone):
            raise DidNotHappen
        if found is not None:
            why = f"reconcile of {tool.name} returned neither a ToolResult nor NOT_DONE nor None"
    raise unknown(why)


def unknown(why: str = "") -> OutcomeUnknown:
    """The error of an interrupted call that may have taken effect; `why` it is not known."""
    return OutcomeUnknown(
        "This call was begun before an interruption; whether it took effect is not known. It was "
        f"not run again{f' ({why})' if why else ''}.",
        hint="Check whether it took effect before you repeat it.",
    )


async def within(
    work: Coroutine[Any, Any, None], kept: list[T], name: str, timeout_s: float, run: RunContext
) -> T:
    """Run `work`, third-party code called `name` in errors, within `timeout_s` seconds. It puts its
    result into `kept`; see `core/first_wait.py`. Raises what `run_tool` raises."""
    error: BaseException | None = None
    cancels = Cancels(run.cancellation.has_called)
    calls = run.cancellation.enter_call()
    try:
        with run.cancellation.part_scope() as scope:
            error = await _driven(work, scope, timeout_s, run, cancels)
    finally:
        run.cancellation.leave_call(calls)
    cancelled = isinstance(error, asyncio.CancelledError)
    if cancels.first is not None:
        if not cancelled and not _repeated():
            cancels.take_back()
        run.cancellation.note_cancelled(cancels.first)
    if isinstance(error, Stopped) or (cancelled and run.cancellation.cancelled_here()):
        raise error
    late = scope.cancel_called and asyncio.get_running_loop().time() >= scope.deadline
    if late or (scope.cancel_called and cancelled):
        why = f"{timeout_s:g} s, its time limit" if late else "it had cancelled itself"
        raise ToolExecutionError(
            f"{name} was stopped after {why}. What it did until then stays done.",
            code=ExecutorErrorCode.EXEC_TOOL_TIMEOUT,
            tool_name=name,
        )
    if error is None:
        return kept[0]
    if isinstance(error, LorimerError):
        raise error
    _log.info("tool %s failed", name, exc_info=error, extra={"redactor": run.redactor})
    raise ToolExecutionError(describe(error), tool_name=name, cause=error)


async def _execute(
    tool: Tool, input: ToolInput, context: ToolContext, run: RunContext, kept: list[ToolResult]
) -> None:
    if run.check_claim is not None:
        await run.check_claim()  # once more, as late as possible: the process may have been frozen
    said: object = tool.execute(input, context)
    if not inspect.isawaitable(said):
        raise TypeError(f"{type(tool).__name__}.execute must be async: async def execute(...)")
    result = await said
    if not isinstance(result, ToolResult):  # pyright: ignore[reportUnnecessaryIsInstance] - a tool's
        result = ToolResult(result)
    kept.append(result)


async def _reconcile(
    tool: Tool, input: ToolInput, context: ToolContext, kept: list[object]
) -> None:
    kept.append(await tool.reconcile(context.idempotency_key, input, context))


@coroutine
def _driven(
    work: Coroutine[Any, Any, None],
    scope: CancelScope,
    timeout_s: float,
    run: RunContext,
    cancels: Cancels,
) -> Generator[Any, Any, BaseException | None]:
    """Drive `work`. Returns what it raised; None: it has returned. `cancels` is told what cancels
    it.

    What is thrown into it (a cancellation, the closing of this coroutine) is passed on. Work that
    keeps responding to its cancellation with a new wait is closed and counts as cancelled. The
    deadline of `scope` is set when the work first waits: a timer costs more than a quick tool.
    """
    thrown: BaseException | None = None
    timer: asyncio.TimerHandle | None = None
    steps = work.__await__()
    clock = run.world.monotonic
    began = clock()
    refusals = 0
    try:
        while True:
            try:
                waiting = next(steps, OVER) if thrown is None else steps.throw(thrown)
            except StopIteration:
                return None
            except BaseException as error:  # noqa: BLE001 - the caller makes a coded error of it
                return error
            if waiting is OVER:
                return None
            if timer is not None and not run.cancellation.task_cancelled():
                timer.cancel()
                timer = None
            if thrown is not None and _repeated():
                refusals += 1
                if refusals > MAX_REFUSALS:
                    _close(work)
                    return thrown
            if scope.deadline == math.inf:
                left = timeout_s - (clock() - began)
                scope.deadline = asyncio.get_running_loop().time() + left
            try:
                yield cancels.watched(waiting)
                thrown = None
            except GeneratorExit:
                _close(work)
                raise
            except BaseException as error:  # noqa: BLE001 - goes into the work
                thrown = error
                if isinstance(error, asyncio.CancelledError):
                    cancels.receive(error)
                    # a plain one comes once, and the work may swallow it
                    if timer is None and cancels.by_others and not _repeated():
                        timer = asyncio.get_running_loop().call_later(UNDONE_S, scope.cancel)
    finally:
        if timer is not None:
            timer.cancel()


def _repeated() -> bool:
    """Whether a scope of anyio cancels the current task, again and again until that gives way."""
    return current_effective_deadline() == -math.inf


def _close(work: Coroutine[Any, Any, object]) -> None:
    try:
        work.close()
    except BaseException as error:  # noqa: BLE001 - it will not even be closed; nothing more can be done
        _log.info("an abandoned tool raised %s", describe(error))
