"""What a model is asked and what it answers: requests, responses, usage, deltas.

Every provider is translated from and to these. They are plain immutable values; `to_json` and
`*_from_json` are lossless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b
from operator import add, attrgetter
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON, canonical, no_data
from lorimer.core.messages import Block, Message, ToolUse, block_from_json, joined, text_in
from lorimer.core.record import record

MOST: Final = 2**62
"""Tokens and nano-dollars are fewer: higher numbers in a record are damage."""


@record
class Usage:
    """Tokens, counted by the provider. A new kind of token is a new field here and in one
    provider's mapping: adding, storing and reporting iterate over the declared fields."""

    input_tokens: int = 0
    """Prompt tokens that were neither read from nor written to a cache."""
    output_tokens: int = 0
    """Everything generated, including reasoning."""
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of `output_tokens`, if the provider reports it."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, _counts(self), _counts(other)))

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def total(self) -> int:
        """All tokens of prompt and answer."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_creation_input_tokens
            + self.cache_read_input_tokens
        )

    def to_json(self) -> dict[str, int]:
        """The fields that are not zero. Written out because it is called for each reply."""
        data: dict[str, int] = {}
        if self.input_tokens:
            data["input_tokens"] = self.input_tokens
        if self.output_tokens:
            data["output_tokens"] = self.output_tokens
        if self.cache_creation_input_tokens:
            data["cache_creation_input_tokens"] = self.cache_creation_input_tokens
        if self.cache_read_input_tokens:
            data["cache_read_input_tokens"] = self.cache_read_input_tokens
        if self.reasoning_tokens:
            data["reasoning_tokens"] = self.reasoning_tokens
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Usage:
        """The reverse of `to_json`; unknown fields of newer versions are ignored, and so are
        impossible counts."""
        get = data.get
        counts = [
            count if type(count := get(name)) is int and 0 <= count < MOST else 0
            for name in USAGE_FIELDS
        ]
        return cls(*counts)


USAGE_FIELDS: Final = tuple(field.name for field in fields(Usage))
_counts: Final = attrgetter(*USAGE_FIELDS)
NO_USAGE: Final = Usage()


class StopReason(StrEnum):
    """Why the model stopped: one enum for all providers."""

    END_TURN = "end_turn"
    TOOL_USE = "tool_use"
    MAX_TOKENS = "max_tokens"
    STOP_SEQUENCE = "stop_sequence"
    REFUSAL = "refusal"
    """The model or the provider's filter declined."""
    PAUSE = "pause"
    """The provider asks to be called again with the answer so far."""
    CONTEXT_OVERFLOW = "context_overflow"


_END_TURN: Final = StopReason.END_TURN
_STOPS: Final[Mapping[JSON, StopReason]] = {reason.value: reason for reason in StopReason}
"""Lookup by value: `StopReason(...)` takes five times as long."""


@record
class ToolSpec:
    """A tool as the model sees it. `input_schema` is JSON Schema for an object."""

    name: str
    description: str
    input_schema: Mapping[str, JSON]
    fingerprint: bytes = field(init=False, repr=False, compare=False)
    """12 bytes that change with any part of it."""
    size: int = field(init=False, repr=False, compare=False)
    """Size in bytes of canonical JSON, about 4 per token."""

    def __post_init__(self) -> None:
        body = canonical(self.to_json())
        object.__setattr__(self, "fingerprint", blake2b(body, digest_size=12).digest())
        object.__setattr__(self, "size", len(body))

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": self.input_schema,
        }


@record
class CacheMarks:
    """Where prompt-cache breakpoints go, for providers that support them."""

    system: bool = False
    tools: bool = False
    message: int | None = None
    """Index of the message after which the prefix is stable."""


NO_MARKS: Final = CacheMarks()


@record
class OutputSchema:
    """The required form of the answer's text: JSON that conforms to a schema."""

    name: str
    """Letters, digits, `_` and `-`; at most 64."""
    schema: Mapping[str, JSON]
    """JSON Schema of an object."""


@dataclass(slots=True)
class Request:
    """One model call, whatever the provider."""

    model: str
    """The provider's own name of the model."""
    messages: Sequence[Message]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `any`, `none`, or the name of a tool."""
    max_tokens: int = 8192
    """Most tokens of the visible answer; a provider adds the thinking budget on the wire."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    thinking_tokens: int | None = None
    """Budget for thinking, in tokens; None: off."""
    effort: str = ""
    """`low`, `medium`, `high` or "": the model's default."""
    stream: bool = True
    cache: CacheMarks = NO_MARKS
    output: OutputSchema | None = None
    """The answer's text has to be JSON of this form; None: any text."""
    seed: int | None = None
    """Seed for sampling, if the provider supports it."""
    api: str = ""
    """The wire to use, if a provider has several: `chat` or `responses`; "": the provider
    chooses."""


@dataclass(slots=True)
class Response:
    """One complete answer."""

    content: tuple[Block, ...]
    stop: StopReason = StopReason.END_TURN
    usage: Usage = NO_USAGE
    model: str = ""
    """The model that answered, as the provider names it."""
    id: str = ""
    cost_nano: int = 0
    """Nano-dollars, by the price table or as reported by the provider."""
    extra: Mapping[str, JSON] = field(default_factory=no_data)
    """Provider-specific data."""

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return joined(self.content)

    @property
    def tool_calls(self) -> list[ToolUse]:
        """The tool calls in it, in order."""
        return [block for block in self.content if isinstance(block, ToolUse)]

    @property
    def message(self) -> Message:
        """As a message of the conversation."""
        return Message("assistant", self.content)

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        data: dict[str, JSON] = {"content": [block.to_json() for block in self.content]}
        if self.stop is not _END_TURN:
            data["stop"] = str(self.stop)
        if self.usage is not NO_USAGE:
            data["usage"] = self.usage.to_json()
        if self.model:
            data["model"] = self.model
        if self.id:
            data["id"] = self.id
        if self.cost_nano:
            data["cost"] = self.cost_nano
        if self.extra:
            data["extra"] = self.extra
        return data


def response_from_json(data: Mapping[str, JSON]) -> Response:
    """The reverse of `Response.to_json`. Raises ValueError naming what is wrong."""
    content, usage, cost = data.get("content"), data.get("usage"), data.get("cost", 0)
    stop, extra = data.get("stop", "end_turn"), data.get("extra")
    if isinstance(content, str) or not isinstance(content, (list, Sequence)):
        raise ValueError("a response needs a list of content blocks")
    return Response(
        tuple([block_from_json(item) for item in content]),
        (_STOPS.get(stop) if isinstance(stop, str) else None) or StopReason(stop),
        Usage.from_json(usage) if isinstance(usage, (dict, Mapping)) else NO_USAGE,
        text_in(data, "model", ""),
        text_in(data, "id", ""),
        cost if isinstance(cost, int) else 0,
        extra if extra is not None and isinstance(extra, Mapping) else {},
    )


@record
class TextDelta:
    """A piece of the answer's text."""

    text: str


@record
class ThinkingDelta:
    """A piece of the model's reasoning."""

    text: str


@record
class ToolInputDelta:
    """A piece of the JSON arguments of call number `index`; the first one names the tool."""

    index: int
    partial_json: str
    name: str = ""


@record
class UsageDelta:
    """The provider's count so far; charged if the attempt is cancelled or fails."""

    usage: Usage


Delta: TypeAlias = TextDelta | ThinkingDelta | ToolInputDelta | UsageDelta
