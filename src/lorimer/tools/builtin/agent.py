"""Give work to sub-agents: wait for it (`Agent`), or go on meanwhile (`TaskCreate`; what else there
is for tasks: `tasks.py`).

Each works in a run of its own, which `lorimer.core.children` is the port to. These tools do nothing
to the world by themselves, so they have no effects: what a sub-agent does is decided about call by
call, by the rules of the run that it works for. They are there where a manifest declares `agents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import ClassVar, Final

from lorimer.core.children import Children, describe_end
from lorimer.core.context import RunContext
from lorimer.core.errors import ToolExecutionError
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.manifest import SubAgent
from lorimer.core.subagents import AGENT
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult

MAX_PROMPT_CHARS: Final = 100_000


def object_schema(properties: Mapping[str, JSON], *required: str) -> dict[str, JSON]:
    """Of an object with these, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def children_of(context: ToolContext) -> tuple[RunContext, Children]:
    """The run of a call, and its children. Raises ToolExecutionError where it can have none."""
    run = context.run
    if run is None or run.children is None:
        raise ToolExecutionError("there are no sub-agents in this run")
    return run, run.children


class _Gives(Tool):
    """Gives work to a sub-agent."""

    subject = "subagent_type"
    effects = frozenset[str]()
    timeout_s = inf  # the child has limits of its own, within those of the run

    head: ClassVar[str]

    def __init__(self, agents: Mapping[str, str], hears: bool) -> None:
        """`agents`: name to description. `hears`: one of them has tools that bring in words of
        strangers."""
        listed = "\n".join([f"- {name}: {what}" for name, what in agents.items()])
        self.description = f"{self.head} It knows nothing but what you write. There are:\n{listed}"
        self.untrusted = hears
        self.input_schema = object_schema(
            {
                "subagent_type": {"enum": list(agents), "description": "Who is to do it"},
                "prompt": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_PROMPT_CHARS,
                    "description": "The whole task, and what to answer with",
                },
            },
            "subagent_type",
            "prompt",
        )


class Agent(_Gives):
    """A sub-agent works until its end; its last words are the result. Called again after an
    interruption it goes on with the same run. Calls in one reply may run side by side."""

    name = AGENT
    head = "Give a task to a sub-agent, and wait for its answer."
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """A refusal, and a sub-agent that did not end well, are error results; the latter with
        what it had said."""
        _, children = children_of(context)
        end = await children.call(input["subagent_type"], input["prompt"], _key(context))
        return ToolResult(describe_end(end), is_error=end.status != "ok", error=end.code)


class Delegate(Tool):
    """Gives work to one sub-agent, of which it has name, description and inputs. Its last words are
    the result, as of `Agent`."""

    effects = frozenset[str]()
    concurrency_safe = True
    timeout_s = inf  # the child has limits of its own, within those of the run

    def __init__(self, agent: SubAgent, hears: bool) -> None:
        """`agent` has `inputs`. `hears` as in `Agent`."""
        self.name = agent.name
        self.description = agent.description
        self.input_schema = agent.inputs or {}
        self.untrusted = hears

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """As of `Agent`. Of inputs that are a `prompt` alone it is given that text, else all of
        them as JSON."""
        _, children = children_of(context)
        prompt = input.get("prompt")
        if len(input) != 1 or not isinstance(prompt, str):
            prompt = f"Inputs:\n{dumps(input)}"
        end = await children.call(self.name, prompt, _key(context))
        return ToolResult(describe_end(end), is_error=end.status != "ok", error=end.code)


class TaskCreate(_Gives):
    """A sub-agent works in the background, in a run of its own, while the model goes on. The same
    call again, after an interruption, is the same task."""

    name = "TaskCreate"
    head = (
        "Give a task to a sub-agent in the background, and go on meanwhile: you are told when it "
        "has ended."
    )

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns at once; a refusal is an error result."""
        _, children = children_of(context)
        task = await children.begin(input["subagent_type"], input["prompt"], _key(context))
        return ToolResult(f"Task {task.id} has begun: {task.agent} is at work.")


def _key(context: ToolContext) -> str:
    """Of the call, within its iteration."""
    return context.idempotency_key.rpartition("-")[2]
