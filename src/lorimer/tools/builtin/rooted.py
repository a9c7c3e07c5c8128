"""What the file tools share: where a path leads, and how failing is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.tools.base import ToolContext, ToolResult
from lorimer.world.beneath import OutsideRoots
from lorimer.world.files import RootedFiles

T = TypeVar("T")

FILE_PATH: Final[dict[str, JSON]] = {
    "type": "string",
    "minLength": 1,
    "description": "Path of the file, absolute or relative to the working directory",
}

SNIFFED: Final = 8192
"""Bytes at the beginning of a file that decide whether it is text."""


def is_binary(data: bytes) -> bool:
    """Whether the beginning of the file contains a NUL."""
    return b"\0" in data[:SNIFFED]


def place(context: ToolContext, path: str) -> Path:
    """A path from a tool's arguments as an absolute one; RootedFiles decides whether tools may
    access it."""
    return Path(path) if context.working_dir is None else context.working_dir / path


def opened(context: ToolContext) -> RootedFiles:
    """The files of this call. Raises `exec.tool.access_denied` if it has none."""
    if context.files is None:
        raise ToolExecutionError(
            "no files are open to tools here.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
        )
    return context.files


async def in_files(context: ToolContext, path: str, work: Callable[[RootedFiles, Path], T]) -> T:
    """Call `work` with the file or folder at `path`, in a thread.

    Raises `exec.tool.access_denied` for a path that leads out of the roots, and Failed for other
    errors of the file system.
    """
    files, where = opened(context), place(context, path)
    try:
        return await context.in_thread(lambda: work(files, where))
    except OutsideRoots as error:
        raise ToolExecutionError(
            f"{_named(error, where, path)}: {error.strerror}.",
            code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
        ) from error
    except OSError as error:
        raise Failed(f"{_named(error, where, path)}: {error.strerror or error}") from error


def _named(error: OSError, where: Path, path: str) -> str:
    """The path that the error is about, spelled as in the request if it is that one."""
    return path if error.filename in (None, str(where)) else str(error.filename)


class Failed(Exception):
    """An expected failure, which the model gets as an error result."""

    @property
    def result(self) -> ToolResult:
        """The error result."""
        return ToolResult(str(self), is_error=True)
