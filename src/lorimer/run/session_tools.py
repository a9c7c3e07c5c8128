"""Tools that are made for a single run, with pictures that they show to its model, files that they
leave for its answer, and their clean-up. Made and ended by `job_ports.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.arguments import is_a
from lorimer.core.context import RunContext
from lorimer.core.errors import ConfigError, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.core.mailbox import mail_of
from lorimer.core.messages import ImageBlock, Message
from lorimer.run.bounded import bounded
from lorimer.run.delivery import Artifact, artifacts_of
from lorimer.tools.base import Tool

if TYPE_CHECKING:
    from lorimer.run.result import RunResult

MAX_IMAGES: Final = 20
"""That wait to be shown at once."""


class ToolSession:
    """The run that tools are made for: what its factory is given."""

    def __init__(
        self, run_id: str, caller_id: str, channel_id: str, inputs: Mapping[str, JSON]
    ) -> None:
        self.run_id = run_id
        self.caller_id = caller_id
        self.channel_id = channel_id
        self.inputs = inputs
        self._run: RunContext | None = None
        self._phases = False
        self._waiting = 0
        self._turn = ("", -1)

    def attach_images(self, *images: ImageBlock, text: str = "") -> None:
        """Show pictures to the model before its next call, with a text; recorded when they are
        shown. From the event loop only. Raises ToolExecutionError, which a tool lets through to the
        model, before the run goes on and after it, and for more than MAX_IMAGES in one turn."""
        run = self._run
        if run is not None and self._phases:  # the phase at work; the run itself asks no model
            run = next(iter(run.below), None)
        if run is None:
            raise ToolExecutionError("there is no run that goes on to show pictures to")
        if any(not is_a(image, ImageBlock) for image in images):
            raise ToolExecutionError("attach_images takes ImageBlocks")
        turn = (run.id, run.bounds.turns)
        if turn != self._turn:
            self._turn, self._waiting = turn, 0
        if self._waiting + len(images) > MAX_IMAGES:
            raise ToolExecutionError(f"at most {MAX_IMAGES} pictures are shown at once")
        self._waiting += len(images)
        mail_of(run).nudge(text, images)

    def live(self, run: RunContext | None, *, phases: bool = False) -> None:
        """The run goes on, in phases or not; None: it is over."""
        self._run = run
        self._phases = phases


class SessionTools:
    """Tools of one run. Every part may be left out; what raises or hangs here after the run costs
    it a warning, not its result."""

    tools: Sequence[Tool] = ()

    async def post_run(self, result: RunResult, messages: Sequence[Message]) -> Sequence[Artifact]:
        """The run has ended, in whichever way (one that is suspended has not): files that go with
        its answer."""
        return ()

    async def cleanup(self) -> None:
        """Let go of everything. Called once, last, however the run ended, also when it never
        began."""


SessionToolsFactory: TypeAlias = Callable[[ToolSession], SessionTools | Awaitable[SessionTools]]


class OwnTools:
    """The session tools of one run, from their making to their end."""

    def __init__(self, session: ToolSession, within_s: float) -> None:
        """`within_s`: seconds for each call of them."""
        self.session = session
        self._within_s = within_s
        self._made: SessionTools | None = None

    @property
    def tools(self) -> Sequence[Tool]:
        """Once they are made."""
        return self._made.tools if self._made is not None else ()

    async def make(self, factory: SessionToolsFactory) -> None:
        """Raises ConfigError where the factory fails, takes too long or gives something else."""

        async def ask() -> None:
            made = factory(self.session)
            given = await made if inspect.isawaitable(made) else made
            if not is_a(given, SessionTools):
                raise TypeError(f"it gave {given!r}, which is no SessionTools")
            self._made = given  # here: whoever waits for it may be cancelled at this moment

        warnings: list[str] = []
        await bounded("session_tools", ask, self._within_s, warnings)
        if warnings:
            raise ConfigError(f"the tools of this run could not be made: {warnings[0]}")

    async def after(self, result: RunResult, warnings: list[str]) -> None:
        """The run has ended, or there was none: files for `result`, and the end of the tools."""
        made, within_s = self._made, self._within_s
        self.session.live(None)
        if made is None:
            return
        if result.run is not None and result.status != "suspended":
            ended = partial(made.post_run, result, result.messages)
            left = await bounded("session_tools.post_run", ended, within_s, warnings)
            result.artifacts += artifacts_of("session_tools.post_run", left, warnings)
        await bounded("session_tools.cleanup", made.cleanup, within_s, warnings)
