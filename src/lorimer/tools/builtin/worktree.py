"""Work in a git worktree: a copy of the repository's files, on its own branch.

`tools/folders.py` makes calls start in the worktree that was entered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.world import ProcessLimits
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.rooted import opened
from lorimer.tools.policy.effects import PROTECTED
from lorimer.tools.shown import (
    ENTER_WORKTREE,
    EXIT_WORKTREE,
    WORKTREES,
    shown,
    worktree_folder,
)
from lorimer.world.files import RootedFiles
from lorimer.world.spellings import folded

_TIMEOUT_S: Final = 100.0
_MAX_OUTPUT: Final = 1_048_576
_MAX_TOLD: Final = 20
# neither hooks nor a file monitor of the repository: they are the host's, not this call's
_GIT: Final = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
_ENVIRONMENT: Final = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # its messages are looked at


class EnterWorktree(Tool):
    """Creates a worktree of the workspace's git repository, below the workspace, and enters it:
    later calls of the conversation start there. An existing one is entered. The workspace has to be
    the top folder of the repository.

    Idempotent: an interrupted call is simply repeated. Git is run in the host's sandbox, and
    without the repository's hooks.
    """

    name = ENTER_WORKTREE
    description = (
        "Work on a branch in a folder of its own (git worktree), so that the files here stay as "
        "they are. From then on paths and commands are relative to that folder, until "
        f"{EXIT_WORKTREE}."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "branch": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "The branch; made if there is none of that name",
            },
            "path": {
                "type": "string",
                "minLength": 1,
                "maxLength": 500,
                "description": f"Its folder in the workspace (default {WORKTREES}/BRANCH)",
            },
            "base": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Where a new branch begins (default: what is checked out here)",
            },
        },
        "required": ["branch"],
        "additionalProperties": False,
    }
    effects = frozenset({"read", "write", "exec"})
    idempotent = True
    confined = True
    subject = "branch"
    paths = frozenset({"path"})
    recalls = frozenset({ENTER_WORKTREE, EXIT_WORKTREE})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. What git refuses is an error result."""
        home, files = _home(context), opened(context)
        branch: str = input["branch"]
        folder = worktree_folder(input)
        place = await _checked(folder, home, context)
        if branch.startswith("-"):
            raise ToolExecutionError(f"{branch!r} is not a valid name for a branch.")
        await _at_the_top(context, home)
        await _git(context, home, "check-ref-format", f"refs/heads/{branch}", why="no such name")
        if await context.in_thread(lambda: files.exists(place)):
            return await _enter_again(context, home, folder, place, branch)
        if folder.startswith(f"{WORKTREES}/"):
            await context.in_thread(lambda: _keep_out_of_git(files, home))
        known, _ = await _try(
            context, home, "show-ref", "--verify", "--quiet", f"refs/heads/{branch}"
        )
        if known:
            if "base" in input:
                raise ToolExecutionError(f"the branch {branch!r} is there already: give no base.")
            words = [place, branch]
        else:
            base = await _git(
                context,
                home,
                *("rev-parse", "--verify", "--quiet", "--end-of-options"),
                f"{input.get('base', 'HEAD')}^{{commit}}",
                why="there is no such commit to begin at"
                + ("" if "base" in input else "; the repository has none yet"),
            )
            words = ["-b", branch, place, base]
        await _git(context, home, "worktree", "add", "--quiet", *words)
        return _entered(folder, branch, "a new worktree")


class ExitWorktree(Tool):
    """Leaves the worktree that was entered last; with `remove`, deletes its folder. The branch and
    its commits stay. A folder with uncommitted changes, or with commits that are on no branch, is
    never deleted: it is left, and the model is told."""

    name = EXIT_WORKTREE
    description = (
        f"Leave the worktree that {ENTER_WORKTREE} entered last. With `remove` its folder goes "
        "too, unless something in it is not committed; its branch stays."
    )
    input_schema: Any = {  # noqa: RUF012 - as above
        "type": "object",
        "properties": {
            "remove": {"type": "boolean", "description": "Remove its folder (default false)"}
        },
        "additionalProperties": False,
    }
    effects = frozenset({"read", "write", "exec"})
    idempotent = True
    confined = True
    recalls = frozenset({ENTER_WORKTREE, EXIT_WORKTREE})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. Without a worktree, and where it cannot be removed, an error result."""
        folders = shown(context.past).folders
        if not folders:
            return ToolResult("no worktree was entered", is_error=True)
        home, files, folder = _home(context), opened(context), folders[-1]
        back = folders[-2] if len(folders) > 1 else ""
        left = f"Calls begin in {back or 'the workspace'} again."
        now = {"folder": back}
        if not input.get("remove", False):
            return ToolResult(f"{left} The worktree {folder} stays.", metadata=now)
        place = await _checked(folder, home, context)
        if not await context.in_thread(lambda: files.exists(home / folder)):
            return ToolResult(f"{left} The worktree {folder} is not there any more.", metadata=now)
        await _nothing_is_lost(context, home / folder)
        await _git(context, home, "worktree", "remove", place)
        return ToolResult(
            f"{left} The worktree {folder} is removed; its branch stays.", metadata=now
        )


def _entered(folder: str, branch: str, what: str) -> ToolResult:
    text = f"Entered {folder}, {what} on the branch {branch}: calls begin there now."
    return ToolResult(text, metadata={"folder": folder})


def _home(context: ToolContext) -> Path:
    if context.home is None:
        raise ToolExecutionError(
            "there is no workspace here.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
        )
    return context.home


async def _checked(folder: str, home: Path, context: ToolContext) -> str:
    """`folder` as a path below the workspace. Raises ToolExecutionError if it is not a plain path,
    or a link leads elsewhere."""
    parts = folder.split("/")
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not plain or not PROTECTED.isdisjoint(map(folded, parts)):
        raise ToolExecutionError(
            f"{folder!r} cannot be a worktree's folder: give a plain path beneath the workspace."
        )
    files = opened(context)
    try:
        place = await context.in_thread(lambda: files.resolve(home / folder))
        straight = await context.in_thread(lambda: files.resolve(home) / folder)
    except OSError as error:
        raise ToolExecutionError(
            f"{folder}: {error.strerror or error}.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
        ) from error
    if place != straight:
        raise ToolExecutionError(
            f"{folder!r} leads elsewhere.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
        )
    return str(place)


def _keep_out_of_git(files: RootedFiles, home: Path) -> None:
    note = home / WORKTREES / ".gitignore"
    if not files.exists(note):
        files.write_bytes(note, b"*\n")


async def _at_the_top(context: ToolContext, home: Path) -> None:
    fine, told = await _try(context, home, "rev-parse", "--show-prefix")
    # of a repository above the workspace, a sandbox shows nothing
    if (fine and told) or "not a git repository (" in told:
        raise ToolExecutionError("the workspace is not the top folder of a git repository.")
    if "not a git repository:" in told:  # the file .git names a folder that is not seen
        raise ToolExecutionError(
            "the workspace is itself a worktree or a submodule, and its repository is not there, "
            f"or commands cannot see it: {told[:2000]}"
        )
    if not fine:
        raise ToolExecutionError(f"git rev-parse: {told[:2000] or 'it failed'}")


async def _enter_again(
    context: ToolContext, home: Path, folder: str, place: str, branch: str
) -> ToolResult:
    listed = await _git(context, home, "worktree", "list", "--porcelain", "-z")
    for entry in listed.split("\0\0"):
        lines = entry.strip("\0").split("\0")
        if lines[0] == f"worktree {place}" and f"branch refs/heads/{branch}" in lines:
            return _entered(folder, branch, "which was there already,")
    raise ToolExecutionError(f"{folder} is there already, and no worktree on the branch {branch}.")


async def _nothing_is_lost(context: ToolContext, place: Path) -> None:
    status = await _git(
        context,
        place,
        *("status", "--porcelain", "--untracked-files=all", "--ignored=traditional"),
    )
    if status:
        lines = status.split("\n")
        told = "\n".join(lines[:_MAX_TOLD]) + ("\n..." if len(lines) > _MAX_TOLD else "")
        raise ToolExecutionError(
            "it is not removed, for it holds what is not committed ('!!' are ignored files). "
            f"Commit or remove that first:\n{told}"
        )
    on_branch, _ = await _try(context, place, "symbolic-ref", "--quiet", "HEAD")
    kept = await _git(context, place, "for-each-ref", "--contains", "HEAD", "--count=1")
    if not on_branch and not kept:
        raise ToolExecutionError("it is not removed, for no branch has its last commit.")


async def _git(context: ToolContext, where: Path, *words: str, why: str = "") -> str:
    fine, text = await _try(context, where, *words)
    if not fine:
        raise ToolExecutionError(f"git {words[0]}: {why or text[:2000] or 'it failed'}")
    return text


async def _try(context: ToolContext, where: Path, *words: str) -> tuple[bool, str]:
    limits = ProcessLimits(min(_TIMEOUT_S, context.timeout_s), _MAX_OUTPUT, context.sandbox)
    try:
        done = await context.world.spawn(
            [*_GIT, *words], cwd=where, env=_ENVIRONMENT, limits=limits
        )
    except OSError as error:
        raise ToolExecutionError(f"git cannot be started: {error}") from error
    text = done.output.decode("utf-8", "replace").strip("\n")
    if done.timed_out:
        raise ToolExecutionError(f"git {words[0]} was stopped after {limits.timeout_s:g} s")
    return done.returncode == 0, text
