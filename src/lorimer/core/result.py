"""The one result type of every way to run a pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from lorimer.core.errors import ConfigError, ExecutorErrorCode, LorimerError, PipelineError
from lorimer.core.events import Event
from lorimer.core.fact_data import uses_of
from lorimer.core.history import History
from lorimer.core.jsonable import JSON, dumps, fields_of
from lorimer.core.messages import Message
from lorimer.core.receipt import Receipt
from lorimer.core.record import record
from lorimer.core.request import NO_USAGE, Usage

T = TypeVar("T")

Status: TypeAlias = Literal[
    "ok", "error", "timeout", "cancelled", "killed", "budget_exceeded", "rejected", "suspended"
]
"""How a run can end. `suspended` is not an end: the run can be resumed."""
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""All of them."""


@record
class Step:
    """One tool call of a run, as its facts record it."""

    iteration: int
    tool: str
    input: Mapping[str, JSON]
    content: JSON
    is_error: bool = False


class Ended(ABC):
    """What every result of a run has."""

    __slots__ = ()

    status: Status
    exception: LorimerError | None
    cost_nano: int

    @property
    def success(self) -> bool:
        """Whether the run ended normally."""
        return self.status == "ok"

    @property
    def error(self) -> str:
        """The error message; "" if there was no error."""
        return str(self.exception) if self.exception is not None else ""

    @property
    def code(self) -> ExecutorErrorCode | None:
        """The error code."""
        return self.exception.code if self.exception is not None else None

    @property
    def total_cost_usd(self) -> float:
        """US dollars."""
        return self.cost_nano / 1e9

    def output_as(self, wanted: type[T] | TypeAdapter[T]) -> T:
        """The output as a value of a type, such as the one that was given as `output_schema`: a
        BaseModel, a dataclass, a TypedDict, a list or a plain type, or the TypeAdapter of anything
        else. The result itself holds plain data, also where it is read in another process.

        Raises the error of a run that did not end normally; PipelineError
        (`exec.api.output_invalid`) if the output does not fit; ConfigError for a type that cannot
        be validated.
        """
        if self.exception is not None:
            raise self.exception
        return _as(self._answer, wanted)

    @property
    @abstractmethod
    def _answer(self) -> object:
        """What `output_as` makes a value of."""


@dataclass(slots=True)
class PipelineResult(Ended):
    """The result of a run. Complete even if the run failed: then with what was done until then."""

    run_id: str
    status: Status
    text: str = ""
    """The text of the last answer."""
    output: object = None
    """The output made by stage 21; by default the text."""
    exception: LorimerError | None = None
    """The typed exception, if the run did not end normally."""
    iterations: int = 0
    """Model turns made."""
    usage: Usage = NO_USAGE
    """Tokens, including failed and aborted attempts."""
    cost_nano: int = 0
    events: list[Event] = field(default_factory=list[Event], repr=False)
    """The facts of the run, in order."""
    session_id: str = ""
    """The stream of the journal that holds the run."""
    history: History = field(default_factory=History, repr=False)
    length: int = 0
    """How many messages of `history` belong to this result."""

    @property
    def _answer(self) -> object:
        return self.output

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the end of this run."""
        return self.history[: self.length]

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of this run's compactions, in order: `receipt.removed(result.messages)` are
        the messages that the model was no longer shown."""
        return [Receipt.from_json(fact.data) for fact in self.events if fact.type == "compacted"]

    @property
    def reason(self) -> str:
        """Why the last iteration was the last, from its `iteration.end`: `end_turn`, or e.g.
        `controller_max_turns` when stage 16 has ended a run that still called tools; `text` may
        then be empty although the run ended normally. "": no iteration was completed."""
        for fact in reversed(self.events):
            if fact.type == "iteration.end":
                return str(fact.data.get("reason", "tool_calls"))
        return ""

    @property
    def steps(self) -> list[Step]:
        """The tool calls of this run with their results, in the order of the replies that made
        them."""
        steps: dict[tuple[int, int], Step] = {}
        calls: list[Mapping[str, JSON]] = []
        for fact in self.events:
            if fact.type == "model.reply":
                calls = uses_of(fact.data)
            elif fact.type == "tool.result":
                index = int(str(fact.data["key"]))
                steps[fact.iteration, index] = Step(
                    fact.iteration,
                    str(calls[index].get("name")),
                    fields_of(calls[index].get("input")),
                    fact.data.get("content", ""),
                    fact.data.get("is_error") is True,
                )
        return [steps[place] for place in sorted(steps)]

    @property
    def recorded_output(self) -> JSON:
        """`output` as recorded, without secrets; None: it equals the text, or is not plain data, or
        the run has not ended."""
        last = self.events[-1] if self.events else None
        return last.data.get("output") if last is not None and last.type == "run.end" else None

    def to_json(self) -> dict[str, JSON]:
        """Plain data, as printed by `--output-format json`. Has `output` if that differs from the
        text: the recorded one."""
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


def _as(value: object, wanted: type[T] | TypeAdapter[T]) -> T:
    name = wanted.__name__ if isinstance(wanted, type) else str(wanted)
    try:
        adapter: TypeAdapter[T] = wanted if isinstance(wanted, TypeAdapter) else TypeAdapter(wanted)
        try:
            body = dumps(value)  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError):  # an object, made by a strategy of the host's
            return adapter.validate_python(value)
        # as JSON: a type that is strict takes a text for a date there, and a list for a set
        return adapter.validate_json(body)
    except PydanticUserError as error:
        raise ConfigError(f"output_as: {name} cannot be validated: {error.message}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise PipelineError(
            f"The output is not {name}: {where + ': ' if where else ''}{fault['msg']}.",
            code=ExecutorErrorCode.EXEC_API_OUTPUT_INVALID,
            hint="An agent answers in the form of its output_schema.",
        ) from None
