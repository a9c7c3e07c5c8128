"""The stable error codes, and which of them may be retried.

This is the only place that decides what is retryable; providers map their errors to these codes.
A code reads `exec.<component>.<reason>`, and the member's name is that in upper case with
underscores. Import both enums from `lorimer.core.errors`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ErrorCategory(StrEnum):
    """The kind of failure, for grouping and for the retry decision."""

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
        """No request to the same target can succeed until a person acts."""
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
    """Every code an exception, a result or an error event can carry, each with its category."""

    category: ErrorCategory
    """The kind of failure, which decides whether it can be retried."""

    def __new__(cls, value: str, category: ErrorCategory) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.category = category
        return member

    # The 35 of geny-executor 2.1; their strings never change.
    EXEC_API_AUTH_INVALID_KEY = "exec.api.auth.invalid_key", ErrorCategory.AUTH
    EXEC_API_AUTH_EXPIRED = "exec.api.auth.expired", ErrorCategory.AUTH
    EXEC_API_RATE_LIMITED = "exec.api.rate_limited", ErrorCategory.RATE_LIMITED
    EXEC_API_TIMEOUT = "exec.api.timeout", ErrorCategory.TIMEOUT
    EXEC_API_NETWORK = "exec.api.network", ErrorCategory.NETWORK
    EXEC_API_TOKEN_LIMIT = "exec.api.token_limit", ErrorCategory.TOKEN_LIMIT
    EXEC_API_BAD_REQUEST = "exec.api.bad_request", ErrorCategory.BAD_REQUEST
    EXEC_API_SERVER_ERROR = "exec.api.server_error", ErrorCategory.SERVER_ERROR
    EXEC_API_TERMINAL = "exec.api.terminal", ErrorCategory.TERMINAL
    EXEC_API_UNKNOWN = "exec.api.unknown", ErrorCategory.UNKNOWN
    EXEC_API_NO_CLIENT = "exec.api.no_client", ErrorCategory.BAD_REQUEST
    EXEC_API_STREAM_INCOMPLETE = "exec.api.stream_incomplete", ErrorCategory.NETWORK
    EXEC_API_RETRY_EXHAUSTED = "exec.api.retry_exhausted", ErrorCategory.UNKNOWN
    EXEC_CLI_BINARY_NOT_FOUND = "exec.cli.binary_not_found", ErrorCategory.CLI_NOT_FOUND
    EXEC_CLI_AUTH_FAILED = "exec.cli.auth_failed", ErrorCategory.CLI_AUTH_FAILED
    EXEC_CLI_TIMEOUT = "exec.cli.timeout", ErrorCategory.CLI_TIMEOUT
    EXEC_CLI_PROTOCOL_ERROR = "exec.cli.protocol_error", ErrorCategory.CLI_PROTOCOL_ERROR
    EXEC_CLI_PERMISSION_DENIED = "exec.cli.permission_denied", ErrorCategory.CLI_PERMISSION_DENIED
    EXEC_CLI_EXITED = "exec.cli.exited", ErrorCategory.CLI_PROTOCOL_ERROR
    EXEC_PIPELINE_NOT_INITIALIZED = "exec.pipeline.not_initialized", ErrorCategory.CONFIG
    EXEC_PIPELINE_INVALID_MANIFEST = "exec.pipeline.invalid_manifest", ErrorCategory.CONFIG
    EXEC_STAGE_FAILED = "exec.stage.failed", ErrorCategory.INTERNAL
    EXEC_STAGE_GUARD_REJECTED = "exec.stage.guard_rejected", ErrorCategory.LIMIT
    EXEC_TOOL_UNKNOWN = "exec.tool.unknown", ErrorCategory.TOOL
    EXEC_TOOL_INVALID_INPUT = "exec.tool.invalid_input", ErrorCategory.TOOL
    EXEC_TOOL_ACCESS_DENIED = "exec.tool.access_denied", ErrorCategory.TOOL
    EXEC_TOOL_CRASHED = "exec.tool.crashed", ErrorCategory.TOOL
    EXEC_TOOL_TRANSPORT = "exec.tool.transport", ErrorCategory.TOOL
    EXEC_MUTATION_INVALID = "exec.mutation.invalid", ErrorCategory.CONFIG
    EXEC_MUTATION_LOCKED = "exec.mutation.locked", ErrorCategory.CONFIG
    EXEC_MCP_CONNECT_FAILED = "exec.mcp.connect_failed", ErrorCategory.TOOL
    EXEC_MCP_INITIALIZE_FAILED = "exec.mcp.initialize_failed", ErrorCategory.TOOL
    EXEC_MCP_LIST_TOOLS_FAILED = "exec.mcp.list_tools_failed", ErrorCategory.TOOL
    EXEC_MCP_SDK_MISSING = "exec.mcp.sdk_missing", ErrorCategory.CONFIG
    EXEC_UNKNOWN = "exec.unknown", ErrorCategory.UNKNOWN
    # Added by Lorimer.
    EXEC_API_REFUSED = "exec.api.refused", ErrorCategory.BAD_REQUEST
    EXEC_API_UNPRICED = "exec.api.unpriced", ErrorCategory.CONFIG
    EXEC_API_SDK_MISSING = "exec.api.sdk_missing", ErrorCategory.CONFIG
    EXEC_API_EMPTY = "exec.api.empty", ErrorCategory.SERVER_ERROR
    EXEC_API_UNAVAILABLE = "exec.api.unavailable", ErrorCategory.SERVER_ERROR
    EXEC_API_OUTPUT_INVALID = "exec.api.output_invalid", ErrorCategory.TERMINAL
    EXEC_TOOL_TIMEOUT = "exec.tool.timeout", ErrorCategory.TOOL
    EXEC_TOOL_NOT_RUN = "exec.tool.not_run", ErrorCategory.TOOL
    EXEC_TOOL_OUTCOME_UNKNOWN = "exec.tool.outcome_unknown", ErrorCategory.TOOL
    EXEC_TOOL_OUT_OF_MEMORY = "exec.tool.out_of_memory", ErrorCategory.TOOL
    EXEC_SANDBOX_MISSING = "exec.sandbox.missing", ErrorCategory.CONFIG
    EXEC_MEMORY_FAILED = "exec.memory.failed", ErrorCategory.TOOL
    EXEC_HOOK_BLOCKED = "exec.hook.blocked", ErrorCategory.LIMIT
    EXEC_HOOK_FAILED = "exec.hook.failed", ErrorCategory.TOOL
    EXEC_HOOK_TIMEOUT = "exec.hook.timeout", ErrorCategory.TOOL
    EXEC_STEP_INVALID = "exec.step.invalid", ErrorCategory.CONFIG
    EXEC_STEP_TIMEOUT = "exec.step.timeout", ErrorCategory.TOOL
    EXEC_STEP_CRASHED = "exec.step.crashed", ErrorCategory.TOOL
    EXEC_STEP_OUT_OF_MEMORY = "exec.step.out_of_memory", ErrorCategory.TOOL
    EXEC_LOOP_MAX_TURNS = "exec.loop.max_turns", ErrorCategory.LIMIT
    EXEC_LOOP_IDENTICAL = "exec.loop.identical", ErrorCategory.LIMIT
    EXEC_LOOP_ALTERNATING = "exec.loop.alternating", ErrorCategory.LIMIT
    EXEC_LOOP_NO_PROGRESS = "exec.loop.no_progress", ErrorCategory.LIMIT
    EXEC_LOOP_ERROR_STREAK = "exec.loop.error_streak", ErrorCategory.LIMIT
    EXEC_LIMIT_TIMEOUT = "exec.limit.timeout", ErrorCategory.LIMIT
    EXEC_LIMIT_COST = "exec.limit.cost", ErrorCategory.LIMIT
    EXEC_LIMIT_TOOL_CALLS = "exec.limit.tool_calls", ErrorCategory.LIMIT
    EXEC_BUDGET_EXCEEDED = "exec.budget.exceeded", ErrorCategory.LIMIT
    EXEC_BUDGET_UNDECIDED = "exec.budget.undecided", ErrorCategory.LIMIT
    EXEC_LIMIT_QUEUE = "exec.limit.queue", ErrorCategory.RATE_LIMITED
    EXEC_RUN_CANCELLED = "exec.run.cancelled", ErrorCategory.CANCELLED
    EXEC_RUN_KILLED = "exec.run.killed", ErrorCategory.CANCELLED
    EXEC_RUN_BUSY = "exec.run.busy", ErrorCategory.CONFIG
    EXEC_RUN_SHUTDOWN = "exec.run.shutdown", ErrorCategory.CANCELLED
    EXEC_RUN_WAITING = "exec.run.waiting", ErrorCategory.CANCELLED
    EXEC_RUN_UNKNOWN = "exec.run.unknown", ErrorCategory.CONFIG
    EXEC_RUN_ENDED = "exec.run.ended", ErrorCategory.CONFIG
    EXEC_HITL_REJECTED = "exec.hitl.rejected", ErrorCategory.LIMIT
    EXEC_INPUT_INVALID = "exec.input.invalid", ErrorCategory.CONFIG
    EXEC_CHILD_DEPTH = "exec.child.depth", ErrorCategory.LIMIT
    EXEC_CHILD_DESCENDANTS = "exec.child.descendants", ErrorCategory.LIMIT
    EXEC_CHILD_ANCESTOR = "exec.child.ancestor", ErrorCategory.LIMIT
    EXEC_CHILD_PART = "exec.child.part", ErrorCategory.CONFIG
    EXEC_JOURNAL_CONFLICT = "exec.journal.conflict", ErrorCategory.STORE
    EXEC_JOURNAL_DIVERGED = "exec.journal.diverged", ErrorCategory.STORE
    EXEC_JOURNAL_FAILED = "exec.journal.failed", ErrorCategory.STORE
    EXEC_JOURNAL_VERSION = "exec.journal.version", ErrorCategory.STORE
    EXEC_STORE_FAILED = "exec.store.failed", ErrorCategory.STORE
    EXEC_AGENT_UNKNOWN = "exec.agent.unknown", ErrorCategory.CONFIG
    EXEC_AGENT_DENIED = "exec.agent.denied", ErrorCategory.CONFIG
    EXEC_AGENT_CHANGED = "exec.agent.changed", ErrorCategory.CONFIG

    @property
    def is_recoverable(self) -> bool:
        """The same call may succeed if it is made again."""
        return self.category.is_recoverable
