"""Stage 9, Parse: what the reply says. Words in a text never decide the outcome of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from pydantic import Field, JsonValue

from lorimer.core.bindings import ANSWER, Bindings
from lorimer.core.errors import APIError, ExecutorErrorCode, ToolExecutionError
from lorimer.core.json_in_text import json_texts
from lorimer.core.jsonable import JSON
from lorimer.core.request import Response, StopReason
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import MISFIT, PipelineState
from lorimer.stages.s09_signals import FENCE, SignalDetector

if TYPE_CHECKING:
    from lorimer.models.typed import Form
    from lorimer.tools.schema import Check

_USUAL: Final = (StopReason.END_TURN, StopReason.TOOL_USE)
_PAUSE: Final = StopReason.PAUSE
_FAILED: Final[Mapping[StopReason, tuple[ExecutorErrorCode, str, str]]] = {
    StopReason.REFUSAL: (
        ExecutorErrorCode.EXEC_API_REFUSED,
        "The model, or its provider's filter, declined to answer.",
        "Ask in other words, or ask another model.",
    ),
    StopReason.CONTEXT_OVERFLOW: (
        ExecutorErrorCode.EXEC_API_TOKEN_LIMIT,
        "The conversation no longer fits into the model's context window.",
        "Compact the conversation or use a model with a larger window.",
    ),
    # only of an answer without text and calls
    StopReason.MAX_TOKENS: (
        ExecutorErrorCode.EXEC_API_EMPTY,
        "The answer reached its maximum length before the model said anything.",
        "Raise max_tokens, or let the model think less.",
    ),
}


class Parser(Strategy):
    """Interprets the text of the answer."""

    def parse(self, text: str, state: PipelineState) -> None:
        """Called for a reply without tool calls: the final answer."""
        raise TypeError(f"{type(self).__name__} has no parse method")


class DefaultParser(Parser):
    """The text, unchanged."""

    name = "default"
    description = "The answer is its text."

    def parse(self, text: str, state: PipelineState) -> None:
        return


class StructuredOutput(Parser):
    """JSON, bare or in a fenced block, as the run's output; with a schema also if surrounded by
    text."""

    name = "structured_output"
    description = (
        "The answer is JSON that conforms to `schema`; result.output is its value. Stage 14's "
        "`structured_output` decides whether an invalid answer is sent back to the model."
    )

    class Config(Settings):
        required: list[str] = Field([])
        """Keys the object must have."""
        schema_: dict[str, JsonValue] | None = Field(None, alias="schema")
        """JSON Schema of the object that the answer has to be; none: `model.output_schema`."""
        default: JsonValue = None
        """The output if the answer is not such JSON; none: the text, unchanged."""

    config: Config
    _form: Form[object] | None = None
    """Checks that go beyond the schema: the host's type."""

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        self._check = None if self.config.schema_ is None else _compiled(self.config.schema_)

    def bind(self, bindings: Bindings) -> None:
        schema = bindings.model.output_schema
        if self.config.schema_ is None and schema is not None:
            self._check = _compiled(schema)
        types = bindings.named.get(ANSWER)
        if schema is not None and isinstance(types, tuple):
            from lorimer.models.typed import form_among  # only if there is a type

            self._form = form_among(cast("tuple[type[object], ...]", types), schema)

    def parse(self, text: str, state: PipelineState) -> None:
        if self._check is not None:
            value, body, problem = _read(json_texts(text))
        else:
            fenced = FENCE.match(text)
            value, body, problem = _read([fenced.group(1) if fenced else text])
        problem = problem or self._fault(value, body)
        state.shared[MISFIT] = problem
        state.output = self.config.default if problem else value

    def _fault(self, value: JSON, body: str) -> str:
        """What is wrong with an answer; "": nothing."""
        problem = "" if self._check is None else _fault(self._check, value)
        missing = [
            key for key in self.config.required if not isinstance(value, dict) or key not in value
        ]
        if not problem and missing:
            problem = f"missing: {', '.join(missing)}"
        if not problem and self._form is not None:
            problem = self._form.fault(body)
        return problem


def _read(bodies: Iterable[str]) -> tuple[JSON, str, str]:
    """The first of them that is JSON, and its text; or why none is."""
    problem = ""
    for body in bodies:
        try:
            return cast("JSON", json.loads(body)), body, ""
        except (ValueError, RecursionError) as error:
            problem = problem or str(error) or type(error).__name__
    return None, "", problem


def _compiled(schema: Mapping[str, JSON]) -> Check:
    from lorimer.tools.schema import compile_schema  # only if there is one

    return compile_schema(schema, "the schema of the answer")


def _fault(check: Check, value: JSON) -> str:
    """What is wrong with an answer; "": nothing."""
    if not isinstance(value, dict):
        return "it is no object"
    try:
        check(dict(value))
    except ToolExecutionError as error:
        return error.message
    return ""


class ParseStage(Stage[object, Response | None]):
    """Fills `state.calls`, and has the parser read a final answer. Returns the Response."""

    name = "parse"
    order = 9
    category = "execution"

    parser = Slot(
        Parser,
        default="default",
        known={
            "default": "lorimer.stages.s09_parse:DefaultParser",
            "structured_output": "lorimer.stages.s09_parse:StructuredOutput",
        },
    )

    signal_detector = Slot(
        SignalDetector,
        default="none",
        known={
            "none": "lorimer.stages.s09_signals:Ignore",
            "regex": "lorimer.stages.s09_signals:Markers",
            "structured": "lorimer.stages.s09_signals:Structured",
            "hybrid": "lorimer.stages.s09_signals:Hybrid",
        },
    )

    async def execute(self, input: object, state: PipelineState) -> Response | None:
        response = state.response
        if response is None:
            return None
        if response.stop not in _USUAL and response.stop in _FAILED:
            said = response.tool_calls or state.text.strip()
            if not said or response.stop is not StopReason.MAX_TOKENS:
                code, message, hint = _FAILED[response.stop]
                raise APIError(message, code=code, hint=hint)
        state.calls = response.tool_calls
        state.signal, state.signal_detail = self.signal_detector.detect(state.text)
        if not state.calls and response.stop is not _PAUSE:
            self.parser.parse(state.text, state)
        if state.run.wants("parse.complete"):
            state.run.signal(
                "parse.complete",
                {
                    "text_length": len(state.text),
                    "tool_calls": len(state.calls),
                    "stop_reason": response.stop.value,
                    "signal": state.signal,
                },
            )
        return response
