"""A canonical request as the body of OpenAI's `/responses`, there and on other servers.

Nothing is stored at the provider (`store: false`): the model's thoughts come sealed and go back in
place, before the item that followed them, because the API rejects one without the other. Calls go
back without the provider's item ids: with them it demands every thought that it once paired with
them.

What the model would reject is left out and named in the answer's `extra["dropped"]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
)
from lorimer.core.request import OutputSchema, Request
from lorimer.models.wires.chat_request import Endpoint, data_url, most_tokens
from lorimer.models.wires.shared import (
    Encoded,
    Turn,
    array,
    effort_of,
    mapping,
    turns,
    wire_id,
    wire_name,
)
from lorimer.models.wires.sse import parse_json
from lorimer.models.wires.strict import closed

ORIGIN: Final = "openai"
"""Origin of the thoughts that this wire seals."""

MIN_OUTPUT: Final = 16
"""The smallest `max_output_tokens` that the API accepts."""

COUNTED: Final = ("model", "input", "instructions", "tools", "tool_choice", "reasoning", "text")
"""The parts of a request that `/responses/input_tokens` accepts."""


def encode(request: Request, default_effort: str, target: Endpoint) -> Encoded:
    """The body, and what was left out."""
    body: dict[str, JSON] = {
        "model": request.model,
        "input": _input(request.messages),
        "max_output_tokens": max(MIN_OUTPUT, most_tokens(request, target)),
        "store": False,
    }
    out = Encoded(body)
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": spec.name,
                "description": spec.description,
                "parameters": spec.input_schema,
                "strict": False,  # the default would rewrite or reject the schema
            }
            for spec in request.tools
        ]
        if request.tool_choice != "auto":
            body["tool_choice"] = _choice(request.tool_choice)
    _reason(request, default_effort, target, out)
    _sample(request, target, out)
    if request.output is not None:
        body["text"] = {"format": _format(request.output)}
    if request.stream:
        body["stream"] = True
    return out


def leave_out(encoded: Encoded, refusal: bytes) -> bool:
    """Remove from a rejected request what the provider says it cannot accept and the model can do
    without; returns whether there was something. These are thoughts sealed by another server or
    with another organization's key, and summaries of thoughts, which only verified organizations
    get."""
    try:
        error = mapping(mapping(parse_json(refusal.decode("utf-8", "replace")))["error"])
    except (ValueError, TypeError, KeyError):
        return False
    if error.get("code") == "invalid_encrypted_content":
        items = array(encoded.body["input"])
        kept = [item for item in items if mapping(item).get("type") != "reasoning"]
        if len(kept) < len(items):
            encoded.body["input"] = kept
            encoded.dropped.append("messages.thinking")
            return True
    reasoning = encoded.body.get("reasoning")
    if error.get("param") == "reasoning.summary" and isinstance(reasoning, Mapping):
        encoded.body["reasoning"] = {key: reasoning[key] for key in reasoning if key != "summary"}
        if encoded.body["reasoning"] != reasoning:
            encoded.dropped.append("thinking_tokens.summary")
            return True
    return False


def _choice(choice: str) -> JSON:
    match choice:
        case "any":
            return "required"
        case "none":
            return "none"
        case name:
            return {"type": "function", "name": name}


def _format(output: OutputSchema) -> JSON:
    return {
        "type": "json_schema",
        "name": output.name,
        "schema": output.schema,
        "strict": closed(output.schema),
    }


def _reason(request: Request, default: str, target: Endpoint, out: Encoded) -> None:
    explicit = request.effort or default
    if target.reasoning:
        out.body["include"] = ["reasoning.encrypted_content"]  # other models reject it
        effort = effort_of(request, default)
        reasoning: dict[str, JSON] = {"effort": effort} if effort else {}
        if request.thinking_tokens:
            # Only where thinking was requested: many organizations may not get summaries.
            reasoning["summary"] = "auto"
        if reasoning:
            out.body["reasoning"] = reasoning
        return
    if explicit and not target.official:
        out.body["reasoning"] = {"effort": explicit}  # their names do not show which models reason
    elif explicit:
        out.dropped.append("effort")
    if request.thinking_tokens:
        out.dropped.append("thinking_tokens")


def _sample(request: Request, target: Endpoint, out: Encoded) -> None:
    stops = request.stop_sequences or None
    for name, value, sent in (
        ("temperature", request.temperature, not target.reasoning),
        ("top_p", request.top_p, not target.reasoning),
        ("top_k", request.top_k, not target.official),
        ("stop_sequences", stops, False),  # this wire supports neither
        ("seed", request.seed, False),
    ):
        if value is None:
            continue
        if sent:
            out.body[name] = value
        else:
            out.dropped.append(name)


def _input(messages: Sequence[Message]) -> list[JSON]:
    out: list[JSON] = []
    for turn in turns(messages):
        if turn.role == "assistant":
            _assistant(turn, out)
        else:
            _user(turn, out)
    return out


def _assistant(turn: Turn, out: list[JSON]) -> None:
    thoughts: list[JSON] = []  # these wait for the item that followed
    for block in turn.blocks:
        item: JSON = None
        match block:
            case ThinkingBlock() if block.origin == ORIGIN and block.signature:
                thoughts.append(_thought(block))
            case TextBlock() if block.text:
                item = _said(block, len(out) + len(thoughts))
            case ToolUse():
                item = {
                    "type": "function_call",
                    "call_id": wire_id(block.id),
                    "name": wire_name(block.name),
                    "arguments": dumps(block.input),
                }
            case _:
                pass
        if item is not None:
            out += thoughts
            out.append(item)
            thoughts = []


def _thought(block: ThinkingBlock) -> JSON:
    summary: list[JSON] = [{"type": "summary_text", "text": block.text}] if block.text else []
    item: dict[str, JSON] = {"type": "reasoning", "summary": summary}
    if block.id:
        item["id"] = block.id
    item["encrypted_content"] = block.signature
    return item


def _said(block: TextBlock, place: int) -> JSON:
    # With id and status it is the model's own message, and only such a message may follow a
    # thought. The id refers to nothing: nothing is stored.
    part: JSON = {"type": "output_text", "text": block.text, "annotations": []}
    item: dict[str, JSON] = {
        "type": "message",
        "id": f"msg_{place}",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    if block.phase:
        item["phase"] = block.phase
    return item


def _user(turn: Turn, out: list[JSON]) -> None:
    out += [
        {
            "type": "function_call_output",
            "call_id": wire_id(block.tool_use_id),
            "output": _output(block),
        }
        for block in turn.blocks
        if isinstance(block, ToolResultBlock)
    ]
    parts = [part for block in turn.blocks if (part := _part(block)) is not None]
    if parts:
        out.append({"type": "message", "role": "user", "content": parts})


def _output(block: ToolResultBlock) -> JSON:
    if isinstance(block.content, str):
        return block.content
    return [part for item in block.content if (part := _part(item)) is not None]


def _part(block: Block) -> JSON:
    """A block as a part of a user message or of a result; None if it has no such form."""
    match block:
        case TextBlock():
            return {"type": "input_text", "text": block.text}
        case ImageBlock():
            return {
                "type": "input_image",
                "image_url": block.url or data_url(block),
                "detail": "auto",
            }
        case DocumentBlock() if block.url:
            return {"type": "input_file", "file_url": block.url}
        case DocumentBlock():
            name = block.title or f"document.{block.media_type.rpartition('/')[2]}"
            return {"type": "input_file", "filename": name, "file_data": data_url(block)}
        case _:
            return None
