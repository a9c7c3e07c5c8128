"""Error codes, their categories and the exceptions that carry them.

The one table of which error is retryable lives here; vendors map into it and decide nothing.
Codes are stable strings `exec.<component>.<reason>`; a member's name is the code upper-cased
with dots as underscores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.request import Usage
    from lorimer.core.result import PipelineResult


class ErrorCategory(StrEnum):
    """What kind of trouble it is, for grouping and for the retry decision."""

    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    NETWORK = "network"
    TOKEN_LIMIT = "token_limit"
    BAD_REQUEST = "bad_request"
    SERVER_ERROR = "server_error"
    TERMINAL = "terminal"
    CLI_NOT_FOUND = "cli_not_found"
    CLI_AUTH_FAILED = "cli_auth_failed"
    CLI_TIMEOUT = "cli_timeout"
    CLI_PROTOCOL_ERROR = "cli_protocol_error"
    CLI_PERMISSION_DENIED = "cli_permission_denied"
    CONFIG = "config"
    LIMIT = "limit"
    CANCELLED = "cancelled"
    TOOL = "tool"
    STORE = "store"
    INTERNAL = "internal"
    UNKNOWN = "unknown"

    @property
    def is_recoverable(self) -> bool:
        """The same call may succeed if it is made again."""
        return self in _RECOVERABLE

    @property
    def is_fatal(self) -> bool:
        """No retry and no other request to the same target can succeed until a person acts."""
        return self in _FATAL


_RECOVERABLE = frozenset(
    {
        ErrorCategory.RATE_LIMITED,
        ErrorCategory.TIMEOUT,
        ErrorCategory.NETWORK,
        ErrorCategory.SERVER_ERROR,
        ErrorCategory.CLI_TIMEOUT,
        ErrorCategory.CLI_PROTOCOL_ERROR,
    }
)
_FATAL = frozenset(
    {
        ErrorCategory.AUTH,
        ErrorCategory.BAD_REQUEST,
        ErrorCategory.CLI_NOT_FOUND,
        ErrorCategory.CLI_AUTH_FAILED,
        ErrorCategory.CLI_PERMISSION_DENIED,
    }
)


class ExecutorErrorCode(StrEnum):
    """Every code an exception, a result or an error event can carry."""

    # The 35 of geny-executor 2.1; their strings never change.
    EXEC_API_AUTH_INVALID_KEY = "exec.api.auth.invalid_key"
    EXEC_API_AUTH_EXPIRED = "exec.api.auth.expired"
    EXEC_API_RATE_LIMITED = "exec.api.rate_limited"
    EXEC_API_TIMEOUT = "exec.api.timeout"
    EXEC_API_NETWORK = "exec.api.network"
    EXEC_API_TOKEN_LIMIT = "exec.api.token_limit"
    EXEC_API_BAD_REQUEST = "exec.api.bad_request"
    EXEC_API_SERVER_ERROR = "exec.api.server_error"
    EXEC_API_TERMINAL = "exec.api.terminal"
    EXEC_API_UNKNOWN = "exec.api.unknown"
    EXEC_API_NO_CLIENT = "exec.api.no_client"
    EXEC_API_STREAM_INCOMPLETE = "exec.api.stream_incomplete"
    EXEC_API_RETRY_EXHAUSTED = "exec.api.retry_exhausted"
    EXEC_CLI_BINARY_NOT_FOUND = "exec.cli.binary_not_found"
    EXEC_CLI_AUTH_FAILED = "exec.cli.auth_failed"
    EXEC_CLI_TIMEOUT = "exec.cli.timeout"
    EXEC_CLI_PROTOCOL_ERROR = "exec.cli.protocol_error"
    EXEC_CLI_PERMISSION_DENIED = "exec.cli.permission_denied"
    EXEC_CLI_EXITED = "exec.cli.exited"
    EXEC_PIPELINE_NOT_INITIALIZED = "exec.pipeline.not_initialized"
    EXEC_PIPELINE_INVALID_MANIFEST = "exec.pipeline.invalid_manifest"
    EXEC_STAGE_FAILED = "exec.stage.failed"
    EXEC_STAGE_GUARD_REJECTED = "exec.stage.guard_rejected"
    EXEC_TOOL_UNKNOWN = "exec.tool.unknown"
    EXEC_TOOL_INVALID_INPUT = "exec.tool.invalid_input"
    EXEC_TOOL_ACCESS_DENIED = "exec.tool.access_denied"
    EXEC_TOOL_CRASHED = "exec.tool.crashed"
    EXEC_TOOL_TRANSPORT = "exec.tool.transport"
    EXEC_MUTATION_INVALID = "exec.mutation.invalid"
    EXEC_MUTATION_LOCKED = "exec.mutation.locked"
    EXEC_MCP_CONNECT_FAILED = "exec.mcp.connect_failed"
    EXEC_MCP_INITIALIZE_FAILED = "exec.mcp.initialize_failed"
    EXEC_MCP_LIST_TOOLS_FAILED = "exec.mcp.list_tools_failed"
    EXEC_MCP_SDK_MISSING = "exec.mcp.sdk_missing"
    EXEC_UNKNOWN = "exec.unknown"
    # Lorimer's own.
    EXEC_API_REFUSED = "exec.api.refused"
    EXEC_API_UNPRICED = "exec.api.unpriced"
    EXEC_API_SDK_MISSING = "exec.api.sdk_missing"
    EXEC_API_EMPTY = "exec.api.empty"
    EXEC_API_UNAVAILABLE = "exec.api.unavailable"
    EXEC_API_OUTPUT_INVALID = "exec.api.output_invalid"
    EXEC_TOOL_TIMEOUT = "exec.tool.timeout"
    EXEC_TOOL_NOT_RUN = "exec.tool.not_run"
    EXEC_TOOL_OUTCOME_UNKNOWN = "exec.tool.outcome_unknown"
    EXEC_TOOL_OUT_OF_MEMORY = "exec.tool.out_of_memory"
    EXEC_SANDBOX_MISSING = "exec.sandbox.missing"
    EXEC_MEMORY_FAILED = "exec.memory.failed"
    EXEC_HOOK_BLOCKED = "exec.hook.blocked"
    EXEC_HOOK_FAILED = "exec.hook.failed"
    EXEC_HOOK_TIMEOUT = "exec.hook.timeout"
    EXEC_STEP_INVALID = "exec.step.invalid"
    EXEC_STEP_TIMEOUT = "exec.step.timeout"
    EXEC_STEP_CRASHED = "exec.step.crashed"
    EXEC_STEP_OUT_OF_MEMORY = "exec.step.out_of_memory"
    EXEC_LOOP_MAX_TURNS = "exec.loop.max_turns"
    EXEC_LOOP_IDENTICAL = "exec.loop.identical"
    EXEC_LOOP_ALTERNATING = "exec.loop.alternating"
    EXEC_LOOP_NO_PROGRESS = "exec.loop.no_progress"
    EXEC_LOOP_ERROR_STREAK = "exec.loop.error_streak"
    EXEC_LIMIT_TIMEOUT = "exec.limit.timeout"
    EXEC_LIMIT_COST = "exec.limit.cost"
    EXEC_LIMIT_TOOL_CALLS = "exec.limit.tool_calls"
    EXEC_BUDGET_EXCEEDED = "exec.budget.exceeded"
    EXEC_BUDGET_UNDECIDED = "exec.budget.undecided"
    EXEC_LIMIT_QUEUE = "exec.limit.queue"
    EXEC_RUN_CANCELLED = "exec.run.cancelled"
    EXEC_RUN_KILLED = "exec.run.killed"
    EXEC_RUN_BUSY = "exec.run.busy"
    EXEC_RUN_SHUTDOWN = "exec.run.shutdown"
    EXEC_RUN_WAITING = "exec.run.waiting"
    EXEC_RUN_UNKNOWN = "exec.run.unknown"
    EXEC_RUN_ENDED = "exec.run.ended"
    EXEC_HITL_REJECTED = "exec.hitl.rejected"
    EXEC_INPUT_INVALID = "exec.input.invalid"
    EXEC_CHILD_DEPTH = "exec.child.depth"
    EXEC_CHILD_DESCENDANTS = "exec.child.descendants"
    EXEC_CHILD_ANCESTOR = "exec.child.ancestor"
    EXEC_CHILD_PART = "exec.child.part"
    EXEC_JOURNAL_CONFLICT = "exec.journal.conflict"
    EXEC_JOURNAL_DIVERGED = "exec.journal.diverged"
    EXEC_JOURNAL_FAILED = "exec.journal.failed"
    EXEC_JOURNAL_VERSION = "exec.journal.version"
    EXEC_STORE_FAILED = "exec.store.failed"
    EXEC_AGENT_UNKNOWN = "exec.agent.unknown"
    EXEC_AGENT_DENIED = "exec.agent.denied"
    EXEC_AGENT_CHANGED = "exec.agent.changed"

    @property
    def category(self) -> ErrorCategory:
        """The kind of trouble this code names."""
        return _CATEGORY.get(self, ErrorCategory.UNKNOWN)

    @property
    def is_recoverable(self) -> bool:
        """The same call may succeed if it is made again."""
        return self.category.is_recoverable


def _categories() -> dict[ExecutorErrorCode, ErrorCategory]:
    code, kind = ExecutorErrorCode, ErrorCategory
    table = {
        kind.AUTH: (
            code.EXEC_API_AUTH_INVALID_KEY,
            code.EXEC_API_AUTH_EXPIRED,
        ),
        kind.RATE_LIMITED: (code.EXEC_API_RATE_LIMITED, code.EXEC_LIMIT_QUEUE),
        kind.TIMEOUT: (code.EXEC_API_TIMEOUT,),
        kind.NETWORK: (code.EXEC_API_NETWORK, code.EXEC_API_STREAM_INCOMPLETE),
        kind.TOKEN_LIMIT: (code.EXEC_API_TOKEN_LIMIT,),
        kind.BAD_REQUEST: (
            code.EXEC_API_BAD_REQUEST,
            code.EXEC_API_NO_CLIENT,
            code.EXEC_API_REFUSED,
        ),
        kind.SERVER_ERROR: (
            code.EXEC_API_SERVER_ERROR,
            code.EXEC_API_EMPTY,
            code.EXEC_API_UNAVAILABLE,
        ),
        kind.TERMINAL: (code.EXEC_API_TERMINAL, code.EXEC_API_OUTPUT_INVALID),
        kind.CLI_NOT_FOUND: (code.EXEC_CLI_BINARY_NOT_FOUND,),
        kind.CLI_AUTH_FAILED: (code.EXEC_CLI_AUTH_FAILED,),
        kind.CLI_TIMEOUT: (code.EXEC_CLI_TIMEOUT,),
        kind.CLI_PROTOCOL_ERROR: (code.EXEC_CLI_PROTOCOL_ERROR, code.EXEC_CLI_EXITED),
        kind.CLI_PERMISSION_DENIED: (code.EXEC_CLI_PERMISSION_DENIED,),
        kind.CONFIG: (
            code.EXEC_PIPELINE_NOT_INITIALIZED,
            code.EXEC_PIPELINE_INVALID_MANIFEST,
            code.EXEC_MUTATION_INVALID,
            code.EXEC_MUTATION_LOCKED,
            code.EXEC_MCP_SDK_MISSING,
            code.EXEC_API_SDK_MISSING,
            code.EXEC_API_UNPRICED,
            code.EXEC_INPUT_INVALID,
            code.EXEC_SANDBOX_MISSING,
            code.EXEC_STEP_INVALID,
            code.EXEC_RUN_BUSY,
            code.EXEC_RUN_UNKNOWN,
            code.EXEC_RUN_ENDED,
            code.EXEC_CHILD_PART,
            code.EXEC_AGENT_UNKNOWN,
            code.EXEC_AGENT_DENIED,
            code.EXEC_AGENT_CHANGED,
        ),
        kind.LIMIT: (
            code.EXEC_LOOP_MAX_TURNS,
            code.EXEC_LOOP_IDENTICAL,
            code.EXEC_LOOP_ALTERNATING,
            code.EXEC_LOOP_NO_PROGRESS,
            code.EXEC_LOOP_ERROR_STREAK,
            code.EXEC_LIMIT_TIMEOUT,
            code.EXEC_LIMIT_COST,
            code.EXEC_LIMIT_TOOL_CALLS,
            code.EXEC_BUDGET_EXCEEDED,
            code.EXEC_BUDGET_UNDECIDED,
            code.EXEC_CHILD_DEPTH,
            code.EXEC_CHILD_DESCENDANTS,
            code.EXEC_CHILD_ANCESTOR,
            code.EXEC_STAGE_GUARD_REJECTED,
            code.EXEC_HOOK_BLOCKED,
            code.EXEC_HITL_REJECTED,
        ),
        kind.CANCELLED: (
            code.EXEC_RUN_CANCELLED,
            code.EXEC_RUN_KILLED,
            code.EXEC_RUN_SHUTDOWN,
            code.EXEC_RUN_WAITING,
        ),
        kind.TOOL: (
            code.EXEC_TOOL_UNKNOWN,
            code.EXEC_TOOL_INVALID_INPUT,
            code.EXEC_TOOL_ACCESS_DENIED,
            code.EXEC_TOOL_CRASHED,
            code.EXEC_TOOL_TRANSPORT,
            code.EXEC_TOOL_TIMEOUT,
            code.EXEC_TOOL_NOT_RUN,
            code.EXEC_TOOL_OUTCOME_UNKNOWN,
            code.EXEC_TOOL_OUT_OF_MEMORY,
            code.EXEC_STEP_TIMEOUT,
            code.EXEC_STEP_CRASHED,
            code.EXEC_STEP_OUT_OF_MEMORY,
            code.EXEC_HOOK_FAILED,
            code.EXEC_HOOK_TIMEOUT,
            code.EXEC_MEMORY_FAILED,
            code.EXEC_MCP_CONNECT_FAILED,
            code.EXEC_MCP_INITIALIZE_FAILED,
            code.EXEC_MCP_LIST_TOOLS_FAILED,
        ),
        kind.STORE: (
            code.EXEC_JOURNAL_CONFLICT,
            code.EXEC_JOURNAL_DIVERGED,
            code.EXEC_JOURNAL_FAILED,
            code.EXEC_JOURNAL_VERSION,
            code.EXEC_STORE_FAILED,
        ),
        kind.INTERNAL: (code.EXEC_STAGE_FAILED,),
        kind.UNKNOWN: (code.EXEC_API_UNKNOWN, code.EXEC_API_RETRY_EXHAUSTED, code.EXEC_UNKNOWN),
    }
    return {member: category for category, members in table.items() for member in members}


_CATEGORY: Mapping[ExecutorErrorCode, ErrorCategory] = _categories()


_COMPARED_CHARS: Final = 64
"""Longer names are not compared."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names, those most like `word` first.

    Returns "" when nothing is known, else e.g. `; did you mean 'chat'? Known: agent, chat.`
    """
    names = sorted(set(known))
    if not names:
        return ""
    from difflib import get_close_matches  # only who has made a mistake pays for it

    # to compare two takes as long as the product of their lengths, and a model may have made both
    short = [name for name in names if len(name) <= _COMPARED_CHARS]
    close = get_close_matches(word, short, n=2, cutoff=0.6) if len(word) <= _COMPARED_CHARS else []
    hint = f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else "."
    return f"{hint} Known: {', '.join(names)}."


class LorimerError(Exception):
    """Base of all errors of ours.

    `code` is always set; `hint` says what to do next; `result` is the partial result when the
    error ended a run.
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
        """The kind of trouble, from the code."""
        return self.code.category

    @property
    def message(self) -> str:
        """What happened, without the code."""
        return str(self)

    def to_json(self) -> dict[str, JSON]:
        """The plain form that facts and results keep."""
        data: dict[str, JSON] = {"code": self.code.value, "message": str(self)}
        if self.hint:
            data["hint"] = self.hint
        return data


class PipelineError(LorimerError):
    """A run or a pipeline as a whole cannot go on."""

    default_code = ExecutorErrorCode.EXEC_PIPELINE_NOT_INITIALIZED


class ConfigError(LorimerError, ValueError):
    """What the host configured cannot work. `problems` lists every fault found, path first."""

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
    """A change of a manifest that does not fit; nothing was changed."""

    default_code = ExecutorErrorCode.EXEC_MUTATION_INVALID


class MutationLocked(MutationError):
    """A change of something that is locked; nothing was changed."""

    default_code = ExecutorErrorCode.EXEC_MUTATION_LOCKED


class StageError(LorimerError):
    """A stage raised something that is not one of our errors; the cause is kept."""

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
    """A guard of stage 4 said no."""

    default_code = ExecutorErrorCode.EXEC_STAGE_GUARD_REJECTED

    def __init__(
        self, message: str, *, guard_name: str = "", code: ExecutorErrorCode | None = None
    ) -> None:
        super().__init__(message, code=code, stage_name="guard", stage_order=4)
        self.guard_name = guard_name


class APIError(LorimerError):
    """A model call failed.

    `status` is the HTTP status if there was one, `retry_after_s` what the provider asked for in
    seconds, `usage` what the failed attempt is known to have used. `released` is how many
    characters of its answer listeners were given, `partial` the text of it that another attempt
    may go on from; both are set by the attempt loop.
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
    """A tool failed in a way its author wants the model to be told. Raise it inside a tool."""

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
    """A guard hook said no, or could not say anything: which comes to the same. The message names
    it."""

    default_code = ExecutorErrorCode.EXEC_HOOK_FAILED


class MemoryFailed(LorimerError):
    """A memory could not be read or written. A run goes on without it."""

    default_code = ExecutorErrorCode.EXEC_MEMORY_FAILED


class LimitError(LorimerError):
    """A bound of `Limits`, or a budget, was reached; the work done so far is on `result`."""

    default_code = ExecutorErrorCode.EXEC_LIMIT_TIMEOUT


class RunCancelled(LorimerError):
    """The run was stopped by somebody. Raised only to callers who did not cancel themselves."""

    default_code = ExecutorErrorCode.EXEC_RUN_CANCELLED


class JournalError(LorimerError):
    """The store refused, failed, or holds something that does not fit."""

    default_code = ExecutorErrorCode.EXEC_JOURNAL_FAILED


class StoreFailed(LorimerError):
    """A store of the kernel's (audit, saved agents) could not be read or written."""

    default_code = ExecutorErrorCode.EXEC_STORE_FAILED


# The first that a code begins with counts.
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
    """The reverse of `LorimerError.to_json`: the same code on the class that code belongs to."""
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
