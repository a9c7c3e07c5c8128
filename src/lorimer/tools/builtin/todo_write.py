"""Keep a to-do list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from lorimer.core.jsonable import JSON, objects_of
from lorimer.core.messages import Message
from lorimer.core.record import record
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.shown import look_back, succeeded

NAME: Final = "TodoWrite"
MAX_TODOS: Final = 100
MAX_CHARS: Final = 1_000
"""Most characters of one item."""

_MARKS: Final = {"pending": " ", "in_progress": "~", "completed": "x"}

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_CHARS}
_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "todos": {
            "type": "array",
            "maxItems": MAX_TODOS,
            "description": "The whole list, which replaces the one before",
            "items": {
                "type": "object",
                "properties": {
                    "content": {**_TEXT, "description": "What is to be done"},
                    "status": {"type": "string", "enum": list(_MARKS)},
                    "activeForm": {**_TEXT, "description": "The same while it is done: 'Testing'"},
                },
                "required": ["content", "status"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["todos"],
    "additionalProperties": False,
}


@record
class Todo:
    """An item of the list."""

    content: str
    status: str
    """`pending`, `in_progress` or `completed`."""


class TodoWrite(Tool):
    """Replaces the conversation's to-do list: at most 100 items, each `pending`, `in_progress` or
    `completed`. `todos_of` reads the list from a conversation."""

    name = NAME
    description = (
        "Write down what is to be done, for work of several steps: give the whole list each time. "
        "Mark a step in_progress when you begin it, completed as soon as it is done."
    )
    input_schema = _SCHEMA
    effects = frozenset[str]()

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. Its metadata has the current list as `todos`."""
        todos = _read(input)
        done = sum(todo.status == "completed" for todo in todos)
        lines = [f"[{_MARKS[todo.status]}] {todo.content}" for todo in todos]
        head = f"{done} of {len(todos)} done" if todos else "the list is empty"
        kept: list[JSON] = [{"content": todo.content, "status": todo.status} for todo in todos]
        return ToolResult("\n".join([*lines, head]), metadata={"todos": kept}, display=head)


def todos_of(messages: Sequence[Message]) -> list[Todo]:
    """The list in a conversation, such as `PipelineResult.messages`."""
    calls = succeeded(look_back(messages, {NAME}))
    return _read(calls[-1].use.input) if calls else []


def _read(input: Mapping[str, JSON]) -> list[Todo]:
    return [
        Todo(str(item.get("content")), str(item.get("status")))
        for item in objects_of(input.get("todos"))
        if item.get("status") in _MARKS
    ]
