"""Stage 10, Tool: run the calls of the reply and append their results, in call order."""

from __future__ import annotations

from typing import ClassVar

from anyio import CancelScope, Event, create_task_group
from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.messages import Message, ToolResultBlock, ToolUse
from lorimer.core.review import Review
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.tool import Toolbox
from lorimer.stages.s11_tool_review import ToolReviewStage


class ToolExecutor(Strategy):
    """Decides which calls run concurrently."""

    early: ClassVar[bool] = False
    """Stage 6 starts calls while the reply that contains them is still being written."""

    def batches(self, calls: list[ToolUse], tools: Toolbox, width: int) -> list[list[int]]:
        """Indexes of the calls, in order, in groups of at most `width` that may run
        concurrently."""
        raise TypeError(f"{type(self).__name__} has no batches method")


class Sequential(ToolExecutor):
    """One after the other."""

    name = "sequential"
    description = "One call after the other."

    def batches(self, calls: list[ToolUse], tools: Toolbox, width: int) -> list[list[int]]:
        return [[index] for index in range(len(calls))]


class Partition(ToolExecutor):
    """Runs adjacent calls that are safe to run concurrently in parallel, all others alone."""

    name = "partition"
    description = "Adjacent calls of concurrency-safe tools in parallel, all others alone."

    def batches(self, calls: list[ToolUse], tools: Toolbox, width: int) -> list[list[int]]:
        groups: list[list[int]] = []
        open_group = False
        for index, call in enumerate(calls):
            safe = tools.concurrency_safe(call)
            if safe and open_group and len(groups[-1]) < width:
                groups[-1].append(index)
            else:
                groups.append([index])
            open_group = safe
        return groups


class Parallel(ToolExecutor):
    """All at once, whether or not their tools are declared as safe for it."""

    name = "parallel"
    description = "All calls of a reply in parallel, max_concurrency at a time, safe or not."

    class Config(Settings):
        max_concurrency: int = Field(5, ge=1)
        """Concurrent calls; limits.max_parallel_tools applies as well."""

    config: Config

    def batches(self, calls: list[ToolUse], tools: Toolbox, width: int) -> list[list[int]]:
        width = min(width, self.config.max_concurrency)
        places = range(len(calls))
        return [list(places[at : at + width]) for at in range(0, len(calls), width)]


class Streaming(Partition):
    """Like `partition`, but each call starts as soon as its arguments are complete."""

    name = "streaming"
    description = (
        "Like partition; read-only calls start while the model is still writing its reply."
    )
    early = True


class ToolStage(Stage[object, object]):
    """Runs `state.calls` through the toolbox. Bypassed when there are none."""

    name = "tool"
    order = 10
    category = "execution"
    bypass_reason = "the reply calls no tool"
    calls_tools = True

    class Config(Settings):
        pass

    executor = Slot(
        ToolExecutor,
        default="partition",
        known={
            "partition": "lorimer.stages.s10_tool:Partition",
            "sequential": "lorimer.stages.s10_tool:Sequential",
            "parallel": "lorimer.stages.s10_tool:Parallel",
            "streaming": "lorimer.stages.s10_tool:Streaming",
        },
    )

    def bind(self, bindings: Bindings) -> None:
        self._tools = bindings.tools
        review = bindings.stages.get("tool_review")
        self._reviewers = review.reviewers if isinstance(review, ToolReviewStage) else ()

    def should_bypass(self, state: PipelineState) -> bool:
        return not state.calls

    def prepare(self, run: RunContext) -> None:
        """Before the first call of a run."""
        if self._reviewers and run.review is None:
            run.review = Review(self._reviewers)

    async def execute(self, input: object, state: PipelineState) -> object:
        run, calls = state.run, state.calls
        tools = self._tools
        self.prepare(run)
        if run.wants("tool.execute_start"):
            run.signal(
                "tool.execute_start",
                {"count": len(calls), "tools": [call.name for call in calls]},
            )
        if len(calls) == 1 and tools is not None:
            state.results.append(await tools.dispatch(calls[0], 0, state))
        else:
            await self._several(calls, tools, state)
        state.add_recorded(Message("user", tuple(state.results)))
        if run.wants("tool.execute_complete"):
            errors = sum(result.is_error for result in state.results)
            run.signal("tool.execute_complete", {"count": len(calls), "errors": errors})
        return input

    async def _several(
        self, calls: list[ToolUse], tools: Toolbox | None, state: PipelineState
    ) -> None:
        limits = state.run.bounds.limits
        allowed = calls[: limits.max_calls_per_turn]
        if tools is None:
            for index in range(len(allowed)):
                _not_run(index, "this agent has no tools", state)
        else:
            made = self.executor.batches(allowed, tools, limits.max_parallel_tools)
            batches = [list(batch) for batch in made]  # it may be a generator
            if sorted([index for batch in batches for index in batch]) != [*range(len(allowed))]:
                raise ValueError(  # a call that is in it twice would be made twice
                    f"the executor {self.executor.name!r} put {len(allowed)} calls into the "
                    f"batches {batches!r}: each index has to be there once"
                )
            for batch in batches:
                await self._together(batch, allowed, tools, state)
        reason = f"a reply may make {limits.max_calls_per_turn} calls, this one made {len(calls)}"
        for index in range(len(allowed), len(calls)):
            _not_run(index, reason, state)
        done = {result.tool_use_id: result for result in state.results}
        state.results = [done[call.id] for call in calls]

    async def _together(
        self, batch: list[int], calls: list[ToolUse], tools: Toolbox, state: PipelineState
    ) -> None:
        if len(batch) == 1:
            state.results.append(await tools.dispatch(calls[batch[0]], batch[0], state))
            return
        stopped: list[LimitError] = []
        # A group keeps its tasks in a set. They are cancelled in call order instead, so that the
        # same run has the same facts.
        scopes = [CancelScope(shield=True) for _ in batch]
        left = len(batch)
        over = Event()

        async def one(index: int, scope: CancelScope) -> None:
            nonlocal left
            try:
                with scope:
                    state.results.append(await tools.dispatch(calls[index], index, state))
            except LimitError as error:  # calls beside it began before the limit: they may finish
                stopped.append(error)
            finally:
                left -= 1
                if not left:
                    over.set()

        try:
            async with create_task_group() as group:
                for index, scope in zip(batch, scopes, strict=True):
                    group.start_soon(one, index, scope)
                try:
                    await over.wait()
                except BaseException:
                    for scope in scopes:
                        scope.cancel()
                    raise
        except ExceptionGroup as errors:  # one failure cancelled the others
            raise errors.exceptions[0] from None
        if stopped:
            raise stopped[0]


def _not_run(index: int, why: str, state: PipelineState) -> None:
    """Report it to the model and record that: the conversation is rebuilt from the facts."""
    code = ExecutorErrorCode.EXEC_TOOL_NOT_RUN.value
    text = f"ERROR {code}: not run: {why}."
    state.results.append(ToolResultBlock(state.calls[index].id, text, is_error=True))
    key = str(index)
    data = {"key": key, "content": text, "is_error": True, "error": code}
    state.run.hold("tool.result", data, key=key)
