"""Which requests the fake Anthropic rejects: our own reading of the vendor's rules.

Written from the vendor's documentation and reported error messages, with their wording where known.
Stricter than the vendor where that is silent: results have to be in the very next message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn, TypeAlias

from lorimer.core.jsonable import JSON, objects_of
from lorimer.testing.fake_turn import Refused, SeenRequest, Turn, joined, seal

Object: TypeAlias = Mapping[str, JSON]

_TOP: Final = frozenset(
    "model messages max_tokens system tools tool_choice stream temperature top_p top_k"
    " stop_sequences metadata thinking service_tier container cache_control output_config"
    " inference_geo diagnostics speed user_profile_id workspace_id context_management mcp_servers"
    " compaction fallbacks fallback_credit_token billing_policy thread".split()
)
_BLOCKS: Final[Mapping[str, tuple[str, str]]] = {
    # required fields, optional fields
    "text": ("text", "cache_control citations"),
    "image": ("source", "cache_control transformations"),
    "document": ("source", "cache_control citations context title"),
    "thinking": ("thinking signature", ""),
    "redacted_thinking": ("data", ""),
    "tool_use": ("id name input", "cache_control caller toolset_name"),
    "tool_result": ("tool_use_id", "content is_error cache_control toolset_name"),
}
_OTHER_BLOCKS: Final = re.compile(
    r"search_result|container_upload|tool_reference|compaction|browser_state"
    r"|server_tool_use|mcp_tool_use|\w+_tool_result"
)
_ROLE_OF: Final = {
    "tool_use": "assistant",
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_result": "user",
}
_ONE_SAMPLER: Final = re.compile(r"claude-[a-z]+-4[-.][1-9](?!\d)")
_CALL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_KEY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_BOUNDS: Final = ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "maxItems")
MAX_CACHE_MARKS: Final = 4
MIN_THINKING_BUDGET: Final = 1024


class Issued:
    """What a server has signed, and which of its calls came after thinking."""

    def __init__(self) -> None:
        self._texts: dict[str, set[str]] = {}
        self._thought_out: set[str] = set()

    def note(self, turn: Turn) -> None:
        """Remember an answer."""
        ids = {call.id for call in turn.tool_calls}
        if turn.thinking or turn.signature:
            self._texts.setdefault(turn.seal, set()).add(joined(turn.thinking))
            self._thought_out |= ids
        else:
            self._thought_out -= ids

    def genuine(self, thinking: str, signature: str) -> bool:
        """Whether that signature was given to exactly this text."""
        return thinking in self._texts.get(signature, ()) or signature == seal(thinking)

    def thought_out(self, call_id: str) -> bool:
        """Whether the call came with thinking."""
        return call_id in self._thought_out


def check(request: SeenRequest, issued: Issued) -> None:
    """Raises Refused (400) for the first rule that the request breaks."""
    body = request.body
    if "anthropic-version" not in request.headers:
        _no("anthropic-version: header is required")
    for name in body.keys() - _TOP:
        _no(f"{name}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            _no(f"{name}: Field required")
    max_tokens = body["max_tokens"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        _no("max_tokens: Input should be a valid integer")
    if max_tokens < 0:
        _no("max_tokens: Input should be greater than or equal to 0")
    if body.keys() >= {"temperature", "top_p"} and _ONE_SAMPLER.search(str(body["model"])):
        _no(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only"
            " one."
        )
    stops = body.get("stop_sequences") or []
    if isinstance(stops, list) and not all(str(stop).strip() for stop in stops):
        _no("stop_sequences: each stop sequence must contain non-whitespace")
    _tools(body)
    _form(body)
    _thinking(body, max_tokens, request.headers.get("anthropic-beta", ""))
    messages = _messages(body["messages"])
    _pairs(messages)
    _signatures(messages, issued)
    if _thinking_type(body) == "enabled":
        _kept_thinking(messages, issued)
    if (marks := sum(_cache_marks(body))) > MAX_CACHE_MARKS:
        _no(
            f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided."
            f" Found {marks}."
        )


def _no(message: str) -> NoReturn:
    raise Refused(400, message)


def _form(body: Object) -> None:
    """Check the output schema."""
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, Mapping) else None
    waiting = [form.get("schema")] if isinstance(form, Mapping) else []
    for schema in waiting:  # grows during the loop
        if not isinstance(schema, Mapping):
            continue
        kind = schema.get("type")
        if kind == "object" and schema.get("additionalProperties") is not False:
            _no(
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                "explicitly set to false"
            )
        for bound in _BOUNDS:
            if bound in schema:
                _no(
                    f"output_config.format.schema: For '{kind}' type, property '{bound}' is not "
                    "supported"
                )
        properties = schema.get("properties")
        waiting += [*properties.values()] if isinstance(properties, Mapping) else []
        waiting += [schema.get("items"), *objects_of(schema.get("anyOf"))]


def _tools(body: Object) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(objects_of(body.get("tools"))):
        name, schema = str(tool.get("name", "")), tool.get("input_schema")
        if name in seen:
            _no("tools: Tool names must be unique.")
        seen.add(name)
        if tool.get("type", "custom") != "custom":
            continue
        if not _TOOL_NAME.fullmatch(name):
            _no(f"tools.{index}.custom.name: String should match pattern '^{_TOOL_NAME.pattern}$'")
        if not isinstance(schema, Mapping):
            _no(f"tools.{index}.custom.input_schema: Field required")
        if schema.get("type") != "object":
            _no(f"tools.{index}.custom.input_schema.type: Input should be 'object'")
        if schema.keys() & {"oneOf", "allOf", "anyOf"}:
            _no(
                f"tools.{index}.custom.input_schema: input_schema does not support oneOf, allOf, or"
                " anyOf at the top level"
            )
        properties = schema.get("properties")
        for key in properties if isinstance(properties, Mapping) else ():
            if not _KEY.fullmatch(key):
                _no(
                    f"tools.{index}.custom.input_schema.properties: Property keys should match "
                    f"pattern '^{_KEY.pattern}$'"
                )
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        if choice.get("type") == "tool" and choice.get("name") not in seen:
            _no(f"Tool '{choice.get('name')}' not found in provided tools")
        if not seen:
            _no("tool_choice: may only be specified while providing tools")


def _thinking_type(body: Object) -> JSON:
    thinking = body.get("thinking")
    return thinking.get("type") if isinstance(thinking, Mapping) else None


def _thinking(body: Object, max_tokens: int, betas: str) -> None:
    thinking, kind = body.get("thinking"), _thinking_type(body)
    if not isinstance(thinking, Mapping) or kind == "disabled":
        return
    if kind not in ("enabled", "adaptive", "between_tools"):
        _no(f"thinking: Input tag '{kind}' does not match any of the expected tags")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int):
            _no("thinking.enabled.budget_tokens: Field required")
        if budget < MIN_THINKING_BUDGET:
            _no(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to"
                f" {MIN_THINKING_BUDGET}"
            )
        if budget >= max_tokens and "interleaved-thinking" not in betas:
            _no("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature", 1) != 1:
        _no("`temperature` may only be set to 1 when thinking is enabled.")
    if body.get("top_k") is not None:
        _no("`top_k` must be unset when thinking is enabled.")
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") in ("any", "tool"):
        _no("Thinking may not be enabled when tool_choice forces tool use.")


_Turns: TypeAlias = list[tuple[str, list[Object]]]


def _messages(value: JSON) -> _Turns:
    """Role and blocks of each message, each block known and complete."""
    if not isinstance(value, list):
        _no("messages: Input should be a valid list")
    if not value:
        _no("messages: at least one message is required")
    out: _Turns = []
    for index, message in enumerate(value):
        where = f"messages.{index}"
        if not isinstance(message, Mapping):
            _no(f"{where}: Input should be an object")
        for name in message.keys() - {"role", "content"}:
            _no(f"{where}.{name}: Extra inputs are not permitted")
        role = message.get("role")
        if role not in ("user", "assistant", "system"):
            _no(f"{where}.role: Input should be 'user' or 'assistant'")
        blocks = _content(message.get("content"), f"{where}.content", role)
        if not blocks and (role != "assistant" or index < len(value) - 1):
            _no(
                f"{where}: all messages must have non-empty content except for the optional final"
                " assistant message"
            )
        if role == "assistant" and blocks and "thinking" in str(blocks[-1]["type"]):
            _no(f"{where}: The final block in an assistant message cannot be `thinking`.")
        out.append((role, blocks))
    if next((role for role, _ in out if role != "system"), "user") != "user":
        _no('messages: first message must use the "user" role')
    role, blocks = out[-1]
    tail = blocks[-1].get("text") if blocks else None
    if role == "assistant" and isinstance(tail, str) and tail != tail.rstrip():
        _no("messages: final assistant content cannot end with trailing whitespace")
    return out


def _content(value: JSON, where: str, role: str) -> list[Object]:
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    if not isinstance(value, list):
        _no(f"{where}: Input should be a valid list")
    for index, block in enumerate(value):
        if not isinstance(block, Mapping):
            _no(f"{where}.{index}: Input should be an object")
        _block(block, f"{where}.{index}", role)
    return objects_of(value)


def _block(block: Object, where: str, role: str) -> None:
    kind = block.get("type")
    if not isinstance(kind, str) or (kind not in _BLOCKS and not _OTHER_BLOCKS.fullmatch(kind)):
        _no(f"{where}: Input tag '{kind}' does not match any of the expected tags")
    if kind not in _BLOCKS:
        return
    if _ROLE_OF.get(kind, role) != role:
        _no(f"{where}: `{kind}` blocks can only be in `{_ROLE_OF[kind]}` messages")
    required, optional = _BLOCKS[kind]
    for name in required.split():
        if name not in block:
            _no(f"{where}.{kind}.{name}: Field required")
    for name in block.keys() - {"type", *required.split(), *optional.split()}:
        _no(f"{where}.{kind}.{name}: Extra inputs are not permitted")
    match kind:
        case "text":
            text = block["text"]
            if not isinstance(text, str):
                _no(f"{where}.text.text: Input should be a valid string")
            if not text:
                _no("messages: text content blocks must be non-empty")
            if not text.strip():
                _no("messages: text content blocks must contain non-whitespace text")
        case "tool_use":
            if not isinstance(block["input"], Mapping):
                _no(f"{where}.tool_use.input: Input should be a valid dictionary")
            call_id = block["id"]
            if not isinstance(call_id, str) or not _CALL_ID.fullmatch(call_id):
                _no(f"{where}.tool_use.id: String should match pattern '^{_CALL_ID.pattern}$'")
        case "tool_result":
            if not isinstance(block["tool_use_id"], str):
                _no(f"{where}.tool_result.tool_use_id: Input should be a valid string")
            content = block.get("content", "")
            if block.get("is_error") is True and not content:
                _no(f"{where}.tool_result: content cannot be empty if `is_error` is true")
            parts = _content(content, f"{where}.tool_result.content", role)
            if block.get("is_error") is True and any(part["type"] != "text" for part in parts):
                why = "all content must be type `text` if `is_error` is true"
                _no(f"{where}.tool_result: {why}")
        case _:
            pass


def _pairs(messages: _Turns) -> None:
    """Every call answered once, at the head of the next message; every answer to such a call."""
    used: set[str] = set()
    pending: list[str] = []
    for index, (_, blocks) in enumerate([*messages, ("user", [])]):
        head: list[str] = []
        inside = True
        for position, block in enumerate(blocks):
            where = f"messages.{index}.content.{position}"
            if block.get("type") != "tool_result":
                inside = False
                continue
            call_id = str(block["tool_use_id"])
            if call_id not in pending:
                _no(
                    f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}."
                    " Each `tool_result` block must have a corresponding `tool_use` block in the"
                    " previous message."
                )
            if call_id in head:
                _no(
                    f"{where}: each tool_use must have a single result. Found multiple"
                    f" `tool_result` blocks with id: {call_id}"
                )
            if inside:
                head.append(call_id)
        if missing := [one for one in pending if one not in head]:
            _no(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(missing)}. Each `tool_use` block must"
                " have a corresponding `tool_result` block in the next message."
            )
        pending = [str(block["id"]) for block in blocks if block.get("type") == "tool_use"]
        if len({*pending}) < len(pending) or not used.isdisjoint(pending):
            _no(f"messages.{index}: `tool_use` ids must be unique")
        used.update(pending)


def _signatures(messages: _Turns, issued: Issued) -> None:
    for index, (_, blocks) in enumerate(messages):
        for position, block in enumerate(blocks):
            if block.get("type") != "thinking":
                continue
            if not issued.genuine(str(block["thinking"]), str(block["signature"])):
                _no(f"messages.{index}.content.{position}: Invalid `signature` in `thinking` block")


def _kept_thinking(messages: _Turns, issued: Issued) -> None:
    """When results are sent back, the thinking before their calls has to be included."""
    if len(messages) < 2 or messages[-1][0] != "user":
        return
    blocks = messages[-2][1]
    calls = [str(block["id"]) for block in blocks if block.get("type") == "tool_use"]
    first = blocks[0].get("type") if blocks else None
    if first not in ("thinking", "redacted_thinking") and any(map(issued.thought_out, calls)):
        _no(
            f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or"
            f" `redacted_thinking`, but found `{first}`. When `thinking` is enabled, a final"
            " `assistant` message must start with a thinking block (preceding the lastmost set of"
            " `tool_use` and `tool_result` blocks)."
        )


def _cache_marks(body: Object) -> Iterable[bool]:
    """One True for each cache breakpoint."""
    blocks = [body, *objects_of(body.get("system")), *objects_of(body.get("tools"))]
    for message in objects_of(body["messages"]):
        for block in objects_of(message.get("content")):
            blocks += [block, *objects_of(block.get("content"))]
    return [block.get("cache_control") is not None for block in blocks]
