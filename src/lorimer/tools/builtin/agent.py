"""Delegate to sub-agents: wait for the result (`Agent`), or continue meanwhile (`TaskCreate`; for
other task tools see `tasks.py`).

Each sub-agent works in a run of its own, through the port `lorimer.core.children`. These tools do
nothing to the world themselves, so they have no effects: the calls of a sub-agent are permitted one
by one, by the rules of the parent run. They exist if a manifest declares `agents`.
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
    """Schema of an object with these properties only."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def children_of(context: ToolContext) -> tuple[RunContext, Children]:
    """The run of a call, and its children. Raises ToolExecutionError if it can have none."""
    run = context.run
    if run is None or run.children is None:
        raise ToolExecutionError("there are no sub-agents in this run")
    return run, run.children


class _Gives(Tool):
    """Delegates to a sub-agent."""

    subject = "subagent_type"
    effects = frozenset[str]()
    timeout_s = inf  # the child has limits of its own, within those of the run

    head: ClassVar[str]

    def __init__(self, agents: Mapping[str, str], hears: bool) -> None:
        """`agents`: name to description. `hears`: one of them has tools with untrusted results."""
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
    """Runs a sub-agent to its end; its last text is the result. Repeated after an interruption, the
    call resumes the same run. Calls in one reply may run in parallel."""

    name = AGENT
    head = "Give a task to a sub-agent, and wait for its answer."
    concurrency_safe = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """A refusal, and a sub-agent that failed, are error results; the latter with what it had
        said."""
        _, children = children_of(context)
        end = await children.call(input["subagent_type"], input["prompt"], _key(context))
        return ToolResult(describe_end(end), is_error=end.status != "ok", error=end.code)


class Delegate(Tool):
    """Delegates to one sub-agent, and has its name, description and inputs. The sub-agent's last
    text is the result, as with `Agent`."""

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
        """As with `Agent`. If `prompt` is the only input, the sub-agent receives that text,
        otherwise all inputs as JSON."""
        _, children = children_of(context)
        prompt = input.get("prompt")
        if len(input) != 1 or not isinstance(prompt, str):
            prompt = f"Inputs:\n{dumps(input)}"
        end = await children.call(self.name, prompt, _key(context))
        return ToolResult(describe_end(end), is_error=end.status != "ok", error=end.code)


class TaskCreate(_Gives):
    """Runs a sub-agent in the background, in a run of its own, while the model continues. Repeated
    after an interruption, the call refers to the same task."""

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
    """Key of the call within its iteration."""
    return context.idempotency_key.rpartition("-")[2]
