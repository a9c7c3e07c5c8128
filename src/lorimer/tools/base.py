"""What a tool is: a name, a schema, effects it declares, and `execute`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

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

EFFECTS: Final = frozenset({"read", "write", "exec", "net", "send", "secret", "policy"})
"""What a tool may do to the world. One that does not say so may do all of it."""


@dataclass(slots=True)
class ToolResult:
    """What a tool gives back.

    `content` is text, a list of text and image blocks, or any other value, which the model then
    reads as JSON. `metadata` and `display` (a line for people) are told to whoever listens to
    `tool.call_complete`; they are neither recorded nor told to the model.
    """

    content: object = ""
    is_error: bool = False
    metadata: Mapping[str, JSON] = field(default_factory=no_data)
    display: str = ""
    error: ExecutorErrorCode | None = None
    """What went wrong, where a code says it; for a result that has more to tell than a raised
    error could."""
    spilled: bool = False
    """All of it is in a file already, which its text names: what is cut off is not kept again."""


class NotDone(Enum):
    """The one answer of `Tool.reconcile` that lets a call be made again."""

    NOT_DONE = "not_done"


NOT_DONE: Final = NotDone.NOT_DONE
"""An interrupted call did not take effect, and will not: it may be made again."""


@dataclass(slots=True)
class ToolContext:
    """What one call may know and use."""

    world: World
    run_id: str = ""
    session_id: str = ""
    tool_use_id: str = ""
    idempotency_key: str = ""
    """The same again when this call is repeated after an interruption, and no other call's."""
    working_dir: Path | None = None
    files: RootedFiles | None = None
    """The files that tools may touch; None: none."""
    max_result_chars: int = 50_000
    """Longer results are cut; a tool that can page should stay below."""
    report: Callable[[str], None] | None = None
    """Takes `progress`; None: nobody listens."""
    threads: Threads = field(default_factory=Threads)
    timeout_s: float = inf
    """Seconds that this call may take at most; then it is stopped."""
    run: RunContext | None = None
    """The run that it belongs to: for `generate_as`, and for effects of its own."""
    sandbox: Sandbox | None = None
    """What programs that it starts may reach, for `ProcessLimits`; None: what the host may."""
    past: tuple[PastCall, ...] = ()
    """The calls that `Tool.recalls` names, oldest first."""
    answer: str | None = None
    """What a person said to `Tool.question`; None: it asked nothing, or nobody answered."""
    deferred: tuple[ToolSpec, ...] = ()
    """Tools that the model is not shown until it has found them."""
    call: Callable[[str, ToolInput], Awaitable[ToolResult]] | None = None
    """Calls another tool of the run, which is decided about by itself: `lorimer.tools.steps`."""
    home: Path | None = None
    """The host's working directory, where spilled results lie; `working_dir` is beneath it while
    the model is in a worktree."""
    asked: Mapping[str, JSON] = field(default_factory=no_data)
    """The arguments as the conversation has them: a hook may have changed them since."""
    models: ModelResolver | None = None
    """Who answers for specs and tiers, for `generate_as`; None: the host has not said."""
    permits: Callable[[ToolInput], bool] | None = None
    """Says whether this tool might be called with other arguments, without anybody being asked:
    for one that is led elsewhere. None: it may not."""

    @property
    def root_run_id(self) -> str:
        """Of the run that this call's run is part of, however deep; `run_id`, of one that is
        nobody's."""
        return self.run.root if self.run is not None else self.run_id

    def run_state(self) -> RunState | None:
        """What the run of this call has used until now, and what it may; None: there is no run."""
        return RunState.of(self.run) if self.run is not None else None

    def progress(self, text: str) -> None:
        """Tell whoever listens how far the call is: the signal `tool.progress`. Any thread."""
        if self.report is not None:
            self.report(text)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run something that blocks. When the call is cancelled or times out the thread is left
        to itself and its result is dropped."""
        return await self.threads.run(self.world, function)


class Tool(ABC):
    """Something a model can call. Subclass it, or decorate a function with `@tool`.

    One instance serves many calls of many runs, so it keeps no state of a call. Everything but
    `execute` and `reconcile` is read once, when the tool is registered.
    """

    # Any: subclasses give a class attribute or a property, and no one type allows both.
    name: Any
    """1 to 64 letters, digits, `_` and `-`."""
    description: Any = ""
    """What the model reads to decide whether to call it."""
    input_schema: Any = {"type": "object", "properties": {}}  # noqa: RUF012 - replaced, never changed
    """JSON Schema of an object."""

    effects: frozenset[str] = EFFECTS
    """What it may do to the world; undeclared: everything."""
    idempotent: bool = False
    """Calling it again with the same `idempotency_key` does nothing more, so an interrupted call
    is repeated."""
    concurrency_safe: bool = False
    """May run beside other calls of the same reply."""
    early: bool = False
    """It may be begun while the model still writes its reply (stage 10's `streaming`): it only
    reads, makes no recorded calls of its own, and does without `ToolContext.tool_use_id`."""
    polling: bool = False
    """It is called again and again on purpose, until something has changed: the loop guards of
    stage 16 do not take that for going round in circles."""
    timeout_s: float | None = None
    """Seconds for one call; None: `limits.tool_timeout_s`."""
    max_result_chars: int | None = None
    """Characters of its result, if fewer than `limits.max_result_chars`."""
    subject: str = ""
    """The argument that the parentheses of a rule such as `Bash(ls)` are about."""
    paths: frozenset[str] = frozenset()
    """Arguments that are paths: rules compare them relative to the working directory."""
    rooted: bool = False
    """It opens what those name by `ToolContext.files` and no other way, so where there are such
    files it cannot leave the workspace, and reading by it needs no decision."""
    commands: frozenset[str] = frozenset()
    """Arguments that are command lines for a shell: rules read them as a shell does."""
    confined: bool = False
    """It does nothing but start programs, held as `ToolContext.sandbox` says."""
    urls: frozenset[str] = frozenset()
    """Arguments that are URLs: rules are about their hosts."""
    author_requires: str = ""
    """The role that whoever puts it into an agent has to have; "": none."""
    callers: frozenset[str] = frozenset()
    """Roles of which whoever runs the agent has to have one; empty: anybody runs it."""
    share_safe: bool = False
    """It may stay in an agent that somebody else runs than wrote it."""
    untrusted: bool = False
    """Its results are words of strangers (a web page). Once one came in, calls that could carry
    out what they say take one step more: `lorimer.tools.policy.engine`."""
    approval: str = ""
    """Why a person has to agree to each call, whatever rules and mode allow; "": they decide."""
    recalls: frozenset[str] = frozenset()
    """Tools whose earlier calls in this conversation it is given, as `ToolContext.past`; those that
    failed are left out. What a tool keeps with a conversation is made of them anew each time."""
    recalls_errors: bool = False
    """It is given those that failed too."""

    def configured(self) -> bool:
        """What it needs of whoever runs it, such as a service, is known here. Where it is not, the
        command line gives it to no agent that does not name it; a manifest always means the same.
        """
        return True

    def question(self, input: ToolInput) -> TextQuestion | None:
        """What to ask a person before this call is made; None: nothing. The answer is recorded,
        and given to `execute` as `ToolContext.answer`. Must not wait, and say the same again for
        the same arguments."""
        return None

    @abstractmethod
    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Do it. Raise ToolExecutionError to tell the model what went wrong; whatever else is
        raised becomes `exec.tool.crashed`. Cancelled at the time-out and when the run is."""

    async def reconcile(
        self, key: str, input: ToolInput, context: ToolContext
    ) -> ToolResult | NotDone | None:
        """Find out what became of a call that was begun before an interruption and has no result.

        Asked when a run is resumed, and only about a call that is neither read-only nor
        idempotent. `key` is the `idempotency_key` that the call got, `input` its arguments.
        Return a ToolResult: it took effect, and this is what the model is told. `NOT_DONE`: it
        did not and will not, so it is made again with the same key. None: nobody knows, and the
        model is told so; the same when this raises, returns anything else, or takes longer than
        the tool's time limit. It must only look: it is asked again when it is interrupted too.
        The answer is recorded as the call's `tool.result`, so it is not asked for a second time.
        """
        return None

    def check(self) -> Check:
        """The check of this tool's arguments, made once. Raises ConfigError for a bad schema."""
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
