"""The result of an executor's run, however it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from lorimer.core.children import ChildEnd, describe_end
from lorimer.core.engine import status_of
from lorimer.core.errors import (
    ExecutorErrorCode,
    LimitError,
    LorimerError,
    PipelineError,
    RunCancelled,
)
from lorimer.core.messages import Message
from lorimer.core.request import NO_USAGE, Usage
from lorimer.core.result import Ended, PipelineResult, Status
from lorimer.run.delivery import Artifact
from lorimer.run.steps import RunStep, steps_of
from lorimer.tools.base import ToolResult


@dataclass(slots=True)
class RunResult(Ended):
    """The result of an executor's run. Also complete for a run that failed: then with what was done
    up to that point."""

    run_id: str
    status: Status = "ok"
    output: str = ""
    """The answer; for a run that failed, what there is of one."""
    structured_output: object = None
    """The answer as data, if the agent has an `output_schema`; None: it has none, or the run
    failed."""
    usage: Usage = NO_USAGE
    """Tokens, including failed and abandoned attempts and sub-agents."""
    cost_nano: int = 0
    exception: LorimerError | None = None
    """Why it failed."""
    messages: list[Message] = field(default_factory=list[Message], repr=False)
    """The conversation."""
    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    """Files that go with the answer."""
    run: PipelineResult | None = field(default=None, repr=False)
    """The pipeline's own result with the facts; None: the run was refused before it began."""
    warnings: list[str] = field(default_factory=list[str])
    """Failures outside the run: ports that raised or took too long."""
    _steps: list[RunStep] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def text(self) -> str:
        """`output`, by the name that a pipeline's result has for it."""
        return self.output

    @property
    def _answer(self) -> object:
        return self.output if self.structured_output is None else self.structured_output

    @property
    def steps(self) -> list[RunStep]:
        """One for each tool call, in order; built from the facts on first access."""
        if self._steps is None:
            self._steps = list(steps_of(self.run.events)) if self.run is not None else []
        return self._steps

    def as_tool_result(self) -> ToolResult:
        """The result for a tool that ran it: the answer; or an error that says what went wrong and
        how far it got."""
        if self.run is None and self.output:  # refused, and the output says so
            return ToolResult(self.output, is_error=True, error=self.code)
        end = ChildEnd(self.run_id, "the run", self.status, self.output, self.code, self.error)
        return ToolResult(describe_end(end), is_error=not self.success, error=self.code)


def result_of(run: PipelineResult) -> RunResult:
    """The result of a run that has ended, or is suspended."""
    data = run.output
    return RunResult(
        run_id=run.run_id,
        status=run.status,
        output=data if isinstance(data, str) else run.text,
        structured_output=None if isinstance(data, str) else data,
        usage=run.usage,
        cost_nano=run.cost_nano,
        exception=run.exception,
        messages=run.messages,
        run=run,
    )


def failed(run_id: str, why: BaseException, *, again: bool = False) -> RunResult:
    """The result of a run that did not begin; `again`: that was not resumed. If it was not
    permitted, the caller's model reads the output."""
    error = why if isinstance(why, LorimerError) else _coded(why)
    status = status_of(error)
    if status == "suspended" and not again:  # there is nothing to resume
        status = "cancelled" if isinstance(error, RunCancelled) else "error"
    words = f"ERROR {error.code.value}: {error}" if isinstance(error, LimitError) else ""
    return RunResult(run_id, status, words, exception=error)


def _coded(error: BaseException) -> LorimerError:
    return PipelineError(
        f"The run failed: {type(error).__name__}: {error}",
        code=ExecutorErrorCode.EXEC_STAGE_FAILED,
        cause=error,
    )
