"""The Anthropic Messages wire of the fake server: the format of turns and errors.

`fake_anthropic_rules` decides which requests are rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import loads
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.testing.fake_anthropic_rules import Issued, check
from lorimer.testing.fake_turn import (
    FakeUsage,
    Refused,
    SeenRequest,
    ToolCall,
    Turn,
    Wire,
    deltas,
    joined,
)
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Event

_STOPS: Final[Mapping[str, str]] = {
    "pause": "pause_turn",
    "context_overflow": "model_context_window_exceeded",
}
_ERRORS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicWire:
    """Writes in Anthropic's format, and remembers the thinking it signed."""

    wire: Wire = "anthropic"
    path = "/v1/messages"
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    request_id_header = "request-id"

    def __init__(self) -> None:
        self._issued = Issued()

    def check(self, request: SeenRequest) -> None:
        check(request, self._issued)

    def message(self, turn: Turn, request: SeenRequest) -> JSON:
        self._issued.note(turn)
        return {
            **_shell(turn, request),
            "content": _blocks(turn),
            **_stop(turn, request),
            **({"usage": _usage(turn.usage)} if turn.usage else {}),
        }

    def events(self, turn: Turn, request: SeenRequest) -> list[Event]:
        self._issued.note(turn)
        start: dict[str, JSON] = {
            **_shell(turn, request),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
        }
        if turn.usage:
            start["usage"] = {
                **_usage(turn.usage),
                "output_tokens": min(1, turn.usage.output_tokens),  # the vendor's first guess
            }
        out = [_event("message_start", message=start), _event("ping")]
        for index, (empty, pieces) in enumerate(_streamed(turn)):
            out.append(_event("content_block_start", index=index, content_block=empty))
            out += [_event("content_block_delta", index=index, delta=piece) for piece in pieces]
            out.append(_event("content_block_stop", index=index))
        final: dict[str, JSON] = {"delta": _stop(turn, request)}
        if turn.usage:
            final["usage"] = _counts(turn.usage)
        return [*out, _event("message_delta", **final), _event("message_stop")]

    def error(self, refused: Refused, request_id: str) -> JSON:
        usual = "api_error" if refused.status >= 500 else "invalid_request_error"
        kind = refused.kind or _ERRORS.get(refused.status, usual)
        error: JSON = {"type": kind, "message": refused.message}
        return {"type": "error", "error": error, "request_id": request_id}

    def error_event(self, fault: ErrorEvent) -> Event:
        kind = fault.kind or "overloaded_error"
        return _event("error", error={"type": kind, "message": fault.message})

    def overflow(self, fault: ContextOverflow) -> Refused:
        return Refused(400, f"prompt is too long: {fault.tokens} tokens > {fault.limit} maximum")

    def wrong_key(self) -> Refused:
        return Refused(401, "invalid x-api-key")


def _event(name: str, **fields: JSON) -> Event:
    return Event(name, dumps({"type": name, **fields}))


def _shell(turn: Turn, request: SeenRequest) -> dict[str, JSON]:
    return {
        "id": f"msg_fake{request.number:016d}",
        "type": "message",
        "role": "assistant",
        "model": turn.model or request.model,
    }


def _stop(turn: Turn, request: SeenRequest) -> dict[str, JSON]:
    stop, sequence, details = turn.stop_reason, None, None
    if stop == "stop_sequence":
        asked = request.body.get("stop_sequences")
        sequence = asked[0] if isinstance(asked, list) and asked else "\n\n"
    if stop == "refusal":
        details = {"type": "refusal", "category": None, "explanation": None}
    return {
        "stop_reason": _STOPS.get(stop, stop),
        "stop_sequence": sequence,
        "stop_details": details,
    }


def _counts(usage: FakeUsage) -> dict[str, JSON]:
    counts: dict[str, JSON] = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def _usage(usage: FakeUsage) -> dict[str, JSON]:
    written = usage.cache_write
    return {
        **_counts(usage),
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def _blocks(turn: Turn) -> list[JSON]:
    blocks: list[JSON] = []
    if turn.thinking or turn.signature:
        thinking = joined(turn.thinking)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": turn.seal})
    if turn.redacted_thinking:
        blocks.append({"type": "redacted_thinking", "data": turn.redacted_thinking})
    if turn.text:
        blocks.append({"type": "text", "text": joined(turn.text)})
    return blocks + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)}
        for call in turn.tool_calls
    ]


def _input(call: ToolCall) -> JSON:
    if call.raw is not None:
        try:
            raw: JSON = loads(call.raw)
        except ValueError:
            return call.input  # this format has no place for what is not JSON
        return raw
    return call.input


def _streamed(turn: Turn) -> list[tuple[JSON, list[JSON]]]:
    """The start of each block, and its deltas."""
    out: list[tuple[JSON, list[JSON]]] = []
    if turn.thinking or turn.signature:
        pieces: list[JSON] = [
            *[{"type": "thinking_delta", "thinking": piece} for piece in deltas(turn.thinking)],
            {"type": "signature_delta", "signature": turn.seal},
        ]
        out.append(({"type": "thinking", "thinking": "", "signature": ""}, pieces))
    if turn.redacted_thinking:
        out.append(({"type": "redacted_thinking", "data": turn.redacted_thinking}, []))
    if turn.text:
        pieces = [{"type": "text_delta", "text": piece} for piece in deltas(turn.text)]
        out.append(({"type": "text", "text": ""}, pieces))
    for call in turn.tool_calls:
        pieces = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ("", *deltas(call.arguments))
        ]
        empty: JSON = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        out.append((empty, pieces))
    return out
