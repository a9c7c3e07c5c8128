"""The folder in which a call starts: the workspace, or the worktree that the conversation entered
last.

Relative paths among the arguments are resolved from there before permission is decided: rules,
which are relative to the workspace, then see where the paths lead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.tools.base import ToolInput
from lorimer.tools.registry import Entry
from lorimer.tools.shown import EXIT_WORKTREE, WORKTREE_TOOLS

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.tools.toolset import Toolset


def placed(tools: Toolset, entry: Entry, input: ToolInput, run: RunContext) -> ToolInput:
    """The arguments of a call, with paths resolved. Raises `exec.tool.access_denied` if the
    worktree no longer exists, or a link leads elsewhere from there."""
    folder = tools.folder_in(run) if run.past_calls else ""
    if not folder or tools.working_dir is None or entry.spec.name in WORKTREE_TOOLS:
        return input
    home = os.path.realpath(tools.working_dir)
    start = f"{home}/{folder}"
    if not os.path.isdir(start) or os.path.realpath(start) != start:
        raise ToolExecutionError(
            f"the worktree {folder} no longer exists: call {EXIT_WORKTREE}.",
            code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
        )
    for name in entry.tool.paths:
        if name in input:
            input[name] = _beneath(input[name], start)
    return input


def begins(tools: Toolset, entry: Entry, run: RunContext) -> Path | None:
    """The folder in which a call starts."""
    folder = tools.folder_in(run) if run.past_calls else ""
    if not folder or tools.working_dir is None or entry.spec.name in WORKTREE_TOOLS:
        return tools.working_dir
    return tools.working_dir / folder


def _beneath(value: JSON, start: str) -> JSON:
    if isinstance(value, str):
        return value if value.startswith("/") or not value else f"{start}/{value}"
    if isinstance(value, list | tuple):
        return [_beneath(item, start) for item in cast("list[JSON]", value)]
    return value
