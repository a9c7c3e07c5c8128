"""The engine: one run of a plan, from its first fact to its last.

    admit -> setup -> [bounds -> loop stages -> iteration.end] ... -> surface -> run.end

A resumed run takes the same path from the start: its effects are answered from the journal until
that is exhausted. The run's task owns everything below it and ends it before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from lorimer.core.cancel import Reason, Stopped
from lorimer.core.context import RunContext
from lorimer.core.errors import (
    ErrorCategory,
    ExecutorErrorCode,
    JournalError,
    LimitError,
    LorimerError,
    RunCancelled,
    StageError,
    raised_in,
)
from lorimer.core.first_wait import on_first_wait
from lorimer.core.hooks import guard_input, guard_stop
from lorimer.core.jsonable import JSON, plain
from lorimer.core.mailbox import deliver
from lorimer.core.pending_changes import apply_pending
from lorimer.core.plan import Plan, Step
from lorimer.core.result import PipelineResult, Status
from lorimer.core.state import Decision, PipelineState, decided

_STATUS: Final[Mapping[ExecutorErrorCode, Status]] = {
    ExecutorErrorCode.EXEC_LIMIT_TIMEOUT: "timeout",
    ExecutorErrorCode.EXEC_LIMIT_COST: "budget_exceeded",
    ExecutorErrorCode.EXEC_BUDGET_EXCEEDED: "budget_exceeded",
    ExecutorErrorCode.EXEC_BUDGET_UNDECIDED: "rejected",
    ExecutorErrorCode.EXEC_STAGE_GUARD_REJECTED: "rejected",
    ExecutorErrorCode.EXEC_HOOK_BLOCKED: "rejected",
    ExecutorErrorCode.EXEC_HITL_REJECTED: "rejected",
    ExecutorErrorCode.EXEC_RUN_CANCELLED: "cancelled",
    ExecutorErrorCode.EXEC_RUN_KILLED: "killed",
    ExecutorErrorCode.EXEC_RUN_SHUTDOWN: "suspended",
    ExecutorErrorCode.EXEC_RUN_WAITING: "suspended",
    ExecutorErrorCode.EXEC_JOURNAL_CONFLICT: "suspended",
    ExecutorErrorCode.EXEC_JOURNAL_DIVERGED: "suspended",
    ExecutorErrorCode.EXEC_JOURNAL_VERSION: "suspended",
}


def status_of(error: LorimerError | None) -> Status:
    """The status of a run that ends with this error."""
    return "ok" if error is None else _STATUS.get(error.code, "error")


_AS_IT_IS: Final = nullcontext()

# looked up once: access to a member through its Enum class is slow
_CONTINUE: Final = Decision.CONTINUE
_COMPLETE: Final = Decision.COMPLETE

_YIELD_TURNS: Final = 32
"""Number of iterations after which a model that never waits has to yield to the event loop."""


async def run(plan: Plan, state: PipelineState) -> PipelineResult:
    """Run a plan to its one terminal fact, all in the calling task.

    Never raises for failures within the run: they are in the result. If the task is cancelled, or
    code of the host's raises what is meant for the program, the result says so, and the caller has
    to call `cancellation.raise_again`. Journals run.start before any stage runs, and at the end
    run.end, or run.suspended instead.
    """
    context = state.run
    context.messages = state.messages
    cancellation, cleanup_s = context.cancellation, context.bounds.limits.cleanup_s
    failure: LorimerError | None = None
    context.enter()
    try:
        with cancellation.scope:
            try:
                await on_first_wait(_work(plan, state), context.wait)
            except LorimerError as error:
                failure = error
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a coded error of it: every run has an end
                failure = _uncoded(error, context.stage)
                if not isinstance(error, Exception):
                    cancellation.for_the_program = error
    except Stopped:
        pass  # noticed before our own scope reported it
    except asyncio.CancelledError as error:
        # our scope did not take it for its own; if a reason is known, only the count tells
        if cancellation.reason is None or cancellation.cancelled_here():
            cancellation.interrupt(error)
    finally:
        context.leave()
    if context.owned:
        context.leaves_unfinished = _leaves_unfinished(context, failure)
        await _end_owned(context)
    if context.broken is not None and context.broken.category is ErrorCategory.STORE:
        failure = failure if _leaves_unfinished(context, failure) else context.broken
    if failure is not None and failure.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED:
        pass  # takes precedence over a stop: the record may be incomplete
    elif cancellation.reason is not None:
        failure = _stopped(context, cancellation.reason)
    elif cancellation.expired:
        failure = LimitError(
            f"Stages 17 to 21 did not finish in {cleanup_s:g} s.", hint="Raise limits.cleanup_s."
        )
    elif cancellation.interrupted is not None:
        failure = _stopped(context, Reason.CALLER)
    if failure is not None and context.redactor is not None:
        context.redactor.error(failure)
    return await _end(state, failure)


def _leaves_unfinished(context: RunContext, failure: LorimerError | None) -> bool:
    """Whether the run is about to stop without an end."""
    if context.reason is not None:
        return context.reason in (Reason.SHUTDOWN, Reason.WAITING, Reason.FENCED)
    return failure is not None and (
        failure.category is ErrorCategory.STORE or status_of(failure) == "suspended"
    )


async def _end_owned(context: RunContext) -> None:
    """Nothing that the run has started outlives its last fact."""
    with context.cancellation.shielded():
        cancelled = await context.owned.end()
    if cancelled is not None:
        context.cancellation.interrupt(cancelled)


async def _admit(plan: Plan, state: PipelineState) -> None:
    context = state.run
    data: dict[str, JSON] = {
        "input": state.input,
        "manifest": plan.digest,
        "seed": context.seed,
        "run_id": context.id,
    }
    limits = context.bounds.given
    if limits is not plan.limits:
        data["limits"] = limits.to_json()
    if context.origin:
        data.update(context.origin)
    await context.record("run.start", data, sync=True)
    context.now = context.facts[0].time
    if context.replayed:
        context.announce("run.resumed", {"facts": context.replayed})
    if context.session:
        context.announce("session.start", context.session)
    if context.wants("pipeline.start"):
        context.signal("pipeline.start", {"input": state.input})
    if context.refused is not None:
        raise context.refused


async def _work(plan: Plan, state: PipelineState) -> None:
    """The whole run except its end. The plan may change on the way."""
    context, bounds = state.run, state.run.bounds
    clock = context.world.monotonic
    await _admit(plan, state)
    context.begin_iteration(0)
    value: object = state.input
    if context.pending_changes or (context.decided and context.replaying):
        plan = await apply_pending(plan, state)
    if plan.hooks is not None or context.replaying:
        value = await guard_input(plan.hooks, state)
    context.stage_ended_at = clock()
    times: list[int | None] = []
    value = await _stages(plan.setup, value, state, times)
    while True:
        context.cancellation.check()
        bounds.check_turn()
        if not context.replaying:
            bounds.check_time(clock())
        bounds.turns += 1
        state.begin_turn()
        value = await _stages(plan.loop, value, state, times)
        decision = state.decision
        if decision is None:
            decision, state.reason = _COMPLETE, "single_turn"
        elif type(decision) is not Decision:
            decision = state.decision = decided(decision)
        if decision is _COMPLETE:
            if (context.mail is not None or context.replaying) and _has_new_message(context):
                decision, state.reason = _CONTINUE, "message"
            elif (plan.hooks is not None or context.replaying) and not state.calls:
                decision = await guard_stop(plan.hooks, state)
        _end_iteration(state, decision, times)
        if decision is not _CONTINUE:
            break
        state.iteration += 1
        context.begin_iteration(state.iteration)
        if context.pending_changes or (context.decided and context.replaying):
            plan = await apply_pending(plan, state)
        if (context.mail is not None or context.replaying) and context.has_mail(state.iteration):
            await deliver(state, plan.hooks)
        if not state.iteration % _YIELD_TURNS:
            await asyncio.sleep(0)  # noqa: TID251 - a bare yield, not a wait
        context.stage_ended_at, times = clock(), []
        value = await _stages(plan.recurring, value, state, times)
    if decision is Decision.ERROR:
        raise state.failure or StageError(
            state.reason or "A stage ended the run.", stage_name=context.stage
        )
    context.cancellation.finished = True
    context.alarm.move(bounds.limits.cleanup_s, context.cancellation.expire)
    await _stages(plan.surface, state.text, state, [])


def _has_new_message(context: RunContext) -> bool:
    """Whether a text arrived while the last answer was produced, and a turn is left for it."""
    before = context.recorded("iteration.end")
    if before is not None:
        return before.data.get("reason") == "message"
    left = context.bounds.turns < context.bounds.max_turns
    return left and context.has_mail(context.iteration + 1, nudges=False)


def _end_iteration(state: PipelineState, decision: Decision, times: list[int | None]) -> None:
    data: dict[str, JSON] = {"times": times}
    if decision is not _CONTINUE:
        data["decision"] = decision.value
    if state.reason != "tool_calls":
        data["reason"] = str(state.reason)
    state.run.hold("iteration.end", data)


async def _stages(
    steps: tuple[Step, ...], value: object, state: PipelineState, times: list[int | None]
) -> object:
    """Run stages in order; `times` receives the microseconds of each, None for a bypassed one."""
    context = state.run
    try:
        if context.has_listeners and context.follows_stages:
            value = await _stages_with_signals(steps, value, state, times)
        elif context.retold:  # its times are recorded too
            for context.stage, execute, bypass in steps:
                if bypass is None or not bypass(state):
                    value = await execute(value, state)
        else:
            clock, took, since = context.world.monotonic, times.append, context.stage_ended_at
            for context.stage, execute, bypass in steps:
                if bypass is not None and bypass(state):
                    took(None)
                else:
                    value = await execute(value, state)
                    now = clock()
                    took(int((now - since) * 1e6))
                    since = now
            context.stage_ended_at = since
    except LorimerError as error:
        _signal_error(context, error)
        raise
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and context.cancellation.stopping:
            raise
        stages = context.plan.stages if context.plan is not None else ()
        order = next((each.order for each in stages if each.name == context.stage), 0)
        wrapped = _uncoded(error, context.stage, order)
        if context.redactor is not None:
            context.redactor.error(wrapped)
        _signal_error(context, wrapped)
        raise wrapped from error
    context.stage = ""
    return value


async def _stages_with_signals(
    steps: tuple[Step, ...], value: object, state: PipelineState, times: list[int | None]
) -> object:
    """`_stages` when somebody listens to them."""
    context = state.run
    for context.stage, execute, bypass in steps:
        if bypass is not None and bypass(state):
            times.append(None)
            context.signal("stage.bypass")
            continue
        context.signal("stage.enter")
        value = await execute(value, state)
        since, context.stage_ended_at = context.stage_ended_at, context.world.monotonic()
        times.append(int((context.stage_ended_at - since) * 1e6))
        context.signal("stage.exit")
        if context.reader_behind:
            await context.wait_for_reader()
    return value


def _uncoded(error: BaseException, stage: str, order: int = 0) -> StageError:
    where = f"Stage {order} ({stage})" if order else "The run"
    return StageError(
        f"{where} failed: {type(error).__name__}: {error}{raised_in(error) if order else ''}",
        stage_name=stage,
        stage_order=order,
        cause=error,
    )


def _signal_error(context: RunContext, error: LorimerError) -> None:
    if context.wants("stage.error"):
        context.signal("stage.error", _error_data(error))


def _error_data(error: LorimerError) -> dict[str, JSON]:
    return {
        "error": str(error),
        "code": error.code.value,
        "exception_type": f"{type(error).__module__}.{type(error).__qualname__}",
    }


def _stopped(context: RunContext, reason: Reason) -> LorimerError:
    """The error of a run that was stopped: determined by the reason, never by the exception."""
    if reason is Reason.TIMEOUT:
        return context.bounds.timed_out()
    if reason is Reason.KILLED:
        why = context.cancellation.kill_reason
        return RunCancelled(
            f"The run was killed by its supervisor{f': {why}' if why else '.'}",
            code=ExecutorErrorCode.EXEC_RUN_KILLED,
            hint="Narrow the task, or have the critic be more patient.",
        )
    if reason is Reason.SHUTDOWN:
        return RunCancelled(
            "The program was shut down in the middle of the run.",
            code=ExecutorErrorCode.EXEC_RUN_SHUTDOWN,
            hint=f"Go on with: lorimer runs resume {context.id}",
        )
    if reason is Reason.WAITING:
        return RunCancelled(
            "The run waits for a person: a call needs an answer.",
            code=ExecutorErrorCode.EXEC_RUN_WAITING,
            hint=f"See it: lorimer runs show {context.id}; then: lorimer runs answer {context.id}, "
            f"or in Python: resume({context.id!r}, True)",
        )
    if reason is Reason.FENCED:
        return JournalError(
            "Another process has taken this run over.",
            code=ExecutorErrorCode.EXEC_JOURNAL_CONFLICT,
        )
    return RunCancelled(f"The run was cancelled: {reason.value}.")


async def _end(state: PipelineState, failure: LorimerError | None) -> PipelineResult:
    context = state.run
    status = status_of(failure)
    if status == "error" and failure is context.refused:
        status = "rejected"
    with _undisturbed(context):
        try:
            await _record_end(state, status, failure)
        except JournalError as error:
            if failure is not None and failure is not error:
                error.__cause__ = failure
            failure, status = error, status_of(error)
        except asyncio.CancelledError as error:
            # written all the same: an append is not interrupted once begun
            context.cancellation.interrupt(error)
    state.close_turn()
    spend = context.spend
    result = PipelineResult(
        run_id=context.id,
        status=status,
        text=state.text,
        output=state.text if state.output is None else state.output,
        exception=failure,
        iterations=context.bounds.turns,
        usage=spend.usage,
        cost_nano=spend.nano,
        events=context.facts,
        session_id=context.stream,
        history=state.messages,
        length=state.messages.length,
    )
    if failure is not None:
        failure.result = result
    _announce_end(context, result)
    if not context.silent:
        with _undisturbed(context):
            try:
                await context.close()
            except asyncio.CancelledError as error:
                context.cancellation.interrupt(error)
    return result


def _undisturbed(context: RunContext) -> AbstractContextManager[object, bool | None]:
    """Shields recording the end from whatever stopped the run."""
    cancellation = context.cancellation
    stopped = cancellation.reason is not None or cancellation.interrupted is not None
    return cancellation.shielded() if stopped else _AS_IT_IS


async def _record_end(state: PipelineState, status: str, failure: LorimerError | None) -> None:
    context = state.run
    context.cancellation.close()
    context.finish()
    if not context.facts:
        return  # stopped before it was accepted
    if failure is not None:
        diverged = failure.code is ExecutorErrorCode.EXEC_JOURNAL_DIVERGED
        if failure.category is ErrorCategory.STORE and not diverged:
            return  # nothing more is written to a store that failed or is now another process's
        if status == "suspended":
            context.record_time_used()
            await context.record("run.suspended", {"code": failure.code.value}, sync=True)
            return
    data: dict[str, JSON] = {
        "status": status,
        "usage": context.spend.tokens,
        "cost": context.spend.nano,
        "iterations": context.bounds.turns,
    }
    if state.output is not None and state.output != state.text:
        data["output"] = plain(state.output)
    if context.mail is not None and context.mail.obsolete:
        data["posts"] = context.mail.obsolete
    if failure is not None:
        data["code"] = failure.code.value
        data["message"] = str(failure)
    await context.record("run.end", data, sync=True, ledger=context.spend.release())


def _announce_end(context: RunContext, result: PipelineResult) -> None:
    if not context.refresh_listeners():
        return
    kind = "pipeline.complete" if result.exception is None else "pipeline.error"
    data: dict[str, JSON] = {
        "run_id": result.run_id,
        "status": result.status,
        "iterations": result.iterations,
        "total_cost_usd": result.total_cost_usd,
        "usage": result.usage.to_json(),
    }
    if result.exception is not None:
        data.update(_error_data(result.exception))
    context.announce(kind, _with_result(data, result))


def _with_result(data: Mapping[str, JSON], result: PipelineResult) -> Mapping[str, JSON]:
    # the one event whose data carries an object: see DESIGN "Facts and signals"
    return {**data, "result": result}  # pyright: ignore[reportReturnType]
