"""A canonical request as the body of Anthropic's `/v1/messages`.

What a model or the API version would reject is left out and named in the answer's
`extra["dropped"]`, rather than failing the call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lorimer.core.jsonable import JSON
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
from lorimer.core.request import Request
from lorimer.models.wires.shared import (
    Encoded,
    array,
    effort_of,
    mapping,
    plain_text,
    string,
    turns,
    wire_id,
    wire_name,
)
from lorimer.models.wires.strict import claude_takes, told_in_words

MIN_THINKING: Final = 1024
SAMPLING_VERSION: Final = "2023-06-01"
"""The last API version with temperature, top_p and top_k: 2026-10-21 rejects any value."""

_EPHEMERAL: Final[JSON] = {"type": "ephemeral"}
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_FOREIGN: Final = re.compile(r"invalid .?signature", re.IGNORECASE)
_MISSING: Final = re.compile(r"thinking.{0,60}must be passed back", re.IGNORECASE)
_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_SAMPLING: Final = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model supports."""

    adaptive: bool = False
    """Decides itself how much to think (`adaptive`), and rejects a budget."""
    sampling: bool = True
    """Accepts temperature, top_p and top_k."""
    one_sampler: bool = False
    """Accepts only one of temperature and top_p."""
    effort: bool = False
    """Accepts `output_config.effort`."""
    form: bool = False
    """Accepts `output_config.format`: can be held to a schema, if the schema qualifies."""


def abilities(model: str) -> Abilities:
    """By the version in the name. A Claude without one is treated as the newest; a model that is
    not a Claude (of another server with this API) like the classic ones."""
    if "claude" not in model:
        return Abilities()
    version = _version(model)
    new = version >= (4, 7)
    effort = version >= (4, 6) or (version == (4, 5) and "opus" in model)
    return Abilities(new, not new, version >= (4, 1), effort, version >= (4, 5))


def _version(model: str) -> tuple[int, int]:
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)


def encode(request: Request, default_effort: str) -> Encoded:
    """The body, the headers in addition to the SDK's, and what was left out."""
    able = abilities(request.model)
    form = request.output
    if form is not None and not (able.form and claude_takes(form.schema)):
        request = told_in_words(request)
    messages = _messages(request)
    body: dict[str, JSON] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": messages,
    }
    out = Encoded(body)
    if form is not None and request.output is None:
        out.dropped.append("output")
    if request.system:
        block: dict[str, JSON] = {"type": "text", "text": request.system}
        body["system"] = (
            [{**block, "cache_control": _EPHEMERAL}] if request.cache.system else request.system
        )
    _tools(request, body)
    stops: list[JSON] = [stop for stop in request.stop_sequences if stop.strip()]
    if stops:
        body["stop_sequences"] = stops
    if len(stops) < len(request.stop_sequences):  # white space alone is rejected
        out.dropped.append("stop_sequences")
    thinks = _thinking(request, able, messages, out)
    _output(request, able, default_effort, out)
    _sample(request, able, out, thinks=thinks)
    if request.stream:
        body["stream"] = True
    return out


def leave_out(encoded: Encoded, refusal: str) -> bool:
    """Change a rejected request into one that may be accepted; returns whether there was anything
    to change. Thoughts that another server with this API signed are left out; a server (DeepSeek)
    that demands thoughts where there were none gets blank ones."""
    messages = [mapping(message) for message in array(encoded.body["messages"])]
    said = [message for message in messages if message["role"] == "assistant"]
    found = False
    for message in said:
        blocks = array(message["content"])
        others = [block for block in blocks if mapping(block)["type"] not in _THOUGHTS]
        if _FOREIGN.search(refusal) and len(others) < len(blocks):
            message["content"], found = others, True
        elif _MISSING.search(refusal) and len(others) == len(blocks):
            message["content"] = [{"type": "thinking", "thinking": " ", "signature": ""}, *blocks]
            found = True
    if found and _FOREIGN.search(refusal):
        kept = [message for message in messages if message["content"]]
        encoded.body["messages"] = kept
        encoded.dropped.append("messages.thinking")
        thinking = mapping(encoded.body.get("thinking", {}))
        if thinking.get("type") == "enabled" and not _turn_began_with_thought(kept):
            del encoded.body["thinking"]
            encoded.dropped.append("thinking_tokens")
    return found


def _tools(request: Request, body: dict[str, JSON]) -> None:
    if request.tools:
        tools = [spec.to_json() for spec in request.tools]
        if request.cache.tools:
            tools[-1]["cache_control"] = _EPHEMERAL
        body["tools"] = tools
        if request.tool_choice != "auto":
            body["tool_choice"] = (
                {"type": request.tool_choice}
                if request.tool_choice in ("any", "none")
                else {"type": "tool", "name": request.tool_choice}
            )
        return
    blocks = [block for message in request.messages for block in message.content]
    names = {wire_name(block.name): None for block in blocks if isinstance(block, ToolUse)}
    if names:
        # The API rejects calls in the history when no tools are defined.
        schema: JSON = {"type": "object"}
        body["tools"] = [{"name": name, "input_schema": schema} for name in names]
        body["tool_choice"] = {"type": "none"}


def _thinking(request: Request, able: Abilities, messages: Sequence[JSON], out: Encoded) -> bool:
    if not request.thinking_tokens:
        return False
    budget = max(MIN_THINKING, request.thinking_tokens)
    total = request.max_tokens + request.thinking_tokens  # what was reserved: never more
    forced = bool(request.tools) and request.tool_choice not in ("auto", "none")
    if forced or not (able.adaptive or (budget < total and _turn_began_with_thought(messages))):
        out.dropped.append("thinking_tokens")
        return False
    out.body["thinking"] = (
        {"type": "adaptive"} if able.adaptive else {"type": "enabled", "budget_tokens": budget}
    )
    out.body["max_tokens"] = total
    return True


def _turn_began_with_thought(messages: Sequence[JSON]) -> bool:
    """Whether thinking may be on: when results are sent back, the API requires the thought with
    which the model's turn began. A turn of another provider, or one without thinking, has none."""
    turn: list[str] = []
    for message in reversed(messages):
        content = mapping(message)["content"]
        kind = string(mapping(array(content)[0])["type"])
        if mapping(message)["role"] == "user" and kind != "tool_result":
            break
        turn.append(kind)
    return not turn or turn[0] != "tool_result" or "thinking" in turn[-1]


def _output(request: Request, able: Abilities, default: str, out: Encoded) -> None:
    asked = request.effort or default
    config: dict[str, JSON] = {}
    if request.output is not None:
        config["format"] = {"type": "json_schema", "schema": request.output.schema}
    if able.adaptive and "thinking" in out.body:
        asked = effort_of(request, default)  # the only control over how much such a model thinks
    if asked and able.effort:
        config["effort"] = asked
    elif asked:
        out.dropped.append("effort")
    if config:
        out.body["output_config"] = config


def _sample(request: Request, able: Abilities, out: Encoded, *, thinks: bool) -> None:
    values = (request.temperature, request.top_p, request.top_k)
    second = able.one_sampler and request.temperature is not None
    for name, value in zip(_SAMPLING, values, strict=True):
        if value is None:
            continue
        if able.sampling and not thinks and not (second and name == "top_p"):
            out.body[name] = value
            out.headers["anthropic-version"] = SAMPLING_VERSION
        else:
            out.dropped.append(name)
    if request.seed is not None:
        out.dropped.append("seed")


def _messages(request: Request) -> list[JSON]:
    marked = _marked(request.messages, request.cache.message)
    signs = "claude" in request.model
    out: list[JSON] = []
    for turn in turns(request.messages):
        blocks: list[dict[str, JSON]] = []
        for block in turn.blocks:
            encoded = wire_block(block, signs=signs)
            if encoded is not None:
                if block is marked:
                    encoded["cache_control"] = _EPHEMERAL
                blocks.append(encoded)
            if isinstance(block, ToolResultBlock) and block.is_error:
                blocks += _beside(block)
        # In the message after their calls, results have to come first.
        blocks.sort(key=_rank)
        if blocks:
            out.append({"role": turn.role, "content": blocks})
    _trim_prefill(out)
    return out


def _rank(block: dict[str, JSON]) -> bool:
    return block["type"] != "tool_result"


def _marked(messages: Sequence[Message], index: int | None) -> Block | None:
    """The block that carries the cache mark: the last one of that message that can."""
    if index is None or not -len(messages) <= index < len(messages):
        return None
    for block in reversed(messages[index].content):
        if not isinstance(block, ThinkingBlock) and wire_block(block) is not None:
            return block
    return None


def _trim_prefill(messages: list[JSON]) -> None:
    # an answer to be continued must not end with white space
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last["role"] == "assistant":
        content = last["content"]
        block = content[-1] if isinstance(content, list) else None
        if isinstance(block, dict) and isinstance(text := block.get("text"), str):
            block["text"] = text.rstrip()


def wire_block(block: Block, *, signs: bool = True) -> dict[str, JSON] | None:
    """A block on the wire; None if it cannot or must not be sent. `signs`: the model signs its
    thoughts, so one without a signature is not its own."""
    match block:
        case TextBlock():
            return {"type": "text", "text": block.text} if block.text.strip() else None
        case ThinkingBlock():
            if block.origin or not (
                block.signature or block.redacted or (block.text and not signs)
            ):
                return None  # another provider's thoughts
            if block.redacted:
                return {"type": "redacted_thinking", "data": block.redacted}
            return {"type": "thinking", "thinking": block.text, "signature": block.signature}
        case ToolUse():
            return {
                "type": "tool_use",
                "id": wire_id(block.id),
                "name": wire_name(block.name),
                "input": block.input,
            }
        case ToolResultBlock():
            return _result(block)
        case ImageBlock():
            return {"type": "image", "source": _source(block)}
        case DocumentBlock():
            text = plain_text(block)
            source = _source(block)
            if text is not None:  # in base64 the API accepts nothing but PDF
                source = {"type": "text", "media_type": "text/plain", "data": text}
            document: dict[str, JSON] = {"type": "document", "source": source}
            if block.title:
                document["title"] = block.title
            return document


def _result(block: ToolResultBlock) -> dict[str, JSON]:
    content: JSON = (
        block.content
        if isinstance(block.content, str)
        else [
            part
            for item in block.content
            if not (block.is_error and isinstance(item, ImageBlock))
            and (part := wire_block(item)) is not None
        ]
    )
    out: dict[str, JSON] = {"type": "tool_result", "tool_use_id": wire_id(block.tool_use_id)}
    if block.is_error:
        out["is_error"] = True
        content = content or "(no output)"  # the API rejects an error without text
    if content:
        out["content"] = content
    return out


def _beside(block: ToolResultBlock) -> list[dict[str, JSON]]:
    """The pictures of an error: the API accepts only text there, so they follow the results."""
    content = () if isinstance(block.content, str) else block.content
    pictures = [
        part
        for item in content
        if isinstance(item, ImageBlock) and (part := wire_block(item)) is not None
    ]
    if not pictures:
        return []
    text = f"Images in the result of {wire_id(block.tool_use_id)}:"
    return [{"type": "text", "text": text}, *pictures]


def _source(block: ImageBlock | DocumentBlock) -> JSON:
    if block.url:
        return {"type": "url", "url": block.url}
    return {"type": "base64", "media_type": block.media_type, "data": block.data}
