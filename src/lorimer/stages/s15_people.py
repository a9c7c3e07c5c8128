"""Stage 15, strategies: who is asked, and what happens if nobody answers in time."""

from __future__ import annotations

import asyncio
import inspect
from math import inf
from typing import cast

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.jsonable import JSON
from lorimer.core.stage import Settings, Strategy
from lorimer.core.tool import Approver, Later


class Requester(Strategy):
    """Asks a person. An answer from elsewhere (`lorimer runs answer`) counts as well, whichever
    comes first."""

    @property
    def asks(self) -> bool:
        """False: everything is approved, and nothing is recorded."""
        return True

    async def ask(self, subject: str, text: str, reason: str, *, waits: bool) -> bool:
        """True: approved. `subject` is the topic, `text` its content, `reason` why a person is
        asked; `waits`: there is a timeout. Cancelled when an answer comes from elsewhere, or the
        time is up. Raises Later to suspend the run until there is an answer."""
        raise TypeError(f"{type(self).__name__} has no ask method")


class Null(Requester):
    """Nobody is asked."""

    name = "null"
    description = "Asks nobody: everything is approved."

    @property
    def asks(self) -> bool:
        """Never."""
        return False


class OfTheHost(Requester):
    """The approver of the pipeline, who is also asked about calls."""

    name = "approver"
    description = "Asks the pipeline's approver (the terminal); without one, the answer is no."

    def bind(self, bindings: Bindings) -> None:
        self._approver: Approver | None = bindings.approver

    async def ask(self, subject: str, text: str, reason: str, *, waits: bool) -> bool:
        if self._approver is None:
            return False
        return await self._approver.approve(subject, text, reason) is True


class Callback(Requester):
    """A function of the host's, which may be async."""

    name = "callback"
    description = "Calls target({subject, text, reason}); only True approves."

    class Config(Settings):
        target: str
        """The name under which the host bound the function."""

    config: Config

    def bind(self, bindings: Bindings) -> None:
        where = "stages[15].strategy_configs.requester.target"
        self._target = bindings.function(self.config.target, where)

    async def ask(self, subject: str, text: str, reason: str, *, waits: bool) -> bool:
        told: JSON = {"subject": subject, "text": text, "reason": reason}
        said = cast("object", self._target(told))
        if inspect.isawaitable(said):
            said = await said
        return said is True


class PipelineResume(Requester):
    """Anybody, from any process, at any time: the run is suspended until there is an answer. With a
    timeout it waits for that long in this process."""

    name = "pipeline_resume"
    description = "Suspends the run until somebody answers: pipeline.resume(run_id, decision)."

    async def ask(self, subject: str, text: str, reason: str, *, waits: bool) -> bool:
        if not waits:
            raise Later
        await asyncio.Event().wait()  # until cancelled by an answer or the timeout
        return False


class Timeout(Strategy):
    """What happens if nobody answers."""

    @property
    def seconds(self) -> float:
        """Counted from when the question was first asked, including interruptions."""
        raise TypeError(f"{type(self).__name__} has no seconds")

    @property
    def approves(self) -> bool:
        """Whether the timeout counts as approval."""
        return False


class Indefinite(Timeout):
    """No timeout other than that of the run."""

    name = "indefinite"
    description = "Waits as long as the run may take; suspended, as long as it takes."

    @property
    def seconds(self) -> float:
        """No timeout."""
        return inf


class AutoReject(Timeout):
    """The timeout rejects."""

    name = "auto_reject"
    description = "After timeout_s without an answer it is rejected."

    class Config(Settings):
        timeout_s: float = Field(60.0, gt=0, le=31_536_000)
        """Seconds from when the question was first asked."""

    config: Config

    @property
    def seconds(self) -> float:
        """As configured."""
        return self.config.timeout_s


class AutoApprove(AutoReject):
    """The timeout approves."""

    name = "auto_approve"
    description = "After timeout_s without an answer it is approved."

    @property
    def approves(self) -> bool:
        """The timeout counts as approval."""
        return True
