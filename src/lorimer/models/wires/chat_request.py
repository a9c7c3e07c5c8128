"""A canonical request as the body of OpenAI's `/chat/completions`, there and on other servers.

What the model would reject is left out and named in the answer's `extra["dropped"]`; what only the
server can know it rejects, `openai_refusal.py` handles. Thoughts: `chat_thoughts.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolResultBlock,
    ToolUse,
)
from lorimer.core.request import Request
from lorimer.models.wires import gemini_request
from lorimer.models.wires.chat_thoughts import sent_back
from lorimer.models.wires.shared import (
    Encoded,
    Turn,
    effort_of,
    plain_text,
    turns,
    wire_id,
    wire_name,
)
from lorimer.models.wires.strict import closed

MAX_STOPS: Final = 4
"""Maximum stop sequences at OpenAI; other servers accept more."""
MAX_ID: Final = 40
"""Maximum length of a call's id at OpenAI on this wire."""
UNSIGNED: Final[JSON] = {"google": {"thought_signature": gemini_request.UNSEALED}}
"""In place of the signature of a call that Gemini did not make itself."""
_REASONING: Final = re.compile(r"(o\d|gpt-([5-9]|\d\d))(?!.*chat)")
_NEW: Final = re.compile(r"(o\d|gpt-([5-9]|\d\d))")
_HOST: Final = re.compile(r"(.+\.)?openai\.com")
_GOOGLE: Final = re.compile(r"(.+\.)?googleapis\.com")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The kind of server and model."""

    official: bool
    """OpenAI itself, not another server with a compatible API."""
    reasoning: bool
    """The model thinks before it answers, rejects sampling parameters and accepts an effort."""
    new: bool
    """The model expects `max_completion_tokens` and the `developer` role."""
    signed: bool = False
    """The model is a Gemini, which rejects its own calls without their signatures."""
    google: bool = False
    """It is Google's own server, which has to be told that a call has no signature."""
    provider: str = ""
    """The name under which the server is known."""


def endpoint(base_url: str, model: str, provider: str = "") -> Endpoint:
    """By the host and the model's name; a fine-tuned model is treated like its base."""
    host = urlsplit(base_url).hostname or ""
    official = not base_url or _HOST.fullmatch(host) is not None
    name = model.lower().removeprefix("ft:")
    signed = not official and gemini_request.abilities(name).sealed_calls
    return Endpoint(
        official,
        _REASONING.match(name) is not None,
        official and _NEW.match(name) is not None,
        signed,
        _GOOGLE.fullmatch(host) is not None,
        provider,
    )


def encode(request: Request, default_effort: str, target: Endpoint) -> Encoded:
    """The body, and what was left out."""
    body: dict[str, JSON] = {
        "model": request.model,
        "messages": _messages(request, target),
        "max_completion_tokens" if target.new else "max_tokens": most_tokens(request, target),
    }
    out = Encoded(body)
    if any(map(_is_remote, [block for one in request.messages for block in one.content])):
        out.dropped.append("documents")
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": spec.name,
                    "description": spec.description,
                    "parameters": spec.input_schema,
                },
            }
            for spec in request.tools
        ]
        if request.tool_choice != "auto":
            body["tool_choice"] = _choice(request.tool_choice)
    _effort(request, default_effort, target, out)
    _sample(request, target, out)
    if request.output is not None:
        schema = request.output.schema
        form: dict[str, JSON] = {"name": request.output.name, "schema": schema}
        if closed(schema):
            form["strict"] = True
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return out


def most_tokens(request: Request, target: Endpoint) -> int:
    """Maximum tokens of an answer and its thoughts. Which of OpenAI's own models do not think is
    known."""
    thinks = target.reasoning or not target.official
    return request.max_tokens + (request.thinking_tokens or 0) * thinks


def _is_remote(block: Block) -> bool:
    return isinstance(block, DocumentBlock) and bool(block.url)


def _choice(choice: str) -> JSON:
    match choice:
        case "any":
            return "required"
        case "none":
            return "none"
        case name:
            return {"type": "function", "function": {"name": name}}


def _effort(request: Request, default: str, target: Endpoint, out: Encoded) -> None:
    explicit = request.effort or default
    if target.reasoning:
        effort = effort_of(request, default)
        if effort:
            out.body["reasoning_effort"] = effort
        return
    if explicit and not target.official:
        out.body["reasoning_effort"] = explicit  # their names do not show which models reason
    elif explicit:
        out.dropped.append("effort")
    if request.thinking_tokens:
        out.dropped.append("thinking_tokens")


def _sample(request: Request, target: Endpoint, out: Encoded) -> None:
    refuses = target.official and target.reasoning
    stops = list(request.stop_sequences[: MAX_STOPS if target.official else None]) or None
    if not refuses and len(stops or ()) < len(request.stop_sequences):
        out.dropped.append("stop_sequences")
    for name, value, sent in (
        ("temperature", request.temperature, not refuses),
        ("top_p", request.top_p, not refuses),
        ("top_k", request.top_k, not target.official),
        ("stop", stops, not refuses),
        ("seed", request.seed, True),
    ):
        if value is None:
            continue
        if sent:
            out.body[name] = value
        else:
            out.dropped.append("stop_sequences" if name == "stop" else name)


def _messages(request: Request, target: Endpoint) -> list[JSON]:
    out: list[JSON] = []
    if request.system:
        out.append({"role": "developer" if target.new else "system", "content": request.system})
    for turn in turns(request.messages):
        out.extend(_assistant(turn, target) if turn.role == "assistant" else _user(turn, target))
    return out


def _id(id: str, target: Endpoint) -> str:
    """OpenAI accepts only some ids. Other servers get theirs back as they are: they may be written
    as the model has learnt to read them (Kimi), or hold a signature (LiteLLM)."""
    return wire_id(id, MAX_ID) if target.official else id


def _assistant(turn: Turn, target: Endpoint) -> list[JSON]:
    text = "\n".join([block.text for block in turn.blocks if isinstance(block, TextBlock)])
    calls: list[JSON] = []
    for block in turn.blocks:
        if isinstance(block, ToolUse):
            call: dict[str, JSON] = {
                "id": _id(block.id, target),
                "type": "function",
                "function": {"name": wire_name(block.name), "arguments": dumps(block.input)},
            }
            if target.signed and block.signature:
                call["extra_content"] = {"google": {"thought_signature": block.signature}}
            elif target.signed and target.google and not calls:
                call["extra_content"] = UNSIGNED
            calls.append(call)
    if not calls and not text:
        return []
    said: dict[str, JSON] = {"role": "assistant", "content": text}
    if not target.official:  # OpenAI has no thoughts on this wire, and rejects those of others
        said |= sent_back(turn.blocks, target.provider)
    return [{**said, "content": text or None, "tool_calls": calls} if calls else said]


def _user(turn: Turn, target: Endpoint) -> list[JSON]:
    """Results first, because the wire requires them right after their calls; then the rest."""
    out: list[JSON] = []
    parts: list[JSON] = []
    for block in turn.blocks:
        if isinstance(block, ToolResultBlock):
            text, pictures = _result(block)
            call_id = _id(block.tool_use_id, target)
            out.append({"role": "tool", "tool_call_id": call_id, "content": text})
            if pictures:
                parts.append(_text(f"Images in the result of call {call_id}:"))
                parts.extend(map(_image, pictures))
    for block in turn.blocks:
        part = _part(block)
        if part is not None:
            parts.append(part)
    if parts:
        out.append({"role": "user", "content": _content(parts)})
    return out


def _content(parts: list[JSON]) -> JSON:
    # A single text as a plain string: the only form that every server accepts.
    only = parts[0]
    if len(parts) == 1 and isinstance(only, dict) and only["type"] == "text":
        return only["text"]
    return parts


def _result(block: ToolResultBlock) -> tuple[str, list[ImageBlock]]:
    if isinstance(block.content, str):
        return block.content, []
    texts = [part.text for part in block.content if isinstance(part, TextBlock)]
    return "\n".join(texts), [part for part in block.content if isinstance(part, ImageBlock)]


def _part(block: Block) -> JSON:
    """A block as a part of a user message; None if it has no such form."""
    match block:
        case TextBlock():
            return _text(block.text)
        case ImageBlock():
            return _image(block)
        case DocumentBlock() if block.url:
            # URLs are not supported: the model sees the address, not the content
            return _text(f"[{block.title or 'document'}: {block.url}]")
        case DocumentBlock() if (text := plain_text(block)) is not None:
            return _text(f"[{block.title or 'document'}:]\n{text}")
        case DocumentBlock():
            name = block.title or f"document.{block.media_type.rpartition('/')[2]}"
            return {"type": "file", "file": {"filename": name, "file_data": data_url(block)}}
        case _:
            return None


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


def _image(block: ImageBlock) -> JSON:
    return {"type": "image_url", "image_url": {"url": block.url or data_url(block)}}


def data_url(block: ImageBlock | DocumentBlock) -> str:
    """The data of a picture or document as a URL."""
    return f"data:{block.media_type};base64,{block.data}"
