"""The state of tools at one point of a conversation: whether plan mode is on, which deferred tools
were found, which worktree was entered. It is computed from the calls in the conversation, so it is
the same when a run is resumed, replayed or forked, and in the next run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message, ToolResultBlock, ToolUse
from lorimer.core.record import record
from lorimer.core.tool import PastCall

if TYPE_CHECKING:
    from collections.abc import Collection

ENTER_PLAN: Final = "EnterPlanMode"
EXIT_PLAN: Final = "ExitPlanMode"
SEARCH: Final = "ToolSearch"
ENTER_WORKTREE: Final = "EnterWorktree"
EXIT_WORKTREE: Final = "ExitWorktree"
WORKTREE_TOOLS: Final = frozenset({ENTER_WORKTREE, EXIT_WORKTREE})

WORKTREES: Final = ".worktrees"
"""The folder for worktrees without a given location."""

_LOADED: Final = re.compile(r"Loaded: ([\w-]+(?:, [\w-]+)*)\.")


@record
class Shown:
    """What has changed since the start of a conversation."""

    planning: bool = False
    loaded: tuple[str, ...] = ()
    """Deferred tools that were found, in that order."""
    folders: tuple[str, ...] = ()
    """Worktrees that were entered and not left, relative to the workspace: calls start in the last
    one."""


AT_FIRST: Final = Shown()


def shown(calls: Sequence[PastCall]) -> Shown:
    """The state after the successful calls of a conversation."""
    if not calls:
        return AT_FIRST
    planning = False
    loaded: dict[str, None] = {}
    folders: list[str] = []
    for call in succeeded(calls):
        name = call.use.name
        if name in (ENTER_PLAN, EXIT_PLAN):
            planning = name == ENTER_PLAN
        elif name == SEARCH:
            loaded.update(dict.fromkeys(loaded_by(call.result)))
        elif name == ENTER_WORKTREE:
            folders.append(worktree_folder(call.use.input))
        elif name == EXIT_WORKTREE and folders:
            folders.pop()
    return Shown(planning, tuple(loaded), tuple(folders))


def worktree_folder(input: Mapping[str, JSON]) -> str:
    """The folder that a call of EnterWorktree refers to, relative to the workspace."""
    path = str(input.get("path") or "").rstrip("/")
    return path or f"{WORKTREES}/{str(input.get('branch')).replace('/', '-')}"


def loading(names: Sequence[str]) -> str:
    """The first line of a result that loads tools."""
    return f"Loaded: {', '.join(names)}."


def loaded_by(result: ToolResultBlock) -> list[str]:
    """The tools that a result of ToolSearch loads."""
    text = result.content if isinstance(result.content, str) else ""
    found = _LOADED.match(text)
    return found[1].split(", ") if found is not None else []


def succeeded(calls: Iterable[PastCall]) -> list[PastCall]:
    """The calls whose result is not an error."""
    return [call for call in calls if not call.result.is_error]


def look_back(messages: Sequence[Message], names: Collection[str]) -> Iterator[PastCall]:
    """The calls of these tools in a conversation that have a result."""
    waiting: dict[str, ToolUse] = {}
    for message in messages:
        if message.role == "assistant":
            waiting = {use.id: use for use in message.tool_uses if use.name in names}
            continue
        if not waiting:
            continue
        for result in [block for block in message.content if isinstance(block, ToolResultBlock)]:
            use = waiting.get(result.tool_use_id)
            if use is not None:
                yield PastCall(use, result)
        waiting = {}
