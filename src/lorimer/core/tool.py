"""The port to tools, as stages 3 and 10 see them. Shipped: `lorimer.tools`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lorimer.core.messages import ToolResultBlock, ToolSpec, ToolUse

if TYPE_CHECKING:
    from lorimer.core.state import PipelineState


class Toolbox(Protocol):
    """The tools of one pipeline, and the one path of every call to them."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is shown. The same tuple object until something changes."""
        ...

    def concurrency_safe(self, use: ToolUse) -> bool:
        """This call may run beside its neighbours."""
        ...

    async def dispatch(self, use: ToolUse, index: int, state: PipelineState) -> ToolResultBlock:
        """Validate, permit, record, run. `index` is the call's place in the reply.

        Whatever the tool does, this returns a result for the model; only cancellation of the
        run and errors of the journal are raised.
        """
        ...


class Later(Exception):
    """Raised by an Approver that cannot have an answer now: the run is suspended, and goes on
    with the answer that somebody gives it (`core/mail.py`) when it is resumed."""


class Approver(Protocol):
    """Asks a person. Shipped: a terminal prompt in the CLI, and `tools.AskLater`."""

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """True: the call may run, this once. `summary` is its arguments as JSON, cut only when
        they are absurdly long. Cancelled when the answer came from elsewhere."""
        ...


@runtime_checkable
class RepeatApprover(Approver, Protocol):
    """An approver that may also be asked whether to make a call again that was interrupted and
    perhaps took effect. Any other is not: a yes to "may this run" is none to "may it run twice"."""

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        """True: it may be made again, this once."""
        ...
