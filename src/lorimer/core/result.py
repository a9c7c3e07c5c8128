"""The one result type of every way to run a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorimer.core.errors import ExecutorErrorCode, LorimerError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message
from lorimer.core.receipt import Receipt
from lorimer.core.record import record
from lorimer.core.request import NO_USAGE, Usage

STATUSES = (
    "ok",
    "error",
    "timeout",
    "cancelled",
    "killed",
    "budget_exceeded",
    "rejected",
    "suspended",
)
"""How a run can end. `suspended` is not an end: it waits to be resumed."""


@record
class Step:
    """One tool call of a run, as its facts tell it."""

    iteration: int
    tool: str
    input: Mapping[str, JSON]
    content: JSON
    is_error: bool = False


class Ended:
    """What every result of a run tells."""

    __slots__ = ()

    status: str
    exception: LorimerError | None
    cost_nano: int

    @property
    def success(self) -> bool:
        """The run ended, and well."""
        return self.status == "ok"

    @property
    def error(self) -> str:
        """What went wrong, in a sentence; "" when nothing did."""
        return str(self.exception) if self.exception is not None else ""

    @property
    def code(self) -> ExecutorErrorCode | None:
        """The code of what went wrong."""
        return self.exception.code if self.exception is not None else None

    @property
    def total_cost_usd(self) -> float:
        """US dollars."""
        return self.cost_nano / 1e9


@dataclass(slots=True)
class PipelineResult(Ended):
    """What a run gave. Complete also when the run failed: then with what was done so far."""

    run_id: str
    status: str
    """One of `STATUSES`."""
    text: str = ""
    """The last answer's text."""
    output: object = None
    """What stage 21 made of the answer; the text by default."""
    exception: LorimerError | None = None
    """The typed error, when the run did not end well."""
    iterations: int = 0
    """Model turns made."""
    usage: Usage = NO_USAGE
    """Tokens, failed and abandoned attempts included."""
    cost_nano: int = 0
    events: list[Event] = field(default_factory=list[Event], repr=False)
    """The facts of the run, in order."""
    session_id: str = ""
    """The stream of the journal it is in."""
    history: History = field(default_factory=History, repr=False)
    length: int = 0
    """How much of `history` belongs to this result."""

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the end of this run."""
        return self.history[: self.length]

    @property
    def receipts(self) -> list[Receipt]:
        """Of this run's compactions, in order: `receipt.removed(result.messages)` are the messages
        that the model was not shown any more."""
        return [Receipt.from_json(fact.data) for fact in self.events if fact.type == "compacted"]

    @property
    def reason(self) -> str:
        """Why the last iteration was the last, as its `iteration.end` says: `end_turn`, or e.g.
        `controller_max_turns` where stage 16 has ended a run that still called tools, and `text`
        may be empty though the run ended well. "": no iteration came to its end."""
        for fact in reversed(self.events):
            if fact.type == "iteration.end":
                return str(fact.data.get("reason", "tool_calls"))
        return ""

    @property
    def steps(self) -> list[Step]:
        """The tool calls of this run, in the order of the replies that made them, with what they
        gave."""
        steps: dict[tuple[int, int], Step] = {}
        calls: list[Mapping[str, JSON]] = []
        for fact in self.events:
            if fact.type == "model.reply":
                content = fact.data.get("content")
                blocks = content if isinstance(content, list | tuple) else []
                calls = [
                    block
                    for block in blocks
                    if isinstance(block, Mapping) and block.get("type") == "tool_use"
                ]
            elif fact.type == "tool.result":
                index = int(str(fact.data["key"]))
                given = calls[index].get("input")
                steps[fact.iteration, index] = Step(
                    fact.iteration,
                    str(calls[index].get("name")),
                    given if isinstance(given, Mapping) else {},
                    fact.data.get("content", ""),
                    fact.data.get("is_error") is True,
                )
        return [steps[place] for place in sorted(steps)]

    @property
    def recorded_output(self) -> JSON:
        """`output` as the journal has it, without secrets; None: it is the text, or no plain data,
        or the run has not ended."""
        last = self.events[-1] if self.events else None
        return last.data.get("output") if last is not None and last.type == "run.end" else None

    def to_json(self) -> dict[str, JSON]:
        """The plain form the command line prints with `--output-format json`. It has an `output`
        where that is data, not the text: the recorded one."""
        data: dict[str, JSON] = {
            "run_id": self.run_id,
            "session_id": self.session_id,
            "status": self.status,
            "text": self.text,
            "iterations": self.iterations,
            "usage": self.usage.to_json(),
            "total_cost_usd": self.total_cost_usd,
        }
        if self.recorded_output is not None:
            data["output"] = self.recorded_output
        if self.exception is not None:
            data["error"] = self.exception.to_json()
        return data
