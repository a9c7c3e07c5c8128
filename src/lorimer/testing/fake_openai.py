"""The OpenAI Chat Completions wire of the fake server: the format of turns and errors.

`fake_openai_rules` decides which requests are rejected. Thinking is sent as by OpenAI-compatible
servers, in a field of its own; OpenAI itself does not send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.testing.fake_openai_rules import check
from lorimer.testing.fake_turn import FakeUsage, Refused, SeenRequest, Turn, Wire, deltas, joined
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Event

_STOPS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "context_overflow": "length",
    "refusal": "content_filter",
}
_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    # type, code
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_CREATED: Final = 1_760_000_000
"""Seconds since the epoch: the same for every response, so that bodies are reproducible."""


class OpenAIWire:
    """Writes in the format of OpenAI's chat completions."""

    wire: Wire = "openai"
    path = "/v1/chat/completions"
    ping = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def __init__(self, reasoning_field: str = "reasoning") -> None:
        self._reasoning_field = reasoning_field

    def check(self, request: SeenRequest) -> None:
        check(request.body)

    def message(self, turn: Turn, request: SeenRequest) -> JSON:
        message: dict[str, JSON] = {
            "role": "assistant",
            "content": joined(turn.text) if turn.text or not turn.tool_calls else None,
            "refusal": None,
            "annotations": [],
        }
        if turn.thinking:
            message[self._reasoning_field] = joined(turn.thinking)
        if turn.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in turn.tool_calls
            ]
        choice: JSON = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _stop(turn),
        }
        answer = {**_shell(turn, request), "object": "chat.completion", "choices": [choice]}
        return {**answer, "usage": _usage(turn.usage)} if turn.usage else answer

    def events(self, turn: Turn, request: SeenRequest) -> list[Event]:
        shell: dict[str, JSON] = {**_shell(turn, request), "object": "chat.completion.chunk"}
        options = request.body.get("stream_options")
        counted = isinstance(options, Mapping) and options.get("include_usage") is True
        tail: dict[str, JSON] = {"usage": None} if counted else {}

        def chunk(delta: JSON, finish: str | None = None) -> Event:
            choice: JSON = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return Event("", dumps({**shell, "choices": [choice], **tail}))

        opening = None if turn.tool_calls and not turn.text else ""
        out = [
            chunk({"role": "assistant", "content": opening, "refusal": None}),
            *[chunk({self._reasoning_field: piece}) for piece in deltas(turn.thinking)],
            *[chunk({"content": piece}) for piece in deltas(turn.text)],
        ]
        for index, call in enumerate(turn.tool_calls):
            head: JSON = {"name": call.name, "arguments": ""}
            pieces: list[JSON] = [
                {"index": index, "id": call.id, "type": "function", "function": head},
                *[
                    {"index": index, "function": {"arguments": piece}}
                    for piece in deltas(call.arguments)
                ],
            ]
            out += [chunk({"tool_calls": [piece]}) for piece in pieces]
        out.append(chunk({}, _stop(turn)))
        if counted and turn.usage:
            final: JSON = {**shell, "choices": [], "usage": _usage(turn.usage)}
            out.append(Event("", dumps(final)))
        return [*out, Event("", "[DONE]")]

    def error(self, refused: Refused, request_id: str) -> JSON:
        usual = "server_error" if refused.status >= 500 else "invalid_request_error"
        kind, code = _ERRORS.get(refused.status, (usual, None))
        return {
            "error": {
                "message": refused.message,
                "type": refused.kind or kind,
                "param": refused.param,
                "code": refused.code or code,
            }
        }

    def error_event(self, fault: ErrorEvent) -> Event:
        kind = fault.kind or "server_error"
        error: JSON = {"message": fault.message, "type": kind, "param": None, "code": None}
        return Event("", dumps({"error": error}))

    def overflow(self, fault: ContextOverflow) -> Refused:
        return Refused(
            400,
            f"This model's maximum context length is {fault.limit} tokens. However, your messages"
            f" resulted in {fault.tokens} tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )

    def wrong_key(self) -> Refused:
        return Refused(401, "Incorrect API key provided.")


def _shell(turn: Turn, request: SeenRequest) -> dict[str, JSON]:
    return {
        "id": f"chatcmpl-fake{request.number:016d}",
        "created": _CREATED,
        "model": turn.model or request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def _stop(turn: Turn) -> str:
    return _STOPS.get(turn.stop_reason, turn.stop_reason)


def _usage(usage: FakeUsage) -> JSON:
    prompt = usage.input_tokens + usage.cache_read + usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
