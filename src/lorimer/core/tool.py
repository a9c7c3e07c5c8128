"""The port to tools, as stages 3 and 10 see them. Shipped: `lorimer.tools`."""

from __future__ import annotations

from collections.abc import Awaitable
from math import inf
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.record import record
from lorimer.core.request import ToolInputDelta, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorimer.core.context import RunContext
    from lorimer.core.jsonable import JSON
    from lorimer.core.state import PipelineState


class Toolbox(Protocol):
    """The tools of one pipeline, and the only path of calls to them."""

    def specs(self, state: PipelineState) -> tuple[ToolSpec, ...]:
        """The tools that the model is shown next. The same tuple until something changes."""
        ...

    @property
    def polling(self) -> frozenset[str]:
        """Tools that are called repeatedly on purpose, until something has changed."""
        ...

    def concurrency_safe(self, use: ToolUse) -> bool:
        """Whether this call may run in parallel with its neighbours."""
        ...

    def planning(self, run: RunContext) -> bool:
        """Whether nothing may be changed at this point of a run: plan mode is on."""
        ...

    async def call(
        self, name: str, input: Mapping[str, JSON], key: str, state: PipelineState
    ) -> ToolResultBlock:
        """A call that a stage makes instead of the model: decided on and recorded like one that
        another tool makes (`tools/steps.py`). `key` is chosen by the stage."""
        ...

    def early(self, state: PipelineState) -> EarlyCalls:
        """Starts calls of a reply that is still being generated; created anew for each reply."""
        ...

    def dispatch(
        self, use: ToolUse, index: int, state: PipelineState
    ) -> Awaitable[ToolResultBlock]:
        """Validate, permit, record, execute. `index` is the position of the call in the reply.

        Always returns a result for the model, whatever the tool does; raises only on cancellation
        of the run and for errors of the journal.
        """
        ...


class EarlyCalls(Protocol):
    """Calls that are started before the reply that requests them is complete."""

    def piece(self, item: ToolInputDelta) -> None:
        """A piece of the arguments of a call."""
        ...

    def anew(self) -> None:
        """Give up the calls that were started and not collected."""
        ...


@record
class PastCall:
    """A call of a conversation, and its result."""

    use: ToolUse
    result: ToolResultBlock


@record
class TextQuestion:
    """A question of a tool to a person, for an answer in words."""

    text: str
    options: tuple[str, ...] = ()
    """Suggested answers; any other is valid too."""
    default: str | None = None
    """The answer if nobody answers; None: there is none."""
    timeout_s: float = inf
    """Seconds to wait for an answer while somebody is being asked; a suspended run waits for as
    long as it takes."""


class Later(Exception):
    """Raised by an Approver that cannot get an answer now: the run is suspended. It continues, when
    resumed, with the answer given to it (`core/mail.py`)."""


class Approver(Protocol):
    """Asks a person. Shipped: a terminal prompt in the CLI, and `tools.AskLater`."""

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """Returns True if the call may run, this once. `summary` is its arguments as JSON; beyond
        100,000 characters it is cut, marked by "[cut here: ...". The arguments are as the model
        wrote them: characters that a screen hides or interprets (bidirectional marks, control
        characters) have to be handled by whoever displays them. Cancelled when an answer came from
        elsewhere."""
        ...


@runtime_checkable
class RepeatApprover(Approver, Protocol):
    """An approver that can also be asked whether to repeat a call that was interrupted and may have
    taken effect. Others are not asked: a yes to "may this run" is not a yes to "may it run
    twice"."""

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        """Returns True if it may be repeated, this once."""
        ...


@runtime_checkable
class Asker(Protocol):
    """An approver that can also ask questions that are answered with text. Without one, such a
    question suspends the run."""

    async def ask(self, question: TextQuestion) -> str:
        """The answer; "": none. Cancelled when an answer came from elsewhere, or the time is
        over."""
        ...
