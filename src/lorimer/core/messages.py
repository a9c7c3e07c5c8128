"""The canonical conversation: messages, blocks, requests, responses, usage, deltas.

Every provider is translated from and to these. They are plain immutable values; `to_json` and
`*_from_json` are lossless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b
from operator import add, attrgetter
from typing import ClassVar, Final, Literal, TypeAlias

from lorimer.core.jsonable import JSON, canonical, fingerprint, no_data
from lorimer.core.record import record

Role: TypeAlias = Literal["user", "assistant"]


@record
class TextBlock:
    """Text written by the user or the model."""

    text: str
    phase: str = ""
    """OpenAI's: `commentary` (what is said on the way) or `final_answer`; goes back to OpenAI,
    whose models do worse without. "": not told."""
    type: ClassVar[str] = "text"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        if self.phase:
            return {"type": "text", "text": self.text, "phase": self.phase}
        return {"type": "text", "text": self.text}


@record
class ImageBlock:
    """A picture: base64 `data` of `media_type`, or a `url`; never both."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    type: ClassVar[str] = "image"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        return _media_json("image", self.media_type, self.data, self.url, "")


@record
class DocumentBlock:
    """A document such as a PDF: base64 `data` of `media_type`, or a `url`."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    title: str = ""
    type: ClassVar[str] = "document"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        return _media_json("document", self.media_type, self.data, self.url, self.title)


@record
class ThinkingBlock:
    """The model's reasoning. `signature` (or `redacted` data) must go back byte for byte, and only
    to the provider that gave it."""

    text: str = ""
    signature: str = ""
    redacted: str = ""
    origin: str = ""
    """Which wire gave it: `openai`, `google`; "" is Anthropic's, or one that seals nothing."""
    id: str = ""
    """The provider's own name of it, where it has one."""
    type: ClassVar[str] = "thinking"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        data: dict[str, JSON] = {"type": "thinking", "text": self.text}
        if self.signature:
            data["signature"] = self.signature
        if self.redacted:
            data["redacted"] = self.redacted
        if self.origin:
            data["origin"] = self.origin
        if self.id:
            data["id"] = self.id
        return data


@record
class ToolUse:
    """A call the model wants. `raw` keeps arguments that were not a JSON object, as sent."""

    id: str
    name: str
    input: Mapping[str, JSON]
    raw: str = ""
    signature: str = ""
    """Google's seal of the thought behind it: goes back to Google byte for byte."""
    type: ClassVar[str] = "tool_use"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        data: dict[str, JSON] = {
            "type": "tool_use",
            "id": self.id,
            "name": self.name,
            "input": self.input,
        }
        if self.raw:
            data["raw"] = self.raw
        if self.signature:
            data["signature"] = self.signature
        return data


@record
class ToolResultBlock:
    """What a call gave. `content` is text, or text and image blocks."""

    tool_use_id: str
    content: str | tuple[TextBlock | ImageBlock, ...] = ""
    is_error: bool = False
    type: ClassVar[str] = "tool_result"

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        data: dict[str, JSON] = {
            "type": "tool_result",
            "tool_use_id": self.tool_use_id,
            "content": content_to_json(self.content),
        }
        if self.is_error:
            data["is_error"] = True
        return data


Block: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | ToolUse | ToolResultBlock
)


@record
class Message:
    """One turn of one side."""

    role: Role
    content: tuple[Block, ...]

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return _joined(self.content)

    @property
    def tool_uses(self) -> list[ToolUse]:
        """The calls in it, in order."""
        return [block for block in self.content if isinstance(block, ToolUse)]

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        return {"role": self.role, "content": [block.to_json() for block in self.content]}


def _joined(content: Sequence[Block]) -> str:
    return "\n".join([block.text for block in content if isinstance(block, TextBlock)])


def content_to_json(content: str | Sequence[TextBlock | ImageBlock]) -> JSON:
    """The plain form of a tool result's content: a string stays a string."""
    return content if isinstance(content, str) else [block.to_json() for block in content]


def _media_json(kind: str, media_type: str, data: str, url: str, title: str) -> dict[str, JSON]:
    pairs = (("media_type", media_type), ("data", data), ("url", url), ("title", title))
    return {"type": kind, **{key: value for key, value in pairs if value}}


def _text(data: Mapping[str, JSON], key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"a {data.get('type', 'block')!r} block needs a string {key!r}")
    return value


def block_from_json(data: JSON) -> Block:
    """The reverse of a block's `to_json`. Raises ValueError naming what is wrong."""
    if not isinstance(data, (dict, Mapping)):  # the type that it nearly always is, first
        raise ValueError("a content block must be an object")
    match data.get("type"):
        case "text":
            return TextBlock(_text(data, "text"), _text(data, "phase", ""))
        case "thinking":
            return ThinkingBlock(
                *[_text(data, key, "") for key in ("text", "signature", "redacted", "origin", "id")]
            )
        case "tool_use":
            arguments = data.get("input")
            if not isinstance(arguments, (dict, Mapping)):
                raise ValueError("a 'tool_use' block needs an object 'input'")
            return ToolUse(
                _text(data, "id"),
                _text(data, "name"),
                arguments,
                _text(data, "raw", ""),
                _text(data, "signature", ""),
            )
        case "tool_result":
            return ToolResultBlock(
                _text(data, "tool_use_id"),
                content_from_json(data.get("content", "")),
                data.get("is_error") is True,
            )
        case "image":
            return ImageBlock(
                _text(data, "media_type", ""), _text(data, "data", ""), _text(data, "url", "")
            )
        case "document":
            return DocumentBlock(
                _text(data, "media_type", ""),
                _text(data, "data", ""),
                _text(data, "url", ""),
                _text(data, "title", ""),
            )
        case other:
            raise ValueError(f"unknown kind of content block: {other!r}")


def content_from_json(data: JSON) -> str | tuple[TextBlock | ImageBlock, ...]:
    """The reverse of `content_to_json`."""
    if isinstance(data, str):
        return data
    if not isinstance(data, Sequence):
        raise ValueError("a tool result's content must be a string or a list of blocks")
    blocks = [block_from_json(item) for item in data]
    parts = tuple(block for block in blocks if isinstance(block, TextBlock | ImageBlock))
    if len(parts) != len(blocks):
        raise ValueError("a tool result holds text and images only")
    return parts


def message_from_json(data: JSON) -> Message:
    """The reverse of `Message.to_json`. Raises ValueError naming what is wrong."""
    if not isinstance(data, (dict, Mapping)):
        raise ValueError("a message must be an object")
    role, content = data.get("role"), data.get("content")
    if role not in ("user", "assistant"):
        raise ValueError(f"unknown role {role!r}")
    if isinstance(content, str):
        return Message(role, (TextBlock(content),))
    if not isinstance(content, (list, tuple, Sequence)):
        raise ValueError("a message's content must be a list of blocks")
    return Message(role, tuple([block_from_json(item) for item in content]))


def user_message(text: str) -> Message:
    """A user message of one text block."""
    return Message("user", (TextBlock(text),))


@record
class Usage:
    """Tokens, counted by the provider. A new kind of token is a new field here, and one vendor's
    mapping: adding, storing and reporting go over the declared fields."""

    input_tokens: int = 0
    """Prompt tokens that were neither read from nor written to a cache."""
    output_tokens: int = 0
    """Everything generated, reasoning included."""
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of `output_tokens`, where the provider tells."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, _counts(self), _counts(other)))

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
        """The fields that are not zero. Written out: it is asked for with each reply."""
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
        """The reverse of `to_json`; unknown fields of newer versions are ignored."""
        get = data.get
        counts = [count if type(count := get(name)) is int else 0 for name in USAGE_FIELDS]
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


@record
class ToolSpec:
    """A tool as the model sees it. `input_schema` is JSON Schema for an object."""

    name: str
    description: str
    input_schema: Mapping[str, JSON]
    fingerprint: bytes = field(init=False, repr=False, compare=False)
    """12 bytes that differ when anything of it differs."""
    size: int = field(init=False, repr=False, compare=False)
    """Bytes of it in canonical JSON: about 4 a token."""

    def __post_init__(self) -> None:
        body = canonical(self.to_json())
        object.__setattr__(self, "fingerprint", blake2b(body, digest_size=12).digest())
        object.__setattr__(self, "size", len(body))

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": self.input_schema,
        }


@record
class CacheMarks:
    """Where prompt-cache breakpoints go, for providers that take them."""

    system: bool = False
    tools: bool = False
    message: int | None = None
    """Index of the message after which the prefix is stable."""


NO_MARKS: Final = CacheMarks()


@record
class OutputSchema:
    """The form that the answer's text has to have: JSON that fits a schema."""

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
    """Bounds the visible answer; a provider adds the thinking budget on the wire."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    thinking_tokens: int | None = None
    """Budget for thinking, in tokens; None: off."""
    effort: str = ""
    """`low`, `medium`, `high` or "": the model's own."""
    stream: bool = True
    cache: CacheMarks = NO_MARKS
    output: OutputSchema | None = None
    """The answer's text is to be JSON of this form; None: any text."""
    seed: int | None = None
    """For sampling, where the provider has it."""
    api: str = ""
    """Which of its wires a provider uses, if it has several: `chat` or `responses`; "": it
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
    """Nano-dollars, by the price table or as the provider says."""
    extra: Mapping[str, JSON] = field(default_factory=no_data)
    """What only this provider says."""

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return _joined(self.content)

    @property
    def tool_calls(self) -> list[ToolUse]:
        """The calls in it, in order."""
        return [block for block in self.content if isinstance(block, ToolUse)]

    @property
    def message(self) -> Message:
        """As a message of the conversation."""
        return Message("assistant", self.content)

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
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
    extra = data.get("extra")
    if isinstance(content, str) or not isinstance(content, (list, Sequence)):
        raise ValueError("a response needs a list of content blocks")
    return Response(
        tuple([block_from_json(item) for item in content]),
        StopReason(data.get("stop", "end_turn")),
        Usage.from_json(usage) if isinstance(usage, (dict, Mapping)) else NO_USAGE,
        _text(data, "model", ""),
        _text(data, "id", ""),
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
    """What the provider has counted so far; what a cancelled or failed attempt is charged."""

    usage: Usage


Delta: TypeAlias = TextDelta | ThinkingDelta | ToolInputDelta | UsageDelta


def canonical_message(message: Message) -> bytes:
    """Bytes that are equal for equal messages, for hashing and measuring."""
    return fingerprint(message.to_json())
