"""What the tools that start programs have in common: running one, and reporting its end."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.world import Finished, Isolation, ProcessLimits, Sandbox, Sink
from lorimer.tools.base import ToolContext, ToolResult
from lorimer.tools.overflow import KEPT_BYTES
from lorimer.tools.shell.words import by_bash, start_of

MAX_OUTPUT_BYTES: Final = KEPT_BYTES
"""Most bytes of output kept in memory: the first and the last half."""

_REFUSED: Final = re.compile(
    "permission denied|read-only file system|operation not permitted|network is unreachable"
    "|could not resolve|name resolution|name or service not known|failed to connect"
    "|connection refused",
    re.IGNORECASE,
)
_NO_MEMORY: Final = re.compile(
    r"^MemoryError\b|cannot allocate (memory|[0-9]+ bytes)|memory exhausted|std::bad_alloc"
    r"|heap out of memory|OutOfMemoryError",
    re.IGNORECASE | re.MULTILINE,
)
_LAST_WORDS: Final = 2000
_NOT_STARTED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC})
"""No such program, or a script without `#!`: bash reports the former, and can run the latter."""


def patience(context: ToolContext, wanted_s: float) -> float:
    """Seconds that a program may take: a little less than the call's own time-out, so that the
    program's time-out comes first and its output is not lost."""
    return min(wanted_s, context.timeout_s - min(2.0, context.timeout_s / 10))


async def run_command(command: str, context: ToolContext, timeout_s: float, sink: Sink) -> Finished:
    """Run a permitted command line in the working directory, in the host's sandbox. Raises OSError
    if bash cannot be started."""
    assert context.working_dir is not None
    limits = ProcessLimits(timeout_s, MAX_OUTPUT_BYTES, context.sandbox)

    async def start(argv: Sequence[str]) -> Finished:
        assert context.working_dir is not None
        return await context.world.spawn(argv, cwd=context.working_dir, limits=limits, sink=sink)

    argv = start_of(command)
    try:
        return await start(argv)
    except OSError as error:
        if error.errno not in _NOT_STARTED:
            raise
        return await start(by_bash(argv))


def ended(done: Finished, timeout_s: float) -> str:
    """How a program ended, in a line."""
    if done.timed_out:
        return f"[stopped after {timeout_s:g} s, its time-out]"
    if done.returncode < 0:
        return f"[ended by signal {-done.returncode}]"
    return f"[exit code {done.returncode}]"


def result_of(done: Finished, timeout_s: float, sandbox: Sandbox | None, where: str) -> ToolResult:
    """The result of a program that has ended: its output, and how it ended. `where`: the file with
    the whole output, in words."""
    text = done.output.decode("utf-8", "replace")
    lines: list[str] = []
    failed = done.timed_out or done.returncode != 0
    metadata: dict[str, JSON] = {"exit_code": done.returncode, "timed_out": done.timed_out}
    if done.isolation is not None:
        metadata["isolation"] = done.isolation.to_json()
    error = why_failed(done, text, sandbox, lines) if failed else None
    if done.total_bytes > len(done.output):
        lines.append(kept_of(done.total_bytes, len(done.output), where))
    lines += refused_of(done, metadata)
    lines.append(ended(done, timeout_s))
    return ToolResult(
        joined(text, *lines),
        is_error=failed,
        metadata=metadata,
        error=error,
        spilled=bool(where),
    )


def why_failed(
    done: Finished, text: str, sandbox: Sandbox | None, lines: list[str]
) -> ExecutorErrorCode | None:
    """What looks like the cause of a failure, by the output `text`; it is added to `lines` too."""
    if done.isolation is not None and (why := _limited(text, done.isolation, sandbox)):
        lines.append(f"[{why}]")
    if not wanted_memory(done, text):
        return None
    error = ExecutorErrorCode.EXEC_TOOL_OUT_OF_MEMORY
    lines.append(f"[{error.value}: it wanted more memory than there is]")
    return error


def refused_of(done: Finished, metadata: dict[str, JSON]) -> list[str]:
    """Lines about hosts that the program was refused; they are added to `metadata` too."""
    if not done.refused:
        return []
    metadata["refused"] = list(done.refused)
    return [f"[network: {'; '.join(done.refused)}]"]


def kept_of(total: int, kept: int, where: str) -> str:
    """A line about output that is shown only in part."""
    return f"[{total:,} bytes of output, {kept:,} kept.{' ' if where else ''}{where}]"


def joined(text: str, *lines: str) -> str:
    """Output followed by lines."""
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}" + "\n".join(lines)


def wanted_memory(done: Finished | None, text: str) -> bool:
    """Whether a program failed because it ran out of memory: the kernel says so or, for our own
    limit on memory, the program's last output does."""
    if done is not None and (done.out_of_memory or done.timed_out):
        return done.out_of_memory
    return bool(_NO_MEMORY.search(text[-_LAST_WORDS:]))


def _limited(output: str, isolation: Isolation, sandbox: Sandbox | None) -> str:
    """A line for the model if the sandbox looks like the cause of a failure."""
    if isolation.in_force == "L0" or sandbox is None or not _REFUSED.search(output):
        return ""
    hosts = ", ".join(sandbox.hosts)
    network = f"there is a proxy ($HTTPS_PROXY) to {hosts}" if hosts else "there is no network"
    return f"sandbox: only the working directory and $TMPDIR are writable, and {network}"
