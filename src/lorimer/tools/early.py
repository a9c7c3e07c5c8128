"""Starts calls while the model is still writing its reply, as soon as the arguments of one are
complete.

An early start is not recorded. Once the reply is complete, the call goes through `dispatch.py` and
is decided like any other; only its result is there sooner. So only tools that declare it
(`Tool.early`) are started early, and only calls that need no decision.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, cast

from lorimer.core.brackets import Brackets
from lorimer.core.context import Safety
from lorimer.core.errors import ToolExecutionError
from lorimer.core.hooks import HookEvent
from lorimer.core.jsonable import JSON
from lorimer.core.messages import ToolUse
from lorimer.core.record import record
from lorimer.core.request import ToolInputDelta
from lorimer.tools.admission import accepted
from lorimer.tools.calling import Told, make

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState
    from lorimer.tools.toolset import Toolset


@record
class _Begun:
    use: ToolUse
    task: asyncio.Task[Mapping[str, JSON]]


class _Arguments:
    """The arguments of one call, a JSON object that arrives in pieces."""

    __slots__ = ("_brackets", "_parts", "name")

    def __init__(self) -> None:
        self.name = ""
        self._parts: list[str] = []
        self._brackets = Brackets()

    def add(self, text: str) -> str:
        """Add a piece. Returns the whole text if this piece completes it, else ""."""
        if self._brackets.closed:
            return ""
        self._parts.append(text)
        self._brackets.look(text)
        return "".join(self._parts) if self._brackets.closed else ""


class Early:
    """The calls that one run has started early. Their tasks are cancelled when the next reply
    begins and when the run ends."""

    def __init__(self, tools: Toolset, state: PipelineState) -> None:
        self.tools = tools
        self._state = state
        self._open: dict[int, _Arguments] = {}
        self._begun: dict[int, _Begun] = {}
        self._left: set[asyncio.Task[Mapping[str, JSON]]] = set()

    def anew(self) -> None:
        """A new reply begins: cancel what was started for the previous one."""
        self._open.clear()
        for begun in self._begun.values():
            begun.task.cancel()
            self._left.add(begun.task)
            begun.task.add_done_callback(self._gone)
        self._begun.clear()

    def _gone(self, task: asyncio.Task[Mapping[str, JSON]]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved and dropped: the reply did not contain the call

    def piece(self, item: ToolInputDelta) -> None:
        """Take a piece of a call's arguments; start the call if it is complete."""
        arguments = self._open.get(item.index)
        if arguments is None:
            arguments = self._open[item.index] = _Arguments()
        arguments.name = arguments.name or item.name
        text = arguments.add(item.partial_json)
        if text and item.index not in self._begun:
            self._begin(item.index, arguments.name, text)

    def _begin(self, index: int, name: str, text: str) -> None:
        tools, run = self.tools, self._state.run
        limits = run.bounds.limits
        if index != len(self._begun):
            return  # an earlier call was not started, and may change what this one reads
        running = sum(not begun.task.done() for begun in self._begun.values())
        if index >= limits.max_calls_per_turn or running >= limits.max_parallel_tools:
            return
        if run.bounds.tool_calls + len(self._begun) >= limits.max_tool_calls:
            return
        try:
            value = cast("JSON", json.loads(text))
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        use = ToolUse("", name, value)
        if not self._may_be_early(use):
            return
        try:
            entry, arguments = accepted(tools, use, run)
        except ToolExecutionError:
            return
        if not tools.policy_in(run).needs_no_decision(entry):
            return
        work = make(tools, entry, arguments, use, str(index), Told.untold(), run)
        self._begun[index] = _Begun(use, asyncio.ensure_future(work))

    def _may_be_early(self, use: ToolUse) -> bool:
        """Whether the tool declares it, and no person, guard or reviewer has a say in this call."""
        entry = self.tools.callable(use.name)
        if entry is None or not entry.tool.early or entry.safety is not Safety.READ_ONLY:
            return False
        hooks, review = self.tools.hooks, self._state.run.review
        if entry.asks or (hooks is not None and hooks.guards(HookEvent.PRE_TOOL_USE, use.name)):
            return False
        return review is None or all(
            found.action == "annotate" for found in review.of(use.name, use.input)
        )

    def take(self, index: int, use: ToolUse) -> Callable[[], Awaitable[Mapping[str, JSON]]] | None:
        """Waits for the result of the call if it was started early with these arguments, else
        None."""
        begun = self._begun.get(index)
        if begun is None or (begun.use.name, begun.use.input) != (use.name, use.input):
            return None
        del self._begun[index]

        async def finish() -> Mapping[str, JSON]:
            return await begun.task  # cancelled together with its waiter

        return finish

    async def end(self) -> None:
        """The run has ended: cancel the calls and wait for them."""
        self.anew()
        if self._left:
            await asyncio.wait(self._left)
