"""What an executor's run gave, however it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from lorimer.core.children import ChildEnd, told_of
from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.messages import NO_USAGE, Message, Usage
from lorimer.core.result import PipelineResult
from lorimer.run.delivery import Artifact
from lorimer.run.steps import RunStep
from lorimer.tools.base import ToolResult


@dataclass(slots=True)
class RunResult:
    """Complete also when the run failed: then with what was done so far."""

    run_id: str
    status: str = "ok"
    """One of `core.result.STATUSES`."""
    output: str = ""
    """The answer; of a run that failed, what was said of one."""
    steps: list[RunStep] = field(default_factory=list[RunStep])
    """One for each tool call, in order."""
    usage: Usage = NO_USAGE
    """Tokens, failed and abandoned attempts and sub-agents included."""
    cost_nano: int = 0
    exception: LorimerError | None = None
    """Why it did not end well."""
    messages: list[Message] = field(default_factory=list[Message], repr=False)
    """The conversation."""
    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    """Files that go with the answer."""
    run: PipelineResult | None = field(default=None, repr=False)
    """The pipeline's own result with the facts; None: the run was refused before it began."""
    warnings: list[str] = field(default_factory=list[str])
    """What failed beside the run: ports that raised or took too long."""

    @property
    def success(self) -> bool:
        """It ended, and well."""
        return self.status == "ok"

    @property
    def error(self) -> str:
        """What went wrong, in a sentence; "" when nothing did."""
        return str(self.exception) if self.exception is not None else ""

    @property
    def code(self) -> ExecutorErrorCode | None:
        """The code of what went wrong."""
        return self.exception.code if self.exception is not None else None

    def as_tool_result(self) -> ToolResult:
        """What a tool gives back that has run it: the answer, or what went wrong and how far it
        got, as an error."""
        if self.run is None and self.output:  # refused, and that says it
            return ToolResult(self.output, is_error=True, error=self.code)
        end = ChildEnd(self.run_id, "the run", self.status, self.output, self.code, self.error)
        return ToolResult(told_of(end), is_error=not self.success, error=self.code)

    @property
    def total_cost_usd(self) -> float:
        """US dollars."""
        return self.cost_nano / 1e9
