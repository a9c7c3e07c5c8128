"""What servers with OpenAI's API reject although OpenAI accepts it, and how a request is then
written differently.

Which servers and models need what changes from month to month, and the name of a deployment says
nothing about its model. So a server's own refusal, which costs nothing, decides; later requests to
the same model are written that way at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.models.wires.chat_request import UNSIGNED
from lorimer.models.wires.chat_thoughts import DETAILS, FIELDS
from lorimer.models.wires.shared import Encoded, array, mapping, string, wire_id
from lorimer.models.wires.strict import in_words

MAX_REFUSAL: Final = 10_000
"""Bytes of a refusal that are examined."""

_NOT_TAKEN: Final = (
    r"unsupported|not support|unknown|unrecognized|unexpected|unavailable|not permitted|forbidden"
    r"|not allowed|not one of the allowed|is allowed for this model|deprecated"
)
_OPTIONS: Final = {
    "stream_options": "",
    "seed": "seed",
    "top_k": "top_k",
    "top_p": "top_p",
    "temperature": "temperature",
    "stop": "stop_sequences",
    "reasoning_effort": "effort",
}
"""Fields that a request can do without, and their names in `Request`; "": not asked for by it."""
_FILLER: Final = " "
"""In place of a thought that another model never showed: an empty text is rejected."""
_NINE: Final = re.compile(r"[a-zA-Z0-9]{9}")


@dataclass(frozen=True, slots=True)
class Workaround:
    """A reason for a refusal that can be avoided."""

    name: str
    said: re.Pattern[str]
    """How servers say it."""
    mend: Callable[[Encoded], bool]
    """Changes a request accordingly; returns whether there was something to change."""
    lasting: bool = True
    """Later requests need it too, whatever their conversation."""


def workarounds(refusal: bytes, *, chat: bool) -> Iterator[Workaround]:
    """Those that may help against a refusal; without `chat`, of a request to `/responses`."""
    text = " ".join(refusal[:MAX_REFUSAL].decode("utf-8", "replace").split())
    text = text.replace("\\", "")  # quotation marks in JSON, or in JSON in JSON
    return (each for each in (WORKAROUNDS if chat else OPTIONAL) if each.said.search(text))


def _said(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _not_taken(name: str) -> re.Pattern[str]:
    """How a field is rejected: by its name, which is quoted if it is an everyday word, near a word
    that says so."""
    field = rf"['\"`]{name}['\"`]" if name.isalpha() and name != "temperature" else rf"\b{name}\b"
    return _said(
        rf"{field}.{{0,100}}({_NOT_TAKEN})|({_NOT_TAKEN}).{{0,100}}{field}"
        rf"|not supported on this model: {name}\b"
    )


def _without(field: str, name: str) -> Callable[[Encoded], bool]:
    def mend(encoded: Encoded) -> bool:
        if encoded.body.pop(field, None) is None:
            return False
        if name:
            _name(encoded, name)
        return True

    return mend


def _name(encoded: Encoded, what: str) -> None:
    if what not in encoded.dropped:
        encoded.dropped.append(what)


def _without_choice(encoded: Encoded) -> bool:
    """A model that need not call may still be asked; one that must not, only where that holds."""
    if encoded.body.get("tool_choice") == "none":
        return False
    return _without("tool_choice", "tool_choice")(encoded)


def _renamed(encoded: Encoded) -> bool:
    """The limit of the answer, which OpenAI's newer models call differently."""
    most = encoded.body.pop("max_tokens", None)
    if most is not None:
        encoded.body["max_completion_tokens"] = most
    return most is not None


def _told_in_words(encoded: Encoded) -> bool:
    form = encoded.body.pop("response_format", None)
    if not isinstance(form, dict):
        return False
    words = in_words(mapping(form["json_schema"])["schema"], tools="tools" in encoded.body)
    messages = array(encoded.body["messages"])
    first = mapping(messages[0]) if messages else {}
    if first.get("role") in ("system", "developer"):
        messages[0] = {**first, "content": f"{first['content']}\n\n{words}"}
    else:
        messages.insert(0, {"role": "system", "content": words})
    _name(encoded, "output")
    return True


def _plain(encoded: Encoded) -> bool:
    """Content that is nothing but text as one text, and none as an empty one."""
    changed = False
    for message in map(mapping, array(encoded.body["messages"])):
        content = message["content"]
        texts = [mapping(part).get("text") for part in content] if isinstance(content, list) else []
        if content is None or (texts and None not in texts):
            message["content"] = "\n\n".join(map(string, texts))
            changed = True
    return changed


def _assistant(encoded: Encoded) -> list[dict[str, JSON]]:
    messages = map(mapping, array(encoded.body["messages"]))
    return [message for message in messages if message["role"] == "assistant"]


def _with_thoughts(encoded: Encoded) -> bool:
    bare = [said for said in _assistant(encoded) if FIELDS[0] not in said]
    for said in bare:
        said[FIELDS[0]] = said.pop(FIELDS[1], _FILLER)
    return bool(bare)


def _without_thoughts(encoded: Encoded) -> bool:
    found = False
    for said in _assistant(encoded):
        for field in (*FIELDS, DETAILS):
            found = said.pop(field, None) is not None or found
    if found:
        _name(encoded, "messages.thinking")
    return found


def _without_signatures(encoded: Encoded) -> bool:
    found = False
    for said in _assistant(encoded):
        found = said.pop(DETAILS, None) is not None or found
        for call in map(mapping, array(said.get("tool_calls") or [])):
            if call.get("extra_content", UNSIGNED) != UNSIGNED:
                call["extra_content"], found = UNSIGNED, True
    if found:
        _name(encoded, "messages.thinking")
    return found


def _answered_first(encoded: Encoded) -> bool:
    """The model has to answer results before the user may go on."""
    messages = array(encoded.body["messages"])
    out: list[JSON] = []
    for message in map(mapping, messages):
        if message["role"] == "user" and out and mapping(out[-1])["role"] == "tool":
            out.append({"role": "assistant", "content": "Understood."})
        out.append(message)
    encoded.body["messages"] = out
    return len(out) > len(messages)


def _with_ids(form: Callable[[str], str]) -> Callable[[Encoded], bool]:
    def mend(encoded: Encoded) -> bool:
        changed = False
        for message in map(mapping, array(encoded.body["messages"])):
            calls = [mapping(call) for call in array(message.get("tool_calls") or [])]
            for holder, key in [(message, "tool_call_id"), *[(call, "id") for call in calls]]:
                if key in holder:
                    old = string(holder[key])
                    holder[key] = form(old)
                    changed = changed or holder[key] != old
        return changed

    return mend


def _nine(id: str) -> str:
    return id if _NINE.fullmatch(id) else blake2b(id.encode(), digest_size=5).hexdigest()[:9]


OPTIONAL: Final = (
    *[
        Workaround(field, _not_taken(field), _without(field, name))
        for field, name in _OPTIONS.items()
    ],
    Workaround("tool_choice", _not_taken("tool_choice"), _without_choice),
    # Azure, where a deployment may have any name: the model does not think
    Workaround(
        "sealed",
        _said("encrypted content is not supported"),
        _without("include", "messages.thinking"),
    ),
)
WORKAROUNDS: Final = (
    *OPTIONAL,
    # OpenAI's newer models at Azure
    Workaround("limit", _said(r"max_tokens.{0,200}use .{0,4}max_completion_tokens"), _renamed),
    # Claude behind a gateway
    Workaround(
        "one sampler",
        _said(r"temperature.{0,20}top_p.{0,20}cannot both"),
        _without("top_p", "top_p"),
    ),
    # Ollama
    Workaround(
        "no effort", _said("does not support thinking"), _without("reasoning_effort", "effort")
    ),
    # DeepSeek, Groq; a fault of one schema ("Invalid schema for response_format") is the caller's
    Workaround("form", _not_taken("(?<!schema for )response[_ ]format"), _told_in_words),
    Workaround(
        "text", _said(r"content.{0,80}(must be a|should be a valid|expected a) string"), _plain
    ),
    # DeepSeek, Kimi: of a conversation that another model began
    Workaround(
        "thoughts",
        _said(r"reasoning_content.{0,60}(must be passed back|is missing)|missing `?reasoning_cont"),
        _with_thoughts,
    ),
    Workaround(
        "no thoughts",
        _said(rf"({'|'.join((*FIELDS, DETAILS))}).{{0,80}}({_NOT_TAKEN})"),
        _without_thoughts,
    ),
    # Claude and Gemini behind a gateway: signed for another model, account or key
    Workaround(
        "signatures",
        _said(r"corrupted thought signature|invalid .?signature"),
        _without_signatures,
        lasting=False,
    ),
    # Mistral
    Workaround("order", _said(r"unexpected role .?user.? after role .?tool"), _answered_first),
    Workaround("nine", _said(r"tool call id .{0,300}length of 9"), _with_ids(_nine)),
    # Anthropic, OpenAI and others behind a gateway
    Workaround(
        "ids",
        _said(r"(tool_use[._]id|tool_call_id|tool_calls\[\d+\]\.id).{0,100}(pattern|too long)"),
        _with_ids(wire_id),
    ),
)
