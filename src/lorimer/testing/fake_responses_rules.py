"""Which requests the fake OpenAI rejects at `/responses`: our own reading of the vendor's rules.

Written from the vendor's documentation and reported error messages, with their wording where known.
Stricter than the vendor where that is silent: a thought has to be followed by an item of the kind
that followed it, and nothing may be stored. Unknown fields are accepted, except those of chat
completions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lorimer.core.jsonable import JSON, objects_of
from lorimer.testing.fake_openai_shared import (
    Object,
    array,
    check_stream_options,
    missing,
    named,
    no,
    string,
)
from lorimer.testing.fake_responses_schemas import check_form, check_tools
from lorimer.testing.fake_turn import seal

SEALED: Final = "reasoning.encrypted_content"
MIN_OUTPUT: Final = 16
MAX_ID: Final = 64

_MOVED: Final[Mapping[str, str]] = {
    "messages": "'input'",
    "max_tokens": "'max_output_tokens'",
    "max_completion_tokens": "'max_output_tokens'",
    "response_format": "'text.format'",
    "reasoning_effort": "'reasoning.effort'",
}
_UNKNOWN: Final = ("stop", "seed", "functions", "function_call", "n", "logit_bias")
_REASONS: Final = re.compile(r"(o\d|gpt-([5-9]|\d\d))(?!.*chat)")
_DOES_NOT: Final = re.compile(r"gpt-[34]|chatgpt")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_PREFIXES: Final[Mapping[str, str]] = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
_INPUT_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    # one of these fields
    "input_text": ("text",),
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_url", "file_id"),
}
_OUTPUT_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "output_text": ("text",),
    "refusal": ("refusal",),
}
_PHASES: Final = ("commentary", "final_answer")


class Issued:
    """What a server has sealed, and the kind of item that came after it."""

    def __init__(self) -> None:
        self._thoughts: dict[str, tuple[str, str, str]] = {}

    def note(self, thought: Object, following: Object | None) -> None:
        """Remember a thought of an answer."""
        sealed = str(thought.get("encrypted_content", ""))
        kind = "" if following is None else str(following["type"])
        self._thoughts[str(thought["id"])] = (sealed, _summary(thought), kind)

    def genuine(self, thought: Object) -> bool:
        """Whether it is unchanged since this server gave it, or sealed as by every fake server."""
        sealed, text = str(thought.get("encrypted_content", "")), _summary(thought)
        known = self._thoughts.get(str(thought.get("id", "")))
        return sealed == seal(text) if known is None else known[:2] == (sealed, text)

    def follower(self, thought: Object) -> str:
        """The kind of item that has to follow it; "": any that a model produces."""
        known = self._thoughts.get(str(thought.get("id", "")))
        return known[2] if known else ""


def check(body: Object, issued: Issued) -> None:
    """Raises Refused (400, 404) for the first rule that the request breaks."""
    _fields(body)
    model = str(body["model"])
    if _REASONS.match(model):
        for name in ("temperature", "top_p"):
            if body.get(name) is not None:
                no(
                    f"Unsupported parameter: '{name}' is not supported with this model.",
                    param=name,
                    code="unsupported_parameter",
                )
    include = body.get("include")
    if _DOES_NOT.match(model) and isinstance(include, list) and SEALED in include:
        no("Encrypted content is not supported with this model.", param="include")
    check_tools(body)
    check_form(body)
    if isinstance(body["input"], str):
        return
    items = array(body["input"], "input")
    _items(items)
    _pairs(items)
    _thoughts(items, issued)


def _fields(body: Object) -> None:
    for name in ("model", "input"):
        if not body.get(name):
            missing(name)
    for name, place in _MOVED.items():
        if name in body:
            no(
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved"
                f" to {place}.",
                param=name,
                code="unsupported_parameter",
            )
    for name in _UNKNOWN:
        if name in body:
            no(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    limit = body.get("max_output_tokens")
    if limit is not None and (not isinstance(limit, int) or limit < MIN_OUTPUT):
        no(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >="
            f" {MIN_OUTPUT}, but got {limit} instead.",
            param="max_output_tokens",
            code="integer_below_min_value",
        )
    if body.get("instructions") is not None:
        string(body["instructions"], "instructions")
    if body.get("store") is not False:
        no("This server stores nothing: 'store' has to be false.", param="store")
    check_stream_options(body)


# --- items ---------------------------------------------------------------------------------------


def _items(items: list[Object]) -> None:
    """Each item is well-formed, and ids are unique."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        where = f"input[{index}]"
        kind = item.get("type", "message")
        match kind:
            case "message":
                _message(item, where)
            case "function_call":
                _call_id(item, where)
                named(item.get("name"), f"{where}.name")
                string(item.get("arguments"), f"{where}.arguments")
            case "function_call_output":
                _call_id(item, where)
                if not isinstance(item.get("output"), str):
                    _parts(item.get("output"), f"{where}.output", _INPUT_PARTS)
            case "reasoning":
                if not isinstance(item.get("summary"), list):
                    missing(f"{where}.summary")
            case "item_reference":
                no(f"Item with id '{item.get('id')}' not found.", param="input", status=404)
            case _:
                no(f"Invalid value: '{kind}'.", param=f"{where}.type")
        own = item.get("id")
        if own is None:
            continue
        prefix = _PREFIXES.get(str(kind), "")
        if not _ID.fullmatch(string(own, f"{where}.id")) or not str(own).startswith(prefix):
            no(
                f"Invalid '{where}.id': '{own}'. Expected an ID that begins with '{prefix}'.",
                param=f"{where}.id",
            )
        if own in seen:
            no(f"Duplicate item found with id {own}. Remove duplicate items from your input.")
        seen.add(str(own))


def _call_id(item: Object, where: str) -> None:
    call_id = string(item.get("call_id"), f"{where}.call_id")
    if not call_id:
        no(f"Invalid '{where}.call_id': empty string.", param=f"{where}.call_id")
    if len(call_id) > MAX_ID:
        no(
            f"Invalid '{where}.call_id': string too long. Expected a string with maximum length"
            f" {MAX_ID}, but got a string with length {len(call_id)} instead.",
            param=f"{where}.call_id",
            code="string_above_max_length",
        )


def _message(item: Object, where: str) -> None:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        no(f"Invalid value: '{role}'.", param=f"{where}.role")
    said = role == "assistant"
    phase = item.get("phase")
    if phase is not None and not (said and phase in _PHASES):
        no(f"Invalid value: '{phase}'.", param=f"{where}.phase")
    if isinstance(item.get("content"), str):
        return
    _parts(item.get("content"), f"{where}.content", _OUTPUT_PARTS if said else _INPUT_PARTS)


def _parts(content: JSON, where: str, known: Mapping[str, tuple[str, ...]]) -> None:
    for index, part in enumerate(array(content, where)):
        kind = str(part.get("type"))
        if kind not in known:
            supported = ", ".join(map(repr, known))
            no(
                f"Invalid value: '{kind}'. Supported values are: {supported}.",
                param=f"{where}[{index}]",
            )
        if not any(isinstance(part.get(name), str) for name in known[kind]):
            missing(f"{where}[{index}].{known[kind][0]}")


def _pairs(items: list[Object]) -> None:
    """Every call has one output, after it, and every output refers to a call."""
    waiting: set[str] = set()
    seen: set[str] = set()
    for item in items:
        call_id = str(item.get("call_id"))
        if item.get("type") == "function_call":
            if call_id in seen:
                no(f"Duplicate function call found with call_id {call_id}.", param="input")
            seen.add(call_id)
            waiting.add(call_id)
        elif item.get("type") == "function_call_output":
            if call_id not in waiting:
                no(
                    f"No tool call found for function call output with call_id {call_id}.",
                    param="input",
                )
            waiting.remove(call_id)
        elif waiting and item.get("role", "assistant") != "assistant":
            break
    if waiting:
        no(f"No tool output found for function call {min(waiting)}.", param="input")


def _thoughts(items: list[Object], issued: Issued) -> None:
    for item, following in zip(items, [*items[1:], None], strict=True):
        if item.get("type") != "reasoning":
            continue
        own = item.get("id")
        if not item.get("encrypted_content"):
            no(
                f"Item with id '{own}' not found. Items are not persisted when `store` is set to"
                " false. Try again with `store` set to true, or remove this item from your input.",
                param="input",
                status=404,
            )
        if not issued.genuine(item):
            no(
                f"The encrypted content for item {own} could not be verified. Reason: Encrypted"
                " content could not be decrypted or parsed.",
                code="invalid_encrypted_content",
            )
        kind = "" if following is None else _kind(following)
        if not kind or kind != (issued.follower(item) or kind):
            no(
                f"Item '{own}' of type 'reasoning' was provided without its required following"
                " item.",
                param="input",
            )


def _kind(item: Object) -> str:
    """The type of an item produced by a model; "": the caller's."""
    kind = str(item.get("type", "message"))
    if kind == "message":
        own = item.get("role") == "assistant" and {"id", "status"} <= item.keys()
        return kind if own else ""
    return "" if kind == "function_call_output" else kind


def _summary(thought: Object) -> str:
    texts = [str(part.get("text", "")) for part in objects_of(thought.get("summary"))]
    return "\n\n".join(texts)
