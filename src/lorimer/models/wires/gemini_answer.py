"""Gemini's chunks, or its complete response, as the canonical answer.

A stream has no final event: it is complete when its body ends properly and a `finishReason` has
come. More may follow that reason, which some models send with every chunk. Consecutive fragments of
text form one block. A seal (`thoughtSignature`) stays with the call or the thought that carried it;
that of a text becomes a ThinkingBlock without text, just before the text it came with, or, for an
empty part, in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import JSON, clean, dumps
from lorimer.core.messages import Block, TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import (
    NO_USAGE,
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
from lorimer.models.wires.gemini_request import ORIGIN
from lorimer.models.wires.shared import (
    Assembler,
    Text,
    array,
    count,
    mapping,
    string,
    tool_use,
)
from lorimer.models.wires.sse import Event, parse_json

_STOPS: Final[Mapping[str, StopReason]] = {
    "STOP": StopReason.END_TURN,
    "MAX_TOKENS": StopReason.MAX_TOKENS,
    "CONTINUATION": StopReason.MAX_TOKENS,
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "IMAGE_OTHER",
            "NO_IMAGE",
            "ESCALATION",
            "PUP_LIMITED_DISABLED",
            "MODEL_ARMOR",
        ),
        StopReason.REFUSAL,
    ),
}
_FAILURES: Final[Mapping[str, ExecutorErrorCode]] = {
    # The model made a mistake, and its output is lost: asking again may help.
    "MALFORMED_FUNCTION_CALL": ExecutorErrorCode.EXEC_API_SERVER_ERROR,
    "UNEXPECTED_TOOL_CALL": ExecutorErrorCode.EXEC_API_SERVER_ERROR,
    "MALFORMED_RESPONSE": ExecutorErrorCode.EXEC_API_SERVER_ERROR,
    "OTHER": ExecutorErrorCode.EXEC_API_SERVER_ERROR,
    "FINISH_REASON_UNSPECIFIED": ExecutorErrorCode.EXEC_API_SERVER_ERROR,
    # The provider stopped its own loop of calls: another attempt repeats it, at full price.
    "TOO_MANY_TOOL_CALLS": ExecutorErrorCode.EXEC_API_TERMINAL,
    # The same request would lack the same seal.
    "MISSING_THOUGHT_SIGNATURE": ExecutorErrorCode.EXEC_API_BAD_REQUEST,
}
"""Finish reasons without an answer."""


class _Part:
    """A run of text or thought under construction, or an empty part with a seal."""

    __slots__ = ("signature", "text", "thought")

    def __init__(self, thought: bool) -> None:
        self.thought = thought
        self.text = Text()
        self.signature = ""


class GeminiAnswer(Assembler):
    """An `Assembler`; see `models.wires.shared`."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        super().__init__(provider, credentials)
        self._parts: list[_Part | ToolUse] = []
        self._calls = 0
        self._finish = ""
        self._blocked = False
        self._extra: dict[str, JSON] = {}

    def read(self, events: Iterable[Event]) -> Sequence[Delta]:
        """See `Assembler.read`. Unknown fields and parts are skipped, and all candidates but the
        first."""
        out: list[Delta] = []
        for _, text in events:
            self._take(parse_json(text), out)
        return out

    def whole(self, body: JSON) -> None:
        """See `Assembler.whole`. Also accepts an array of chunks: a stream that is not SSE."""
        self._take(body, [])

    def finish(self) -> Response:
        """See `Assembler.finish`. Raises APIError for a finish reason without an answer."""
        if not self._finish:
            raise incomplete(self._provider, "it ended without a finishReason", usage=self.usage)
        if self._finish in _FAILURES and not self._blocked:
            raise self._broke_off()
        stop = StopReason.REFUSAL if self._blocked else _STOPS.get(self._finish)
        if stop not in (StopReason.END_TURN, StopReason.MAX_TOKENS):
            self._extra["stop_reason"] = self._finish
        stop = stop or StopReason.END_TURN
        if self._calls and stop is StopReason.END_TURN:
            stop = StopReason.TOOL_USE
        content = tuple([block for part in self._parts for block in _blocks(part)])
        return self._response(content, stop, self._extra)

    def _take(self, body: JSON, out: list[Delta]) -> None:
        if isinstance(body, list) and body:
            for item in body:
                self._take(item, out)
            return
        chunk = mapping(body)
        if chunk.get("error"):
            raise self._failed(chunk["error"])
        if not self._id:
            self._id = string(chunk.get("responseId") or "")
        self._model = string(chunk.get("modelVersion") or self._model)
        for item in array(chunk.get("candidates") or []):
            candidate = mapping(item)
            if candidate.get("index", 0) == 0:
                content = mapping(candidate.get("content") or {})
                for part in array(content.get("parts") or []):
                    self._part(mapping(part), out)
                self._end(candidate)
        feedback = mapping(chunk.get("promptFeedback") or {})
        if feedback.get("blockReason"):
            self._blocked = True
            self._finish = string(feedback["blockReason"])
            self._explain(feedback.get("blockReasonMessage"))
        self._count(chunk.get("usageMetadata"), out)

    def _end(self, candidate: Mapping[str, JSON]) -> None:
        self._finish = string(candidate.get("finishReason") or self._finish)
        self._explain(candidate.get("finishMessage"))

    def _explain(self, message: JSON) -> None:
        if message:
            self._extra["stop_message"] = clean(string(message))

    def _part(self, part: Mapping[str, JSON], out: list[Delta]) -> None:
        signature = string(part.get("thoughtSignature") or "")
        if part.get("functionCall") is not None:
            self._call(mapping(part["functionCall"]), signature, out)
        elif "text" in part:
            self._write(string(part["text"]), part.get("thought") is True, signature, out)
        elif signature:
            self._write("", False, signature, out)

    def _call(self, call: Mapping[str, JSON], signature: str, out: list[Delta]) -> None:
        args = call.get("args")
        text = "{}" if args is None else clean(dumps(args))
        made = tool_use(string(call.get("id") or ""), clean(string(call["name"])), text, cut=False)
        out.append(ToolInputDelta(self._calls, "", made.name))
        out.append(ToolInputDelta(self._calls, made.raw or dumps(made.input)))
        self._calls += 1
        self._parts.append(ToolUse(made.id, made.name, made.input, made.raw, signature))

    def _write(self, text: str, thought: bool, signature: str, out: list[Delta]) -> None:
        last = self._parts[-1] if self._parts else None
        # Nothing is appended to a sealed part, and an empty text with a seal is a part of its own.
        alone = bool(signature) and not text and not thought
        if not isinstance(last, _Part) or last.signature or last.thought is not thought or alone:
            last = _Part(thought)
            self._parts.append(last)
        last.signature = signature
        piece = last.text.add(text) if text else ""
        if piece:
            out.append(ThinkingDelta(piece) if thought else TextDelta(piece))

    def _count(self, usage: JSON, out: list[Delta]) -> None:
        """Counts grow during the stream, and a chunk may lack some: use the latest of each."""
        if not isinstance(usage, dict):
            return
        old = self.usage
        prompt = old.input_tokens + old.cache_read_input_tokens
        if "promptTokenCount" in usage:
            # What the provider's own tools read is counted in addition.
            prompt = count(usage["promptTokenCount"]) + count(usage.get("toolUsePromptTokenCount"))
        cached = count(usage.get("cachedContentTokenCount"), old.cache_read_input_tokens)
        thought = count(usage.get("thoughtsTokenCount"), old.reasoning_tokens)
        spoken = count(usage.get("candidatesTokenCount"), old.output_tokens - old.reasoning_tokens)
        self.usage = Usage(max(0, prompt - cached), spoken + thought, 0, cached, thought)
        out.append(UsageDelta(self.usage))

    def _broke_off(self) -> APIError:
        told = self._extra.get("stop_message")
        why = f"{self._finish}: {self._credentials.redact(told)}" if isinstance(told, str) else ""
        return APIError(
            f"{self._provider} broke off its answer: {why or self._finish}",
            code=_FAILURES[self._finish],
            usage=self.usage if self.usage is not NO_USAGE else None,
        )


def _blocks(part: _Part | ToolUse) -> list[Block]:
    if isinstance(part, ToolUse):
        return [part]
    text = str(part.text)
    if part.thought:
        return (
            [ThinkingBlock(text, part.signature, origin=ORIGIN)] if text or part.signature else []
        )
    seal: list[Block] = [ThinkingBlock("", part.signature, origin=ORIGIN)] if part.signature else []
    return [*seal, TextBlock(text)] if text else seal
