"""Which requests the fake OpenAI refuses: our own reading of the vendor's rules.

Written from the vendor's documentation and reported error messages, with their wording where
known. Fields that it does not know pass: servers that speak this wire add their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.testing.fake_turn import Refused

Object: TypeAlias = Mapping[str, JSON]

_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check(body: Object) -> None:
    """Raises Refused (400) for the first rule that the request breaks."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        _no("you must provide a model parameter")
    if "messages" not in body:
        _no(
            "Missing required parameter: 'messages'.",
            param="messages",
            code="missing_required_parameter",
        )
    messages = _array(body["messages"], "messages")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        _no(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            _no(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1.",
                param=name,
                code="integer_below_min_value",
            )
    if body.get("stream_options") is not None and body.get("stream") is not True:
        _no(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    _tools(body)
    _messages(messages)


def _no(message: str, *, param: str | None = None, code: str = "invalid_value") -> NoReturn:
    raise Refused(400, message, param=param, code=code)


def _array(value: JSON, where: str) -> list[Object]:
    """A non-empty array of objects."""
    if not isinstance(value, list):
        _no(f"Invalid type for '{where}': expected an array.", param=where, code="invalid_type")
    if not value:
        _no(
            f"Invalid '{where}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            param=where,
            code="empty_array",
        )
    return [_object(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _object(value: JSON, where: str) -> Object:
    if not isinstance(value, Mapping):
        _no(f"Invalid type for '{where}': expected an object.", param=where, code="invalid_type")
    return value


def _string(value: JSON, where: str) -> str:
    if not isinstance(value, str):
        _no(f"Invalid type for '{where}': expected a string.", param=where, code="invalid_type")
    return value


def _tools(body: Object) -> None:
    if body.get("tools") is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                _no(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are"
                    " specified.",
                    param=name,
                )
        return
    for index, tool in enumerate(_array(body["tools"], "tools")):
        if tool.get("type") == "function":
            where = f"tools[{index}].function"
            _name(_object(tool.get("function"), where).get("name"), f"{where}.name")
        elif tool.get("type") != "custom":
            _no(f"Invalid value: '{tool.get('type')}'.", param=f"tools[{index}].type")


def _name(value: JSON, where: str) -> None:
    if not _TOOL_NAME.fullmatch(_string(value, where)):
        _no(
            f"Invalid '{where}': string does not match pattern. Expected a string that matches the"
            f" pattern '^{_TOOL_NAME.pattern}$'.",
            param=where,
        )


def _messages(messages: list[Object]) -> None:
    """Each message well-formed, every call answered at once, every answer to such a call."""
    asked: list[str] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if role not in _ROLES:
            _no(
                f"Invalid value: '{role}'. Supported values are: {', '.join(map(repr, _ROLES))}.",
                param=f"{where}.role",
            )
        if role == "tool":
            call_id = _string(message.get("tool_call_id"), f"{where}.tool_call_id")
            if not asked:
                _no(
                    "Invalid parameter: messages with role 'tool' must be a response to a"
                    " preceeding message with 'tool_calls'.",
                    param=f"messages.[{index}].role",
                )
            if call_id not in asked:
                _no(
                    f"Invalid parameter: 'tool_call_id' of '{call_id}' not found in 'tool_calls' of"
                    " previous message.",
                    param=f"messages.[{index}].tool_call_id",
                )
            waiting = [other for other in waiting if other != call_id]
        else:
            _answered(waiting, index)
            asked = _calls(message, where) if role == "assistant" else []
            waiting = asked
        if message.get("content") is None and not (role == "assistant" and asked):
            _no(
                "Invalid value for 'content': expected a string, got null.",
                param=f"messages.[{index}].content",
            )
        _parts(message.get("content"), f"{where}.content")
    _answered(waiting, len(messages))


def _answered(waiting: list[str], index: int) -> None:
    if waiting:
        _no(
            "An assistant message with 'tool_calls' must be followed by tool messages responding"
            " to each 'tool_call_id'. The following tool_call_ids did not have response messages:"
            f" {', '.join(waiting)}",
            param=f"messages.[{index}].role",
        )


def _calls(message: Object, where: str) -> list[str]:
    """The ids of an assistant's calls."""
    if message.get("tool_calls") is None:
        return []
    ids: list[str] = []
    for index, call in enumerate(_array(message["tool_calls"], f"{where}.tool_calls")):
        here = f"{where}.tool_calls[{index}]"
        ids.append(_string(call.get("id"), f"{here}.id"))
        if call.get("type") == "custom":
            continue
        if call.get("type") != "function":
            _no(f"Invalid value: '{call.get('type')}'.", param=f"{here}.type")
        function = _object(call.get("function"), f"{here}.function")
        _name(function.get("name"), f"{here}.function.name")
        _string(function.get("arguments"), f"{here}.function.arguments")
    return ids


def _parts(content: JSON, where: str) -> None:
    """Content is text, or an array of typed parts."""
    if content is None or isinstance(content, str):
        return
    for index, part in enumerate(_array(content, where)):
        _string(part.get("type"), f"{where}[{index}].type")
