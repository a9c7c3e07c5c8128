"""The OpenAI Responses wire of the fake server: the format of turns and errors.

`fake_responses_rules` decides which requests are rejected. As at the vendor, sealed thoughts are
only sent if requested (`include`), and so are summaries. A turn that stops with `refusal` contains
a refusal in words; `content_filter` stops the answer in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.testing.fake_openai import OpenAIWire
from lorimer.testing.fake_responses_rules import SEALED, Issued, check
from lorimer.testing.fake_turn import (
    FakeUsage,
    Refused,
    SeenRequest,
    Turn,
    Wire,
    deltas,
    joined,
)
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Event

_INCOMPLETE: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "context_overflow": "max_output_tokens",
}
_COMPLETED: Final = frozenset({"end_turn", "tool_use", "stop_sequence", "pause", "refusal"})
_CREATED: Final = 1_760_000_000
"""Seconds since the epoch: the same for every response, so that bodies are reproducible."""


class ResponsesWire:
    """Writes in the format of OpenAI's responses, and remembers the thoughts that it sealed."""

    wire: Wire = "responses"
    path = "/v1/responses"
    ping = b": keep-alive\n\n"
    request_id_header = "x-request-id"

    def __init__(self) -> None:
        self._issued = Issued()
        self._chat = OpenAIWire()  # the vendor's errors are the same on both wires

    def check(self, request: SeenRequest) -> None:
        check(request.body, self._issued)

    def message(self, turn: Turn, request: SeenRequest) -> JSON:
        return self._ended(turn, request, self._items(turn, request))

    def events(self, turn: Turn, request: SeenRequest) -> list[Event]:
        items = self._items(turn, request)
        begun: JSON = {**_shell(turn, request), "status": "in_progress", "output": []}
        ended = self._ended(turn, request, items)
        out: list[tuple[str, dict[str, JSON]]] = [
            ("response.created", {"response": begun}),
            ("response.in_progress", {"response": begun}),
        ]
        for index, item in enumerate(items):
            out += _streamed(turn, index, item)
        out.append((f"response.{ended['status']}", {"response": ended}))
        return [
            Event(name, dumps({"type": name, "sequence_number": number, **fields}))
            for number, (name, fields) in enumerate(out)
        ]

    def error(self, refused: Refused, request_id: str) -> JSON:
        return self._chat.error(refused, request_id)

    def error_event(self, fault: ErrorEvent) -> Event:
        code = fault.kind or "server_error"
        error: JSON = {"type": "error", "code": code, "message": fault.message, "param": None}
        return Event("error", dumps(error))

    def overflow(self, fault: ContextOverflow) -> Refused:
        return Refused(
            400,
            "Your input exceeds the context window of this model. Please adjust your input and try"
            " again.",
            param="input",
            code="context_length_exceeded",
        )

    def wrong_key(self) -> Refused:
        return self._chat.wrong_key()

    def _items(self, turn: Turn, request: SeenRequest) -> list[dict[str, JSON]]:
        """The output; thoughts in it are remembered."""
        items: list[dict[str, JSON]] = []
        if turn.text:
            refused = turn.stop_reason == "refusal"
            part: JSON = (
                {"type": "refusal", "refusal": joined(turn.text)}
                if refused
                else {
                    "type": "output_text",
                    "text": joined(turn.text),
                    "annotations": [],
                    "logprobs": [],
                }
            )
            items.append({**_item("message", "msg", request), "role": "assistant"})
            items[-1]["content"] = [part]
            if turn.phase:
                items[-1]["phase"] = turn.phase
        for number, call in enumerate(turn.tool_calls):
            items.append(
                {
                    **_item("function_call", "fc", request, number),
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments,
                }
            )
        if turn.stop_reason not in _COMPLETED and items:
            items[-1]["status"] = "incomplete"
        if turn.thinking or turn.signature:
            thought = self._thought(turn, request)
            self._issued.note(thought, items[0] if items else None)
            items.insert(0, thought)
        return items

    def _thought(self, turn: Turn, request: SeenRequest) -> dict[str, JSON]:
        reasoning, include = request.body.get("reasoning"), request.body.get("include")
        told = isinstance(reasoning, Mapping) and reasoning.get("summary")
        sealed = isinstance(include, list) and SEALED in include
        text = joined(turn.thinking)
        summary: list[JSON] = [{"type": "summary_text", "text": text}] if told and text else []
        item = _item("reasoning", "rs", request)
        del item["status"]
        # A restarted server does not repeat ids either.
        item["id"] = f"{item['id']}{sha256(turn.seal.encode()).hexdigest()[:12]}"
        item["summary"] = summary
        if sealed:
            item["encrypted_content"] = turn.seal
        return item

    def _ended(
        self, turn: Turn, request: SeenRequest, items: list[dict[str, JSON]]
    ) -> dict[str, JSON]:
        stop = turn.stop_reason
        whole = stop in _COMPLETED
        details: JSON = None if whole else {"reason": _INCOMPLETE.get(stop, stop)}
        answer: dict[str, JSON] = {
            **_shell(turn, request),
            "status": "completed" if whole else "incomplete",
            "incomplete_details": details,
            "output": items,
        }
        return {**answer, "usage": _usage(turn.usage)} if turn.usage else answer


def _shell(turn: Turn, request: SeenRequest) -> dict[str, JSON]:
    return {
        "id": f"resp_fake{request.number:016d}",
        "object": "response",
        "created_at": _CREATED,
        "error": None,
        "incomplete_details": None,
        "model": turn.model or request.model,
        "parallel_tool_calls": True,
        "store": request.body.get("store") is not False,
        "tool_choice": "auto",
        "tools": [],
    }


def _item(kind: str, prefix: str, request: SeenRequest, number: int = 0) -> dict[str, JSON]:
    own = f"{prefix}_fake{request.number:016d}{number:04d}"
    return {"type": kind, "id": own, "status": "completed"}


def _streamed(turn: Turn, index: int, item: dict[str, JSON]) -> list[tuple[str, dict[str, JSON]]]:
    """The events of one item."""
    here: dict[str, JSON] = {"item_id": item["id"], "output_index": index}
    empty: dict[str, JSON] = dict(item)
    inner: list[tuple[str, dict[str, JSON]]] = []

    def say(name: str, pieces: tuple[str, ...], done: str, at: dict[str, JSON]) -> None:
        inner.extend((f"response.{name}.delta", {**here, **at, "delta": one}) for one in pieces)
        inner.append((f"response.{name}.done", {**here, **at, done: "".join(pieces)}))

    match item["type"]:
        case "reasoning":
            empty["summary"] = []
            if "encrypted_content" in item:
                empty["encrypted_content"] = "incomplete"
            if item["summary"]:
                at: dict[str, JSON] = {"summary_index": 0}
                part: JSON = {"type": "summary_text", "text": ""}
                inner.append(
                    ("response.reasoning_summary_part.added", {**here, **at, "part": part})
                )
                say("reasoning_summary_text", deltas(turn.thinking), "text", at)
                part = {"type": "summary_text", "text": joined(turn.thinking)}
                inner.append(("response.reasoning_summary_part.done", {**here, **at, "part": part}))
        case "message":
            content = item["content"]
            assert isinstance(content, list)
            part = content[0]
            assert isinstance(part, dict)
            empty |= {"content": [], "status": "in_progress"}
            at = {"content_index": 0}
            refuses = part["type"] == "refusal"
            field = "refusal" if refuses else "text"
            started: JSON = {**part, field: ""}
            inner.append(("response.content_part.added", {**here, **at, "part": started}))
            logged: dict[str, JSON] = {} if refuses else {"logprobs": []}
            say("refusal" if refuses else "output_text", deltas(turn.text), field, {**at, **logged})
            inner.append(("response.content_part.done", {**here, **at, "part": part}))
        case _:
            empty |= {"arguments": "", "status": "in_progress"}
            say("function_call_arguments", deltas(str(item["arguments"])), "arguments", {})
    return [
        ("response.output_item.added", {"output_index": index, "item": empty}),
        *inner,
        ("response.output_item.done", {"output_index": index, "item": item}),
    ]


def _usage(usage: FakeUsage) -> JSON:
    asked = usage.input_tokens + usage.cache_read + usage.cache_write
    return {
        "input_tokens": asked,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": asked + usage.output_tokens,
    }
