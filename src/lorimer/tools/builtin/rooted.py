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
    """By the usual sign: a NUL near the beginning."""
    return b"\0" in data[:SNIFFED]


def place(context: ToolContext, path: str) -> Path:
    """A path as the caller of a tool means it; RootedFiles decides whether it may be touched."""
    return Path(path) if context.working_dir is None else context.working_dir / path


def opened(context: ToolContext) -> RootedFiles:
    """The files of this call. Raises `exec.tool.access_denied` when it has none."""
    if context.files is None:
        raise ToolExecutionError(
            "no files are open to tools here.", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
        )
    return context.files


async def in_files(context: ToolContext, path: str, work: Callable[[RootedFiles, Path], T]) -> T:
    """Do something with the file or folder at `path`, in a thread.

    Raises `exec.tool.access_denied` for a path that leads out of the roots, and Failed for what
    else the file system says.
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
    """What the error is about, as it was asked for; it may be another path than the first."""
    return path if error.filename in (None, str(where)) else str(error.filename)


class Failed(Exception):
    """An ordinary failure that the model is told as the result: nothing broke."""

    @property
    def result(self) -> ToolResult:
        """As a result."""
        return ToolResult(str(self), is_error=True)
