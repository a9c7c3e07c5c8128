"""How one typed answer is requested, in a form that the model supports, and found in its reply.

The type itself: `typed.py`; the call: `generate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.history import History
from lorimer.core.jsonable import canonical
from lorimer.core.messages import Message, ToolResultBlock, prompt_messages, user_message
from lorimer.core.model import Target, capabilities_of
from lorimer.core.request import (
    OutputSchema,
    Request,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    ToolSpec,
)
from lorimer.core.told_schema import told_schema
from lorimer.models.caller import DeltaListener
from lorimer.models.typed import Form, Unfit

T = TypeVar("T")

_TRUSTED: Final = frozenset({"anthropic", "openai", "google"})
"""Vendors who enforce a schema; other servers may accept one and ignore it."""
_TOOL: Final = "answer"


class Unseen:
    """Shows nothing to anybody, so that a failed attempt can be repeated silently."""

    def piece(self, item: TextDelta | ThinkingDelta | ToolInputDelta) -> int:
        return 0

    def restart(self) -> None:
        pass


class TypedRequest(Generic[T]):
    """What is asked, whichever model answers."""

    def __init__(
        self,
        form: Form[T],
        prompt: str | Sequence[Message],
        system: str,
        max_tokens: int,
        temperature: float | None,
    ) -> None:
        self.form = form
        self.messages = prompt_messages(prompt)
        self.hearer: DeltaListener = Unseen()
        self._system = system
        self._max_tokens = max_tokens
        self._temperature = temperature

    def request(self, targets: Sequence[Target]) -> Request:
        """The request, in a form that all these targets support."""
        form, first = self.form, targets[0]
        able = [capabilities_of(target.model) for target in targets]
        natively = form.closed and all(can.output_schema for can in able)
        by_tool = not natively and all(can.tools and can.tool_choice for can in able)
        trusted = all(target.model.provider in _TRUSTED for target in targets) and not any(
            " " in target.place for target in targets
        )
        said = [self._system] if self._system else []
        if not by_tool and not (natively and trusted):
            said.append(form.instruction)
        tool = ToolSpec(_TOOL, "Give your answer with this tool.", told_schema(form.schema)[0])
        return Request(
            first.model.name,
            History(self.messages),
            "\n\n".join(said),
            (tool,) if by_tool else (),
            _TOOL if by_tool else "auto",
            self._max_tokens,
            self._temperature,
            effort=first.effort,
            output=OutputSchema(form.name, form.schema) if natively else None,
        )

    def read(self, response: Response) -> T:
        """The value in an answer. Raises Unfit, and APIError where asking again does not help."""
        for use in response.tool_calls:
            if use.name == _TOOL:
                text = use.raw or canonical(use.input).decode("utf-8", "replace")
                break
        else:
            text = response.text
        try:
            return self.form.read(text)
        except Unfit:
            if response.stop is StopReason.MAX_TOKENS:
                raise APIError(
                    f"The answer of {response.model!r} was cut off after {self._max_tokens} "
                    f"tokens, before the {self.form.name} was whole.",
                    code=ExecutorErrorCode.EXEC_API_OUTPUT_INVALID,
                    hint="Raise max_tokens.",
                ) from None
            if response.stop is StopReason.REFUSAL:
                raise APIError(
                    f"The model {response.model!r} declined to answer: {response.text[:300]}",
                    code=ExecutorErrorCode.EXEC_API_REFUSED,
                ) from None
            raise

    def told(self, response: Response, fault: str) -> list[Message]:
        """The messages that tell the model what does not fit."""
        text = f"That does not fit: {fault}. Answer again with the whole object, corrected."
        calls = response.tool_calls
        if not calls:
            return [response.message, user_message(text)]
        results = tuple([ToolResultBlock(use.id, text, True) for use in calls])
        return [response.message, Message("user", results)]
