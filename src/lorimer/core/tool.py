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
    """The tools of one pipeline, and the one path of every call to them."""

    def specs(self, state: PipelineState) -> tuple[ToolSpec, ...]:
        """What the model is shown next. The same tuple object until something changes."""
        ...

    @property
    def polling(self) -> frozenset[str]:
        """Tools that are called again and again on purpose, until something has changed."""
        ...

    def concurrency_safe(self, use: ToolUse) -> bool:
        """This call may run beside its neighbours."""
        ...

    def planning(self, run: RunContext) -> bool:
        """At this moment of a run nothing may be changed: plan mode is on."""
        ...

    async def call(
        self, name: str, input: Mapping[str, JSON], key: str, state: PipelineState
    ) -> ToolResultBlock:
        """A call that a stage makes in the model's place: decided about and recorded as one that
        another tool makes (`tools/steps.py`). `key` is the stage's own."""
        ...

    def early(self, state: PipelineState) -> EarlyCalls:
        """Begins calls of a reply that is still being written; made anew for each reply."""
        ...

    def dispatch(
        self, use: ToolUse, index: int, state: PipelineState
    ) -> Awaitable[ToolResultBlock]:
        """Validate, permit, record, run. `index` is the call's place in the reply.

        Whatever the tool does, this returns a result for the model; only cancellation of the
        run and errors of the journal are raised.
        """
        ...


class EarlyCalls(Protocol):
    """Calls that are begun before the reply that asks for them is complete."""

    def piece(self, item: ToolInputDelta) -> None:
        """A piece of the arguments of a call."""
        ...

    def anew(self) -> None:
        """What was begun and not taken is not wanted any more."""
        ...


@record
class PastCall:
    """A call of a conversation, and what came of it."""

    use: ToolUse
    result: ToolResultBlock


@record
class TextQuestion:
    """What a tool asks a person, in words."""

    text: str
    options: tuple[str, ...] = ()
    """Answers to choose from; any other is one too."""
    default: str | None = None
    """What counts where nobody answers; None: nothing does."""
    timeout_s: float = inf
    """Seconds to wait for an answer while somebody is being asked; a run that is suspended waits
    for as long as it takes."""


class Later(Exception):
    """Raised by an Approver that cannot have an answer now: the run is suspended, and goes on
    with the answer that somebody gives it (`core/mail.py`) when it is resumed."""


class Approver(Protocol):
    """Asks a person. Shipped: a terminal prompt in the CLI, and `tools.AskLater`."""

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """True: the call may run, this once. `summary` is its arguments as JSON; of more
        than 100,000 characters the end is left out, and "[cut here: ..." says so. They are as the
        model wrote them: characters that a screen hides or acts on (bidirectional marks, control
        characters) are for whoever shows them. Cancelled when the answer came from elsewhere."""
        ...


@runtime_checkable
class RepeatApprover(Approver, Protocol):
    """An approver that may also be asked whether to make a call again that was interrupted and
    perhaps took effect. Any other is not: a yes to "may this run" is none to "may it run twice"."""

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        """True: it may be made again, this once."""
        ...


@runtime_checkable
class Asker(Protocol):
    """An approver that can also put questions that are answered with a text. Where there is none,
    such a question suspends the run."""

    async def ask(self, question: TextQuestion) -> str:
        """The answer; "": none. Cancelled when it came from elsewhere, or the time is over."""
        ...
