"""What a tool is: a name, a schema, effects it declares, and `execute`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, get_args

from lorimer.core.errors import ConfigError, ExecutorErrorCode, nearest
from lorimer.core.jsonable import JSON, no_data
from lorimer.core.request import ToolSpec
from lorimer.core.run_state import RunState
from lorimer.core.tool import PastCall, TextQuestion
from lorimer.core.world import Sandbox, World
from lorimer.tools.schema import Check, ToolInput, compile_schema
from lorimer.tools.threads import Threads

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.core.model import ModelResolver
    from lorimer.world.files import RootedFiles

T = TypeVar("T")

Effect: TypeAlias = Literal["read", "write", "exec", "net", "send", "secret", "policy"]
"""Something that a tool may do to the world."""
EFFECTS: Final[frozenset[str]] = frozenset(get_args(Effect))
"""All of them: a tool that declares nothing may do everything."""


@dataclass(slots=True)
class ToolResult:
    """The result of a tool.

    `content` is text, a list of text and image blocks, or any other value, which the model then
    reads as JSON. `metadata` and `display` (a line for people) are sent to listeners of
    `tool.call_complete`; they are neither recorded nor shown to the model.
    """

    content: object = ""
    is_error: bool = False
    metadata: Mapping[str, JSON] = field(default_factory=no_data)
    display: str = ""
    error: ExecutorErrorCode | None = None
    """The error code, for a result that has more to say than a raised error could."""
    spilled: bool = False
    """The complete result is in a file already, which its text names: what is cut off is not stored
    again."""


class NotDone(Enum):
    """The answer of `Tool.reconcile` that lets a call be repeated."""

    NOT_DONE = "not_done"


NOT_DONE: Final = NotDone.NOT_DONE
"""An interrupted call did not take effect, and will not: it may be repeated."""


@dataclass(slots=True)
class ToolContext:
    """What one call may know and use."""

    world: World
    run_id: str = ""
    session_id: str = ""
    tool_use_id: str = ""
    idempotency_key: str = ""
    """Stays the same when this call is repeated after an interruption, and is unique to it."""
    working_dir: Path | None = None
    files: RootedFiles | None = None
    """The files that tools may access; None: none."""
    max_result_chars: int = 50_000
    """Longer results are cut; a tool that supports paging should stay below."""
    report: Callable[[str], None] | None = None
    """Receives `progress`; None: no one listens."""
    threads: Threads = field(default_factory=Threads)
    timeout_s: float = inf
    """Most seconds for this call; then it is stopped."""
    run: RunContext | None = None
    """The run of this call: for `generate_as`, and for recorded effects of the tool's own."""
    sandbox: Sandbox | None = None
    """What programs that it starts may access, for `ProcessLimits`; None: the same as the host."""
    past: tuple[PastCall, ...] = ()
    """The calls of the tools in `Tool.recalls`, oldest first."""
    answer: str | None = None
    """The person's answer to `Tool.question`; None: the tool asked nothing, or nobody answered."""
    deferred: tuple[ToolSpec, ...] = ()
    """Tools that the model is not shown until it has found them."""
    call: Callable[[str, ToolInput], Awaitable[ToolResult]] | None = None
    """Calls another tool of the run, which is permitted and recorded separately: see
    `lorimer.tools.steps`."""
    home: Path | None = None
    """The host's working directory, which holds spilled results; `working_dir` is below it while
    the model is in a worktree."""
    asked: Mapping[str, JSON] = field(default_factory=no_data)
    """The arguments as they are in the conversation: a hook may have changed them since."""
    models: ModelResolver | None = None
    """Finds the models of specs and tiers, for `generate_as`; None: the host has given none."""
    permits: Callable[[ToolInput], bool] | None = None
    """Whether this tool might be called with other arguments without anyone being asked: for a tool
    that is redirected. None: it may not."""
    denied: Callable[[str], bool] | None = None
    """Whether a rule denies calls of this tool with that path (absolute, without links), or asks
    about them: for a tool that searches below a path. None: no rule is about its paths."""

    @property
    def root_run_id(self) -> str:
        """Id of the topmost run of the tree that this call's run belongs to; `run_id`, if it has no
        parent."""
        return self.run.root if self.run is not None else self.run_id

    def run_state(self) -> RunState | None:
        """What the run of this call has used so far, and its limits; None: there is no run."""
        return RunState.of(self.run) if self.run is not None else None

    def progress(self, text: str) -> None:
        """Report the progress of the call to listeners, as the signal `tool.progress`. From any
        thread."""
        if self.report is not None:
            self.report(text)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a blocking function. If the call is cancelled or times out, the thread is abandoned
        and its result is dropped."""
        return await self.threads.run(self.world, function)


class Tool(ABC):
    """Something a model can call. Subclass it, or decorate a function with `@tool`.

    One instance serves many calls of many runs, so it must not keep state of a call. All attributes
    are read once, when the tool is registered.
    """

    # Any: subclasses use a class attribute or a property, and no single type allows both.
    name: Any
    """1 to 64 letters, digits, `_` and `-`."""
    description: Any = ""
    """What the model reads to decide whether to call it."""
    input_schema: Any = {"type": "object", "properties": {}}  # noqa: RUF012 - replaced, never changed
    """JSON Schema of an object."""

    effects: frozenset[str] = EFFECTS
    """What it may do to the world; if undeclared, everything."""
    idempotent: bool = False
    """Repeating a call with the same `idempotency_key` has no further effect, so an interrupted
    call is repeated."""
    concurrency_safe: bool = False
    """May run in parallel with other calls of the same reply."""
    early: bool = False
    """It may be started while the model is still writing its reply (stage 10's `streaming`): it
    only reads, makes no recorded calls of its own, and does not use `ToolContext.tool_use_id`."""
    polling: bool = False
    """It is called repeatedly on purpose, until something has changed: the loop guards of stage 16
    do not count that as a loop."""
    timeout_s: float | None = None
    """Seconds for one call; None: `limits.tool_timeout_s`."""
    max_result_chars: int | None = None
    """Most characters of its result, if fewer than `limits.max_result_chars`."""
    subject: str = ""
    """The argument that the pattern of a rule such as `Bash(ls)` is matched against."""
    paths: frozenset[str] = frozenset()
    """Arguments that are paths: rules compare them relative to the working directory."""
    rooted: bool = False
    """It opens the paths in those arguments only through `ToolContext.files`, so if there are such
    files it cannot leave the workspace, and reading needs no permission."""
    commands: frozenset[str] = frozenset()
    """Arguments that are shell command lines: rules parse them as a shell does."""
    confined: bool = False
    """It does nothing but start programs, isolated as `ToolContext.sandbox` says."""
    urls: frozenset[str] = frozenset()
    """Arguments that are URLs: rules are about their hosts."""
    author_requires: str = ""
    """The role required of whoever adds it to an agent; "": none."""
    callers: frozenset[str] = frozenset()
    """Roles of which whoever runs the agent needs one; empty: no role is needed."""
    share_safe: bool = False
    """It may remain in an agent that is run by someone other than its author."""
    untrusted: bool = False
    """Its results are untrusted content (such as a web page). Once one was read, calls that could
    carry out instructions in it need stricter permission: `lorimer.tools.policy.engine`."""
    approval: str = ""
    """Why a person has to approve each call, whatever rules and mode allow; "": they decide."""
    recalls: frozenset[str] = frozenset()
    """Tools whose earlier calls in this conversation it receives as `ToolContext.past`, except
    those that failed. State that a tool keeps with a conversation is rebuilt from them each
    time."""
    recalls_errors: bool = False
    """It receives failed calls too."""

    def configured(self) -> bool:
        """Whether what it needs of the host, such as a service, is configured here. If not, the
        command line gives it only to agents that name it; a manifest always means the same."""
        return True

    def question(self, input: ToolInput) -> TextQuestion | None:
        """What to ask a person before this call is made; None: nothing. The answer is recorded, and
        passed to `execute` as `ToolContext.answer`. Must not block, and must be deterministic."""
        return None

    @abstractmethod
    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Execute the call. Raise ToolExecutionError to report a failure to the model; any other
        exception becomes `exec.tool.crashed`. Cancelled on timeout and when the run is
        cancelled."""

    async def reconcile(
        self, key: str, input: ToolInput, context: ToolContext
    ) -> ToolResult | NotDone | None:
        """Find out what happened to a call that was begun before an interruption and has no result.

        Called when a run is resumed, and only for a call that is neither read-only nor idempotent.
        `key` is the `idempotency_key` of the call, `input` its arguments. Return a ToolResult if it
        took effect: this is what the model is shown. Return `NOT_DONE` if it did not and will not
        take effect: it is repeated with the same key. Return None if that is unknown: the model is
        told so, as it is when this raises, returns anything else, or exceeds the tool's time limit.
        It must not change anything: if it is interrupted, it is called again. The answer is
        recorded as the call's `tool.result`, so it is asked only once.
        """
        return None

    def check(self) -> Check:
        """The validator of this tool's arguments, compiled once. Raises ConfigError for an invalid
        schema."""
        return compile_schema(self.input_schema, f"tool {self.name!r}: input_schema")


def declared(name: str, effects: str | Iterable[str]) -> frozenset[str]:
    """The effects that a tool declares, one or several. Raises ConfigError for an unknown one."""
    found = frozenset([effects] if isinstance(effects, str) else effects)
    unknown = sorted(found - EFFECTS)
    if unknown:
        raise ConfigError(
            f"tool {name!r}: unknown effect {unknown[0]!r}{nearest(unknown[0], EFFECTS)}"
        )
    return found
