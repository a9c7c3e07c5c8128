"""The Gemini wire of the fake server: the format of turns and errors.

`fake_gemini_rules` decides which requests are rejected. Seals are set where the vendor sets them:
on the first call of an answer (for models from the third generation on, and for others after
thinking), and for a text without calls, if the turn requests it, in an empty part at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.models.wires.sse import parse_json
from lorimer.testing.fake_gemini_rules import Issued, check, seals
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

MODELS: Final = ("gemini-3.5-flash", "gemini-3.1-pro-preview", "gemini-2.5-flash")
"""The contents of the list of models, in addition to one for embeddings only."""

_STOPS: Final[Mapping[str, str]] = {
    "end_turn": "STOP",
    "stop_sequence": "STOP",
    "pause": "STOP",
    "tool_use": "STOP",
    "max_tokens": "MAX_TOKENS",
    "context_overflow": "MAX_TOKENS",
    "refusal": "SAFETY",
}
_STATUSES: Final[Mapping[int, str]] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE: Final = "type.googleapis.com/google.rpc."


class GeminiWire:
    """Writes in the format of Gemini's API, and remembers the seals it gave."""

    wire: Wire = "google"
    path = (
        r"/v1beta/models|"  # OpenAI and Anthropic have a list of models, too, under /v1
        r"/v1(beta)?/models/[^/:]+:(generateContent|streamGenerateContent|countTokens)"
    )
    ping = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def __init__(self) -> None:
        self._issued = Issued()

    def aside(self, request: SeenRequest) -> JSON:
        """The response to a request that calls no model, and uses no turn; None: it calls one."""
        path = request.path.partition("?")[0]
        if path.endswith("/models"):
            return _listed(request)
        if path.endswith(":countTokens"):
            return {"totalTokens": _tokens(request)}
        return None

    def check(self, request: SeenRequest) -> None:
        path, _, query = request.path.partition("?")
        if path.endswith("/models"):
            return
        if path.endswith(":streamGenerateContent") and "alt=sse" not in query.split("&"):
            raise Refused(400, "This server streams with alt=sse only.")
        check(request, self._issued)

    def message(self, turn: Turn, request: SeenRequest) -> JSON:
        parts: list[JSON] = []
        if turn.thinking:
            parts.append({"text": joined(turn.thinking), "thought": True})
        if turn.text:
            parts.append({"text": joined(turn.text)})
        parts += self._sealed(turn, request)
        return {
            "candidates": [_candidate(parts, _stop(turn))],
            **({"usageMetadata": _usage(turn.usage)} if turn.usage else {}),
            **_shell(turn, request),
        }

    def events(self, turn: Turn, request: SeenRequest) -> list[Event]:
        shell = _shell(turn, request)

        def chunk(part: JSON, usage: FakeUsage | None, finish: str = "") -> Event:
            counts: dict[str, JSON] = {"usageMetadata": _usage(usage)} if usage else {}
            return Event("", dumps({"candidates": [_candidate([part], finish)], **counts, **shell}))

        parts: list[JSON] = [
            *[{"text": piece, "thought": True} for piece in deltas(turn.thinking)],
            *[{"text": piece} for piece in deltas(turn.text)],
            *self._sealed(turn, request),
        ]
        begun = turn.usage and FakeUsage(turn.usage.input_tokens, 0, turn.usage.cache_read)
        out = [chunk(part, begun) for part in parts]
        # The vendor's last chunk has an empty text, the reason and the complete count.
        return [*out, chunk({"text": ""}, turn.usage, _stop(turn))]

    def error(self, refused: Refused, request_id: str) -> JSON:
        usual = "INVALID_ARGUMENT" if refused.status < 500 else "INTERNAL"
        error: dict[str, JSON] = {
            "code": refused.status,
            "message": refused.message,
            "status": refused.kind or _STATUSES.get(refused.status, usual),
        }
        if refused.code:
            info: JSON = {
                "@type": f"{_TYPE}ErrorInfo",
                "reason": refused.code,
                "domain": "googleapis.com",
            }
            error["details"] = [info]
        return {"error": error}

    def error_event(self, fault: ErrorEvent) -> Event:
        error: JSON = {
            "code": 503,
            "message": fault.message,
            "status": fault.kind or "UNAVAILABLE",
        }
        return Event("", dumps({"error": error}))

    def overflow(self, fault: ContextOverflow) -> Refused:
        return Refused(
            400,
            f"The input token count ({fault.tokens}) exceeds the maximum number of tokens allowed"
            f" ({fault.limit}).",
        )

    def wrong_key(self) -> Refused:
        message = "API key not valid. Please pass a valid API key."
        return Refused(400, message, code="API_KEY_INVALID")

    def _sealed(self, turn: Turn, request: SeenRequest) -> list[JSON]:
        """The calls, or an empty text, with their seal."""
        calls: list[dict[str, JSON]] = [{"functionCall": _call(call)} for call in turn.tool_calls]
        if calls and (turn.signature or turn.thinking or seals(request.model)):
            calls[0]["thoughtSignature"] = self._issued.give(calls[0], turn.signature)
        if not calls and turn.signature:
            empty: dict[str, JSON] = {"text": ""}
            calls = [{**empty, "thoughtSignature": self._issued.give(empty, turn.signature)}]
        return [*calls]


def _call(call: ToolCall) -> JSON:
    args: JSON = call.input
    if call.raw is not None:
        try:
            parsed = parse_json(call.raw)
            dumps(parsed).encode()
            args = parsed
        except ValueError:
            pass  # this wire has no place for what is not JSON, or a lone surrogate
    named: dict[str, JSON] = {"name": call.name, "args": args}
    return {"id": call.id, **named} if call.id else named


def _candidate(parts: list[JSON], finish: str) -> JSON:
    content: JSON = {"parts": parts, "role": "model"}
    return {"content": content, **({"finishReason": finish} if finish else {}), "index": 0}


def _shell(turn: Turn, request: SeenRequest) -> dict[str, JSON]:
    return {
        "modelVersion": turn.model or request.model,
        "responseId": f"fake{request.number:016d}",
    }


def _stop(turn: Turn) -> str:
    return _STOPS.get(turn.stop_reason, turn.stop_reason)


def _usage(usage: FakeUsage) -> JSON:
    """The vendor does not report tokens written to a cache."""
    prompt = usage.input_tokens + usage.cache_read
    spoken = usage.output_tokens - usage.reasoning
    counts: dict[str, JSON] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": spoken,
        "cachedContentTokenCount": usage.cache_read,
        "thoughtsTokenCount": usage.reasoning,
    }
    some = {name: value for name, value in counts.items() if value}
    return {**some, "totalTokenCount": prompt + usage.output_tokens}


def _listed(request: SeenRequest) -> JSON:
    """One page per model, so that a client has to page."""
    token = next(
        (p[10:] for p in request.path.split("?")[-1].split("&") if p[:10] == "pageToken="), "0"
    )
    at = int(token)
    if at == len(MODELS):
        embeds: JSON = {"name": "models/embed", "supportedGenerationMethods": ["embedContent"]}
        return {"models": [embeds]}
    methods: JSON = ["generateContent", "countTokens"]
    model: JSON = {"name": f"models/{MODELS[at]}", "supportedGenerationMethods": methods}
    return {"models": [model], "nextPageToken": str(at + 1)}


def _tokens(request: SeenRequest) -> int:
    """A count that is the same for the same prompt."""
    return -(-len(dumps(request.body)) // 4)
