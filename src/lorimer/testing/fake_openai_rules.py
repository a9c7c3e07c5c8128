"""Which requests the fake OpenAI rejects: our own reading of the vendor's rules.

Written from the vendor's documentation and reported error messages, with their wording where known.
Unknown fields are accepted: servers with this wire add their own.
"""

from __future__ import annotations

from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.testing.fake_openai_shared import (
    Object,
    array,
    check_stream_options,
    missing,
    named,
    no,
    object_of,
    parameters,
    string,
)

_ROLES: Final = ("system", "assistant", "user", "function", "tool", "developer")


def check(body: Object) -> None:
    """Raises Refused (400) for the first rule that the request breaks."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        no("you must provide a model parameter")
    if "messages" not in body:
        missing("messages")
    messages = array(body["messages"], "messages")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        no(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            no(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1.",
                param=name,
                code="integer_below_min_value",
            )
    check_stream_options(body)
    _tools(body)
    _messages(messages)


def _tools(body: Object) -> None:
    if body.get("tools") is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                no(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are"
                    " specified.",
                    param=name,
                )
        return
    for index, tool in enumerate(array(body["tools"], "tools")):
        if tool.get("type") == "function":
            where = f"tools[{index}].function"
            function = object_of(tool.get("function"), where)
            name = named(function.get("name"), f"{where}.name")
            if function.get("parameters") is not None:
                schema = object_of(function["parameters"], f"{where}.parameters")
                parameters(schema, name, f"{where}.parameters")
        elif tool.get("type") != "custom":
            no(f"Invalid value: '{tool.get('type')}'.", param=f"tools[{index}].type")


def _messages(messages: list[Object]) -> None:
    """Each message is well-formed, every call answered immediately, every answer refers to such a
    call."""
    asked: list[str] = []
    waiting: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if role not in _ROLES:
            no(
                f"Invalid value: '{role}'. Supported values are: {', '.join(map(repr, _ROLES))}.",
                param=f"{where}.role",
            )
        if role == "tool":
            call_id = string(message.get("tool_call_id"), f"{where}.tool_call_id")
            if not asked:
                no(
                    "Invalid parameter: messages with role 'tool' must be a response to a"
                    " preceeding message with 'tool_calls'.",
                    param=f"messages.[{index}].role",
                )
            if call_id not in asked:
                no(
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
            no(
                "Invalid value for 'content': expected a string, got null.",
                param=f"messages.[{index}].content",
            )
        _parts(message.get("content"), f"{where}.content")
    _answered(waiting, len(messages))


def _answered(waiting: list[str], index: int) -> None:
    if waiting:
        no(
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
    for index, call in enumerate(array(message["tool_calls"], f"{where}.tool_calls")):
        here = f"{where}.tool_calls[{index}]"
        ids.append(string(call.get("id"), f"{here}.id"))
        if call.get("type") == "custom":
            continue
        if call.get("type") != "function":
            no(f"Invalid value: '{call.get('type')}'.", param=f"{here}.type")
        function = object_of(call.get("function"), f"{here}.function")
        named(function.get("name"), f"{here}.function.name")
        string(function.get("arguments"), f"{here}.function.arguments")
    return ids


def _parts(content: JSON, where: str) -> None:
    """Content is text, or an array of typed parts."""
    if content is None or isinstance(content, str):
        return
    for index, part in enumerate(array(content, where)):
        string(part.get("type"), f"{where}[{index}].type")
