"""Manage background tasks: show their status and output, send them messages, cancel them.
`TaskCreate` (`agent.py`) starts them. Each task is a run of its own, and nothing else is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lorimer.core.children import RUNNING, WAITING, Children, Task
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError, nearest
from lorimer.core.manifest import SubAgent
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.agent import (
    MAX_PROMPT_CHARS,
    Agent,
    Delegate,
    TaskCreate,
    children_of,
    object_schema,
)

MAX_WAIT_S: Final = 600.0
_PAGE: Final = 20_000
_ID: Final = {"type": "string", "pattern": "^t[0-9]{1,9}$", "description": "Such as t1"}
_AT_WORK: Final = (RUNNING, WAITING)


def agent_tools(agents: Sequence[SubAgent], *, tasks: bool, hears: bool) -> list[Tool]:
    """The tools for these sub-agents; with `tasks` also those for background work. `hears`: one of
    them has tools with untrusted results."""
    tools: list[Tool] = [Delegate(each, hears) for each in agents if each.inputs is not None]
    described = {each.name: each.description for each in agents if each.inputs is None}
    if described:
        tools.append(Agent(described, hears))
    if described and tasks:
        tools.append(TaskCreate(described, hears))
        tools += [TaskGet(), TaskList(), TaskUpdate(), TaskStop(), TaskOutput(hears)]
    return tools


class _Task(Tool):
    """A tool for background tasks."""

    effects = frozenset[str]()
    input_schema: Any = object_schema({"task_id": _ID}, "task_id")

    async def all(self, context: ToolContext) -> tuple[Children, dict[str, Task]]:
        """All tasks, by id."""
        _, children = children_of(context)
        await children.revive()
        return children, {task.id: task for task in await children.tasks()}

    async def one(self, input: ToolInput, context: ToolContext) -> tuple[Children, Task]:
        """The task with the given id. Raises ToolExecutionError for an unknown one."""
        children, tasks = await self.all(context)
        wanted = input["task_id"]
        if wanted not in tasks:
            raise ToolExecutionError(
                f"there is no task {wanted!r}{nearest(wanted, tasks)}",
                code=ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT,
                tool_name=str(self.name),
            )
        return children, tasks[wanted]


class TaskGet(_Task):
    """Shows the status of one task."""

    name = "TaskGet"
    description = "How a task in the background stands: running, waiting for a person, or its end."
    polling = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        _, task = await self.one(input, context)
        return ToolResult(f"{_line(task)}\nIts task: {task.input}")


class TaskList(_Task):
    """Lists all tasks with their status."""

    name = "TaskList"
    description = "All tasks in the background, with how each stands."
    input_schema: Any = object_schema(
        {"status": {"enum": [RUNNING, WAITING, "ended"], "description": "Only those"}}
    )
    polling = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        _, tasks = await self.all(context)
        wanted = input.get("status", "")
        lines = [
            _line(task)
            for task in tasks.values()
            if wanted in ("", task.status if task.status in _AT_WORK else "ended")
        ]
        return ToolResult("\n".join(lines) or "There are no such tasks.")


class TaskUpdate(_Task):
    """Sends a task a further message; once, however often the call is repeated."""

    name = "TaskUpdate"
    description = "Send words to a task that is at work: it sees them before its next step."
    input_schema: Any = object_schema(
        {
            "task_id": _ID,
            "message": {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_CHARS},
        },
        "task_id",
        "message",
    )

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An error result for a task that has ended."""
        children, task = await self.one(input, context)
        if await children.tell(task, input["message"], context.idempotency_key):
            return ToolResult(f"Sent to {task.id}.")
        return ToolResult(f"{task.id} has ended: nobody would read it.", is_error=True)


class TaskStop(_Task):
    """Cancels a task."""

    name = "TaskStop"
    description = "Cancel a task in the background. What it did until then stays done."

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns when it has ended."""
        children, task = await self.one(input, context)
        await children.stop(task)
        return ToolResult(_line(await _now(children, task)))


class TaskOutput(_Task):
    """Shows what a task has said so far, even while it is running."""

    name = "TaskOutput"
    description = (
        "What a task in the background has said until now, from a place in it on. With "
        "wait_seconds it waits for the end of the task first, at most so long."
    )
    input_schema: Any = object_schema(
        {
            "task_id": _ID,
            "offset": {"type": "integer", "minimum": 0, "description": "Characters (default 0)"},
            "limit": {"type": "integer", "minimum": 1, "maximum": _PAGE},
            "wait_seconds": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S},
        },
        "task_id",
    )
    timeout_s = MAX_WAIT_S + 60
    polling = True

    def __init__(self, hears: bool) -> None:
        """`hears`: a sub-agent has tools with untrusted results."""
        self.untrusted = hears

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        children, task = await self.one(input, context)
        wait_s = input.get("wait_seconds", 0.0)
        if wait_s and task.status == RUNNING:
            await children.wait(wait_s, task)
            task = await _now(children, task)
        text, begin = await children.output(task), input.get("offset", 0)
        limit = min(input.get("limit", _PAGE), max(1, context.max_result_chars - 500))
        page = text[begin : begin + limit]
        end = begin + len(page)
        more = f"; go on from offset {end}" if end < len(text) else ""
        where = f"characters {begin} to {end} of {len(text)}{more}"
        return ToolResult(f"{page}\n[{_line(task)}; {where}]")


def _line(task: Task) -> str:
    return f"{task.id} ({task.agent}): {task.status}"


async def _now(children: Children, task: Task) -> Task:
    return next(each for each in await children.tasks() if each.id == task.id)
