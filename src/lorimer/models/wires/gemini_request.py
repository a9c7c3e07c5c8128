"""A canonical request as the body of Gemini's `generateContent`.

What a model would reject is left out and named in the answer's `extra["dropped"]`. A seal
(`thoughtSignature`) goes back on the part it came with: see `gemini_answer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import eq
from typing import Final

from lorimer.core.jsonable import JSON, clean
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
from lorimer.models.wires.shared import Encoded, Turn, effort_of, turns, wire_id, wire_name
from lorimer.models.wires.strict import told_in_words

ORIGIN: Final = "google"
"""`ThinkingBlock.origin` of thoughts from this wire."""

UNSEALED: Final = "skip_thought_signature_validator"
"""Google's documented replacement for the seal of a call that Gemini did not make itself."""

MAX_STOP_SEQUENCES: Final = 5
_INT32: Final = range(-(2**31), 2**31)

_VERSION: Final = re.compile(r"gemini-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:\.(\d{1,2}))?")
_BUDGETS: Final = (
    # of 2.5: part of a name, allowed thinking budgets in tokens
    ("flash-lite", range(512, 24_577)),
    ("flash", range(24_577)),
    ("pro", range(128, 32_769)),
)
_NOT_FOR_TEXT: Final = re.compile(r"image|tts|audio|live")
_MEDIA_TYPES: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model supports."""

    budget: range | None = None
    """Thinks within a budget in this range of tokens."""
    level: bool = False
    """Thinks as hard as `thinkingLevel` says, and rejects a budget."""
    sealed_calls: bool = False
    """Rejects a call without a seal."""
    form_with_tools: bool = False
    """Accepts an output schema together with tools."""
    pictures_in_results: bool = False


def abilities(model: str) -> Abilities:
    """By the version in the name. A Gemini without one is treated as the newest; a model that is
    not a Gemini supports only the plain fields."""
    name = model.rpartition("/")[2].lower()
    if not name.startswith("gemini"):
        return Abilities()
    version = _version(name)
    if version >= (3, 0):
        return Abilities(None, True, True, True, True)
    if version == (2, 5) and not _NOT_FOR_TEXT.search(name):
        return Abilities(next((range_ for part, range_ in _BUDGETS if part in name), None))
    return Abilities()


def _version(name: str) -> tuple[int, int]:
    match = _VERSION.match(name)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)


def encode(request: Request, default_effort: str) -> Encoded:
    """The body, and what was left out. The model and whether to stream are in the URL."""
    able = abilities(request.model)
    form = request.output
    if request.tools and not able.form_with_tools:
        request = told_in_words(request)
    config: dict[str, JSON] = {"maxOutputTokens": request.max_tokens}
    body: dict[str, JSON] = {"contents": _contents(request, able)}
    out = Encoded(body)
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    if request.tools:
        _tools(request, body)
    _think(request, able, default_effort, config, out)
    _sample(request, config, out)
    if request.output is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = request.output.schema
    elif form is not None:
        out.dropped.append("output")
    body["generationConfig"] = config
    return out


def rejects_seals(refusal: str) -> bool:
    """Whether a request was rejected for its seals: those of another account or model may be."""
    return "corrupted thought signature" in refusal.lower()


def without_seals(request: Request) -> Request:
    """The request without anything that is sealed; the same object if there is nothing."""
    messages = [
        Message(message.role, tuple([block for each in message.content for block in _bare(each)]))
        for message in request.messages
    ]
    same = all(map(eq, messages, request.messages))
    return request if same else replace(request, messages=messages)


def _bare(block: Block) -> list[Block]:
    match block:
        case ThinkingBlock() if block.origin == ORIGIN:
            return []
        case ToolUse() if block.signature:
            return [ToolUse(block.id, block.name, block.input, block.raw)]
        case _:
            return [block]


def _tools(request: Request, body: dict[str, JSON]) -> None:
    body["tools"] = [
        {
            "functionDeclarations": [
                {
                    "name": spec.name,
                    "description": spec.description,
                    "parametersJsonSchema": spec.input_schema,
                }
                for spec in request.tools
            ]
        }
    ]
    match request.tool_choice:
        case "auto":
            return
        case "any" | "none" as mode:
            choice: dict[str, JSON] = {"mode": mode.upper()}
        case name:
            choice = {"mode": "ANY", "allowedFunctionNames": [name]}
    body["toolConfig"] = {"functionCallingConfig": choice}


def _think(
    request: Request, able: Abilities, default: str, config: dict[str, JSON], out: Encoded
) -> None:
    effort = effort_of(request, default)
    budget = request.thinking_tokens
    thinking: dict[str, JSON] = {}
    if able.level:
        if effort:
            thinking["thinkingLevel"] = _level(request.model, effort)
    else:
        if request.effort or default:
            out.dropped.append("effort")
        if able.budget is None:
            if budget:
                out.dropped.append("thinking_tokens")
            return
        if budget:
            # never more than was reserved, even if the model's minimum is higher
            if able.budget.start >= request.max_tokens + budget:
                out.dropped.append("thinking_tokens")
                return
            thinking["thinkingBudget"] = min(max(budget, able.budget.start), able.budget.stop - 1)
        elif 0 in able.budget and not effort:
            thinking["thinkingBudget"] = 0  # otherwise it thinks anyway, within the answer's limit
    if budget:
        thinking["includeThoughts"] = True
        config["maxOutputTokens"] = request.max_tokens + budget
    if thinking:
        config["thinkingConfig"] = thinking


def _level(model: str, effort: str) -> str:
    # the first Pro of the third generation has only two levels
    if effort == "medium" and "gemini-3-pro" in model:
        return "HIGH"
    return effort.upper()


def _sample(request: Request, config: dict[str, JSON], out: Encoded) -> None:
    values: dict[str, JSON] = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
    }
    config |= {name: value for name, value in values.items() if value is not None}
    if request.seed is not None:
        if request.seed in _INT32:
            config["seed"] = request.seed
        else:
            out.dropped.append("seed")
    if request.stop_sequences:
        config["stopSequences"] = list(request.stop_sequences[:MAX_STOP_SEQUENCES])
        if len(request.stop_sequences) > MAX_STOP_SEQUENCES:
            out.dropped.append("stop_sequences")


def _contents(request: Request, able: Abilities) -> list[JSON]:
    """One entry for each side's turn. When a turn has nothing to send, its neighbours are merged:
    on the wire the sides have to alternate."""
    sides: list[tuple[str, list[JSON]]] = []
    names: dict[str, str] = {}
    for turn in turns(request.messages):
        if turn.role == "assistant":
            role, parts = "model", _said(turn.blocks, able)
            names.update(
                {block.id: _name(block.name) for block in turn.blocks if isinstance(block, ToolUse)}
            )
        else:
            role, parts = "user", _asked(turn, names, able)
        if parts and sides and sides[-1][0] == role:
            sides[-1][1].extend(parts)
        elif parts:
            sides.append((role, parts))
    return [{"role": role, "parts": parts} for role, parts in sides]


def _name(name: str) -> str:
    """The name of a called tool: one made up by a model may begin in a way that Google does not
    allow."""
    sound = wire_name(name)
    return sound if sound[0].isalpha() or sound[0] == "_" else f"_{sound}"[:64]


def _said(blocks: Sequence[Block], able: Abilities) -> list[JSON]:
    """The model's parts. A seal without a thought precedes the text that it came with, or stands
    for an empty text."""
    parts: list[JSON] = []
    seal = ""
    wanted = able.sealed_calls
    for block in blocks:
        if seal and not isinstance(block, TextBlock):
            parts.append({"text": "", "thoughtSignature": seal})
            seal = ""
        match block:
            case ThinkingBlock() if block.origin == ORIGIN and block.signature:
                if block.text:
                    parts.append(_sealed({"text": block.text, "thought": True}, block.signature))
                else:
                    seal = block.signature
            case TextBlock() if seal or block.text.strip():
                parts.append(_sealed({"text": block.text}, seal))
                seal = ""
            case ToolUse():
                # Google checks the first call of each of the model's steps.
                given = block.signature or (UNSEALED if wanted else "")
                wanted = False
                call: dict[str, JSON] = {
                    "id": wire_id(block.id),
                    "name": _name(block.name),
                    "args": block.input,
                }
                parts.append(_sealed({"functionCall": call}, given))
            case _:
                pass
    if seal:
        parts.append({"text": "", "thoughtSignature": seal})
    return parts


def _sealed(part: dict[str, JSON], signature: str) -> JSON:
    return {**part, "thoughtSignature": signature} if signature else part


def _asked(turn: Turn, names: Mapping[str, str], able: Abilities) -> list[JSON]:
    """Results first, because the wire requires them right after their calls; then the rest."""
    results: list[JSON] = []
    rest: list[JSON] = []
    for block in turn.blocks:
        match block:
            case ToolResultBlock():
                result, left = _result(block, names, able)
                results.append(result)
                if left:
                    rest.append({"text": f"Images in the result of {wire_id(block.tool_use_id)}:"})
                    rest.extend(map(_media, left))
            case TextBlock():
                if block.text.strip():
                    rest.append({"text": block.text})
            case ImageBlock() | DocumentBlock():
                rest.append(_media(block))
            case _:
                pass
    return results + rest


def _result(
    block: ToolResultBlock, names: Mapping[str, str], able: Abilities
) -> tuple[JSON, list[ImageBlock]]:
    """The result, and the pictures that cannot be part of it."""
    content = (TextBlock(block.content),) if isinstance(block.content, str) else block.content
    text = "\n".join([part.text for part in content if isinstance(part, TextBlock)])
    result: dict[str, JSON] = {
        "id": wire_id(block.tool_use_id),
        "name": names.get(block.tool_use_id, "unknown"),
        "response": {"error" if block.is_error else "output": text},
    }
    pictures = [part for part in content if isinstance(part, ImageBlock)]
    inside = [part for part in pictures if part.data and able.pictures_in_results]
    if inside:
        result["parts"] = list(map(_media, inside))
    return {"functionResponse": result}, [part for part in pictures if part not in inside]


def _media(block: ImageBlock | DocumentBlock) -> JSON:
    if not block.url and not block.data:
        return {"text": f"({block.type} without data)"}
    if not block.url:
        media_type = block.media_type or "application/octet-stream"
        return {"inlineData": {"mimeType": media_type, "data": block.data}}
    media_type = block.media_type or _MEDIA_TYPES.get(_ending(block.url), "")
    return {"fileData": {"fileUri": block.url, **({"mimeType": media_type} if media_type else {})}}


def _ending(url: str) -> str:
    return url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()


def model_path(model: str) -> str:
    """Resource name of a model: `models/gemini-3-flash`, also if it is given in full."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def listed(pages: Iterable[JSON]) -> list[str]:
    """The names of the models that can generate content, from the pages of the list of models."""
    out: list[str] = []
    for page in pages:
        models = page.get("models") if isinstance(page, Mapping) else None
        for model in models if isinstance(models, list) else []:
            if isinstance(model, Mapping):
                methods = model.get("supportedGenerationMethods")
                name = model.get("name")
                generates = isinstance(methods, list) and "generateContent" in methods
                if generates and isinstance(name, str):
                    out.append(clean(name).removeprefix("models/"))
    return out
