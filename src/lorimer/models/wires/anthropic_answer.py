"""Anthropic's events, or its complete message, as the canonical answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, TextBlock, ThinkingBlock
from lorimer.core.request import (
    Delta,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.errors import incomplete
from lorimer.models.wires.shared import (
    CUTTING,
    Assembler,
    Text,
    array,
    count,
    mapping,
    shallow,
    string,
    tool_use,
)
from lorimer.models.wires.sse import Event, parse_json

_STOPS: Final[Mapping[str, StopReason]] = {
    "end_turn": StopReason.END_TURN,
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.MAX_TOKENS,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "pause_turn": StopReason.PAUSE,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.CONTEXT_OVERFLOW,
}
_PROMPT: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _Part:
    """A content block under construction."""

    __slots__ = ("call", "data", "id", "input", "kind", "name", "signature", "text")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.text = Text()
        """Text, thinking, or the JSON of a call's arguments."""
        self.signature: list[str] = []
        self.data = ""
        self.id = ""
        self.name = ""
        self.call = 0
        """Index of the call in the answer."""
        self.input: JSON = None
        """Arguments that came in one piece."""


class AnthropicAnswer(Assembler):
    """An `Assembler`; see `models.wires.shared`."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        super().__init__(provider, credentials)
        self._parts: dict[JSON, _Part] = {}
        self._calls = 0
        self._stop = ""
        self._extra: dict[str, JSON] = {}
        self._started = False

    def read(self, events: Iterable[Event]) -> Sequence[Delta]:
        """See `Assembler.read`. Unknown events, blocks and fields are skipped."""
        out: list[Delta] = []
        for _, text in events:
            data = mapping(parse_json(text))
            if "type" not in data and data.get("error"):  # a gateway's own
                raise self._failed(data["error"])
            match data["type"]:
                case "content_block_delta":
                    self._delta(self._parts[data["index"]], mapping(data["delta"]), out)
                case "content_block_start":
                    self._begin(data["index"], mapping(data["content_block"]), out)
                case "message_delta":
                    self._end(mapping(data["delta"]))
                    self._count(data.get("usage"), out)
                case "message_start":
                    self._start(mapping(data["message"]), out)
                case "message_stop":
                    self.done = True
                    return out
                case "error":
                    raise self._failed(data.get("error"))
                case other:
                    string(other)
        return out

    def whole(self, body: JSON) -> None:
        """See `Assembler.whole`."""
        message = mapping(body)
        if message.get("type") == "error" or (message.get("error") and "content" not in message):
            raise self._failed(message.get("error"))
        ignored: list[Delta] = []
        self._start(message, ignored)
        for index, block in enumerate(array(message["content"])):
            self._begin(index, mapping(block), ignored)
        self._end(message)
        self.done = True

    def finish(self) -> Response:
        """See `Assembler.finish`."""
        if not self.done or not self._stop:
            missing = "message_stop" if not self.done else "a stop reason"
            raise incomplete(self._provider, f"it ended without {missing}", usage=self.usage)
        stop = _STOPS.get(self._stop, StopReason.END_TURN)
        if self._stop not in _STOPS:
            self._extra["stop_reason"] = self._stop
        parts = list(self._parts.values())
        content = tuple(
            block
            for part in parts
            if (block := self._block(part, cut=stop in CUTTING and part is parts[-1])) is not None
        )
        if self._calls and stop is StopReason.END_TURN:
            stop = StopReason.TOOL_USE
        return self._response(content, stop, self._extra)

    def _start(self, message: Mapping[str, JSON], out: list[Delta]) -> None:
        if self._started:
            raise ValueError("the message starts twice")
        self._started = True
        self._model = string(message.get("model", ""))
        self._id = string(message.get("id", ""))
        self._count(message.get("usage"), out)

    def _end(self, data: Mapping[str, JSON]) -> None:
        self._stop = string(data.get("stop_reason") or self._stop)
        for name in ("stop_sequence", "stop_details"):
            if (said := shallow(data.get(name))) is not None:
                self._extra[name] = said

    def _count(self, usage: JSON, out: list[Delta]) -> None:
        """Counts are cumulative and any may be null: use the latest of each. Other servers count
        the prompt at the beginning only, and then as 0; or whole at the beginning (vLLM), and say
        only at the end what of it was cached."""
        if not isinstance(usage, dict):
            return
        details = usage.get("output_tokens_details")
        thought = details.get("thinking_tokens") if isinstance(details, dict) else None
        old = self.usage
        asked = usage if any(map(usage.get, _PROMPT)) else {}
        self.usage = Usage(
            count(asked.get("input_tokens"), old.input_tokens),
            count(usage.get("output_tokens"), old.output_tokens),
            count(asked.get("cache_creation_input_tokens"), old.cache_creation_input_tokens),
            count(asked.get("cache_read_input_tokens"), old.cache_read_input_tokens),
            count(thought, old.reasoning_tokens),
        )
        out.append(UsageDelta(self.usage))

    def _begin(self, index: JSON, block: Mapping[str, JSON], out: list[Delta]) -> None:
        if index in self._parts:
            raise ValueError(f"block {index} starts twice")
        part = self._parts[index] = _Part(string(block["type"]))
        match part.kind:
            case "text":
                self._text(part, string(block.get("text", "")), out)
            case "thinking":
                part.signature.append(string(block.get("signature") or ""))
                self._thought(part, string(block.get("thinking", "")), out)
            case "redacted_thinking":
                part.data = string(block["data"])
            case "tool_use":
                part.id = string(block.get("id") or "")
                part.name = string(block["name"])
                part.input = block.get("input")
                part.call = self._calls
                self._calls += 1
                out.append(ToolInputDelta(part.call, "", part.name))
            case _:
                pass  # results of the provider's own tools: not ours

    def _delta(self, part: _Part, delta: Mapping[str, JSON], out: list[Delta]) -> None:
        match delta["type"]:
            case "text_delta":
                self._text(part, string(delta["text"]), out)
            case "input_json_delta":
                piece = part.text.add(string(delta["partial_json"]))
                if piece and part.kind == "tool_use":
                    out.append(ToolInputDelta(part.call, piece))
            case "thinking_delta":
                self._thought(part, string(delta["thinking"]), out)
            case "signature_delta":
                part.signature.append(string(delta["signature"]))
            case _:
                pass

    def _text(self, part: _Part, piece: str, out: list[Delta]) -> None:
        piece = part.text.add(piece)
        if piece:
            out.append(TextDelta(piece))

    def _thought(self, part: _Part, piece: str, out: list[Delta]) -> None:
        piece = part.text.add(piece)
        if piece:
            out.append(ThinkingDelta(piece))

    def _block(self, part: _Part, *, cut: bool) -> Block | None:
        text = str(part.text)
        match part.kind:
            case "text":
                return TextBlock(text) if text else None
            case "thinking":
                return ThinkingBlock(text, "".join(part.signature))
            case "redacted_thinking":
                return ThinkingBlock(redacted=part.data)
            case "tool_use":
                if not text and part.input:
                    text = dumps(part.input)
                return tool_use(part.id, clean(part.name), text, cut=cut)
            case _:
                return None
