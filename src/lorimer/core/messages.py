"""The canonical conversation: messages and their blocks.

Every provider is translated from and to these. They are plain immutable values; `to_json` and
`*_from_json` are lossless.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from lorimer.core.arguments import is_a, wrong
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.record import record

Role: TypeAlias = Literal["user", "assistant"]


@record
class TextBlock:
    """Text written by the user or the model."""

    text: str
    phase: str = ""
    """OpenAI's marker: `commentary` (interim text) or `final_answer`; sent back to OpenAI, whose
    models do worse without it. "": not given."""
    type: ClassVar[str] = "text"

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
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

    def __post_init__(self) -> None:
        _require_text(self.data, "ImageBlock")

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str) -> ImageBlock:
        """Of a file's bytes: `ImageBlock.from_bytes(path.read_bytes(), "image/png")`."""
        return cls(media_type, b64encode(data).decode("ascii"))

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        return _media_json("image", self.media_type, self.data, self.url, "")


@record
class DocumentBlock:
    """A document such as a PDF: base64 `data` of `media_type`, or a `url`."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    title: str = ""
    type: ClassVar[str] = "document"

    def __post_init__(self) -> None:
        _require_text(self.data, "DocumentBlock")

    @classmethod
    def from_bytes(cls, data: bytes, media_type: str) -> DocumentBlock:
        """Of a file's bytes: `DocumentBlock.from_bytes(path.read_bytes(), "application/pdf")`."""
        return cls(media_type, b64encode(data).decode("ascii"))

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        return _media_json("document", self.media_type, self.data, self.url, self.title)


@record
class ThinkingBlock:
    """The model's reasoning. `signature` (or `redacted` data) must go back byte for byte, and only
    to the provider that gave it."""

    text: str = ""
    signature: str = ""
    redacted: str = ""
    origin: str = ""
    """Where it came from: `openai`, `google`; `chat:NAME`, a server of that name with OpenAI's chat
    API; "" for Anthropic, or a provider without signatures."""
    id: str = ""
    """The provider's own id for it, if it has one; for `chat:NAME` the field that it came in."""
    type: ClassVar[str] = "thinking"

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
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
    """A tool call requested by the model. `raw` keeps arguments that were not a JSON object, as
    sent."""

    id: str
    name: str
    input: Mapping[str, JSON]
    raw: str = ""
    signature: str = ""
    """Google's signature of the thought behind it: sent back to Google byte for byte."""
    type: ClassVar[str] = "tool_use"

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
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
    """The result of a call. `content` is text, or text and image blocks."""

    tool_use_id: str
    content: str | tuple[TextBlock | ImageBlock, ...] = ""
    is_error: bool = False
    type: ClassVar[str] = "tool_result"

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
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
    """A message of the user or the model."""

    role: Role
    content: tuple[Block, ...]

    @property
    def text(self) -> str:
        """The text blocks, joined by newlines."""
        return joined(self.content)

    @property
    def tool_uses(self) -> list[ToolUse]:
        """The tool calls in it, in order."""
        return [block for block in self.content if isinstance(block, ToolUse)]

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
        return {"role": self.role, "content": [block.to_json() for block in self.content]}


def joined(content: Sequence[Block]) -> str:
    """The text blocks, joined by newlines."""
    return "\n".join([block.text for block in content if isinstance(block, TextBlock)])


def content_to_json(content: str | Sequence[TextBlock | ImageBlock]) -> JSON:
    """A tool result's content as plain data: a string stays a string."""
    return content if isinstance(content, str) else [block.to_json() for block in content]


def _require_text(data: object, kind: str) -> None:
    """Bytes would be found out far from here, when a conversation is recorded."""
    if not isinstance(data, str):
        raise TypeError(
            f"the data of {kind} is base64 text, not {type(data).__name__}: {kind}.from_bytes"
            "(data, media_type) makes one of a file's bytes"
        )


def _media_json(kind: str, media_type: str, data: str, url: str, title: str) -> dict[str, JSON]:
    pairs = (("media_type", media_type), ("data", data), ("url", url), ("title", title))
    return {"type": kind, **{key: value for key, value in pairs if value}}


def text_in(data: Mapping[str, JSON], key: str, default: str | None = None) -> str:
    """A string in stored data. Raises ValueError for anything else, or if it is missing without a
    default."""
    value = data.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"a {data.get('type', 'block')!r} block needs a string {key!r}")
    return value


def block_from_json(data: JSON) -> Block:
    """The reverse of a block's `to_json`. Raises ValueError naming what is wrong."""
    if not isinstance(data, (dict, Mapping)):  # by far the most frequent type, first
        raise ValueError("a content block must be an object")
    match data.get("type"):
        case "text":
            return TextBlock(text_in(data, "text"), text_in(data, "phase", ""))
        case "thinking":
            return ThinkingBlock(
                *[
                    text_in(data, key, "")
                    for key in ("text", "signature", "redacted", "origin", "id")
                ]
            )
        case "tool_use":
            arguments = data.get("input")
            if not isinstance(arguments, (dict, Mapping)):
                raise ValueError("a 'tool_use' block needs an object 'input'")
            if len(data) == 4:  # by far the most frequent
                return ToolUse(text_in(data, "id"), text_in(data, "name"), arguments)
            return ToolUse(
                text_in(data, "id"),
                text_in(data, "name"),
                arguments,
                text_in(data, "raw", ""),
                text_in(data, "signature", ""),
            )
        case "tool_result":
            return ToolResultBlock(
                text_in(data, "tool_use_id"),
                content_from_json(data.get("content", "")),
                data.get("is_error") is True,
            )
        case "image":
            return ImageBlock(
                text_in(data, "media_type", ""), text_in(data, "data", ""), text_in(data, "url", "")
            )
        case "document":
            return DocumentBlock(
                text_in(data, "media_type", ""),
                text_in(data, "data", ""),
                text_in(data, "url", ""),
                text_in(data, "title", ""),
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


def prompt_messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    """A prompt as messages. Raises ConfigError for anything else."""
    if isinstance(prompt, str):
        return (user_message(prompt),)
    example = 'message_from_json({"role": "user", "content": "Hello"})'
    if not is_a(prompt, Sequence):
        raise wrong("prompt", prompt, "text, or a list of Messages", example)
    for message in prompt:
        if not is_a(message, Message):
            raise wrong("each message of a prompt", message, "a Message", example)
    return tuple(prompt)


def canonical_message(message: Message) -> bytes:
    """Bytes that are equal for equal messages; for hashing and measuring."""
    return fingerprint(message.to_json())
