"""Stage 1, Input: check the caller's input and add it to the conversation."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import Field, JsonValue

from lorimer.core.errors import ExecutorErrorCode, StageError, ToolExecutionError
from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    block_from_json,
)
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState

_MEDIA: Final = ("images", "documents", "attachments")
_A_RUN_GETS: Final = (
    "A run gets only what is new. Give the last message's text, and continue a conversation with "
    "its session_id; one that another program has stored is shown by a context strategy."
)
_A: Final = {"image": "an image", "document": "a document"}


class Validator(Strategy):
    """Rejects input that must not reach a model."""

    def check(self, input: JSON) -> str:
        """What is wrong with the input; "": nothing."""
        raise TypeError(f"{type(self).__name__} has no check method")


class DefaultValidator(Validator):
    """Text of 1 to `max_length` characters, or a mapping with text or media."""

    name = "default"
    description = "Text that is not empty, or a mapping with text, images or documents."

    class Config(Settings):
        max_length: int = Field(1_000_000, ge=1)

    config: Config

    def check(self, input: JSON) -> str:
        if not isinstance(input, str | Mapping):
            return f"must be text or a mapping with 'text', not {type(input).__name__}"
        if not isinstance(input, str) and (fault := _misspelt(input)):
            return fault
        text = _text_of(input) or ""
        if not text.strip() and not _media_of(input) and not _attached(input):
            return "is empty" if isinstance(input, str) or "text" in input else "has no 'text'"
        if len(text) > self.config.max_length:
            return f"has {len(text):,} characters; the limit is {self.config.max_length:,}"
        return ""


class PassthroughValidator(Validator):
    """Anything that a normalizer can turn into a message: for hosts that have checked it."""

    name = "passthrough"
    description = "Nothing is checked."

    def check(self, input: JSON) -> str:
        return ""


class StrictValidator(DefaultValidator):
    """Like `default`, but shorter, and without the given phrases."""

    name = "strict"
    description = "Like default, with at most max_length characters and none of blocked_patterns."

    class Config(DefaultValidator.Config):
        max_length: int = Field(100_000, ge=1)
        blocked_patterns: list[str] = Field([])
        """Phrases that must not occur, ignoring case."""

    config: Config  # pyright: ignore[reportIncompatibleVariableOverride]

    def check(self, input: JSON) -> str:
        text = (_text_of(input) or "").casefold()
        for phrase in self.config.blocked_patterns:
            if phrase.casefold() in text:
                return f"contains the blocked phrase {phrase!r}"
        return super().check(input)


class SchemaValidator(Validator):
    """An object that conforms to a JSON Schema; for the normalizer `json`."""

    name = "schema"
    description = "An object that conforms to a JSON Schema."

    class Config(Settings):
        schema_: dict[str, JsonValue] = Field(alias="schema")
        """JSON Schema of the object."""

    config: Config

    def configure(self, config: Mapping[str, JSON]) -> None:
        from lorimer.tools.schema import compile_schema  # only if there is one

        super().configure(config)
        self._check = compile_schema(self.config.schema_, "the schema of the input")

    def check(self, input: JSON) -> str:
        if not isinstance(input, Mapping):
            return f"must be an object, not {type(input).__name__}"
        try:
            self._check(dict(input))
        except ToolExecutionError as error:
            return f"does not fit its schema: {error.message}"
        return ""


class Normalizer(Strategy):
    """Turns the input into a message."""

    def normalize(self, input: JSON) -> Message:
        """The user message. The input has passed the validator."""
        raise TypeError(f"{type(self).__name__} has no normalize method")


class DefaultNormalizer(Normalizer):
    """Text in Unicode NFC, without surrounding white space; media are rejected."""

    name = "default"
    description = "Text only, trimmed, Unicode NFC."

    def normalize(self, input: JSON) -> Message:
        if isinstance(input, str):
            return Message("user", (TextBlock(_clean(input)),))
        if _media_of(input) or _attached(input):
            raise StageError(
                "The input holds images, documents or attachments; choose the 'multimodal' "
                "normalizer.",
                code=ExecutorErrorCode.EXEC_INPUT_INVALID,
                hint='pipeline.swap_strategy("input", "normalizer", "multimodal")',
                stage_name="input",
                stage_order=1,
            )
        return Message("user", (TextBlock(_clean(_text_of(input) or "")),))


class MultimodalNormalizer(Normalizer):
    """Text, with `images` and `documents`: each {media_type, data} in base64, or {url}. Or all of
    them as `attachments`, distinguished by their `media_type`; one with a `text` is included as
    text under its `name`, one of another type is only mentioned."""

    name = "multimodal"
    description = "Text with images, documents and other attachments, given as base64 or URL."

    def normalize(self, input: JSON) -> Message:
        text = _clean(_text_of(input) or "")
        blocks: list[Block] = [*_media_of(input), *_texts_of(input)]
        if text:
            blocks.append(TextBlock(text))
        return Message("user", tuple(blocks))


class JSONNormalizer(Normalizer):
    """The input as JSON, whatever it is: for agents whose input is structured data."""

    name = "json"
    description = "The input as JSON text; text stays as it is."

    def normalize(self, input: JSON) -> Message:
        text = input if isinstance(input, str) else json.dumps(input, ensure_ascii=False, indent=2)
        return Message("user", (TextBlock(_clean(text)),))


class InputStage(Stage[JSON, Message]):
    """Validates and normalises the input and appends it as a user message. Returns it.

    A fork without an input continues from the last message, which it returns.
    """

    name = "input"
    order = 1
    category: ClassVar[str] = "ingress"

    validator = Slot(
        Validator,
        default="default",
        known={
            "default": "lorimer.stages.s01_input:DefaultValidator",
            "passthrough": "lorimer.stages.s01_input:PassthroughValidator",
            "strict": "lorimer.stages.s01_input:StrictValidator",
            "schema": "lorimer.stages.s01_input:SchemaValidator",
        },
    )
    normalizer = Slot(
        Normalizer,
        default="default",
        known={
            "default": "lorimer.stages.s01_input:DefaultNormalizer",
            "multimodal": "lorimer.stages.s01_input:MultimodalNormalizer",
            "json": "lorimer.stages.s01_input:JSONNormalizer",
        },
    )

    async def execute(self, input: JSON, state: PipelineState) -> Message:
        if input is None and "parent" in state.run.origin:
            return state.messages[-1]
        problem = self.validator.check(input)
        if problem:
            raise StageError(
                f"The input {problem}{'' if problem[-1] in '.?' else '.'}",
                code=ExecutorErrorCode.EXEC_INPUT_INVALID,
                hint=_A_RUN_GETS if _is_conversation(input) else "",
                stage_name="input",
                stage_order=1,
            )
        message = self.normalizer.normalize(input)
        if not state.messages.append(message, clean=True):
            raise StageError(
                "The input is empty: its normalizer left nothing of it that a model could read.",
                code=ExecutorErrorCode.EXEC_INPUT_INVALID,
                hint="Images and documents need the normalizer 'multimodal'.",
                stage_name="input",
                stage_order=1,
            )
        if state.run.wants("input.normalized"):
            state.run.signal("input.normalized", {"text_length": len(message.text)})
        return message


def _is_conversation(input: JSON) -> bool:
    """Whether it is a list of messages, as other libraries take it."""
    given = input.get("messages") if isinstance(input, Mapping) else input
    if isinstance(given, str) or not isinstance(given, Sequence):
        return False
    return bool(given) and all(isinstance(each, Mapping) and "role" in each for each in given)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", clean(text)).strip()


def _text_of(input: JSON) -> str | None:
    if isinstance(input, str):
        return input
    if isinstance(input, Mapping):
        text = input.get("text", "")
        return text if isinstance(text, str) else None
    return None


def _misspelt(input: Mapping[str, JSON]) -> str:
    """A likely typo in the keys of an input, because of which a part of it would silently be left
    out; "": none. A key that does not resemble one of ours is the host's own."""
    for key, value in input.items():
        if key == "text":
            if not isinstance(value, str):
                return f"must have text in 'text', not {type(value).__name__}"
        elif key in _MEDIA:
            if isinstance(value, str | Mapping) or not isinstance(value, Sequence | None):
                return f"must have a list in {key!r}, not {type(value).__name__}"
        else:
            from difflib import get_close_matches

            if close := get_close_matches(key, ("text", *_MEDIA), n=1, cutoff=0.8):
                return f"has {key!r}; did you mean {close[0]!r}?"
    return ""


def _attached(input: JSON) -> list[Mapping[str, JSON]]:
    """The attachments of an input. Those that are not objects are reported by `_media_of`."""
    if isinstance(input, str) or not isinstance(input, Mapping):  # nearly always text
        return []
    items = input.get("attachments", ())
    given = () if isinstance(items, str) or not isinstance(items, Sequence) else items
    return [item if isinstance(item, Mapping) else {"media_type": "image/?"} for item in given]


def _kind(item: Mapping[str, JSON]) -> str:
    """`images` or `documents`, if it is sent to a model as such; else ""."""
    media_type = str(item.get("media_type", ""))
    if "text" in item:
        return ""
    if media_type.startswith("image/"):
        return "images"
    return "documents" if media_type == "application/pdf" else ""


def _blocked(item: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """In the form of a block: a document's name becomes its title."""
    named = {"title": item["name"]} if "name" in item and "title" not in item else {}
    return {**item, **named}


def _texts_of(input: JSON) -> list[TextBlock]:
    """The attachments that become text."""
    found: list[TextBlock] = []
    for item in _attached(input):
        if not _kind(item):
            name, text = str(item.get("name", "a file")), item.get("text")
            media_type = str(item.get("media_type", "")) or "of an unknown type"
            told = f":\n{text}" if isinstance(text, str) else f", {media_type}: not shown"
            found.append(TextBlock(_clean(f"Attached, {name}{told}")))
    return found


def _media_of(input: JSON) -> list[ImageBlock | DocumentBlock]:
    if isinstance(input, str) or not isinstance(input, Mapping):  # nearly always text
        return []
    found: list[ImageBlock | DocumentBlock] = []
    for key, kind in (("images", "image"), ("documents", "document")):
        items = input.get(key, ())
        given = () if isinstance(items, str) or not isinstance(items, Sequence) else items
        attached = [_blocked(item) for item in _attached(input) if _kind(item) == key]
        for item in (*given, *attached):
            try:
                if not isinstance(item, Mapping):
                    raise TypeError(f"it is {dumps(item)[:60]}")
                block = block_from_json({"type": kind, **item})
                if isinstance(block, ImageBlock | DocumentBlock) and not (block.data or block.url):
                    raise ValueError("it has neither data nor url")
            except (TypeError, ValueError) as error:
                raise StageError(
                    f"The input's {key} contain something that is not {_A[kind]}: {error}.",
                    code=ExecutorErrorCode.EXEC_INPUT_INVALID,
                    hint='Each is {"media_type": ..., "data": base64}, or {"url": ...}.',
                    stage_name="input",
                    stage_order=1,
                ) from None
            if isinstance(block, ImageBlock | DocumentBlock):
                found.append(block)
    return found
