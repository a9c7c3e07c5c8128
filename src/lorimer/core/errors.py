"""The exceptions of the library; each carries a code from `error_codes`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os.path import basename, dirname, sep
from typing import TYPE_CHECKING, Final

from lorimer.core.error_codes import ErrorCategory as ErrorCategory
from lorimer.core.error_codes import ExecutorErrorCode as ExecutorErrorCode
from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.request import Usage
    from lorimer.core.result import PipelineResult

_HERE: Final = dirname(dirname(__file__)) + sep
_PLACE: Final = re.compile(r" \(in \S+, .* line \d+\)$")
_CAUSES: Final = 10
"""Most exceptions that one is traced back over."""
_COMPARED_CHARS: Final = 64
"""Longer names are not compared."""


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """The at most two known names most like `word`, the best first; none if no name is like it."""
    from difflib import get_close_matches  # imported only when a name is wrong

    if len(word) > _COMPARED_CHARS:  # comparing takes quadratic time; a model may have made both
        return []
    short = [name for name in known if len(name) <= _COMPARED_CHARS]
    return get_close_matches(word, short, n=2, cutoff=0.6)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names, with those most like `word` first.

    Returns "" when no names are known, else e.g. `; did you mean 'chat'? Known: agent, chat.`
    """
    names = sorted(set(known))
    if not names:
        return ""
    close = close_to(word, names)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return f"{hint} Known: {', '.join(names)}."


class LorimerError(Exception):
    """Base of all exceptions of this library.

    `code` is always set; `hint` says what to do next; `result` is the partial result if the error
    ended a run.
    """

    default_code = ExecutorErrorCode.EXEC_UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: ExecutorErrorCode | None = None,
        hint: str = "",
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.hint = hint
        self.result: PipelineResult | None = None
        self.add_note(f"[{self.code.value}]{' ' if hint else ''}{hint}")
        if cause is not None:
            self.__cause__ = cause

    @property
    def category(self) -> ErrorCategory:
        """The kind of failure, from the code."""
        return self.code.category

    @property
    def message(self) -> str:
        """What happened, without the code."""
        return str(self)

    def to_json(self) -> dict[str, JSON]:
        """Plain data, as facts and results store it."""
        data: dict[str, JSON] = {"code": self.code.value, "message": str(self)}
        if self.hint:
            data["hint"] = self.hint
        return data


def reason_of(error: BaseException) -> str:
    """The text of an exception. One without, as of a broken connection: that of what caused it, or
    the name of its class."""
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            break
        if text := str(cause).strip():
            return text
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def raised_in(error: BaseException) -> str:
    """Where an exception of somebody's own code was raised, for the end of a message: the function
    that this package called last, as ` (in Words.check, guards.py line 12)`; "" if there is
    none."""
    found, ours, trace = "", True, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        was_ours, ours = ours, code.co_filename.startswith(_HERE)
        if was_ours and not ours:
            found = f" (in {code.co_qualname}, {basename(code.co_filename)} line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def without_place(message: str) -> str:
    """A message without what `raised_in` added: no model is told of a host's code."""
    return _PLACE.sub("", message)


class PipelineError(LorimerError):
    """A run, or a pipeline as a whole, cannot continue."""

    default_code = ExecutorErrorCode.EXEC_PIPELINE_NOT_INITIALIZED


class ConfigError(LorimerError, ValueError):
    """An invalid configuration by the host. `problems` lists every fault found, path first."""

    default_code = ExecutorErrorCode.EXEC_PIPELINE_INVALID_MANIFEST

    def __init__(
        self,
        message: str,
        *,
        code: ExecutorErrorCode | None = None,
        hint: str = "",
        problems: tuple[str, ...] = (),
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, cause=cause)
        self.problems = problems


class MutationError(ConfigError):
    """An invalid change of a manifest; nothing was changed."""

    default_code = ExecutorErrorCode.EXEC_MUTATION_INVALID


class MutationLocked(MutationError):
    """A change of something locked; nothing was changed."""

    default_code = ExecutorErrorCode.EXEC_MUTATION_LOCKED


class StageError(LorimerError):
    """A stage raised an exception that is not a LorimerError; it is kept as the cause."""

    default_code = ExecutorErrorCode.EXEC_STAGE_FAILED

    def __init__(
        self,
        message: str,
        *,
        code: ExecutorErrorCode | None = None,
        hint: str = "",
        stage_name: str = "",
        stage_order: int = 0,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, cause=cause)
        self.stage_name = stage_name
        self.stage_order = stage_order


class GuardRejectError(StageError):
    """A guard of stage 4 rejected the request."""

    default_code = ExecutorErrorCode.EXEC_STAGE_GUARD_REJECTED

    def __init__(
        self, message: str, *, guard_name: str = "", code: ExecutorErrorCode | None = None
    ) -> None:
        super().__init__(message, code=code, stage_name="guard", stage_order=4)
        self.guard_name = guard_name


class APIError(LorimerError):
    """A model call failed.

    `status` is the HTTP status if there was one, `retry_after_s` the wait that the provider asked
    for in seconds, `usage` the known usage of the failed attempt. `released` is the number of
    characters of its answer that listeners received, `partial` the text from which another attempt
    may continue; both are set by the attempt loop.
    """

    default_code = ExecutorErrorCode.EXEC_API_UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: ExecutorErrorCode | None = None,
        hint: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, cause=cause)
        self.status = status
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.attempts = 1
        self.released = 0
        self.partial = ""

    @property
    def status_code(self) -> int | None:
        """`status`, as geny-executor calls it."""
        return self.status

    def to_json(self) -> dict[str, JSON]:
        data = LorimerError.to_json(self)
        if self.status is not None:
            data["status"] = self.status
        if self.retry_after_s is not None:
            data["retry_after_s"] = self.retry_after_s
        if self.released:
            data["released"] = self.released
        if self.partial:
            data["partial"] = self.partial
        return data


class ToolExecutionError(LorimerError):
    """A failure of a tool that its author wants to report to the model. Raise it inside a tool."""

    default_code = ExecutorErrorCode.EXEC_TOOL_CRASHED

    def __init__(
        self,
        message: str,
        *,
        code: ExecutorErrorCode | None = None,
        tool_name: str = "",
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message, code=code, cause=cause)
        self.tool_name = tool_name


class HookError(LorimerError):
    """A guard hook refused, or failed, which counts as a refusal. The message names the hook."""

    default_code = ExecutorErrorCode.EXEC_HOOK_FAILED


class MemoryFailed(LorimerError):
    """A memory could not be read or written. A run continues without it."""

    default_code = ExecutorErrorCode.EXEC_MEMORY_FAILED


class LimitError(LorimerError):
    """A bound of `Limits`, or a budget, was reached; the partial result is in `result`."""

    default_code = ExecutorErrorCode.EXEC_LIMIT_TIMEOUT


class RunCancelled(LorimerError):
    """The run was stopped. Raised only to callers that did not cancel it themselves."""

    default_code = ExecutorErrorCode.EXEC_RUN_CANCELLED


class JournalError(LorimerError):
    """The store refused or failed, or its content is inconsistent."""

    default_code = ExecutorErrorCode.EXEC_JOURNAL_FAILED


class StoreFailed(LorimerError):
    """A store of the kernel (audit, saved agents) could not be read or written."""

    default_code = ExecutorErrorCode.EXEC_STORE_FAILED


# the first matching prefix decides
_CLASSES: Mapping[str, type[LorimerError]] = {
    "exec.run.cancelled": RunCancelled,
    "exec.run.killed": RunCancelled,
    "exec.run.shutdown": RunCancelled,
    "exec.run.waiting": RunCancelled,
    "exec.run.": PipelineError,
    "exec.stage.guard_rejected": GuardRejectError,
    "exec.input.": StageError,
    "exec.api.": APIError,
    "exec.cli.": APIError,
    "exec.pipeline.not_initialized": PipelineError,
    "exec.pipeline.": ConfigError,
    "exec.mutation.locked": MutationLocked,
    "exec.mutation.": MutationError,
    "exec.child.part": PipelineError,
    "exec.child.": LimitError,
    "exec.tool.": ToolExecutionError,
    "exec.sandbox.": ToolExecutionError,
    "exec.hook.": HookError,
    "exec.memory.": MemoryFailed,
    "exec.hitl.": StageError,
    "exec.limit.": LimitError,
    "exec.budget.": LimitError,
    "exec.loop.": LimitError,
    "exec.journal.": JournalError,
    "exec.store.": StoreFailed,
    "exec.agent.": ConfigError,
    "exec.stage.": StageError,
}


def error_from_json(data: Mapping[str, JSON]) -> LorimerError:
    """The reverse of `LorimerError.to_json`: restores the class that belongs to the code."""
    try:
        code = ExecutorErrorCode(data.get("code"))
    except ValueError:
        code = ExecutorErrorCode.EXEC_UNKNOWN
    kind = next((c for prefix, c in _CLASSES.items() if code.value.startswith(prefix)), None)
    error = (kind or LorimerError)(str(data.get("message", "")), code=code)
    error.hint = str(data.get("hint", ""))
    if isinstance(error, APIError):
        status, wait = data.get("status"), data.get("retry_after_s")
        error.status = status if isinstance(status, int) else None
        error.retry_after_s = float(wait) if isinstance(wait, int | float) else None
        released = data.get("released")
        error.released = released if isinstance(released, int) else 0
        error.partial = str(data.get("partial", ""))
    return error
