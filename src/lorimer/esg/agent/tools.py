"""Code in steps that depend on each other: the tools `step`, `edit_step`, `replay`, `graph` and
`diagnose`.

They have no store: the calls of the conversation determine the steps (`record.py`). `desk.py` makes
a session's answers; `session.py` decides where it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON, clean
from lorimer.esg.agent.desk import Message
from lorimer.esg.agent.record import CHANGES, DIAGNOSE, EDIT, GRAPH, ID, REPLAY, STEP
from lorimer.esg.agent.session import (
    MAX_S,
    Confined,
    InProcess,
    StepEnded,
    StepSession,
    StepSessions,
    texts,
)
from lorimer.esg.agent.told import told
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.programs import patience

DEFAULT_S: Final = 60
_MAX_CODE: Final = 200_000

_ID: Final[dict[str, JSON]] = {
    "type": "string",
    "pattern": f"^{ID}$",
    "description": "The step",
}
_TIME: Final[dict[str, JSON]] = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": MAX_S,
    "description": f"Seconds that all of it may take (default {DEFAULT_S}, at most {MAX_S})",
}


def _schema(required: list[str], **properties: JSON) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


class StepTool(Tool):
    """What the five tools have in common. `make` makes the session of a run; by default a process
    of its own, in the host's sandbox."""

    recalls = CHANGES
    recalls_errors = True
    confined = True

    def __init__(self, make: Callable[[ToolContext], StepSession] = Confined) -> None:
        self._make = make

    async def _ask(self, request: Message, input: ToolInput, context: ToolContext) -> ToolResult:
        run = context.run
        if run is None or context.working_dir is None:
            raise ToolExecutionError(
                "There is no folder to run steps in: whoever made this agent has to give it one "
                "(workspace=...)."
            )
        timeout_s = patience(context, input.get("timeout_seconds", DEFAULT_S))

        def tell(message: Message) -> None:
            _tell(message, context)

        sessions = run.owned.own(StepSessions, lambda: StepSessions(self._make))
        try:
            asked = await sessions.ask(request, context, timeout_s, tell)
        except TimeoutError:
            raise self._undone(
                f"it took longer than {timeout_s:g} s, its time-out",
                ExecutorErrorCode.EXEC_STEP_TIMEOUT,
            ) from None
        except StepEnded as end:
            raise self._undone(str(end), end.code) from end
        error = asked.answer.get("error")
        if isinstance(error, str):
            raise ToolExecutionError(
                error, code=ExecutorErrorCode.EXEC_STEP_INVALID, tool_name=self.name
            )
        text = asked.answer.get("text")
        if isinstance(text, str):
            content = text
        else:
            code = input.get("code")
            changed = code if code != context.asked.get("code") else None
            content = told(asked, str(input.get("id") or ""), changed)
        runs = asked.answer.get("runs")
        failed = isinstance(runs, list) and any(
            isinstance(each, dict) and each.get("ok") is not True for each in runs
        )
        metadata: dict[str, JSON] = {}
        if asked.isolation is not None:
            metadata["isolation"] = asked.isolation.to_json()
        return ToolResult(content, is_error=failed, metadata=metadata)

    def _undone(self, why: str, code: ExecutorErrorCode) -> ToolExecutionError:
        return ToolExecutionError(
            f"the code was ended: {why}. This call changed no step, so its code has to be sent "
            "again; what it did to files until then stays done. Earlier steps are as they were.",
            code=code,
            tool_name=self.name,
        )


def _tell(message: Message, context: ToolContext) -> None:
    """Reports what happens in the session to listeners and the line of progress; `message` may have
    any content."""
    run, step = context.run, clean(str(message.get("step")))[:60]
    steps: list[JSON] = [clean(each)[:60] for each in texts(message.get("steps"))]
    if run is None or run.reason is not None:
        return
    match message.get("event"):
        case "step.started":
            run.signal("step.started", {"step": step})
            context.progress(f"running {step}")
        case "step.finished":
            run.signal("step.finished", {"step": step, "ok": message.get("ok") is True})
        case "step.stale":
            run.signal("step.stale", {"steps": steps})
        case "step.replayed":
            run.signal("step.replayed", {"steps": steps})
        case "step.patched":
            run.signal("step.patched", {"step": step})
        case _:
            pass


class Step(StepTool):
    """Adds Python code as a step, and runs it. Variables, functions and imports of earlier steps
    are available.

    Steps run in a confined worker, with the packages installed beside Lorimer, and cannot start
    programs. The worker starts in the working directory at the first call and ends with the run.
    The steps stay with the conversation: after an interruption, and in its next run, their values
    are made again when a step needs them. The exception are steps that affected the outside (wrote
    files, started programs, used the network): those run again only when `replay` names them. On
    timeout the call is undone and the process killed. A step that raises is an error result, and
    has changed no variable.
    """

    name = STEP
    description = (
        "Run Python code as a named step, like a notebook cell: variables, imports and functions "
        "of earlier steps are there, and what is printed and the value of the last line are "
        "shown. Keep steps small, one purpose each (load, clean, compute, plot), so that a later "
        "change runs little again. To change a step use edit_step; do not send it once more as a "
        "new one. A step that raises changes no variable. No % magics; programs cannot be started."
    )
    input_schema = _schema(
        ["code"],
        code={
            "type": "string",
            "minLength": 1,
            "maxLength": _MAX_CODE,
            "description": "Python code; top-level await works",
        },
        id={**_ID, "description": "A short name for it, e.g. load (default s1, s2, ...)"},
        after={
            "type": "string",
            "maxLength": 60,
            "description": 'Put it right after this step ("": before all), not at the end',
        },
        timeout_seconds=_TIME,
    )
    subject = "code"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        request = {"op": "step", **_some(input, "id", "code", "after")}
        return await self._ask(request, input, context)


class EditStep(StepTool):
    """Replaces the code of a step, and runs it and everything that depends on it, each with the
    values that belong at its place; nothing else. Steps that started programs or used the network
    are not run again by an edit of another."""

    name = EDIT
    description = (
        "Change the code of a step. It runs again, and so do the later steps that its change "
        "makes stale, and no others: do not repeat them yourself. Give all of its new code; empty "
        "code deletes the step."
    )
    input_schema = _schema(
        ["id", "code"],
        id=_ID,
        code={"type": "string", "maxLength": _MAX_CODE, "description": "All of its new code"},
        timeout_seconds=_TIME,
    )
    subject = "code"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        return await self._ask({"op": "edit", **_some(input, "id", "code")}, input, context)


class Replay(StepTool):
    """Runs what is not up to date; with `id`, that step and what depends on it in any case. `again`
    names steps that affected the outside and may do so once more."""

    name = REPLAY
    description = (
        "Run the steps that are not up to date: after a file that they read has changed, or "
        "where a result said that a step was not run. With id, run that step again and what "
        "depends on it."
    )
    input_schema = _schema(
        [],
        id={**_ID, "description": "Run this step again, though it is up to date"},
        again={
            "type": "array",
            "items": {"type": "string", "maxLength": 60},
            "maxItems": 200,
            "description": "Steps that wrote files, started programs or used the network, and are "
            "to do so once more",
        },
        timeout_seconds=_TIME,
    )
    subject = "id"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        return await self._ask({"op": "replay", **_some(input, "id", "again")}, input, context)


class Graph(StepTool):
    """Shows the steps in order, with what each reads from which and makes, and whether it is up to
    date; or everything about one of them; or those that some feedback is about. Runs nothing."""

    name = GRAPH
    description = (
        "Show the steps, what each takes from which, and which are not up to date. With id: all "
        "about one step, and its code. With about: the steps that a remark in words concerns, "
        "with their code and that of the steps they need. Runs nothing."
    )
    input_schema = _schema(
        [],
        id=_ID,
        about={
            "type": "string",
            "minLength": 1,
            "maxLength": 2000,
            "description": "A remark, e.g. 'the chart should show per cent'",
        },
    )
    effects = frozenset[str]()

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        if "about" in input:
            request: dict[str, JSON] = {"op": "about", "words": input["about"]}
        else:
            request = {"op": "graph", **_some(input, "id")}
        return await self._ask(request, input, context)


class Diagnose(StepTool):
    """Finds out why a step failed: possible causes, the most likely first, the steps that it needs,
    and a patch if a rule knows one. With `apply` the patch is applied, and reverted unless the step
    then runs and no other fails. Asks no model."""

    name = DIAGNOSE
    description = (
        "Find out why a step failed: likely causes, the code of the steps that it needs, and a "
        "patch if there is one. With apply, make that patch and keep it if the step then runs."
    )
    input_schema = _schema(
        ["id"],
        id=_ID,
        apply={"type": "boolean", "description": "Make the patch (default false)"},
        timeout_seconds=_TIME,
    )
    subject = "id"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        request = {"op": "diagnose", **_some(input, "id", "apply")}
        return await self._ask(request, input, context)


def _some(input: ToolInput, *names: str) -> dict[str, JSON]:
    return {name: input[name] for name in names if name in input}


def trusted_steps() -> list[Tool]:
    """The five tools for code that the host trusts: it runs in this process, unconfined."""
    return [kind(InProcess) for kind in (Step, EditStep, Replay, Graph, Diagnose)]
